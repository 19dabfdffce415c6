"""How a body becomes what a handler's annotation asks for.

An annotation is looked at once, when the handler is registered; what cannot be made of JSON is refused there. What a
message then says otherwise is a DecodeError, which names the place. Nothing is guessed: a number is not made of a text.
A field that a dataclass does not have is left out, as pydantic and msgspec do it: where programs are replaced one after
the other, those that send know of a new field before those that receive. In a union what leaves nothing out is first.
"""

import collections.abc
import contextlib
import dataclasses
import enum
import inspect
import re
import types
import typing
from inspect import Parameter
from typing import Annotated, Any, Literal, NotRequired, Required, TypeVar, Union

from libmq._errors import DecodeError
from libmq._generics import hints_of
from libmq._json_body import decode, encode
from libmq._models import Unread, model_of
from libmq._parameters import VARIADIC
from libmq._scalars import PLAIN, Read, Unfit, as_it_is, enumerated, kind_of, literal, raw

SUPPORTED = (
    "bytes, None, bool, int, float, str, Any, datetime, date, time, timedelta, UUID, Decimal, Path, Enums, "
    "dataclasses, NamedTuples, TypedDicts, classes of pydantic and msgspec, list[X], tuple[X, ...], set[X], "
    "frozenset[X], dict[K, X] where K is a text or written as one, Optional[X], unions and Literals of these"
)

_ARRAYS: dict[Any, type] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Iterable: list,
    set: set,
    collections.abc.MutableSet: set,
    frozenset: frozenset,
    collections.abc.Set: frozenset,
}
"""What an array is made into, but for tuples."""

_MARKS: tuple[Any, ...] = (Annotated, Required, NotRequired, getattr(typing, "ReadOnly", Annotated))
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def reader(annotation: object) -> Read | None:
    """How a body is read whose annotation this is; None if it is taken as it is.

    Raises:
        TypeError: Nothing of JSON can be made into it.
    """
    read = _Readers(is_exact=False).of(annotation)
    if read is as_it_is:
        return None

    def read_body(body: Any) -> Any:
        try:
            return read(body)
        except Unfit as unfit:
            raise DecodeError(f"body{unfit.where}: {unfit.what}") from None

    return read_body


@dataclasses.dataclass(slots=True)
class _Known:
    """A class, or one whose variables stand for something, that is being read or can be."""

    arguments: tuple[Any, ...]
    read: Read


