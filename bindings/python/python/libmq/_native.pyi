"""The native part: what the package is built on. Names that begin with an underscore are the package's own."""

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, final

from typing_extensions import disjoint_base

from libmq._durations import Duration

__all__ = [
    "Attempt",
    "Backoff",
    "Bell",
    "Broker",
    "Context",
    "DeadLetter",
    "DeadLetters",
    "Delivery",
    "Foreman",
    "Held",
    "Inbox",
    "Interrupt",
    "Listener",
    "Message",
    "Receipt",
    "Tray",
    "Watch",
    "Worker",
    "__version__",
    "alone_again",
    "check_duration",
    "handles",
    "is_main_interpreter",
    "leave",
    "serve",
    "stay_outside",
    "verify",
]

__version__: str
"""The version of the package, and of the core that it brings."""

@final
class Backoff:
    """How long a message waits before it is tried again, made by `exponential`, `fixed` or `steps`. Immutable."""

    @staticmethod
    def exponential(
        base: Duration = 1,
        factor: float = 2,
        cap: Duration = 600,
        jitter: float = 1,
    ) -> Backoff:
        """`base * factor ** n` for the n-th retry, at most `cap`.

        `factor` goes from 1 to 1,000. `jitter` j makes a wait of d uniform from `(1 - j) * d` to d, and goes from 0 to
        1.

        Raises InvalidError out of range, TypeError.
        """

    @staticmethod
    def fixed(delay: Duration) -> Backoff:
        """Always the same wait, without jitter. Raises InvalidError above ten years, TypeError."""

    @staticmethod
    def steps(*delays: Duration) -> Backoff:
        """One wait after another, and after the last, the last; without jitter. 1 to 1,000 of them.

        Raises InvalidError out of range, TypeError.
        """

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

@final
class Receipt:
    """What became of an enqueue. Immutable, and good for `match`."""

    __match_args__: ClassVar[tuple[Literal["id"], Literal["status"]]]

    @property
    def id(self) -> int:
        """The message's id: of the new message, or of the one that was replaced or kept."""

    @property
    def status(self) -> Literal["accepted", "replaced", "duplicate"]:
        """A new message; a waiting one that has this body now; or one that is there already."""

    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Message:
    """A body with the options of `Broker.enqueue`, for `enqueue_many`. Immutable, but for the body.

    What is out of range in an option is an InvalidError or a TypeError here; what is wrong with the body, and a
    `run_at` that is too far away or that `expires_in` ends before, where it is enqueued.
    """

    def __new__(
        cls,
        body: object,
        *,
        dedup_key: str | None = None,
        dedup: Literal["replace", "keep"] | None = None,
        dedup_window: Duration | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        expires_in: Duration | None = None,
        priority: int | None = None,
        group: str | None = None,
        durability: Literal["sync", "os"] | None = None,
    ) -> Self: ...
    @property
    def body(self) -> Any:
        """The body, as it was given."""

    @property
    def dedup_key(self) -> str | None:
        """The option, None where it was not given."""

    @property
    def dedup(self) -> Literal["replace", "keep"] | None:
        """The option, None where it was not given."""

    @property
    def dedup_window(self) -> Duration | None:
        """The option, None where it was not given."""

    @property
    def correlation_id(self) -> str | None:
        """The option, None where it was not given."""

    @property
    def headers(self) -> Mapping[str, str] | None:
        """The option, None where it was not given."""

    @property
    def content_type(self) -> str | None:
        """The option, None where it was not given."""

    @property
    def delay(self) -> Duration | None:
        """The option, None where it was not given."""

    @property
    def run_at(self) -> datetime | None:
        """The option, None where it was not given."""

    @property
    def expires_in(self) -> Duration | None:
        """The option, None where it was not given."""

    @property
    def priority(self) -> int | None:
        """The option, None where it was not given."""

    @property
    def group(self) -> str | None:
        """The option, None where it was not given."""

    @property
    def durability(self) -> Literal["sync", "os"] | None:
        """The option, None where it was not given."""

