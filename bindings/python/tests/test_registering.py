"""Registering a handler: which of its parameters is the body, and what is refused at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Optional

import libmq
import pytest
from conftest import LONG

if TYPE_CHECKING:
    from libmq import Context


def called_with(broker: libmq.Broker, handler: Callable[..., Any], body: object) -> None:
    broker.handler("q", handler)
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    assert [letter.error for letter in broker.dead_letters.list()] == []


def test_a_parameter_with_a_default_is_the_body_if_it_is_the_one_left(broker: libmq.Broker) -> None:
    """It kept its default: the handler was called with None, the message was acked, and its body was gone."""
    seen: list[Any] = []

    def optional(order: dict[str, int] | None = None) -> None:
        seen.append(order)

    def after_ctx(ctx: Any, order: Any = None) -> None:
        seen.append(order)

    def by_name(*, order: Any = None) -> None:
        seen.append(order)

    def with_more(order: Any = None, *, times: int = 7) -> None:
        seen.append((order, times))

    def with_others(order: Any = None, *others: Any, times: int = 7) -> None:
        seen.append((order, others, times))

    def beside_one_without(order: Any, times: int = 7) -> None:
        seen.append((order, times))

    def others(*others: Any, times: int = 7) -> None:
        seen.append((others, times))

    body = {"id": 1}
    for handler, expected in (
        (optional, body),
        (after_ctx, body),
        (by_name, body),
        (with_more, (body, 7)),
        (with_others, (body, (), 7)),
        (beside_one_without, (body, 7)),
        (others, ((body,), 7)),
    ):
        seen.clear()
        called_with(broker, handler, body)
        assert seen == [expected], handler


def test_two_parameters_that_could_be_the_body_are_refused(broker: libmq.Broker) -> None:
    def both(order: Any = None, times: int = 7) -> None: ...

    def both_by_name(*, order: Any = None, times: int = 7) -> None: ...

    for handler in (both, both_by_name):
        with pytest.raises(TypeError, match="two parameters for the body, order and times"):
            broker.handler("q", handler)


def test_what_only_takes_names_takes_no_body(broker: libmq.Broker) -> None:
    """It was called with nothing, and the message was acked."""

    def names(**order: Any) -> None: ...

    def names_and_ctx(ctx: Any, **order: Any) -> None: ...

    for handler in (names, names_and_ctx):
        with pytest.raises(TypeError, match=r"no parameter for the body, which \*\*order is not"):
            broker.handler("q", handler)


def test_an_optional_context_is_the_context(broker: libmq.Broker) -> None:
    """It was taken for a second body."""
    seen: list[Any] = []

    def known(order: Any, context: Optional[libmq.Context] = None) -> None:  # noqa: UP045
        seen.append((order, context.attempt if context else None))

    def known_union(order: Any, context: Annotated[libmq.Context | None, "it"]) -> None:
        seen.append((order, context.attempt if context else None))

    def unknown(order: Any, context: Context | None = None) -> None:
        seen.append((order, context.attempt if context else None))

    def unknown_optional(order: Any, context: Optional[Context]) -> None:  # noqa: UP045
        seen.append((order, context.attempt if context else None))

    for handler in (known, known_union, unknown, unknown_optional):
        seen.clear()
        called_with(broker, handler, "o")
        assert seen == [("o", 1)], handler


def test_an_annotation_that_cannot_be_looked_up_is_named_where_two_are_left(broker: libmq.Broker) -> None:
    """A dependency's class that only a function knows made its parameter a second body; nothing said why."""

    class Session:
        pass

    def handle(order: Any, session: Annotated[Session, libmq.Depends(Session)]) -> None: ...

    with pytest.raises(TypeError, match=r"'Annotated\[Session, .*' of session cannot be looked up"):
        broker.handler("q", handle)


def test_a_decorator_without_its_queue_is_refused_at_once(broker: libmq.Broker) -> None:
    """It made the function a decorator, and nothing was ever handled."""
    with pytest.raises(TypeError, match=r'@broker.handler\("orders"\)'):

        @broker.handler  # type: ignore[call-overload]
        def handle(order: Any) -> None: ...


def test_what_is_wrong_with_a_decorator_is_said_before_it_decorates(broker: libmq.Broker) -> None:
    wrong: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: broker.handler("bad queue!"), libmq.InvalidError),
        (lambda: broker.handler(7), TypeError),  # type: ignore[call-overload]
        (lambda: broker.handler("q", max_parallelism=0), libmq.InvalidError),
        (lambda: broker.handler("q", timeout="1"), TypeError),  # type: ignore[call-overload]
        (lambda: broker.handler("q", backoff=1), TypeError),  # type: ignore[call-overload]
        (lambda: broker.handler("q", scope="s"), TypeError),  # type: ignore[call-overload]
    ]
    for call, error in wrong:
        with pytest.raises(error):
            call()
    broker.close()
    with pytest.raises(libmq.ClosedError):
        broker.handler("q")


def test_an_object_with_handle_is_a_handler_for_types_too(broker: libmq.Broker) -> None:
    """It was called all right, and refused by every type checker: `mypy` over this is the test."""

    class Shipping:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def handle(self, order: int) -> None:
            self.seen.append(order)

    shipping: Shipping = broker.handler("q", Shipping())
    kind: type[Shipping] = broker.handler("r", Shipping)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    assert (shipping.seen, kind) == ([1], Shipping)


def test_what_is_annotated_with_a_duration_or_given_none_is_typed() -> None:
    lease: libmq.Duration = 1.5
    with libmq.open(":memory:", durability=None, capacity=None, lock_timeout=None, clock=None) as broker:
        assert broker.receive("q", timeout=0, lease=lease) is None
    assert libmq.__version__.count(".") == 2
