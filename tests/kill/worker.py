"""The worker of the kill rounds in Python: `worker.py DIRECTORY SEED [drain]`, see README.md.

One write(2) a line, so that a kill cannot tear one. Whatever libmq raises that it should not raise here is an `error`
line and the end of the process.
"""

import asyncio
import ctypes
import functools
import itertools
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, Literal, NoReturn

import libmq

Level = Literal["sync", "os"]

NUMBERS = 1_000_000
BATCH_MAX = 6
KEYS = 12
PULLED_MAX = 4
DRAIN_MAX_S = 300
# How many times as long producers pause.
PACE = int(os.environ.get("LIBMQ_KILL_PACE", "1"))


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words if word != "") + "\n").encode())


def fail(text: object) -> None:
    say("error", str(text).replace("\n", " "))
    os._exit(1)


def guarded(run: Callable[..., None]) -> Callable[..., None]:
    """Ends the process where a thread would die."""

    @functools.wraps(run)
    def call(*arguments: Any) -> None:
        try:
            run(*arguments)
        except (libmq.Retry, libmq.Reject, libmq.Release, Meant):
            raise
        except BaseException as error:
            fail(repr(error))

    return call


def guarded_task(run: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., Coroutine[Any, Any, None]]:
    """The same for a task."""

    async def call(ctx: libmq.Context) -> None:
        try:
            await run(ctx)
        except (libmq.Retry, libmq.Reject, libmq.Release, Meant):
            raise
        except BaseException as error:
            fail(repr(error))

    return call


class Meant(Exception):
    """A handler that fails as it is meant to."""


