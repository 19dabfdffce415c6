"""The life of programs: two hundred of them that end in the middle of work, those that others start, and a server that
forks. A ledger outside says what each had been promised.
"""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
import pytest
from test_snippets import snippet

Program = Callable[..., Any]

LANES = 4
LIVES = 50

# One write(2) a line. "e" is an enqueue that returned, "d" a handler that is about to return.
LIFE = """
import asyncio, logging, os, random, signal, sys, threading, time
import libmq

# That the end of the program cancels a handler is said, and right.
logging.getLogger("libmq").setLevel(logging.CRITICAL)
directory, seed = sys.argv[1], int(sys.argv[2])
ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
dice = random.Random(seed)

def say(word, number):
    os.write(ledger, f"{word} {number}\\n".encode())

broker = libmq.open(directory, segment_bytes=256 << 10, default_backoff=libmq.Backoff.fixed(0))
say("s", broker.recovery.suspects)

@broker.handler("plain", max_parallelism=3)
def plain(number, ctx):
    time.sleep(0.001)
    ctx.enqueue("chained", number)
    say("d", number)

@broker.handler("chained", max_parallelism=3)
async def chained(number, ctx):
    await asyncio.sleep(0.001)
    say("d", -number)

def produce(producer):
    number = seed * 100_000 + producer * 10_000
    try:
        while True:
            number += 1
            broker.enqueue("plain", number, durability=("sync", "os")[number % 20 > 0])
            say("e", number)
            say("e", -number)
            time.sleep(0.002)
    except libmq.ClosedError:
        pass

def end_after(time_s):
    # Not before somebody takes the signal.
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.001)
    time.sleep(time_s)
    os.kill(os.getpid(), signal.SIGTERM)

for producer in range(2):
    threading.Thread(target=produce, args=(producer,), daemon=True).start()
life = dice.random() * 0.06
match seed % 5:
    case 0:
        broker.start()
        time.sleep(life)
    case 1:
        broker.start()
        time.sleep(life)
        sys.exit(3)
    case 2:
        broker.start()
        time.sleep(life)
        broker.close()
    case 3:
        threading.Thread(target=end_after, args=(life,)).start()
        broker.run()
    case 4:
        threading.Thread(target=end_after, args=(life,)).start()
        asyncio.run(broker.arun())
"""

DRAIN = """
import os, sys
import libmq

ledger = os.open("ledger", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with libmq.open(sys.argv[1]) as broker:
    def take(sign):
        return lambda number: os.write(ledger, f"d {sign * number}\\n".encode())
    broker.handler("plain", lambda number, ctx: (ctx.enqueue("chained", number), take(1)(number))[0])
    broker.handler("chained", take(-1))
    broker.start()
    assert broker.wait_idle(60)
    assert len(broker.dead_letters) == 0
"""


def test_two_hundred_programs_that_end_under_load_lose_nothing(tmp_path: Path) -> None:
    """Each way out of a program, at any moment, with producers and handlers at work: what was promised is handled, and
    nothing that was handled is so again, since an end in order is no crash.
    """
    wrong: list[str] = []

    def live(lane: int) -> None:
        directory = tmp_path / f"lane-{lane}"
        directory.mkdir()
        for name, source in (("life.py", LIFE), ("drain.py", DRAIN)):
            directory.joinpath(name).write_text(source)

        def run(name: str, *arguments: str) -> int:
            command = [sys.executable, "-X", "faulthandler", name, "queue", *arguments]
            ran = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
            if ran.stderr:
                wrong.append(f"lane {lane}, {name} {arguments}: {ran.stderr}")
            return ran.returncode

        for turn in range(LIVES):
            seed = lane * LIVES + turn + 1
            status = run("life.py", str(seed))
            if status != (3 if seed % 5 == 1 else 0):
                wrong.append(f"lane {lane}, {seed}: status {status}")
        if run("drain.py"):
            wrong.append(f"lane {lane} is not drained")

    lanes = [threading.Thread(target=live, args=(lane,)) for lane in range(LANES)]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()
    assert not wrong, "\n".join(wrong[:5])
    promised = 0
    for name in (f"lane-{number}" for number in range(LANES)):
        counts = {word: Counter[int]() for word in "eds"}
        for line in (tmp_path / name / "ledger").read_text().splitlines():
            word, number = line.split()
            counts[word][int(number)] += 1
        lost = set(counts["e"]) - set(counts["d"])
        assert not lost, f"{name}: {len(lost)} lost, as {min(lost)}"
        again = [number for number, times in counts["d"].items() if times > 1]
        assert not again, f"{name}: {len(again)} handled again, as {again[0]}"
        assert set(counts["s"]) == {0}, f"{name}: an end in order left suspects"
        promised += len(counts["e"])
    assert promised > LANES * LIVES * 4, f"{promised}: that is no load"


