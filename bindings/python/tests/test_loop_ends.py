"""Ends of programs with event loops, each in a process of its own: signals, exits and forks."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

Program = Callable[..., Any]

START = """
    import asyncio, libmq, os, signal, sys, threading, time
    broker = libmq.open("queue", default_backoff=libmq.Backoff.fixed(0))
    entered = threading.Event()

    async def slow(body, ctx):
        entered.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print(ctx.cancel_reason, flush=True)
            raise

    async def stubborn(body, ctx):
        entered.set()
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass

    async def blocking(body, ctx):
        entered.set()
        time.sleep(600)

    def kill_when_entered(*signals):
        def kill():
            entered.wait(20)
            for number in signals:
                os.kill(os.getpid(), number)
                time.sleep(0.3)
        threading.Thread(target=kill, daemon=True).start()
"""

AFTER = """
import libmq
with libmq.open("queue") as broker:
    print("after:", broker.recovery.messages, broker.recovery.suspects, broker.receive("q", 0).attempt)
"""


def test_a_program_ends_with_a_task_that_runs(program: Program) -> None:
    ran = program(
        START
        + """
    broker.handler("q", slow)
    broker.start()
    broker.enqueue("q", 1)
    entered.wait(20)
    """
    )
    assert ran.stdout == "shutdown\n"
    assert program(AFTER).stdout == "after: 1 0 1\n"


@pytest.mark.parametrize("handler", ["stubborn", "blocking"])
def test_a_program_ends_whatever_a_task_does(program: Program, handler: str) -> None:
    program(
        START
        + f"""
    broker.handler("q", {handler}, cancel_grace=0.1)
    broker.start()
    broker.enqueue("q", 1)
    entered.wait(20)
    """,
        timeout=30,
    )
    assert program(AFTER).stdout == "after: 1 0 1\n"


def test_a_program_ends_that_has_handled_and_waits_for_nothing(program: Program) -> None:
    ran = program(
        START
        + """
    async def handle(body):
        print(body)
    broker.handler("q", handle)
    broker.start()
    broker.enqueue("q", 1)
    broker.wait_idle(20)
    """
    )
    assert (ran.stdout, ran.stderr) == ("1\n", "")


def test_sys_exit_in_a_task_is_a_failed_attempt_and_os_exit_a_crash(program: Program) -> None:
    program(
        START
        + """
    async def handle(body):
        os._exit(7)
    broker.handler("q", handle)
    asyncio.run(broker.arun()) if broker.enqueue("q", 1) else None
    """,
        status=7,
    )
    assert program(AFTER).stdout == "after: 1 1 1\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_arun(program: Program, number: signal.Signals) -> None:
    ran = program(
        START
        + f"""
    async def handle(body):
        entered.set()
        await asyncio.sleep(0.3)
        print("done")

    async def main():
        before = signal.getsignal({number}), signal.getsignal(signal.SIGTERM)
        await broker.arun()
        assert (signal.getsignal({number}), signal.getsignal(signal.SIGTERM)) == before

    broker.handler("q", handle)
    broker.enqueue_many("q", [1, 2])
    kill_when_entered({number})
    asyncio.run(main())
    print("over")
    """
    )
    assert ran.stdout == "done\nover\n"
    assert program(AFTER).stdout == "after: 1 0 1\n"


def test_another_loop_runs_handlers_and_hears_signals(program: Program) -> None:
    pytest.importorskip("uvloop")
    ran = program(
        START
        + """
    import uvloop
    uvloop.install()

    async def handle(body, ctx):
        loop = asyncio.get_running_loop()
        print(body, isinstance(loop, uvloop.Loop), threading.current_thread().name, flush=True)
        entered.set()
        await asyncio.sleep(0.2)

    broker.handler("q", handle)
    broker.handler("slow", slow, cancel_grace=5)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(20)
    broker.close()
    broker = libmq.open("queue")
    broker.handler("q", handle)
    broker.enqueue("q", 2)
    entered.clear()
    kill_when_entered(signal.SIGTERM)
    asyncio.run(broker.arun())
    assert broker.metrics().acked == 1
    broker.handler("slow", slow)
    broker.enqueue("slow", 3)
    entered.clear()
    kill_when_entered(signal.SIGINT)
    asyncio.run(broker.arun(stop_timeout=0))
    print("over", flush=True)
    broker.close()
    """
    )
    assert ran.stdout == "1 True libmq-loop\n2 True MainThread\nshutdown\nover\n"


def test_two_brokers_on_one_loop(program: Program) -> None:
    ran = program(
        START
        + """
    other = libmq.open("other", capacity=1, on_full="block")

    async def handle(body, ctx):
        print(body)

    async def main():
        both = [asyncio.create_task(each.arun(install_signal_handlers=False)) for each in (broker, other)]
        await broker.aenqueue("q", 1)
        await other.aenqueue("q", 2)
        while broker.metrics().acked + other.metrics().acked < 2:
            await asyncio.sleep(0.001)
        both[0].cancel()
        await asyncio.gather(both[0], return_exceptions=True)
        other.enqueue("unheard", 3)
        try:
            other.enqueue("unheard", 4)
        except libmq.FullError:
            print("full")
        both[1].cancel()
        await asyncio.gather(*both, return_exceptions=True)

    broker.handler("q", handle)
    other.handler("q", handle)
    asyncio.run(main())
    """
    )
    assert sorted(ran.stdout.split()) == ["1", "2", "full"]


def test_a_signal_cancels_what_does_not_end_in_time(program: Program) -> None:
    """What ended within its grace has ended in order, and the program with it: it was a `TimeoutError`."""
    ran = program(
        START
        + """
    broker.handler("q", slow)
    broker.enqueue("q", 1)
    kill_when_entered(signal.SIGTERM)
    asyncio.run(broker.arun(stop_timeout=0.1))
    print("over")
    """
    )
    assert ran.stdout == "shutdown\nover\n"


def test_a_signal_cuts_off_what_runs_on_beyond_its_grace(program: Program) -> None:
    ran = program(
        START
        + """
    async def main():
        try:
            await broker.arun(stop_timeout=0.1)
        except libmq.TimeoutError as error:
            print(error, flush=True)
        os._exit(0)

    broker.handler("q", stubborn, cancel_grace=0.1)
    broker.enqueue("q", 1)
    kill_when_entered(signal.SIGTERM)
    asyncio.run(main())
    """
    )
    assert ran.stdout.startswith("1 of the handlers ran on beyond their grace")


@pytest.mark.parametrize("held", ["await broker.arun(False, False, 0.1)", "await asyncio.sleep(600)"])
def test_what_is_cancelled_is_told_of_that_whatever_was_cut_off(program: Program, held: str) -> None:
    """It was a `TimeoutError`, which a server takes for a failure, and `asyncio.timeout` for nobody's."""
    ran = program(
        START
        + f"""
    async def main():
        async with libmq.open(":memory:") as broker:
            broker.handler("q", stubborn, cancel_grace=0.1)
            broker.enqueue("q", 1)
            broker.start()
            {held}

    async def cancel():
        import libmq._broker
        libmq._broker._CLOSE_TIMEOUT_S = 0.1
        running = asyncio.create_task(main())
        while not entered.is_set():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait((running,))
        print(running.cancelled(), flush=True)
        os._exit(0)

    asyncio.run(cancel())
    """
    )
    assert ran.stdout == "True\n"
    assert "a broker was ended for a cancelled task, and raised TimeoutError: " in ran.stderr


