"""Ctrl-C, and other signals, in every call that waits on the main thread."""

from collections.abc import Callable
from typing import Any

import pytest

Program = Callable[..., Any]

START = """
    import libmq, os, signal, sys, threading, time

    def after(seconds, number=signal.SIGINT):
        timer = threading.Timer(seconds, lambda: os.kill(os.getpid(), number))
        timer.daemon = True
        timer.start()

    def interrupted(call):
        for seconds in (0.3, 0.001, 0.0001, 0):
            began = time.monotonic()
            try:
                after(seconds)
                call()
                time.sleep(20)
            except KeyboardInterrupt:
                pass
            assert time.monotonic() - began < 15
"""

CALLS = {
    "receive": ("", "broker.receive('none')"),
    "receive with a timeout": ("", "broker.receive('none', timeout=60)"),
    "receive_many": ("", "broker.receive_many('none', 5, timeout=60)"),
    "wait_idle": ("broker.enqueue('q', 1); held = broker.receive('q')", "broker.wait_idle()"),
    "enqueue while full": ("broker.enqueue('q', 1)", "broker.enqueue('q', 2)"),
    "enqueue_many while full": ("broker.enqueue('q', 1)", "broker.enqueue_many('q', [2])"),
    "open of a locked directory": (
        "first = libmq.open('queue')",
        "libmq.open('queue', lock_timeout=60)",
    ),
    "run without signal handlers": ("", "broker.run(install_signal_handlers=False)"),
}


@pytest.mark.parametrize("name", CALLS)
def test_ctrl_c_ends(program: Program, name: str) -> None:
    before, call = CALLS[name]
    program(
        START
        + f"""
    broker = libmq.open(":memory:", capacity=1, on_full="block", block_timeout=60)
    {before}
    interrupted(lambda: {call})
    assert broker.metrics().enqueued <= 1
    broker.close()
    """
    )


@pytest.mark.parametrize("call", ["stop", "close"])
def test_ctrl_c_cuts_short(program: Program, call: str) -> None:
    ran = program(
        START
        + f"""
    broker = libmq.open(":memory:")
    reasons = []
    entered = threading.Event()
    @broker.handler("q", cancel_grace=20)
    def handle(body, ctx):
        entered.set()
        ctx.wait_cancelled(60)
        reasons.append(ctx.cancel_reason)
        ctx.raise_if_cancelled()
    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(20)
    after(0.2)
    try:
        broker.{call}(60)
    except KeyboardInterrupt:
        print(reasons)
    broker.close()
    """
    )
    assert ran.stdout == "['shutdown']\n"


@pytest.mark.parametrize("call", ["stop", "close"])
def test_a_second_ctrl_c_ends_the_grace(program: Program, call: str) -> None:
    """It was waited for to its end, however often Ctrl-C was pressed."""
    program(
        START
        + f"""
    broker = libmq.open(":memory:")
    entered, go = threading.Event(), threading.Event()
    @broker.handler("q", cancel_grace=600)
    def handle(body):
        entered.set()
        go.wait(60)
    broker.start()
    broker.enqueue("q", 1)
    assert entered.wait(20)
    after(0.2)
    after(0.5)
    began = time.monotonic()
    try:
        broker.{call}(600)
    except KeyboardInterrupt:
        assert time.monotonic() - began < 20
        go.set()
    else:
        sys.exit("it was not interrupted")
    """
    )


def test_a_signal_whose_handler_returns_ends_nothing(program: Program) -> None:
    program(
        START
        + """
    came = []
    signal.signal(signal.SIGUSR1, lambda number, frame: came.append(time.monotonic()))
    broker = libmq.open(":memory:")
    after(0.1, signal.SIGUSR1)
    began = time.monotonic()
    assert broker.receive("none", timeout=0.5) is None
    assert time.monotonic() - began >= 0.5
    assert len(came) == 1 and came[0] - began < 0.45, "it was handled while the call waited"
    """
    )


