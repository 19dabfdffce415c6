"""How an attempt ends that raised something."""

import logging
import os
import traceback
from datetime import timedelta
from typing import Protocol

from libmq._native import Delivery
from libmq.errors import DecodeError, Error
from libmq.outcomes import Cancelled, Reject, Release, Retry

_log = logging.getLogger("libmq")

_HERE = os.path.dirname(__file__) + os.sep

_FRAMES_MAX = 20
"""How many of the innermost calls are kept of a failure."""

_TEXT_MAX = 4000
"""Characters of its text that are kept; libmq cuts at 4 KiB."""


class Attempt(Protocol):
    """An attempt that can be ended."""

    def fail(self, error: str) -> None: ...
    def retry(self, delay: float | timedelta | None, error: str) -> None: ...
    def reject(self, reason: str) -> None: ...
    def release(self, delay: float | timedelta) -> None: ...
    def undecodable(self, error: str) -> None: ...


def text_of(error: BaseException) -> str:
    """What a failure is: its class and what it says."""
    try:
        said = str(error)
    except Exception:
        said = "(it cannot be shown)"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def report_of(error: BaseException) -> str:
    """What is kept of a failure: what it is, and then where it came from, of which the innermost is kept."""
    said = text_of(error)
    try:
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
            frames = frames.tb_next
        trace = traceback.TracebackException(type(error), error, frames, limit=-_FRAMES_MAX, compact=True)
        where = "".join(trace.format()).rstrip()
    except Exception:
        return said
    room = _TEXT_MAX - len(said.encode(errors="replace")) - 2
    if len(where.encode(errors="replace")) > room:
        kept = where.encode(errors="replace")[-room:].decode(errors="ignore") if room > 0 else ""
        where = kept.partition("\n")[2]
    return f"{said}\n\n{where}" if where else said


def settle_attempt(attempt: Attempt, queue: str, id: int, error: BaseException) -> None:
    """Ends a handler's attempt as what it raised says. Whatever it is, it ends the attempt and not the thread."""
    match error:
        case Retry():
            attempt.retry(error.delay, str(error))
        case Reject():
            attempt.reject(error.reason)
        case Release():
            attempt.release(error.delay)
        case DecodeError():
            attempt.undecodable(str(error))
            _log.error("message %d of %s does not decode: %s", id, queue, error)
        case Cancelled():
            attempt.fail(text_of(error))
            _log.warning("the handler of %s gave up message %d: %s", queue, id, error)
        case _:
            attempt.fail(report_of(error))
            _log.error("the handler of %s failed on message %d", queue, id, exc_info=error)


def settle_cancelled(attempt: Attempt, queue: str, id: int, reason: str) -> None:
    """Ends the attempt of a handler whose task was cancelled together with it."""
    attempt.fail(f"CancelledError: {reason}")
    _log.warning("the handler of %s was cancelled on message %d: %s", queue, id, reason)


def settle_delivery(delivery: Delivery, error: BaseException | None) -> None:
    """Ends a received delivery at the end of its `with`. One that was settled in it is left alone."""
    if delivery._settled:
        return
    try:
        match error:
            case None:
                delivery.ack()
            case Retry():
                delivery.retry(error.delay, str(error))
            case Reject():
                delivery.reject(error.reason)
            case Release():
                delivery.release(error.delay)
            case DecodeError():
                delivery._undecodable(str(error))
            case _:
                delivery.retry(error=report_of(error))
    except Error:
        # With an error on its way, that one is told.
        if error is None:
            raise


async def enter_delivery(delivery: Delivery) -> Delivery:
    """The beginning of an `async with`."""
    return delivery


async def exit_delivery(delivery: Delivery, error: BaseException | None) -> None:
    """The end of an `async with`."""
    settle_delivery(delivery, error)
