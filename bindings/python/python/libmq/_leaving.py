"""The end of the program, for brokers that nobody closed.

Handlers run on daemon threads, for which Python does not wait. Here they are waited for, within bounds: what they hold
is cancelled with `shutdown`, and given back when their grace is over. Threads of the program that wait in libmq are
told that nothing will come, since Python does wait for those. Nothing is closed: the next open finds what is there.
Daemon threads that are in libmq's native code at the very end stay in it a while: to come back then may crash Python.

Python tells of its end before it waits for other threads, and again when these are gone; in between they may have
opened a broker.
"""

import atexit

# Python tells those first that asked last. A pool waits for its threads then, and they may be waiting in libmq.
import concurrent.futures.thread  # noqa: F401
import contextlib
import os
import threading
import time
import weakref
from typing import TYPE_CHECKING, Literal

from libmq import _native, _telling
from libmq._native import alone_again, leave, stay_outside

if TYPE_CHECKING:
    from libmq._broker import Broker

GRACE_MAX_S = 5.0
"""How much of their `cancel_grace` handlers have at the end of the program."""

_LAST_WORDS_S = 0.5
"""How long is waited for threads whose handlers have ended."""

_brokers: "weakref.WeakSet[Broker]" = weakref.WeakSet()

_started: set[_native.Broker] = set()
"""Those that call handlers: they are kept, whoever else has them."""


def watch(broker: "Broker") -> None:
    """Has a broker's handlers and waits ended when the program ends."""
    _brokers.add(broker)


def keep(broker: _native.Broker) -> None:
    """Has a broker that was started kept."""
    _started.add(broker)


def let_go(broker: _native.Broker) -> None:
    """Keeps a broker no longer that was stopped or closed."""
    _started.discard(broker)


def role() -> Literal["main", "waited", "daemon"]:
    """What the thread that calls is at the end of the program."""
    thread = threading.current_thread()
    if thread is threading.main_thread():
        return "main"
    return "daemon" if thread.daemon else "waited"


def _leave() -> None:
    brokers = list(_brokers)
    for broker in brokers:
        broker._run.ended()
        broker._hall.abandon()
    if brokers:
        # Who presses Ctrl-C now has handlers end without their grace, and that is all there is to end.
        with contextlib.suppress(KeyboardInterrupt):
            leave(brokers, GRACE_MAX_S)
    end = time.monotonic() + _LAST_WORDS_S
    for broker in brokers:
        broker._dismiss()
        broker._crew.join(end)
        broker._hall.join(max(0, end - time.monotonic()))
    _telling.join(end)


def _end() -> None:
    """The interpreter goes next."""
    try:
        _leave()
    finally:
        stay_outside()


def _forget() -> None:
    """A forked child has none of its parent's threads, and uses none of its brokers."""
    global _brokers
    _brokers = weakref.WeakSet()
    alone_again()


atexit.register(_end)
# Refused where the program is at its end already.
with contextlib.suppress(RuntimeError):
    getattr(threading, "_register_atexit", atexit.register)(_leave)
os.register_at_fork(after_in_child=_forget)
