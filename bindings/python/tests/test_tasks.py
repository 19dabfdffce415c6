"""Async handlers: tasks on a loop of libmq, or on that of `arun`."""

import asyncio
import contextvars
import functools
import logging
import sys
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any

import libmq
import pytest
from conftest import LONG

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(params=["start", "arun"])
def play(request: pytest.FixtureRequest) -> Callable[[libmq.Broker], None]:
    """Runs a broker until it is idle: on libmq's own loop, or on the caller's."""

    def start(broker: libmq.Broker) -> None:
        broker.start()
        assert broker.wait_idle(LONG)
        broker.stop()

    def arun(broker: libmq.Broker) -> None:
        asyncio.run(broker.arun(until_idle=True))

    return start if request.param == "start" else arun


Play = Callable[[libmq.Broker], None]


def test_handlers_run_at_once_up_to_their_parallelism(broker: libmq.Broker, play: Play) -> None:
    running: list[int] = []
    most: list[int] = []

    @broker.handler("q", max_parallelism=10)
    async def handle(body: int) -> None:
        running.append(body)
        most.append(len(running))
        await asyncio.sleep(0.001)
        running.remove(body)

    broker.enqueue_many("q", range(200))
    play(broker)
    assert broker.metrics().acked == 200
    assert max(most) == 10
    assert not running


def test_every_way_to_end(broker: libmq.Broker, play: Play) -> None:
    @broker.handler("q", max_retries=1)
    async def handle(body: str, ctx: libmq.Context) -> None:
        await asyncio.sleep(0)
        if ctx.attempt > 1 and body != "fail":
            return
        match body:
            case "ack":
                await asyncio.sleep(0)
            case "fail":
                raise ValueError("no")
            case "retry":
                raise libmq.Retry(0)
            case "reject":
                raise libmq.Reject("bad")
            case "exit":
                raise SystemExit(3)
            case "cancelled":
                raise asyncio.CancelledError

    broker.enqueue_many("q", ["ack", "fail", "retry", "reject", "exit", "cancelled"])
    broker.enqueue("q", b"{", content_type="application/json")
    play(broker)
    figures = broker.metrics()
    assert (figures.acked, figures.retried, figures.rejected, figures.handler_errors) == (4, 5, 2, 4)
    letters = {letter.reason: letter.error for letter in broker.dead_letters.list()}
    assert set(letters) == {"max_retries", "bad", "decode"}
    assert letters["max_retries"].startswith("ValueError: no\n\nTraceback")
    assert "in handle\n" in letters["max_retries"]


def test_the_loop_is_libmqs_own_or_the_callers(broker: libmq.Broker) -> None:
    where: list[str] = []

    @broker.handler("q")
    async def handle(body: int) -> None:
        where.append(threading.current_thread().name)

    broker.enqueue("q", 1)
    asyncio.run(broker.arun(until_idle=True))
    broker.start()
    broker.enqueue("q", 2)
    assert broker.wait_idle(LONG)
    assert where == ["MainThread", "libmq-loop"]
    # It was started, and they stay there.
    broker.enqueue("q", 3)
    asyncio.run(broker.arun(until_idle=True))
    assert where[2:] == ["libmq-loop"]


def test_sync_and_async_handlers_beside_each_other(broker: libmq.Broker, play: Play) -> None:
    order: list[tuple[str, int]] = []

    @broker.handler("first")
    async def first(body: int, ctx: libmq.Context) -> None:
        order.append(("first", body))
        ctx.enqueue("second", body + 1)

    @broker.handler("second")
    def second(body: int, ctx: libmq.Context) -> None:
        order.append(("second", body))
        ctx.enqueue("third", body + 1)

    class Third:
        async def __call__(self, body: int) -> None:
            order.append(("third", body))

    broker.handler("third", Third())
    broker.enqueue("first", 1)
    play(broker)
    assert order == [("first", 1), ("second", 2), ("third", 3)]


def test_methods_and_partials_are_async_too(broker: libmq.Broker, play: Play) -> None:
    seen: list[tuple[str, int]] = []

    class Owner:
        async def method(self, body: int) -> None:
            seen.append(("method", body))

    async def keyword(name: str, body: int) -> None:
        seen.append((name, body))

    broker.handler("method", Owner().method)
    broker.handler("partial", functools.partial(keyword, "partial"))
    broker.enqueue("method", 1)
    broker.enqueue("partial", 2)
    play(broker)
    assert sorted(seen) == [("method", 1), ("partial", 2)]


def test_a_message_has_context_variables_of_its_own(broker: libmq.Broker, play: Play) -> None:
    seen: list[str] = []

    @broker.handler("q", max_parallelism=2)
    async def handle(body: int) -> None:
        seen.append(variable.get())
        variable.set("of a message")
        await asyncio.sleep(0)

    variable.set("of the test")
    broker.enqueue_many("q", range(5))
    play(broker)
    assert seen == ["unset"] * 5