@disjoint_base
class Held:
    """A message that is held: by a handler, or by who received it. Readable from any thread, also when settled."""

    @property
    def id(self) -> int:
        """The message's id, the same in every attempt."""

    @property
    def queue(self) -> str:
        """The queue it came from."""

    @property
    def body(self) -> Any:
        """The body: what JSON says, or bytes. Decoded once. Raises DecodeError."""

    @property
    def raw(self) -> bytes:
        """The body's bytes, as they were enqueued."""

    @property
    def content_type(self) -> str:
        """What the body is."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers; of a name that was given twice the first."""

    @property
    def correlation_id(self) -> str | None:
        """The id that follows the work from message to message."""

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""

    @property
    def max_retries(self) -> int:
        """How many retries there are after the first attempt."""

    @property
    def token(self) -> int:
        """A number that is larger for every later lease, for fencing effects outside."""

    @property
    def enqueued_at(self) -> datetime:
        """When it was enqueued, or replaced; in UTC."""

    @property
    def deadline(self) -> datetime:
        """Until when it is held; in UTC."""

    def extend(self, seconds: Duration) -> None:
        """Moves the deadline to this much from now, if that is later; at most 24 hours. From any thread.

        Raises StaleLeaseError once the lease is lost, or a stop has cancelled the attempt; InvalidError, ClosedError,
        ForkedError, TypeError; Error with `UNSUPPORTED` where the handler's option `lease_extension_enabled` is False.
        """

    def enqueue(
        self,
        queue: str,
        body: object,
        *,
        dedup_key: str | None = None,
        dedup: Literal["replace", "keep"] | None = None,
        dedup_window: Duration | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        expires_in: Duration | None = None,
        priority: int | None = None,
        group: str | None = None,
        durability: Literal["sync", "os"] | None = None,
    ) -> None:
        """Enqueues a message together with this one's ack, or not at all. Options as of `Broker.enqueue`.

        The correlation id and the header `traceparent` are inherited unless given. Everything is checked at once, and
        room is taken; there is no waiting for it here.

        Raises FullError, TooLargeError, InvalidError, StaleLeaseError once it is settled or its lease is lost,
        ClosedError, ForkedError, TypeError. All of these: not enqueued.
        """

@final
class Context(Held):
    """A message as its handler sees it: everything but the settling, which is the handler's return."""

    @property
    def cancelled(self) -> bool:
        """Whether the attempt was cancelled. An async handler's task is cancelled, too; nothing else is interrupted: a
        handler that runs long looks here.
        """

    @property
    def cancel_reason(self) -> Literal["timeout", "shutdown", "cancelled", "lease_lost"] | None:
        """Why the attempt was cancelled, if it was."""

    def wait_cancelled(self, seconds: Duration | None = None) -> bool:
        """Sleeps until the attempt is cancelled, at most for this long, None for ever; answers whether it is.

        Raises InvalidError above ten years, TypeError.
        """

    def raise_if_cancelled(self) -> None:
        """Raises Cancelled if the attempt was cancelled."""

    @property
    def scope(self) -> Any:
        """What the scope of the attempt has made, as long as it is open; None without one."""

    def _set_scope(self, scope: object) -> Any: ...

