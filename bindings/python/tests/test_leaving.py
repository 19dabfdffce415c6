"""The program's end while something of libmq does not end by itself: nobody holds the process up beyond the grace."""

import time
from collections.abc import Callable
from typing import Any

import pytest

Program = Callable[..., Any]

LONG = 100
"""Seconds: twenty times the grace that handlers have at the end of a program."""

START = """
    import libmq, os, sys, threading, time
    from concurrent.futures import ThreadPoolExecutor

    broker = libmq.open("queue", default_backoff=libmq.Backoff.fixed(0))
    entered = threading.Barrier(int(sys.argv[1]) + 1 if len(sys.argv) > 1 else 2)

    def handle(body, ctx):
        entered.wait(20)
        stay(ctx)

    def busy(count=1, **options):
        broker.handler("q", handle, max_parallelism=count, **options)
        broker.start()
        broker.enqueue_many("q", range(count))
        entered.wait(20)
"""

NEXT = """
    import libmq
    with libmq.open("queue") as broker:
        taken = [broker.receive("q", timeout=0) for _ in range(broker.metrics().queues["q"].ready)]
        print(broker.recovery.messages, broker.recovery.suspects, [it.attempt for it in taken])
"""

HANDLERS = {
    "sleeps for ever": "time.sleep(3600)",
    "sleeps again and again": "while True: time.sleep(0.01)",
    "works for ever": "while True: pass",
    "waits for a lock": "threading.Lock().acquire() and threading.Event().wait()",
    "waits beside its cancellation": "while True: ctx.wait_cancelled(0.01)",
    "calls again and again": "while True: ctx.body, broker.metrics(), broker.enqueue('r', {'a': [1]}, durability='os')",
}


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_that_never_returns(program: Program, name: str) -> None:
    """It kept the program from ending, for ever."""
    began = time.monotonic()
    program(
        START + f"    def stay(ctx):\n        {HANDLERS[name]}\n    busy(cancel_grace=0.5)\n    sys.exit(7)",
        status=7,
        timeout=LONG,
    )
    assert time.monotonic() - began < LONG
    # Given back when the grace was over: it is not said to have killed the process.
    assert program(NEXT).stdout.endswith(" 0 [1]\n")


def test_four_handlers_that_sleep(program: Program) -> None:
    """The default grace, once for all of them; what is not libmq's goes its way to the end."""
    began = time.monotonic()
    ran = program(
        START
        + """
    import atexit
    atexit.register(lambda: print("atexit", flush=True))
    def stay(ctx):
        time.sleep(3600)
    def user():
        time.sleep(0.2)
        print("user", flush=True)
    busy(4)
    other = libmq.open(":memory:")
    other.handler("q", lambda body: time.sleep(3600), cancel_grace=3600)
    other.start()
    other.enqueue("q", 1)
    while not other.metrics().in_flight:
        time.sleep(0.001)
    threading.Thread(target=user).start()
    """,
        "4",
        timeout=LONG,
    )
    assert 4 < time.monotonic() - began < LONG
    assert ran.stdout == "user\natexit\n"
    assert ran.stderr == ""
    assert program(NEXT).stdout == "4 0 [1, 1, 1, 1]\n"


ENDS = {
    "ctx.wait_cancelled(3600)": "print(ctx.cancel_reason)",
    "broker.receive('nothing')": "",
    "broker.receive('nothing', timeout=3600)": "",
}


@pytest.mark.parametrize("call", ENDS)
def test_a_handler_in_a_wait_of_libmq(program: Program, call: str) -> None:
    """It ends at once, and the handler has its grace to say what it likes."""
    began = time.monotonic()
    ran = program(
        START
        + f"""
    import logging
    logging.disable()
    def stay(ctx):
        try:
            {call}
            {ENDS[call]}
        except libmq.Error as error:
            print(error.code)
        time.sleep(0.1)
        print("ended", flush=True)
    busy(cancel_grace=3600)
    """,
        timeout=LONG,
    )
    assert time.monotonic() - began < LONG
    said = "shutdown" if "cancelled" in call else "CLOSED"
    assert ran.stdout == f"{said}\nended\n"


