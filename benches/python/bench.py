"""Python: libmq beside `queue.Queue` and `sqlite3` by hand, in turns, with what is promised.

Usage: bench.py DIRECTORY. `LIBMQ_BENCH_ROUNDS` sets the rounds (5), `LIBMQ_BENCH_ONLY` picks contests by a part of
their name.

Rates on one machine drift by a factor of two within minutes. So each round runs all ways to do the same work one after
another, in an order that rotates, and compares them within the round; told are the medians of figures and of ratios.
"""

import os
import queue
import shutil
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import libmq

BODY = b"x" * 100
ENQUEUES = 100_000
INSERTS = 20_000
HANDLED = 100_000
TAKEN = 10_000
IDLE = 300

Run = Callable[[Path], float]


@dataclass
class Contender:
    """One way to do the work, with the figures it reached."""

    name: str
    run: Run
    promised: float | None = None
    """How many times this one's rate libmq has promised."""
    figures: list[float] = field(default_factory=list)


@dataclass
class Contest:
    """Several ways to do the same work. The first is libmq."""

    name: str
    contenders: list[Contender]
    less_than: float | None = None
    """What libmq's own figure, in microseconds, has to stay below. Without it, figures are rates."""

    def run(self, round: int, scratch: Path) -> None:
        for index in range(len(self.contenders)):
            contender = self.contenders[(index + round) % len(self.contenders)]
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            contender.figures.append(contender.run(scratch))

    def report(self) -> bool:
        """Prints the medians; answers whether all that was promised was reached."""
        print(f"\n{self.name}")
        all_reached = True
        own = self.contenders[0].figures
        for contender in self.contenders:
            median = statistics.median(contender.figures)
            figure = f"{median:,.1f} us" if self.less_than else f"{median:,.0f}/s"
            ratio = statistics.median(mine / its for mine, its in zip(own, contender.figures, strict=True))
            verdict = "" if contender.figures is own else f"x {ratio:<6.2f}"
            reached, promise = True, ""
            if contender.promised:
                reached, promise = ratio >= contender.promised, f"at least {contender.promised:g}"
            elif self.less_than and contender.figures is own:
                reached, promise = median < self.less_than, f"less than {self.less_than:g} us"
            if promise:
                verdict += f" {promise}: {'ok' if reached else 'MISSED'}"
            print(f"  {contender.name:<32} {figure:>15}   {verdict}")
            all_reached &= reached
        return all_reached


def rate(count: int, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


# Messages in.


def enqueue_libmq(scratch: Path) -> float:
    with libmq.open(scratch / "queue", durability="os") as broker:
        enqueue = broker.enqueue

        def work() -> None:
            for _ in range(ENQUEUES):
                enqueue("orders", BODY)

        return rate(ENQUEUES, work)


def enqueue_queue(scratch: Path) -> float:
    put = queue.Queue[bytes]().put

    def work() -> None:
        for _ in range(ENQUEUES):
            put(BODY)

    return rate(ENQUEUES, work)


def connect(scratch: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(scratch / "queue.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
    return connection


def enqueue_sqlite(scratch: Path) -> float:
    connection = connect(scratch)

    def work() -> None:
        for _ in range(INSERTS):
            connection.execute("INSERT INTO queue (body) VALUES (?)", (BODY,))

    figure = rate(INSERTS, work)
    connection.close()
    return figure


# Messages out.


def handle_libmq(scratch: Path) -> float:
    with libmq.open(scratch / "queue", durability="os") as broker:
        for _ in range(HANDLED // 10_000):
            broker.enqueue_many("orders", [BODY] * 10_000)
        seen = 0

        def handle(body: bytes) -> None:
            nonlocal seen
            seen += len(body)

        broker.handler("orders", handle)

        def work() -> None:
            broker.start()
            assert broker.wait_idle(600)

        figure = rate(HANDLED, work)
        assert seen == HANDLED * len(BODY)
        return figure


def handle_queue(scratch: Path) -> float:
    messages: queue.Queue[bytes | None] = queue.Queue()
    for _ in range(HANDLED):
        messages.put(BODY)
    messages.put(None)

    def handle() -> None:
        seen = 0
        while (body := messages.get()) is not None:
            seen += len(body)
            messages.task_done()

    def work() -> None:
        thread = threading.Thread(target=handle)
        thread.start()
        thread.join()

    return rate(HANDLED, work)


def handle_sqlite(scratch: Path) -> float:
    connection = connect(scratch)
    connection.executemany("INSERT INTO queue (body) VALUES (?)", [(BODY,)] * TAKEN)

    def work() -> None:
        seen = 0
        while row := connection.execute("SELECT id, body FROM queue ORDER BY id LIMIT 1").fetchone():
            seen += len(row[1])
            connection.execute("DELETE FROM queue WHERE id = ?", (row[0],))

    figure = rate(TAKEN, work)
    connection.close()
    return figure


# From the enqueue to the handler's first line, while it has nothing else to do.


def latency(send: Callable[[float], object], came: "queue.SimpleQueue[float]") -> float:
    figures = []
    for _ in range(IDLE):
        # Long enough for the handler's thread to sleep.
        time.sleep(0.001)
        began = time.perf_counter()
        send(began)
        figures.append(came.get() - began)
    return statistics.median(figures) * 1e6


def idle_libmq(scratch: Path) -> float:
    came: queue.SimpleQueue[float] = queue.SimpleQueue()
    with libmq.open(scratch / "queue", durability="os") as broker:
        broker.handler("orders", lambda body: came.put(time.perf_counter()))
        broker.start()
        return latency(lambda _: broker.enqueue("orders", BODY), came)


def idle_queue(scratch: Path) -> float:
    came: queue.SimpleQueue[float] = queue.SimpleQueue()
    messages: queue.Queue[float | None] = queue.Queue()

    def handle() -> None:
        while messages.get() is not None:
            came.put(time.perf_counter())

    thread = threading.Thread(target=handle)
    thread.start()
    figure = latency(messages.put, came)
    messages.put(None)
    thread.join()
    return figure


CONTESTS = [
    Contest(
        "Python, enqueue os, one by one",
        [
            Contender("libmq", enqueue_libmq),
            Contender("queue.Queue, in memory", enqueue_queue),
            Contender("sqlite3 NORMAL, insert", enqueue_sqlite, promised=8),
        ],
    ),
    Contest(
        "Python, handled os",
        [
            Contender("libmq", handle_libmq),
            Contender("queue.Queue, in memory", handle_queue),
            Contender("sqlite3 NORMAL, take + delete", handle_sqlite, promised=8),
        ],
    ),
    Contest(
        "Python, from an enqueue to an idle handler, p50",
        [Contender("libmq", idle_libmq), Contender("queue.Queue, in memory", idle_queue)],
        less_than=200,
    ),
]


def main(directory: str) -> None:
    rounds = max(1, int(os.environ.get("LIBMQ_BENCH_ROUNDS", "5")))
    only = os.environ.get("LIBMQ_BENCH_ONLY", "")
    contests = [contest for contest in CONTESTS if only in contest.name]
    scratch = Path(directory) / "scratch-python"
    for round in range(rounds):
        for contest in contests:
            print(f"round {round + 1} of {rounds}: {contest.name}", file=sys.stderr)
            contest.run(round, scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    version = sys.version.split()[0]
    print(f"\nPython {version}, bodies of 100 bytes, medians of {rounds} rounds; x: libmq's figure over the peer's")
    reached = sum([contest.report() for contest in contests])
    print(f"\n{reached} of {len(contests)} contests as promised")


if __name__ == "__main__":
    main(*sys.argv[1:])
