"""The program's end, each in a process of its own: whatever is going on, it ends, and with the right status."""

import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libmq
import pytest
from conftest import run_program

Program = Callable[..., Any]

START = """
    import libmq, os, sys, threading, time
    entered, ended = threading.Event(), threading.Event()
    broker = libmq.open("queue", default_backoff=libmq.Backoff.fixed(0))
"""


def test_without_a_close(program: Program) -> None:
    program(START + "    broker.enqueue('q', 1)")


def test_with_handlers_that_wait(program: Program) -> None:
    program(
        START
        + """
    broker.handler("q", lambda body: ended.set(), max_parallelism=4)
    broker.handler("r", lambda body: ended.set())
    broker.start()
    broker.enqueue("q", 1)
    ended.wait(20)
    """
    )


def test_a_handler_that_runs_comes_to_its_end(program: Program) -> None:
    ran = program(
        START
        + """
    def handle(body):
        entered.set()
        time.sleep(0.3)
        print("done", flush=True)
    broker.handler("q", handle)
    broker.start()
    broker.enqueue_many("q", [1, 2, 3])
    entered.wait(20)
    """
    )
    assert ran.stdout == "done\n", "and no further one is taken"
    left = program(
        """
    import libmq
    with libmq.open("queue") as broker:
        print(broker.recovery.messages, broker.recovery.suspects)
    """
    )
    assert left.stdout == "2 0\n"


def test_from_a_daemon_thread(program: Program) -> None:
    program(
        START
        + """
    def serve():
        other = libmq.open(":memory:")
        other.handler("q", lambda body: None)
        other.start()
        other.enqueue("q", 1)
        other.wait_idle(20)
        entered.set()
        other.receive("nothing")
    threading.Thread(target=serve, daemon=True).start()
    entered.wait(20)
    """
    )


def test_with_daemon_threads_in_every_wait(program: Program) -> None:
    program(
        START
        + """
    full = libmq.open(":memory:", capacity=1, on_full="block")
    full.enqueue("q", 1)
    held = full.receive("q", timeout=0)
    for wait in (lambda: broker.receive("none"), lambda: full.wait_idle(), lambda: full.enqueue("q", 2)):
        threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.1)
    """
    )


def test_with_a_delivery_in_hand(program: Program) -> None:
    program(START + "    broker.enqueue('q', 1)\n    delivery = broker.receive('q', timeout=0)")


def test_by_sys_exit_and_by_an_exception(program: Program) -> None:
    busy = (
        START
        + """
    broker.handler("q", lambda body: entered.set())
    broker.start()
    broker.enqueue("q", 1)
    entered.wait(20)
    """
    )
    program(busy + "sys.exit(7)", status=7)
    program(busy + "raise ValueError('no')", status=1)


def test_while_a_producer_thread_still_runs(program: Program) -> None:
    program(
        START
        + """
    broker.handler("q", lambda body: None, max_parallelism=3)
    broker.start()
    def produce():
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            broker.enqueue("q", 1, durability="os")
    threading.Thread(target=produce).start()
    time.sleep(0.1)
    """
    )


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt()", "BaseException('b')", "GeneratorExit()"])
def test_whatever_a_handler_raises_is_a_failed_attempt(program: Program, raised: str) -> None:
    ran = program(
        START
        + f"""
    def handle(body):
        raise {raised}
    broker.handler("q", handle, max_retries=2)
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(20)
    (letter,) = broker.dead_letters.list()
    print(letter.reason, letter.attempts, letter.error)
    broker.close()
    """
    )
    assert ran.stdout.startswith("max_retries 3 " + raised.split("(")[0])


def test_sys_exit_in_a_handler_does_not_end_the_program(program: Program) -> None:
    ran = program(
        START
        + """
    @broker.handler("q", max_retries=0)
    def handle(body):
        sys.exit("away")
    broker.start()
    broker.enqueue("q", 1)
    assert broker.wait_idle(20)
    print(broker.dead_letters.list()[0].error.splitlines()[0])
    """
    )
    assert ran.stdout == "SystemExit: away\n"


def test_an_error_that_cannot_be_shown_is_a_failed_attempt(program: Program) -> None:
    ran = program(
        START
        + """
    class Unshowable(Exception):
        def __str__(self):
            raise RuntimeError("no")
    @broker.handler("q", max_retries=0)
    def handle(body):
        raise Unshowable
    broker.start()
    broker.enqueue_many("q", [1, 2])
    assert broker.wait_idle(20)
    print(len(broker.dead_letters))
    """
    )
    assert ran.stdout == "2\n"


def test_os_exit_in_a_handler_is_a_crash(program: Program) -> None:
    crash = (
        START
        + """
    broker.handler("q", lambda body: os._exit(9) if body == "killer" else None)
    broker.enqueue("q", "killer", dedup_key="k", dedup="keep")
    broker.enqueue("q", "innocent")
    broker.start()
    broker.wait_idle(20)
    """
    )
    for _ in range(3):
        program(crash, status=9)
    ran = program(
        START
        + """
    broker.handler("q", lambda body: None)
    broker.start()
    assert broker.wait_idle(20)
    print([(letter.reason, letter.body) for letter in broker.dead_letters.list()])
    """
    )
    assert ran.stdout == "[('crashed', 'killer')]\n"


