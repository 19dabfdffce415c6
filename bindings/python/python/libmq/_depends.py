"""Dependencies of handlers: what they ask for, and what they get instead in tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any, Literal, Self

from libmq._errors import InvalidError


class Dependency:
    """What a parameter asks for."""

    def __init__(self, dependency: Callable[..., Any], lifetime: Literal["message", "app"] = "message") -> None:
        self.dependency = dependency
        self.lifetime: Literal["message", "app"] = lifetime

    def __repr__(self) -> str:
        return f"Depends({name_of(self.dependency)}, lifetime={self.lifetime!r})"


def Depends(dependency: Callable[..., Any], *, lifetime: Literal["message", "app"] = "message") -> Any:
    """Marks a parameter as a dependency: `Annotated[Session, Depends(get_session)]`, or by its default. To a type
    checker it is anything, so that it may be the default of whatever it stands for.

    `dependency` is called with what it asks for itself: the context, as `ctx` or annotated `libmq.Context`, and further
    dependencies. What it answers is the parameter's value. A generator is closed at the end of the attempt, and sees
    there what the handler raised; so is what comes of `contextlib`'s decorators, and of a class that is a context
    manager. All of them may be async where the handler is. Each is made once an attempt, whoever asks for it, and all
    are closed in reverse order before the message is acked: one that fails then has failed the attempt, and none can
    turn a failed attempt into a success.

    Args:
        dependency: A function, a generator function, or a class.
        lifetime: "message", for an attempt; "app" is made when it is first asked for and closed with the broker, or, if
            it is async, with the event loop that it was made on, and depends on nothing but what lives as long.

    Raises:
        TypeError: It cannot be called.
        InvalidError: There is no such lifetime.
    """
    if not callable(dependency):
        raise TypeError(f"a dependency must be callable, not {type(dependency).__name__}")
    if not isinstance(lifetime, str):
        raise TypeError(f"lifetime must be a str, not {type(lifetime).__name__}")
    if lifetime not in ("message", "app"):
        raise InvalidError("lifetime takes message or app")
    return Dependency(dependency, lifetime)


def name_of(function: Any) -> str:
    """What a function is called in errors."""
    return str(getattr(function, "__name__", None) or type(function).__name__)


def key_of(function: Any) -> Hashable:
    """What tells dependencies apart: they are the same where they are equal, as a method that is looked up twice."""
    try:
        hash(function)
    except TypeError:
        return id(function)
    return function  # type: ignore[no-any-return]


class Override:
    """A dependency that is replaced, until `restore` or the end of its `with`. Of several the last one counts that has
    not ended.
    """

    def __init__(self, overrides: Overrides, dependency: Callable[..., Any], fake: Callable[..., Any]) -> None:
        for what in (dependency, fake):
            if not callable(what):
                raise TypeError(f"a dependency must be callable, not {type(what).__name__}")
        self._dependency = dependency
        self._fake = fake
        self._those = overrides.of(dependency)
        self._those.append(self)

    def restore(self) -> None:
        """Has it count no more. Restored already: nothing."""
        with contextlib.suppress(ValueError):
            self._those.remove(self)

    def __repr__(self) -> str:
        return f"<libmq.Override of {name_of(self._dependency)} by {name_of(self._fake)}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()


class Overrides:
    """What a broker's dependencies are replaced by."""

    def __init__(self) -> None:
        self._by_key: dict[Hashable, list[Override]] = {}

    def of(self, dependency: Callable[..., Any]) -> list[Override]:
        """Those of a dependency, the last one last."""
        return self._by_key.setdefault(key_of(dependency), [])

    def real(self, dependency: Callable[..., Any]) -> Callable[..., Any]:
        """What is to be called where a dependency is asked for."""
        for override in self._by_key.get(key_of(dependency), ())[-1:]:
            return override._fake
        return dependency
