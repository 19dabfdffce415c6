"""What stands alone in a body: numbers, texts, and what is written as one of them.

Each is read of what JSON said, and of nothing else: a number is not made of a text, nor a moment of a number.
"""

import datetime
import decimal
import enum
import pathlib
import re
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from libmq._forms import duration_of
from libmq._json_body import decode, encode

Read = Callable[[Any], Any]
"""Makes what was asked for of what JSON said."""


class Unfit(Exception):
    """A value is not what it should be. `where` grows on the way up.

    It ends in logs, so nothing of the body is in it: neither a value nor the name of a field that no annotation knows.
    """

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where

    def within(self, where: str) -> "Unfit":
        return Unfit(self.what, where + self.where)


def as_it_is(value: Any) -> Any:
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Unfit(f"not true or false, but {kind_of(value)}")
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Unfit(f"not a whole number, but {kind_of(value)}")
    return value


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise Unfit(f"not a number, but {kind_of(value)}")
    try:
        return float(value)
    except OverflowError:
        raise Unfit("a number that is too large for a float") from None


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise Unfit(f"not a text, but {kind_of(value)}")
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise Unfit(f"not null, but {kind_of(value)}")


def raw(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise Unfit(f"not bytes, but {kind_of(value)}")
    return value


def literal(values: Iterable[Any]) -> Read:
    try:
        written = [(decode(encode(value), may_overflow=False), value) for value in values]
    except (TypeError, ValueError) as error:
        raise TypeError(f"a body cannot be made into what has a value that is no JSON: {error}") from None

    def read(value: Any) -> Any:
        for one, meant in written:
            # 1 is True, and is not it.
            if value == one and type(value) is type(one):
                return meant
        raise Unfit(f"not one of {', '.join(repr(one) for one, _ in written)}")

    return read


def enumerated(kind: type[enum.Enum]) -> Read:
    if not issubclass(kind, enum.Flag):
        return literal(kind)

    def read(value: Any) -> Any:
        try:
            return kind(_int(value))
        except ValueError:
            raise Unfit(f"a number that is no {kind.__name__}") from None

    return read


def _text(what: str, make: Callable[[str], Any]) -> Read:
    """What is written as a text of its own form."""

    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise Unfit(f"not {what}, but {kind_of(value)}")
        try:
            return make(value)
        except (ValueError, ArithmeticError):
            raise Unfit(f"a text that is not {what}") from None

    return read


def _datetime(text: str) -> datetime.datetime:
    if len(text) <= len("2026-01-01"):
        raise ValueError("a date alone is no moment")
    return datetime.datetime.fromisoformat(text)


def _uuid(text: str) -> uuid.UUID:
    made = uuid.UUID(text)
    if str(made) != text.lower():
        raise ValueError("not as UUIDs are written")
    return made


_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)


def _decimal(value: Any) -> decimal.Decimal:
    # A number with a fraction is a float by now, and no more what was written.
    if isinstance(value, int) and not isinstance(value, bool):
        return decimal.Decimal(value)
    if not isinstance(value, str):
        raise Unfit(f"not a decimal in a text, but {kind_of(value)}")
    if _DECIMAL.fullmatch(value) is None:
        raise Unfit("a text that is not a decimal")
    return decimal.Decimal(value)


def kind_of(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a bool"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
        case _:
            return "bytes"


PLAIN: dict[Any, Read] = {
    None: _none,
    types.NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: raw,
    datetime.datetime: _text("a moment", _datetime),
    datetime.date: _text("a date", datetime.date.fromisoformat),
    datetime.time: _text("a time", datetime.time.fromisoformat),
    datetime.timedelta: _text("a duration", duration_of),
    uuid.UUID: _text("a UUID", _uuid),
    decimal.Decimal: _decimal,
} | {
    kind: _text("a path", kind)
    for kind in (pathlib.Path, pathlib.PosixPath, pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
}
