"""What is said of an argument that is wrong names it, and where in it the wrong is."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import libmq
import pytest
from conftest import LONG


@dataclasses.dataclass
class Order:
    id: str
    lines: list[Any] = dataclasses.field(default_factory=list)
    at: dataclasses.InitVar[int] = 0


class Handmade:
    pass


BODIES: list[tuple[object, str]] = [
    (Handmade(), "a body of type Handmade is neither bytes nor JSON"),
    ({"file": b"x"}, "body.file is of type bytes, which JSON does not have"),
    ({"a": [1, {"b": {2j}}]}, "body.a[1].b[0] is of type complex, which JSON does not have"),
    ({"a": [{(1, 2): 3}]}, "body.a[0] has a key of type tuple, which JSON does not have"),
    (Order("x", [{b"k": 1}]), "body.lines[0] has a key of type bytes, which JSON does not have"),
    (Order("x", [1, (2, b"y")]), "body.lines[1][1] is of type bytes, which JSON does not have"),
]


@pytest.mark.parametrize(("body", "text"), BODIES)
def test_a_body_that_is_no_json_says_where(broker: libmq.Broker, body: object, text: str) -> None:
    """Once bytes within a body were said to be neither bytes nor JSON."""
    with pytest.raises(TypeError) as raised:
        broker.enqueue("q", body)
    assert str(raised.value) == text


def test_a_batch_says_which_item_was_bad(broker: libmq.Broker) -> None:
    bad: list[tuple[object, type[Exception], str]] = [
        ({"file": b"x"}, TypeError, "items[3]: body.file is of type bytes, which JSON does not have"),
        (libmq.Message(Handmade()), TypeError, "items[3]: a body of type Handmade is neither bytes nor JSON"),
        (float("nan"), libmq.InvalidError, "items[3]: the body is not JSON: "),
        ("\ud800", libmq.InvalidError, "items[3]: the body has a lone surrogate, which is not UTF-8"),
    ]
    for item, error, text in bad:
        with pytest.raises(error) as raised:
            broker.enqueue_many("q", [1, 2, libmq.Message(3), item, 5])
        assert str(raised.value).startswith(text)
    late = libmq.Message(1, run_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=4000))
    for items in ([late], [late, 2]):
        with pytest.raises(libmq.InvalidError) as raised:
            broker.enqueue_many("q", items)
        assert str(raised.value) == "items[0]: run_at is more than ten years from now"
    assert broker.metrics().enqueued == 0


def test_an_option_that_is_wrong_is_named(broker: libmq.Broker) -> None:
    broker.handler("q", print)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: broker.scale("q", 0), "n is 0, but goes from 1 to 1024"),
        (lambda: broker.scale("q", 1025), "n is 1025, but goes from 1 to 1024"),
        (lambda: broker.scale("q", -1), "n is -1, but goes from 1 to 1024"),
        (lambda: broker.scale("q", 2**40), "n is 1099511627776, but goes from 1 to 1024"),
        (lambda: libmq.open(":memory:", capacity=-1), "capacity is -1, but goes from 1 to 1073741824"),
        (
            lambda: libmq.open(":memory:", capacity=2**70),
            "capacity is 1180591620717411303424, but goes from 1 to 1073741824",
        ),
        (lambda: broker.enqueue("q", 1, priority=300), "priority is 300, but goes from 0 to 9"),
        (
            lambda: libmq.Backoff.exponential(factor=10**400),
            "factor is a number of many digits, but goes from 1 to 1000",
        ),
        (lambda: libmq.Backoff.exponential(jitter=1.5), "jitter is 1.5, but goes from 0 to 1"),
        (lambda: broker.receive("q", 10**400), "timeout is a number of many digits, which is above ten years"),
        (lambda: broker.receive("q", 1e300), "timeout is 1e+300, which is above ten years"),
        (lambda: broker.receive("q", -(10**400)), "timeout is a number of many digits, which is below zero"),
        (lambda: broker.handler("q", print, timeout=-1), "timeout is -1, which is below zero"),
        (lambda: broker.receive("q", float("nan")), "timeout is nan, which is no number of seconds"),
        (lambda: libmq.open(":memory:", durability="abc"), "durability takes sync or os or memory"),  # type: ignore[arg-type]
        (lambda: libmq.Message(1, durability="abc"), "durability takes sync or os"),  # type: ignore[arg-type]
        (lambda: broker.enqueue("q", 1, durability="memory"), "durability takes sync or os"),  # type: ignore[arg-type]
    ]
    for call, text in calls:
        with pytest.raises(libmq.InvalidError) as raised:
            call()
        assert str(raised.value) == text


def test_a_retry_says_where_its_text_goes() -> None:
    with pytest.raises(TypeError) as raised:
        libmq.Retry("the wire is down")  # type: ignore[arg-type]
    assert str(raised.value) == "delay must be seconds or a timedelta, not str: a text is error="


def test_a_dataclass_without_a_field_says_which(broker: libmq.Broker) -> None:
    """Once it told of `__init__()` and its positional arguments."""

    def handle(order: Order) -> None:
        raise AssertionError

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", {"lines": []})
    assert broker.wait_idle(LONG)
    (dead,) = broker.dead_letters.list("q")
    assert (dead.reason, dead.error) == ("decode", "body: Order needs id")


def test_a_path_and_items_are_named() -> None:
    """What was said came from within, and named neither."""
    with pytest.raises(TypeError, match=r"^path must be a str, or what has one for a path, not bytes$"):
        libmq.open(b"queue-data")  # type: ignore[arg-type]
    with libmq.open(":memory:") as broker:
        for items in (None, 7, "abc", b"abc", {"a": 1}):
            with pytest.raises(TypeError, match=r"^items must be a list of bodies and messages, not "):
                broker.enqueue_many("q", items)  # type: ignore[arg-type]
        assert len(broker.enqueue_many("q", iter([1, 2]))) == 2


def test_two_keys_that_are_one_in_json_are_refused_by_their_place(broker: libmq.Broker) -> None:
    """One of them was lost: what was enqueued with two arrived with one."""
    for body, place in (
        ({1: "a", "1": "b"}, "body"),
        ({"a": [{True: 1, "true": 2}]}, "body.a[0]"),
        (Order("x", [{None: 1, "null": 2}]), "body.lines[0]"),
        ({1.5: 1, "1.5": 2}, "body"),
    ):
        with pytest.raises(libmq.InvalidError) as raised:
            broker.enqueue("q", body)
        assert str(raised.value) == f"{place} has two keys that are the same in JSON, one of them no text"
    # A text that looks like one, within another.
    broker.enqueue("q", {"1": '{"1":1,"1":2}', 2: {"2": 1}})


def test_a_flat_body_on_a_full_stack_is_not_said_to_be_nested(broker: libmq.Broker) -> None:
    """The stack was somebody else's, and the body was blamed."""
    broker.enqueue("q", [1])
    delivery = broker.receive("q", timeout=0)
    assert delivery is not None
    raised: list[BaseException] = []

    def deeper() -> None:
        with contextlib.suppress(RecursionError):
            deeper()
        bodies: list[object] = [{"a": [1]}, [[{}]]]
        for body in bodies:
            try:
                broker.enqueue("q", body)
            except (RecursionError, libmq.InvalidError) as error:
                raised.append(error)

    deeper()
    assert raised
    assert {type(error) for error in raised} == {RecursionError}
