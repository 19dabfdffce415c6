"""Classes of pydantic and of msgspec, which read and write themselves.

They are known by what they have, and their library is loaded by whoever made them: neither is imported before.
What they say of a body that does not fit is said without what was in it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol, cast


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
        """By the names that they are read by."""
        return type(value).__pydantic_serializer__.to_python(value, mode="json", by_alias=True)

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
