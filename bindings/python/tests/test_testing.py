"""What tests of programs have: a broker that can be looked into, run until idle, and handlers called one by one."""

import asyncio
import contextlib
import subprocess
import sys
import threading
import time
import typing
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import libmq
import pytest
from libmq import testing
from libmq._options import HandlerOptions, InMemoryOptions, OpenOptions


@dataclass
class Order:
    id: str
    items: list[str]


def test_the_fixture_is_a_broker_in_memory_whose_clock_stands_still(libmq_broker: testing.TestBroker) -> None:
    assert isinstance(libmq_broker, libmq.Broker)
    assert libmq_broker.path == ":memory:"
    libmq_broker.enqueue("q", 1, delay=0.001)
    time.sleep(0.01)
    assert libmq_broker.receive("q", 0) is None
    libmq_broker.advance(0.001)
    assert libmq_broker.receive("q", 0) is not None


def test_the_plugin_is_found_where_libmq_is_installed_and_closes_its_broker(tmp_path: Path) -> None:
    """As a program's own tests meet it: in a process that knows nothing of these ones."""
    tmp_path.joinpath("test_shop.py").write_text(
        "kept = []\n"
        "def test_first(libmq_broker):\n    kept.append(libmq_broker)\n    libmq_broker.enqueue('q', 1)\n"
        "def test_second(libmq_broker):\n    import libmq, pytest\n    assert not libmq_broker.metrics().queues\n"
        "    with pytest.raises(libmq.ClosedError):\n        kept[0].metrics()\n"
        "def test_third(libmq_broker):\n    libmq_broker.enqueue('q', {'id': 2})\n"
        "    libmq_broker.assert_enqueued('q', id=1)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "1 failed, 2 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "no message in q with id=1\nE" in ran.stdout
    assert "looking.py" not in ran.stdout, "the failure is shown in the test, and not in libmq"


@pytest.mark.parametrize("option", ["path", "durability", "clock"])
def test_what_makes_it_one_for_tests_cannot_be_chosen(option: str) -> None:
    with pytest.raises(TypeError, match=f"{option} cannot be given"):
        testing.open(**{option: "x"})  # type: ignore[arg-type]


def test_other_options_are_those_of_open() -> None:
    with testing.open(capacity=1) as broker:
        broker.enqueue("q", 1)
        with pytest.raises(libmq.FullError):
            broker.enqueue("q", 2)
    with pytest.raises(TypeError, match=r"libmq\.open got an unexpected keyword argument 'capacitty'"):
        testing.open(capacitty=1)  # type: ignore[call-arg]


def test_options_that_are_passed_on_have_the_types_of_those_that_take_them() -> None:
    """They were anything to a type checker."""
    taken = typing.get_type_hints(libmq.open)
    del taken["path"], taken["return"]
    assert typing.get_type_hints(OpenOptions) == taken
    del taken["durability"], taken["clock"]
    assert typing.get_type_hints(InMemoryOptions) == taken
    registered = typing.get_type_hints(libmq.Broker.handler)
    del registered["queue"], registered["function"], registered["return"]
    assert typing.get_type_hints(HandlerOptions) == registered


# What is there.


def test_a_message_is_found_by_fields_of_its_body(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.enqueue("orders", Order("a", ["pen"]), headers={"tenant": "t"}, correlation_id="c")
    libmq_broker.enqueue("orders", Order("b", ["ink"]))
    (found,) = libmq_broker.assert_enqueued("orders", id="a", items=("pen",))
    assert (found.body, found.headers, found.correlation_id) == ({"id": "a", "items": ["pen"]}, {"tenant": "t"}, "c")
    assert (found.queue, found.attempt, found.delayed) == ("orders", 1, False)
    libmq_broker.assert_enqueued("orders", items=mock.ANY, count=2)
    libmq_broker.assert_enqueued("orders", id="c", count=0)


def test_a_message_is_found_by_its_whole_body(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.enqueue("orders", Order("a", []))
    libmq_broker.enqueue("raw", b"\x00")
    libmq_broker.enqueue("raw", 7)
    libmq_broker.assert_enqueued("orders", Order("a", []), count=1)
    libmq_broker.assert_enqueued("orders", {"id": "a"}, count=0)
    libmq_broker.assert_enqueued("raw", b"\x00", count=1)
    libmq_broker.assert_enqueued("raw", 7, count=1)
    libmq_broker.assert_enqueued("raw", None, count=0)
    with pytest.raises(TypeError, match="one body"):
        libmq_broker.assert_enqueued("raw", 1, 2)


def test_a_field_may_be_called_as_what_is_looked_for(libmq_broker: testing.TestBroker) -> None:
    """A field `queue` was taken for a second queue."""
    libmq_broker.enqueue("q", {"queue": "z", "self": 1})
    assert len(libmq_broker.enqueued("q", queue="z")) == 1
    assert libmq_broker.enqueued("q", self=2) == []
    libmq_broker.assert_enqueued("q", queue="z", self=1)


def test_a_queue_that_there_cannot_be_is_not_looked_for(libmq_broker: testing.TestBroker) -> None:
    """With `count=0` a name that was mistyped was as good as any."""
    for look in (libmq_broker.enqueued, lambda queue: libmq_broker.assert_enqueued(queue, count=0)):
        with pytest.raises(libmq.InvalidError, match="queue"):
            look("or ders")
        with pytest.raises(TypeError, match="queue must be a str"):
            look(b"orders")  # type: ignore[arg-type]


def test_what_is_looked_at_is_as_it_was(libmq_broker: testing.TestBroker) -> None:
    """Neither an attempt nor an order nor a figure is changed by it."""
    for number in range(3):
        libmq_broker.enqueue("q", number, group="g")
    libmq_broker.enqueue("q", "later", delay=60)
    before = libmq_broker.metrics().queues
    for _ in range(2):
        assert [one.body for one in libmq_broker.enqueued("q")] == [0, 1, 2, "later"]
    assert libmq_broker.metrics().queues == before
    delivery = libmq_broker.receive("q", 0)
    assert delivery is not None
    assert (delivery.body, delivery.attempt) == (0, 1)


def test_nothing_is_logged_of_a_look(caplog: pytest.LogCaptureFixture) -> None:
    """The copy that is looked into was said to be opened and closed, among what a program's tests look for."""
    with caplog.at_level("DEBUG", "libmq"), testing.open() as broker:
        broker.enqueue("q", 1)
        broker.assert_enqueued("q", 1)
    assert any(record.getMessage().startswith("open ") for record in caplog.records), "what is real is logged"
    assert not [record for record in caplog.records if "libmq-testing" in record.getMessage()]


def test_what_waits_for_a_time_or_a_retry_is_there_and_said_to_be_delayed(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.enqueue("q", "soon", delay=60, expires_in=90)
    libmq_broker.enqueue("q", "in a year", delay=365 * 86400)
    libmq_broker.enqueue("q", "again")
    delivery = libmq_broker.receive("q", 0)
    assert delivery is not None
    delivery.retry(5)
    found = libmq_broker.enqueued("q")
    assert [(one.body, one.attempt, one.delayed) for one in found] == [
        ("again", 2, True),
        ("soon", 1, True),
        ("in a year", 1, True),
    ]


def test_a_failure_lists_what_is_there(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.enqueue("orders", {"id": 1, "text": "ä"})
    libmq_broker.enqueue("orders", b"\x00", delay=5, headers={"tenant": "t"})
    libmq_broker.enqueue("payments", "p")
    libmq_broker.enqueue("payments", "q")
    with pytest.raises(AssertionError) as failure:
        libmq_broker.assert_enqueued("orders", id=2)
    assert str(failure.value) == (
        "no message in orders with id=2\n"
        "orders has 2:\n"
        '  {"id": 1, "text": "ä"}\n'
        "  b'\\x00'  (delayed, headers {'tenant': 't'})\n"
        "elsewhere: payments 2"
    )
    with pytest.raises(AssertionError) as failure:
        libmq_broker.assert_enqueued("mails")
    assert str(failure.value) == "no message in mails\nmails has none\nelsewhere: orders 2, payments 2"
    with pytest.raises(AssertionError) as failure:
        libmq_broker.assert_enqueued("payments", "p", count=2)
    assert str(failure.value).startswith('1 and not 2 messages in payments with the body "p"\npayments has 2:\n')


def test_a_failure_is_of_a_bounded_length(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.enqueue_many("q", [{"text": "x" * 10_000}] * 100)
    with pytest.raises(AssertionError) as failure:
        libmq_broker.assert_enqueued("q", id=1)
    text = str(failure.value)
    assert len(text) < 5000
    assert "\n  and 80 more" in text


# Draining.


def test_a_drain_runs_what_is_due_and_what_comes_of_it(libmq_broker: testing.TestBroker) -> None:
    @libmq_broker.handler("orders")
    def order(body: dict[str, Any], ctx: libmq.Context) -> None:
        ctx.enqueue("payments", {"order": body["id"]})
        ctx.enqueue("mails", body["id"])

    paid = []
    libmq_broker.handler("payments", lambda body: paid.append(body["order"]))
    libmq_broker.enqueue_many("orders", [{"id": 1}, {"id": 2}])
    assert paid == [], "nothing runs by itself"
    drained = libmq_broker.drain()
    assert (drained.handled, drained.failed, drained.dead_letters, drained.advanced) == (4, 0, [], 0)
    assert sorted(paid) == [1, 2]
    libmq_broker.assert_enqueued("mails", count=2)
    libmq_broker.enqueue("orders", {"id": 3})
    libmq_broker.assert_enqueued("orders", count=1)
    assert libmq_broker.drain().handled == 2


def test_a_broker_that_was_started_stays_started_after_a_drain(libmq_broker: testing.TestBroker) -> None:
    ran = threading.Event()
    libmq_broker.handler("q", lambda body: ran.set() if body else None)
    libmq_broker.start()
    libmq_broker.enqueue("q", 0)
    assert libmq_broker.drain().handled in (0, 1)
    libmq_broker.enqueue("q", 1)
    assert ran.wait(20)


def test_what_is_not_due_waits_for_the_clock(libmq_broker: testing.TestBroker) -> None:
    seen = []
    libmq_broker.handler("q", lambda body: seen.append(body))
    libmq_broker.enqueue("q", "later", delay=60)
    libmq_broker.enqueue("unhandled", "never", delay=10_000)
    assert libmq_broker.drain().handled == 0
    assert libmq_broker.drain(advance=59).handled == 0
    assert libmq_broker.drain(advance=1).handled == 1
    assert libmq_broker.drain(advance=True).advanced == 0, "nobody handles what is left"
    assert seen == ["later"]


def test_a_failure_is_tried_again_only_where_the_clock_is_moved(libmq_broker: testing.TestBroker) -> None:
    attempts = []

    @libmq_broker.handler("q", max_retries=3, backoff=libmq.Backoff.steps(10, 100, 1000))
    def fail(ctx: libmq.Context) -> None:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    libmq_broker.enqueue("q", 1)
    drained = libmq_broker.drain()
    assert (drained.failed, attempts) == (1, [1])
    libmq_broker.assert_enqueued("q", 1, count=1)
    drained = libmq_broker.drain(advance=True)
    assert attempts == [1, 2, 3, 4]
    assert 1110 <= drained.advanced < 1110 * 1.07
    (letter,) = drained.dead_letters
    assert letter.reason == "max_retries"
    assert libmq_broker.drain(advance=True).dead_letters == []


def test_a_message_behind_one_of_its_group_that_waits_holds_up_no_drain(libmq_broker: testing.TestBroker) -> None:
    seen = []

    @libmq_broker.handler("q", backoff=libmq.Backoff.fixed(10))
    def handle(body: int, ctx: libmq.Context) -> None:
        if ctx.attempt == 1 and body == 0:
            raise libmq.Retry
        seen.append(body)

    libmq_broker.enqueue("q", 0, group="g")
    libmq_broker.enqueue("q", 1, group="g")
    assert libmq_broker.drain().handled == 0
    assert libmq_broker.drain(advance=True).handled == 2
    assert seen == [0, 1]


def test_an_async_handler_is_drained_without_a_loop(libmq_broker: testing.TestBroker) -> None:
    seen = []

    @libmq_broker.handler("q")
    async def handle(body: int) -> None:
        await asyncio.sleep(0)
        seen.append(body)

    libmq_broker.enqueue_many("q", [1, 2])
    assert libmq_broker.drain().handled == 2
    assert seen == [1, 2]


def test_an_async_handler_is_drained_on_the_loop_that_runs(libmq_broker: testing.TestBroker) -> None:
    loops = []

    @libmq_broker.handler("q")
    async def handle(body: int) -> None:
        await asyncio.sleep(0)
        loops.append(asyncio.get_running_loop())

    async def main() -> None:
        libmq_broker.enqueue("q", 1, delay=5)
        assert (await libmq_broker.adrain()).handled == 0
        assert (await libmq_broker.adrain(advance=5)).handled == 1
        assert loops == [asyncio.get_running_loop()]
        libmq_broker.enqueue("q", 1)
        await asyncio.sleep(0.05)
        assert len(loops) == 1, "nothing runs when it is over"

    asyncio.run(main())


@pytest.mark.parametrize("is_async", [False, True])
def test_a_handler_s_timeout_is_time_of_the_clock_that_stands_still(
    libmq_broker: testing.TestBroker, is_async: bool
) -> None:
    """A drain that moves the clock does so while nobody works; while one does, the test does."""
    entered, reasons = threading.Event(), list[str | None]()

    def handle(body: object, ctx: libmq.Context) -> None:
        entered.set()
        ctx.wait_cancelled(20)
        reasons.append(ctx.cancel_reason)
        ctx.raise_if_cancelled()

    async def ahandle(body: object, ctx: libmq.Context) -> None:
        entered.set()
        try:
            await asyncio.sleep(20)
        finally:
            reasons.append(ctx.cancel_reason)

    libmq_broker.handler("q", ahandle if is_async else handle, timeout=60, max_retries=0)
    libmq_broker.enqueue("q", 1)
    libmq_broker.start()
    assert entered.wait(20)
    libmq_broker.advance(59)
    time.sleep(0.05)
    assert reasons == []
    libmq_broker.advance(1)
    assert libmq_broker.wait_idle(20)
    assert reasons == ["timeout"]
    (letter,) = libmq_broker.dead_letters.list()
    assert (letter.reason, libmq_broker.metrics().timeouts) == ("max_retries", 1)


@pytest.mark.parametrize("is_async", [False, True])
def test_every_attempt_that_was_none_to_be_acked_has_failed(libmq_broker: testing.TestBroker, is_async: bool) -> None:
    """One that asked for a retry was not counted, not even the last one, after which there is a dead letter."""
    ends: list[Exception] = [libmq.Retry(1), ValueError(), libmq.Retry(1), libmq.Release(), libmq.Reject("no")]

    def handle(body: object, ctx: libmq.Context) -> None:
        raise ends.pop(0) if body == "once each" else libmq.Retry(1)

    async def ahandle(body: object, ctx: libmq.Context) -> None:
        handle(body, ctx)

    libmq_broker.handler("q", ahandle if is_async else handle, max_retries=4)
    libmq_broker.enqueue("q", "once each")
    drained = libmq_broker.drain(advance=True)
    assert (drained.handled, drained.failed, [letter.reason for letter in drained.dead_letters]) == (0, 4, ["no"])
    libmq_broker.enqueue("q", "retries")
    drained = libmq_broker.drain(advance=True)
    assert (drained.failed, [letter.reason for letter in drained.dead_letters]) == (5, ["max_retries"])


def test_what_does_not_come_to_an_end_is_told(libmq_broker: testing.TestBroker) -> None:
    @libmq_broker.handler("forever")
    def handle(body: object, ctx: libmq.Context) -> None:
        ctx.enqueue("forever", body)
        time.sleep(0.01)

    libmq_broker.enqueue("forever", 1)
    with pytest.raises(AssertionError, match=r"^there is still something to do: (forever has 1|messages come)"):
        libmq_broker.drain(timeout=0.2)


def test_what_is_put_off_for_ever_is_told(libmq_broker: testing.TestBroker) -> None:
    """A drain that moved the clock looked at its timeout only while somebody worked, and moved on for ten years."""

    @libmq_broker.handler("q")
    def handle(body: object) -> None:
        raise libmq.Release(delay=1)

    libmq_broker.enqueue("q", 1)
    with pytest.raises(AssertionError, match=r"q has 1 delayed, after \d+ s of its clock"):
        libmq_broker.drain(advance=True, timeout=0.3)
    assert libmq_broker.drain(advance=5).advanced == 5


def test_the_clock_is_not_moved_beyond_what_is_put_off_again(libmq_broker: testing.TestBroker) -> None:
    """What a quick handler had put off by the next look seemed not to be due yet, and the clock went on by years."""
    seen = []

    @libmq_broker.handler("q")
    def handle(body: object) -> None:
        seen.append(body)
        if len(seen) <= 200:
            raise libmq.Release(delay=1)

    libmq_broker.enqueue("q", 1)
    assert 200 <= libmq_broker.drain(advance=True).advanced <= 213, "a step is a sixteenth of the way so far"


def test_what_is_put_off_between_two_figures_is_not_missed(
    libmq_broker: testing.TestBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not delayed at the first look and not in flight at the second, by whose marks nothing had happened yet."""
    put_off = threading.Event()

    @libmq_broker.handler("q")
    def handle(body: object, ctx: libmq.Context) -> None:
        if not put_off.is_set():
            put_off.wait(20)
            raise libmq.Release(delay=1)

    libmq_broker.enqueue("q", 1)
    look = libmq_broker.metrics
    held: list[libmq.Metrics] = []

    def metrics() -> libmq.Metrics:
        figures = look()
        if put_off.is_set() or not figures.queues["q"].in_flight:
            return figures
        held.append(figures)
        if len(held) < 2:
            return figures
        put_off.set()
        while not figures.queues["q"].delayed:
            figures = look()
        return replace(figures, lsn=held[0].lsn)

    monkeypatch.setattr(libmq_broker, "metrics", metrics)
    drained = libmq_broker.drain(advance=1)
    assert (drained.handled, drained.advanced) == (1, 1)


def test_a_handler_that_hangs_does_not_hang_the_test(libmq_broker: testing.TestBroker) -> None:
    libmq_broker.handler("q", lambda body, ctx: ctx.wait_cancelled())
    libmq_broker.enqueue("q", 1)
    with pytest.raises(AssertionError, match="q has 1 in flight"):
        libmq_broker.drain(timeout=0.2)


# One handler.


def get_session() -> Iterator[str]:
    yield "real"


def test_a_call_runs_in_the_test_and_answers_what_was_enqueued() -> None:
    def handle(order: Order, ctx: libmq.Context) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert (ctx.queue, ctx.attempt, ctx.correlation_id) == ("orders", 2, "c")
        ctx.enqueue("payments", order, delay=60)

    (child,) = testing.call(handle, {"id": "a", "items": []}, queue="orders", attempt=2, correlation_id="c")
    assert (child.queue, child.body, child.delayed) == ("payments", {"id": "a", "items": []}, True)
    assert child.correlation_id == "c", "inherited, as always"


@pytest.mark.parametrize("raised", [ValueError("no"), libmq.Retry(5), libmq.Reject("r"), SystemExit(3)])
def test_what_a_handler_raises_is_raised_and_nothing_is_enqueued(
    libmq_broker: testing.TestBroker, raised: BaseException
) -> None:
    def handle(ctx: libmq.Context) -> None:
        ctx.enqueue("children", 1)
        raise raised

    with pytest.raises(type(raised)) as caught:
        libmq_broker.call(handle)
    assert caught.value is raised
    libmq_broker.assert_enqueued("children", count=0)
    assert not libmq_broker.metrics().ready
    assert len(libmq_broker.dead_letters) == 0


def test_a_handler_finds_none_of_the_variables_of_its_test() -> None:
    """Nor does it of those of whoever started its broker: each message has a context of its own."""
    variable: ContextVar[str] = ContextVar("variable", default="of its own")
    variable.set("of the test")
    seen = []

    async def handle(body: int) -> None:
        seen.append(variable.get())

    testing.call(handle, 1)
    testing.call(lambda body: seen.append(variable.get()), 1)
    assert seen == ["of its own"] * 2


def test_a_body_that_does_not_fit_is_refused_as_always() -> None:
    def handle(order: Order) -> None:
        raise AssertionError("called")

    with pytest.raises(libmq.DecodeError, match="items"):
        testing.call(handle, {"id": "a"})
    with pytest.raises(libmq.DecodeError):
        testing.call(lambda body: None, b"{", content_type="application/json")


def test_dependencies_are_made_and_replaced() -> None:
    seen = []

    def handle(body: int, session: Annotated[str, libmq.Depends(get_session)]) -> None:
        seen.append(session)

    testing.call(handle, 1)
    testing.call(handle, 1, override={get_session: lambda: "fake"})
    assert seen == ["real", "fake"]


def test_a_call_has_the_scope_and_the_overrides_of_its_broker() -> None:
    @contextlib.contextmanager
    def scope(ctx: libmq.Context) -> Iterator[dict[str, int]]:
        yield {"of": 1}

    seen = []

    def handle(body: int, ctx: libmq.Context, session: Annotated[str, libmq.Depends(get_session)]) -> None:
        seen.append((ctx.scope, session))
        ctx.enqueue("children", body)

    with testing.open(scope=scope) as broker, broker.override(get_session, lambda: "fake"):
        broker.call(handle, 1)
        broker.assert_enqueued("children", 1, count=1)
    assert seen == [({"of": 1}, "fake")]


def test_a_class_is_made_for_the_call() -> None:
    class Handler:
        def __init__(self, session: Annotated[str, libmq.Depends(get_session)]) -> None:
            self.session = session

        def handle(self, body: int, ctx: libmq.Context) -> None:
            ctx.enqueue("q", [self.session, body])

    assert [one.body for one in testing.call(Handler, 1)] == [["real", 1]]


def test_an_async_handler_is_called_with_and_without_a_loop(libmq_broker: testing.TestBroker) -> None:
    async def handle(body: int, ctx: libmq.Context) -> None:
        await asyncio.sleep(0)
        ctx.enqueue("children", body)

    assert [one.body for one in testing.call(handle, 1)] == [1]

    async def main() -> None:
        assert [one.body for one in await testing.acall(handle, 2)] == [2]
        await libmq_broker.acall(handle, 3)
        libmq_broker.assert_enqueued("children", 3)
        with pytest.raises(TypeError, match="await acall"):
            testing.call(handle, 4)

    asyncio.run(main())


def test_a_handler_sees_that_it_is_cancelled() -> None:
    def handle(body: int, ctx: libmq.Context) -> None:
        assert ctx.cancelled
        assert ctx.cancel_reason == "timeout"
        assert ctx.wait_cancelled()
        ctx.raise_if_cancelled()

    with pytest.raises(libmq.Cancelled, match="timeout"):
        testing.call(handle, 1, cancelled="timeout")
    assert testing.call(lambda body, ctx: ctx.raise_if_cancelled(), 1) == []
    with pytest.raises(AssertionError, match="for its cancellation for ever"):
        testing.call(lambda body, ctx: ctx.wait_cancelled(), 1)
    with pytest.raises(libmq.InvalidError, match="cancelled takes timeout or shutdown or cancelled or lease_lost"):
        testing.call(handle, 1, cancelled="nope")  # type: ignore[arg-type]


def test_a_context_of_a_call_has_all_that_one_has_and_settles_nothing() -> None:
    def handle(ctx: libmq.Context) -> None:
        for name in dir(libmq.Context):
            if not name.startswith("__"):
                getattr(ctx, name)
        for name in ("ack", "retry", "reject", "release"):
            assert not hasattr(ctx, name)
        ctx.extend(60)

    testing.call(handle)


def test_a_sync_handler_that_answers_a_coroutine_is_refused() -> None:
    async def work() -> None: ...

    with pytest.raises(TypeError, match="nobody runs"):
        testing.call(lambda body: work(), 1)
