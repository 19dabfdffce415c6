"""Threads that cannot be had, and registrations that meet: no handler is left without what runs it."""

import threading
from typing import Any

import libmq
import pytest
from conftest import LONG


class Refused:
    """Has the start of a thread of this name refused once, as where there are too many."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, error: type[Exception]) -> None:
        self.times = 1
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == name and self.times > 0:
                self.times -= 1
                raise error("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)


def test_a_handler_without_a_foreman_is_none_and_the_next_one_has_one(
    broker: libmq.Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The channel's end was lost with the thread: the core had a handler, and none ever got a thread."""
    refused = Refused(monkeypatch, "libmq-foreman", RuntimeError)
    handled = threading.Event()
    with pytest.raises(RuntimeError):
        broker.handler("q", lambda body: handled.set())
    assert refused.times == 0
    with pytest.raises(libmq.NotFoundError):
        broker.scale("q", 2)
    broker.handler("q", lambda body: handled.set())
    broker.start()
    broker.enqueue("q", 1)
    assert handled.wait(LONG)


@pytest.mark.parametrize("error", [RuntimeError, MemoryError])
def test_a_thread_that_cannot_be_started_ends_nothing(
    broker: libmq.Broker, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """The only one of a queue was not tried again, and what was no RuntimeError ended the foreman, and all handlers."""
    refused = Refused(monkeypatch, "libmq-lost", error)
    handled = threading.Barrier(3)
    broker.handler("lost", lambda body: handled.wait(LONG))
    broker.handler("q", lambda body: handled.wait(LONG))
    broker.start()
    broker.enqueue("lost", 1)
    broker.enqueue("q", 1)
    handled.wait(LONG)
    assert refused.times == 0


def test_two_threads_that_register_for_a_queue_leave_it_a_handler(broker: libmq.Broker) -> None:
    """Each took the other for the one that it had replaced, and the queue's messages had nobody to be called."""
    handle = broker._handle
    registered, first_is_in, second_is_in = threading.Event(), threading.Event(), threading.Event()
    handled: list[str] = []

    def interleaved(*arguments: Any) -> None:
        if threading.current_thread().name == "first":
            registered.set()
            second_is_in.wait(1)
            handle(*arguments)
            first_is_in.set()
        else:
            handle(*arguments)
            second_is_in.set()
            first_is_in.wait(1)

    broker._handle = interleaved  # type: ignore[assignment,method-assign]

    def register(name: str) -> None:
        broker.handler("q", lambda body: handled.append(name))

    first = threading.Thread(target=register, args=("first",), name="first")
    second = threading.Thread(target=register, args=("second",), name="second")
    first.start()
    assert registered.wait(LONG)
    second.start()
    first.join(LONG)
    second.join(LONG)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    assert len(handled) == 1


def test_a_handler_that_registers_while_another_thread_does_is_told_so(broker: libmq.Broker) -> None:
    """It would wait for whoever replaces it, who waits for it."""
    entered, replacing = threading.Event(), threading.Event()
    codes: list[str] = []

    def handle(body: Any) -> None:
        entered.set()
        replacing.wait(LONG)
        try:
            while not codes:
                broker.handler("r", lambda body: None)
        except libmq.Error as error:
            codes.append(error.code)

    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(LONG)
    replacing.set()
    broker.handler("q", lambda body: None)
    assert codes == ["DEADLOCK"]


def test_that_the_program_ends_is_no_trouble_with_threads(
    broker: libmq.Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From 3.12 on Python has no new threads at its end, and every other clean end said so as a warning."""
    start, refused = threading.Thread.start, threading.Event()

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "libmq-q" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    handled = threading.Event()
    broker.handler("q", lambda body: handled.set())
    broker.start()
    broker.enqueue("q", 1)
    assert handled.wait(LONG)
    assert refused.is_set()
    assert "no thread" not in caplog.text
