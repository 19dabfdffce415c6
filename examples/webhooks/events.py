"""Turns routed events into the lines of a ledger: the Python part of the demo.

Usage: events.py DIRECTORY

Opens the directory that `ingest` left, whatever state that was in. The handler of `events` writes one line a payload,
as a message to `ledger` that commits with its ack: a line exists if and only if its event is done. One kind of event
fails on purpose until it is "fixed"; its messages are retried, become dead letters, and are replayed. `drain.c` then
drains the ledger.
"""

import logging
import sys
import zlib

import libmq

BROKEN = "security_advisory"
"""The kind of event that fails until it is fixed."""


class Events:
    """The handler of `events`, with a switch."""

    def __init__(self) -> None:
        self.fixed = False

    def __call__(self, payload: bytes, ctx: libmq.Context) -> None:
        """One line for the ledger, with the ack or not at all."""
        event, delivery = ctx.headers.get("X-GitHub-Event"), ctx.headers.get("X-GitHub-Delivery")
        if event is None or delivery is None:
            raise libmq.Reject("no event's name, or no delivery id")
        route = ctx.headers.get("Route", "other")
        if event == BROKEN and not self.fixed:
            raise NotImplementedError(f"{event} is not understood yet")
        line = f"{route}\t{delivery}\t{event}\t{len(payload)}\t{zlib.crc32(payload):08x}\n"
        ctx.enqueue("ledger", line.encode(), content_type="text/plain", headers={"Route": route})


def main(directory: str) -> None:
    with libmq.open(directory) as broker:
        found = broker.recovery
        say(f"recovered {found.messages} messages from {found.records} records")
        say(f"{found.suspects} suspects, {found.dead_letters} dead letters")
        say(f"{found.dropped_bytes} bytes of a torn tail dropped, {found.duration * 1000:.1f} ms")

        events = Events()
        broker.handler("events", events, max_parallelism=4, max_retries=2, backoff=libmq.Backoff.fixed(0.05))
        broker.start()
        wait(broker)

        figures = broker.metrics().queues["events"]
        say(f"{figures.delivered} attempts, {figures.acked} acked")
        say(f"{figures.retried} failed, {figures.dead_lettered} are dead letters now:")
        for letter in broker.dead_letters.list("events", limit=3):
            say(f"{letter.headers.get('X-GitHub-Delivery')}, {letter.reason}: {letter.error}")

        events.fixed = True
        replayed = broker.dead_letters.replay_all("events")
        say(f"fixed the handler and replayed {replayed} dead letters")
        if not replayed:
            sys.exit("the events that fail on purpose did not fail")
        wait(broker)
        broker.stop(5)
        say(f"left {broker.metrics().queues['ledger'].ready} lines in the ledger")


def wait(broker: libmq.Broker) -> None:
    """Waits until nothing is left to do, and says how far it is."""
    for _ in range(60):
        if broker.wait_idle(0.5):
            return
        ledger = broker.metrics().queues.get("ledger")
        say(f"{ledger.ready if ledger else 0} lines so far")
    sys.exit("the handlers did not come to an end within 30 s")


def say(text: str) -> None:
    print(f"events: {text}", flush=True)


if __name__ == "__main__":
    # The failures are part of the show, and told below; their tracebacks are not.
    logging.getLogger("libmq").setLevel(logging.CRITICAL)
    main(*sys.argv[1:])
