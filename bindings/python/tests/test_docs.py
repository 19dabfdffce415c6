"""What `help` shows of the native part: the same as the stub, which is what editors show."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import libmq
import pytest
from libmq import _native


def documented() -> Iterator[tuple[str, str | None, object]]:
    """Every public class, method and property of the stub, with what it says there, and what it is."""
    stub = ast.parse(Path(libmq.__file__).with_name("_native.pyi").read_text())
    for kind in stub.body:
        if isinstance(kind, ast.FunctionDef):
            yield kind.name, ast.get_docstring(kind), getattr(_native, kind.name)
        if not isinstance(kind, ast.ClassDef):
            continue
        made = getattr(_native, kind.name)
        yield kind.name, ast.get_docstring(kind), made
        for method in kind.body:
            if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                name = f"{kind.name}.{method.name}"
                yield name, ast.get_docstring(method), getattr(made, method.name)


def words(text: str | None) -> list[str] | None:
    return None if text is None else text.split()


def test_what_is_shown_is_what_the_stub_says() -> None:
    """Arguments, ranges and errors stood in the stub alone, so that `help` showed one line."""
    all_of_it = list(documented())
    assert len(all_of_it) > 100
    for name, said, what in all_of_it:
        assert said, name
        assert words(inspect.getdoc(what)) == words(said), name


@pytest.mark.parametrize("call", ["enqueue", "receive", "handler", "aenqueue", "run", "close"])
def test_a_call_shows_its_options(call: str) -> None:
    parameters = inspect.signature(getattr(libmq.Broker, call)).parameters
    assert not {"args", "kwargs", "options", "functions"} & set(parameters)
    assert (inspect.getdoc(getattr(libmq.Broker, call)) or "").count("\n") > 3


def test_defaults_are_shown_as_they_are() -> None:
    assert str(inspect.signature(libmq.DeadLetters.list)) == "(self, /, queue=None, limit=100, after=None)"
    assert str(inspect.signature(libmq.Delivery.release)) == "(self, /, delay=0)"
    assert str(inspect.signature(libmq.Backoff.exponential)) == "(base=1, factor=2, cap=600, jitter=1)"
