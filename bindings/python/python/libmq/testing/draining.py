"""Running everything that is due, until there is nothing more to do.

A broker whose clock stands still is never idle while a retry is pending, since its time does not come. So here it is
looked whether anybody still works for a queue that has a handler: in a test one may look again and again.
"""

import time
from dataclasses import dataclass, field

from libmq._broker import Broker
from libmq._figures import Metrics, QueueMetrics
from libmq._native import DeadLetter
from libmq.testing.looking import steps

_LOOK_S = 0.005
_STILL_S = 0.1
"""How long nothing must have happened where messages are ready, but behind one of their group that is not due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What a drain did."""

    handled: int
    """Attempts that ended in an ack."""
    failed: int
    """Attempts that raised something, a `Retry` or a `Reject` too, or timed out."""
    advanced: float
    """Seconds that the clock was moved."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    """What has become a dead letter."""


def has_handler(broker: Broker, queue: str) -> bool:
    """Whether a queue's messages are handled when the broker is started."""
    return bool(broker._crew.of(queue) or broker._hall.of(queue))


class Draining:
    """What there was before the handlers were started, and what they did from then on."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._before = broker.metrics()
        self._letters = _letters(broker)

    def run(self, advance: float, timeout: float) -> Drained:
        """Lets what is due run; moves the clock by at most `advance` seconds, over what is not due yet.

        Raises:
            AssertionError: There was still something to do after `timeout` seconds.
        """
        broker, before = self._broker, self._before
        end = time.monotonic() + timeout
        advanced = 0.0
        while _settle(broker, end) and advanced < advance:
            if advanced and time.monotonic() > end:
                raise AssertionError(
                    f"there is still something to do: {_left(broker)}, after {advanced:.0f} s of its clock"
                )
            advanced = round(advanced + _move(broker, round(advance - advanced, 3)), 3)
        after = broker.metrics()
        failed = [figures.retried + figures.rejected for figures in (before, after)]
        return Drained(
            handled=after.acked - before.acked,
            failed=failed[1] - failed[0],
            advanced=advanced,
            dead_letters=[letter for id, letter in _letters(broker).items() if id not in self._letters],
        )


def _letters(broker: Broker) -> dict[int, DeadLetter]:
    return {letter.id: letter for letter in broker.dead_letters.list(limit=1_000_000)}


def _handled(broker: Broker, figures: Metrics) -> dict[str, QueueMetrics]:
    return {queue: its for queue, its in figures.queues.items() if has_handler(broker, queue)}


def _settle(broker: Broker, end: float) -> bool:
    """Waits until nobody works, and nothing is to be handed out; whether something is not due yet."""
    seen: tuple[int, ...] = ()
    still_since = time.monotonic()
    while True:
        broker.wait_idle(_LOOK_S)
        figures, later, last = broker.metrics(), broker.metrics(), broker.metrics()
        # What becomes due is counted as ready before it is no longer delayed, and what is taken as held before it is no
        # longer ready. So each is looked at after the one before, and a message on its way is seen at one of them.
        delayed = sum(its.delayed for its in _handled(broker, figures).values())
        ours = _handled(broker, later).values()
        ready, held = (sum(getattr(its, name) for its in ours) for name in ("ready", "in_flight"))
        # What is settled leaves by a record, and a broker's marks are read before its figures: where no record came
        # until the marks were read again, nothing was missed between two figures.
        was_still = figures.lsn.shown == figures.lsn.reserved == last.lsn.reserved
        if was_still and not ready and not held:
            return delayed > 0
        now = (ready, held, delayed, figures.lsn.reserved)
        if now != seen or held:
            seen, still_since = now, time.monotonic()
        elif delayed and time.monotonic() - still_since > _STILL_S:
            return True
        if time.monotonic() > end:
            raise AssertionError(f"there is still something to do: {_left(broker)}")


def _left(broker: Broker) -> str:
    left = []
    for queue, its in _handled(broker, broker.metrics()).items():
        counts = ((its.in_flight, "in flight"), (its.ready, "ready"), (its.delayed, "delayed"))
        words = [f"{count} {name}" for count, name in counts if count]
        if words:
            left.append(f"{queue} has {' and '.join(words)}")
    return ", ".join(left) or "messages come and go without an end, or a delivery that was received is not settled"


def _move(broker: Broker, most: float) -> float:
    """Moves the clock until something is due that has a handler, or this far; how far. Not at all if nothing waits."""
    moved = 0.0
    before = waits, _ = _waits(broker)
    for step in steps():
        # What became due may have been handed out and put off again since: then it waits as before, but was delivered.
        if not waits or moved >= most or _waits(broker) != before:
            break
        step = min(step, most - moved)
        broker.advance(step)
        moved = round(moved + step, 3)
    return moved


def _waits(broker: Broker) -> tuple[int, int]:
    """How many messages are not due yet, and how many attempts began so far."""
    ours = _handled(broker, broker.metrics()).values()
    return sum(its.delayed for its in ours), sum(its.delivered for its in ours)
