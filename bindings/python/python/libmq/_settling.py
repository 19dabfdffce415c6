"""How an attempt ends that raised something."""

import logging
import os
import threading
import traceback
from types import TracebackType

from libmq._errors import DecodeError, Error, InvalidError
from libmq._native import Attempt, Context, Delivery, Worker
from libmq._outcomes import ASKED, Cancelled, Reject, Release, Retry

_log = logging.getLogger("libmq")

_HERE = os.path.dirname(__file__) + os.sep

_FRAMES_MAX = 20
"""How many of the innermost calls are kept of a failure."""

_TEXT_MAX = 4000
"""Bytes of its text that are kept; libmq cuts at 4 KiB."""


Ends = Worker | Attempt
"""What ends an attempt: that of a thread, or that of a task."""


def text_of(error: BaseException) -> str:
    """What a failure is: its class and what it says."""
    try:
        said = str(error)
        return f"{type(error).__name__}: {said}" if said else type(error).__name__
    except BaseException:
        # Also a SystemExit: nothing that only says what went wrong ends anything.
        return f"{type.__dict__['__name__'].__get__(type(error))}: (it cannot be shown)"


def report_of(error: BaseException, said: str | None = None) -> str:
    """What is kept of a failure: what it is, and then where it came from, of which the innermost is kept."""
    said = text_of(error) if said is None else said
    try:
        trace = traceback.TracebackException(type(error), error, _frames(error), limit=-_FRAMES_MAX, compact=True)
        lines = list(trace.format())
    except Exception:
        return said
    if len(lines) == 1:
        # It was never raised, and this says no more than what it is.
        return said
    where = "".join(lines).rstrip()
    room = _TEXT_MAX - len(said.encode(errors="replace")) - 2
    if len(where.encode(errors="replace")) > room:
        kept = where.encode(errors="replace")[-room:].decode(errors="ignore") if room > 0 else ""
        where = kept.partition("\n")[2]
    return f"{said}\n\n{where}" if where else said


def _said(outcome: BaseException, text: str = "") -> str:
    """What is kept of an outcome that was raised: its text, and what it was raised from, or beside."""
    cause = outcome.__cause__
    if cause is None and not outcome.__suppress_context__:
        cause = outcome.__context__
    if cause is None:
        return text
    said = text_of(cause)
    return report_of(cause, f"{text}\n\n{said}" if text else said)


def _frames(error: BaseException) -> TracebackType | None:
    """Where a failure came from, in the program: how libmq called it says nothing."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_HERE):
        frames = frames.tb_next
    return frames


def tell(level: int, text: str, *values: object, error: BaseException | None = None) -> None:
    """Logs what became of an attempt. What goes wrong in a handler of logging, or in a filter, is that one's affair."""
    try:
        _log.log(level, text, *values, exc_info=None if error is None else (type(error), error, _frames(error)))
    except BaseException as wrong:
        _raise_interrupt(wrong)


def _raise_interrupt(error: BaseException) -> None:
    """Raises a Ctrl-C that is the program's own."""
    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
        raise error


def settle_attempt(attempt: Ends, context: Context, error: BaseException) -> None:
    """Ends a handler's attempt as what it raised says. Whatever it is, it ends the attempt and not the thread."""
    try:
        _settle(attempt, context, error)
    except BaseException as wrong:
        # A class of the program's own may be anything. If the attempt has ended, this changes nothing.
        attempt.fail(f"{text_of(error)}\n\nwhich settles nothing: {text_of(wrong)}")
        text = "the handler of %s raised what settles nothing on message %d"
        tell(logging.ERROR, text, context.queue, context.id, error=wrong)
        _raise_interrupt(wrong)


def _settle(attempt: Ends, context: Context, error: BaseException) -> None:
    queue, id = context.queue, context.id
    match error:
        case Retry():
            attempt.retry(error.delay, _said(error, str(error) or ASKED))
        case Reject():
            attempt.reject(error.reason, _said(error))
        case Release():
            attempt.release(error.delay)
        case DecodeError() if error._context is context:
            attempt.undecodable(str(error))
            tell(logging.ERROR, "message %d of %s does not decode: %s", id, queue, error)
        case Cancelled():
            attempt.fail(report_of(error))
            tell(logging.WARNING, "the handler of %s gave up message %d: %s", queue, id, error)
        case _:
            attempt.fail(report_of(error))
            tell(logging.ERROR, "the handler of %s failed on message %d", queue, id, error=error)


def settle_cancelled(attempt: Ends, context: Context, reason: str, error: BaseException) -> None:
    """Ends the attempt of a handler whose task was cancelled together with it."""
    attempt.fail(report_of(error, f"CancelledError: {reason}"))
    tell(logging.WARNING, "the handler of %s was cancelled on message %d: %s", context.queue, context.id, reason)


def settle_delivery(delivery: Delivery, error: BaseException | None) -> None:
    """Ends a received delivery at the end of its `with`. One that was settled in it is left alone."""
    if delivery._settled:
        return
    try:
        if error is None:
            delivery.ack()
        else:
            _settle_raised(delivery, error)
    except Error:
        # With an error on its way, that one is told.
        if error is None:
            raise


def _settle_raised(delivery: Delivery, error: BaseException) -> None:
    try:
        match error:
            case Retry():
                delivery.retry(error.delay, _said(error, str(error) or ASKED))
            case Reject():
                delivery._reject(error.reason, _said(error))
            case Release():
                delivery.release(error.delay)
            case DecodeError() if not _decodes(delivery):
                delivery._undecodable(str(error))
            case _:
                delivery.retry(error=report_of(error))
    except BaseException as wrong:
        if isinstance(wrong, Error) and not isinstance(wrong, InvalidError):
            raise
        delivery.retry(error=f"{text_of(error)}\n\nwhich settles nothing: {text_of(wrong)}")
        tell(
            logging.ERROR, "message %d of %s ended with what settles nothing", delivery.id, delivery.queue, error=wrong
        )
        _raise_interrupt(wrong)


def _decodes(delivery: Delivery) -> bool:
    """Whether its body is what it says it is: if so, it was another one that was not."""
    try:
        delivery.body  # noqa: B018
    except DecodeError:
        return False
    return True


async def enter_delivery(delivery: Delivery) -> Delivery:
    """The beginning of an `async with`."""
    return delivery


async def exit_delivery(delivery: Delivery, error: BaseException | None) -> None:
    """The end of an `async with`."""
    settle_delivery(delivery, error)
