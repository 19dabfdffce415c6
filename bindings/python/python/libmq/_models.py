"""Classes of pydantic and of msgspec, which read and write themselves.

They are known by what they have, and their library is loaded by whoever made them: neither is imported before.
What they say of a body that does not fit is said without what was in it. What a model of pydantic would write and not
read again is mended or refused: a queue that loses a field loses it without a word.
"""

import dataclasses
import datetime
import decimal
import re
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol, cast

from libmq._errors import InvalidError


class Formless(TypeError):
    """A value that has no form in JSON."""

    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class Unread(Exception):
    """A body is not what a class takes: what is wrong, and where."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(what)
        self.where = where
        self.what = what


class Model(Protocol):
    """How a library's classes are read and written."""

    def write(self, value: Any) -> object:
        """What is written of an object, in JSON's own terms."""

    def reader(self, annotation: Any) -> Callable[[str], Any]:
        """Makes objects of JSON, of a class or a union of such. It raises Unread."""
        ...


def model_of(kind: type) -> Model | None:
    """How a class is read and written that does so itself, None for all others."""
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "__pydantic_serializer__"):
        return _PYDANTIC
    if hasattr(kind, "__struct_fields__") and hasattr(kind, "__struct_config__"):
        return _MSGSPEC
    return None


class _Pydantic:
    """Models, and dataclasses of pydantic."""

    def write(self, value: Any) -> object:
        """All that is read again, by the names that it is read by.

        Raises:
            TypeError: It hides a value, has one without a form in JSON, or a field that cannot be written where it is
                read.
            InvalidError: It leaves a value out.
        """
        return _readable(value, _written(value), type(value).__name__)

    def reader(self, annotation: Any) -> Callable[[str], Any]:
        import pydantic

        adapter: Any = pydantic.TypeAdapter(annotation)
        try:
            names = frozenset(_names(adapter.json_schema()))
        except Exception:
            # It has fields that no schema knows: none of them is named then.
            names = frozenset()

        def read(text: str) -> Any:
            try:
                return adapter.validate_json(text)
            except pydantic.ValidationError as error:
                first, *more = error.errors(include_url=False, include_context=False, include_input=False)
                place = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
                where = "".join(_step(step, names) for step in place)
                raise Unread(where, f"{first['msg']}{f', and {len(more)} more' if more else ''}") from None

        return read


def _written(value: Any) -> object:
    """What pydantic writes of an object that is to be read again: without what is computed, and by serialized names."""
    write = type(value).__pydantic_serializer__.to_python
    return write(value, mode="json", by_alias=True, round_trip=True, fallback=_refuse)


def _refuse(value: object) -> NoReturn:
    raise Formless(value)


def _readable(value: Any, written: object, place: str) -> object:
    """What was written of a value, so that all of it is read again. The place is for errors."""
    kind = type(value)
    if isinstance(value, float):
        # Where anything may stand, one that is not finite is written as null. JSON has none, and says so.
        return value if written is None else written
    if isinstance(value, dict):
        if isinstance(written, dict) and len(value) == len(written):
            named = zip(written, value.values(), written.values(), strict=True)
            return {name: one if type(inner) in _PLAIN else _readable(inner, one, place) for name, inner, one in named}
    elif isinstance(value, (list, tuple, set, frozenset)):
        if isinstance(written, list) and len(value) == len(written):
            values = zip(value, written, strict=True)
            return [one if type(inner) in _PLAIN else _readable(inner, one, place) for inner, one in values]
    elif model_of(kind) is _PYDANTIC:
        return _readable_model(value, written)
    elif dataclasses.is_dataclass(kind) and isinstance(written, dict):
        return {name: _readable(getattr(value, name, one), one, place) for name, one in written.items()}
    elif hasattr(kind, "get_secret_value") and written == _HIDDEN:
        text = "which is written as asterisks, unless a serializer of the model writes it"
        raise TypeError(f"{place} is a {kind.__name__}, {text}")
    return written


