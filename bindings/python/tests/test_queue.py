"""Messages in and out."""

import dataclasses
import datetime
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any, Literal

import libmq
import pytest
from conftest import LONG


def test_a_message_comes_out_as_it_went_in(broker: libmq.Broker) -> None:
    bodies: list[Any] = [{"a": [1, 2.5, None, True, "ü"]}, "text", 7, None, [], b"\x00\xff", b""]
    for body in bodies:
        receipt = broker.enqueue("q", body)
        delivery = broker.receive("q", timeout=0)
        assert delivery is not None
        assert delivery.body == body
        assert delivery.id == receipt.id
        delivery.ack()


def test_bytes_are_octets_and_all_else_is_json(broker: libmq.Broker) -> None:
    for body, raw, content_type in (
        (b"x", b"x", "application/octet-stream"),
        (bytearray(b"y"), b"y", "application/octet-stream"),
        (memoryview(b"abc")[::2], b"ac", "application/octet-stream"),
        ({"k": "v"}, b'{"k":"v"}', "application/json"),
        ("x", b'"x"', "application/json"),
    ):
        broker.enqueue("q", body)
        delivery = broker.receive("q", timeout=0)
        assert delivery is not None
        assert (delivery.raw, delivery.content_type) == (raw, content_type)
        delivery.ack()


def test_a_dataclass_is_an_object(broker: libmq.Broker) -> None:
    @dataclasses.dataclass
    class Line:
        sku: str
        count: int

    @dataclasses.dataclass
    class Order:
        id: str
        lines: list[Line]

    broker.enqueue("q", Order("A", [Line("x", 2)]))
    delivery = broker.receive("q", timeout=0)
    assert delivery is not None
    assert delivery.body == {"id": "A", "lines": [{"sku": "x", "count": 2}]}


def test_a_delivery_says_all_about_its_message(broker: libmq.Broker) -> None:
    before = datetime.datetime.now(datetime.UTC)
    broker.enqueue(
        "q",
        b"x",
        correlation_id="c",
        headers={"traceparent": "t", "a": "b"},
        content_type="text/plain",
        dedup_key="k",
        dedup="keep",
        delay=0,
        durability="os",
        priority=0,
    )
    delivery = broker.receive("q", timeout=0, lease=60)
    assert delivery is not None
    assert delivery.queue == "q"
    assert delivery.attempt == 1
    assert delivery.max_retries == 5
    assert delivery.token > 0
    assert delivery.headers == {"traceparent": "t", "a": "b"}
    assert delivery.content_type == "text/plain"
    assert delivery.correlation_id == "c"
    assert delivery.enqueued_at.tzinfo is datetime.UTC
    assert abs(delivery.enqueued_at - before) < datetime.timedelta(seconds=20)
    assert datetime.timedelta(seconds=40) < delivery.deadline - before < datetime.timedelta(seconds=80)
    delivery.ack()
    assert delivery.body == b"x", "readable after it was settled"


def test_a_receipt_is_matched_by_place_for_types_too(broker: libmq.Broker) -> None:
    """`mypy` over this is half of the test: it knew of no places."""
    match broker.enqueue("q", 1):
        case libmq.Receipt(id, status):
            number: int = id
            said: Literal["accepted", "replaced", "duplicate"] = status
            assert (number > 0, said) == (True, "accepted")


def test_a_key_replaces_or_keeps(broker: libmq.Broker) -> None:
    first = broker.enqueue("q", 1, dedup_key="k")
    assert first.status == "accepted"
    assert broker.enqueue("q", 2, dedup_key="k") == broker.enqueue("q", 3, dedup_key="k")
    kept = broker.enqueue("q", 4, dedup_key="k", dedup="keep")
    assert (kept.id, kept.status) == (first.id, "duplicate")
    match kept:
        case libmq.Receipt(id, status):
            assert (id, status) == (first.id, "duplicate")


def test_a_batch_is_one_commit_with_receipts_in_order(broker: libmq.Broker) -> None:
    receipts = broker.enqueue_many(
        "q", iter([{"n": 1}, libmq.Message({"n": 2}, dedup_key="k"), libmq.Message(b"3", dedup_key="k")])
    )
    assert [receipt.status for receipt in receipts] == ["accepted", "accepted", "replaced"]
    assert receipts[0].id < receipts[1].id == receipts[2].id
    bodies = [delivery.body for delivery in broker.receive_many("q", 10, timeout=0)]
    assert bodies == [{"n": 1}, b"3"]
    assert broker.enqueue_many("q", []) == []


def test_the_items_of_a_batch_are_those_that_its_iterator_tells(broker: libmq.Broker) -> None:
    class Backwards(list[int]):
        def __iter__(self) -> Iterator[int]:
            return reversed(self)

    items = [1, 2]
    broker.enqueue_many("q", items)
    broker.enqueue_many("q", Backwards([3, 4]))
    broker.enqueue_many("q", (5, 6))
    broker.enqueue_many("q", iter([7, 8]))
    assert items == [1, 2]
    assert [delivery.body for delivery in broker.receive_many("q", 10, 0)] == [1, 2, 4, 3, 5, 6, 7, 8]


