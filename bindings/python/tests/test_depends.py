"""Dependencies of handlers, scopes around attempts, and handlers that are classes."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Protocol

import libmq
import pytest
from conftest import LONG
from libmq import Depends


def play(broker: libmq.Broker, *bodies: object) -> None:
    """Runs messages of the queue `q`."""
    broker.start()
    broker.enqueue_many("q", bodies or (1,))
    assert broker.wait_idle(LONG)


class Log(list[str]):
    """What happened, in order."""


log = Log()


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    log.clear()


def plain() -> str:
    log.append("plain")
    return "plain"


def generator() -> Iterator[str]:
    log.append("open generator")
    try:
        yield "generator"
    except BaseException as error:
        log.append(f"{type(error).__name__} in generator")
        raise
    finally:
        log.append("close generator")


@contextlib.contextmanager
def manager(of: Annotated[str, Depends(plain)]) -> Iterator[str]:
    log.append("open manager")
    yield f"manager of {of}"
    log.append("close manager")


class Session:
    def __init__(self, ctx: libmq.Context, under: Annotated[str, Depends(generator)]) -> None:
        self.queue = ctx.queue
        self.under = under

    def __enter__(self) -> "Session":
        log.append("open session")
        return self

    def __exit__(self, *raised: object) -> None:
        log.append("close session")


async def coroutine() -> str:
    await asyncio.sleep(0)
    log.append("coroutine")
    return "coroutine"


async def async_generator(under: Annotated[str, Depends(generator)]) -> AsyncIterator[str]:
    log.append("open async generator")
    yield f"async generator of {under}"
    await asyncio.sleep(0)
    log.append("close async generator")


@contextlib.asynccontextmanager
async def async_manager() -> AsyncIterator[str]:
    log.append("open async manager")
    yield "async manager"
    log.append("close async manager")


class AsyncSession:
    async def __aenter__(self) -> "AsyncSession":
        log.append("open async session")
        return self

    async def __aexit__(self, *raised: object) -> None:
        log.append("close async session")


def test_dependencies_are_made_once_and_closed_in_reverse_before_the_ack(broker: libmq.Broker) -> None:
    got: list[Any] = []

    @broker.handler("q")
    def handle(
        body: int,
        ctx: libmq.Context,
        a: Annotated[str, Depends(manager)],
        b: Annotated[Session, Depends(Session)],
        c: Annotated[str, Depends(plain)],
        # Of any type to type checkers, with which these tests are looked at.
        d: str = Depends(generator),
    ) -> None:
        got.extend([body, ctx.id > 0, a, b.queue, b.under, c, d])
        log.append("handle")

    play(broker, 7)
    assert got == [7, True, "manager of plain", "q", "generator", "plain", "generator"]
    assert log == [
        "plain",
        "open manager",
        "open generator",
        "open session",
        "handle",
        "close session",
        "close generator",
        "close manager",
    ]
    assert broker.metrics().acked == 1


def test_async_handlers_have_dependencies_of_every_kind(broker: libmq.Broker) -> None:
    got: list[Any] = []

    @broker.handler("q")
    async def handle(
        a: Annotated[str, Depends(coroutine)],
        b: Annotated[str, Depends(async_generator)],
        c: Annotated[str, Depends(async_manager)],
        d: Annotated[AsyncSession, Depends(AsyncSession)],
        e: Annotated[Session, Depends(Session)],
        body: int,
    ) -> None:
        got.extend([a, b, c, type(d), e.under, body])

    play(broker, 7)
    assert got == ["coroutine", "async generator of generator", "async manager", AsyncSession, "generator", 7]
    assert log[-5:] == [
        "close session",
        "close async session",
        "close async manager",
        "close async generator",
        "close generator",
    ]


@pytest.mark.parametrize("waits", [False, True])
def test_a_dependency_sees_the_failure_and_cannot_swallow_it(broker: libmq.Broker, waits: bool) -> None:
    def swallows() -> Iterator[None]:
        with contextlib.suppress(Exception):
            yield

    Swallowed = Annotated[None, Depends(swallows)]
    Seen = Annotated[str, Depends(generator)]

    def thread(seen: Seen, swallowed: Swallowed) -> None:
        raise libmq.Reject("bad")

    async def task(seen: Seen, swallowed: Swallowed) -> None:
        raise libmq.Reject("bad")

    broker.handler("q", task if waits else thread)
    play(broker)
    assert [letter.reason for letter in broker.dead_letters.list()] == ["bad"]
    # It was swallowed on its way to this one.
    assert log == ["open generator", "close generator"]


def test_the_failure_comes_to_the_one_that_was_made_first(broker: libmq.Broker) -> None:
    @broker.handler("q", max_retries=0)
    def handle(seen: Annotated[str, Depends(generator)]) -> None:
        raise ValueError("no")

    play(broker)
    assert log == ["open generator", "ValueError in generator", "close generator"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_close_that_fails_has_failed_the_attempt(broker: libmq.Broker, waits: bool) -> None:
    attempts: list[int] = []

    def commits(ctx: libmq.Context) -> Iterator[None]:
        yield
        if ctx.attempt == 1:
            raise OSError("the commit failed")

    def thread(
        ctx: libmq.Context, first: Annotated[str, Depends(generator)], it: Annotated[None, Depends(commits)]
    ) -> None:
        attempts.append(ctx.attempt)
        ctx.enqueue("children", 1)

    async def task(
        ctx: libmq.Context, first: Annotated[str, Depends(generator)], it: Annotated[None, Depends(commits)]
    ) -> None:
        thread(ctx, first, it)

    broker.handler("q", task if waits else thread)
    play(broker)
    assert attempts == [1, 2]
    figures = broker.metrics()
    assert (figures.acked, figures.handler_errors, figures.queues["children"].ready) == (1, 1, 1)
    assert log == [
        "open generator",
        "OSError in generator",
        "close generator",
        "open generator",
        "close generator",
    ]


def test_one_that_cannot_be_made_has_failed_the_attempt_and_what_was_made_is_closed(broker: libmq.Broker) -> None:
    def fails() -> None:
        raise OSError("no connection")

    @broker.handler("q", max_retries=0)
    def handle(a: Annotated[str, Depends(generator)], b: Annotated[None, Depends(fails)]) -> None:
        log.append("handle")

    play(broker)
    assert log == ["open generator", "OSError in generator", "close generator"]
    assert broker.dead_letters.list()[0].error.startswith("OSError: no connection")


def test_a_body_that_does_not_decode_opens_nothing(broker: libmq.Broker) -> None:
    @broker.handler("q")
    def handle(body: int, a: Annotated[str, Depends(generator)]) -> None: ...

    play(broker, "text")
    assert [letter.reason for letter in broker.dead_letters.list()] == ["decode"]
    assert log == []


def test_what_lives_as_long_as_the_broker_is_made_once_and_closed_with_it() -> None:
    made: list[int] = []

    def pool() -> Iterator[str]:
        made.append(threading.get_ident())
        log.append("open pool")
        yield "pool"
        log.append("close pool")

    def client(of: Annotated[str, Depends(pool, lifetime="app")]) -> str:
        return f"client of {of}"

    Client = Annotated[str, Depends(client, lifetime="app")]

    with libmq.open(":memory:") as broker:

        @broker.handler("q", max_parallelism=4)
        def handle(client: Client) -> None:
            log.append(client)

        @broker.handler("r", max_parallelism=4)
        async def handle_async(client: Client, pool: Annotated[str, Depends(pool, lifetime="app")]) -> None:
            log.append(client)

        broker.enqueue_many("r", range(10))
        play(broker, *range(10))
        broker.stop()
        assert "close pool" not in log
    assert log.count("open pool") == log.count("close pool") == 1
    assert log[-1] == "close pool"
    assert log.count("client of pool") == 20


def test_what_is_async_and_lives_long_belongs_to_its_loop() -> None:
    async def pool() -> AsyncIterator[str]:
        await asyncio.sleep(0.01)
        log.append("open")
        yield "pool"
        await asyncio.sleep(0.01)
        log.append("close")

    async def handle(pool: Annotated[str, Depends(pool, lifetime="app")]) -> None:
        log.append(pool)

    with libmq.open(":memory:") as broker:
        broker.handler("q", handle, max_parallelism=5)
        broker.enqueue_many("q", range(5))
        asyncio.run(broker.arun(until_idle=True))
        assert log == ["open", *["pool"] * 5, "close"]
        log.clear()
        play(broker, *range(5))
    assert log == ["open", *["pool"] * 5, "close"]


def test_a_broker_is_closed_though_what_lived_with_it_does_not_close() -> None:
    def pool() -> Iterator[str]:
        yield "pool"
        raise OSError("it is stuck")

    broker = libmq.open(":memory:")

    @broker.handler("q")
    def handle(pool: Annotated[str, Depends(pool, lifetime="app")]) -> None: ...

    play(broker)
    with pytest.raises(OSError, match="stuck"):
        broker.close()
    with pytest.raises(libmq.ClosedError):
        broker.enqueue("q", 1)
    broker.close()


def test_a_dependency_is_replaced_for_a_test(broker: libmq.Broker) -> None:
    got: list[str] = []

    @broker.handler("q")
    def handle(a: Annotated[str, Depends(manager)], b: Annotated[str, Depends(plain)]) -> None:
        got.append(f"{a}, {b}")

    def fake() -> Iterator[str]:
        log.append("open fake")
        yield "fake"
        log.append("close fake")

    with broker.override(plain, fake) as override:
        play(broker)
        with broker.override(plain, lambda: "another"):
            play(broker)
        play(broker)
    play(broker)
    override.restore()
    plainly = broker.override(manager, lambda: "flat")
    play(broker)
    plainly.restore()
    play(broker)
    assert got == [
        "manager of fake, fake",
        "manager of another, another",
        "manager of fake, fake",
        "manager of plain, plain",
        "flat, plain",
        "manager of plain, plain",
    ]
    assert log.count("open fake") == log.count("close fake") == 2


def test_a_fake_may_not_wait_where_the_handler_does_not(broker: libmq.Broker) -> None:
    @broker.handler("q", max_retries=0)
    def handle(a: Annotated[str, Depends(plain)]) -> None: ...

    with broker.override(plain, coroutine):
        play(broker)
    assert "coroutine is async, but the handler is not" in broker.dead_letters.list()[0].error


def test_a_scope_is_open_around_the_attempt(broker: libmq.Broker) -> None:
    got: list[object] = []

    @contextlib.contextmanager
    def scope(ctx: libmq.Context) -> Iterator[str]:
        log.append("open scope")
        yield f"scope of {ctx.queue}"
        log.append("close scope")

    def under(ctx: libmq.Context) -> Iterator[object]:
        yield ctx.scope
        log.append("close under")

    @broker.handler("q", scope=scope)
    def handle(ctx: libmq.Context, under: Annotated[object, Depends(under)]) -> None:
        got.extend([ctx.scope, under])
        kept.append(ctx)

    kept: list[libmq.Context] = []
    play(broker)
    assert got == ["scope of q", "scope of q"]
    assert log == ["open scope", "close under", "close scope"]
    assert kept[0].scope is None


def test_a_scope_of_the_broker_and_one_of_the_handler() -> None:
    got: list[object] = []

    @contextlib.asynccontextmanager
    async def of_handler(ctx: libmq.Context) -> AsyncIterator[str]:
        await asyncio.sleep(0)
        yield "of the handler"
        raise OSError("it does not close")

    def of_broker(ctx: libmq.Context) -> Iterator[str]:
        yield "of the broker"

    with libmq.open(":memory:", scope=of_broker) as broker:

        @broker.handler("q", scope=of_handler, max_retries=0)
        async def handle(ctx: libmq.Context) -> None:
            got.append(ctx.scope)

        @broker.handler("r")
        def other(ctx: libmq.Context) -> None:
            got.append(ctx.scope)

        broker.enqueue("r", 1)
        play(broker)
        assert sorted(map(str, got)) == ["of the broker", "of the handler"]
        assert [letter.queue for letter in broker.dead_letters.list()] == ["q"]


def test_a_class_is_made_for_each_attempt(broker: libmq.Broker) -> None:
    made: list[object] = []

    class Handler:
        def __init__(self, session: Annotated[str, Depends(generator)]) -> None:
            made.append(self)
            self.session = session

        def handle(self, body: int, ctx: libmq.Context, c: Annotated[str, Depends(plain)]) -> None:
            log.append(f"{self.session} {body} {c}")
            if ctx.attempt == 1:
                raise ValueError("once more")

    assert broker.handler("q")(Handler) is Handler
    play(broker, 7)
    assert len(set(map(id, made))) == 2
    assert log.count("generator 7 plain") == log.count("close generator") == 2


def test_a_class_with_an_async_method_and_an_object_with_one(broker: libmq.Broker) -> None:
    class Handler:
        def __init__(self, session: Annotated[AsyncSession, Depends(AsyncSession)]) -> None: ...

        async def handle(self, body: int) -> None:
            log.append(f"class {body}")

    class Owner:
        def __init__(self, name: str) -> None:
            self.name = name

        async def handle(self, body: int) -> None:
            log.append(f"{self.name} {body}")

    class Static:
        @staticmethod
        def handle(body: int) -> None:
            log.append(f"static {body}")

    handlers: list[Any] = [Handler, Owner("owner"), Static]
    for handler in handlers:
        broker.handler("q", handler)
        play(broker, 7)
    assert log == ["open async session", "class 7", "close async session", "owner 7", "static 7"]


@pytest.mark.parametrize("waits", [False, True])
def test_a_scope_that_resolves_makes_the_object_of_a_class(broker: libmq.Broker, waits: bool) -> None:
    class Container:
        def __init__(self, ctx: libmq.Context) -> None:
            self.ctx = ctx

        def __enter__(self) -> "Container":
            return self

        def __exit__(self, *raised: object) -> None:
            log.append("dispose")

        def resolve(self, kind: Callable[[str], object]) -> object:
            return kind(f"resolved for {self.ctx.queue}")

    class Handler:
        def __init__(self, name: str) -> None:
            self.name = name

        def handle(self, body: int) -> None:
            log.append(self.name)

    class AsyncHandler(Handler):
        async def handle(self, body: int) -> None:  # type: ignore[override]
            log.append(self.name)

    broker.handler("q", AsyncHandler if waits else Handler, scope=Container)
    play(broker)
    assert log == ["resolved for q", "dispose"]


def test_what_cannot_be_made_is_refused_at_registration(broker: libmq.Broker) -> None:
    def first(a: Annotated[str, "later"]) -> None: ...

    def second(a: Annotated[None, Depends(first)]) -> None: ...

    first.__annotations__["a"] = Annotated[None, Depends(second)]

    def asks(name: str) -> None: ...

    def of_message(a: Annotated[str, Depends(plain)]) -> None: ...

    def of_context(ctx: libmq.Context) -> None: ...

    def depending_on(function: Callable[..., Any], **given: Any) -> Callable[[int, None], None]:
        def handle(body: int, a: None) -> None: ...

        handle.__annotations__["a"] = Annotated[None, Depends(function, **given)]
        return handle

    def generates(body: int) -> Iterator[int]:
        yield body

    async def generates_async(body: int) -> AsyncIterator[int]:
        yield body

    class Nothing: ...

    class Asks:
        def __init__(self, name: str) -> None: ...
        def handle(self, body: int) -> None: ...

    class TwoBodies:
        def handle(self, body: int, other: int) -> None: ...

    bad: list[tuple[str, Any]] = [
        ("asks for itself: first asks for second asks for first", depending_on(first)),
        ("asks asks for name", depending_on(asks)),
        ("lives as long as the broker, but plain does not", depending_on(of_message, lifetime="app")),
        ("asks for the context of an attempt", depending_on(of_context, lifetime="app")),
        ("coroutine is async", depending_on(coroutine)),
        ("async_generator is async", depending_on(async_generator)),
        ("async_manager is async", depending_on(async_manager)),
        ("AsyncSession is async", depending_on(AsyncSession)),
        ("cannot be a generator", generates),
        ("cannot be a generator", generates_async),
        ("has no method handle", Nothing),
        ("has no method handle", int),
        ("Asks asks for name", Asks),
        ("two parameters for the body", TwoBodies),
        ("must be callable", Nothing()),
        ("must be callable", 7),
    ]
    for says, handler in bad:
        with pytest.raises(TypeError, match=says):
            broker.handler("q", handler)
    with pytest.raises(TypeError, match="the scope is async"):
        broker.handler("q", print, scope=async_manager)
    no_scope: Any = 7
    with pytest.raises(TypeError, match="scope must be callable"):
        broker.handler("q", print, scope=no_scope)
    with pytest.raises(TypeError, match="scope must be callable"):
        libmq.open(":memory:", scope=no_scope)
    assert broker.metrics().parallelism == 0


def test_a_depends_of_fastapi_is_refused(broker: libmq.Broker) -> None:
    """It was the body, or stood there itself where a session was asked for."""
    fastapi = pytest.importorskip("fastapi")

    def marked(session: str) -> None: ...

    marked.__annotations__["session"] = Annotated[str, fastapi.Depends(plain)]

    def by_default(session: str = fastapi.Security(plain)) -> None: ...

    def within(body: int, session: Annotated[str, Depends(by_default)]) -> None: ...

    for handler in (marked, by_default, within):
        with pytest.raises(TypeError, match=r"session asks for a Depends of FastAPI.*use libmq\.Depends"):
            broker.handler("q", handler)


class Numbered(Protocol):
    @property
    def id(self) -> int: ...


@pytest.mark.parametrize("annotation", [int, dict, list[int], int | None, None, Annotated[Session, "of the database"]])
def test_a_ctx_that_is_annotated_as_something_else_is_refused(broker: libmq.Broker, annotation: Any) -> None:
    """It was the context all the same."""

    def asks(ctx: Any) -> None: ...

    def handle(body: int, made: Any) -> None: ...

    asks.__annotations__["ctx"] = annotation
    handle.__annotations__["made"] = Annotated[None, Depends(asks)]
    for handler in (asks, handle):
        with pytest.raises(TypeError, match="ctx is the context of an attempt, but is annotated"):
            broker.handler("q", handler)


@pytest.mark.parametrize("annotation", [object, Any, Numbered, libmq.Context | None, "libmq.Context", "Unknown"])
def test_a_ctx_may_be_annotated_as_less(broker: libmq.Broker, annotation: Any) -> None:
    seen: list[Any] = []

    def handle(body: int, ctx: Any) -> None:
        seen.append(type(ctx))

    handle.__annotations__["ctx"] = annotation
    broker.handler("q", handle)
    play(broker)
    assert seen == [libmq.Context]


def test_a_scope_that_is_none_has_failed_the_attempt(broker: libmq.Broker) -> None:
    broker.handler("q", print, scope=lambda ctx: 7, max_retries=0)
    play(broker)
    assert "the scope answered a int" in broker.dead_letters.list()[0].error


def test_depends_and_override_refuse_what_is_none(broker: libmq.Broker) -> None:
    bad: Any
    for bad in (7, None, "plain"):
        with pytest.raises(TypeError):
            Depends(bad)
        with pytest.raises(TypeError):
            broker.override(bad, plain)
        with pytest.raises(TypeError):
            broker.override(plain, bad)
    bad = "request"
    with pytest.raises(libmq.InvalidError, match="lifetime"):
        Depends(plain, lifetime=bad)
    bad = 7
    with pytest.raises(TypeError):
        Depends(plain, lifetime=bad)
    assert repr(Depends(plain)) == "Depends(plain, lifetime='message')"


def test_a_cancelled_task_closes_what_it_has(broker: libmq.Broker) -> None:
    @broker.handler("q", timeout=0.05, max_retries=0)
    async def handle(a: Annotated[str, Depends(async_generator)], b: Annotated[str, Depends(generator)]) -> None:
        await asyncio.sleep(LONG)

    play(broker)
    assert "CancelledError in generator" in log
    assert [letter.reason for letter in broker.dead_letters.list()] == ["max_retries"]
    assert broker.metrics().timeouts == 1


def test_a_dependency_that_blocks_where_it_is_made_holds_up_those_alone_who_ask_for_it() -> None:
    """One lock was held for all that live as long as the broker: handlers, an event loop and a close waited for it."""
    free, making = threading.Event(), threading.Event()
    got: list[str] = []

    def blocks() -> str:
        making.set()
        free.wait(LONG)
        return "late"

    def ready() -> str:
        return "ready"

    def late(late: Annotated[str, Depends(blocks, lifetime="app")]) -> None:
        got.append(late)

    async def late_on_loop(late: Annotated[str, Depends(blocks, lifetime="app")]) -> None:
        got.append(f"{late} on a loop")

    def other(ready: Annotated[str, Depends(ready, lifetime="app")]) -> None:
        got.append(ready)

    async def other_on_loop(ready: Annotated[str, Depends(ready, lifetime="app")]) -> None:
        got.append(f"{ready} on a loop")

    with libmq.open(":memory:") as broker:
        for queue, handler in {"a": late, "b": late_on_loop, "c": other, "d": other_on_loop}.items():
            broker.handler(queue, handler)
        broker.start()
        broker.enqueue("a", 1)
        assert making.wait(LONG)
        broker.enqueue("b", 1)
        for queue in "cd":
            broker.enqueue(queue, 1)
        end = time.monotonic() + LONG / 2
        while len(got) < 2 and time.monotonic() < end:
            time.sleep(0.001)
        assert sorted(got) == ["ready", "ready on a loop"]
        free.set()
        assert broker.wait_idle(LONG)
    assert sorted(got) == ["late", "late on a loop", "ready", "ready on a loop"]


def test_a_close_does_not_wait_for_what_is_being_made_and_that_is_closed_when_it_is() -> None:
    free, making, closed = threading.Event(), threading.Event(), threading.Event()

    def blocks() -> Iterator[str]:
        making.set()
        free.wait(LONG * 5)
        yield "late"
        closed.set()

    def handle(late: Annotated[str, Depends(blocks, lifetime="app")]) -> None:
        log.append(late)

    broker = libmq.open(":memory:")
    broker.handler("q", handle, cancel_grace=0)
    broker.start()
    broker.enqueue("q", 1)
    assert making.wait(LONG)

    def close() -> None:
        with pytest.raises(libmq.TimeoutError):
            broker.close(0)

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(LONG)
    assert not closing.is_alive()
    free.set()
    assert closed.wait(LONG)
    assert log == []


def test_a_dependency_that_cannot_be_made_is_tried_by_the_next_who_asks(broker: libmq.Broker) -> None:
    def fails_once() -> str:
        log.append("made")
        if len(log) == 1:
            raise OSError("not yet")
        return "made"

    def handle(made: Annotated[str, Depends(fails_once, lifetime="app")]) -> None:
        log.append(made)

    broker.handler("q", handle)
    play(broker, 1, 2)
    assert log.count("made") == 4


def test_overrides_end_in_any_order(broker: libmq.Broker) -> None:
    """One that ended before a later one was put back by that one, for good."""
    handled: list[str] = []

    def real() -> str:
        return "real"

    def handle(value: Annotated[str, Depends(real)]) -> None:
        handled.append(value)

    broker.handler("q", handle)
    first = broker.override(real, lambda: "first")
    second = broker.override(real, lambda: "second")
    play(broker)
    first.restore()
    play(broker)
    first.restore()
    second.restore()
    play(broker)
    assert handled == ["second", "second", "real"]


def test_dependencies_that_live_long_are_made_once_however_many_ask_at_once() -> None:
    def one() -> object:
        log.append("one")
        return object()

    def two(one: Annotated[object, Depends(one, lifetime="app")]) -> object:
        log.append("two")
        return one

    def handle(two: Annotated[object, Depends(two, lifetime="app")]) -> None:
        got.append(two)

    async def handle_on_loop(one: Annotated[object, Depends(one, lifetime="app")]) -> None:
        got.append(one)

    for _ in range(20):
        got: list[object] = []
        log.clear()
        with libmq.open(":memory:") as broker:
            broker.handler("q", handle, max_parallelism=4)
            broker.handler("r", handle_on_loop, max_parallelism=4)
            broker.enqueue_many("r", range(20))
            play(broker, *range(20))
        assert sorted(log) == ["one", "two"]
        assert len(got) == 40
        assert len(set(map(id, got))) == 1
