"""What waits in a broker, looked at without touching it.

A copy of the broker is opened and emptied. So what is seen is what an open would find, whichever way it came in, and no
attempt is counted, no token given and no order changed where it is looked at.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from libmq import _json_body, _opening
from libmq._broker import Broker
from libmq._errors import DecodeError, Error, StorageFullError
from libmq._native import Delivery

_SHOWN_MAX = 20
"""How many messages a failure lists."""

_TEXT_MAX = 200
"""How much of a body a failure shows."""

_MEMORY = "/dev/shm"

ADVANCE_S_MAX = 10 * 365 * 86400.0
"""How far a clock is moved at most, looking for what is due; libmq knows no longer delay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """A message that waits, or is in flight."""

    id: int
    """Its id."""
    queue: str
    """Its queue."""
    body: Any
    """What its JSON says; bytes where it is none."""
    headers: Mapping[str, str]
    """Its headers."""
    correlation_id: str | None
    """The id that follows the work from message to message."""
    enqueued_at: datetime
    """When it was enqueued, or replaced; in UTC."""
    attempt: int
    """The number of its next attempt, from 1."""
    delayed: bool
    """It is not due yet, or waits for a retry or for one of its group that does."""

    def __str__(self) -> str:
        notes = ["delayed"] if self.delayed else []
        if self.attempt > 1:
            notes.append(f"attempt {self.attempt}")
        if self.headers:
            notes.append(f"headers {dict(self.headers)}")
        return _shown(self.body) + (f"  ({', '.join(notes)})" if notes else "")


def steps() -> Iterator[float]:
    """So many seconds to move a clock by, one after the other, that what is due is met soon after it is: a step is a
    sixteenth of the way so far. A clock knows whole milliseconds.
    """
    way_ms = 0
    while way_ms < ADVANCE_S_MAX * 1000:
        step_ms = max(1, way_ms // 16)
        way_ms += step_ms
        yield step_ms / 1000


def waiting(broker: Broker) -> list[Enqueued]:
    """All that is there, by queue; in each what is ready first, as it would be handed out."""
    try:
        # In memory, where the system has a place for that: the copy is of no worth.
        return _waiting(broker, _MEMORY if os.path.isdir(_MEMORY) and os.access(_MEMORY, os.W_OK) else None)
    except StorageFullError:
        return _waiting(broker, None)


def _waiting(broker: Broker, place: str | None) -> list[Enqueued]:
    with tempfile.TemporaryDirectory(prefix="libmq-testing-", dir=place) as directory:
        copy = os.path.join(directory, "copy")
        broker.backup(copy)
        with _opened(copy) as found:
            queues = sorted(found.metrics().queues)
            messages = [message for queue in queues for message in _taken(found, queue, delayed=False)]
            for step in steps():
                figures = found.metrics()
                if not figures.ready + figures.delayed:
                    break
                found.advance(step)
                messages += [message for queue in queues for message in _taken(found, queue, delayed=True)]
    return sorted(messages, key=lambda message: message.queue)


def _opened(copy: str) -> Broker:
    """Nothing is logged of it: it is not the program's."""
    given = _opening.bound(copy, clock="manual", durability="os", segment_bytes=64 << 10)
    return _opening.opened(Broker, given | {"listens": False})


def _taken(broker: Broker, queue: str, delayed: bool) -> list[Enqueued]:
    taken = []
    while (delivery := broker.receive(queue, 0)) is not None:
        taken.append(_seen(delivery, delayed))
        # The next one of its group.
        delivery.ack()
    return taken


def _seen(delivery: Delivery, delayed: bool) -> Enqueued:
    try:
        body = delivery.body
    except DecodeError:
        body = delivery.raw
    return Enqueued(
        id=delivery.id,
        queue=delivery.queue,
        body=body,
        headers=dict(delivery.headers),
        correlation_id=delivery.correlation_id,
        enqueued_at=delivery.enqueued_at,
        attempt=delivery.attempt,
        delayed=delayed,
    )


def plain(body: object) -> object:
    """What a handler would be given for this body. What is no JSON, as something that equals anything, stays."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    try:
        return _json_body.decode(_json_body.encode(body), True)
    except (TypeError, Error):
        return body


def matches(message: Enqueued, body: tuple[object, ...], fields: Mapping[str, object]) -> bool:
    """Whether a message has this body, if one is given, and these fields."""
    if body and message.body != plain(body[0]):
        return False
    if not fields:
        return True
    found = message.body
    return isinstance(found, dict) and all(
        name in found and found[name] == plain(wanted) for name, wanted in fields.items()
    )


def wish(body: tuple[object, ...], fields: Mapping[str, object]) -> str:
    """What was looked for."""
    words = [f"the body {_shown(plain(body[0]))}"] if body else []
    words += [f"{name}={value!r}" for name, value in fields.items()]
    return f" with {', '.join(words)}" if words else ""


def listed(messages: list[Enqueued], queue: str) -> str:
    """What there is in a queue, and how much in the others."""
    here = [message for message in messages if message.queue == queue]
    lines = [f"{queue} has {len(here)}:" if here else f"{queue} has none"]
    lines += [f"  {message}" for message in here[:_SHOWN_MAX]]
    if len(here) > _SHOWN_MAX:
        lines.append(f"  and {len(here) - _SHOWN_MAX} more")
    others: dict[str, int] = {}
    for message in messages:
        if message.queue != queue:
            others[message.queue] = others.get(message.queue, 0) + 1
    if others:
        lines.append("elsewhere: " + ", ".join(f"{name} {count}" for name, count in others.items()))
    return "\n".join(lines)


def _shown(body: object) -> str:
    if isinstance(body, bytes):
        text = repr(body)
    else:
        try:
            text = json.dumps(body, ensure_ascii=False)
        except (TypeError, ValueError):
            text = repr(body)
    return text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 3] + "..."
