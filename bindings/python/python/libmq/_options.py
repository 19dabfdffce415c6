"""Options by name, for what passes them on: those of `libmq.open` and of `Broker.handler`."""

from collections.abc import Callable
from typing import Any, Literal, TypedDict

from libmq._durations import Duration
from libmq._native import Backoff


class InMemoryOptions(TypedDict, total=False):
    """Those of `libmq.open`, but for what makes a broker one for tests."""

    capacity: int | None
    max_bytes: int | None
    max_message_bytes: int | None
    max_batch_bytes: int | None
    max_dead_letters: int | None
    on_full: Literal["fail", "block"] | None
    block_timeout: Duration | None
    snapshot_interval: Duration | None
    snapshot_threshold: int | None
    segment_bytes: int | None
    cache_bytes: int | None
    sync_interval: Duration | None
    default_timeout: Duration | None
    default_max_retries: int | None
    max_crashes: int | None
    default_backoff: Backoff | None
    on_corruption: Literal["refuse", "quarantine"] | None
    lock_timeout: Duration | None
    scope: Callable[..., Any] | None


class OpenOptions(InMemoryOptions, total=False):
    """Those of `libmq.open`."""

    durability: Literal["sync", "os", "memory"] | None
    clock: Literal["system", "manual"] | None


class HandlerOptions(TypedDict, total=False):
    """Those of `Broker.handler`."""

    max_parallelism: int | None
    min_parallelism: int | None
    timeout: Duration | None
    max_retries: int | None
    backoff: Backoff | None
    cancel_grace: Duration | None
    lease_extension_enabled: bool | None
    scope: Callable[..., Any] | None
