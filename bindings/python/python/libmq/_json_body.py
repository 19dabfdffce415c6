"""Bodies that are not bytes: JSON, as every language reads it.

NaN and Infinity are not JSON, and a lone surrogate is not UTF-8: both are refused on the way in. On the way out a
number that no float can hold does not decode either: it would be Infinity. Dataclasses are written as objects.
"""

import dataclasses
import json
import math
from collections.abc import Iterable
from typing import Any

from libmq._errors import DecodeError, InvalidError


class _NotJson(TypeError):
    """A value that the encoder does not know."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


def _other(value: object) -> object:
    """What the encoder does not know by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise _NotJson(value)


def _place(body: object, value: object) -> str | None:
    """Where in a body a value is, of which the encoder came upon no other before."""
    if body is value:
        return ""
    inner: Iterable[tuple[str, object]] = ()
    if isinstance(body, dict):
        inner = ((f".{name}", one) for name, one in body.items())
    elif isinstance(body, (list, tuple)):
        inner = ((f"[{index}]", one) for index, one in enumerate(body))
    elif dataclasses.is_dataclass(body) and not isinstance(body, type):
        inner = ((f".{field.name}", getattr(body, field.name)) for field in dataclasses.fields(body))
    for where, one in inner:
        place = _place(one, value)
        if place is not None:
            return where + place
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other).encode


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is beyond the range of a float")
    return number


_decode = json.JSONDecoder(parse_constant=_refuse).decode
_decode_finite = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


def encode(body: object) -> str:
    """The JSON of a body."""
    try:
        return _encode(body)
    except _NotJson as error:
        kind = type(error.value).__name__
        if error.value is body:
            raise TypeError(f"a body of type {kind} is neither bytes nor JSON") from None
        raise TypeError(f"body{_place(body, error.value) or ''} is of type {kind}, which JSON does not have") from None
    except ValueError as error:
        raise InvalidError(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise InvalidError("the body is nested too deeply for JSON") from None


def decode(text: str | bytes, may_overflow: bool) -> Any:
    """What a body's JSON says; bytes are what is not even UTF-8. A number may overflow where one is written with an
    exponent or very many digits, and is looked at then.
    """
    if isinstance(text, bytes):
        raise DecodeError("the body is said to be JSON, but is not UTF-8")
    try:
        return (_decode_finite if may_overflow else _decode)(text)
    except ValueError as error:
        raise DecodeError(f"the body is said to be JSON, but is not: {error}") from None
    except RecursionError:
        raise DecodeError("the body's JSON is nested too deeply") from None
