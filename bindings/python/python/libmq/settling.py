"""How an attempt ends that raised something."""

import logging

from libmq._native import Delivery, Worker
from libmq.errors import DecodeError, Error
from libmq.outcomes import Cancelled, Reject, Release, Retry

_log = logging.getLogger("libmq")


def text_of(error: BaseException) -> str:
    """What is kept of a failure: its class and what it says."""
    try:
        said = str(error)
    except Exception:
        said = "(it cannot be shown)"
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def settle_attempt(worker: Worker, queue: str, id: int, error: BaseException) -> None:
    """Ends a handler's attempt as what it raised says. Whatever it is, it ends the attempt and not the thread."""
    match error:
        case Retry():
            worker.retry(error.delay, str(error))
        case Reject():
            worker.reject(error.reason)
        case Release():
            worker.release(error.delay)
        case DecodeError():
            worker.undecodable(str(error))
            _log.error("message %d of %s does not decode: %s", id, queue, error)
        case Cancelled():
            worker.fail(text_of(error))
            _log.warning("the handler of %s gave up message %d: %s", queue, id, error)
        case _:
            worker.fail(text_of(error))
            _log.error("the handler of %s failed on message %d", queue, id, exc_info=error)


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
                delivery.retry(error=text_of(error))
    except Error:
        # With an error on its way, that one is told.
        if error is None:
            raise
