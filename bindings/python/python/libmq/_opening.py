"""Opening a broker."""

import inspect
import os
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from libmq import _telling
from libmq._broker import Broker
from libmq._durations import Duration
from libmq._native import Backoff


def open(
    path: str | os.PathLike[str],
    *,
    durability: Literal["sync", "os", "memory"] | None = "sync",
    capacity: int | None = 1_000_000,
    max_bytes: int | None = None,
    max_message_bytes: int | None = None,
    max_batch_bytes: int | None = None,
    max_dead_letters: int | None = 100_000,
    on_full: Literal["fail", "block"] | None = "fail",
    block_timeout: Duration | None = 30,
    snapshot_interval: Duration | None = 30,
    snapshot_threshold: int | None = 100_000,
    segment_bytes: int | None = None,
    cache_bytes: int | None = None,
    sync_interval: Duration | None = 0.05,
    default_timeout: Duration | None = 120,
    default_max_retries: int | None = 5,
    max_crashes: int | None = 3,
    default_backoff: Backoff | None = None,
    on_corruption: Literal["refuse", "quarantine"] | None = "refuse",
    lock_timeout: Duration | None = 0,
    clock: Literal["system", "manual"] | None = "system",
    scope: Callable[..., Any] | None = None,
) -> Broker:
    """Opens the broker in a directory, and makes the directory where there is none. Durations are seconds or
    timedeltas, from zero to ten years; None is the default.

    Args:
        path: The directory. ":memory:" is a broker without files; two of them are two brokers.
        durability: How far a message has come when its enqueue returns: "sync", it survives a power loss; "os", it
            survives the death of the process; "memory", neither.
        capacity: How many messages may be live: waiting, delayed, in flight, behind a key. 1 to 2**30.
        max_bytes: Bytes the directory may take, snapshots included, from 524,288; no limit unless set. Beyond it an
            enqueue raises StorageFullError, and what is there is settled all the same.
        max_message_bytes: A body with its headers; 16 MiB, at most 1 GiB.
        max_batch_bytes: All of `enqueue_many`; 64 MiB, at most 1 GiB.
        max_dead_letters: Dead letters beyond it count against `capacity`. 1 to 2**30.
        on_full: What an enqueue does at `capacity`: raise FullError, or wait for room, first come first served. In a
            handler it never waits.
        block_timeout: How long it waits at most.
        snapshot_interval: How often a snapshot is taken at most; from a millisecond.
        snapshot_threshold: After how many operations one is taken, if enough was written since the last; from 1.
        segment_bytes: A file of the journal; 64 MiB, from 64 KiB to 1 GiB. Less where the disk has no room for sixteen
            when the directory is opened.
        cache_bytes: Memory for recent messages; 64 MiB, up to 1 TiB.
        sync_interval: What is written is synced by then; from a millisecond.
        default_timeout: How long a handler may run, unless it says otherwise; from a millisecond.
        default_max_retries: How often a message is tried again, unless its handler says otherwise; up to 1,000,000.
        max_crashes: How often the process may die in a message before that is a dead letter; 1 to 100.
        default_backoff: The wait before a retry; exponential from 1 s, doubled up to 10 min, with full jitter.
        on_corruption: "quarantine" is not supported by this version.
        lock_timeout: How long to wait for another owner to leave.
        clock: With "manual", time moves by `advance` alone; for tests.
        scope: Makes the context manager that is open around each attempt of a handler: called with the context, entered
            before its dependencies, closed before the ack; what it yields is `ctx.scope`. Async ones are for async
            handlers. A handler's own takes its place.

    What happens that is worth a line in a log, as a dead letter or a full disk, goes to the logger `libmq` as
    `record.event` and `record.fields`, if a handler of logging is there for it when this is called.

    Raises:
        InvalidError: An option is out of range, or the directory is somebody else's.
        LockedError: Another broker owns the directory; it says which.
        CorruptError: Durable bytes are damaged. Nothing was changed.
        StorageFullError: The disk has no room.
        Error: `UNSUPPORTED` for a directory of another version, `IO` where the system refuses.
        TypeError: A value of a wrong type.
    """
    return opened(Broker, dict(locals()))


def bound(path: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """All options of `open`, where these are given.

    Raises:
        TypeError: One of them is none.
    """
    try:
        given = inspect.signature(open).bind(path, **options)
    except TypeError as error:
        raise TypeError(f"libmq.open {error}") from None
    given.apply_defaults()
    return given.arguments


_Broker = TypeVar("_Broker", bound=Broker)


def opened(kind: type[_Broker], options: dict[str, Any]) -> _Broker:
    """A broker of this kind, with all options of `open`, the path among them, and `listens`: whether it is heard what
    happens in it, if that is not for logging to say.
    """
    given = dict(options)
    scope = given.pop("scope")
    if scope is not None and not callable(scope):
        raise TypeError(f"scope must be callable, not {type(scope).__name__}")
    given.setdefault("listens", _telling.is_heard())
    return kind._open(given.pop("path"), given, scope)
