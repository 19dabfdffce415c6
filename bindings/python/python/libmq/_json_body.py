"""Bodies that are not bytes: JSON, as every language reads it.

NaN and Infinity are not JSON, and a lone surrogate is not UTF-8: both are refused on the way in. On the way out a
number that no float can hold does not decode either: it would be Infinity. What JSON has no form for is given one in
`_forms`, or refused.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any

from libmq._errors import DecodeError, InvalidError
from libmq._forms import form_of, key_of
from libmq._models import Formless

_DEPTH_SHALLOW = 100
"""Whoever is nested no deeper is not what filled the stack."""


def _place(body: object, value: object) -> str | None:
    """Where in a body a value is, of which the encoder came upon no other before."""
    if body is value:
        return ""
    for where, one in _within(body):
        place = _place(one, value)
        if place is not None:
            return where + place
    return None


def _within(body: object) -> Iterable[tuple[str, object]]:
    """What is directly within a value, and where."""
    if isinstance(body, dict):
        return ((f".{name}", one) for name, one in body.items())
    if isinstance(body, (list, tuple)):
        return ((f"[{index}]", one) for index, one in enumerate(body))
    if isinstance(body, (str, int, float, type(None))):
        return ()
    try:
        return _within(form_of(body))
    except Formless:
        return ()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=form_of).encode

_may_have_lost = re.compile(r'"(?:-?\d[\d.e+-]*|true|false|null)":').search
"""Whether a key may have been something else than a text, and so may be there twice."""


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
        try:
            text = _encode(body)
        except Formless:
            raise
        except TypeError:
            # A key that JSON does not have, or somebody's own code.
            text = _encode(_with_keys(body, ""))
        if _may_have_lost(text) is not None:
            _with_keys(body, "")
        return text
    except Formless as error:
        kind = type(error.value).__name__
        if error.value is body:
            raise TypeError(f"a body of type {kind} is neither bytes nor JSON") from None
        raise TypeError(f"body{_place(body, error.value) or ''} is of type {kind}, which JSON does not have") from None
    except InvalidError:
        raise
    except ValueError as error:
        raise InvalidError(f"the body is not JSON: {error}") from None
    except RecursionError:
        if _is_shallow(body):
            raise
        raise InvalidError("the body is nested too deeply for JSON") from None


def _with_keys(body: object, where: str) -> object:
    """A body whose keys are all texts.

    Raises:
        TypeError: A key is none and has no text.
        InvalidError: Two have the same one, of which one would be lost.
    """
    if isinstance(body, dict):
        named: dict[str, object] = {}
        for key, value in body.items():
            name = key_of(key)
            if name is None:
                raise TypeError(f"body{where} has a key of type {type(key).__name__}, which JSON does not have")
            if name in named:
                raise InvalidError(f"body{where} has two keys that are the same in JSON, one of them no text")
            named[name] = _with_keys(value, f"{where}.{name}")
        return named
    if isinstance(body, (list, tuple)):
        return [_with_keys(one, f"{where}[{index}]") for index, one in enumerate(body)]
    if isinstance(body, (str, int, float, type(None))):
        return body
    return _with_keys(form_of(body), where)


def _is_shallow(body: object) -> bool:
    """Whether a body is not nested deeply. Calls nothing that could need more stack than there is."""
    level: list[object] = [body]
    for _ in range(_DEPTH_SHALLOW):
        # What is there many times is looked at once.
        level = list({id(one): one for each in level for one in _plain(each)}.values())
        if not level:
            return True
    return False


def _plain(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, (list, tuple)):
        yield from value


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
        if text.count("[") + text.count("{") <= _DEPTH_SHALLOW:
            raise
        raise DecodeError("the body's JSON is nested too deeply") from None
