"""The same with a container and handlers that are async, on the program's own loop.

Run it with `.venv/bin/python examples/dishka/orders_async.py`; it takes dishka beside libmq.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import libmq
from dishka import AsyncContainer, Provider, Scope, make_async_container, provide


class Pool:
    """Connections, for as long as the program runs. Here it only remembers."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.is_closed = False


class Session:
    """What one attempt writes."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.written: list[int] = []

    async def commit(self) -> None:
        await asyncio.sleep(0)
        self.pool.committed += self.written


class TakeOrder:
    """Writes orders down."""

    def __init__(self, session: Session) -> None:
        self.session = session

    async def handle(self, order: dict[str, int], ctx: libmq.Context) -> None:
        self.session.written.append(order["books"])
        if order["books"] == 3 and ctx.attempt == 1:
            raise RuntimeError("the stock is being counted")


class Shop(Provider):
    """Where things come from."""

    @provide(scope=Scope.APP)
    async def pool(self) -> AsyncIterator[Pool]:
        pool = Pool()
        yield pool
        pool.is_closed = True
        print(f"the pool is closed, after {sorted(pool.committed)}")

    @provide(scope=Scope.REQUEST)
    async def session(self, pool: Pool) -> AsyncGenerator[Session, BaseException | None]:
        session = Session(pool)
        failure = yield session
        if failure is None:
            await session.commit()

    orders = provide(TakeOrder, scope=Scope.REQUEST)


class Attempt:
    """The scope of an attempt. What it answers is awaited where the handler is async."""

    def __init__(self, container: AsyncContainer) -> None:
        self.container = container

    async def resolve(self, kind: type) -> object:
        return await self.container.get(kind)


async def main() -> None:
    container = make_async_container(Shop())

    @asynccontextmanager
    async def scope(ctx: libmq.Context) -> AsyncIterator[Attempt]:
        async with container() as inner:
            yield Attempt(inner)

    async with libmq.open(":memory:", scope=scope, default_backoff=libmq.Backoff.fixed(0.01)) as broker:
        broker.handler("orders", TakeOrder, max_parallelism=10)
        await asyncio.gather(*(broker.aenqueue("orders", {"books": books}) for books in range(1, 4)))
        await broker.arun(until_idle=True)
        figures = broker.metrics()
        print(f"{figures.acked} acked, {figures.retried} retried, {figures.dead} dead")
    await container.close()


if __name__ == "__main__":
    asyncio.run(main())