class _Readers:
    """Readers by annotation; a class that has itself in a field is met again while it is being read."""

    def __init__(self, is_exact: bool) -> None:
        self._classes: dict[type, list[_Known]] = {}
        # Those that leave no field out are the same with all others.
        self._exact = self if is_exact else _Readers(is_exact=True)

    def of(self, annotation: Any) -> Read:
        """The reader for an annotation."""
        if annotation is Parameter.empty or annotation is Any or annotation is object:
            return as_it_is
        # Not looked up: what is marked with something that cannot be hashed, cannot be.
        for plain, read in PLAIN.items():
            if annotation is plain:
                return read
        if isinstance(annotation, TypeVar):
            return self.of(annotation.__bound__ or Any)
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__)
        if hasattr(annotation, "__value__"):
            # `type Name = ...`, from Python 3.12 on.
            return self.of(annotation.__value__)
        if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
            if annotation in _ARRAYS or annotation is tuple:
                return self._array(_ARRAYS.get(annotation, tuple), as_it_is)
            return _dict(as_it_is) if annotation in _DICTS else self._class(annotation)
        return self._special(annotation, typing.get_origin(annotation), typing.get_args(annotation))

    def _inner(self, annotation: Any) -> Read:
        """The reader for what is within a body, which is JSON then."""
        read = self.of(annotation)
        if read is raw:
            raise TypeError("a body cannot be made into what has bytes in it: JSON has none")
        return read

    def _special(self, annotation: Any, origin: Any, arguments: tuple[Any, ...]) -> Read:
        if origin in _MARKS:
            return self.of(arguments[0])
        if origin is Literal:
            return literal(arguments)
        if origin in (Union, types.UnionType):
            return self._union(annotation, arguments)
        if origin in _ARRAYS:
            return self._array(_ARRAYS[origin], self._inner(arguments[0]))
        if origin in _DICTS and arguments[0] in (str, Any):
            return _dict(self._inner(arguments[1]))
        if origin in _DICTS and _is_text(arguments[0]):
            return _dict_by(self._inner(arguments[0]), self._inner(arguments[1]))
        if origin is tuple:
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                return self._array(tuple, self._inner(arguments[0]))
            return _tuple([self._inner(argument) for argument in arguments])
        if isinstance(origin, type) and (model := model_of(origin)) is not None:
            return _model(model, annotation)
        if _is_generic(origin):
            return self._class(origin, arguments)
        raise TypeError(f"a body cannot be made into {_shown(annotation)}: it takes {SUPPORTED}")

    def _class(self, kind: type, arguments: tuple[Any, ...] = ()) -> Read:
        # Compared and not looked up: what is marked with something that cannot be hashed, cannot be.
        for known in self._classes.setdefault(kind, []):
            if known.arguments == arguments:
                return known.read
        # Until it is known it is looked up when it is used.
        known = _Known(arguments, lambda value: known.read(value))
        self._classes[kind].append(known)
        if (model := model_of(kind)) is not None:
            read = _model(model, kind)
        elif dataclasses.is_dataclass(kind):
            read = self._dataclass(kind, arguments)
        elif issubclass(kind, enum.Enum):
            read = enumerated(kind)
        elif issubclass(kind, tuple) and hasattr(kind, "_fields"):
            read = self._named_tuple(kind, arguments)
        elif typing.is_typeddict(kind):
            read = self._typed_dict(kind, arguments)
        else:
            raise TypeError(f"a body cannot be made into {_shown(kind)}: it takes {SUPPORTED}")
        known.read = read
        return read

    def _dataclass(self, kind: Any, arguments: tuple[Any, ...]) -> Read:
        hints = hints_of(kind, arguments)
        fields = {field.name: field for field in dataclasses.fields(kind)}
        # What only its __init__ takes has no field.
        only = {name: hint.type for name, hint in hints.items() if isinstance(hint, dataclasses.InitVar)}
        given = {name: self._inner(hints[name]) for name, field in fields.items() if field.init}
        given |= {name: self._inner(hint) for name, hint in only.items()}
        # They are written with the others, and computed again.
        computed = {name for name, field in fields.items() if not field.init}
        required = _required(kind)
        is_exact, name_of_it = self._exact is self, kind.__name__
        known = f" but {', '.join(given)}" if given else ""

        def read(value: Any) -> Any:
            if not isinstance(value, dict):
                raise Unfit(f"not an object, of which {name_of_it} could be made, but {kind_of(value)}")
            values = {}
            for name, inner in value.items():
                if name in given:
                    values[name] = _in_field(given[name], name, inner)
                elif is_exact and name not in computed:
                    raise Unfit(f"{name_of_it} takes nothing{known}")
            for name in required:
                if name not in values:
                    raise Unfit(f"{name_of_it} needs {name}")
            try:
                return kind(**values)
            except (TypeError, ValueError) as error:
                raise Unfit(f"makes no {name_of_it}: {error}") from None

        return read

    def _typed_dict(self, kind: Any, arguments: tuple[Any, ...]) -> Read:
        hints = hints_of(kind, arguments)
        given = {name: self._inner(hint) for name, hint in hints.items()}
        # What the class itself says does not see marks in annotations that are texts.
        marks = {name: typing.get_origin(hint) for name, hint in hints.items()}
        required = {name for name, mark in marks.items() if mark is Required or name in kind.__required_keys__} - {
            name for name, mark in marks.items() if mark is NotRequired
        }

        def read(value: Any) -> Any:
            if not isinstance(value, dict):
                raise Unfit(f"not an object, as {kind.__name__} is, but {kind_of(value)}")
            for name in sorted(required):
                if name not in value:
                    raise Unfit(f"{kind.__name__} needs {name}")
            return {name: _in_field(given.get(name, as_it_is), name, inner) for name, inner in value.items()}

        return read

    def _named_tuple(self, kind: Any, arguments: tuple[Any, ...]) -> Read:
        hints = hints_of(kind, arguments)
        reads = [self._inner(hints.get(name, Any)) for name in kind._fields]
        least = len(reads) - len(kind._field_defaults)

        def read(value: Any) -> Any:
            if not isinstance(value, list) or not least <= len(value) <= len(reads):
                raise Unfit(f"not an array of {len(reads)}, as {kind.__name__} is, but {kind_of(value)}")
            return kind(
                *(_at(read, index, inner) for index, (read, inner) in enumerate(zip(reads, value, strict=False)))
            )

        return read

    def _array(self, kind: type, read: Read) -> Read:
        def read_all(value: Any) -> Any:
            if not isinstance(value, list):
                raise Unfit(f"not an array, but {kind_of(value)}")
            values = value if read is as_it_is else [_at(read, index, inner) for index, inner in enumerate(value)]
            try:
                return kind(values)
            except TypeError:
                raise Unfit(f"an array of what no {kind.__name__} can hold") from None

        return read_all

    def _union(self, annotation: Any, arguments: tuple[Any, ...]) -> Read:
        kinds = [argument for argument in arguments if argument not in (None, types.NoneType)]
        models = {model_of(kind) for kind in kinds if isinstance(kind, type)}
        if len(kinds) > 1 and all(isinstance(kind, type) for kind in kinds) and None not in models and len(models) == 1:
            # Its library tells them apart.
            return _model(models.pop(), annotation)
        reads = [self.of(argument) for argument in arguments]
        exact = [self._exact.of(argument) for argument in arguments] if len(kinds) > 1 else []

        def read(value: Any) -> Any:
            for each in exact:
                with contextlib.suppress(Unfit):
                    return each(value)
            said = []
            for each in reads:
                try:
                    return each(value)
                except Unfit as unfit:
                    said.append(unfit)
            # The one that came furthest says most.
            furthest = max(said, key=lambda unfit: len(unfit.where))
            if furthest.where:
                raise furthest
            raise Unfit(f"not {_shown(annotation)}, but {kind_of(value)}")

        return read