def test_the_receipts_of_a_batch_are_no_work_for_the_collector(broker: libmq.Broker) -> None:
    """It looked at each of them, which took a fifth of the call."""
    receipts = broker.enqueue_many("q", range(10_000))
    assert not any(gc.is_tracked(receipt) for receipt in receipts)


def test_what_a_batch_refuses_it_refuses_whole(broker: libmq.Broker) -> None:
    for bad, error in (
        ([1, 2j], TypeError),
        ([1, float("inf")], libmq.InvalidError),
        (
            [1, libmq.Message(2, run_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=4000))],
            libmq.InvalidError,
        ),
        (7, TypeError),
        ("text", TypeError),
        (b"bytes", TypeError),
        ({"a": 1}, TypeError),
        ([0] * 10_001, libmq.InvalidError),
    ):
        with pytest.raises(error):
            broker.enqueue_many("q", bad)  # type: ignore[arg-type]
    assert broker.metrics().enqueued == 0


def test_with_a_delivery_acks_or_fails_as_the_block_does(broker: libmq.Broker) -> None:
    def ended(raised: BaseException | None) -> str:
        broker.enqueue("q", 1)
        try:
            with broker.receive("q", timeout=0) as delivery:  # type: ignore[union-attr]
                assert delivery.body == 1
                if raised is not None:
                    raise raised
        except BaseException as error:
            assert error is raised
        figures = broker.metrics()
        taken = broker.receive("q", timeout=0)
        if taken is not None:
            taken.ack()
        return f"{figures.acked} {figures.retried} {figures.rejected} {figures.released}"

    assert ended(None) == "1 0 0 0"
    assert ended(ValueError("no")) == "1 1 0 0"
    assert ended(libmq.Retry(delay=0)) == "2 2 0 0"
    assert ended(libmq.Reject("bad")) == "3 2 1 0"
    assert ended(libmq.Release()) == "3 2 1 1"
    assert ended(KeyboardInterrupt()) == "4 3 1 1"


def test_what_was_settled_in_the_block_stays_so(broker: libmq.Broker) -> None:
    broker.enqueue("q", 1)
    with broker.receive("q", timeout=0) as delivery:  # type: ignore[union-attr]
        delivery.reject("by hand")
    assert [letter.reason for letter in broker.dead_letters.list()] == ["by hand"]
    with pytest.raises(libmq.StaleLeaseError):
        delivery.ack()


def test_children_come_with_the_ack_or_not_at_all(broker: libmq.Broker) -> None:
    broker.enqueue("q", 1, correlation_id="c")
    delivery = broker.receive("q", timeout=0)
    assert delivery is not None
    delivery.enqueue("child", {"of": 1})
    assert broker.receive("child", timeout=0) is None
    delivery.ack()
    child = broker.receive("child", timeout=0)
    assert child is not None
    assert (child.body, child.correlation_id) == ({"of": 1}, "c")


def test_a_delivery_that_is_garbage_is_not_settled(broker: libmq.Broker) -> None:
    broker.enqueue("q", 1)
    delivery = broker.receive("q", timeout=0, lease=1)
    assert delivery is not None
    del delivery
    gc.collect()
    assert broker.metrics().in_flight == 1
    again = broker.receive("q", timeout=20)
    assert again is not None
    assert again.attempt == 2


def test_what_is_written_in_json_is_json(broker: libmq.Broker) -> None:
    """A body of a type `+json` was bytes here, and JSON in Node."""
    types = ["application/vnd.api+json", "Application/Problem+JSON; charset=utf-8", "application/json"]
    others = ["text/plain", "text/x+json", "application/json5", "application/jsonx", "application/octet-stream"]
    for content_type in types + others:
        broker.enqueue("q", b'{"a":1}', content_type=content_type)
        with pytest.raises(libmq.Reject), broker.receive("q", timeout=0) as delivery:  # type: ignore[union-attr]
            assert delivery.body == ({"a": 1} if content_type in types else b'{"a":1}'), content_type
            raise libmq.Reject
    for letter in broker.dead_letters.list():
        assert letter.body == ({"a": 1} if letter.content_type in types else letter.raw), letter.content_type


def test_a_body_that_does_not_decode_says_so(broker: libmq.Broker) -> None:
    broker.enqueue("q", b"{", content_type="application/json; charset=utf-8")
    with pytest.raises(libmq.DecodeError), broker.receive("q", timeout=0) as delivery:  # type: ignore[union-attr]
        assert delivery.raw == b"{"
        delivery.body  # noqa: B018
    (letter,) = broker.dead_letters.list()
    assert (letter.reason, letter.raw) == ("decode", b"{")
    assert "not" in letter.error


def test_a_delivery_is_not_rejected_for_the_body_of_another(broker: libmq.Broker) -> None:
    """What did not decode within its `with` sent it to the dead letters, whosever body that was."""
    broker.enqueue("q", 1)
    broker.enqueue("bad", b"{", content_type="application/json")
    bad = broker.receive("bad", timeout=0)
    with pytest.raises(libmq.DecodeError), broker.receive("q", timeout=0):  # type: ignore[union-attr]
        bad.body  # type: ignore[union-attr]  # noqa: B018
    again = broker.receive("q", timeout=0)
    assert again is not None
    assert again.attempt == 2
    assert len(broker.dead_letters) == 0


