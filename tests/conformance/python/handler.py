"""What a handler of a scenario does, and what was seen of it."""

import os
import sys
import threading
from dataclasses import dataclass
from typing import Any

import libmq
from script import Fields, Wrong

WAIT = 10.0
"""What waits, waits this long at most."""


@dataclass
class Call:
    """A call of a handler."""

    body: str
    attempt: int
    reason: str | None = None
    """Once it has ended: why it was cancelled, or nothing."""


class Failed(Exception):
    """What a handler raises that fails."""


class Handler:
    """What a handler does, and what was seen of it."""

    def __init__(self, outcomes: list[str], child: tuple[str, bytes, dict[str, Any]] | None) -> None:
        self._outcomes = outcomes or ["ack"]
        self._child = child
        self._calls: list[Call] = []
        self._let_go = 0
        self._changed = threading.Condition()

    def __call__(self, body: object, ctx: libmq.Context) -> None:
        with self._changed:
            number = len(self._calls)
            word, _, rest = self._outcomes[min(number, len(self._outcomes) - 1)].partition(":")
            refused = None
            if word == "extend":
                try:
                    ctx.extend(int(rest) / 1000)
                except libmq.Error as error:
                    refused = error.code
            self._calls.append(Call(ctx.raw.decode(errors="replace"), ctx.attempt))
            self._changed.notify_all()
        try:
            if refused is not None:
                raise libmq.Reject(refused)
            self._end(ctx, number, word, rest)
        finally:
            with self._changed:
                self._calls[number].reason = ctx.cancel_reason or ""
                self._changed.notify_all()

    def _end(self, ctx: libmq.Context, number: int, word: str, rest: str) -> None:
        if self._child is not None:
            queue, body, options = self._child
            ctx.enqueue(queue, body, **options)
        match word:
            case "ack":
                pass
            case "fail":
                raise Failed(rest)
            case "retry":
                raise libmq.Retry(int(rest) / 1000 if rest else None)
            case "reject":
                raise libmq.Reject(rest)
            case "release":
                raise libmq.Release(int(rest) / 1000 if rest else 0)
            case "hold" | "extend":
                with self._changed:
                    self._changed.wait_for(lambda: self._let_go > number, 4 * WAIT)
            case "cancel":
                if not ctx.wait_cancelled(4 * WAIT) or rest != "ack":
                    raise Failed("cancel")
            case _:
                print(f"this player does not know the outcome {word}", file=sys.stderr, flush=True)
                os._exit(3)

    def let_go(self) -> None:
        with self._changed:
            self._let_go = len(self._calls)
            self._changed.notify_all()

    def expect(self, step: Fields) -> None:
        """Waits until the calls are as expected."""
        count = step.whole("expect.count")
        bodies, attempts, reasons = (step.items(f"expect.{name}") for name in ("bodies", "attempts", "reasons"))

        def seen() -> tuple[list[str], list[str], list[str]]:
            ended = [call.reason for call in self._calls if call.reason is not None]
            return [call.body for call in self._calls], [str(call.attempt) for call in self._calls], ended

        def as_expected() -> bool:
            pairs = zip((bodies, attempts, reasons), seen(), strict=True)
            right = all(expected is None or expected == found for expected, found in pairs)
            return right and count in (None, len(self._calls))

        with self._changed:
            self._changed.wait_for(lambda: as_expected() or (count or 1 << 30) < len(self._calls), WAIT)
            if not as_expected():
                found = seen()
                raise Wrong(
                    f"the handler was called {len(self._calls)} times, bodies {found[0]}, attempts {found[1]}, "
                    f"reasons of ended calls {found[2]}"
                )