# Programs that others start.


def test_children_of_spawn_and_forkserver_have_nothing_of_their_parents_broker(program: Program) -> None:
    program(
        """
        import libmq, multiprocessing, os, sys

        def work(answers, number):
            try:
                libmq.open("queue")
                answers.put("opened")
            except libmq.LockedError as error:
                answers.put(error.pid)
            with libmq.open(f"own-{number}") as own:
                own.handler("q", answers.put)
                own.enqueue("q", "handled")
                own.run(until_idle=True)

        def stay(up, end):
            up.set()
            end.wait(60)

        if __name__ == "__main__":
            for method in ("spawn", "forkserver"):
                context = multiprocessing.get_context(method)
                with libmq.open("queue") as broker:
                    broker.handler("q", lambda body: None)
                    broker.start()
                    answers = context.Queue()
                    children = [context.Process(target=work, args=(answers, number)) for number in range(2)]
                    for child in children:
                        child.start()
                    found = sorted((answers.get(timeout=50) for _ in range(4)), key=str)
                    assert found == [os.getpid()] * 2 + ["handled"] * 2, found
                    for child in children:
                        child.join(50)
                        assert child.exitcode == 0, (method, child.exitcode)
                    up, end = context.Event(), context.Event()
                    staying = context.Process(target=stay, args=(up, end))
                    staying.start()
                    assert up.wait(50)
                    broker.enqueue("q", 1)
                    assert broker.wait_idle(20)
                # The child is there all the same, and holds nothing.
                libmq.open("queue").close()
                end.set()
                staying.join(50)
                assert staying.exitcode == 0
        """,
        timeout=120,
    )


def test_a_child_does_not_hold_its_parents_lock(program: Program) -> None:
    """The lock of a file is its parent's and its child's together, for as long as either has it open."""
    program(
        """
        import libmq, os, signal, time
        broker = libmq.open("queue")
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        broker.enqueue("q", 1)
        broker.close()
        again = libmq.open("queue")
        assert again.receive("q", 0).body == 1
        again.close()
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        """
    )