THREADS = {
    "a thread": "threading.Thread(target=user).start()",
    "a daemon thread": "threading.Thread(target=user, daemon=True).start()",
    "a thread of a pool": "pool = ThreadPoolExecutor(); pool.submit(user)",
}
WAITS = {
    "receive": "broker.receive('nothing')",
    "receive with a timeout": "broker.receive_many('nothing', 3, timeout=3600)",
    "wait_idle": "broker.wait_idle()",
    "run": "broker.run(install_signal_handlers=False)",
    "close": "broker.close(3600)",
}


@pytest.mark.parametrize("thread", THREADS)
@pytest.mark.parametrize("wait", WAITS)
def test_a_thread_in_a_wait_of_libmq(program: Program, thread: str, wait: str) -> None:
    began = time.monotonic()
    ran = program(
        START
        + f"""
    def stay(ctx):
        time.sleep(3600)
    def user():
        try:
            {WAITS[wait]}
        except libmq.Error as error:
            print(error.code, flush=True)
    busy(cancel_grace=0.2)
    {THREADS[thread]}
    time.sleep(0.2)
    sys.exit(7)
    """,
        status=7,
        timeout=LONG,
    )
    assert time.monotonic() - began < LONG
    if wait.startswith("receive") and thread != "a daemon thread":
        assert ran.stdout == "CLOSED\n"


def test_what_a_thread_does_after_the_main_thread(program: Program) -> None:
    """It may work on with what is there; waits are over."""
    ran = program(
        START
        + """
    broker.handler("r", lambda body: print("called"))
    def user():
        while threading.main_thread().is_alive():
            time.sleep(0.001)
        time.sleep(0.1)
        broker.enqueue("q", 1)
        broker.receive("q", timeout=3600).ack()
        for call in (lambda: broker.receive("q"), lambda: broker.receive("q", timeout=3600)):
            try:
                call()
            except libmq.ClosedError as error:
                print(error)
        print(broker.receive("q", timeout=0), broker.wait_idle())
        broker.enqueue("r", 1)
        broker.start()
        # One that is opened now has the grace of its handlers, too.
        late = libmq.open(":memory:")
        late.handler("q", lambda body: time.sleep(3600), cancel_grace=3600)
        late.start()
        late.enqueue("q", 1)
        time.sleep(0.2)
    threading.Thread(target=user).start()
    """,
        timeout=LONG,
    )
    ending = "the program is ending, so nobody waits for messages any more"
    assert ran.stdout == f"{ending}\n{ending}\nNone True\n"


def test_ctrl_c_ends_the_grace(program: Program) -> None:
    began = time.monotonic()
    ran = program(
        START
        + """
    import signal
    def stay(ctx):
        ctx.wait_cancelled(3600)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(3600)
    busy(cancel_grace=3600)
    sys.exit(7)
    """,
        status=7,
        timeout=LONG,
    )
    assert time.monotonic() - began < LONG
    assert ran.stderr == "", "that it was asked for is no news"


@pytest.mark.parametrize("thread", ["handler", "daemon"])
def test_the_end_within_code_of_python_that_libmq_calls(program: Program, thread: str) -> None:
    """Up to Python 3.13 a daemon thread is unwound when it wants the interpreter of a program that has ended. Through
    libmq's own frames that was the abort of the process.
    """
    program(
        START
        + f"""
    class Body(dict):
        def items(self):
            ready.set()
            while True:
                time.sleep(0.001)
    ready = threading.Event()
    if "{thread}" == "handler":
        broker.handler("q", lambda body: broker.enqueue("r", Body(a=1)), cancel_grace=0.1)
        broker.start()
        broker.enqueue("q", 1)
    else:
        threading.Thread(target=lambda: broker.enqueue("r", Body(a=1)), daemon=True).start()
    ready.wait(20)
    sys.exit(7)
    """,
        status=7,
    )