def test_dead_letters_are_looked_at_replayed_and_purged(broker: libmq.Broker) -> None:
    ids = [receipt.id for receipt in broker.enqueue_many("q", [1, 2, 3])]
    broker.enqueue("other", 4)
    for queue in ("q", "q", "q", "other"):
        delivery = broker.receive(queue, timeout=0)
        assert delivery is not None
        delivery.reject("no good")
    letters = broker.dead_letters
    assert len(letters) == 4
    assert [letter.id for letter in letters.list("q")] == ids
    assert [letter.id for letter in letters.list("q", limit=1, after=ids[0])] == [ids[1]]
    letter = letters.get(ids[0])
    assert letter is not None
    assert (letter.queue, letter.body, letter.reason, letter.attempts) == ("q", 1, "no good", 1)
    assert letter.failed_at.tzinfo is datetime.UTC
    assert letters.replay(ids[0]).status == "accepted"
    with pytest.raises(libmq.NotFoundError) as raised:
        letters.replay(ids[0])
    assert isinstance(raised.value, LookupError)
    assert letters.replay_all("q") == 2
    assert letters.purge() == 1
    assert (len(letters), letters.get(ids[0])) == (0, None)


def test_a_manual_clock_moves_by_advance() -> None:
    with libmq.open(":memory:", clock="manual") as broker:
        broker.enqueue("q", 1, delay=datetime.timedelta(hours=1))
        assert broker.receive("q", timeout=0) is None
        broker.advance(3600)
        assert broker.receive("q", timeout=0) is not None


def test_run_at_in_the_past_is_now(broker: libmq.Broker) -> None:
    for moment in (datetime.datetime(1800, 1, 1, tzinfo=datetime.UTC), datetime.datetime.now(datetime.UTC)):
        broker.enqueue("q", 1, run_at=moment)
        assert broker.receive("q", timeout=0) is not None
    broker.enqueue("q", 1, run_at=datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1))
    assert broker.receive("q", timeout=0) is None


def test_a_receive_waits_for_a_message(broker: libmq.Broker) -> None:
    threading.Timer(0.05, lambda: broker.enqueue("q", 1)).start()
    delivery = broker.receive("q", timeout=20)
    assert delivery is not None


def test_figures_are_there_for_the_broker_and_each_queue(broker: libmq.Broker) -> None:
    broker.enqueue("a", 1)
    broker.enqueue("b", 1)
    figures = broker.metrics()
    assert (figures.ready, figures.queues["a"].ready, figures.enqueued) == (2, 1, 2)
    assert figures.lsn.shown >= figures.lsn.durable > 0
    assert figures.memory_bytes > 0
    assert broker.recovery.messages == 0
    assert broker.recovery.snapshot is None


def test_dead_letters_keep_their_broker_as_it_is() -> None:
    """The broker was garbage, and its handlers gone, but it stayed open all the same."""
    handled = threading.Event()
    broker = libmq.open(":memory:", default_max_retries=0)
    broker.enqueue("q", 1)
    delivery = broker.receive("q", 0)
    assert delivery is not None
    delivery.reject("no")
    broker.handler("q", lambda body: handled.set())
    broker.start()
    letters, itself = broker.dead_letters, weakref.ref(broker)
    (letter,) = letters.list()
    del broker, delivery
    gc.collect()
    assert itself() is not None
    letters.replay(letter.id)
    assert handled.wait(LONG)
    itself().stop()  # type: ignore[union-attr]
    del letters
    gc.collect()
    assert itself() is None


@pytest.mark.parametrize("is_async", [False, True])
def test_a_broker_that_was_started_is_kept_until_it_is_stopped(is_async: bool) -> None:
    """It was garbage where its handlers did not refer to it, and what was delayed was handled by nobody."""
    handled = threading.Event()

    def handle(body: int) -> None:
        handled.set()

    async def ahandle(body: int) -> None:
        handled.set()

    def started() -> "weakref.ref[libmq.Broker]":
        broker = libmq.open(":memory:")
        broker.handler("q", ahandle if is_async else handle)
        broker.start()
        broker.enqueue("q", 1, delay=0.1)
        return weakref.ref(broker)

    for end in (libmq.Broker.stop, libmq.Broker.close):
        broker = started()
        gc.collect()
        assert handled.wait(LONG)
        handled.clear()
        end(broker())  # type: ignore[arg-type]
        gc.collect()
        assert broker() is None


def test_a_delivery_keeps_its_broker() -> None:
    """What was received of a broker that nobody else had could not be settled: it was closed under it."""

    def received() -> libmq.Delivery:
        broker = libmq.open(":memory:")
        broker.enqueue_many("q", [1, 2])
        (delivery,) = broker.receive_many("q", 1, timeout=0)
        return delivery

    delivery = received()
    gc.collect()
    assert delivery.body == 1
    delivery.enqueue("q", 3)
    delivery.ack()