BEFORE = {
    "of the loop": "loop.add_signal_handler(number, heard.append, 1)",
    "of the program": "signal.signal(number, lambda *_: heard.append(1))",
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("before", BEFORE)
def test_a_handler_of_signals_is_there_again_after_arun(program: Program, before: str, number: signal.Signals) -> None:
    """That of a loop was gone, and the signal without effect, also when the loop was closed."""
    ran = program(
        f"""
        import asyncio, libmq, os, signal
        number, heard = signal.Signals({number:d}), []

        async def kill_in_arun(*brokers):
            running = [asyncio.create_task(each.arun()) for each in brokers]
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), number)
            await asyncio.wait_for(asyncio.gather(*running), 20)

        async def main():
            loop = asyncio.get_running_loop()
            {BEFORE[before]}
            async with libmq.open(":memory:") as broker, libmq.open(":memory:") as other:
                await kill_in_arun(broker)
                print(heard)
                await kill_in_arun(broker, other)
                print(heard)
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)
            print(heard)

        asyncio.run(main())
        """
    )
    assert ran.stdout == "[1]\n[1, 1]\n[1, 1, 1]\n"


def test_signals_are_as_before_whichever_of_two_runs_ends_first(program: Program) -> None:
    """Who ended last put the handler of the other one back, which hears nothing any more."""
    program(
        """
        import asyncio, libmq, signal

        async def main():
            async with libmq.open(":memory:") as broker, libmq.open(":memory:") as other:
                running = [asyncio.create_task(each.arun()) for each in (broker, other)]
                await asyncio.sleep(0.1)
                for each in running:
                    taken = signal.getsignal(signal.SIGTERM)
                    assert callable(taken)
                    each.cancel()
                    await asyncio.wait((each,))

        before = signal.getsignal(signal.SIGTERM)
        asyncio.run(main())
        assert signal.getsignal(signal.SIGTERM) is before
        """
    )


def test_a_second_signal_forces_the_end_of_arun(program: Program) -> None:
    ran = program(
        START
        + """
    async def main():
        await broker.arun(stop_timeout=600)
        print("over", broker.metrics().ready, flush=True)
        os._exit(0)

    broker.handler("q", stubborn, cancel_grace=600)
    broker.enqueue("q", 1)
    kill_when_entered(signal.SIGTERM, signal.SIGTERM)
    asyncio.run(main())
    """
    )
    assert ran.stdout == "over 1\n"


def test_without_signal_handlers_ctrl_c_cancels_arun_which_drains(program: Program) -> None:
    ran = program(
        START
        + """
    async def handle(body):
        entered.set()
        await asyncio.sleep(0.3)
        print("done")

    signal.signal(signal.SIGINT, signal.default_int_handler)
    broker.handler("q", handle)
    broker.enqueue("q", 1)
    kill_when_entered(signal.SIGINT)
    try:
        asyncio.run(broker.arun(install_signal_handlers=False))
    except KeyboardInterrupt:
        print("interrupted")
    """
    )
    assert ran.stdout == "done\ninterrupted\n"


def test_a_loop_that_is_left_in_the_middle_holds_nobody_up(program: Program) -> None:
    ran = program(
        START
        + """
    broker.handler("q", slow)
    broker.enqueue("q", 1)
    loop = asyncio.new_event_loop()
    running = loop.create_task(broker.arun(install_signal_handlers=False))
    waiting = loop.create_task(broker.areceive("other"))
    async def until_entered():
        while not entered.is_set():
            await asyncio.sleep(0.001)
    loop.run_until_complete(until_entered())
    print("left", flush=True)
    """,
        timeout=30,
    )
    assert ran.stdout.startswith("left\n")
    assert program(AFTER).stdout == "after: 1 0 1\n"


def test_the_next_loop_takes_messages_whatever_the_one_before_was_about_to_do(program: Program) -> None:
    ran = program(
        START
        + """
    loop = asyncio.new_event_loop()
    seen = []

    async def handle(body):
        seen.append(body)
        match body:
            case "stays":
                while "last" not in seen:
                    await asyncio.sleep(0.01)
            case "leaves":
                # Messages are taken in the next turn of this loop, which does not come.
                loop.stop()

    broker.handler("q", handle, max_parallelism=2, cancel_grace=0.1)
    broker.enqueue_many("q", ["stays", "leaves", "then", "last"])
    run = broker.arun()
    try:
        loop.run_until_complete(run)
    except RuntimeError:
        run.close()
    asyncio.run(broker.arun(until_idle=True))
    print(*seen)
    """,
        timeout=30,
    )
    assert ran.stdout == "stays leaves stays then last\n"


def test_a_thread_that_waits_on_a_loop_does_not_hold_up_the_end(program: Program) -> None:
    ran = program(
        START
        + """
    async def wait():
        try:
            await broker.areceive("q")
        except libmq.ClosedError as error:
            sys.stdout.write(f"{error.code}\\n")

    # Two threads write, and a print is two writes.
    async def run():
        await broker.arun(install_signal_handlers=False)
        sys.stdout.write("ran\\n")

    threads = [threading.Thread(target=lambda main=main: asyncio.run(main())) for main in (wait, run)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    """
    )
    assert sorted(ran.stdout.split()) == ["CLOSED", "ran"]


def test_a_forked_child_leaves_its_parents_loops_alone(program: Program) -> None:
    ran = program(
        START
        + """
    import gc

    async def handle(body):
        print("handled", body, flush=True)

    broker.handler("q", handle)
    broker.start()

    async def main():
        await broker.aenqueue("q", 1)
        waiting = asyncio.create_task(broker.areceive("r"))
        await asyncio.sleep(0.05)
        child = os.fork()
        if child == 0:
            async def refused():
                for call in (broker.aenqueue("q", 1), broker.areceive("q"), broker.arun()):
                    try:
                        await call
                    except libmq.ForkedError:
                        continue
                    os._exit(3)
                try:
                    broker.override(int, str)
                except libmq.ForkedError:
                    pass
                else:
                    os._exit(4)
                async with libmq.open("own") as own:
                    await own.aenqueue("q", 1)
                    async def handle_own(body):
                        pass
                    own.handler("q", handle_own)
                    await own.arun(until_idle=True, install_signal_handlers=False)
                    assert own.metrics().acked == 1
            thread = threading.Thread(target=lambda: asyncio.run(refused()))
            thread.start()
            thread.join()
            gc.collect()
            os._exit(0)
        status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status[1]) == 0, status
        await broker.aenqueue("r", 2)
        async with await waiting as delivery:
            print("received", delivery.body, flush=True)

    asyncio.run(main())
    broker.enqueue("q", 3)
    assert broker.wait_idle(20)
    broker.close()
    """
    )
    assert ran.stdout == "handled 1\nreceived 2\nhandled 3\n"


@pytest.mark.parametrize("until_idle", [False, True])
def test_a_child_that_leaves_the_loop_of_its_parent_ends(program: Program, until_idle: bool) -> None:
    """It waited for ever for a thread that only its parent had, and the parent's loop was woken by no message again."""
    ran = program(
        START
        + f"""
    async def handle(body):
        print("handled", body, flush=True)

    async def sleep(body):
        await asyncio.sleep(600)

    async def main():
        broker.handler("q", handle)
        broker.handler("sleep", sleep)
        await broker.aenqueue("sleep", 0)
        running = asyncio.create_task(broker.arun(until_idle={until_idle}))
        await asyncio.sleep(0.05)
        child = os.fork()
        if child == 0:
            return
        end = time.monotonic() + 20
        while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
            assert time.monotonic() < end, os.kill(child, signal.SIGKILL)
            await asyncio.sleep(0.01)
        assert os.waitstatus_to_exitcode(ended[1]) == 0, ended
        await broker.aenqueue("q", 1)
        await asyncio.sleep(0.1)
        print("parent", flush=True)
        os._exit(0)

    asyncio.run(main())
    """,
        timeout=30,
    )
    assert ran.stdout == "handled 1\nparent\n"


def test_many_programs_end_in_the_middle_of_everything(program: Program) -> None:
    for round in range(10):
        program(
            START
            + f"""
    async def handle(body, ctx):
        await asyncio.sleep(0.001)
        ctx.enqueue("q", body)

    broker.handler("q", handle, max_parallelism=8)
    broker.start()
    broker.enqueue_many("q", range(20))

    async def main():
        for _ in range(20):
            await asyncio.gather(*(broker.aenqueue("r", 1) for _ in range(20)))

    threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
    time.sleep({round} / 100)
    """
        )


def test_an_enqueue_that_is_awaited_when_the_main_thread_ends_returns(program: Program) -> None:
    """The loop was told no more what became of it, and the program never ended."""
    ran = program(
        """
        import asyncio, libmq, threading, time
        broker = libmq.open("queue")

        async def produce():
            for number in range(3000):
                await broker.aenqueue("q", number)
            print("produced", flush=True)

        threading.Thread(target=lambda: asyncio.run(produce())).start()
        time.sleep(0.05)
        """
    )
    assert ran.stdout == "produced\n"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_enqueue_that_is_awaited_for_room_ends_with_the_main_thread(program: Program, when: str) -> None:
    """The program hung for all of `block_timeout`, where `enqueue` was told at once."""
    ran = program(
        f"""
        import asyncio, libmq, threading, time
        broker = libmq.open("queue", capacity=1, on_full="block", block_timeout=600)
        broker.enqueue("q", 1)

        async def produce():
            if {when == "after"}:
                threading.main_thread().join()
                time.sleep(0.2)
            try:
                await asyncio.gather(*(broker.aenqueue("q", number) for number in range(3)))
            except libmq.FullError as error:
                print(error, flush=True)

        threading.Thread(target=lambda: asyncio.run(produce())).start()
        time.sleep(0.2)
        """,
        timeout=30,
    )
    assert ran.stdout == "the broker is full: 1 messages are live, which is its capacity\n"


def test_a_loop_that_cannot_be_made_is_tried_again_with_pauses(program: Program) -> None:
    """Without a file descriptor for it, the thread of async handlers tried and logged without end."""
    ran = program(
        """
        import libmq, logging, os, resource, threading, time

        tries = []
        class Counts(logging.Handler):
            def emit(self, record):
                tries.append(record.getMessage())
        broker = libmq.open(":memory:")
        logging.getLogger("libmq").addHandler(Counts())
        logging.getLogger("libmq").propagate = False
        async def handle(body):
            print("handled", body, flush=True)
        broker.handler("q", handle)
        broker.enqueue("q", 1)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        taken = []
        try:
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        broker.start()
        time.sleep(1)
        assert 0 < len(tries) < 100, len(tries)
        for descriptor in taken:
            os.close(descriptor)
        assert broker.wait_idle(20)
        broker.close()
        print([thread.name for thread in threading.enumerate()], set(tries))
        """
    )
    assert ran.stdout == "handled 1\n['MainThread'] {'the loop of async handlers is begun anew'}\n"


def test_async_with_closes_after_the_main_thread(program: Program) -> None:
    """A thread for the close was asked of a pool, which has none any more, and the broker was left open."""
    ran = program(
        """
        import asyncio, libmq, threading, time

        async def serve():
            async with libmq.open("queue") as broker:
                entered.set()
                while threading.main_thread().is_alive():
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.2)
            try:
                broker.metrics()
            except libmq.ClosedError:
                print("closed", flush=True)

        entered = threading.Event()
        threading.Thread(target=lambda: asyncio.run(serve())).start()
        entered.wait(20)
        """
    )
    assert ran.stdout == "closed\n", ran.stderr


def test_an_async_with_whose_end_is_cancelled_is_in_a_hurry_and_closes(program: Program) -> None:
    """The close went on for itself, and what it raised nobody heard of."""
    ran = program(
        """
        import asyncio, libmq, threading, time

        async def main():
            entered = threading.Event()
            def handle(body, ctx):
                entered.set()
                ctx.wait_cancelled(600)
                time.sleep(600)
            async def use():
                async with libmq.open("queue") as broker:
                    broker.handler("q", handle, cancel_grace=600)
                    broker.start()
                    broker.enqueue("q", 1)
                    while not entered.is_set():
                        await asyncio.sleep(0.001)
            using = asyncio.create_task(use())
            while not entered.is_set():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.2)
            began = time.monotonic()
            using.cancel()
            try:
                await using
            except asyncio.CancelledError:
                print("cancelled", flush=True)
            assert time.monotonic() - began < 20
            libmq.open("queue").close()
            print("closed", flush=True)

        asyncio.run(main())
        """
    )
    assert ran.stdout == "cancelled\nclosed\n"


def test_an_async_with_that_is_left_in_the_middle_holds_nobody_up(program: Program) -> None:
    ran = program(
        """
        import asyncio, libmq

        async def use():
            async with libmq.open("queue") as broker:
                await broker.aenqueue("q", 1)
                entered.set()
                await asyncio.sleep(600)

        async def main():
            global entered
            entered = asyncio.Event()
            coroutine = use()
            task = asyncio.ensure_future(asyncio.wait_for(entered.wait(), 20))
            coroutine.send(None)
            await asyncio.sleep(0.2)
            coroutine.close()
            task.cancel()

        asyncio.run(main())
        print("left", flush=True)
        while True:
            try:
                libmq.open("queue", lock_timeout=20).close()
                break
            except libmq.ClosedError:
                pass
        print("closed", flush=True)
        """
    )
    assert ran.stdout == "left\nclosed\n", ran.stderr


ENDS_OF_A_CHILD = {
    "pass": 3,
    "sys.exit(5)": 5,
    "raise ValueError": 4,
    "await asyncio.sleep(0)": 3,
}


@pytest.mark.parametrize("end", ENDS_OF_A_CHILD)
@pytest.mark.parametrize("entered", ["async with", "with"])
def test_a_forked_child_leaves_a_with_as_if_it_were_not_there(program: Program, entered: str, end: str) -> None:
    """A `ForkedError` took the place of what was raised, `SystemExit` too; the broker is for the parent to close."""
    ran = program(
        f"""
        import asyncio, libmq, os, sys

        async def main():
            try:
                {entered} libmq.open("queue") as broker:
                    child = os.fork()
                    if child == 0:
                        {end}
                    else:
                        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
                        broker.enqueue("q", 1)
            except ValueError:
                os._exit(4)
            except SystemExit as error:
                # Not by way of the loop, of which the child has half: its parent would wait for ever.
                os._exit(error.code)
            if child == 0:
                os._exit(3)

        asyncio.run(main())
        """
    )
    assert ran.stdout == f"{ENDS_OF_A_CHILD[end]}\n"
    assert "Error" not in ran.stderr
