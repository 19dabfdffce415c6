"""`python -m libmq`: what a directory holds, looked at from outside a program."""

import argparse
import sys
from importlib.metadata import version

from libmq._errors import Error
from libmq._verifying import verify


def main(arguments: list[str] | None = None) -> int:
    """Answers 0, or 1 where damage was found, or 2 where it could not be looked."""
    parser = argparse.ArgumentParser(prog="python -m libmq", description="An embedded, persistent message queue.")
    parser.add_argument("--version", action="version", version=f"libmq {version('libmq')}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    verifies = commands.add_parser(
        "verify",
        help="read and check a whole directory, and change nothing",
        description="Reads and checks a whole directory that nobody has open, and changes nothing. Ends with 0, with 1 "
        "where damage was found, and with 2 where it could not be looked.",
    )
    verifies.add_argument("path", help="the directory")
    given = parser.parse_args(arguments)
    if given.command is None:
        parser.print_help()
        return 0
    return _verify(given.path)


def _verify(path: str) -> int:
    try:
        report = verify(path)
    except Error as error:
        print(f"{path}: {error.code}: {error}", file=sys.stderr)
        return 2
    for problem in report.problems:
        where = problem.path if problem.offset is None else f"{problem.path} at {problem.offset}"
        print(f"{where}: {problem.kind}: {problem.text}", file=sys.stderr)
    print(
        f"{path}: {report.records} records in {report.segments} segments, {report.messages} messages, "
        f"{report.dead_letters} dead letters, {len(report.problems)} problems"
    )
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
