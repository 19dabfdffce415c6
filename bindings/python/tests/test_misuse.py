# What no type allows is what it is about.
# mypy: disable-error-code="misc,arg-type,assignment,call-arg,call-overload"
"""Every public call with what it must refuse: clearly, and before anything is changed."""

import asyncio
import dataclasses
import datetime
import decimal
import itertools
import math
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import pytest

NAIVE = datetime.datetime(2026, 1, 1)
CYCLE: list[Any] = []
CYCLE.append(CYCLE)
LOOP: dict[str, Any] = {}
LOOP["loop"] = [LOOP]


@dataclasses.dataclass
class Knot:
    end: Any = None


KNOT = Knot()
KNOT.end = {"end": KNOT}

BODIES: list[tuple[Any, type[Exception]]] = [
    (math.nan, libmq.InvalidError),
    ([math.inf], libmq.InvalidError),
    ({"a": -math.inf}, libmq.InvalidError),
    ("\ud800", libmq.InvalidError),
    ({"\udfff": 1}, libmq.InvalidError),
    (10**5000, libmq.InvalidError),
    (CYCLE, libmq.InvalidError),
    (LOOP, libmq.InvalidError),
    (KNOT, libmq.InvalidError),
    ({math.nan: 1}, libmq.InvalidError),
    ({1j, 2j}, TypeError),
    (object(), TypeError),
    ({(1, 2): 3}, TypeError),
    ({1: "a", "1": "b"}, libmq.InvalidError),
    ({"true": {"a": 1}, True: {}}, libmq.InvalidError),
    ([{"a": {None: 1, "null": 2}}], libmq.InvalidError),
    ({math.inf: 1, decimal.Decimal(1): 2}, libmq.InvalidError),
    (decimal.Decimal("NaN"), libmq.InvalidError),
    ({"a": b"bytes in JSON"}, TypeError),
    (libmq.Message(1), TypeError),
    (int, TypeError),
    (1j, TypeError),
]

QUEUES: list[tuple[Any, type[Exception]]] = [
    ("", libmq.InvalidError),
    ("q" * 129, libmq.InvalidError),
    ("q" * 1_000_000, libmq.InvalidError),
    ("a b", libmq.InvalidError),
    ("ü", libmq.InvalidError),
    ("a/b", libmq.InvalidError),
    ("a\0b", libmq.InvalidError),
    ("\ud800", libmq.InvalidError),
    (None, TypeError),
    (b"q", TypeError),
    (7, TypeError),
]

TEXTS: list[tuple[Any, type[Exception]]] = [
    ("", libmq.InvalidError),
    ("k" * 257, libmq.InvalidError),
    ("a\nb", libmq.InvalidError),
    ("\ud800", libmq.InvalidError),
    (b"k", TypeError),
    (1, TypeError),
]

DURATIONS: list[tuple[Any, type[Exception]]] = [
    (-1, libmq.InvalidError),
    (-0.001, libmq.InvalidError),
    (math.nan, libmq.InvalidError),
    (math.inf, libmq.InvalidError),
    (1e300, libmq.InvalidError),
    (10**400, libmq.InvalidError),
    (11 * 366 * 86400, libmq.InvalidError),
    (datetime.timedelta(seconds=-1), libmq.InvalidError),
    (datetime.timedelta.max, libmq.InvalidError),
    ("1", TypeError),
    (True, TypeError),
    (b"1", TypeError),
]

WHOLES: list[tuple[Any, type[Exception]]] = [
    (-1, libmq.InvalidError),
    (2**64, libmq.InvalidError),
    (10**5000, libmq.InvalidError),
    (1.5, TypeError),
    (1.0, TypeError),
    ("1", TypeError),
    (True, TypeError),
    (math.nan, TypeError),
]

WORDS: list[tuple[Any, type[Exception]]] = [
    ("", libmq.InvalidError),
    ("SYNC", libmq.InvalidError),
    ("\ud800", libmq.InvalidError),
    (1, TypeError),
]