def test_a_signal_may_be_delivered_to_any_thread(program: Program) -> None:
    ran = program(
        START
        + """
    broker = libmq.open(":memory:")
    ready = threading.Event()
    def elsewhere():
        ready.wait()
        time.sleep(0.2)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        time.sleep(0.5)
    threading.Thread(target=elsewhere, daemon=True).start()
    ready.set()
    try:
        broker.receive("none", timeout=30)
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert ran.stdout == "interrupted\n"


def test_who_listened_to_signals_before_still_does(program: Program) -> None:
    program(
        START
        + """
    import socket
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.signal(signal.SIGUSR1, lambda number, frame: None)
    signal.set_wakeup_fd(writer.fileno())
    broker = libmq.open(":memory:")
    after(0.1, signal.SIGUSR1)
    broker.receive("none", timeout=0.5)
    assert signal.set_wakeup_fd(-1) == writer.fileno()
    assert reader.recv(10) == bytes([signal.SIGUSR1])
    """
    )


def test_a_message_that_comes_with_the_signal_is_given_back(program: Program) -> None:
    program(
        START
        + """
    broker = libmq.open(":memory:")
    for round in range(50):
        enqueued = threading.Event()
        def both():
            os.kill(os.getpid(), signal.SIGINT)
            broker.enqueue("q", round)
            enqueued.set()
        try:
            threading.Timer(0.005, both).start()
            delivery = broker.receive("q", timeout=30)
            delivery.ack()
            time.sleep(20)
        except KeyboardInterrupt:
            pass
        enqueued.wait(20)
        left = broker.receive("q", timeout=0)
        if left is not None:
            left.ack()
    figures = broker.metrics()
    assert figures.acked == 50 and figures.in_flight == 0, figures
    """
    )


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_run_ends_with_a_signal(program: Program, number: str) -> None:
    program(
        START
        + f"""
    with libmq.open(":memory:") as broker:
        before = signal.getsignal(signal.{number})
        broker.handler("q", lambda body: after(0, signal.{number}))
        broker.enqueue("q", 1)
        broker.run()
        assert signal.getsignal(signal.{number}) is before
        assert broker.metrics().acked == 1
        broker.enqueue("q", 2)
        broker.run()
        assert broker.metrics().acked == 2
    """
    )


def test_run_misses_no_signal(program: Program) -> None:
    """One that came just before `run` fell asleep used to be noticed with the next one only."""
    program(
        START
        + """
    broker = libmq.open(":memory:")
    @broker.handler("q")
    def handle(seconds):
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGTERM)
    for round in range(2000):
        broker.enqueue("q", (round % 200) / 4_000_000)
        broker.run()
    assert broker.metrics().acked == 2000
    broker.close()
    """
    )


def test_a_second_signal_ends_the_drain_of_run(program: Program) -> None:
    program(
        START
        + """
    broker = libmq.open(":memory:")
    @broker.handler("q", cancel_grace=20)
    def handle(body, ctx):
        after(0, signal.SIGTERM)
        after(0.3, signal.SIGTERM)
        ctx.wait_cancelled(60)
        ctx.raise_if_cancelled()
    broker.enqueue("q", 1)
    began = time.monotonic()
    broker.run(stop_timeout=60)
    assert time.monotonic() - began < 30
    assert broker.metrics().released == 1
    broker.close()
    """
    )


@pytest.mark.parametrize("gap", [0, 0.3])
def test_a_second_signal_forces_the_end_of_run(program: Program, gap: float) -> None:
    """It ended the drain, and then everybody waited for the grace all the same."""
    ran = program(
        START
        + f"""
    broker = libmq.open("queue")
    @broker.handler("q", cancel_grace=600)
    def handle(body, ctx):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep({gap})
        # Another one: of two that are the same, the kernel makes one where the first has not been heard yet.
        os.kill(os.getpid(), signal.SIGINT)
        ctx.wait_cancelled(600)
        print(ctx.cancel_reason, flush=True)
        time.sleep(600)
    broker.enqueue("q", 1)
    began = time.monotonic()
    broker.run(stop_timeout=600)
    # Twenty times what it takes on a busy machine.
    assert time.monotonic() - began < 20
    figures = broker.metrics()
    assert (figures.in_flight, figures.ready, figures.released, figures.stuck) == (0, 1, 1, 1), figures
    time.sleep(0.1)
    sys.exit(7)
    """,
        status=7,
    )
    assert ran.stdout in ("shutdown\n", "lease_lost\n"), "the one, and then the other"


def test_what_ends_within_its_grace_has_ended_in_order(program: Program) -> None:
    """An ordinary SIGTERM ended the program with a traceback and 1, though its handlers had done as they were told."""
    ran = program(
        START
        + """
    broker = libmq.open(":memory:")
    @broker.handler("q", max_parallelism=2)
    def handle(raises, ctx):
        if raises:
            after(0.1, signal.SIGTERM)
        ctx.wait_cancelled(60)
        if raises:
            ctx.raise_if_cancelled()
    broker.enqueue_many("q", [True, False])
    broker.run(stop_timeout=0.2)
    figures = broker.metrics()
    print(figures.released, figures.acked, figures.stuck)
    with broker:
        pass
    """
    )
    assert ran.stdout == "1 1 0\n"


def test_what_runs_on_beyond_its_grace_is_told(program: Program) -> None:
    ran = program(
        START
        + """
    broker = libmq.open(":memory:")
    @broker.handler("q", cancel_grace=0.1)
    def handle(body, ctx):
        after(0, signal.SIGTERM)
        time.sleep(600)
    broker.enqueue("q", 1)
    broker.run(stop_timeout=0.1)
    """,
        status=1,
        timeout=30,
    )
    assert "TimeoutError: 1 of the handlers ran on beyond their grace" in ran.stderr


def test_run_until_idle(program: Program) -> None:
    program(
        START
        + """
    with libmq.open(":memory:", default_backoff=libmq.Backoff.fixed(0.05)) as broker:
        @broker.handler("q", max_retries=2)
        def handle(body, ctx):
            if ctx.attempt < 3:
                raise libmq.Retry
        broker.enqueue_many("q", range(10))
        broker.run(until_idle=True)
        assert broker.metrics().acked == 10
        # Not in the main thread, where it takes no signals.
        broker.enqueue("q", 1)
        thread = threading.Thread(target=lambda: broker.run(until_idle=True, install_signal_handlers=False))
        thread.start()
        thread.join(20)
        assert broker.metrics().acked == 11
        thread = threading.Thread(target=lambda: broker.run(install_signal_handlers=False))
        thread.start()
        time.sleep(0.1)
        broker.stop()
        thread.join(20)
        assert not thread.is_alive()
    """
    )


# There is a pipe for the signals that come while a call waits. Where it could not be had, a close was an OSError, the
# broker stayed open, and nobody else could open its directory.
def test_without_files_to_be_had_a_close_closes(program: Program) -> None:
    ran = program(
        """
    import libmq, os, resource
    broker = libmq.open("queue")
    broker.handler("q", lambda body: None)
    broker.start()
    broker.enqueue("q", 1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    files = []
    try:
        while True:
            files.append(os.dup(0))
    except OSError:
        pass
    idle = broker.wait_idle(20)
    broker.close()
    for file in files:
        os.close(file)
    with libmq.open("queue") as broker:
        print(idle, broker.recovery.messages)
    """
    )
    assert ran.stdout == "True 0\n"


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_a_server_on_the_same_loop_hears_its_signals(program: Program, number: str) -> None:
    """`arun` in a task of a server took them: the broker stopped, and the server never ended."""
    program(
        f"""
        import asyncio, contextlib, libmq, os, signal

        async def serve():
            ended, loop = asyncio.Event(), asyncio.get_running_loop()
            before = signal.signal(signal.{number}, lambda *_: loop.call_soon_threadsafe(ended.set))
            async with libmq.open(":memory:") as broker:
                running = asyncio.create_task(broker.arun())
                await asyncio.sleep(0.1)
                os.kill(os.getpid(), signal.{number})
                await asyncio.wait_for(ended.wait(), 20)
                await asyncio.wait_for(running, 20)
            assert signal.getsignal(signal.{number}) is not before
            signal.signal(signal.{number}, before)

        asyncio.run(serve())
        """
    )


def test_ctrl_c_in_arun_is_not_that_of_asyncio_run(program: Program) -> None:
    program(
        """
        import asyncio, libmq, os, signal

        async def main():
            with libmq.open(":memory:") as broker:
                asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGINT)
                await broker.arun()
                await asyncio.sleep(0)
                print("after")

        asyncio.run(main())
        """
    )