@final
class Delivery(Held):
    """A message that was received, to be settled once, from any thread. It keeps its broker.

    In a `with`, it is acked at the end, or settled as a handler that raised the same. One that is garbage before it is
    settled is held until its lease runs out.

    Each settle raises StaleLeaseError if it was settled before or its lease is lost, StorageFullError, or Error with
    `NO_MEMORY` or `IO`, where the record has no room, ClosedError, and ForkedError: with these nothing has changed, and
    what was held is held as before. PoisonedError: unknown; the next open tells.
    """

    def ack(self) -> None:
        """Done. What was enqueued with it is enqueued by the same record."""

    def retry(self, delay: Duration | None = None, error: str | None = None) -> None:
        """Failed: tried again after `delay`, or after the backoff. `error` is kept with a dead letter, up to 4 KiB.

        Also raises InvalidError above ten years, TypeError.
        """

    def reject(self, reason: str) -> None:
        """To the dead letters, for this reason, of which up to 4 KiB are kept."""

    def release(self, delay: Duration = 0) -> None:
        """Given back, and ready again after `delay`; not counted as an attempt.

        Also raises InvalidError above ten years, TypeError.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        _class: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self,
        _class: type[BaseException] | None,
        raised: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None: ...
    @property
    def _settled(self) -> bool: ...
    def _reject(self, reason: str, error: str) -> None: ...
    def _undecodable(self, error: str) -> None: ...

@final
class DeadLetter:
    """A message that will not be tried again, with the reason. Readable for as long as one likes."""

    @property
    def id(self) -> int:
        """The message's id."""

    @property
    def queue(self) -> str:
        """Its queue."""

    @property
    def body(self) -> Any:
        """The body: what JSON says, or bytes. Raises DecodeError."""

    @property
    def raw(self) -> bytes:
        """The body's bytes, as they were enqueued."""

    @property
    def content_type(self) -> str:
        """What the body is."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers; of a name that was given twice the first."""

    @property
    def correlation_id(self) -> str | None:
        """The id that follows the work from message to message."""

    @property
    def reason(self) -> str:
        """The text given to reject, else "max_retries", "crashed", "expired", "decode" or "corrupt"."""

    @property
    def error(self) -> str:
        """The last failure's text."""

    @property
    def attempts(self) -> int:
        """How often a handler was entered and did not give it back."""

    @property
    def failed_at(self) -> datetime:
        """When it became a dead letter; in UTC."""

@final
class DeadLetters:
    """The dead letters of a broker, which they keep. Its length is how many there are; it is never false.

    Every call raises ClosedError and ForkedError, TypeError, and InvalidError for a queue's name that is none.
    """

    def list(self, queue: str | None = None, limit: int = 100, after: int | None = None) -> list[DeadLetter]:
        """Up to `limit` dead letters of a queue, or of all, with ids above `after`, in the order of their ids.

        Also raises CorruptError, and Error with `IO`, where one cannot be read.
        """

    def get(self, id: int) -> DeadLetter | None:
        """The dead letter of this id, None if it is not one. Raises as `list`."""

    def replay(self, id: int) -> Receipt:
        """Enqueues a dead letter again, under a new id, with no attempts, its old key and mode "keep".

        Where the key is taken, the receipt says "duplicate" and the dead letter stays. Raises NotFoundError, and what
        `enqueue` raises.
        """

    def replay_all(self, queue: str | None = None) -> int:
        """Replays the dead letters of a queue, or all; answers how many are dead letters no more.

        Raises as `replay`; what was replayed before stays so.
        """

    def purge(self, queue: str | None = None) -> int:
        """Removes the dead letters of a queue, or all; answers how many.

        Also raises StorageFullError, PoisonedError.
        """

    def __len__(self) -> int: ...
    def __bool__(self) -> bool: ...