HEADERS: list[tuple[Any, type[Exception]]] = [
    ({"": "v"}, libmq.InvalidError),
    ({"a b": "v"}, libmq.InvalidError),
    ({"h": "v" * 5000}, libmq.InvalidError),
    ({"h": "a\nb"}, libmq.InvalidError),
    ({"h": "\ud800"}, libmq.InvalidError),
    ({str(n): "v" for n in range(65)}, libmq.InvalidError),
    ({"h": 1}, TypeError),
    ({1: "v"}, TypeError),
    ([("h", "v")], TypeError),
    ("h", TypeError),
]

MOMENTS: list[tuple[Any, type[Exception]]] = [
    (NAIVE, libmq.InvalidError),
    (datetime.date(2026, 1, 1), TypeError),
    (1700000000, TypeError),
    ("2026-01-01", TypeError),
]

OPTIONS: dict[str, list[tuple[Any, type[Exception]]]] = {
    "dedup_key": TEXTS,
    "correlation_id": TEXTS,
    "content_type": TEXTS,
    "group": TEXTS,
    "dedup": WORDS,
    "durability": [*WORDS, ("memory", libmq.InvalidError)],
    "headers": HEADERS,
    "delay": DURATIONS,
    "expires_in": DURATIONS,
    "dedup_window": DURATIONS,
    "run_at": MOMENTS,
    "priority": [*WHOLES, (10, libmq.InvalidError), (256, libmq.InvalidError)],
}


def refused(error: type[Exception], call: Callable[[], object], what: object) -> None:
    shown = f"{type(what).__name__} {str(what)[:40]!r}" if not isinstance(what, int) else type(what).__name__
    try:
        call()
    except error as raised:
        assert not isinstance(raised, UnicodeError), f"{shown}: {raised!r}"
        if isinstance(raised, libmq.Error):
            assert raised.code == "INVALID", f"{shown}: {raised.code}"
            assert str(raised)
    except Exception as raised:
        pytest.fail(f"{shown} raised {raised!r} and not {error.__name__}")
    else:
        pytest.fail(f"{shown} was accepted")


@pytest.fixture
def delivery(broker: libmq.Broker) -> libmq.Delivery:
    broker.enqueue("held", 1)
    delivery = broker.receive("held", timeout=0)
    assert delivery is not None
    return delivery


