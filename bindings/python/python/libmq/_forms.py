"""The forms in JSON of what JSON does not have: texts for moments, UUIDs, decimals and paths, arrays for sets, objects
for classes with fields.

Each is exact: `_reading` makes the same of it again where a handler's annotation asks for that. Classes of pydantic and
of msgspec write themselves. What has no form that all would agree on, as bytes, is refused.
"""

import dataclasses
import datetime
import decimal
import enum
import math
import pathlib
import re
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from libmq._models import Formless, model_of

T = TypeVar("T")


def form_of(value: object) -> object:
    """What is written of a value that the encoder does not know; that again may be something that it does not know.

    Raises:
        Formless: Nothing is.
    """
    kind = type(value)
    model = model_of(kind)
    if model is not None:
        return model.write(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        return _array(value)
    for known, write in _TEXTS.items():
        if isinstance(value, known):
            return write(value)
    raise Formless(value)


def _array(values: set[Any] | frozenset[Any]) -> list[object]:
    """In order, where there is one, so that equal sets are written alike."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def key_of(key: object) -> str | None:
    """The text that a key of an object is, None if it is none."""
    match key:
        case enum.Enum() if not isinstance(key, (str, int, float)):
            return key_of(key.value)
        case str():
            return str.__str__(key)
        case None | bool():
            return {None: "null", True: "true", False: "false"}[key]
        case int():
            return int.__repr__(key)
        case float():
            return _finite(key, math.isfinite(key), float.__repr__)
        case _:
            pass
    for known, write in _TEXTS.items():
        if isinstance(key, known):
            return write(key)
    return None


def _finite(value: T, is_finite: bool, write: Callable[[T], str]) -> str:
    if not is_finite:
        raise ValueError("a number is not finite")
    return write(value)


def _decimal(value: decimal.Decimal) -> str:
    return _finite(value, value.is_finite(), str)


def _duration(value: datetime.timedelta) -> str:
    """As ISO 8601 has it, to the microsecond."""
    sign, value = ("-", -value) if value < datetime.timedelta() else ("", value)
    second = f"{value.seconds}.{value.microseconds:06}".rstrip("0").rstrip(".") if value.microseconds else value.seconds
    return f"{sign}P{value.days}DT{second}S"


_DURATION = re.compile(
    r"(-?)P(?:(\d{1,9})D)?(?:T(?:(\d{1,9})H)?(?:(\d{1,9})M)?(?:(\d{1,9})(?:\.(\d{1,6}))?S)?)?", re.ASCII
)


def duration_of(text: str) -> datetime.timedelta:
    """A duration of ISO 8601, in days and less. Raises ValueError."""
    found = _DURATION.fullmatch(text)
    if found is None or text[-1] in "PT":
        raise ValueError("no duration")
    sign, days, hours, minutes, seconds, fraction = found.groups(default="0")
    value = datetime.timedelta(int(days), int(seconds), int(fraction.ljust(6, "0")), 0, int(minutes), int(hours))
    return -value if sign == "-" else value


_TEXTS: dict[type, Callable[..., str]] = {
    datetime.datetime: datetime.datetime.isoformat,
    datetime.date: datetime.date.isoformat,
    datetime.time: datetime.time.isoformat,
    datetime.timedelta: _duration,
    uuid.UUID: str,
    decimal.Decimal: _decimal,
    pathlib.PurePath: str,
}
"""In this order: every datetime is a date as well."""
