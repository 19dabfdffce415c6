# mypy: disable-error-code="misc,name-defined,call-arg,untyped-decorator"
"""Bodies of pydantic and msgspec: enqueued as they are, and validated where a handler asks for them."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, TypeVar

import libmq
import pytest
from conftest import LONG

pydantic = pytest.importorskip("pydantic")
msgspec = pytest.importorskip("msgspec")

Item = TypeVar("Item")


class Line(pydantic.BaseModel):
    sku: str
    price: Decimal
    count: int = pydantic.Field(1, gt=0)


class Order(pydantic.BaseModel):
    id: uuid.UUID = pydantic.Field(alias="orderId")
    at: datetime
    lines: list[Line] = pydantic.Field(default_factory=list)
    notes: dict[str, int] = pydantic.Field(default_factory=dict)
    parent: Order | None = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")
    at: datetime
    pair: tuple[int, int]


class Box(pydantic.BaseModel, Generic[Item]):
    item: Item


class Small(pydantic.BaseModel):
    name: str


class Large(pydantic.BaseModel):
    name: str
    more: int


@pydantic.dataclasses.dataclass
class Checked:
    count: int = pydantic.Field(gt=0)


class Address(msgspec.Struct, frozen=True):
    city: str
    zip: int | None = None


class Person(msgspec.Struct, rename="camel"):
    first_name: str
    born: datetime
    homes: dict[str, Address] = msgspec.field(default_factory=dict)


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True, forbid_unknown_fields=True):
    lives: int


class Anything(msgspec.Struct):
    item: Any


class Whatever(pydantic.RootModel[Any]):
    pass


@pydantic.dataclasses.dataclass
class Held:
    item: Any


class Part(pydantic.BaseModel):
    a: int


class Whole(Part):
    b: int


class Holds(pydantic.BaseModel):
    one: Part
    more: list[Part]
    named: dict[str, Part]


class HoldsWholes(pydantic.BaseModel):
    one: Whole
    more: list[Whole]
    named: dict[str, Whole]


class Renamed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    a: int = pydantic.Field(validation_alias="in_a", serialization_alias="out_a")
    b: int = pydantic.Field(validation_alias=pydantic.AliasChoices("x", "y"))
    c: Part | None = pydantic.Field(None, serialization_alias="out_c")


class Computed(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    a: int

    @pydantic.computed_field
    def twice(self) -> int:
        return 2 * self.a


class Text(pydantic.BaseModel):
    inner: pydantic.Json[dict[str, int]]


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", ser_json_bytes="base64", val_json_bytes="base64")
    raw: bytes
    left_out: int = pydantic.Field(5, exclude=True)
    made: list[int] = pydantic.Field(default_factory=list, exclude=True)


class Told(pydantic.BaseModel):
    password: pydantic.SecretStr

    @pydantic.field_serializer("password")
    def tell(self, password: pydantic.SecretStr) -> str:
        return str(password.get_secret_value())


def unwrapped(value: Any) -> Any:
    return Part(**value["part"]) if isinstance(value, dict) else value


class Wrapping(pydantic.BaseModel):
    one: Part
    other: Annotated[
        Part, pydantic.PlainSerializer(lambda part: {"part": {"a": part.a}}), pydantic.BeforeValidator(unwrapped)
    ]

    @pydantic.field_serializer("one")
    def wrap(self, one: Part) -> dict[str, Any]:
        return {"part": {"a": one.a}}

    @pydantic.field_validator("one", mode="before")
    @classmethod
    def unwrap(cls, value: Any) -> Any:
        return unwrapped(value)


class Login(pydantic.BaseModel):
    password: pydantic.SecretStr


class Parts(pydantic.RootModel[list[Part]]):
    pass


class Logins(pydantic.RootModel[list[Login]]):
    pass


class Vault(pydantic.BaseModel):
    secrets: dict[str, list[pydantic.SecretBytes]]


class Cached(pydantic.BaseModel):
    key: str
    cache: list[int] = pydantic.Field(default_factory=list, exclude=True)
    length: int = pydantic.Field(default_factory=lambda fields: len(fields["key"]), exclude=True)


class Within(pydantic.BaseModel):
    a: int = pydantic.Field(validation_alias=pydantic.AliasPath("all", 0))


@pydantic.dataclasses.dataclass
class Named:
    count: int = pydantic.Field(validation_alias="in_count", serialization_alias="out_count")


@dataclasses.dataclass
class Both:
    order: Order | None
    people: list[Person]


NOW = datetime(2026, 11, 27, 22, 15, tzinfo=UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
ORDER = Order(orderId=ID, at=NOW, lines=[Line(sku="a", price=Decimal("1.10"))], parent=Order(orderId=ID, at=NOW))
PERSON = Person("Ada", NOW, {"now": Address("Bern", 3000)})

FIT: list[tuple[Any, Any]] = [
    (Order, ORDER),
    (Order | None, ORDER),
    (list[Order], [ORDER]),
    (dict[str, Order], {"a": ORDER}),
    (Strict, Strict(at=NOW, pair=(1, 2))),
    (Box[int], Box[int](item=1)),
    (Small | Large, Large(name="a", more=1)),
    (Checked, Checked(1)),
    (Person, PERSON),
    (Person | None, PERSON),
    (tuple[Person, ...], (PERSON,)),
    (Cat | Dog, Dog(1)),
    (Both, Both(ORDER, [PERSON])),
    (Whole, Whole(a=1, b=2)),
    (Renamed, Renamed(in_a=1, x=2, c=Part(a=1))),
    (list[Renamed], [Renamed(in_a=1, y=2)]),
    (Named, Named(in_count=1)),
    (Computed, Computed(a=1)),
    (Text, Text(inner='{"a":1}')),
    (Open, Open(raw=b"\xff", more=[1, {"a": None}])),
    (Told, Told(password="pw")),
    (Wrapping, Wrapping(one=Part(a=1), other=Part(a=2))),
    (Box[str], Box[str](item="**********")),
    (Parts, Parts([Part(a=1)])),
]


def annotated(annotation: Any, seen: list[Any]) -> Any:
    def handle(body: Any) -> None:
        seen.append(body)

    handle.__annotations__["body"] = annotation
    return handle


@pytest.mark.parametrize(("annotation", "body"), FIT)
def test_a_model_comes_out_as_it_went_in(broker: libmq.Broker, annotation: Any, body: Any) -> None:
    seen: list[Any] = []
    broker.handler("q", annotated(annotation, seen), max_retries=0)
    broker.start()
    broker.enqueue("q", body)
    broker.enqueue_many("q", [libmq.Message(body)])
    assert broker.wait_idle(LONG)
    assert [letter.error for letter in broker.dead_letters.list()] == []
    assert seen == [body, body]
    assert type(seen[0]) is type(body)


def test_a_field_that_only_a_subclass_has_is_written_wherever_it_is(broker: libmq.Broker) -> None:
    """Pydantic writes what stands in a field as the class that this is annotated with, which knows less."""
    whole, seen = Whole(a=1, b=2), list[Any]()
    broker.handler("q", annotated(HoldsWholes, seen))
    broker.handler("part", annotated(Part, seen))
    broker.start()
    broker.enqueue("q", Holds(one=whole, more=[whole], named={"a": whole}))
    assert broker.wait_idle(LONG)
    broker.enqueue("part", whole)
    assert broker.wait_idle(LONG)
    assert seen == [HoldsWholes(one=whole, more=[whole], named={"a": whole}), Part(a=1)]


LOST: list[tuple[Any, type[Exception], str]] = [
    (Login(password=pydantic.SecretStr("a")), TypeError, "Login.password is a SecretStr, which is written as"),
    ([Logins([Login(password=pydantic.SecretStr("a"))])], TypeError, "Login.password is a SecretStr"),
    (Vault(secrets={"a": [b"a"]}), TypeError, "Vault.secrets is a SecretBytes, which is written as asterisks"),
    (Open(raw=b"", left_out=6), libmq.InvalidError, "Open.left_out is left out of what is written"),
    (Cached(key="a", cache=[1]), libmq.InvalidError, "Cached.cache is left out of what is written"),
    (Cached(key="a"), libmq.InvalidError, "Cached.length is left out of what is written"),
    (Within(all=[1]), TypeError, "Within.a is read from within another field"),
]


@pytest.mark.parametrize(("body", "error", "says"), LOST)
def test_what_would_be_lost_is_refused(broker: libmq.Broker, body: Any, error: type[Exception], says: str) -> None:
    """Secrets arrived as asterisks, and fields that are left out as their defaults."""
    for each in (body, {"in": [body]}, Both(body, [])):
        with pytest.raises(error, match=says):
            broker.enqueue("q", each)
    assert broker.metrics().enqueued == 0


ANYWHERE: dict[str, Callable[[Any], Any]] = {
    "a model": lambda value: Box[Any](item=value),
    "an array in it": lambda value: Box[Any](item=[{"a": value}]),
    "a model's extra field": lambda value: Open(raw=b"", more=value),
    "a model of one value": Whatever,
    "a dataclass of pydantic": lambda value: Held(value),
    "a Struct": Anything,
}


@pytest.mark.parametrize("place", ANYWHERE)
@pytest.mark.parametrize(
    ("value", "error"), [(math.nan, libmq.InvalidError), (-math.inf, libmq.InvalidError), (object(), TypeError)]
)
def test_what_json_does_not_have_is_refused_where_anything_may_stand(
    broker: libmq.Broker, place: str, value: Any, error: type[Exception]
) -> None:
    """NaN and Infinity arrived as None: pydantic writes null for them there. What it knows no form for was INVALID."""
    with pytest.raises(error):
        broker.enqueue("q", ANYWHERE[place](value))
    assert broker.metrics().enqueued == 0


def test_what_hides_in_an_extra_field_is_refused_too(broker: libmq.Broker) -> None:
    with pytest.raises(TypeError, match=r"Open\.token is a SecretStr, which is written as asterisks"):
        broker.enqueue("q", Open(raw=b"", token=pydantic.SecretStr("a")))


SECRET = "\nERROR forged"
ORDER_JSON = {"orderId": str(ID), "at": NOW.isoformat()}
PERSON_JSON = {"firstName": "Ada", "born": NOW.isoformat()}

UNFIT: list[tuple[Any, Any, str]] = [
    (Order, {"orderId": str(ID)}, "body.at: Field required"),
    (Order, ORDER_JSON | {"orderId": SECRET}, "body.orderId: Input should be a valid UUID"),
    (Order, ORDER_JSON | {"lines": [{"sku": 1, "price": "1", "count": 0}]}, "body.lines[0].sku: Input should be"),
    (Order, ORDER_JSON | {"notes": {SECRET: "b"}}, "body.notes.*: Input should be a valid integer"),
    (list[Order], [ORDER_JSON, 7], "body[1]: Input should be an object"),
    (Strict, {"at": NOW.isoformat(), "pair": [1, 2], SECRET: 1}, "body: Extra inputs are not permitted"),
    (Checked, {"count": 0}, "body.count: Input should be greater than 0"),
    (Order, b"raw", "not JSON, of which Order could be made, but bytes"),
    (Person, {"firstName": "Ada"}, "body: Object missing required field `born`"),
    (Person, {"firstName": "Ada", "born": SECRET}, "body.born: Invalid RFC3339 encoded datetime"),
    (
        Person,
        {"firstName": "Ada", "born": NOW.isoformat(), "homes": {SECRET: {"city": 1}}},
        "body.homes.*.city: Expected",
    ),
    (list[Dog], [{"type": "Dog", "lives": 1, SECRET: 1}], "body[0]: Object contains unknown field"),
    (Cat | Dog, {"type": SECRET, "lives": 1}, "body.type: Invalid value"),
]


@pytest.mark.parametrize(("annotation", "body", "says"), UNFIT)
def test_what_does_not_validate_is_a_dead_letter_that_says_where(
    broker: libmq.Broker, caplog: pytest.LogCaptureFixture, annotation: Any, body: Any, says: str
) -> None:
    seen: list[Any] = []
    broker.handler("q", annotated(annotation, seen))
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert (letter.reason, letter.attempts, seen) == ("decode", 1, [])
    assert says in letter.error
    assert "forged" not in f"{letter.error} {caplog.text}"


def test_a_field_that_a_model_does_not_have_is_its_own_affair(broker: libmq.Broker) -> None:
    seen: list[Any] = []
    broker.handler("small", annotated(Small, seen))
    broker.handler("address", annotated(Address, seen))
    broker.start()
    broker.enqueue("small", {"name": "a", "later": 1})
    broker.enqueue("address", {"city": "b", "later": 1})
    assert broker.wait_idle(LONG)
    assert len(seen) == 2
    assert Small(name="a") in seen
    assert Address("b") in seen


def test_a_union_that_its_library_cannot_tell_apart_is_refused(broker: libmq.Broker) -> None:
    with pytest.raises(TypeError, match="a body cannot be made into"):
        broker.handler("q", annotated(Address | Person, []))


def test_neither_library_is_loaded_by_libmq() -> None:
    program = "import sys, libmq; sys.exit(bool({'pydantic', 'msgspec'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
