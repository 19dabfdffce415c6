"""What a handler raises to say how its attempt ends, where returning and failing do not say it."""

from datetime import timedelta

from libmq._native import check_duration


class Retry(Exception):
    """Raised in a handler: tried again after `delay` seconds, or after the backoff. Counted as an attempt."""

    def __init__(self, delay: float | timedelta | None = None, error: str | None = None) -> None:
        if delay is not None:
            check_duration("delay", delay)
        if error is not None and not isinstance(error, str):
            raise TypeError(f"error must be a str, not {type(error).__name__}")
        super().__init__("the handler asked for a retry" if error is None else error)
        self.delay = delay


class Reject(Exception):
    """Raised in a handler: to the dead letters, for this reason."""

    def __init__(self, reason: str = "rejected") -> None:
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        super().__init__(reason)
        self.reason = reason


class Release(Exception):
    """Raised in a handler: given back, and ready again after `delay` seconds. Not counted as an attempt.

    Without a delay the handler is called again at once, as fast as the machine goes.
    """

    def __init__(self, delay: float | timedelta = 0) -> None:
        check_duration("delay", delay)
        super().__init__("the handler gave the message back")
        self.delay = delay


class Cancelled(Exception):
    """Raised by `ctx.raise_if_cancelled()`: the attempt was cancelled, for the reason in `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the attempt was cancelled: {reason}")
        self.reason = reason