def _is_generic(origin: Any) -> bool:
    """Whether this is a class of the program's own that has type variables."""
    return isinstance(origin, type) and typing.Generic in origin.__mro__


def _required(kind: type) -> list[str]:
    """What a class cannot be made without, as far as it says."""
    try:
        parameters = inspect.signature(kind).parameters.values()
    except (TypeError, ValueError):
        return []
    return [it.name for it in parameters if it.default is Parameter.empty and it.kind not in VARIADIC]


def _dict(read: Read) -> Read:
    def read_all(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(f"not an object, but {kind_of(value)}")
        return value if read is as_it_is else {name: _in_field(read, "*", inner) for name, inner in value.items()}

    return read_all


def _tuple(reads: list[Read]) -> Read:
    def read_all(value: Any) -> Any:
        if not isinstance(value, list) or len(value) != len(reads):
            raise Unfit(f"not an array of {len(reads)}, but {kind_of(value)}")
        return tuple(_at(read, index, inner) for index, (read, inner) in enumerate(zip(reads, value, strict=True)))

    return read_all


def _in_field(read: Read, name: str, value: Any) -> Any:
    try:
        return read(value)
    except Unfit as unfit:
        raise unfit.within(f".{name}") from None


def _at(read: Read, index: int, value: Any) -> Any:
    try:
        return read(value)
    except Unfit as unfit:
        raise unfit.within(f"[{index}]") from None


def _model(model: Any, annotation: Any) -> Read:
    """A class that reads itself, or a union of such."""
    try:
        make = model.reader(annotation)
    except Exception as error:
        raise TypeError(f"a body cannot be made into {_shown(annotation)}: {error}") from None

    def read(value: Any) -> Any:
        if isinstance(value, bytes):
            raise Unfit(f"not JSON, of which {_shown(annotation)} could be made, but bytes")
        try:
            return make(encode(value))
        except Unread as unread:
            raise Unfit(unread.what, unread.where) from None

    return read


def _is_text(annotation: Any) -> bool:
    """Whether the keys of an object can be annotated so."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in _MARKS:
        return _is_text(arguments[0])
    if origin in (Union, types.UnionType):
        return all(_is_text(argument) for argument in arguments)
    if isinstance(annotation, typing.NewType):
        return _is_text(annotation.__supertype__)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return True
    return origin is Literal or any(annotation is plain for plain in PLAIN if plain is not bytes)


def _dict_by(read_key: Read, read: Read) -> Read:
    def read_one(name: str) -> Any:
        try:
            return read_key(name)
        except Unfit:
            if _WRITTEN.fullmatch(name) is None:
                raise
        return read_key(decode(name, may_overflow=True))

    def read_all(value: Any) -> Any:
        if not isinstance(value, dict):
            raise Unfit(f"not an object, but {kind_of(value)}")
        try:
            keys = [read_one(name) for name in value]
        except (Unfit, DecodeError):
            raise Unfit("has a key that is not what it should be") from None
        return dict(zip(keys, (_in_field(read, "*", inner) for inner in value.values()), strict=True))

    return read_all


_WRITTEN = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:e[+-]\d+)?|true|false|null", re.ASCII)
"""Keys that were no texts, as JSON has them."""


def _shown(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
