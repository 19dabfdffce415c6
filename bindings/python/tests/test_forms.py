"""Bodies of more than JSON has: what they are written as, and that they are read again as they were."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections import namedtuple
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple, NewType
from zoneinfo import ZoneInfo

import libmq
import pytest
from conftest import LONG

UserId = NewType("UserId", uuid.UUID)


class Colour(enum.Enum):
    RED = "red"
    NONE = None
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    at: date | None = None


Pair = namedtuple("Pair", "a b")


@dataclasses.dataclass
class Event:
    at: datetime
    id: uuid.UUID
    price: Decimal
    colour: Colour
    took: timedelta = timedelta()
    where: Point | None = None
    by_day: dict[date, list[Point]] = dataclasses.field(default_factory=dict)


NOW = datetime(2026, 11, 27, 22, 15, 7, 123456, UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
EVENT = Event(NOW, ID, Decimal("1.10"), Colour.RED, timedelta(1, 2, 3), Point(1, NOW.date()), {NOW.date(): [Point(2)]})

EXACT: list[tuple[Any, object, str]] = [
    (datetime, NOW, '"2026-11-27T22:15:07.123456+00:00"'),
    (datetime, NOW.replace(tzinfo=None, microsecond=0), '"2026-11-27T22:15:07"'),
    (datetime, NOW.astimezone(timezone(timedelta(hours=5.5))), '"2026-11-28T03:45:07.123456+05:30"'),
    (datetime, NOW.astimezone(ZoneInfo("Europe/Zurich")), '"2026-11-27T23:15:07.123456+01:00"'),
    (date, date(2026, 11, 27), '"2026-11-27"'),
    (time, time(22, 15), '"22:15:00"'),
    (timedelta, timedelta(3, 4, 5), '"P3DT4.000005S"'),
    (timedelta, -timedelta(seconds=90), '"-P0DT90S"'),
    (timedelta, timedelta.max, '"P999999999DT86399.999999S"'),
    (timedelta, timedelta.min, '"-P999999999DT0S"'),
    (uuid.UUID, ID, '"12345678-1234-5678-1234-567812345678"'),
    (UserId, ID, '"12345678-1234-5678-1234-567812345678"'),
    (Decimal, Decimal("1.10"), '"1.10"'),
    (Decimal, Decimal("-1E+20"), '"-1E+20"'),
    (Colour, Colour.RED, '"red"'),
    (Colour, Colour.NONE, "null"),
    (Colour, Colour.PAIR, "[1,2]"),
    (Level, Level.LOW, "1"),
    (Word, Word.YES, '"yes"'),
    (Rights, Rights.READ | Rights.WRITE, "3"),
    (Literal[Colour.RED, 1], Colour.RED, '"red"'),
    (Point, Point(1), "[1,null]"),
    (Pair, Pair(1, "b"), '[1,"b"]'),
    (dict[int, str], {1: "a", -20: "b"}, '{"1":"a","-20":"b"}'),
    (dict[float, int], {1.5: 1, 1e30: 2}, '{"1.5":1,"1e+30":2}'),
    (dict[bool, int], {True: 1, False: 0}, '{"true":1,"false":0}'),
    (dict[None, int], {None: 1}, '{"null":1}'),
    (Mapping[UserId, Decimal], {ID: Decimal("0.1")}, '{"12345678-1234-5678-1234-567812345678":"0.1"}'),
    (dict[Colour, int], {Colour.RED: 1}, '{"red":1}'),
    (dict[Level, int], {Level.LOW: 1}, '{"1":1}'),
    (dict[date | int, int], {date(2026, 11, 27): 1, 7: 2}, '{"2026-11-27":1,"7":2}'),
    (dict[Literal["a", 1], int], {"a": 1, 1: 2}, '{"a":1,"1":2}'),
    (Path, Path("a/b"), '"a/b"'),
    (PureWindowsPath, PureWindowsPath("a/b"), '"a\\\\b"'),
    (dict[Path, int], {Path("/a"): 1}, '{"/a":1}'),
    (set[int], {3, 1, 2}, "[1,2,3]"),
    (frozenset[Colour], frozenset({Colour.RED}), '["red"]'),
    (dict[str, set[date]], {"a": {date(2026, 11, 27)}}, '{"a":["2026-11-27"]}'),
    (list[datetime | None], [NOW, None], '["2026-11-27T22:15:07.123456+00:00",null]'),
    (Event, EVENT, ""),
    (list[Event], [EVENT], ""),
]


@pytest.mark.parametrize(("annotation", "body", "written"), EXACT)
def test_what_is_more_than_json_has_comes_out_as_it_went_in(
    broker: libmq.Broker, annotation: Any, body: object, written: str
) -> None:
    """Neither could be enqueued, and no handler could ask for it."""
    seen: list[Any] = []

    def handle(body: Any, ctx: libmq.Context) -> None:
        seen.append((body, ctx.raw.decode(), ctx.content_type))

    handle.__annotations__["body"] = annotation
    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    assert [letter.error for letter in broker.dead_letters.list()] == []
    ((read, raw, content_type),) = seen
    assert read == body
    assert type(read) is type(body)
    assert content_type == "application/json"
    if written:
        assert raw == written


@pytest.mark.parametrize(
    ("annotation", "body", "says"),
    [
        (datetime, "2026-11-27", "a text that is not a moment"),
        (datetime, 1_700_000_000, "not a moment, but a number"),
        (date, "2026-11-27T00:00:00", "a text that is not a date"),
        (timedelta, "1 day", "a text that is not a duration"),
        (timedelta, "P1DT", "a text that is not a duration"),
        (timedelta, 7, "not a duration, but a number"),
        (uuid.UUID, "{12345678123456781234567812345678}", "a text that is not a UUID"),
        (Decimal, 0.1, "not a decimal in a text, but a number"),
        (Decimal, "NaN", "a text that is not a decimal"),
        (Decimal, "1_000", "a text that is not a decimal"),
        (Colour, "green", "not one of 'red', None, [1, 2]"),
        (Level, True, "not one of 1"),
        (Rights, 8, "a number that is no Rights"),
        (Point, {"x": 1}, "not an array of 2, as Point is, but an object"),
        (Point, [1, None, 3], "not an array of 2"),
        (dict[int, str], {"01": "a"}, "has a key that is not what it should be"),
        (dict[int, int], {"7": "secret"}, "body.*: not a whole number"),
    ],
)
def test_what_is_not_written_so_is_a_dead_letter(
    broker: libmq.Broker, annotation: Any, body: object, says: str
) -> None:
    def handle(body: Any) -> None:
        raise AssertionError("it was called")

    handle.__annotations__["body"] = annotation
    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", body)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert letter.reason == "decode"
    assert says in letter.error
    assert "secret" not in letter.error