def test_bodies(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    for body, error in BODIES:
        refused(error, lambda body=body: broker.enqueue("q", body), body)
        refused(error, lambda body=body: delivery.enqueue("q", body), body)
        if not isinstance(body, libmq.Message):
            refused(error, lambda body=body: broker.enqueue_many("q", [body]), body)
            refused(error, lambda body=body: broker.enqueue_many("q", [libmq.Message(body)]), body)
    delivery.ack()
    assert broker.metrics().enqueued == 1


def test_a_body_that_is_nested_deeply() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with libmq.open(":memory:") as broker:
        refused(libmq.InvalidError, lambda: broker.enqueue("q", deep), "nested")
        assert broker.metrics().enqueued == 0


FACTORS: list[tuple[Any, type[Exception]]] = [
    (math.nan, libmq.InvalidError),
    (math.inf, libmq.InvalidError),
    (-math.inf, libmq.InvalidError),
    (-1, libmq.InvalidError),
    (1e6, libmq.InvalidError),
    (10**400, libmq.InvalidError),
    ("1", TypeError),
    (True, TypeError),
]


def test_a_backoff_is_refused_where_it_is_made() -> None:
    """It was refused where it was used, and by the name of the option that it was given as."""
    backoff = libmq.Backoff
    for number, error in FACTORS:
        refused(error, lambda number=number: backoff.exponential(factor=number), ("factor", number))
        refused(error, lambda number=number: backoff.exponential(jitter=number), ("jitter", number))
    refused(libmq.InvalidError, lambda: backoff.exponential(factor=0.5), "factor")
    for duration, error in DURATIONS:
        refused(error, lambda duration=duration: backoff.exponential(base=duration), ("base", duration))
        refused(error, lambda duration=duration: backoff.exponential(cap=duration), ("cap", duration))
        refused(error, lambda duration=duration: backoff.fixed(duration), duration)
        refused(error, lambda duration=duration: backoff.steps(1, duration), duration)
    refused(libmq.InvalidError, lambda: backoff.steps(), "steps")
    refused(libmq.InvalidError, lambda: backoff.steps(*[1] * 1001), "steps")


def test_queues(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    for queue, error in QUEUES:
        for call in (
            lambda queue=queue: broker.enqueue(queue, 1),
            lambda queue=queue: broker.enqueue_many(queue, [1]),
            lambda queue=queue: broker.receive(queue, timeout=0),
            lambda queue=queue: broker.receive_many(queue, 1, timeout=0),
            lambda queue=queue: broker.handler(queue, print),
            lambda queue=queue: broker.handler(queue)(print),
            lambda queue=queue: delivery.enqueue(queue, 1),
        ):
            refused(error, call, queue)
        for of_letters in (broker.dead_letters.list, broker.dead_letters.replay_all, broker.dead_letters.purge):
            # None means all queues.
            if queue is not None:
                refused(error, lambda queue=queue, call=of_letters: call(queue), queue)
    assert list(broker.metrics().queues) == ["held"]


@pytest.mark.parametrize("option", OPTIONS)
def test_options_of_a_message(broker: libmq.Broker, delivery: libmq.Delivery, option: str) -> None:
    for value, error in OPTIONS[option]:
        given: dict[str, Any] = {option: value}
        refused(error, lambda given=given: broker.enqueue("q", 1, **given), value)
        refused(error, lambda given=given: delivery.enqueue("q", 1, **given), value)
        refused(error, lambda given=given: broker.enqueue_many("q", [libmq.Message(1, **given)]), value)
    assert broker.metrics().enqueued == 1


def test_a_message_names_its_option_when_it_is_made() -> None:
    with pytest.raises(TypeError, match="dedup_key"):
        libmq.Message(1, dedup_key=7)
    with pytest.raises(TypeError, match="color"):
        libmq.Message(1, color="red")
    with pytest.raises(TypeError):
        libmq.Message()


def test_a_message_refuses_its_options_when_it_is_made() -> None:
    """Some were refused by the batch that it came to, though its description said otherwise."""
    moment = datetime.datetime.now(datetime.UTC)
    bad: list[tuple[dict[str, Any], str]] = [
        ({"dedup_key": ""}, "dedup_key takes 1 to 256 bytes without control characters"),
        ({"dedup_key": "x" * 257}, "dedup_key takes 1 to 256 bytes without control characters"),
        ({"correlation_id": "a\0b"}, "correlation_id takes 1 to 256 bytes without control characters"),
        ({"content_type": ""}, "content_type takes 1 to 256 bytes without control characters"),
        ({"group": ""}, "group takes 1 to 256 bytes without control characters"),
        ({"headers": {"a b": "c"}}, "headers have a name that is not 1 to 64 of A-Z a-z 0-9 . _ -"),
        ({"headers": {f"h{number}": "" for number in range(65)}}, "headers are 65, but at most 64"),
        ({"delay": 1, "run_at": moment}, "delay and run_at exclude each other"),
        ({"expires_in": 0}, "expires_in is over before the message is due"),
        ({"expires_in": 1, "delay": 1}, "expires_in is over before the message is due"),
    ]
    for given, text in bad:
        with pytest.raises(libmq.InvalidError) as raised:
            libmq.Message(1, **given)
        assert str(raised.value) == text, given
    libmq.Message(1, expires_in=1, run_at=moment)
    libmq.Message(1, expires_in=1.001, delay=1)


def test_delay_and_run_at_exclude_each_other(broker: libmq.Broker) -> None:
    moment = datetime.datetime.now(datetime.UTC)
    refused(libmq.InvalidError, lambda: broker.enqueue("q", 1, delay=1, run_at=moment), "both")


def test_what_is_too_large() -> None:
    with libmq.open(":memory:", max_message_bytes=1000, max_batch_bytes=2000) as broker:
        for call in (
            lambda: broker.enqueue("q", b"x" * 1001),
            lambda: broker.enqueue("q", "x" * 999),
            lambda: broker.enqueue("q", b"x" * 998, headers={"a": "bc"}),
            lambda: broker.enqueue_many("q", [b"x" * 700] * 3),
        ):
            with pytest.raises(libmq.TooLargeError) as raised:
                call()
            assert (raised.value.code, raised.value.retryable) == ("TOO_LARGE", False)
        assert broker.metrics().enqueued == 0


def test_items_without_end_are_no_batch(broker: libmq.Broker) -> None:
    """They were all taken out, until there was no memory left."""
    taken = itertools.count()
    with pytest.raises(libmq.InvalidError):
        broker.enqueue_many("q", taken)
    assert next(taken) == 10_001
    assert len(broker.enqueue_many("q", itertools.islice(taken, 10_000))) == 10_000


def test_full() -> None:
    with libmq.open(":memory:", capacity=1, on_full="block", block_timeout=0.01) as broker:
        broker.enqueue("q", 1)
        for call in (lambda: broker.enqueue("q", 2), lambda: broker.enqueue_many("q", [2])):
            with pytest.raises(libmq.FullError) as raised:
                call()
            assert (raised.value.code, raised.value.retryable) == ("FULL", True)


def test_times_of_calls(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    for value, error in DURATIONS:
        calls: list[Callable[[Any], object]] = [
            lambda value: broker.receive("q", timeout=0, lease=value),
            lambda value: broker.receive_many("q", 1, timeout=0, lease=value),
            lambda value: broker.advance(value),
            lambda value: delivery.extend(value),
            lambda value: delivery.retry(value),
            lambda value: delivery.release(value),
            lambda value: libmq.Retry(value),
            lambda value: libmq.Release(value),
            lambda value: broker.receive("q", timeout=value),
            lambda value: broker.receive_many("q", 1, timeout=value),
            lambda value: broker.wait_idle(value),
            lambda value: broker.stop(value),
            lambda value: broker.close(value),
            lambda value: broker.run(stop_timeout=value),
        ]
        for call in calls:
            refused(error, lambda call=call, value=value: call(value), value)
    refused(libmq.InvalidError, lambda: broker.receive("q", timeout=0, lease=0), 0)
    refused(libmq.InvalidError, lambda: delivery.extend(24 * 3600 + 1), 0)
    delivery.ack()
    broker.enqueue("q", 1)


def test_other_arguments(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    letters = broker.dead_letters
    for value, error in WHOLES:
        for call in (
            lambda value=value: broker.receive_many("q", value, timeout=0),
            lambda value=value: letters.get(value),
            lambda value=value: letters.replay(value),
            lambda value=value: letters.list(limit=value),
            lambda value=value: letters.list(after=value),
        ):
            refused(error, call, value)
    refused(libmq.InvalidError, lambda: broker.receive_many("q", 0, timeout=0), 0)
    refused(libmq.InvalidError, lambda: broker.receive_many("q", 10_001, timeout=0), 0)
    bad: Any
    for bad in (7, b"q"):
        for call in (
            lambda bad=bad: letters.list(bad),
            lambda bad=bad: letters.replay_all(bad),
            lambda bad=bad: letters.purge(bad),
            lambda bad=bad: delivery.reject(bad),
            lambda bad=bad: delivery.retry(error=bad),
            lambda bad=bad: libmq.Reject(bad),
            lambda bad=bad: libmq.Retry(error=bad),
        ):
            refused(TypeError, call, bad)
    assert letters.list("no-such-queue") == []
    delivery.reject("\ud800 is not UTF-8, but a reason all the same")
    assert letters.list()[0].reason.endswith("all the same")
    broker.enqueue("q", 1)


def test_handlers(broker: libmq.Broker) -> None:
    def two(body: int, other: int) -> None: ...

    def two_contexts(ctx: libmq.Context, other: libmq.Context) -> None: ...

    handlers: list[Any] = [None, 7, "print", two, two_contexts, lambda a, b, c: None]
    for handler in handlers:
        refused(TypeError, lambda handler=handler: broker.handler("q", handler), handler)
        refused(TypeError, lambda handler=handler: broker.handler("q")(handler), handler)
    refused(TypeError, lambda: broker.handler("q", print, print), 0)
    refused(TypeError, lambda: broker.handler("q", print, color="red"), 0)
    table: dict[str, list[tuple[Any, type[Exception]]]] = {
        "max_parallelism": [*WHOLES, (0, libmq.InvalidError), (1025, libmq.InvalidError)],
        "min_parallelism": [*WHOLES, (2, libmq.InvalidError)],
        "max_retries": [*WHOLES, (1_000_001, libmq.InvalidError)],
        "timeout": [*DURATIONS, (0, libmq.InvalidError)],
        "cancel_grace": DURATIONS,
        "backoff": [(1, TypeError), ("1", TypeError)],
        "lease_extension_enabled": [(1, TypeError), ("yes", TypeError)],
    }
    for option, values in table.items():
        for value, error in values:
            given: dict[str, Any] = {option: value}
            refused(error, lambda given=given: broker.handler("q", print, **given), value)
    assert broker.metrics().parallelism == 0


def test_backoffs() -> None:
    for value, error in DURATIONS[:6] + DURATIONS[7:8] + DURATIONS[9:]:
        for call in (
            lambda value=value: libmq.Backoff.fixed(value),
            lambda value=value: libmq.Backoff.steps(1, value),
            lambda value=value: libmq.Backoff.exponential(base=value),
            lambda value=value: libmq.Backoff.exponential(cap=value),
        ):
            refused(error, call, value)
    refused(libmq.InvalidError, lambda: libmq.Backoff.steps(), 0)
    refused(TypeError, lambda: libmq.Backoff.exponential(factor="2"), 0)
    refused(TypeError, lambda: libmq.Backoff(), 0)
    assert libmq.Backoff.fixed(1) == libmq.Backoff.fixed(1.0) != libmq.Backoff.fixed(2)
    assert repr(libmq.Backoff.steps(1, 5)) == "Backoff.steps(1, 5)"


def test_options_of_a_broker(tmp_path: Path) -> None:
    table: dict[str, list[tuple[Any, type[Exception]]]] = {
        "durability": WORDS,
        "on_full": WORDS,
        "on_corruption": WORDS,
        "clock": WORDS,
        "capacity": [*WHOLES, (0, libmq.InvalidError), (2**31, libmq.InvalidError)],
        "max_bytes": WHOLES,
        "max_message_bytes": [*WHOLES, (2**31, libmq.InvalidError)],
        "max_batch_bytes": WHOLES,
        "max_dead_letters": WHOLES,
        "snapshot_threshold": WHOLES,
        "segment_bytes": [*WHOLES, (1, libmq.InvalidError)],
        "cache_bytes": WHOLES,
        "default_max_retries": WHOLES,
        "max_crashes": WHOLES,
        "block_timeout": DURATIONS,
        "snapshot_interval": DURATIONS,
        "sync_interval": DURATIONS,
        "default_timeout": DURATIONS,
        "lock_timeout": DURATIONS,
        "default_backoff": [(1, TypeError)],
    }
    for option, values in table.items():
        for value, error in values:
            given: dict[str, Any] = {option: value}
            refused(error, lambda given=given: libmq.open(tmp_path / "q", **given), value)
    with pytest.raises(TypeError, match="color"):
        libmq.open(tmp_path / "q", color="red")
    with pytest.raises(libmq.Error) as raised:
        libmq.open(tmp_path / "q", on_corruption="quarantine")
    assert raised.value.code == "UNSUPPORTED"
    assert not (tmp_path / "q").exists(), "nothing was made"


def test_paths(tmp_path: Path) -> None:
    bad: Any
    for bad in (None, 7, ["q"]):
        refused(TypeError, lambda bad=bad: libmq.open(bad), bad)
    refused(libmq.InvalidError, lambda: libmq.open(""), "")
    with pytest.raises((ValueError, libmq.Error)):
        libmq.open("a\0b")
    file = tmp_path / "file"
    file.write_text("not a directory")
    with pytest.raises(libmq.InvalidError) as raised:
        libmq.open(file)
    assert isinstance(raised.value, ValueError)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "diary.txt").write_text("mine")
    refused(libmq.InvalidError, lambda: libmq.open(tmp_path / "other"), "a directory of somebody else")
    with libmq.open(tmp_path / "q"):
        with pytest.raises(libmq.LockedError) as locked:
            libmq.open(str(tmp_path / "q"))
        assert locked.value.pid is not None
        assert locked.value.command
        assert locked.value.since is not None
        assert locked.value.since.tzinfo is datetime.UTC
        assert locked.value.retryable
        assert locked.value.path == str(tmp_path / "q")
        with pytest.raises(libmq.LockedError):
            libmq.verify(tmp_path / "q")
    for path in (tmp_path / "nothing", tmp_path / "other", file, ""):
        refused(libmq.InvalidError, lambda path=path: libmq.verify(path), path)
    refused(TypeError, lambda: libmq.verify(5), 5)
    assert not (tmp_path / "nothing").exists()


async def _async_handler(body: object) -> None: ...


def test_every_call_after_close(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    letters = broker.dead_letters
    broker.close()
    broker.close()
    calls: list[Callable[[], object]] = [
        lambda: broker.enqueue("q", 1),
        lambda: broker.enqueue_many("q", [1]),
        lambda: broker.receive("q"),
        lambda: broker.receive_many("q", 1),
        lambda: broker.handler("q", print),
        lambda: broker.handler("q", _async_handler),
        broker.start,
        broker.wait_idle,
        broker.run,
        broker.snapshot,
        lambda: broker.advance(1),
        broker.metrics,
        letters.list,
        lambda: letters.get(1),
        lambda: letters.replay(1),
        letters.replay_all,
        letters.purge,
        lambda: len(letters),
        lambda: broker.scale("q", 1),
        lambda: broker.pause("q"),
        lambda: broker.resume("q"),
        lambda: broker.cancel(1),
        lambda: broker.purge("q"),
        lambda: broker.backup("b"),
        broker.prometheus,
        lambda: broker.override(int, str),
        lambda: asyncio.run(broker.aenqueue("q", 1)),
        lambda: asyncio.run(broker.areceive("q")),
        lambda: asyncio.run(broker.arun()),
        delivery.ack,
        delivery.retry,
        lambda: delivery.reject("no"),
        delivery.release,
        lambda: delivery.extend(1),
        lambda: delivery.enqueue("q", 1),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(libmq.ClosedError) as raised:
            call()
        assert raised.value.code == "CLOSED", number
    assert (delivery.body, delivery.id > 0, broker.path) == (1, True, ":memory:")
    assert broker.recovery.messages == 0
    assert broker.dead_letters


def test_calls_on_a_queue(broker: libmq.Broker) -> None:
    broker.enqueue("q", 1)
    for number in (None, 1.0, True, "1"):
        refused(TypeError, lambda number=number: broker.scale("q", number), number)
        refused(TypeError, lambda number=number: broker.cancel(number), number)
    for number in (-1, 0, 1025, 1 << 70):
        refused(libmq.InvalidError, lambda number=number: broker.scale("q", number), number)
    refused(libmq.InvalidError, lambda: broker.cancel(-1), -1)
    with pytest.raises(libmq.NotFoundError, match="no handler"):
        broker.scale("q", 1)
    for call in (broker.pause, broker.resume, broker.purge):
        for queue in (None, 1, b"q"):
            refused(TypeError, lambda call=call, queue=queue: call(queue), queue)
        for name in ("", "a b", "q" * 129):
            refused(libmq.InvalidError, lambda call=call, name=name: call(name), name)
    for call in (broker.pause, broker.resume):
        with pytest.raises(libmq.NotFoundError, match="nobody"):
            call("nobody")
    assert broker.cancel(1 << 63) is False
    assert broker.purge("nobody") == 0
    assert broker.metrics().ready == 1
    assert broker.purge("q") == 1


def test_settling_twice(broker: libmq.Broker, delivery: libmq.Delivery) -> None:
    delivery.ack()
    for call in (
        delivery.ack,
        delivery.retry,
        lambda: delivery.reject("no"),
        delivery.release,
        lambda: delivery.extend(1),
        lambda: delivery.enqueue("q", 1),
    ):
        with pytest.raises(libmq.StaleLeaseError) as raised:
            call()
        assert raised.value.code == "STALE_LEASE"
    assert broker.metrics().acked == 1


def test_calls_from_many_threads(broker: libmq.Broker) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(50):
                broker.enqueue(f"q{number % 3}", number)
                delivery = broker.receive(f"q{number % 3}", timeout=20)
                assert delivery is not None
                delivery.ack()
                broker.metrics()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert broker.metrics().acked == 300


def test_a_close_ends_what_waits_in_other_threads() -> None:
    broker = libmq.open(":memory:", capacity=1, on_full="block")
    broker.enqueue("q", 1)
    ended: list[str] = []

    def waits(call: Callable[[], object]) -> None:
        try:
            call()
        except libmq.Error as error:
            ended.append(error.code)

    calls = (lambda: broker.receive("none"), lambda: broker.enqueue("q", 2), lambda: broker.receive_many("none", 3))
    threads = [threading.Thread(target=waits, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.1)
    broker.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert ended == ["CLOSED"] * 3


def test_async_with_closes() -> None:
    async def use() -> libmq.Broker:
        async with libmq.open(":memory:") as broker:
            broker.enqueue("q", 1)
            return broker

    broker = asyncio.run(use())
    with pytest.raises(libmq.ClosedError):
        broker.enqueue("q", 1)


def test_run_elsewhere_than_in_the_main_thread(broker: libmq.Broker) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            broker.run()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    assert isinstance(raised[0], libmq.InvalidError)


def test_errors_travel_between_processes() -> None:
    error = pickle.loads(pickle.dumps(_full()))
    assert (type(error), error.code, error.retryable) == (libmq.FullError, "FULL", True)


def _full() -> libmq.FullError:
    with libmq.open(":memory:", capacity=1) as broker:
        broker.enqueue("q", 1)
        with pytest.raises(libmq.FullError) as raised:
            broker.enqueue("q", 1)
        return raised.value


def test_what_nobody_makes_by_hand(broker: libmq.Broker) -> None:
    for kind in (libmq.Delivery, libmq.Context, libmq.Receipt, libmq.DeadLetter, libmq.DeadLetters):
        with pytest.raises(TypeError):
            kind()
    with pytest.raises(AttributeError):
        broker.enqueue("q", 1).id = 7


def test_a_closed_broker_is_not_entered(broker: libmq.Broker) -> None:
    """It was, and only what was called in there was refused."""
    broker.close()
    with pytest.raises(libmq.ClosedError), broker:
        pass

    async def enter() -> None:
        async with broker:
            pass

    with pytest.raises(libmq.ClosedError):
        asyncio.run(enter())


def test_a_broker_is_opened_by_open_alone() -> None:
    """Its class opened one as well, without a scope, a log or defaults."""
    calls: list[tuple[Any, ...]] = [(), (":memory:",), (":memory:", {})]
    for arguments in calls:
        with pytest.raises(TypeError, match=r"by libmq\.open"):
            libmq.Broker(*arguments)


def test_what_is_shown_of_dead_letters_and_overrides(broker: libmq.Broker) -> None:
    assert repr(broker.dead_letters) == "<libmq.DeadLetters of :memory:>"
    assert repr(broker.override(print, len)) == "<libmq.Override of print by len>"