def test_a_timeout_cancels_the_task_and_says_why(
    broker: libmq.Broker, play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    reasons: list[str | None] = []
    caplog.set_level(logging.WARNING, "libmq")

    @broker.handler("q", timeout=0.05, max_retries=0)
    async def handle(body: str, ctx: libmq.Context) -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            reasons.append(ctx.cancel_reason)
            if body == "returns":
                return
            raise

    broker.enqueue_many("q", ["escapes", "returns"])
    play(broker)
    assert reasons == ["timeout", "timeout"]
    assert [letter.body for letter in broker.dead_letters.list()] == ["escapes"]
    assert broker.metrics().acked == 1
    assert "was cancelled" in caplog.text


def test_a_cancelled_message_cancels_its_task(broker: libmq.Broker) -> None:
    entered = threading.Event()
    reasons: list[str | None] = []

    @broker.handler("q")
    async def handle(body: int, ctx: libmq.Context) -> None:
        entered.set()
        try:
            await asyncio.sleep(LONG)
        finally:
            reasons.append(ctx.cancel_reason)

    broker.start()
    receipt = broker.enqueue("q", 1)
    assert entered.wait(LONG)
    assert broker.cancel(receipt.id)
    assert broker.wait_idle(LONG)
    assert reasons == ["cancelled"]
    assert broker.metrics().cancelled == 1
    assert len(broker.dead_letters) == 0


def test_a_stop_cancels_tasks_and_gives_their_messages_back(broker: libmq.Broker) -> None:
    entered = threading.Event()

    @broker.handler("q")
    async def handle(body: int) -> None:
        entered.set()
        await asyncio.sleep(LONG)

    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    with pytest.raises(libmq.TimeoutError):
        broker.stop(0)
    figures = broker.metrics()
    assert (figures.ready, figures.released, figures.retried) == (1, 1, 0)


def test_a_task_that_never_ends_is_cut_off_and_its_queue_goes_on(broker: libmq.Broker) -> None:
    seen: list[tuple[str, int]] = []
    release = threading.Event()

    @broker.handler("q", timeout=0.05, cancel_grace=0.05, max_retries=1)
    async def handle(body: str, ctx: libmq.Context) -> None:
        seen.append((body, ctx.attempt))
        while body == "stuck" and ctx.attempt == 1 and not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    broker.start()
    broker.enqueue_many("q", ["stuck", "next"])
    assert broker.wait_idle(LONG)
    release.set()
    assert sorted(seen) == [("next", 1), ("stuck", 1), ("stuck", 2)]
    figures = broker.metrics()
    assert (figures.acked, figures.timeouts, figures.stuck) == (2, 1, 1)


def test_a_handler_that_blocks_the_loop_keeps_its_lease(broker: libmq.Broker, play: Play) -> None:
    attempts: list[int] = []

    @broker.handler("q", max_parallelism=4, timeout=60)
    async def handle(body: int, ctx: libmq.Context) -> None:
        attempts.append(ctx.attempt)
        time.sleep(0.1)

    broker.enqueue_many("q", range(8))
    play(broker)
    assert attempts == [1] * 8
    assert broker.metrics().acked == 8


def test_what_waits_for_the_loop_is_charged_with_nothing(broker: libmq.Broker, play: Play) -> None:
    """Messages were dead letters that no handler had been called with: another one had held up the loop."""
    entered: list[tuple[int, int]] = []

    @broker.handler("q", max_parallelism=4, timeout=0.1, cancel_grace=0.05, max_retries=0)
    async def handle(body: int, ctx: libmq.Context) -> None:
        entered.append((body, ctx.attempt))
        if body == 0:
            time.sleep(0.6)

    broker.enqueue_many("q", range(4))
    play(broker)
    assert sorted(entered) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    figures = broker.metrics()
    assert (figures.acked, figures.timeouts, figures.stuck, figures.released) == (3, 1, 1, 3)
    assert [letter.body for letter in broker.dead_letters.list()] == [0]


def test_the_time_of_a_task_begins_when_the_loop_comes_to_it(broker: libmq.Broker, play: Play) -> None:
    """It began when its message was taken, with those of its batch."""

    @broker.handler("q", max_parallelism=3, timeout=0.5, max_retries=0)
    async def handle(body: int) -> None:
        time.sleep(0.2)
        await asyncio.sleep(0.2)

    broker.enqueue_many("q", range(2))
    play(broker)
    assert (broker.metrics().acked, broker.metrics().timeouts) == (2, 0)


def test_a_second_handler_replaces_the_first_whatever_they_are(broker: libmq.Broker) -> None:
    seen: list[str] = []
    entered = threading.Event()

    async def slow(body: int) -> None:
        entered.set()
        await asyncio.sleep(0.05)
        seen.append("slow")

    async def task(body: int) -> None:
        seen.append("task")

    def thread(body: int) -> None:
        seen.append("thread")

    broker.handler("q", slow)
    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    for handler in (thread, task, task, thread, task):
        broker.handler("q", handler)
        broker.enqueue("q", 1)
        assert broker.wait_idle(LONG)
    assert seen == ["slow", "thread", "task", "task", "thread", "task"]


def test_scale_and_pause_hold_for_tasks(broker: libmq.Broker) -> None:
    running: list[int] = []
    most: list[int] = []

    @broker.handler("q")
    async def handle(body: int) -> None:
        running.append(body)
        most.append(len(running))
        await asyncio.sleep(0.005)
        running.remove(body)

    broker.start()
    broker.pause("q")
    broker.enqueue_many("q", range(40))
    time.sleep(0.05)
    assert not most
    broker.scale("q", 8)
    broker.resume("q")
    assert broker.wait_idle(LONG)
    assert max(most) == 8


def test_what_would_wait_for_itself_is_refused(broker: libmq.Broker, play: Play) -> None:
    codes: list[str] = []

    async def other(body: int) -> None: ...

    @broker.handler("q")
    async def handle(body: int) -> None:
        calls: list[Callable[[], object]] = [
            broker.stop,
            broker.close,
            broker.wait_idle,
            lambda: broker.run(install_signal_handlers=False),
            lambda: broker.handler("q", print),
            lambda: broker.handler("q", other),
        ]
        for call in calls:
            try:
                call()
            except libmq.Error as error:
                codes.append(error.code)

    broker.enqueue("q", 1)
    play(broker)
    assert codes == ["DEADLOCK"] * 6


def test_what_would_wait_for_itself_while_it_is_awaited_is_refused(broker: libmq.Broker, play: Play) -> None:
    """They waited for their own handler, until its timeout and its grace were over."""
    codes: list[str] = []

    @broker.handler("q", max_retries=0)
    async def handle(body: int) -> None:
        async def close() -> None:
            async with broker:
                pass

        for call in (close, lambda: broker.arun(install_signal_handlers=False)):
            try:
                await asyncio.wait_for(call(), LONG)
            except libmq.Error as error:
                codes.append(error.code)
        # Nobody waits for itself here.
        async with libmq.open(":memory:") as other:
            await other.arun(until_idle=True, install_signal_handlers=False)

    broker.enqueue("q", 1)
    play(broker)
    assert codes == ["DEADLOCK"] * 2
    assert broker.metrics().acked == 1


def test_what_ends_a_coroutine_fails_an_attempt_as_anything_else(broker: libmq.Broker, play: Play) -> None:
    """It was taken for the end of the loop, and its message was stuck until its timeout."""

    async def give_up() -> None:
        raise GeneratorExit

    @broker.handler("q", max_retries=1)
    async def handle(body: int) -> None:
        await asyncio.sleep(0)
        await give_up()

    @broker.handler("depends", max_retries=1)
    async def depends(body: int, it: Annotated[int, libmq.Depends(lambda: 1)]) -> None:
        raise GeneratorExit

    broker.enqueue("q", 1)
    broker.enqueue("depends", 1)
    play(broker)
    letters = broker.dead_letters.list()
    assert [(letter.attempts, letter.error.partition("\n")[0]) for letter in letters] == [(2, "GeneratorExit")] * 2
    assert broker.metrics().timeouts == 0


def test_full_fails_at_once_in_a_task_and_where_it_would_hold_up_the_loop() -> None:
    codes: list[str] = []
    with libmq.open(":memory:", capacity=1, on_full="block") as broker:

        @broker.handler("q")
        async def handle(body: int) -> None:
            for call in (lambda: broker.aenqueue("q", 2), lambda: asyncio.to_thread(broker.receive, "q", 0)):
                try:
                    await call()
                except libmq.Error as error:
                    codes.append(error.code)
            try:
                broker.enqueue("q", 2)
            except libmq.Error as error:
                codes.append(error.code)

        broker.enqueue("q", 1)
        broker.start()
        assert broker.wait_idle(LONG)
    assert codes == ["FULL", "FULL"]


def test_arun_ends_when_another_thread_stops_the_broker(broker: libmq.Broker) -> None:
    async def main() -> None:
        running = asyncio.create_task(broker.arun())
        await asyncio.sleep(0.05)
        await asyncio.to_thread(broker.stop)
        await running

    asyncio.run(main())


def test_a_cancelled_arun_drains_and_raises(broker: libmq.Broker) -> None:
    ended: list[int] = []

    @broker.handler("q")
    async def handle(body: int) -> None:
        await asyncio.sleep(0.1)
        ended.append(body)

    async def main() -> None:
        running = asyncio.create_task(broker.arun())
        broker.enqueue("q", 1)
        while not broker.metrics().in_flight:
            await asyncio.sleep(0.001)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())
    assert ended == [1]
    assert broker.metrics().acked == 1


