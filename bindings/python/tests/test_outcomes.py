"""What a handler raises to say how its attempt ends: whatever it is, the handler goes on with the next message."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Annotated, Any

import libmq
import pytest
from conftest import LONG


class BareRetry(libmq.Retry):
    def __init__(self, why: str = "") -> None:
        self.why = why


class BareReject(libmq.Reject):
    def __init__(self) -> None:
        pass


class BareRelease(libmq.Release):
    def __init__(self) -> None:
        pass


class BareCancelled(libmq.Cancelled):
    def __init__(self) -> None:
        pass


class Unspeakable(libmq.Retry):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Exiting(libmq.Retry):
    def __str__(self) -> str:
        raise SystemExit(3)


class Speechless(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class Falsy(Exception):
    def __bool__(self) -> bool:
        return False


class Hollow(libmq.Release):
    @property
    def delay(self) -> Any:
        raise KeyError("delay")

    @delay.setter
    def delay(self, value: object) -> None:
        pass


def spoilt(error: BaseException, **attributes: object) -> BaseException:
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


ODD: dict[str, Callable[[], BaseException]] = {
    "an unspeakable retry": Unspeakable,
    "a retry that exits": Exiting,
    "a speechless failure": Speechless,
    "a falsy failure": Falsy,
    "a release without a delay": Hollow,
    "a delay of a wrong type": lambda: spoilt(libmq.Retry(), delay="x"),
    "a delay out of range": lambda: spoilt(libmq.Release(), delay=-1),
    "a delay of a hundred years": lambda: spoilt(libmq.Retry(), delay=100 * 366 * 86400),
    "a reason of a wrong type": lambda: spoilt(libmq.Reject(), reason=5),
}


def raiser(is_async: bool, seen: list[Any], made: Callable[[], BaseException]) -> Callable[[Any], Any]:
    """A handler that raises for a body of "bad"."""

    def handle(body: Any) -> None:
        seen.append(body)
        if body == "bad":
            raise made()

    async def ahandle(body: Any) -> None:
        handle(body)

    return ahandle if is_async else handle


@pytest.fixture
def refusing() -> Iterator[None]:
    """Whatever the handlers' side logs, a filter of the program raises."""

    def refuse(record: logging.LogRecord) -> bool:
        raise RuntimeError("the filter fails")

    logger = logging.getLogger("libmq")
    logger.addFilter(refuse)
    yield
    logger.removeFilter(refuse)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("odd", ODD)
