"""A small shop: orders in, payments out. The same program as `orders.rs`.

Run it with `.venv/bin/python examples/orders/orders.py`, and again: the directory stays, and so does what is in it.
"""

import libmq

broker = libmq.open("target/orders-data")


# A handler takes one message at a time, unless told otherwise. Whatever it raises is a failed attempt, tried again
# later.
@broker.handler("orders", max_parallelism=4, backoff=libmq.Backoff.fixed(0.1))
def take_order(order: dict[str, int], ctx: libmq.Context) -> None:
    """Fails once for one order, to be tried again; passes each order on to `payments`."""
    if order["books"] == 3 and ctx.attempt == 1:
        raise RuntimeError("the stock is being counted")
    print(f"  took the order of {order['books']} books, attempt {ctx.attempt}")
    # The payment exists if and only if this attempt is acked: both are one record in the journal.
    ctx.enqueue("payments", order)


@broker.handler("payments", timeout=10)
def pay(order: dict[str, int]) -> None:
    """Refuses one payment for good: it becomes a dead letter, to be looked at by somebody."""
    if order["books"] == 5:
        raise libmq.Reject("the card has expired")
    print(f"  paid {order['books']} books")


with broker:
    broker.start()

    # When `enqueue` has returned, the order survives a crash and a power loss. Its key makes it one of its kind: an
    # order sent again before it is handled takes the place of the first.
    for number in range(1, 6):
        receipt = broker.enqueue("orders", {"books": number}, dedup_key=f"ORD-{number:03}")
        print(f"order {number}: {receipt.status} as message {receipt.id}")

    broker.wait_idle(10)
    for letter in broker.dead_letters.list(limit=10):
        print(f"dead letter {letter.id} of {letter.queue}: {letter.reason}")
    total = broker.metrics()
    print(f"{total.acked} acked, {total.retried} retried, {total.dead} dead")