def test_an_arun_that_is_cancelled_twice_waits_for_nobody(broker: libmq.Broker) -> None:
    @broker.handler("q", cancel_grace=LONG)
    async def handle(body: int) -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(LONG)
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        running = asyncio.create_task(broker.arun(stop_timeout=LONG))
        broker.enqueue("q", 1)
        while not broker.metrics().in_flight:
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.sleep(0.05)
        assert not running.done()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    begin = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - begin < LONG
    assert broker.metrics().ready == 1


def test_arun_again_and_again_and_on_another_loop(broker: libmq.Broker) -> None:
    seen: list[int] = []

    @broker.handler("q")
    async def handle(body: int) -> None:
        seen.append(body)

    for number in range(3):
        broker.enqueue("q", number)
        asyncio.run(broker.arun(until_idle=True))
    thread = threading.Thread(
        target=lambda: asyncio.run(broker.arun(until_idle=True, install_signal_handlers=False)), daemon=True
    )
    broker.enqueue("q", 3)
    thread.start()
    thread.join(LONG)
    assert seen == [0, 1, 2, 3]


def test_a_handler_that_comes_while_arun_runs_is_run(broker: libmq.Broker) -> None:
    seen: list[int] = []

    async def handle(body: int) -> None:
        seen.append(body)

    async def main() -> None:
        running = asyncio.create_task(broker.arun())
        await asyncio.sleep(0.02)
        broker.handler("here", handle)
        await asyncio.to_thread(broker.handler, "q", handle)
        for queue in ("q", "here"):
            await broker.aenqueue(queue, 1)
        while len(seen) < 2:
            await asyncio.sleep(0.001)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())


