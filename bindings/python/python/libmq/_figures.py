"""What a broker counts, and what opening it found."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueMetrics:
    """The figures of a queue: gauges, then counters since open."""

    ready: int
    """Messages that could run now."""
    in_flight: int
    """Messages that are held."""
    delayed: int
    """Messages that are not due yet, retries too."""
    dead: int
    """Dead letters."""
    oldest_ready_age: float | None
    """For how many seconds the first ready message has been ready; None without one."""
    parallelism: int
    """The handler's `max_parallelism`, 0 without one."""
    enqueued: int
    """Messages enqueued, replacements too."""
    delivered: int
    """Attempts begun."""
    acked: int
    """Attempts that ended with an ack."""
    retried: int
    """Attempts that failed, timed out, or lost a pulled lease."""
    released: int
    """Attempts that were given back."""
    rejected: int
    """Attempts that ended with a reject."""
    dead_lettered: int
    """Messages that became dead letters."""
    replaced: int
    """Messages that a newer one of their key took the place of."""
    duplicates: int
    """Enqueues answered with a message that was there."""
    expired: int
    """Messages that expired."""
    cancelled: int
    """Messages that were cancelled."""
    stale_settles: int
    """Settles that came too late."""
    handler_errors: int
    """Attempts that the handler failed."""
    timeouts: int
    """Attempts that ran beyond their timeout."""
    crashes: int
    """Attempts in which the process died, found at open."""
    stuck: int
    """Handlers that ran on beyond their grace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lsn:
    """The marks of the log, each a position."""

    reserved: int
    """Given to records."""
    written: int
    """In the kernel."""
    durable: int
    """Synced."""
    shown: int
    """Visible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(QueueMetrics):
    """The figures of a broker: the sums over all queues, each queue by name, and what concerns the log."""

    queues: dict[str, QueueMetrics]
    """Each queue by name."""
    journal_bytes: int
    """Bytes of the journal's segments and the snapshot."""
    segments: int
    """Segments of the journal."""
    snapshots: int
    """Snapshots taken since open."""
    syncs: int
    """Syncs of the journal since open."""
    lsn: Lsn
    """The marks of the log."""
    memory_bytes: int
    """Bytes of memory that the broker holds for messages and recent journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What opening a broker found."""

    messages: int
    """Live messages."""
    dead_letters: int
    """Dead letters."""
    suspects: int
    """Messages that were being handled when the process died; they run one at a time from now on."""
    records: int
    """Records that were replayed."""
    dropped_bytes: int
    """Bytes at the end of the log that were never promised to anybody, and are gone."""
    snapshot: int | None
    """Where the snapshot begins that the log was replayed on, if there was one."""
    duration: float
    """How many seconds it took."""
