"""How a body becomes what a handler's annotation asks for.

An annotation is looked at once, when the handler is registered; what cannot be made of JSON is refused there. What a
message then says otherwise is a DecodeError, which names the place. Nothing is guessed: a number is not made of a text,
and no field is dropped.
"""

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable
from inspect import Parameter
from typing import Annotated, Any, Literal, NotRequired, Required, TypeVar, Union

from libmq._errors import DecodeError
from libmq._parameters import VARIADIC

Read = Callable[[Any], Any]
"""Makes what was asked for of what JSON said."""

SUPPORTED = (
    "bytes, None, bool, int, float, str, Any, dataclasses, TypedDicts, list[X], tuple[X, ...], dict[str, X], "
    "Optional[X], unions and Literals of these"
)

_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Iterable)
_MARKS = (Annotated, Required, NotRequired, getattr(typing, "ReadOnly", Annotated))
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class _Unfit(Exception):
    """A value is not what it should be. `where` grows on the way up.

    It ends in logs, so nothing of the body is in it: neither a value nor the name of a field that no annotation knows.
    """

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where

    def within(self, where: str) -> "_Unfit":
        return _Unfit(self.what, where + self.where)


def reader(annotation: object) -> Read | None:
    """How a body is read whose annotation this is; None if it is taken as it is.

    Raises:
        TypeError: Nothing of JSON can be made into it.
    """
    read = _Readers().of(annotation)
    if read is _as_it_is:
        return None

    def read_body(body: Any) -> Any:
        try:
            return read(body)
        except _Unfit as unfit:
            raise DecodeError(f"body{unfit.where}: {unfit.what}") from None

    return read_body


