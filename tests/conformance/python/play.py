"""The Python player of the conformance scenarios: `play.py SCRIPT DIRECTORY NAMES FROM`.

What a script is and what a player owes is said in `README.md` above this directory. A key that a step has and this
player did not look at ends it with status 3, so that no expectation is passed over in silence.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libmq
from handler import WAIT, Handler
from script import Fields, Wrong, backoff, message, options, same, truth, unknown

TIMEOUT = 5.0
"""How long a receive waits that is expected to get something, and how long stop and close wait."""

ASYNC = os.environ.get("LIBMQ_PLAY_ASYNC") == "1"
"""Handlers are coroutines, and messages are enqueued and received on an event loop."""


class Refused(Exception):
    """The call failed as it was expected to."""


class Player:
    """A broker, and what a scenario has called its things."""

    def __init__(self, begin: Fields, directory: str, names: Path, goes_on: bool) -> None:
        self._begin = begin
        self._directory = directory
        self._names = names
        self._ids: dict[str, int] = {}
        if goes_on:
            pairs = (line.split("\t") for line in names.read_text().splitlines())
            self._ids = {name: int(number) for name, number in pairs}
        self._held: dict[str, libmq.Delivery] = {}
        # Deliveries that no later step settles; garbage would be the end of their lease, and of this test's meaning.
        self._unnamed: list[libmq.Delivery] = []
        self._handlers: dict[str, Handler] = {}
        self.broker = libmq.open(directory, **options(begin))
        begin.check_all_used()

    def end(self) -> None:
        for handler in self._handlers.values():
            handler.let_go()
        self.broker.close(TIMEOUT)

    def play(self, step: Fields) -> None:
        play = getattr(self, "do_" + step.need("do"), None)
        if play is None:
            unknown(f"the step {step.get('do')}")
        with contextlib.suppress(Refused):
            play(step)
        step.check_all_used()

    def call(self, step: Fields, call: Callable[[], Any]) -> Any:
        """What a call answers. Raises `Refused` if it fails as it is expected to."""
        expected = step.get("error")
        try:
            answer = call()
        except libmq.Error as error:
            if error.code == expected:
                raise Refused from None
            raise Wrong(f"{error.code}: {error}") from None
        if expected is not None:
            raise Wrong(f"it succeeded, but {expected} was expected")
        return answer

    def id(self, name: str) -> int:
        if name not in self._ids:
            raise Wrong(f"nothing was called {name} before")
        return self._ids[name]

    def place(self, name: str | None) -> str:
        """The directory that a name means: beside the broker's, or in it; the broker's where there is none."""
        if name is None:
            return self._directory
        if name.startswith("./"):
            return self._directory + name[1:]
        return str(Path(self._directory).parent / name) if name else ""

    # The life of a broker.

    def do_open(self, step: Fields) -> None:
        path = self.place(step.get("path"))
        self.broker = self.call(step, lambda: libmq.open(path, **options(self._begin, step)))
        self._handlers.clear()

    def do_open_again(self, step: Fields) -> None:
        path = self.place(step.get("path"))
        self.call(step, lambda: libmq.open(path, **options(self._begin, step))).close(TIMEOUT)

    def do_kill(self, step: Fields) -> None:
        self._names.write_text("".join(f"{name}\t{number}\n" for name, number in self._ids.items()))
        os.kill(os.getpid(), signal.SIGKILL)

    def do_start(self, step: Fields) -> None:
        self.call(step, self.broker.start)

    def do_stop(self, step: Fields) -> None:
        timeout = step.time("timeout_ms")
        self.call(step, lambda: self.broker.stop(TIMEOUT if timeout is None else timeout))

    def do_close(self, step: Fields) -> None:
        timeout = step.time("timeout_ms")
        self.call(step, lambda: self.broker.close(TIMEOUT if timeout is None else timeout))

    def do_snapshot(self, step: Fields) -> None:
        self.call(step, self.broker.snapshot)

    def do_backup(self, step: Fields) -> None:
        to = self.place(step.need("to"))
        self.call(step, lambda: self.broker.backup(to))

    def do_verify(self, step: Fields) -> None:
        path = self.place(step.get("path"))
        found = self.call(step, lambda: libmq.verify(path))
        for name in ("messages", "dead_letters", "suspects", "dropped_bytes"):
            count = step.whole(f"expect.{name}")
            same(name, getattr(found, name), getattr(found, name) if count is None else count)
        for name in ("sound", "closed"):
            so = step.read(f"expect.{name}", truth)
            same(name, getattr(found, name), getattr(found, name) if so is None else so)

    def do_advance(self, step: Fields) -> None:
        time = step.time("ms")
        self.call(step, lambda: self.broker.advance(0 if time is None else time))

    def do_wait_idle(self, step: Fields) -> None:
        timeout, expected = step.time("timeout_ms"), step.read("expect.idle", truth)
        idle = self.call(step, lambda: self.broker.wait_idle(WAIT if timeout is None else timeout))
        same("idle", idle, expected is not False)

    def do_recovery(self, step: Fields) -> None:
        found = self.broker.recovery
        for name in ("messages", "dead_letters", "suspects"):
            expected = step.whole(f"expect.{name}")
            same(name, getattr(found, name), getattr(found, name) if expected is None else expected)

    # Messages on their way in.

    def do_enqueue(self, step: Fields) -> None:
        queue = step.need("queue")
        body, given = message(step, "")
        self.receipt(step, self.call(step, lambda: self.enqueue(queue, body, **given)), "")

    def enqueue(self, queue: str, body: bytes, **given: Any) -> libmq.Receipt:
        if ASYNC:
            return asyncio.run(self.broker.aenqueue(queue, body, **given))
        return self.broker.enqueue(queue, body, **given)

    def receive(self, queue: str, timeout: float, lease: float | None) -> libmq.Delivery | None:
        if ASYNC:
            return asyncio.run(self.broker.areceive(queue, timeout, lease))
        return self.broker.receive(queue, timeout, lease)

    def do_enqueue_many(self, step: Fields) -> None:
        queue = step.need("queue")
        made = [message(step, f"messages.{index}.") for index in range(step.whole("messages.#") or 0)]

        def enqueue() -> list[libmq.Receipt]:
            return self.broker.enqueue_many(queue, [libmq.Message(body, **given) for body, given in made])

        receipts = self.call(step, enqueue)
        statuses, ids, names = (step.items(key) for key in ("expect.statuses", "expect.ids", "as"))
        if statuses is not None:
            same("statuses", [receipt.status for receipt in receipts], statuses)
        if ids is not None:
            same("ids", [receipt.id for receipt in receipts], [self.id(name) for name in ids])
        if names is not None:
            same("the count of receipts", len(receipts), len(names))
            self._ids.update((name, receipt.id) for name, receipt in zip(names, receipts, strict=True))

    def receipt(self, step: Fields, receipt: libmq.Receipt, path: str) -> None:
        status, name = step.get("expect.status"), step.get("expect.id")
        same("status", receipt.status, status or receipt.status)
        if name is not None:
            same("id", receipt.id, self.id(name))
        called = step.get("as")
        if called is not None:
            self._ids[called] = receipt.id

    # Deliveries.

    def do_receive(self, step: Fields) -> None:
        none = step.read("expect.none", truth) is True
        queue, timeout, lease = step.need("queue"), step.time("timeout_ms"), step.time("lease_ms")
        timeout = (0 if none else TIMEOUT) if timeout is None else timeout
        delivery = self.call(step, lambda: self.receive(queue, timeout, lease))
        if none:
            if delivery is not None:
                raise Wrong(f"{delivery!r} came, but none was expected")
            return
        if delivery is None:
            raise Wrong("nothing came")
        self.expect_delivery(step, delivery)
        self.hold(step.get("as"), delivery)

    def do_receive_many(self, step: Fields) -> None:
        none = step.read("expect.none", truth) is True
        queue, timeout, lease = step.need("queue"), step.time("timeout_ms"), step.time("lease_ms")
        timeout = (0 if none else TIMEOUT) if timeout is None else timeout
        most = step.whole("max")
        deliveries = self.call(
            step, lambda: self.broker.receive_many(queue, 1 if most is None else most, timeout, lease)
        )
        if none:
            same("what came", deliveries, [])
        bodies, ids, names = (step.items(key) for key in ("expect.bodies", "expect.ids", "as"))
        if bodies is not None:
            same("bodies", [delivery.raw.decode(errors="replace") for delivery in deliveries], bodies)
        if ids is not None:
            same("ids", [delivery.id for delivery in deliveries], [self.id(name) for name in ids])
        for index, delivery in enumerate(deliveries):
            self.hold(names[index] if names and index < len(names) else None, delivery)

    def hold(self, name: str | None, delivery: libmq.Delivery) -> None:
        self._unnamed.append(delivery)
        if name is not None:
            self._held[name] = delivery

    def expect_delivery(self, step: Fields, delivery: libmq.Delivery) -> None:
        name = step.get("expect.id")
        if name is not None:
            same("id", delivery.id, self.id(name))
        for key, found in (
            ("body", delivery.raw.decode(errors="replace")),
            ("content_type", delivery.content_type),
            ("correlation_id", delivery.correlation_id or ""),
            ("attempt", str(delivery.attempt)),
            ("max_retries", str(delivery.max_retries)),
        ):
            expected = step.get(f"expect.{key}")
            same(key, found, found if expected is None else expected)
        count = step.whole("expect.body_bytes")
        if count is not None:
            same("the body", delivery.raw, b"x" * count)
        for name, value in step.below("expect.headers.").items():
            same(f"header {name}", delivery.headers.get(name), value)
        before = step.get("expect.token_after")
        if before is not None and (before not in self._held or self._held[before].token >= delivery.token):
            raise Wrong(f"token {delivery.token} is not above that of {before}")

    def delivery(self, step: Fields) -> libmq.Delivery:
        name = step.need("delivery")
        if name not in self._held:
            raise Wrong(f"no delivery was called {name}")
        return self._held[name]

    def do_ack(self, step: Fields) -> None:
        self.call(step, self.delivery(step).ack)

    def do_retry(self, step: Fields) -> None:
        delivery, delay, why = self.delivery(step), step.time("delay_ms"), step.get("why")
        self.call(step, lambda: delivery.retry(delay, why))

    def do_reject(self, step: Fields) -> None:
        delivery, why = self.delivery(step), step.get("why") or ""
        self.call(step, lambda: delivery.reject(why))

    def do_release(self, step: Fields) -> None:
        delivery, delay = self.delivery(step), step.time("delay_ms")
        self.call(step, lambda: delivery.release(delay))

    def do_extend(self, step: Fields) -> None:
        delivery, time = self.delivery(step), step.time("ms")
        self.call(step, lambda: delivery.extend(0 if time is None else time))

    def do_child(self, step: Fields) -> None:
        delivery, queue = self.delivery(step), step.need("queue")
        body, given = message(step, "")
        self.call(step, lambda: delivery.enqueue(queue, body, **given))

    # Handlers.

    def do_handle(self, step: Fields) -> None:
        queue = step.need("queue")
        given: dict[str, Any] = {
            name: step.whole(name) for name in ("max_parallelism", "min_parallelism", "max_retries")
        }
        given["timeout"] = step.time("timeout_ms")
        given["cancel_grace"] = step.time("cancel_grace_ms")
        given["lease_extension_enabled"] = step.read("lease_extension_enabled", truth)
        child_queue = step.get("child.queue")
        child = None if child_queue is None else (child_queue, *message(step, "child."))
        handler = Handler(step.items("outcomes") or [], child)
        function = handler.play_async if ASYNC else handler
        self.call(step, lambda: self.broker.handler(queue, function, backoff=backoff(step, ""), **given))
        self._handlers[queue] = handler

    def handler(self, step: Fields) -> Handler:
        queue = step.need("queue")
        if queue not in self._handlers:
            raise Wrong("the queue has no handler")
        return self._handlers[queue]

    def do_calls(self, step: Fields) -> None:
        self.handler(step).expect(step)

    def do_let_go(self, step: Fields) -> None:
        self.handler(step).let_go()

    # Figures and dead letters.

    def do_metrics(self, step: Fields) -> None:
        queue, expected = step.get("queue"), step.below("expect.")
        end = time.monotonic() + WAIT
        while True:
            metrics = self.call(step, self.broker.metrics)
            figures = metrics if queue is None else metrics.queues.get(queue)
            off = [
                (name, found, value) for name, value in expected.items() if (found := figure(figures, name)) != value
            ]
            if not off:
                return
            if time.monotonic() > end:
                raise Wrong("{} is {}, but {} was expected".format(*off[0]))
            time.sleep(0.001)

    def do_dead_letters(self, step: Fields) -> None:
        queue, limit, after = step.get("queue"), step.whole("limit"), step.get("after")
        after_id = None if after is None else self.id(after)
        listed = self.broker.dead_letters.list
        letters = self.call(step, lambda: listed(queue, 1000 if limit is None else limit, after_id))
        count = step.whole("expect.letters.#")
        if count is None:
            return
        same("the count of letters", len(letters), count)
        for index, letter in enumerate(letters):
            path = f"expect.letters.{index}."
            name = step.get(f"{path}id")
            if name is not None:
                same("id", letter.id, self.id(name))
            error = letter.error.partition("\n\nTraceback")[0].removeprefix("Failed: ")
            for key, found in (
                ("queue", letter.queue),
                ("reason", letter.reason),
                ("error", error),
                ("attempts", str(letter.attempts)),
                ("body", letter.raw.decode(errors="replace")),
            ):
                expected = step.get(path + key)
                same(f"{key} of letter {index}", found, found if expected is None else expected)

    def do_prometheus(self, step: Fields) -> None:
        text = self.call(step, self.broker.prometheus)
        for line in step.items("expect.lines") or []:
            if line not in text.splitlines():
                raise Wrong(f"there is no line {line} in\n{text}")

    def do_replay(self, step: Fields) -> None:
        number = self.id(step.need("id"))
        self.receipt(step, self.call(step, lambda: self.broker.dead_letters.replay(number)), "")

    def do_replay_all(self, step: Fields) -> None:
        queue = step.get("queue")
        self.expect_count(step, lambda: self.broker.dead_letters.replay_all(queue))

    def do_purge_dead(self, step: Fields) -> None:
        queue = step.get("queue")
        self.expect_count(step, lambda: self.broker.dead_letters.purge(queue))

    def expect_count(self, step: Fields, call: Callable[[], int]) -> None:
        expected = step.whole("expect.count")
        count = self.call(step, call)
        same("count", count, count if expected is None else expected)

    # The calls that change a queue while it runs.

    def do_scale(self, step: Fields) -> None:
        queue, n = step.need("queue"), int(step.need("n"))
        self.call(step, lambda: self.broker.scale(queue, n))

    def do_pause(self, step: Fields) -> None:
        queue = step.need("queue")
        self.call(step, lambda: self.broker.pause(queue))

    def do_resume(self, step: Fields) -> None:
        queue = step.need("queue")
        self.call(step, lambda: self.broker.resume(queue))

    def do_purge(self, step: Fields) -> None:
        queue = step.need("queue")
        self.expect_count(step, lambda: self.broker.purge(queue))

    def do_cancel(self, step: Fields) -> None:
        number, expected = self.id(step.need("id")), step.read("expect.existed", truth)
        existed = self.call(step, lambda: self.broker.cancel(number))
        same("existed", existed, existed if expected is None else expected)


def figure(figures: libmq.QueueMetrics | None, name: str) -> str:
    """A figure by its documented name."""
    if name == "oldest_ready_age_ms":
        age = None if figures is None else figures.oldest_ready_age
        return "not there" if age is None else str(round(age * 1000))
    return str(getattr(figures, name, "not there"))


def main() -> None:
    # What a handler raises is meant to be raised here, and said by the driver if it is not.
    logging.getLogger("libmq").addHandler(logging.NullHandler())
    logging.getLogger("libmq").propagate = False
    script, directory, names, begin = sys.argv[1:]
    begin_at = int(begin)
    first, *steps = (Fields(line) for line in Path(script).read_text().split("\n")[:-1])
    place = "opening"
    try:
        player = Player(first, directory, Path(names), begin_at > 0)
        for number, step in enumerate(steps):
            if number >= begin_at:
                place = f"step {number}"
                player.play(step)
        place = "closing"
        player.end()
    except (Wrong, libmq.Error) as error:
        print(f"{place}: {error}", file=sys.stderr, flush=True)
        # Handlers that hold are not waited for.
        os._exit(1)


if __name__ == "__main__":
    main()
