"""Bodies that are read as a handler's annotation says, and annotations that no body can be read as."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, MutableSet, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import libmq
import pytest
from conftest import LONG

if TYPE_CHECKING:
    from decimal import Decimal as Nothing

Sku = NewType("Sku", str)
Item = TypeVar("Item")
Other = TypeVar("Other")


@dataclasses.dataclass
class Address:
    city: str
    zip: int | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    sku: Sku
    count: Annotated[int, "how many"] = 1
    price: float = 0.0


class Meta(TypedDict):
    source: str
    home: NotRequired[Address]


@dataclasses.dataclass
class Order:
    id: str
    to: Address
    lines: list[Line] = dataclasses.field(default_factory=list)
    notes: dict[str, list[Line]] = dataclasses.field(default_factory=dict)
    both: tuple[Line, bool] | None = None
    all: tuple[Line, ...] = ()
    meta: Meta | None = None
    state: Literal["new", "paid"] = "new"
    any: Any = None
    seen: Sequence[Mapping[str, int]] = ()
    total: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.total = sum(line.count for line in self.lines)
        if self.total > 100:
            raise ValueError("too many")


@dataclasses.dataclass
class Tree:
    name: str
    children: list[Tree] = dataclasses.field(default_factory=list)
    parent: Tree | None = None


@dataclasses.dataclass
class Computed:
    base: int
    factor: dataclasses.InitVar[int] = 2
    result: int = dataclasses.field(init=False)

    def __post_init__(self, factor: int) -> None:
        self.result = self.base * factor


@dataclasses.dataclass
class Street:
    street: str


@dataclasses.dataclass
class Door:
    street: str
    number: int


@dataclasses.dataclass
class Box(Generic[Item]):
    item: Item


@dataclasses.dataclass
class Crate(Box[Other], Generic[Other, Item]):
    more: list[Item] = dataclasses.field(default_factory=list)
    inner: Crate[Item, Other] | None = None


@dataclasses.dataclass
class Lines(Box[list[Line]]):
    count: int = 0


class Pair(NamedTuple, Generic[Item]):
    first: Item
    second: Item | None = None


class Named(TypedDict, Generic[Item]):
    item: Item
    other: NotRequired[list[Item]]


class Odd(enum.Enum):
    IT = b"bytes"


ORDER = Order(
    "1",
    Address("Bern", 3000),
    [Line(Sku("a"), 2, 1.5), Line(Sku("b"))],
    {"x": [Line(Sku("c"))]},
    (Line(Sku("d")), True),
    (Line(Sku("e")), Line(Sku("f"))),
    {"source": "web", "home": Address("Basel")},
    "paid",
    {"free": [1]},
    [{"a": 1}],
)
TREE = Tree("root", [Tree("leaf"), Tree("branch", [Tree("twig")])])

FIT: list[tuple[Any, Any, Any]] = [
    (Order, ORDER, ORDER),
    (Tree, TREE, TREE),
    (Computed, {"base": 2, "factor": 3}, Computed(2, 3)),
    (Computed, Computed(2), Computed(2)),
    (list[Line], [Line(Sku("a"))], [Line(Sku("a"))]),
    (dict[str, Address], {"a": Address("b")}, {"a": Address("b")}),
    (tuple[Address, int], (Address("b"), 1), (Address("b"), 1)),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple, [1], (1,)),
    (Address | None, None, None),
    (Address | None, {"city": "b"}, Address("b")),
    (Address | Line, {"sku": "s"}, Line(Sku("s"))),
    (list[Address] | Address, [{"city": "b"}], [Address("b")]),
    (Meta, {"source": "s", "more": 1}, {"source": "s", "more": 1}),
    (float, 1, 1.0),
    (int, 10**400, 10**400),
    (str, "s", "s"),
    (bool | int, True, True),
    (None, None, None),
    (list, [1], [1]),
    (dict, {"a": 1}, {"a": 1}),
    (Any, {"a": 1}, {"a": 1}),
    (object, [1], [1]),
    (Sku, "s", "s"),
    (Literal[1, "a"], "a", "a"),
    (bytes, b"raw", b"raw"),
    (bytes, [1], b"[1]"),
    (bytes | list[int], b"raw", b"raw"),
    (bytes | list[int], [1], [1]),
    (Box, {"item": [1]}, Box([1])),
    (Box[int], Box(1), Box(1)),
    (Box[Address], Box(Address("b")), Box(Address("b"))),
    (Box[Box[Line]] | None, Box(Box(Line(Sku("a")))), Box(Box(Line(Sku("a"))))),
    (Box[Annotated[list[Annotated[int, ["at least", 0]]], {}]], Box([1]), Box([1])),
    (Crate[Address, int], Crate(Address("b"), [1]), Crate(Address("b"), [1])),
    (Crate[Address, int], Crate(Address("b"), [], Crate(1, [])), Crate(Address("b"), [], Crate(1, []))),
    (Lines, Lines([Line(Sku("a"))]), Lines([Line(Sku("a"))])),
    (Pair[Address], Pair(Address("b")), Pair(Address("b"))),
    (Named[Address], {"item": Address("b")}, {"item": Address("b")}),
    (set[int], [1, 1, 2], {1, 2}),
    (AbstractSet[Sku], ["a"], frozenset({"a"})),
    (MutableSet[Sku], ["a"], {"a"}),
    (set, [1], {1}),
    (Address, {"city": "b", "more": 1}, Address("b")),
    (Order, {"id": "1", "to": {"city": "b", "more": 1}, "extra": {}}, Order("1", Address("b"))),
    (Address | Line, {"sku": "s", "more": 1}, Line(Sku("s"))),
    (Street | Door, Door("s", 7), Door("s", 7)),
    (Street | Door, {"street": "s", "number": 7, "more": 1}, Street("s")),
    (list[Street | Door], [Street("s"), Door("s", 7)], [Street("s"), Door("s", 7)]),
]

UNFIT: list[tuple[Any, Any, str]] = [
    (Order, {"id": "1", "to": {"city": "b", "zip": "3000"}}, "body.to.zip: not int | None, but a text"),
    (Order, {"id": "1", "to": {"city": 3}}, "body.to.city: not a text, but a number"),
    (Order, {"id": "1", "to": {"city": "b"}, "lines": [{"sku": "a"}, 7]}, "body.lines[1]: not an object"),
    (
        Order,
        {"id": "1", "to": {"city": "b"}, "lines": [{"sku": "a", "count": 1.5}]},
        "body.lines[0].count: not a whole",
    ),
    (Order, {"id": "1", "to": {"city": "b"}, "notes": {"x": [{"sku": None}]}}, "body.notes.*[0].sku: not a text"),
    (Order, {"id": "1", "to": {"city": "b"}, "meta": {"home": {}}}, "body.meta: "),
    (Order, {"id": "1", "to": {"city": "b"}, "state": "lost"}, "body.state: not one of 'new', 'paid'"),
    (Order, {"id": "1", "to": {"city": "b"}, "lines": [{"sku": "a", "count": 101}]}, "too many"),
    (Order, {"id": "1"}, "body: Order needs to"),
    (Order, b"raw", "not an object, of which Order could be made, but bytes"),
    (list[Line], {"sku": "a"}, "body: not an array, but an object"),
    (tuple[int, int], [1], "body: not an array of 2"),
    (Address | None, 3, "not "),
    (Address | Line, {"sku": 1}, "body.sku"),
    (Tree, {"name": "a", "children": [{"name": "b", "parent": {"name": 1}}]}, "body.children[0].parent.name"),
    (Meta, {}, "body: Meta needs source"),
    (int, True, "not a whole number, but a bool"),
    (int, 1.0, "not a whole number"),
    (float, 10**400, "too large"),
    (float, "1", "not a number"),
    (bool, 1, "not true or false"),
    (str, b"raw", "not a text, but bytes"),
    (None, 1, "not null"),
    (Literal[1], True, "not one of 1"),
    (dict[str, int], [], "not an object"),
    (Box[int], {"item": "a"}, "body.item: not a whole number, but a text"),
    (Crate[int, str], {"item": 1, "inner": {"item": 2}}, "body.inner.item: not a text, but a number"),
    (Lines, {"item": [{"sku": 1}]}, "body.item[0].sku: not a text"),
    (Pair[int], [1, "a"], "body[1]: not "),
    (Named[int], {"item": 1, "other": ["a"]}, "body.other[0]: not a whole number"),
    (set[int], ["a"], "body[0]: not a whole number"),
    (set[list[int]], [[1]], "an array of what no set can hold"),
    (Path, 1, "not a path, but a number"),
]

REFUSED: list[Any] = [
    dict[tuple[int, int], str],
    dict[Address, str],
    dict[bytes, str],
    Box[complex],
    Odd,
    list[Odd],
    Literal[b"x"],
    complex,
    type,
    int.__add__,
    "Nowhere",
]


def annotated(annotation: Any, seen: list[Any]) -> Any:
    def handle(body: Any) -> None:
        seen.append(body)

    handle.__annotations__["body"] = annotation
    return handle


@pytest.mark.parametrize(("annotation", "body", "expected"), FIT)
def test_what_fits(broker: libmq.Broker, annotation: Any, body: Any, expected: Any) -> None:
    """What was nested in a dataclass, a list or an Optional was handed over as plain dicts."""
    seen: list[Any] = []
    broker.handler("q", annotated(annotation, seen), max_retries=0)
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    assert [letter.error for letter in broker.dead_letters.list()] == []
    assert seen == [expected]
    assert type(seen[0]) is type(expected)


@pytest.mark.parametrize(("annotation", "body", "says"), UNFIT)
def test_what_does_not_fit(broker: libmq.Broker, annotation: Any, body: Any, says: str) -> None:
    seen: list[Any] = []
    broker.handler("q", annotated(annotation, seen))
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert (letter.reason, letter.attempts, seen) == ("decode", 1, [])
    assert letter.error is not None
    assert says in letter.error


SECRET = "\nERROR forged"


@pytest.mark.parametrize(
    ("annotation", "body"),
    [
        (Address | Line, {"zip": "b", SECRET: 1}),
        (Address, {SECRET: "b"}),
        (dict[str, int], {SECRET: "b"}),
        (Meta, {"source": "b", SECRET: 1, "home": SECRET}),
        (Literal[1], SECRET),
        (list[int | None], [SECRET]),
    ],
)
def test_nothing_of_a_body_is_said_of_it(
    broker: libmq.Broker, caplog: pytest.LogCaptureFixture, annotation: Any, body: Any
) -> None:
    """Names of fields came into the log as they were: lines of their own, as long as a body may be."""
    broker.handler("q", annotated(annotation, []))
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert letter.reason == "decode"
    assert "forged" not in f"{letter.error} {caplog.text}"


def test_a_class_within_a_function_knows_itself_and_what_is_in_it(broker: libmq.Broker) -> None:
    """The error did not say what to do about a name that it does not know."""

    @dataclasses.dataclass
    class Node:
        @dataclasses.dataclass
        class Leaf:
            name: str

        leaf: Leaf
        next: Node | None = None

    @dataclasses.dataclass
    class Unknown:
        node: Node

    seen: list[Any] = []
    broker.handler("q", annotated(Node, seen))
    with pytest.raises(
        TypeError, match="of Unknown cannot be looked up: name 'Node' is not defined: what they name has"
    ):
        broker.handler("r", annotated(Unknown, seen))
    broker.start()
    broker.enqueue("q", Node(Node.Leaf("a"), Node(Node.Leaf("b"))))
    assert broker.wait_idle(LONG)
    assert seen == [Node(Node.Leaf("a"), Node(Node.Leaf("b")))]


def test_a_number_that_is_none_here_is_not_said(broker: libmq.Broker) -> None:
    broker.enqueue("q", b"[1, 7e999]", content_type="application/json")
    with pytest.raises(ValueError, match="a number is beyond the range of a float") as raised:
        _ = broker.receive("q", timeout=0).body  # type: ignore[union-attr]
    assert "7e999" not in str(raised.value)


@pytest.mark.parametrize("annotation", REFUSED)
def test_what_no_body_can_be_read_as(broker: libmq.Broker, annotation: Any) -> None:
    with pytest.raises(TypeError, match=r"it takes bytes|cannot be looked up|that is no JSON"):
        broker.handler("q", annotated(annotation, []))


@dataclasses.dataclass
class Raw:
    body: bytes


@pytest.mark.parametrize("annotation", [Raw, list[bytes], dict[str, bytes], tuple[int, bytes], tuple[bytes, ...]])
def test_what_has_bytes_in_it(broker: libmq.Broker, annotation: Any) -> None:
    """It was taken, and no body fitted."""
    with pytest.raises(TypeError, match="has bytes in it"):
        broker.handler("q", annotated(annotation, []))


def test_names_that_only_type_checkers_know(broker: libmq.Broker) -> None:
    """One of them took the others' annotations away."""
    seen: list[Any] = []

    def handle(order: Address, more: Nothing | None = None) -> Nothing | None:
        seen.append(order)
        return None

    def unknown(order: Nothing) -> None:
        pass

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", {"city": "b"})
    assert broker.wait_idle(LONG)
    assert seen == [Address("b")]
    with pytest.raises(TypeError, match="'Nothing' of the body cannot be looked up"):
        broker.handler("r", unknown)


def test_a_context_that_only_type_checkers_know(broker: libmq.Broker) -> None:
    seen: list[Any] = []

    def handle(order: Address, c: Context) -> None:  # type: ignore[name-defined]  # noqa: F821
        seen.append((order, c.attempt))

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", {"city": "b"})
    assert broker.wait_idle(LONG)
    assert seen == [(Address("b"), 1)]


def test_marks_of_others_in_an_annotation_may_be_anything(broker: libmq.Broker) -> None:
    """One that cannot be hashed was refused as an unhashable type."""

    def handle(body: Annotated[list[Annotated[int, ["at least", 0]]], {"title": "numbers"}]) -> None:
        handled.append(body)

    handled: list[list[int]] = []
    broker.handler("q", handle)
    broker.start()
    broker.enqueue_many("q", [[1, 2], ["a"]])
    assert broker.wait_idle(LONG)
    assert handled == [[1, 2]]
    assert [letter.reason for letter in broker.dead_letters.list()] == ["decode"]
