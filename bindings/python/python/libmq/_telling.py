"""What the core has to tell, for the logger `libmq`.

The core leaves it in a channel, and a thread of Python logs it: neither does anybody in the core wait for a handler of
logging, nor such a one for the core. Where there is no handler of logging when a broker is opened, nothing is asked
for.
"""

import contextlib
import logging
import threading
import time
import weakref
from typing import Any

from libmq._native import Broker, Listener

_log = logging.getLogger("libmq")

_LEVELS = {"error": logging.ERROR, "warn": logging.WARNING, "info": logging.INFO, "debug": logging.DEBUG}

_threads: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


def is_heard() -> bool:
    """Whether anybody would read it."""
    return _log.hasHandlers() and _log.isEnabledFor(logging.ERROR)


def listen(broker: Broker) -> None:
    """Has what a broker tells logged, if it was asked to tell."""
    listener = broker._listener()
    if listener is not None:
        thread = threading.Thread(target=lambda: _work(listener), name="libmq-log", daemon=True)
        # Where the program is at its end no thread is to be had.
        with contextlib.suppress(RuntimeError):
            thread.start()
            _threads.add(thread)


def join(end: float) -> None:
    """Waits for what was told to be logged, until this moment of the monotonic clock."""
    for thread in tuple(_threads):
        thread.join(max(0, end - time.monotonic()))


def _work(listener: Listener) -> None:
    while (told := listener.next()) is not None:
        _tell(*told)


def _tell(level: str, event: str, fields: dict[str, Any]) -> None:
    number = _LEVELS.get(level, logging.INFO)
    if _log.isEnabledFor(number):
        said = "".join(f" {name}={value}" for name, value in fields.items())
        # What goes wrong in a handler of logging is that one's affair.
        with contextlib.suppress(Exception):
            _log.log(number, "%s%s", event, said, extra={"event": event, "fields": fields})