def test_what_cannot_be_settled_is_a_failed_attempt(broker: libmq.Broker, odd: str, is_async: bool) -> None:
    """Once such an exception ended the handler's thread, and the queue stood still without a word."""
    seen: list[Any] = []
    broker.handler("q", raiser(is_async, seen, ODD[odd]), max_retries=0)
    broker.start()
    broker.enqueue("q", "bad")
    broker.enqueue("q", "good")
    assert broker.wait_idle(LONG)
    assert seen == ["bad", "good"]
    (dead,) = broker.dead_letters.list("q")
    assert dead.reason == "max_retries"
    assert dead.error


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_says_what_was_wrong_with_what_was_raised(
    broker: libmq.Broker, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    broker.handler("q", raiser(is_async, [], ODD["a delay of a wrong type"]), max_retries=0)
    broker.start()
    broker.enqueue("q", "bad")
    assert broker.wait_idle(LONG)
    (dead,) = broker.dead_letters.list("q")
    assert dead.error is not None
    assert dead.error.startswith("Retry: the handler asked for a retry")
    assert "TypeError: delay must be seconds or a timedelta, not str" in dead.error
    assert "TypeError: delay must be seconds or a timedelta, not str" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("made", [ValueError, Unspeakable, lambda: libmq.DecodeError("no")])
def test_a_log_that_raises_ends_no_handler(
    broker: libmq.Broker, refusing: None, made: Callable[[], BaseException], is_async: bool
) -> None:
    """Once a filter of the logger that raised ended the handler's thread."""
    seen: list[Any] = []
    broker.handler("q", raiser(is_async, seen, made), max_retries=0)
    broker.start()
    broker.enqueue("q", "bad")
    broker.enqueue("q", "good")
    assert broker.wait_idle(LONG)
    assert seen == ["bad", "good"]
    assert len(broker.dead_letters.list("q")) == 1


def test_a_log_that_raises_does_not_end_the_loop_that_begins_anew(broker: libmq.Broker, refusing: None) -> None:
    seen: list[Any] = []

    async def leave() -> None:
        raise SystemExit(3)

    async def handle(body: Any) -> None:
        seen.append(body)
        if seen == ["bad"]:
            task = asyncio.get_running_loop().create_task(leave())
            await asyncio.wait([task])

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", "bad")
    broker.enqueue("q", "good")
    assert broker.wait_idle(LONG)
    assert seen.count("good") >= 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_subclass_that_calls_no_init_is_as_the_plain_one(broker: libmq.Broker, is_async: bool) -> None:
    for queue, kind in {"retry": BareRetry, "reject": BareReject, "cancelled": BareCancelled}.items():
        broker.handler(queue, raiser(is_async, [], kind), max_retries=0)
    released: list[Any] = []

    def give_back_once() -> BaseException:
        return BareRelease() if len(released) == 1 else ValueError("again")

    broker.handler("release", raiser(is_async, released, give_back_once), max_retries=0)
    broker.start()
    for queue in ("retry", "reject", "cancelled", "release"):
        broker.enqueue(queue, "bad")
    assert broker.wait_idle(LONG)
    ends = {queue: broker.dead_letters.list(queue)[0] for queue in ("retry", "reject", "cancelled", "release")}
    assert (ends["retry"].reason, ends["retry"].error) == ("max_retries", "the handler asked for a retry")
    assert ends["reject"].reason == "rejected"
    assert ends["cancelled"].reason == "max_retries"
    assert len(released) == 2
    assert ends["release"].attempts == 1


def test_a_delivery_is_settled_whatever_is_raised(broker: libmq.Broker) -> None:
    for made in ODD.values():
        broker.enqueue("q", 1)
        raised = made()
        delivery = broker.receive("q", 0)
        assert delivery is not None
        with pytest.raises(type(raised)) as caught, delivery:
            raise raised
        assert caught.value is raised
        again = broker.receive("q", LONG)
        assert again is not None
        with again:
            assert again.attempt == 2


RAISED: list[BaseException] = [
    libmq.Retry(),
    libmq.Retry(2.5, "later"),
    libmq.Reject(),
    libmq.Reject("never"),
    libmq.Release(),
    libmq.Release(3),
    libmq.Cancelled("timeout"),
    BareRetry("a reason"),
]


def with_all(error: BaseException) -> tuple[type, str, dict[str, object]]:
    return type(error), str(error), vars(error)


@pytest.mark.parametrize("error", RAISED, ids=repr)
def test_outcomes_are_copied_and_pickled(error: BaseException) -> None:
    """Once `Retry("later")` was made of a `Retry(None, "later")`, or nothing at all."""
    error.add_note("noted")
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert with_all(pickle.loads(pickle.dumps(error, protocol))) == with_all(error)
    assert with_all(copy.copy(error)) == with_all(error)
    assert with_all(copy.deepcopy(error)) == with_all(error)


def test_errors_are_copied_and_pickled() -> None:
    kinds = [kind for kind in vars(libmq).values() if isinstance(kind, type) and issubclass(kind, libmq.Error)]
    assert len(kinds) > 10
    for kind in kinds:
        error = kind("said")
        error.code, error.retryable, error.path = "ANY", True, "/a/path"
        assert with_all(pickle.loads(pickle.dumps(error))) == with_all(error)
        assert with_all(copy.copy(error)) == with_all(error)


def ask_for_a_retry(body: str) -> None:
    raise libmq.Reject(f"never {body}")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_job_of_another_process_may_raise_an_outcome(broker: libmq.Broker, is_async: bool) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:

        def handle(body: str) -> None:
            pool.submit(ask_for_a_retry, body).result(LONG)

        async def ahandle(body: str) -> None:
            await asyncio.wrap_future(pool.submit(ask_for_a_retry, body))

        broker.handler("q", ahandle if is_async else handle)
        broker.start()
        broker.enqueue("q", "this")
        assert broker.wait_idle(LONG)
    assert [dead.reason for dead in broker.dead_letters.list("q")] == ["never this"]


def dependency() -> int:
    return 1


async def later() -> None:
    pass


class Awaiting:
    def __await__(self) -> Any:
        yield


def iterated() -> Iterator[int]:
    yield 1


ANSWERS: dict[str, Callable[[], Awaitable[None] | Iterator[int]]] = {
    "coroutine": later,
    "Awaiting": Awaiting,
    "generator": iterated,
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_sync_handler_whose_answer_nobody_runs_fails(broker: libmq.Broker, answer: str) -> None:
    """It has done nothing yet: were it acked, the message would be lost."""

    def asks(body: Any, it: Annotated[int, libmq.Depends(dependency)]) -> Any:
        return ANSWERS[answer]()

    broker.handler("bound", lambda body: ANSWERS[answer](), max_retries=0)
    broker.handler("provided", asks, max_retries=0)
    broker.start()
    for queue in ("bound", "provided"):
        broker.enqueue(queue, 1)
    assert broker.wait_idle(LONG)
    for queue in ("bound", "provided"):
        (dead,) = broker.dead_letters.list(queue)
        assert dead.error is not None
        assert dead.error.startswith(f"TypeError: the handler answered a {answer}, which nobody runs")


def test_a_cancellation_is_kept_with_its_place(broker: libmq.Broker) -> None:
    """Where a handler hung, or had cancelled itself, was nowhere to be seen, and its own text was lost."""

    async def hang() -> None:
        await asyncio.sleep(LONG)

    @broker.handler("hangs", timeout=0.05, max_retries=0)
    async def hangs(body: object) -> None:
        await hang()

    @broker.handler("own", max_retries=0)
    async def own(body: object) -> None:
        raise asyncio.CancelledError("text of its own")

    @broker.handler("gives_up", timeout=0.05, max_retries=0)
    def gives_up(body: object, ctx: libmq.Context) -> None:
        ctx.wait_cancelled(LONG)
        ctx.raise_if_cancelled()

    broker.start()
    for queue in ("hangs", "own", "gives_up"):
        broker.enqueue(queue, 1)
    assert broker.wait_idle(LONG)
    errors = {letter.queue: letter.error for letter in broker.dead_letters.list()}
    assert errors["hangs"].startswith("CancelledError: timeout\n\nTraceback")
    assert "in hang\n" in errors["hangs"]
    assert errors["own"].startswith("CancelledError: text of its own\n\nTraceback")
    assert "in own\n" in errors["own"]
    assert errors["gives_up"].startswith("Cancelled: the attempt was cancelled: timeout\n\nTraceback")
    assert "in gives_up\n" in errors["gives_up"]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_is_logged_of_a_failure_begins_in_the_handler(
    broker: libmq.Broker, caplog: pytest.LogCaptureFixture, is_async: bool
) -> None:
    """Half of every traceback was how libmq had called it."""

    def fails(body: object) -> None:
        raise ValueError("no")

    async def fails_async(body: object) -> None:
        raise ValueError("no")

    broker.handler("q", fails_async if is_async else fails, max_retries=0)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.exc_info is not None
    frames = traceback.extract_tb(record.exc_info[2])
    assert [frame.name for frame in frames] == ["fails_async" if is_async else "fails"]


CAUSES: dict[str, tuple[Callable[[Exception], BaseException], str, str]] = {
    "retry": (lambda error: libmq.Retry(0, "later"), "max_retries", "later\n\nConnectionError: the wire\n\nTraceback"),
    "plain retry": (
        lambda error: libmq.Retry(0),
        "max_retries",
        "the handler asked for a retry\n\nConnectionError: the wire\n\nTraceback",
    ),
    "reject": (lambda error: libmq.Reject("no"), "no", "ConnectionError: the wire\n\nTraceback"),
}


def test_a_cause_that_was_never_raised_is_said_once(broker: libmq.Broker) -> None:
    def handle(body: object) -> None:
        raise libmq.Reject("no") from ValueError("of\ntwo lines")

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    (letter,) = broker.dead_letters.list()
    assert letter.error == "ValueError: of\ntwo lines"


@pytest.mark.parametrize("chain", ["from error", "", "from None"])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("cause", CAUSES)
def test_what_an_outcome_was_raised_from_is_kept(broker: libmq.Broker, cause: str, is_async: bool, chain: str) -> None:
    """It was gone, with the place where it came from, and that is what somebody asks who finds the dead letter."""
    made, reason, says = CAUSES[cause]

    def fail() -> None:
        raise ConnectionError("the wire")

    def handle(body: object) -> None:
        try:
            fail()
        except ConnectionError as error:
            if chain == "from None":
                raise made(error) from None
            if chain:
                raise made(error) from error
            raise made(error)  # noqa: B904

    async def ahandle(body: object) -> None:
        handle(body)

    broker.handler("q", ahandle if is_async else handle, max_retries=0)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    broker.stop()
    broker.enqueue("pulled", 1)
    delivery = broker.receive("pulled", 0)
    assert delivery is not None
    with pytest.raises((libmq.Retry, libmq.Reject)), delivery:
        handle(1)
    (letter, *pulled) = broker.dead_letters.list()
    kept = [letter.error, *(letter.error for letter in pulled)]
    assert (letter.reason, len(pulled)) == (reason, int(reason == "no"))
    for error in kept:
        if chain == "from None":
            assert error == says.partition("ConnectionError")[0].rstrip()
        else:
            assert error.startswith(says)
            assert "in fail" in error
            assert "_calling.py" not in error