@disjoint_base
class Broker:
    """What `libmq.Broker` is built on."""

    def __new__(cls, path: str | os.PathLike[str], options: dict[str, Any]) -> Self: ...
    def enqueue(
        self,
        queue: str,
        body: object,
        *,
        dedup_key: str | None = None,
        dedup: Literal["replace", "keep"] | None = None,
        dedup_window: Duration | None = None,
        correlation_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        delay: Duration | None = None,
        run_at: datetime | None = None,
        expires_in: Duration | None = None,
        priority: int | None = None,
        group: str | None = None,
        durability: Literal["sync", "os"] | None = None,
    ) -> Receipt:
        """Enqueues a message, and returns when it has reached its durability.

        Durations are seconds or timedeltas, up to ten years. None is the default.

        Args:
            queue: 1 to 128 of `A-Z a-z 0-9 . _ -`. It exists from its first use.
            body: Bytes travel as they are; anything else as JSON: dataclasses and classes of pydantic and msgspec as
                objects, moments, UUIDs, decimals and paths as texts, sets as arrays, Enums as their value.
            dedup_key: Makes the message one of its kind in its queue; 1 to 256 bytes of UTF-8, no control characters,
                as every text here.
            dedup: What happens when the key is taken: "replace" (default) the waiting message, or "keep" it.
            dedup_window: How long after its ack the message still guards its key against "keep". Default 0.
            correlation_id: Follows the work from message to message; `ctx.enqueue` inherits it.
            headers: At most 64; names of 1 to 64 `A-Z a-z 0-9 . _ -`, values up to 4 KiB without NUL, CR and LF.
            content_type: Default `application/octet-stream` for bytes, `application/json` for anything else.
            delay: Not before this much time has passed. Excludes `run_at`.
            run_at: Not before this moment, a datetime with a time zone; in the past means now.
            expires_in: No attempt begins after this time: never attempted it is dropped, else it is a dead letter
                `expired`. Beyond `delay` or `run_at`. Default never.
            priority: 0 to 9, higher first. Default 0.
            group: One message of a group at a time, in order; 1 to 256 bytes. Default none.
            durability: "sync" or "os" for this message. Default the broker's.

        Raises:
            FullError: `capacity` messages are live; with `on_full="block"` only after `block_timeout`.
            TooLargeError: Body and headers are beyond `max_message_bytes`.
            StorageFullError: The disk has no room.
            InvalidError, ClosedError, ForkedError, TypeError; Error with `UNSUPPORTED`. All of these: not enqueued.
            PoisonedError: Unknown; the next open tells. So it is after a KeyboardInterrupt.
        """

    def enqueue_many(self, queue: str, items: Iterable[object]) -> list[Receipt]:
        """Enqueues bodies, or `Message`s with options of their own: all or none, with one commit.

        At most 10,000, and `max_batch_bytes`. Receipts are in the order of the items. Raises as `enqueue`, and
        says which item was bad. More items than `capacity` wait for no room, also with `on_full="block"`.
        """

    def receive(self, queue: str, timeout: Duration | None = None, lease: Duration | None = None) -> Delivery | None:
        """Takes the next message of a queue, waiting for one at most for `timeout`: None for ever, 0 looks once.

        It is held for `lease`, default 30 s, which is not renewed by itself. None if nothing came. Works before
        `start`.

        Raises InvalidError out of range, as above ten years; ClosedError, also for a thread that waits when the program
        ends; ForkedError, PoisonedError, TypeError; StorageFullError where there is no room to note what is in flight;
        CorruptError, or Error with `IO`, where the message cannot be read. All of these: nothing was taken.
        """

    def receive_many(
        self, queue: str, max: int, timeout: Duration | None = None, lease: Duration | None = None
    ) -> list[Delivery]:
        """Takes up to `max` (1 to 10,000) messages that are there, waiting for the first one as `receive` does.

        Empty if nothing came. Raises as `receive`.
        """

    def start(self) -> None:
        """Starts to call handlers. Started already: nothing.

        Raises ClosedError, ForkedError; Error with `DEADLOCK` in a handler while another thread starts, stops or
        closes.
        """

    def wait_idle(self, timeout: Duration | None = None) -> bool:
        """Waits until nothing is in flight, nothing is ready where there is a handler, and no retry is pending.

        Answers whether that was so within `timeout`, None for ever. Raises InvalidError above ten years, ClosedError,
        ForkedError, TypeError; PoisonedError where it never will be; Error with `DEADLOCK` in a handler.
        """

    def snapshot(self) -> None:
        """Takes a snapshot now, and returns when it is durable. Ctrl-C is heard then.

        Raises StorageFullError, PoisonedError, ClosedError, ForkedError; Error with `IO`.
        """

    def backup(self, path: str | os.PathLike[str]) -> None:
        """Writes a copy of the broker to a directory that is not there yet, or is empty, while work goes on.

        The copy is complete with everything that was answered before the call, whole to one moment not before it, and
        can be opened like any directory, also beside this one: as after a close at that moment, but that what was in
        flight is ready again, uncounted. Of a broker without files it is an ordinary directory.

        The directory above has to be there. What fails leaves nothing behind. A close meanwhile ends it; Ctrl-C is
        heard when it has ended. Other threads run meanwhile.

        Raises InvalidError for what is something else than an empty directory, or lies in the broker's own,
        StorageFullError, CorruptError where the broker's own files have lost bytes, PoisonedError, ClosedError,
        ForkedError, TypeError; Error with `IO`, naming the path.
        """

    def scale(self, queue: str, n: int) -> None:
        """Sets how many of a queue's handler run at once, 1 to 1024, until its next registration.

        Those that run already, run on. Raises InvalidError out of range, NotFoundError for a queue without a handler,
        ClosedError, ForkedError, TypeError.
        """

    def pause(self, queue: str) -> None:
        """Has nothing handed out from a queue, to its handler or to a receive, until `resume` or the close.

        What is in flight is not touched; an enqueue goes on. Raises NotFoundError for a queue that there is not,
        InvalidError for a name that is none, ClosedError, ForkedError, TypeError.
        """

    def resume(self, queue: str) -> None:
        """Ends a pause, if there is one. Raises as `pause`."""

    def cancel(self, id: int) -> bool:
        """Ends a message: one that waits is gone, one that somebody holds is cancelled.

        A cancelled attempt does not come back, unless it is acked all the same. Answers whether there was such a
        message; dead letters are none.

        Raises InvalidError for what is no id, ClosedError, ForkedError, PoisonedError, StorageFullError, TypeError.
        """

    def purge(self, queue: str) -> int:
        """Removes all messages of a queue that nobody holds; answers how many. Dead letters stay.

        Raises InvalidError for a name that is none, ClosedError, ForkedError, PoisonedError, StorageFullError,
        TypeError.
        """

    def advance(self, seconds: Duration) -> None:
        """Moves a manual clock, and does what is due then.

        Raises InvalidError on a system clock, or above ten years; ClosedError, ForkedError, TypeError.
        """

    @property
    def dead_letters(self) -> DeadLetters:
        """The dead letters."""

    @property
    def path(self) -> str:
        """The directory."""

    def prometheus(self) -> str:
        """The figures as Prometheus reads them: its text format, version 0.0.4, each queue a label.

        Raises ClosedError, ForkedError.
        """

    def _check_handler(self, queue: str, options: dict[str, Any]) -> None: ...
    def _handle(self, queue: str, number: int, options: dict[str, Any], on_loop: bool) -> None: ...
    def _handle_on_loop(self, queue: str, tray: Tray, number: int, options: dict[str, Any], on_loop: bool) -> Inbox: ...
    def _watch(self, queue: str, tray: Tray, number: int) -> Watch: ...
    def _begin(
        self,
        queue: str,
        body: object,
        dedup_key: str | None,
        dedup: Literal["replace", "keep"] | None,
        dedup_window: Duration | None,
        correlation_id: str | None,
        headers: Mapping[str, str] | None,
        content_type: str | None,
        delay: Duration | None,
        run_at: datetime | None,
        expires_in: Duration | None,
        priority: int | None,
        group: str | None,
        durability: Literal["sync", "os"] | None,
        tray: Tray,
        number: int,
        in_handler: bool,
    ) -> tuple[Receipt | None, int]: ...
    def _tell_of_end(self, tray: Tray) -> None: ...
    def _listener(self) -> Listener | None: ...
    def _check_open(self) -> None: ...
    def _is_closed(self) -> bool: ...
    def _foreman(self) -> Foreman | None: ...
    def _dismiss(self) -> None: ...
    def _stop(self, timeout: Duration, interrupt: Interrupt) -> None: ...
    def _close(self, timeout: Duration, interrupt: Interrupt) -> None: ...
    def _wait_idle(self, interrupt: Interrupt) -> bool: ...
    def _metrics(self) -> dict[str, Any]: ...
    def _recovery(self) -> dict[str, Any]: ...

