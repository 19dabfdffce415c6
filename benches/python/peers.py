"""The contenders in Python, each with the same few calls. What a peer's answer survives is said where it is made."""

import asyncio
import contextlib
import importlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

Work = Callable[[bytes], None]


class Missing(Exception):
    """A peer's package is not installed."""


def package(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise Missing(f"{name} is not installed: {error}") from error


class Peer:
    """Whoever keeps messages."""

    polls: float = 0
    """How long it sleeps between two looks, in seconds, where it polls."""

    def put(self, body: bytes) -> object:
        raise NotImplementedError

    def put_all(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self.put(body)

    def take(self) -> bytes:
        """Takes the next message and acks it."""
        raise NotImplementedError

    async def aput(self, body: bytes) -> object:
        raise NotImplementedError

    @contextmanager
    def handling(self, work: Work) -> Iterator[None]:
        """Has a thread take messages and do the work with each, as long as it is entered."""
        thread = threading.Thread(target=self._handle, args=(work,), daemon=True)
        thread.start()
        yield

    def handling_async(self, work: Work) -> AbstractContextManager[None]:
        """The same by coroutines."""
        raise NotImplementedError

    def _handle(self, work: Work) -> None:
        while True:
            work(self.take())

    def close(self) -> None:
        pass


class Libmq(Peer):
    """Survives what its level says: by default `os`, a kill."""

    def __init__(self, directory: Path, level: str = "os") -> None:
        self._broker = package("libmq").open(directory / "queue", durability=level)

    def put(self, body: bytes) -> object:
        return self._broker.enqueue("bench", body)

    def put_all(self, bodies: list[bytes]) -> None:
        for start in range(0, len(bodies), 10_000):
            self._broker.enqueue_many("bench", bodies[start : start + 10_000])

    async def aput(self, body: bytes) -> object:
        return await self._broker.aenqueue("bench", body)

    def take(self) -> bytes:
        delivery = self._broker.receive("bench", timeout=0)
        delivery.ack()
        return bytes(delivery.body)

    @contextmanager
    def handling(self, work: Work) -> Iterator[None]:
        self._broker.handler("bench", work)
        self._broker.start()
        yield
        self._broker.wait_idle(60)

    @contextmanager
    def handling_async(self, work: Work) -> Iterator[None]:
        async def handle(body: bytes) -> None:
            work(body)

        self._broker.handler("bench", handle, max_parallelism=64)
        self._broker.start()
        yield
        self._broker.wait_idle(60)

    def close(self) -> None:
        self._broker.close()


class Queue(Peer):
    """`queue.Queue`: survives nothing."""

    def __init__(self, _: Path) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue()
        self.put = self._queue.put  # type: ignore[method-assign]

    def take(self) -> bytes:
        body = self._queue.get()
        self._queue.task_done()
        return body


class Tasks(Peer):
    """A bare loop that makes a task of each body, a thousand at a time: survives nothing."""

    def __init__(self, _: Path) -> None:
        self._bodies: list[bytes] = []

    def put_all(self, bodies: list[bytes]) -> None:
        self._bodies = bodies

    @contextmanager
    def handling_async(self, work: Work) -> Iterator[None]:
        async def handle(body: bytes) -> None:
            work(body)

        async def handle_all() -> None:
            loop = asyncio.get_running_loop()
            for start in range(0, len(self._bodies), 1000):
                tasks = [loop.create_task(handle(body)) for body in self._bodies[start : start + 1000]]
                for task in tasks:
                    await task

        asyncio.run(handle_all())
        yield


class Sqlite(Peer):
    """`sqlite3` by hand, WAL. NORMAL survives a kill, FULL a power cut. Taken in two transactions: none is lost."""

    polls = 0.001

    def __init__(self, directory: Path, level: str = "NORMAL") -> None:
        self._connection = sqlite3.connect(directory / "queue.db", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute(f"PRAGMA synchronous = {level}")
        self._connection.execute(
            "CREATE TABLE queue (id INTEGER PRIMARY KEY, body BLOB NOT NULL, attempts INTEGER NOT NULL DEFAULT 0)"
        )

    def put(self, body: bytes) -> object:
        return self._connection.execute("INSERT INTO queue (body) VALUES (?)", (body,))

    def put_all(self, bodies: list[bytes]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO queue (body) VALUES (?)", [(body,) for body in bodies])
        self._connection.execute("COMMIT")

    def take(self) -> bytes:
        take = (
            "UPDATE queue SET attempts = attempts + 1 WHERE id = (SELECT id FROM queue ORDER BY id LIMIT 1)"
            " RETURNING id, body"
        )
        while (found := self._connection.execute(take).fetchone()) is None:
            time.sleep(self.polls)
        number, body = found
        self._connection.execute("DELETE FROM queue WHERE id = ?", (number,))
        return bytes(body)

    def close(self) -> None:
        self._connection.close()


class Litequeue(Peer):
    """Survives a kill: it sets WAL and `synchronous = NORMAL`. It has texts, and is polled."""

    polls = 0.001

    def __init__(self, directory: Path) -> None:
        self._queue = package("litequeue").LiteQueue(directory / "queue.db")

    def put(self, body: bytes) -> object:
        return self._queue.put(body.decode())

    def put_all(self, bodies: list[bytes]) -> None:
        with self._queue.transaction():
            super().put_all(bodies)

    def take(self) -> bytes:
        while (message := self._queue.pop()) is None:
            time.sleep(self.polls)
        self._queue.done(message.message_id)
        return bytes(message.data.encode())


class Persistqueue(Peer):
    """`SQLiteAckQueue`: WAL and SQLite's default, FULL, so it survives a power cut."""

    def __init__(self, directory: Path) -> None:
        self._queue = package("persistqueue").SQLiteAckQueue(str(directory), auto_commit=True, multithreading=True)

    def put(self, body: bytes) -> object:
        return self._queue.put(body)

    def take(self) -> bytes:
        body = self._queue.get()
        self._queue.ack(body)
        return bytes(body)


class Huey(Peer):
    """`SqliteHuey`: WAL and SQLite's default, FULL, so it survives a power cut. A task is removed before it runs."""

    polls = 0.1
    """As its consumer does after work; by itself it would look ever more seldom."""

    def __init__(self, directory: Path) -> None:
        self._huey = package("huey").SqliteHuey(filename=str(directory / "huey.db"), results=False)
        self._work: Work = lambda _: None
        self._task = self._huey.task()(self._run)

    def _run(self, body: bytes) -> None:
        self._work(body)

    def put(self, body: bytes) -> object:
        return self._task(body)

    @contextmanager
    def handling(self, work: Work) -> Iterator[None]:
        self._work = work
        consumer = self._huey.create_consumer(
            workers=1,
            periodic=False,
            initial_delay=self.polls,
            backoff=1,
            max_delay=self.polls,
            check_worker_health=False,
        )
        consumer.start()
        yield
        consumer.stop()


class Honker(Peer):
    """Survives a kill: it sets WAL and `synchronous = NORMAL`. Bodies are JSON."""

    def __init__(self, directory: Path) -> None:
        self._database = package("honker").open(str(directory / "honker.db"))
        self._queue = self._database.queue("bench")

    def put(self, body: bytes) -> object:
        return self._queue.enqueue(body.decode())

    def put_all(self, bodies: list[bytes]) -> None:
        with self._database.transaction() as transaction:
            for body in bodies:
                self._queue.enqueue(body.decode(), tx=transaction)

    def take(self) -> bytes:
        job = self._queue.claim_one("bench")
        job.ack()
        return bytes(job.payload.encode())

    def _handle(self, work: Work) -> None:
        async def claim() -> None:
            async for job in self._queue.claim("bench"):
                work(job.payload.encode())
                job.ack()

        with contextlib.suppress(RuntimeError):
            asyncio.run(claim())


PEERS: dict[str, Callable[..., Any]] = {
    "libmq": Libmq,
    "queue": Queue,
    "tasks": Tasks,
    "sqlite": Sqlite,
    "litequeue": Litequeue,
    "persistqueue": Persistqueue,
    "huey": Huey,
    "honker": Honker,
}