def test_a_broker_that_is_garbage_ends_its_threads(program: Program) -> None:
    program(
        START
        + """
    import gc
    other = libmq.open(":memory:")
    other.handler("q", lambda body: ended.set())
    other.start()
    other.enqueue("q", 1)
    ended.wait(20)
    other.stop()
    del other
    gc.collect()
    def ours():
        return [thread.name for thread in threading.enumerate() if thread.name in ("libmq-q", "libmq-foreman")]
    end = time.monotonic() + 20
    while ours() and time.monotonic() < end:
        time.sleep(0.01)
    assert not ours(), ours()
    """
    )


def test_nobody_comes_back_to_an_interpreter_that_goes(program: Program) -> None:
    """It had crashed once in some thousand ends under load: Python looked whether the thread still might, and then at
    what had been freed meanwhile. What Python does at its exit behind libmq gets the thread back all the same.
    """
    ran = program(
        """
    import atexit, threading, time
    back = threading.Event()
    def last():
        begun = time.monotonic()
        broker.enqueue("q", 1)
        came = back.wait(0.3)
        print("stays out" if not came or time.monotonic() - begun > 0.6 else "came back")
        print("comes back" if back.wait(20) else "stays for ever")
    atexit.register(last)
    import libmq
    broker = libmq.open(":memory:")
    def take():
        inside.set()
        broker.receive("q")
        back.set()
    inside = threading.Event()
    threading.Thread(target=take, daemon=True).start()
    inside.wait(20)
    time.sleep(0.1)
    """
    )
    assert ran.stdout == "stays out\ncomes back\n"


UNDER_LOAD = """
    import asyncio, libmq, os, signal, sys, threading, time
    way, seconds = sys.argv[1], float(sys.argv[2])
    broker = libmq.open("queue", durability="os", segment_bytes=1 << 20)

    @broker.handler("threads", max_parallelism=4)
    def handle(body, ctx):
        ctx.enqueue("threads", body)

    @broker.handler("tasks", max_parallelism=4)
    async def ahandle(body, ctx):
        await asyncio.sleep(0)
        ctx.enqueue("tasks", body)

    def produce():
        while True:
            broker.enqueue("pulled", 1)
            with broker.receive("pulled"):
                pass

    async def aproduce():
        while True:
            await asyncio.gather(*(broker.aenqueue("awaited", 1) for _ in range(5)))
            async with await broker.areceive("awaited"):
                pass

    broker.start()
    for queue in ("threads", "tasks"):
        broker.enqueue_many(queue, range(20))
    for work in (produce, lambda: asyncio.run(aproduce())):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(seconds)
    if way == "exit":
        sys.exit(7)
    if way == "raise":
        raise ValueError
    if way == "close":
        broker.close()
    if way == "waited for":
        threading.Thread(target=broker.receive, args=("nothing",)).start()
    if way in ("SIGTERM", "SIGINT"):
        os.kill(os.getpid(), getattr(signal, way))
        time.sleep(20)
"""

WAYS = {
    "return": 0,
    "exit": 7,
    "raise": 1,
    "close": 0,
    "waited for": 0,
    "SIGTERM": -signal.SIGTERM,
    "SIGINT": -signal.SIGINT,
}
"""How a program ends, and its status."""


def test_two_hundred_ends_under_load(tmp_path: Path) -> None:
    """Each somewhere else in the life of its handlers, threads and loops, a few of them at once on a busy machine."""

    def end(number: int) -> None:
        way = list(WAYS)[number % len(WAYS)]
        directory = tmp_path / str(number)
        directory.mkdir()
        ended = run_program(directory, UNDER_LOAD, way, str(number / 2000), timeout=60)
        assert ended.returncode == WAYS[way], f"{number}: {way}: {ended.stderr}"
        with libmq.open(directory / "queue", segment_bytes=1 << 20) as broker:
            figures = broker.metrics()
            left = [figures.queues[queue].ready for queue in ("threads", "tasks")]
            assert (left, figures.dead) == ([20, 20], 0), f"{number}: {way}"
        shutil.rmtree(directory)

    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(end, range(200)):
            pass


def test_a_subinterpreter_is_refused(program: Program) -> None:
    """It had broken the brokers of the main one when it ended, or the process."""
    program("""
    import libmq
    broker = libmq.open(":memory:")
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        import _interpreters as interpreters
    inner = interpreters.create()
    refusal = "except ImportError as error:\\n assert 'not for subinterpreters' in str(error), error"
    text = f"try:\\n import libmq\\n{refusal}\\nelse: raise SystemError"
    said = interpreters.run_string(inner, text)
    assert said is None, said
    interpreters.destroy(inner)
    broker.enqueue("q", 1)
    broker.close()
    """)
