"""Generic classes: what the annotations of one say where its type variables stand for something."""

import types
import typing
from typing import Any


def hints_of(kind: type, arguments: tuple[Any, ...]) -> dict[str, Any]:
    """The annotations of a class whose variables stand for these, with those of its bases, each in terms of its own.

    Raises:
        TypeError: A name in them cannot be looked up.
    """
    meanings = _meanings(kind, arguments)
    hints = _looked_up(kind)
    for name, hint in hints.items():
        owner = next((it for it in kind.__mro__ if name in getattr(it, "__annotations__", {})), kind)
        hints[name] = substituted(hint, meanings.get(owner, {}))
    return hints


def substituted(hint: Any, meaning: dict[Any, Any]) -> Any:
    """An annotation with its type variables replaced, as far as it is known by what."""
    if isinstance(hint, typing.TypeVar):
        return meaning.get(hint, hint)
    if isinstance(hint, type) and not isinstance(hint, types.GenericAlias):
        # A class by itself, whatever its own variables are.
        return hint
    variables = _variables(hint)
    return hint[tuple(meaning.get(one, one) for one in variables)] if variables else hint


def _variables(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__parameters__", ())


def _meanings(kind: type, arguments: tuple[Any, ...]) -> dict[type, dict[Any, Any]]:
    """What the variables of a class stand for, and those of each base."""
    meaning = dict(zip(_variables(kind), arguments, strict=False))
    meanings = {kind: meaning}
    # What a class has not said itself would be its base's.
    for base in kind.__dict__.get("__orig_bases__", kind.__bases__):
        origin = typing.get_origin(base)
        if isinstance(origin, type):
            its = tuple(substituted(argument, meaning) for argument in typing.get_args(base))
            meanings = _meanings(origin, its) | meanings
        elif isinstance(base, type):
            meanings = _meanings(base, ()) | meanings
    return meanings


def _looked_up(kind: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind, include_extras=True)
    except NameError as error:
        # A class within a function or a class knows itself and what is in it, though its module does not.
        inner = {**vars(kind), kind.__name__: kind}
        try:
            return typing.get_type_hints(kind, localns=inner, include_extras=True)
        except Exception:
            where = "what they name has to be in the module, and not only within a function"
            raise TypeError(f"the annotations of {kind.__name__} cannot be looked up: {error}: {where}") from None
    except Exception as error:
        raise TypeError(f"the annotations of {kind.__name__} cannot be looked up: {error}") from None