def _readable_model(value: Any, written: object) -> object:
    kind = type(value)
    if kind.__pydantic_decorators__.model_serializers or not isinstance(written, dict):
        if getattr(kind, "__pydantic_root_model__", False):
            return _readable(value.root, written, kind.__name__)
        # It writes itself, and so it is to read what it writes.
        return written
    fields = _fields(kind)
    if any(field.written not in written for field in fields):
        # It was written as the class that a field is annotated with, which knows less.
        written = cast(dict[str, object], _written(value))
    left = dict(written)
    readable = {}
    for field in fields:
        inner = getattr(value, field.name, _MISSING)
        if inner is _MISSING:
            # It was made without being checked, and has not even this.
            continue
        if field.written not in left:
            _check_default(field, inner)
        elif field.read is None:
            raise TypeError(f"{field.place} is read from within another field, where it is not written")
        else:
            one = left.pop(field.written)
            is_done = field.has_serializer or type(inner) in _PLAIN
            readable[field.read] = one if is_done else _readable(inner, one, field.place)
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return readable | {name: _readable(extra.get(name), one, f"{kind.__name__}.{name}") for name, one in left.items()}


def _check_default(field: "_Field", value: object) -> None:
    """Refuses to lose a value that is not what the field has where it was left out."""
    info = field.info
    # What makes a default of other fields is asked when these are read, and not here.
    by_itself = not getattr(info, "default_factory_takes_validated_data", False)
    if info.is_required() or info.get_default(call_default_factory=by_itself) != value:
        raise InvalidError(f"{field.place} is left out of what is written, and would not arrive as it is")


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    """A field of a model, and what it is called in JSON."""

    name: str
    place: str
    """What it is called in errors."""
    info: Any
    written: str
    read: str | None
    """None if it has no name of its own."""
    has_serializer: bool
    """The program says what is written of it, and so what is to be read."""


_known: "weakref.WeakKeyDictionary[type, list[_Field]]" = weakref.WeakKeyDictionary()


def _fields(kind: Any) -> list[_Field]:
    found = _known.get(kind)
    if found is None:
        infos = getattr(kind, "__pydantic_fields__", None) or getattr(kind, "model_fields", {})
        config = getattr(kind, "__pydantic_config__", None) or getattr(kind, "model_config", {})
        serializers = kind.__pydantic_decorators__.field_serializers.values()
        said = {name for serializer in serializers for name in serializer.info.fields}
        found = [
            _Field(
                name,
                f"{kind.__name__}.{name}",
                info,
                info.serialization_alias or info.alias or name,
                _read_name(name, info, config),
                bool(said & {name, "*"}) or any(type(mark).__name__ in _SERIALIZERS for mark in info.metadata),
            )
            for name, info in infos.items()
        ]
        _known[kind] = found
    return found


def _read_name(name: str, info: Any, config: dict[str, Any]) -> str | None:
    """The name that a field is read by: its first one."""
    alias = info.validation_alias
    if alias is None or config.get("validate_by_alias") is False:
        return name
    for one in getattr(alias, "choices", [alias]):
        path = [one] if isinstance(one, str) else one.path
        if len(path) == 1:
            return str(path[0])
    return name if config.get("populate_by_name") or config.get("validate_by_name") else None


_HIDDEN = "**********"
"""What pydantic writes of a secret."""

_SERIALIZERS = ("PlainSerializer", "WrapSerializer")
"""What marks a field whose annotation has a serializer."""

_MISSING = object()

_PLAIN = frozenset((str, int, bool, type(None), bytes, datetime.datetime, datetime.date, uuid.UUID, decimal.Decimal))
"""What has nothing in it that could be lost."""


def _step(step: int | str, names: frozenset[str]) -> str:
    # A name that the class does not know is the body's.
    return f"[{step}]" if isinstance(step, int) else f".{step if step in names else '*'}"


def _names(schema: object) -> Iterator[str]:
    """The names of all fields in a schema."""
    if isinstance(schema, dict):
        fields = schema.get("properties")
        if isinstance(fields, dict):
            yield from fields
        for inner in schema.values():
            yield from _names(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _names(inner)


class _Msgspec:
    """Structs."""

    def write(self, value: Any) -> object:
        """As msgspec's own JSON has it."""
        import msgspec

        return cast(object, msgspec.to_builtins(value, str_keys=True))

    def reader(self, annotation: Any) -> Callable[[str], Any]:
        import msgspec

        decode = msgspec.json.Decoder(annotation).decode

        def read(text: str) -> Any:
            try:
                return decode(text)
            except msgspec.ValidationError as error:
                what, _, where = str(error).partition(" - at `$")
                raise Unread(where.rstrip("`").replace("[...]", ".*"), _without_values(what)) from None

        return read


_VALUE = re.compile(r"(Invalid [\w ]*value|unknown field) .*", re.DOTALL)


def _without_values(what: str) -> str:
    return _VALUE.sub(r"\1", what)


_PYDANTIC = _Pydantic()
_MSGSPEC = _Msgspec()
