"""`python -m libmq`, and what the package says of itself."""

import subprocess
import sys
from importlib.metadata import entry_points, metadata, version
from pathlib import Path

import libmq
import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = Path(__file__).parents[1]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "libmq", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_it_says_its_version() -> None:
    said = run("--version")
    assert (said.returncode, said.stdout) == (0, f"libmq {version('libmq')}\n")


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_it_says_what_it_can(arguments: list[str]) -> None:
    said = run(*arguments)
    assert said.returncode == 0
    assert "verify" in said.stdout


def test_it_verifies_a_directory(tmp_path: Path) -> None:
    path = tmp_path / "queue"
    with libmq.open(path, segment_bytes=64 << 10) as broker:
        broker.enqueue_many("q", [1, 2, 3])
        open_one = run("verify", str(path))
    assert open_one.returncode == 2
    assert "LOCKED" in open_one.stderr
    sound = run("verify", str(path))
    assert sound.returncode == 0
    assert "3 messages, 0 dead letters, 0 problems" in sound.stdout
    segment = min(path.glob("*.segment"))
    damaged = bytearray(segment.read_bytes())
    damaged[:16] = b"\xff" * 16
    segment.write_bytes(damaged)
    found = run("verify", str(path))
    assert found.returncode == 1
    assert f"{segment}" in found.stderr
    assert "CORRUPT: " in found.stderr
    nothing = run("verify", str(tmp_path / "nothing"))
    assert nothing.returncode == 2
    assert "INVALID" in nothing.stderr


def test_a_wrong_command_is_refused() -> None:
    assert run("mend").returncode == 2


def test_the_package_says_what_it_is() -> None:
    said = metadata("libmq")
    assert said["License-Expression"] == "MIT OR Apache-2.0"
    assert sorted(said.get_all("License-File") or []) == ["LICENSE-APACHE", "LICENSE-MIT"]
    assert {"fastapi", "msgspec", "pydantic", "starlette", "test"} <= set(said.get_all("Provides-Extra") or [])
    assert not [needs for needs in said.get_all("Requires-Dist") or [] if "extra ==" not in needs], "it needs nothing"
    assert "libmq.testing.plugin" in [point.value for point in entry_points(group="pytest11", name="libmq")]


@pytest.mark.parametrize("name", ["LICENSE-APACHE", "LICENSE-MIT"])
def test_the_licences_are_those_of_the_house(name: str) -> None:
    """A source distribution holds what lies in its own directory, and no link leads out of it."""
    assert PACKAGE.joinpath(name).read_bytes() == ROOT.joinpath(name).read_bytes()


def test_the_lock_of_the_source_distribution_has_the_versions_of_the_house() -> None:
    """Else what is built from it is not what was tested: `scripts/lock-sdist.sh` makes it anew."""

    def packages(path: Path) -> set[str]:
        return {entry.strip() for entry in path.read_text().split("[[package]]")[1:]}

    ours, whole = packages(PACKAGE / "Cargo.lock"), packages(ROOT / "Cargo.lock")
    assert any('name = "pyo3"' in entry for entry in ours)

    def named(entries: set[str]) -> set[tuple[str, ...]]:
        return {tuple(entry.splitlines()[:2]) for entry in entries}

    assert named(ours) <= named(whole)
