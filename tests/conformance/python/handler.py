"""What a handler of a scenario does, and what was seen of it."""

import asyncio
import contextlib
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
        number, word, rest = self._enter(ctx)
        try:
            match self._begin(ctx, word, rest):
                case "hold":
                    with self._changed:
                        self._changed.wait_for(lambda: self._let_go > number, 4 * WAIT)
                case "cancel":
                    if not ctx.wait_cancelled(4 * WAIT) or rest != "ack":
                        raise Failed("cancel")
        finally:
            self._leave(number, ctx)

    async def play_async(self, body: object, ctx: libmq.Context) -> None:
        """The same on an event loop."""
        number, word, rest = self._enter(ctx)
        try:
            match self._begin(ctx, word, rest):
                case "hold":
                    await self._held(number)
                case "cancel":
                    try:
                        await asyncio.sleep(4 * WAIT)
                    except asyncio.CancelledError:
                        if rest == "ack":
                            return
                        raise
                    raise Failed("cancel")
        finally:
            self._leave(number, ctx)

    async def _held(self, number: int) -> None:
        """Waits until it is let go, whatever else happens."""
        loop = asyncio.get_running_loop()
        let_go: asyncio.Future[None] = loop.create_future()

        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: self._let_go > number, 4 * WAIT)
            loop.call_soon_threadsafe(lambda: let_go.done() or let_go.set_result(None))

        threading.Thread(target=wait, daemon=True).start()
        while not let_go.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((let_go,))

    def _enter(self, ctx: libmq.Context) -> tuple[int, str, str]:
        with self._changed:
            number = len(self._calls)
            word, _, rest = self._outcomes[min(number, len(self._outcomes) - 1)].partition(":")
            if word == "extend":
                try:
                    ctx.extend(int(rest) / 1000)
                except libmq.Error as error:
                    word, rest = "reject", error.code
            self._calls.append(Call(ctx.raw.decode(errors="replace"), ctx.attempt))
            self._changed.notify_all()
        return number, word, rest

    def _leave(self, number: int, ctx: libmq.Context) -> None:
        with self._changed:
            self._calls[number].reason = ctx.cancel_reason or ""
            self._changed.notify_all()

    def _begin(self, ctx: libmq.Context, word: str, rest: str) -> str:
        """Ends the call as it is to end, or answers what it waits for."""
        if self._child is not None:
            queue, body, options = self._child
            ctx.enqueue(queue, body, **options)
        match word:
            case "ack":
                return ""
            case "fail":
                raise Failed(rest)
            case "retry":
                raise libmq.Retry(int(rest) / 1000 if rest else None)
            case "reject":
                raise libmq.Reject(rest)
            case "release":
                raise libmq.Release(int(rest) / 1000 if rest else 0)
            case "hold" | "extend":
                return "hold"
            case "cancel":
                return word
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
