"""Whoever runs a broker, and what ends that."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import libmq
import pytest
from conftest import LONG


def busy(broker: libmq.Broker) -> libmq.Delivery:
    """Has the broker not be idle until what is answered is settled."""
    broker.enqueue("held", 1)
    held = broker.receive("held", 0)
    assert held is not None
    return held


ENDS: dict[str, Callable[[libmq.Broker], None]] = {"stop": libmq.Broker.stop, "close": libmq.Broker.close}


@pytest.mark.parametrize("until_idle", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("awaited", [False, True])
def test_run_ends_when_another_thread_stops_or_closes_the_broker(
    broker: libmq.Broker, until_idle: bool, end: str, awaited: bool
) -> None:
    """Until idle it heard of no stop, and a close was raised as an error of its own."""
    held = busy(broker)
    raised: list[BaseException] = []

    def run() -> None:
        try:
            if awaited:
                asyncio.run(broker.arun(until_idle, install_signal_handlers=False))
            else:
                broker.run(until_idle, install_signal_handlers=False)
        except BaseException as error:
            raised.append(error)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    time.sleep(0.2)
    assert running.is_alive()
    ENDS[end](broker)
    running.join(LONG)
    assert not running.is_alive()
    assert raised == []
    del held


def test_run_of_a_closed_broker_is_refused(broker: libmq.Broker) -> None:
    broker.close()
    for until_idle in (False, True):
        with pytest.raises(libmq.ClosedError):
            broker.run(until_idle, install_signal_handlers=False)
        with pytest.raises(libmq.ClosedError):
            asyncio.run(broker.arun(until_idle, install_signal_handlers=False))


def test_a_signal_anywhere_in_run_is_no_error_of_its_own(program: Callable[..., Any]) -> None:
    """One that came between the end of a wait and the note of it was raised as what nobody outside knows."""
    program(
        """
        import libmq, os, signal, sys, threading

        class Enough(Exception):
            pass

        seen, sends = set(), False
        def trace(frame, event, argument):
            global sends
            where = frame.f_code.co_filename, frame.f_lineno
            if sends and os.sep + "libmq" + os.sep in where[0] and where not in seen:
                seen.add(where)
                sends = False
                os.kill(os.getpid(), signal.SIGTERM)
            return trace

        def enough(number, frame):
            global sends
            sends = True
            while frame is not None:
                frame.f_trace = trace
                frame = frame.f_back
            sys.settrace(trace)
            raise Enough

        signal.signal(signal.SIGUSR1, enough)
        # Before `run` takes it, and afterwards.
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        broker = libmq.open(":memory:")
        rounds = 0
        while not sends:
            rounds += 1
            timer = threading.Timer(0.02, lambda: os.kill(os.getpid(), signal.SIGUSR1))
            timer.start()
            try:
                broker.run()
            except Enough:
                pass
            finally:
                sys.settrace(None)
            # Once it comes nowhere, it has come everywhere.
        assert rounds > 10, rounds
        broker.close()
        """
    )


def test_run_is_refused_in_a_handler_and_on_a_loop(broker: libmq.Broker) -> None:
    """In a handler of a thread it waited for that handler for ever, and on a loop it held that up as long as it ran."""
    codes: list[str] = []

    def refused(call: Callable[[], object]) -> None:
        with pytest.raises(libmq.Error) as raised:
            call()
        codes.append(raised.value.code)

    @broker.handler("q")
    def handle(body: Any) -> None:
        refused(lambda: broker.run(install_signal_handlers=False, until_idle=True))
        refused(lambda: asyncio.run(broker.arun(install_signal_handlers=False, until_idle=True)))

    async def on_loop() -> None:
        with pytest.raises(libmq.Error, match="await arun") as raised:
            broker.run(until_idle=True)
        codes.append(raised.value.code)

    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(LONG)
    asyncio.run(on_loop())
    assert codes == ["DEADLOCK"] * 3