class Numbers:
    """Gives every message a number that no other message ever had."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._next = 1
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        """So many numbers in a row; the first of them."""
        with self._lock:
            first = self._next
            self._next += count
        if first + count > NUMBERS:
            fail("a start has no more numbers to give")
        return self._seed * NUMBERS + first


class Lanes(threading.local):
    """Who handles: one a thread, since a thread's end of a message stands in the log before its next entry. A task has
    one of its own."""

    _numbers = itertools.count(1)

    def __init__(self) -> None:
        self.lane = self.new()

    def new(self) -> int:
        return next(self._numbers)


class Worker:
    """Everything that one start does."""

    def __init__(self, directory: str, seed: int) -> None:
        self._seed = seed
        self._numbers = Numbers(seed)
        self._lanes = Lanes()
        self._stop_pulling = threading.Event()
        self.broker = libmq.open(
            directory,
            segment_bytes=64 << 10,
            snapshot_threshold=200,
            snapshot_interval=0.05,
            default_max_retries=3,
            max_crashes=3,
            default_backoff=libmq.Backoff.exponential(base=0.001, factor=2, cap=0.02),
        )
        found = self.broker.recovery
        say("recovered", found.messages, found.dead_letters)
        say("suspects", found.suspects)
        self.broker.handler("work", guarded(self.on_work), max_parallelism=3)
        self.broker.handler("children", guarded_task(self.on_child), max_parallelism=2)

    # Producers.

    def body(self, number: int, dice: random.Random) -> bytes:
        # Now and then one that takes a good part of a segment.
        return b"%d %s" % (number, b"." * dice.randrange(30_000 if percent(dice, 2) else 800))

    def single(self, dice: random.Random, level: Level, loop: asyncio.Runner | None = None) -> None:
        number, queue = self._numbers.take(), choose_queue(dice)
        delay = (1 + dice.randrange(30)) / 1000 if percent(dice, 10) else None
        body = self.body(number, dice)
        say("enqueuing", number, queue, level, "delayed" if delay else "")
        if loop is None:
            receipt = self.broker.enqueue(queue, body, durability=level, delay=delay)
        else:
            receipt = loop.run(self.broker.aenqueue(queue, body, durability=level, delay=delay))
        say("enqueued", number, receipt.id, level, receipt.status)

    def keyed(self, dice: random.Random) -> None:
        number, key, level = self._numbers.take(), f"key-{dice.randrange(KEYS)}", choose_level(dice, 50)
        keep = percent(dice, 30)
        # So that it is still waiting when the next one of its key comes.
        delay = (1 + dice.randrange(20)) / 1000 if percent(dice, 30) else None
        body = self.body(number, dice)
        say("enqueuing", number, "work", level, f"key={key}", "keep" if keep else "", "delayed")
        receipt = self.broker.enqueue(
            "work", body, durability=level, dedup_key=key, dedup="keep" if keep else "replace", delay=delay
        )
        say("enqueued", number, receipt.id, level, receipt.status)

    def batch(self, dice: random.Random) -> None:
        count = 2 + dice.randrange(BATCH_MAX - 1)
        first, queue = self._numbers.take(count), choose_queue(dice)
        levels = [choose_level(dice, 70) for _ in range(count)]
        messages = [
            libmq.Message(self.body(first + index, dice), durability=level) for index, level in enumerate(levels)
        ]
        for index, level in enumerate(levels):
            say("enqueuing", first + index, queue, level, f"batch={first}")
        receipts = self.broker.enqueue_many(queue, messages)
        for index, (level, receipt) in enumerate(zip(levels, receipts, strict=True)):
            say("enqueued", first + index, receipt.id, level, receipt.status)

    def produce(self, producer: int) -> None:
        """The first two enqueue singly, one with `sync` on an event loop and one with `os`; the third uses keys; the
        fourth makes batches."""
        dice = random.Random(self._seed * 1_000_003 + producer)
        loop = asyncio.Runner()
        while True:
            match producer:
                case 0:
                    self.single(dice, "sync", loop)
                case 1:
                    self.single(dice, "os")
                case 2:
                    self.keyed(dice)
                case _:
                    self.batch(dice)
            time.sleep(dice.randrange(1500 if producer == 1 else 900) * PACE / 1e6)

    # Handlers.

    def dice(self, held: libmq.Context | libmq.Delivery) -> random.Random:
        return random.Random(self._seed * 1_000_003 + held.token)

    def enter(self, held: libmq.Context | libmq.Delivery, lane: int | None = None) -> int:
        """Says that a message is in hand; its number."""
        word = held.raw.split(b" ", 1)[0]
        if word.startswith(b"killer"):
            say("aborting", held.id)
            time.sleep(0.003)
            die(held.raw)
        say("entered", held.id, held.attempt, held.token, int(word), held.queue, lane or self._lanes.lane)
        return int(word)

    def on_work(self, ctx: libmq.Context) -> None:
        number, dice = self.enter(ctx), self.dice(ctx)
        time.sleep(dice.randrange(4000 if percent(dice, 3) else 500) / 1e6)
        if ctx.raw.endswith(b" innocent"):
            say("acking", ctx.id)
            return
        fails = number % 97 == 0 or percent(dice, 12)
        if fails and percent(dice, 50):
            say("failing", ctx.id)
            raise libmq.Retry
        if number % 89 == 0 and number % 97 != 0:
            say("rejecting", ctx.id)
            raise libmq.Reject("rejected")
        if percent(dice, 4):
            say("releasing", ctx.id)
            raise libmq.Release
        if number % 3 == 0:
            child, level = self._numbers.take(), choose_level(dice, 50)
            say("child", ctx.id, child, level)
            ctx.enqueue("children", b"%d %s" % (child, b"." * dice.randrange(300)), durability=level)
        if fails:
            say("failing", ctx.id)
            raise Meant
        say("acking", ctx.id)

    async def on_child(self, ctx: libmq.Context) -> None:
        number, dice = self.enter(ctx, self._lanes.new()), self.dice(ctx)
        await asyncio.sleep(dice.randrange(300) / 1e6)
        if number % 97 == 0 or percent(dice, 8):
            say("failing", ctx.id)
            raise Meant
        say("acking", ctx.id)

    def pull(self) -> None:
        while not self._stop_pulling.is_set():
            deliveries = self.broker.receive_many("pulled", PULLED_MAX, timeout=0.02)
            entered = [(delivery, self.enter(delivery)) for delivery in deliveries]
            for delivery, number in entered:
                dice = self.dice(delivery)
                time.sleep(dice.randrange(300) / 1e6)
                if number % 97 == 0 or percent(dice, 5):
                    say("failing", delivery.id)
                    delivery.retry(error="meant to fail")
                else:
                    say("acking", delivery.id)
                    delivery.ack()
                    say("acked", delivery.id)

    # The whole.

    def work(self) -> None:
        """Until the end comes from outside. Handlers end with the main thread, so it stays."""
        threads = [threading.Thread(target=guarded(self.produce), args=(producer,)) for producer in range(4)]
        threads.append(threading.Thread(target=guarded(self.pull)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def drain(self) -> None:
        puller = threading.Thread(target=guarded(self.pull))
        puller.start()
        end = time.monotonic() + DRAIN_MAX_S
        while True:
            idle, figures = self.broker.wait_idle(1), self.broker.metrics()
            # A message that is delayed and was never tried keeps nobody from being idle.
            left = figures.ready + figures.delayed + figures.in_flight
            if idle and not left:
                break
            if time.monotonic() > end:
                fail(f"{left} messages are left")
            time.sleep(0.002)
        self._stop_pulling.set()
        puller.join()
        for letter in self.broker.dead_letters.list(limit=NUMBERS):
            word = letter.raw.split(b" ", 1)[0].decode()
            say("dead", letter.id, letter.reason, letter.attempts, word if word.isdecimal() else "-")
        self.broker.close(10)
        say("drained")


def die(body: bytes) -> NoReturn:
    """Ends the process as a killer says: it aborts, it reads where nothing is, or it exits."""
    match body.split(b" "):
        case [_, b"segfault"]:
            ctypes.string_at(0)
        case [_, b"exit"]:
            os._exit(9)
    os.abort()


def percent(dice: random.Random, share: int) -> bool:
    return dice.randrange(100) < share


def choose_queue(dice: random.Random) -> str:
    return "pulled" if percent(dice, 25) else "work"


def choose_level(dice: random.Random, share: int) -> Level:
    return "sync" if percent(dice, share) else "os"


def main(directory: str, seed: str, *rest: str) -> None:
    # What handlers raise is meant, and a kill round says what matters.
    logging.getLogger("libmq").setLevel(logging.CRITICAL)
    worker = Worker(directory, int(seed))
    say("ready")
    worker.broker.start()
    if rest == ("drain",):
        worker.drain()
    else:
        worker.work()


if __name__ == "__main__":
    guarded(main)(*sys.argv[1:])
