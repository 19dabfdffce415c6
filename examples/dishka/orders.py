"""A shop whose handlers get what they need from a container of dishka.

A container's scope REQUEST is one attempt of a handler: opened before it, closed before the ack. So what a provider
commits at its end is committed before the message is done, and what fails there has failed the attempt.

Run it with `.venv/bin/python examples/dishka/orders.py`; it takes dishka beside libmq.
"""

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import libmq
from dishka import Container, Provider, Scope, make_container, provide


class Connection:
    """To a database, for as long as the program runs."""

    def __init__(self) -> None:
        self.database = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self.database.execute("CREATE TABLE orders (message INTEGER PRIMARY KEY, books INTEGER)")


class Session:
    """A transaction: what an attempt writes, and nobody sees if it fails."""

    def __init__(self, connection: Connection) -> None:
        self.database = connection.database


class TakeOrder:
    """Writes orders down."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def handle(self, order: dict[str, int], ctx: libmq.Context) -> None:
        # The id is the same for every attempt, so that one that is repeated writes nothing twice.
        self.session.database.execute("INSERT OR IGNORE INTO orders VALUES (?, ?)", (ctx.id, order["books"]))
        if order["books"] == 3 and ctx.attempt == 1:
            raise RuntimeError("the stock is being counted")
        ctx.enqueue("payments", order)


class Shop(Provider):
    """Where things come from."""

    connection = provide(Connection, scope=Scope.APP)

    @provide(scope=Scope.REQUEST)
    def session(self, connection: Connection) -> Generator[Session, BaseException | None, None]:
        session = Session(connection)
        session.database.execute("BEGIN")
        failure = yield session
        # Before the ack: where this fails, the message is tried again.
        session.database.execute("COMMIT" if failure is None else "ROLLBACK")

    # Made anew for each attempt, of the session of that attempt.
    orders = provide(TakeOrder, scope=Scope.REQUEST)


class Attempt:
    """The scope of an attempt. libmq asks it for handlers that are classes."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def resolve(self, kind: type) -> object:
        return self.container.get(kind)


def main() -> None:
    container = make_container(Shop())

    @contextmanager
    def scope(ctx: libmq.Context) -> Iterator[Attempt]:
        with container() as inner:
            yield Attempt(inner)

    with libmq.open(":memory:", scope=scope, default_backoff=libmq.Backoff.fixed(0.01)) as broker:
        broker.handler("orders", TakeOrder)

        # A function asks its scope itself.
        @broker.handler("payments")
        def pay(order: dict[str, int], ctx: libmq.Context) -> None:
            session = ctx.scope.container.get(Session)
            (written,) = session.database.execute("SELECT count(*) FROM orders").fetchone()
            print(f"paid {order['books']} books, {written} orders are written")

        for books in range(1, 4):
            broker.enqueue("orders", {"books": books})
        broker.start()
        broker.wait_idle(20)
        figures = broker.metrics()
        print(f"{figures.acked} acked, {figures.retried} retried, {figures.dead} dead")
    container.close()


if __name__ == "__main__":
    main()