def test_arun_with_wrong_arguments(broker: libmq.Broker) -> None:
    bad: Any = "1"
    with pytest.raises(TypeError):
        asyncio.run(broker.arun(stop_timeout=bad))
    with pytest.raises(libmq.InvalidError):
        asyncio.run(broker.arun(stop_timeout=-1))
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(broker.arun())
        except libmq.InvalidError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(LONG)
    assert len(raised) == 1


def test_a_sync_handler_that_answers_a_coroutine_has_failed(broker: libmq.Broker) -> None:
    async def handle(body: int) -> None: ...

    broker.handler("q", lambda body: handle(body), max_retries=0)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert letter.error.startswith("TypeError: the handler answered a coroutine")


def test_a_system_exit_in_what_a_handler_started_does_not_end_the_queue(broker: libmq.Broker) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    started: list[asyncio.Task[None]] = []
    seen: list[int] = []

    @broker.handler("q")
    async def handle(body: int) -> None:
        seen.append(body)
        if body == 0:
            started.append(asyncio.create_task(leave()))

    broker.start()
    for number in range(3):
        broker.enqueue("q", number)
        assert broker.wait_idle(LONG)
    # What the loop had under way when it ended is handled again.
    assert sorted(set(seen)) == [0, 1, 2]
    assert len(seen) <= 4
    assert isinstance(started[0].exception(), SystemExit)


def test_a_task_that_is_cancelled_before_it_has_begun_ends_its_attempt() -> None:
    """A program that cancels all tasks of its loop reaches those that the loop has not come to."""
    with libmq.open(":memory:", default_backoff=libmq.Backoff.fixed(0)) as broker:
        entered: list[int] = []

        @broker.handler("q", max_parallelism=3, max_retries=0)
        async def handle(body: int) -> None:
            entered.append(body)

        async def main() -> None:
            loop, create = asyncio.get_running_loop(), asyncio.get_running_loop().create_task

            def cancelled_at_once(work: Any, **named: Any) -> Any:
                task = create(work, **named)
                if named.get("name") == "libmq-q":
                    task.cancel()
                return task

            loop.create_task = cancelled_at_once  # type: ignore[method-assign,assignment]
            await broker.arun(until_idle=True)

        broker.enqueue_many("q", range(5))
        asyncio.run(main())
        assert entered == []
        assert [letter.error.split(chr(10))[0] for letter in broker.dead_letters.list()] == ["CancelledError"] * 5


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loops begin tasks at once from 3.12 on")
def test_a_loop_that_begins_tasks_at_once_handles_as_any_other() -> None:
    with libmq.open(":memory:") as broker:
        handled: list[int] = []

        @broker.handler("q", max_parallelism=2)
        async def handle(body: int) -> None:
            if body % 3 == 0:
                await asyncio.sleep(0)
            handled.append(body)

        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
            await broker.arun(until_idle=True)

        broker.enqueue_many("q", range(5000))
        asyncio.run(main())
        assert sorted(handled) == list(range(5000))