CODE_OF_PYTHON = {
    "a path": """
    class Path:
        def __fspath__(self):
            return slept("nowhere")
    call = lambda: libmq.verify(Path())
    """,
    "a time": """
    class Time(__import__("datetime").timedelta):
        def total_seconds(self):
            return slept(1.0)
    call = lambda: broker.receive("q", timeout=0, lease=Time(1))
    """,
    "a whole number": """
    class Number(int):
        def __lt__(self, other):
            return slept(False)
        def __repr__(self):
            return slept("7")
    call = lambda: broker.cancel(Number(2**70))
    """,
    "a number": """
    class Number(int):
        def __float__(self):
            return slept(1.0)
    call = lambda: broker.receive("q", timeout=0, lease=Number(1))
    """,
    "a moment": """
    import datetime
    class Moment(datetime.datetime):
        def __getattribute__(self, name):
            return slept(super().__getattribute__(name))
    moment = Moment(2026, 1, 1, tzinfo=datetime.UTC)
    call = lambda: broker.enqueue("q", 1, run_at=moment)
    """,
    "headers": """
    class Headers(__import__("collections").UserDict):
        def __getattribute__(self, name):
            return slept(super().__getattribute__(name))
    headers = Headers(a="b")
    call = lambda: broker.enqueue("q", 1, headers=headers)
    """,
    "an error of an item": """
    import dataclasses
    class Error(ValueError):
        def __str__(self):
            return slept("no")
    class Body(dict):
        def items(self):
            raise Error
    call = lambda: broker.enqueue_many("q", [Body(a=1)])
    """,
    "an error with a path": """
    call = lambda: slept(libmq.verify("nowhere"))
    import pathlib
    new = pathlib.PosixPath.__new__
    pathlib.Path.__new__ = lambda *given, **named: slept(new(*given, **named))
    """,
}


@pytest.mark.parametrize("code", CODE_OF_PYTHON)
def test_the_end_within_code_of_python_in_a_value(program: Program, code: str) -> None:
    """Some of what is written in Python was called past the guard, and then the process aborted."""
    program(
        START
        + """
    def slept(value):
        ready.set()
        time.sleep(0.0005)
        return value
    ready = threading.Event()
    """
        + CODE_OF_PYTHON[code]
        + """
    def work():
        while True:
            try:
                call()
            except (libmq.Error, ValueError):
                pass
    threading.Thread(target=work, daemon=True).start()
    ready.wait(20)
    time.sleep(0.05)
    sys.exit(7)
    """,
        status=7,
    )


def test_the_first_body_needs_no_import_when_the_program_ends(program: Program) -> None:
    """The module that reads and writes JSON was imported with the first body, on whatever thread."""
    ran = program(
        """
        import sys, libmq
        print("libmq._json_body" in sys.modules)
        """
    )
    assert ran.stdout == "True\n"


def test_the_end_waits_for_the_loop_whatever_it_has_not_come_to(program: Program) -> None:
    """It ran on where messages had been given back that it had taken and not entered, while the interpreter went, which
    Python does not always survive.
    """
    ran = program(
        """
    import atexit, threading
    @atexit.register
    def last():
        print(*(thread.name for thread in threading.enumerate()))
    import libmq, time
    broker = libmq.open("queue", durability="os")
    entered = threading.Event()
    async def handle(body):
        entered.set()
        time.sleep(0.3)
    broker.handler("q", handle, max_parallelism=1024)
    broker.enqueue_many("q", range(1024))
    broker.start()
    entered.wait(20)
    """
    )
    assert ran.stdout == "MainThread\n"


def test_ten_ends_while_handlers_call_libmq(program: Program) -> None:
    """Each is cut off somewhere else in its calls, which must not meet a Python that is on its way out."""
    for ended in range(10):
        program(
            """
            import dataclasses, libmq, sys, threading, time

            @dataclasses.dataclass
            class Body:
                words: list[str]

            broker = libmq.open(":memory:")
            entered = threading.Barrier(5)
            @broker.handler("q", max_parallelism=4, cancel_grace=float(sys.argv[1]))
            def handle(ctx):
                entered.wait(20)
                while True:
                    held = broker.receive("r", timeout=0)
                    if held is not None:
                        held.body, held.headers
                        held.ack()
                    broker.enqueue("r", {"body": [Body(["a"] * 10)]}, headers={"a": "b"})
            broker.enqueue_many("q", range(4))
            broker.start()
            entered.wait(20)
            sys.exit(7)
            """,
            str(ended / 1000),
            status=7,
        )
