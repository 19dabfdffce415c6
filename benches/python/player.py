"""One run of one contender in Python: `player.py PEER WORK DIRECTORY [KEY=VALUE]...` prints its figures as JSON.

The work is done in DIRECTORY. Who is compared with whom, `benches/peers` knows. Where the peer is not installed, the
status is 77.
"""

import asyncio
import json
import queue
import random
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from peers import PEERS, Missing, Peer, Work

MISSING = 77

Handling = Callable[[Work], AbstractContextManager[None]]


def enqueue(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages in, one by one, each answered before the next."""
    put = peer.put
    began = time.perf_counter()
    for _ in range(messages):
        put(body)
    return rate(messages, began)


def enqueue_many(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages in, a thousand at a time, all or none of each thousand."""
    bodies = [body] * 1000
    began = time.perf_counter()
    for _ in range(messages // 1000):
        peer.put_all(bodies)
    return rate(messages // 1000 * 1000, began)


def aenqueue(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages in from a loop, one by one, each awaited before the next."""

    async def put() -> dict[str, float]:
        began = time.perf_counter()
        for _ in range(messages):
            await peer.aput(body)
        return rate(messages, began)

    return asyncio.run(put())


def enqueue_at_once(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages in from a loop: a thousand tasks, each of which awaits one after the other."""

    async def put_some() -> None:
        for _ in range(messages // 1000):
            await peer.aput(body)

    async def put() -> dict[str, float]:
        began = time.perf_counter()
        await asyncio.gather(*(put_some() for _ in range(1000)))
        return rate(messages // 1000 * 1000, began)

    return asyncio.run(put())


def checkout(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages out that have been put in before, one at a time, each acked."""
    peer.put_all([body] * messages)
    began = time.perf_counter()
    for _ in range(messages):
        if peer.take() != body:
            raise ValueError("a body changed on its way")
    return rate(messages, began)


def handled(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages that have been put in before, until a handler has had each."""
    peer.put_all([body] * messages)
    return handle(peer.handling, messages, body, lambda: None)


def handled_async(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """The same, and the handler is a coroutine."""
    peer.put_all([body] * messages)
    return handle(peer.handling_async, messages, body, lambda: None)


def end_to_end(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """Messages in, one by one, until a handler has had each."""

    def put() -> None:
        for _ in range(messages):
            peer.put(body)

    return handle(peer.handling, messages, body, put)


def handle(handling: Handling, messages: int, body: bytes, meanwhile: Callable[[], None]) -> dict[str, float]:
    seen, wrong, done = 0, 0, threading.Event()

    def work(found: bytes) -> None:
        # What is wrong is told at the end: raised here, it would be the peer's to deal with.
        nonlocal seen, wrong
        wrong += found != body
        seen += 1
        if seen == messages:
            done.set()

    began = time.perf_counter()
    with handling(work):
        meanwhile()
        done.wait()
        figures = rate(messages, began)
    if wrong:
        raise ValueError(f"{wrong} bodies changed on their way")
    return figures


def idle(peer: Peer, messages: int, body: bytes) -> dict[str, float]:
    """From the call of an enqueue to the first line of a handler that had nothing to do."""
    entered: queue.SimpleQueue[float] = queue.SimpleQueue()
    times = []
    with peer.handling(lambda _: entered.put(time.perf_counter())):
        for _ in range(messages):
            # Of one that polls, any moment between two looks is as likely.
            time.sleep(0.001 + random.random() * peer.polls)
            began = time.perf_counter()
            peer.put(body)
            times.append((entered.get() - began) * 1e6)
    times.sort()

    def at(thousandth: int) -> float:
        return times[min(len(times) * thousandth // 1000, len(times) - 1)]

    return {"p50": at(500), "p99": at(990), "p999": at(999), "max": times[-1]}


def rate(messages: int, began: float) -> dict[str, float]:
    return {"rate": messages / (time.perf_counter() - began)}


WORKS: dict[str, Callable[[Peer, int, bytes], dict[str, float]]] = {
    "enqueue": enqueue,
    "enqueue-many": enqueue_many,
    "aenqueue": aenqueue,
    "enqueue-at-once": enqueue_at_once,
    "checkout": checkout,
    "handled": handled,
    "handled-async": handled_async,
    "end-to-end": end_to_end,
    "idle": idle,
}


def main(name: str, work: str, directory: str, *settings: str) -> None:
    asked = dict(setting.split("=", 1) for setting in settings)
    messages, body = int(asked.pop("messages")), b"x" * int(asked.pop("body"))
    try:
        peer = PEERS[name](Path(directory), **asked)
    except Missing as missing:
        print(missing, file=sys.stderr)
        sys.exit(MISSING)
    figures = WORKS[work](peer, messages, body)
    peer.close()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
