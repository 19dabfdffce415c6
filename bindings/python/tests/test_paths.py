"""Directories by every name that a file can have, and names that no file can have."""

import os
import sys
from pathlib import Path

import libmq
import pytest


def test_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    """It was opened, and `path` said another one, which there is not."""
    path = os.fsdecode(os.fsencode(tmp_path) + b"/q-\xff\xfe")
    for given in (path, Path(path)):
        with libmq.open(given, durability="os") as broker:
            assert broker.path == path
            broker.enqueue("q", 1)
            with pytest.raises(libmq.LockedError) as locked:
                libmq.open(path)
            assert locked.value.path is None or locked.value.path.startswith(path)
    assert os.path.isdir(path)
    with libmq.open(path) as broker:
        assert broker.metrics().queues["q"].ready == 2


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="names are written in another way here")
def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    """It was a UnicodeEncodeError without a word about the path."""
    for name in ("\ud800", "a\udfff", "a\0b"):
        with pytest.raises(libmq.InvalidError, match="path"):
            libmq.open(os.fspath(tmp_path) + "/" + name)
    for wrong in (7, None, b"queue", [], object()):
        with pytest.raises(TypeError):
            libmq.open(wrong)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == []
