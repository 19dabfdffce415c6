"""Copies of a broker, and verification."""

import dataclasses
import threading
from pathlib import Path

import libmq
import pytest


def test_a_copy_is_a_directory_like_any_other(tmp_path: Path) -> None:
    with libmq.open(tmp_path / "broker") as broker:
        broker.enqueue("q", {"n": 1})
        held = broker.receive("q")
        broker.backup(tmp_path / "copy")
        assert held is not None
        held.ack()
        with pytest.raises(libmq.InvalidError, match="not empty"):
            broker.backup(str(tmp_path / "copy"))
        with pytest.raises(libmq.InvalidError, match="own directory"):
            broker.backup(tmp_path / "broker" / "below")
        with pytest.raises(libmq.InvalidError):
            broker.backup("")
        with pytest.raises(libmq.Error) as raised:
            broker.backup(tmp_path / "no" / "where")
        assert (raised.value.code, raised.value.path) == ("IO", str(tmp_path / "no"))
        with pytest.raises(TypeError):
            broker.backup(5)  # type: ignore[arg-type]
        report = libmq.verify(tmp_path / "copy")
        assert (report.sound, report.closed, report.messages, report.problems) == (True, True, 1, ())
        with libmq.open(tmp_path / "copy") as copy:
            again = copy.receive("q", 0)
            assert again is not None
            assert (again.body, again.attempt) == ({"n": 1}, 1)


def test_a_copy_is_written_while_other_threads_run(tmp_path: Path) -> None:
    with libmq.open(tmp_path / "broker", durability="os") as broker:
        broker.enqueue_many("q", [b"x" * 1_000_000] * 20)
        over = threading.Event()
        counted = 0

        def count() -> None:
            nonlocal counted
            while not over.is_set():
                counted += 1
                broker.enqueue("other", counted)

        thread = threading.Thread(target=count)
        thread.start()
        before = counted
        broker.backup(tmp_path / "copy")
        after = counted
        over.set()
        thread.join()
        # With the interpreter's lock held, the other thread would have stood still.
        assert after > before
    report = libmq.verify(tmp_path / "copy")
    assert report.sound
    assert 20 + before <= report.messages <= 20 + after + 1


def test_damage_is_told_by_a_report(tmp_path: Path) -> None:
    with libmq.open(tmp_path) as broker:
        broker.enqueue("q", b"a body that nobody reads")
        broker.snapshot()
    segment = tmp_path / "00000001.segment"
    segment.write_bytes(segment.read_bytes().replace(b"nobody", b"NOBODY"))
    report = libmq.verify(tmp_path)
    assert not report.sound
    assert (report.messages, report.dead_letters, report.suspects, report.dropped_bytes) == (1, 0, 0, 0)
    assert report.snapshot is not None
    assert report.segments >= 1
    assert report.bytes > segment.stat().st_size
    (problem,) = report.problems
    assert (problem.kind, problem.path) == ("CORRUPT", str(segment))
    assert problem.offset is not None
    assert f"offset {problem.offset}" in problem.text
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.messages = 2  # type: ignore[misc]


def test_a_copy_is_not_called_as_a_broker_without_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was written, into a directory of that name, which no open ever reads."""
    monkeypatch.chdir(tmp_path)
    with libmq.open(tmp_path / "queue") as broker:
        broker.enqueue("q", 1)
        with pytest.raises(libmq.InvalidError, match=":memory: is the path of a broker without files"):
            broker.backup(":memory:")
    assert not (tmp_path / ":memory:").exists()
