"""Verifying a directory that nobody has open."""

import os
from dataclasses import dataclass

from libmq import _native


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that `verify` has found to be wrong."""

    kind: str
    """`CORRUPT` for damage, `IO` for a file that cannot be read."""
    path: str
    """The file concerned, or the directory where a file is missing."""
    offset: int | None
    """Where in the file, if that is known; of the log where the path is the directory."""
    text: str
    """What is wrong, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What `verify` has found."""

    messages: int
    """Live messages. With problems, this and what follows is as far as could be told."""
    dead_letters: int
    """Dead letters."""
    suspects: int
    """Messages that were being handled when the process died that had the directory open last."""
    records: int
    """Records that an open would replay."""
    dropped_bytes: int
    """Bytes of a torn tail: at the end of the log, never promised to anybody. They are no problem."""
    segments: int
    """Segments in the directory."""
    bytes: int
    """Bytes that all files in the directory have."""
    snapshot: int | None
    """Where the newest snapshot begins, if there is one."""
    closed: bool
    """Whether the broker was closed in order; else its process died, or the machine."""
    problems: tuple[Problem, ...]
    """What is damaged, in the order it was found: at most 1000, and then nothing more was looked at."""

    @property
    def sound(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


def verify(path: str | os.PathLike[str]) -> VerifyReport:
    """Reads and checks all of a directory that nobody has open: what an open would read, and every body and dead
    letter, which an open does not. Changes and makes nothing; a directory that cannot be written to can be verified,
    too.

    Damage is in the report. Meanwhile nobody can open the directory: an open raises LockedError, and names its last
    owner. Other threads run meanwhile; Ctrl-C is heard when it has ended.

    Raises:
        InvalidError: It is no directory of libmq.
        LockedError: Somebody has it open.
        Error: `UNSUPPORTED` for another version of the format, `IO` where the system refuses.
        TypeError: A path of a wrong type.
    """
    found = _native.verify(path)
    problems = tuple(Problem(**problem) for problem in found.pop("problems"))
    return VerifyReport(problems=problems, **found)
