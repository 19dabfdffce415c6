"""libmq: an embedded, persistent message queue.

One directory is a broker. Messages that were enqueued survive the death of the process; handlers are functions that
libmq calls, retries, times out and runs in parallel.

    import libmq

    with libmq.open("queue-data") as broker:

        @broker.handler("orders", max_retries=3)
        def handle(order, ctx):
            ctx.enqueue("payments", {"order": order["id"]})  # commits with the ack, or not at all

        broker.enqueue("orders", {"id": 1})  # durable when it returns
        broker.run()
"""

# What the native part asks for when it is needed, perhaps on a thread that must not run code of Python then.
from libmq import (
    _json_body,  # noqa: F401
    _main_only,  # noqa: F401
)
from libmq._broker import Broker
from libmq._depends import Depends, Override
from libmq._durations import Duration
from libmq._errors import (
    ClosedError,
    CorruptError,
    DecodeError,
    Error,
    ForkedError,
    FullError,
    InvalidError,
    LockedError,
    NotFoundError,
    PoisonedError,
    StaleLeaseError,
    StorageFullError,
    TimeoutError,
    TooLargeError,
)
from libmq._figures import Lsn, Metrics, QueueMetrics, Recovery
from libmq._native import (
    Backoff,
    Context,
    DeadLetter,
    DeadLetters,
    Delivery,
    Message,
    Receipt,
    __version__,
)
from libmq._opening import open
from libmq._outcomes import Cancelled, Reject, Release, Retry
from libmq._verifying import Problem, VerifyReport, verify

__all__ = [
    "Backoff",
    "Broker",
    "Cancelled",
    "ClosedError",
    "Context",
    "CorruptError",
    "DeadLetter",
    "DeadLetters",
    "DecodeError",
    "Delivery",
    "Depends",
    "Duration",
    "Error",
    "ForkedError",
    "FullError",
    "InvalidError",
    "LockedError",
    "Lsn",
    "Message",
    "Metrics",
    "NotFoundError",
    "Override",
    "PoisonedError",
    "Problem",
    "QueueMetrics",
    "Receipt",
    "Recovery",
    "Reject",
    "Release",
    "Retry",
    "StaleLeaseError",
    "StorageFullError",
    "TimeoutError",
    "TooLargeError",
    "VerifyReport",
    "__version__",
    "open",
    "verify",
]

# One public path each, also in tracebacks and pickles.
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("libmq._"):
        globals()[_name].__module__ = "libmq"
