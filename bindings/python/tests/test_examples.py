"""The examples that take libraries of others, run as they are."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    ("example", "said"),
    [
        (
            "orders.py",
            [
                "paid 1 books, 1 orders are written",
                "paid 2 books, 2 orders are written",
                "paid 3 books, 3 orders are written",
                "6 acked, 1 retried, 0 dead",
            ],
        ),
        ("orders_async.py", ["3 acked, 1 retried, 0 dead", "the pool is closed, after [1, 2, 3]"]),
    ],
)
def test_a_container_of_dishka_is_the_scope_of_each_attempt(tmp_path: Path, example: str, said: list[str]) -> None:
    """What a failed attempt wrote is not there, since its session was closed with the failure and before the end."""
    pytest.importorskip("dishka")
    command = [sys.executable, str(EXAMPLES / "dishka" / example)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[-1] == said[-1], ran.stdout
    # How many orders are written when one is paid for is told by whoever is first.
    assert {line.split(",")[0] for line in lines} == {line.split(",")[0] for line in said}