@final
class Tray:
    """What an event loop watches, and finds things in that were done for it."""

    def __new__(cls) -> Self: ...
    def fileno(self) -> int:
        """The file descriptor that is readable when there is something to take."""

    def take(self) -> list[tuple[int, Receipt | BaseException | None]]:
        """All there is, each with its number: what became of an enqueue, its receipt or an exception; of a round, an
        exception, or None where all is well; None for what is to be looked at.
        """

    @property
    def over(self) -> bool:
        """The program ends; known when it was taken."""

    @property
    def gone(self) -> bool:
        """The broker is closed, or nobody has it any more; known when it was taken."""

@final
class Watch:
    """Rings a tray when its queue may have got a message, until it is garbage."""

    def listen(self) -> None:
        """From now on it rings for what comes. Whoever listens looks afterwards."""

@final
class Inbox:
    """The messages of one handler that runs on a loop."""

    def take(self) -> tuple[list[Attempt], float | None]:
        """Messages, as many as may run at once; and the seconds to ask again in, while the disk has no room."""

    def hear_cancelled(self) -> bool:
        """Whether an attempt was cancelled since this was asked last. To be asked when there is nothing to take."""

    def withdraw(self) -> None:
        """Takes nothing more; the handler is no more when what runs has ended."""

@final
class Attempt:
    """A handler that runs for a message. Ended once; garbage before that, the message is given back."""

    def context(self) -> Context:
        """The message as its handler sees it; RuntimeError if the attempt has ended."""

    def enter(self) -> bool:
        """The handler is entered, and its time begins; false if the message was given back meanwhile, and then the
        attempt has ended.
        """

    def ack(self) -> None:
        """The handler returned."""

    def fail(self, error: str) -> None:
        """The handler failed."""

    def retry(self, delay: Duration | None, error: str) -> None:
        """The handler asked for a retry."""

    def reject(self, reason: str, error: str) -> None:
        """The handler rejected the message, with what was the cause."""

    def release(self, delay: Duration) -> None:
        """The handler gave the message back."""

    def undecodable(self, error: str) -> None:
        """The body is not what it says it is."""