def test_a_child_that_outlives_its_killed_parent_does_not_hold_its_lock(program: Program, tmp_path: Path) -> None:
    ran = program(
        """
        import libmq, os, signal, sys, time
        broker = libmq.open("queue")
        broker.enqueue("q", 1)
        child = os.fork()
        if child == 0:
            os.close(0), os.close(1), os.close(2)
            time.sleep(60)
            os._exit(0)
        print(child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        status=-9,
    )
    child = int(ran.stdout)
    try:
        with libmq.open(tmp_path / "queue") as broker:
            delivery = broker.receive("q", 0)
            assert delivery is not None
            delivery.ack()
    finally:
        os.kill(child, signal.SIGKILL)


def test_what_is_called_at_exit_finds_handlers_at_their_end_and_may_use_the_broker(program: Program) -> None:
    """What is registered with atexit runs when the handlers have had their grace, whatever the order of the two."""
    ran = program(
        """
        import atexit
        atexit.register(lambda: print("registered before libmq:", broker.metrics().in_flight, flush=True))
        import libmq, threading, time
        broker = libmq.open("queue")
        entered = threading.Event()
        @broker.handler("q")
        def handle(body):
            entered.set()
            time.sleep(0.2)
            print("handled", flush=True)
        broker.start()
        @atexit.register
        def close():
            print("in flight:", broker.metrics().in_flight, flush=True)
            broker.enqueue("later", "from the end")
            broker.close()
            print("closed", flush=True)
            atexit.unregister(close)
        broker.enqueue("q", 1)
        entered.wait(20)
        """,
        status=None,
    )
    assert ran.stdout.splitlines()[:3] == ["handled", "in flight: 0", "closed"], ran.stdout + ran.stderr
    left = program(
        """
        import libmq
        with libmq.open("queue") as broker:
            print(broker.receive("later", 0).body, broker.recovery.suspects, broker.receive("q", 0))
        """
    )
    assert left.stdout == "from the end 0 None\n"


# A server that forks.

PRELOADED = """
import os, libmq
broker = libmq.open("queue")
broker.enqueue("q", "of the master")

def app(environ, start_response):
    try:
        broker.enqueue("q", 1)
        said = "enqueued"
    except libmq.ForkedError as error:
        said = f"{error.code} {os.getpid()}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said.encode()]
"""

CONFIGURED = snippet("docs/python.md", "# gunicorn.conf.py")

SHOP = """
import os
broker = None

def handle(body):
    with open("done", "a") as done:
        done.write(f"{body}\\n")

def app(environ, start_response):
    broker.enqueue("q", int(environ["PATH_INFO"][1:]))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()}".encode()]
"""


class Gunicorn:
    """Gunicorn with two workers that were forked of what is loaded already."""

    def __init__(self, directory: Path, sources: dict[str, str], *arguments: str) -> None:
        for name, source in sources.items():
            directory.joinpath(name).write_text(textwrap.dedent(source))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = directory / "log"
        command = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{self.port}"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([*command, *arguments], cwd=directory, stdout=log, stderr=log)

    def __enter__(self) -> "Gunicorn":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, path: str = "/") -> str:
        end = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                    return str(answer.read().decode())
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.05)


def test_workers_of_a_server_that_loads_its_broker_before_it_forks_are_refused_and_it_is_unharmed(
    tmp_path: Path,
) -> None:
    pytest.importorskip("gunicorn")
    with Gunicorn(tmp_path, {"shop.py": PRELOADED}, "shop:app") as server:
        answers = {server.ask() for _ in range(20)}
        assert all(answer.startswith("FORKED ") for answer in answers), answers
        assert not {answer for answer in answers if answer.endswith(f" {server.process.pid}")}
        with pytest.raises(libmq.LockedError) as caught:
            libmq.open(tmp_path / "queue")
        assert caught.value.pid == server.process.pid
        server.process.terminate()
        assert server.process.wait(30) == 0, server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    with libmq.open(tmp_path / "queue") as broker:
        assert [delivery.body for delivery in broker.receive_many("q", 10, 0)] == ["of the master"]


def test_workers_of_a_server_may_open_a_directory_each_when_they_are_forked(tmp_path: Path) -> None:
    """As docs/python.md says."""
    pytest.importorskip("gunicorn")
    with Gunicorn(tmp_path, {"shop.py": SHOP, "gunicorn.conf.py": CONFIGURED}, "shop:app") as server:
        pids = {server.ask(f"/{number}") for number in range(40)}
        assert str(server.process.pid) not in pids
        # One that dies leaves its directory to the one that takes its place.
        victim = int(pids.pop())
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.5)
        for number in range(40, 80):
            server.ask(f"/{number}")
        server.process.terminate()
        assert server.process.wait(30) == 0, server.log.read_text()
    done = {int(line) for line in (tmp_path / "done").read_text().split()}
    for path in sorted(tmp_path.glob("queue-*")):
        with libmq.open(path) as broker:
            done |= {delivery.body for delivery in broker.receive_many("q", 100, 0)}
    assert done == set(range(80))
    assert {path.name for path in tmp_path.glob("queue-*")} == {"queue-0", "queue-1"}
