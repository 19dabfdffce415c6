"""The end of the program, for brokers that nobody closed.

Python waits for all threads that are not daemons before it goes, so the threads that wait for messages have to be told
that there will be none. One thread waits for the main thread to end, which Python marks before it waits for the others,
and tells them. Handlers that are running come to their end; nothing is closed: the next open finds what is there, as
after a crash.
"""

import os
import threading
import weakref
from typing import Protocol


class _Leaving(Protocol):
    """A broker, as far as it is left."""

    def _leave(self) -> None: ...


_brokers: "weakref.WeakSet[_Leaving]" = weakref.WeakSet()
_lock = threading.Lock()
_watching = False


def watch(broker: _Leaving) -> None:
    """Has a broker's threads told when the program ends."""
    global _watching
    with _lock:
        _brokers.add(broker)
        if not _watching:
            threading.Thread(target=_wait_for_the_end, name="libmq-leaving", daemon=False).start()
            _watching = True


def _wait_for_the_end() -> None:
    threading.main_thread().join()
    with _lock:
        brokers = list(_brokers)
    for broker in brokers:
        broker._leave()


def _forget() -> None:
    """A forked child has none of its parent's threads, and uses none of its brokers."""
    global _brokers, _lock, _watching
    _brokers = weakref.WeakSet()
    _lock = threading.Lock()
    _watching = False


os.register_at_fork(after_in_child=_forget)
