"""What the tests share."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import libmq
import pytest

LONG = 20
"""Seconds after which something has gone wrong."""

STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error,ignore:This process:DeprecationWarning"}
"""Has a program say what Python warns of, as these tests are run; but for forks beside threads: they are tried here."""

# In the background SIGINT is ignored, and programs inherit that; what is handled here is the default there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def broker() -> Iterator[libmq.Broker]:
    """A broker without files, whose retries are immediate."""
    broker = libmq.open(":memory:", default_backoff=libmq.Backoff.fixed(0))
    yield broker
    broker.close()


def run_program(directory: Path, source: str, *arguments: str, timeout: float) -> "subprocess.CompletedProcess[str]":
    """Runs a program in a process of its own, in an empty directory, and answers how it ended."""
    path = directory / "program.py"
    path.write_text(textwrap.dedent(source))
    command = [sys.executable, "-X", "faulthandler", str(path), *arguments]
    return subprocess.run(
        command, cwd=directory, env=os.environ | STRICT, timeout=timeout, capture_output=True, text=True, check=False
    )


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a program as `run_program`, and looks at its status."""

    def run(
        source: str, *arguments: str, status: int | None = 0, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        ended = run_program(tmp_path, source, *arguments, timeout=timeout)
        if status is not None:
            assert ended.returncode == status, ended.stderr
        return ended

    return run
