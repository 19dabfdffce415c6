"""What a handler raises to say how its attempt ends, where returning and failing do not say it."""

import copyreg
from collections.abc import Callable
from typing import Any

from libmq._durations import Duration
from libmq._native import check_duration

ASKED = "the handler asked for a retry"
"""What a retry says that says nothing."""


class _Outcome(Exception):
    """What is copied and pickled as it is. Exceptions are made anew of their text, which is no argument of these."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class Retry(_Outcome):
    """Raised in a handler: tried again after `delay` seconds, or after the backoff. Counted as an attempt. What it is
    raised from is kept with `error`.
    """

    delay: Duration | None = None
    """Seconds until it is ready again; None for the backoff."""

    def __init__(self, delay: Duration | None = None, error: str | None = None) -> None:
        if isinstance(delay, str):
            raise TypeError(f"delay must be seconds or a timedelta, not {type(delay).__name__}: a text is error=")
        if delay is not None:
            check_duration("delay", delay)
        if error is not None and not isinstance(error, str):
            raise TypeError(f"error must be a str, not {type(error).__name__}")
        super().__init__(ASKED if error is None else error)
        self.delay = delay


class Reject(_Outcome):
    """Raised in a handler: to the dead letters, for this reason. What it is raised from is the `error` there."""

    reason: str = "rejected"
    """What the dead letter has for a reason."""

    def __init__(self, reason: str = "rejected") -> None:
        if not isinstance(reason, str):
            raise TypeError(f"reason must be a str, not {type(reason).__name__}")
        super().__init__(reason)
        self.reason = reason


class Release(_Outcome):
    """Raised in a handler: given back, and ready again after `delay` seconds. Not counted as an attempt.

    Without a delay the handler is called again at once, as fast as the machine goes.
    """

    delay: Duration = 0
    """Seconds until it is ready again."""

    def __init__(self, delay: Duration = 0) -> None:
        check_duration("delay", delay)
        super().__init__("the handler gave the message back")
        self.delay = delay


class Cancelled(_Outcome):
    """Raised by `ctx.raise_if_cancelled()`: the attempt was cancelled, for the reason in `reason`."""

    reason: str = "cancelled"
    """Why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the attempt was cancelled: {reason}")
        self.reason = reason
