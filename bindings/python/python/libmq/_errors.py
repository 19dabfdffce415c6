"""What libmq raises.

Every error has a `code`, the same in every language, and most a class of their own; a code without one is a plain
`Error`. An argument of a wrong type is a `TypeError`, as everywhere in Python.
"""

import builtins
import datetime

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Error(Exception):
    """What libmq raises. A code without a class of its own raises this one."""

    code: str = "PANIC"
    """The name of the error, such as "FULL", the same in every language; always set where libmq raises it."""

    retryable: bool = False
    """Whether the same call can succeed later without anything being mended."""

    path: str | None = None
    """The file or directory concerned, if there is one."""


class InvalidError(Error, ValueError):
    """An argument is out of its range; the message names it. Nothing was changed."""

    code = "INVALID"


class DecodeError(InvalidError):
    """A body is not the JSON that its content type says, or not what the handler's annotation asks for."""

    _context: object = None
    """That of the handler that was to be called with the body. Without one it is no body of a handler's own."""


class ClosedError(Error):
    """The broker is closed."""

    code = "CLOSED"


class NotFoundError(Error, LookupError):
    """No message, dead letter or queue of that id or name."""

    code = "NOT_FOUND"


class FullError(Error):
    """`capacity` messages are live, also after a wait for room. Not enqueued."""

    code = "FULL"
    retryable = True


class TooLargeError(Error):
    """A body with its headers, or a batch's bytes, are beyond their limit. Not enqueued."""

    code = "TOO_LARGE"


class TimeoutError(Error, builtins.TimeoutError):
    """Handlers had to be cancelled for a stop or close, which was done all the same."""

    code = "TIMEOUT"


class StaleLeaseError(Error):
    """The delivery was settled before, or its lease was lost. Nothing was changed."""

    code = "STALE_LEASE"


class LockedError(Error):
    """Another broker owns the directory."""

    code = "LOCKED"
    retryable = True

    pid: int | None = None
    """The owner's process id, as far as its lock file tells."""

    command: str | None = None
    """The owner's command."""

    since: datetime.datetime | None = None
    """When the owner opened the directory."""


class CorruptError(Error):
    """Durable bytes are damaged or missing; the files were left alone."""

    code = "CORRUPT"


class PoisonedError(Error):
    """An earlier write or sync failed, so nothing more is promised: close and open again."""

    code = "POISONED"


class StorageFullError(Error):
    """The disk has no room. Not enqueued; tried again when asked again."""

    code = "STORAGE_FULL"
    retryable = True


class ForkedError(Error):
    """This process was forked from the one that opened the broker: open one of its own."""

    code = "FORKED"


_CLASSES: dict[str, type[Error]] = {
    error.code: error
    for error in (
        InvalidError,
        ClosedError,
        NotFoundError,
        FullError,
        TooLargeError,
        TimeoutError,
        StaleLeaseError,
        LockedError,
        CorruptError,
        PoisonedError,
        StorageFullError,
        ForkedError,
    )
}


def error_of(code: str, text: str) -> Error:
    """An error whose code has no class of its own."""
    error = Error(text)
    error.code = code
    return error


def from_native(code: str, message: str, retryable: bool, path: object, owner: tuple[int, str, int] | None) -> Error:
    """The exception for an error of the native part."""
    error = _CLASSES.get(code, Error)(message)
    error.code = code
    error.retryable = retryable
    if path is not None:
        error.path = str(path)
    if isinstance(error, LockedError) and owner is not None:
        pid, command, since_ms = owner
        error.pid = pid or None
        error.command = command or None
        error.since = _EPOCH + datetime.timedelta(milliseconds=since_ms) if since_ms else None
    return error