class _Readers:
    """Readers by annotation; a class that has itself in a field is met again while it is being read."""

    def __init__(self) -> None:
        self._classes: dict[type, Read] = {}

    def of(self, annotation: Any) -> Read:
        """The reader for an annotation."""
        if annotation is Parameter.empty or annotation is Any or annotation is object:
            return _as_it_is
        # Not looked up: what is marked with something that cannot be hashed, cannot be.
        for plain, read in _PLAIN.items():
            if annotation is plain:
                return read
        if isinstance(annotation, TypeVar):
            return self.of(annotation.__bound__ or Any)
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__)
        if hasattr(annotation, "__value__"):
            # `type Name = ...`, from Python 3.12 on.
            return self.of(annotation.__value__)
        if annotation in _LISTS or annotation is tuple:
            return self._list(list if annotation in _LISTS else tuple, _as_it_is)
        if annotation in _DICTS:
            return _dict(_as_it_is)
        if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
            return self._class(annotation)
        return self._special(annotation, typing.get_origin(annotation), typing.get_args(annotation))

    def _inner(self, annotation: Any) -> Read:
        """The reader for what is within a body, which is JSON then."""
        read = self.of(annotation)
        if read is _bytes:
            raise TypeError("a body cannot be made into what has bytes in it: JSON has none")
        return read

    def _special(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Read:
        if origin in _MARKS:
            return self.of(arguments[0])
        if origin is Literal:
            return _literal(arguments)
        if origin in (Union, types.UnionType):
            return self._union(annotation, [self.of(argument) for argument in arguments])
        if origin in _LISTS:
            return self._list(list, self._inner(arguments[0]))
        if origin in _DICTS and arguments[0] in (str, Any):
            return _dict(self._inner(arguments[1]))
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return self._list(tuple, self._inner(arguments[0]))
            return _tuple([self._inner(argument) for argument in arguments])
        raise TypeError(f"a body cannot be made into {_shown(annotation)}: it takes {SUPPORTED}")

    def _class(self, kind: type) -> Read:
        known = self._classes.get(kind)
        if known is not None:
            return known
        # Until it is known it is looked up when it is used.
        self._classes[kind] = lambda value: self._classes[kind](value)
        if dataclasses.is_dataclass(kind):
            read = self._dataclass(kind)
        elif typing.is_typeddict(kind):
            read = self._typed_dict(kind)
        else:
            raise TypeError(f"a body cannot be made into {_shown(kind)}: it takes {SUPPORTED}")
        self._classes[kind] = read
        return read

    def _dataclass(self, kind: Any) -> Read:
        hints = _hints(kind)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        # What only its __init__ takes has no field.
        only = {name: hint.type for name, hint in hints.items() if isinstance(hint, dataclasses.InitVar)}
        given = {name: self._inner(hints[name]) for name, field in fields.items() if field.init}
        given |= {name: self._inner(hint) for name, hint in only.items()}
        # They are written with the others, and computed again.
        computed = {name for name, field in fields.items() if not field.init}
        required = _required(kind)
        known = f" but {', '.join(given)}" if given else ""

        def read(value: Any) -> Any:
            if not isinstance(value, dict):
                raise _Unfit(f"not an object, of which a {kind.__name__} could be made, but {_kind(value)}")
            values = {}
            for name, inner in value.items():
                if name in given:
                    values[name] = _in_field(given[name], name, inner)
                elif name not in computed:
                    raise _Unfit(f"a {kind.__name__} takes nothing{known}")
            for name in required:
                if name not in values:
                    raise _Unfit(f"a {kind.__name__} needs {name}")
            try:
                return kind(**values)
            except (TypeError, ValueError) as error:
                raise _Unfit(f"does not make a {kind.__name__}: {error}") from None

        return read

    def _typed_dict(self, kind: Any) -> Read:
        hints = _hints(kind)
        given = {name: self._inner(hint) for name, hint in hints.items()}
        # What the class itself says does not see marks in annotations that are texts.
        marks = {name: typing.get_origin(hint) for name, hint in hints.items()}
        required = {name for name, mark in marks.items() if mark is Required or name in kind.__required_keys__} - {
            name for name, mark in marks.items() if mark is NotRequired
        }

        def read(value: Any) -> Any:
            if not isinstance(value, dict):
                raise _Unfit(f"not an object, as a {kind.__name__} is, but {_kind(value)}")
            for name in sorted(required):
                if name not in value:
                    raise _Unfit(f"a {kind.__name__} needs {name}")
            return {name: _in_field(given.get(name, _as_it_is), name, inner) for name, inner in value.items()}

        return read

    def _list(self, kind: type, read: Read) -> Read:
        def read_all(value: Any) -> Any:
            if not isinstance(value, list):
                raise _Unfit(f"not an array, but {_kind(value)}")
            return kind(value if read is _as_it_is else [_at(read, index, inner) for index, inner in enumerate(value)])

        return read_all

    def _union(self, annotation: Any, reads: list[Read]) -> Read:
        def read(value: Any) -> Any:
            said = []
            for each in reads:
                try:
                    return each(value)
                except _Unfit as unfit:
                    said.append(unfit)
            # The one that came furthest says most.
            furthest = max(said, key=lambda unfit: len(unfit.where))
            if furthest.where:
                raise furthest
            raise _Unfit(f"not {_shown(annotation)}, but {_kind(value)}")

        return read


def _required(kind: type) -> list[str]:
    """What a class cannot be made without, as far as it says."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return []
    return [it.name for it in parameters if it.default is Parameter.empty and it.kind not in VARIADIC]


def _hints(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise TypeError(f"the annotations of {kind.__name__} cannot be looked up: {error}") from None


def _as_it_is(value: Any) -> Any:
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Unfit(f"not true or false, but {_kind(value)}")
    return value


def _int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Unfit(f"not a whole number, but {_kind(value)}")
    return value


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _Unfit(f"not a number, but {_kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise _Unfit("a number that is too large for a float") from None


def _str(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit(f"not a text, but {_kind(value)}")
    return value


def _none(value: Any) -> None:
    if value is not None:
        raise _Unfit(f"not null, but {_kind(value)}")


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _Unfit(f"not bytes, but {_kind(value)}")
    return value


def _literal(values: tuple[Any, ...]) -> Read:
    def read(value: Any) -> Any:
        # 1 is True, and is not it.
        if any(value == one and type(value) is type(one) for one in values):
            return value
        raise _Unfit(f"not one of {', '.join(map(repr, values))}")

    return read


def _dict(read: Read) -> Read:
    def read_all(value: Any) -> Any:
        if not isinstance(value, dict):
            raise _Unfit(f"not an object, but {_kind(value)}")
        return value if read is _as_it_is else {name: _in_field(read, "*", inner) for name, inner in value.items()}

    return read_all


def _tuple(reads: list[Read]) -> Read:
    def read_all(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(reads):
            raise _Unfit(f"not an array of {len(reads)}, but {_kind(value)}")
        return tuple(_at(read, index, inner) for index, (read, inner) in enumerate(zip(reads, value, strict=True)))

    return read_all


def _in_field(read: Read, name: str, value: Any) -> Any:
    try:
        return read(value)
    except _Unfit as unfit:
        raise unfit.within(f".{name}") from None


def _at(read: Read, index: int, value: Any) -> Any:
    try:
        return read(value)
    except _Unfit as unfit:
        raise unfit.within(f"[{index}]") from None


def _kind(value: Any) -> str:
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


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


_PLAIN: dict[Any, Read] = {
    None: _none,
    types.NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
}
