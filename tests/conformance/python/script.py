"""The script: its lines, and what stands in them."""

import datetime
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import libmq

T = TypeVar("T")

ESCAPES = {"t": "\t", "n": "\n"}


class Wrong(Exception):
    """A step was not as expected."""


def same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Wrong(f"{what} is {found!r}, but {expected!r} was expected")


def unknown(what: str) -> NoReturn:
    print(f"this player does not know {what}", file=sys.stderr)
    sys.exit(3)


class Fields:
    """A line of the script. Notes which of its keys were looked at."""

    def __init__(self, line: str) -> None:
        pairs = (pair.split("=", 1) for pair in line.split("\t") if "=" in pair)
        self._values = {key: _unescape(value) for key, value in pairs}
        self._used: set[str] = set()
        # The keys below each path that ends with a dot: a batch has many thousands of them.
        self._below: dict[str, list[str]] = {}
        for key in self._values:
            for dot in re.finditer(r"\.", key):
                self._below.setdefault(key[: dot.end()], []).append(key)

    def get(self, key: str) -> str | None:
        self._used.add(key)
        return self._values.get(key)

    def need(self, key: str) -> str:
        value = self.get(key)
        if value is None:
            raise Wrong(f"the step lacks {key}")
        return value

    def read(self, key: str, kind: Callable[[str], T]) -> T | None:
        value = self.get(key)
        return None if value is None else kind(value)

    def whole(self, key: str) -> int | None:
        return self.read(key, int)

    def time(self, key: str) -> float | None:
        """Seconds, of milliseconds."""
        return self.read(key, lambda value: int(value) / 1000)

    def items(self, key: str) -> list[str] | None:
        count = self.whole(f"{key}.#")
        return None if count is None else [self.need(f"{key}.{index}") for index in range(count)]

    def below(self, path: str) -> dict[str, str]:
        """The keys below this path, without it, and their values."""
        keys = self._below.get(path, [])
        self._used.update(keys)
        return {key.removeprefix(path): self._values[key] for key in keys}

    def check_all_used(self) -> None:
        for key in self._values.keys() - self._used:
            unknown(f"the key {key} here")


def _unescape(value: str) -> str:
    return re.sub(r"\\(.?)", lambda found: ESCAPES.get(found[1], found[1]), value)


def truth(value: str) -> bool:
    return {"true": True, "false": False}[value]


def message(step: Fields, path: str) -> tuple[bytes, dict[str, Any]]:
    """The body and the options of the message whose keys begin with `path`."""
    count = step.whole(f"{path}body_bytes")
    body = (step.get(f"{path}body") or "").encode() if count is None else b"x" * count
    options: dict[str, Any] = {
        "dedup_key": step.get(f"{path}dedup_key"),
        "dedup": step.get(f"{path}dedup"),
        "dedup_window": step.time(f"{path}dedup_window_ms"),
        "correlation_id": step.get(f"{path}correlation_id"),
        "content_type": step.get(f"{path}content_type"),
        "headers": step.below(f"{path}headers.") or None,
        "delay": step.time(f"{path}delay_ms"),
        "expires_in": step.time(f"{path}expires_in_ms"),
        "priority": step.whole(f"{path}priority"),
        "group": step.get(f"{path}group"),
        "durability": step.get(f"{path}durability"),
    }
    offset = step.time(f"{path}run_at_ms")
    if offset is not None:
        options["run_at"] = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=offset)
    return body, {name: value for name, value in options.items() if value is not None}


def backoff(step: Fields, prefix: str) -> libmq.Backoff | None:
    """A backoff of these keys: a fixed wait, or one that doubles without jitter."""
    fixed, base, cap = (step.time(f"{prefix}backoff{name}_ms") for name in ("", "_base", "_cap"))
    if base is not None:
        return libmq.Backoff.exponential(base, cap=cap, jitter=0)
    return None if fixed is None else libmq.Backoff.fixed(fixed)


def options(*sources: Fields) -> dict[str, Any]:
    """The options of a broker, a later source's on top of an earlier one's."""
    found: dict[str, Any] = {}
    for source in sources:
        given: dict[str, Any] = {
            name: source.whole(name)
            for name in (
                "capacity",
                "max_bytes",
                "max_message_bytes",
                "max_batch_bytes",
                "max_dead_letters",
                "snapshot_threshold",
                "segment_bytes",
                "cache_bytes",
                "default_max_retries",
                "max_crashes",
            )
        }
        for name in ("block_timeout", "snapshot_interval", "sync_interval", "default_timeout", "lock_timeout"):
            given[name] = source.time(f"{name}_ms")
        for name in ("durability", "on_full", "on_corruption", "clock"):
            given[name] = source.get(name)
        given["default_backoff"] = backoff(source, "default_")
        found |= {name: value for name, value in given.items() if value is not None}
    return found