@final
class Interrupt:
    """For one call that waits. An urgent one ends a stop's time for its handlers and their grace together."""

    def __new__(cls, urgent: bool = False) -> Self: ...
    def set(self, broker: Broker) -> None:
        """Ends the call, also one that has not begun: a wait at once, a stop's time for its handlers; the second time,
        their grace.
        """

@final
class Listener:
    """The end of the channel that waits for what the core tells, for one thread."""

    def next(self) -> tuple[str, str, dict[str, Any]] | None:
        """The level, the name and the fields of the next event; None when there will be no more."""

@final
class Bell:
    """Rung once, and for all who wait."""

    def __new__(cls) -> Self: ...
    def ring(self) -> None:
        """Ends all waits, and those to come."""

    def wait(self) -> None:
        """Waits until it is rung, or a signal's handler raises."""

@final
class Foreman:
    """The end of the channel that waits for workers, for one thread."""

    def next(self) -> tuple[int, Worker] | None:
        """The number of a handler and a worker for it; None when there will be no more."""

@final
class Worker:
    """What one thread asks for messages, and tells how they ended."""

    def next(self) -> Context | None:
        """Acks the message that is held, if one is, and waits for the next; None when the thread is to end."""

    def fail(self, error: str) -> None:
        """The handler failed."""

    def retry(self, delay: Duration | None, error: str) -> None:
        """The handler asked for a retry."""

    def reject(self, reason: str, error: str) -> None:
        """The handler rejected the message, with what was the cause."""

    def release(self, delay: Duration) -> None:
        """The handler gave the message back."""

    def undecodable(self, error: str) -> None:
        """The body is not what it says it is."""

def is_main_interpreter() -> bool:
    """Whether this is the main interpreter of the process, and not one within it."""

def leave(brokers: Sequence[Broker], grace_max: float) -> None:
    """The program ends: waits end at once, and handlers within their grace, at most this one."""

def stay_outside() -> None:
    """The interpreter goes next: but for this thread, nobody comes back to it, or is on the way when this returns."""

def alone_again() -> None:
    """In a forked child, where there is no other thread."""

def handles() -> bool:
    """Whether this thread runs handlers: what waits for a handler to end would wait for itself."""

def serve(on: bool) -> None:
    """Notes that this thread's event loop runs a broker's handlers, or does no more: it must not wait for room."""

def check_duration(name: str, value: Duration) -> float:
    """The seconds of a duration that libmq takes: from zero to ten years."""

def verify(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The fields of a `VerifyReport`."""
