"""Bodies that are not bytes: JSON, as every language reads it.

NaN and Infinity are not JSON, and a lone surrogate is not UTF-8: both are refused on the way in. On the way out a
number that no float can hold does not decode either: it would be Infinity. Dataclasses are written as objects.
"""

import dataclasses
import json
import math
from typing import Any

from libmq.errors import DecodeError, InvalidError


def _other(value: object) -> object:
    """What the encoder does not know by itself."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a body of type {type(value).__name__} is neither bytes nor JSON")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_other).encode


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text:.40} is beyond the range of a float")
    return number


_decode = json.JSONDecoder(parse_constant=_refuse).decode
_decode_finite = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite).decode


def encode(body: object) -> str:
    """The JSON of a body."""
    try:
        return _encode(body)
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
