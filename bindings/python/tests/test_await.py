"""What is awaited: enqueues and receives on event loops, without a thread for any of them."""

import asyncio
import contextlib
import gc
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import libmq
import pytest
from conftest import LONG


def in_time(main: Coroutine[Any, Any, Any], debug: bool | None = None) -> Any:
    """Runs it, on a loop of its own, which is debugged as Python's mode says."""

    async def limited() -> Any:
        async with asyncio.timeout(LONG):
            return await main

    return asyncio.run(limited(), debug=debug)


def test_a_thousand_at_once_are_in_order_and_share_syncs_and_no_thread(tmp_path: Path) -> None:
    async def main(broker: libmq.Broker) -> list[libmq.Receipt]:
        before = broker.metrics().syncs
        threads = threading.active_count()
        receipts = await asyncio.gather(*(broker.aenqueue("q", number) for number in range(1000)))
        assert threading.active_count() == threads
        assert broker.metrics().syncs - before < 500
        return receipts

    # A loop that is debugged takes longer for an enqueue than a disk for a sync, so that there is nothing to share.
    with libmq.open(tmp_path / "q") as broker:
        receipts = in_time(main(broker), debug=False)
        assert [receipt.id for receipt in receipts] == sorted({receipt.id for receipt in receipts})
        assert {receipt.status for receipt in receipts} == {"accepted"}
        assert [delivery.body for delivery in broker.receive_many("q", 1000, 0)] == list(range(1000))


def test_what_needs_no_sync_waits_for_no_thread_and_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    async def main(broker: libmq.Broker) -> None:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(turn)

        loop = asyncio.get_running_loop()
        await broker.aenqueue("q", 0)
        loop.call_soon(turn)
        for number in range(1, 200):
            await broker.aenqueue("q", number)
        # What another thread tells comes in a later turn.
        assert turns == 0
        for number in range(200, 2000):
            await broker.aenqueue("q", number)
        assert 5 <= turns <= 10

    for broker in libmq.open(tmp_path / "q", durability="os"), libmq.open(":memory:"):
        with broker:
            in_time(main(broker))
            assert [delivery.body for delivery in broker.receive_many("q", 2000, 0)] == list(range(2000))


def test_an_awaited_enqueue_takes_every_option_and_returns_when_it_is_durable(broker: libmq.Broker) -> None:
    async def main() -> None:
        first = await broker.aenqueue("q", {"a": 1}, dedup_key="k", headers={"h": "v"}, priority=3, correlation_id="c")
        again = await broker.aenqueue("q", b"raw", dedup_key="k", dedup="keep")
        assert (again.status, again.id) == ("duplicate", first.id)
        later = await broker.aenqueue("q", b"raw", delay=60, group="g", content_type="text/plain", durability="os")
        assert later.id > first.id
        delivery = await broker.areceive("q", 0)
        assert delivery is not None
        assert (delivery.id, delivery.body, delivery.headers) == (first.id, {"a": 1}, {"h": "v"})
        assert delivery.correlation_id == "c"
        assert await broker.areceive("q", 0) is None

    in_time(main())


def test_what_is_wrong_with_an_awaited_call_is_raised_by_it(broker: libmq.Broker) -> None:
    bad: Any
    calls: list[tuple[type[Exception], Callable[[], Coroutine[Any, Any, object]]]] = [
        (libmq.InvalidError, lambda: broker.aenqueue("no good", 1)),
        (libmq.InvalidError, lambda: broker.aenqueue("q", 1, priority=10)),
        (libmq.InvalidError, lambda: broker.aenqueue("q", float("nan"))),
        (libmq.TooLargeError, lambda: broker.aenqueue("q", b"x" * (17 << 20))),
        (libmq.InvalidError, lambda: broker.areceive("no good")),
        (libmq.InvalidError, lambda: broker.areceive("q", -1)),
        (libmq.InvalidError, lambda: broker.areceive("q", 0, -1)),
    ]
    for bad in (None, 1, b"q"):
        calls.append((TypeError, partial(broker.aenqueue, bad, 1)))
        calls.append((TypeError, partial(broker.areceive, bad)))
    for bad in ("1", True):
        calls.append((TypeError, partial(broker.areceive, "q", bad)))
        calls.append((TypeError, partial(broker.aenqueue, "q", 1, delay=bad)))
    calls.append((TypeError, lambda: broker.aenqueue("q", object())))
    for error, call in calls:
        with pytest.raises(error):
            in_time(call())
    assert broker.metrics().enqueued == 0


def test_a_full_broker_refuses_or_has_the_enqueue_wait_but_not_the_loop() -> None:
    with libmq.open(":memory:", capacity=1) as broker:
        broker.enqueue("q", 1)
        with pytest.raises(libmq.FullError):
            in_time(broker.aenqueue("q", 2))

    async def main(broker: libmq.Broker) -> None:
        await broker.aenqueue("q", 1)
        waiting = [asyncio.create_task(broker.aenqueue("q", number)) for number in (2, 3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        for expected in (1, 2, 3):
            delivery = await broker.areceive("q", LONG)
            assert delivery is not None
            assert delivery.body == expected
            delivery.ack()
        assert [(await task).status for task in waiting] == ["accepted"] * 2

    with libmq.open(":memory:", capacity=1, on_full="block") as broker:
        in_time(main(broker))


def test_a_cancelled_enqueue_leaves_the_broker_and_the_loop_in_order(tmp_path: Path) -> None:
    async def main(broker: libmq.Broker) -> None:
        tasks = [asyncio.create_task(broker.aenqueue("q", number)) for number in range(100)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, libmq.Receipt) for end in ended[1::2])
        # One that was done already is not cancelled any more.
        assert all(isinstance(end, (libmq.Receipt, asyncio.CancelledError)) for end in ended[::2])
        assert (await broker.aenqueue("q", "last")).status == "accepted"
        assert broker.metrics().ready >= 51

    with libmq.open(tmp_path / "q") as broker:
        in_time(main(broker))


def test_those_who_wait_are_served_in_the_order_they_came(broker: libmq.Broker) -> None:
    async def main() -> None:
        tasks = [asyncio.create_task(broker.areceive("q")) for _ in range(5)]
        await asyncio.sleep(0.05)
        for number in range(5):
            await broker.aenqueue("q", number)
        deliveries = await asyncio.gather(*tasks)
        assert [delivery and delivery.body for delivery in deliveries] == list(range(5))

    in_time(main())


def test_a_receive_waits_for_a_delay_and_no_longer_than_its_timeout(broker: libmq.Broker) -> None:
    async def main() -> None:
        begin = time.monotonic()
        assert await broker.areceive("q", 0.05) is None
        assert 0.04 < time.monotonic() - begin < LONG
        broker.enqueue("q", 1, delay=0.05)
        delivery = await broker.areceive("q", LONG, lease=7)
        assert delivery is not None
        assert delivery.attempt == 1
        async with delivery as same:
            assert same is delivery

    in_time(main())
    assert broker.metrics().acked == 1


def test_a_cancelled_receive_has_taken_nothing_and_holds_nobody_up(broker: libmq.Broker) -> None:
    async def main() -> None:
        for _ in range(50):
            tasks = [asyncio.create_task(broker.areceive("q")) for _ in range(3)]
            await asyncio.sleep(0)
            broker.enqueue("q", 1)
            # The first may have been told by now that it is its turn.
            await asyncio.sleep(0)
            tasks[0].cancel()
            tasks[1].cancel()
            ended = await asyncio.gather(tasks[0], tasks[1], return_exceptions=True)
            got = [end for end in ended if isinstance(end, libmq.Delivery)]
            if got:
                tasks[2].cancel()
            else:
                last = await tasks[2]
                assert last is not None
                got = [last]
            (delivery,) = got
            delivery.ack()
            await asyncio.gather(*tasks, return_exceptions=True)
        figures = broker.metrics()
        assert (figures.ready, figures.in_flight, figures.acked, figures.released) == (0, 0, 50, 0)

    in_time(main())


def test_a_receive_in_wait_for_loses_nothing(broker: libmq.Broker) -> None:
    async def main() -> None:
        got = 0
        for number in range(200):
            broker.enqueue("q", number, delay=0.001)
            with contextlib.suppress(TimeoutError):
                delivery = await asyncio.wait_for(broker.areceive("q"), 0.001)
                assert delivery is not None
                delivery.ack()
                got += 1
        while (delivery := await broker.areceive("q", 0.1)) is not None:
            delivery.ack()
            got += 1
        assert got == 200

    in_time(main())


def test_an_async_with_settles_as_a_with_does(broker: libmq.Broker) -> None:
    async def main() -> None:
        for _ in range(2):
            broker.enqueue("q", 1)
            delivery = await broker.areceive("q", LONG)
            assert delivery is not None
            with contextlib.suppress(ValueError):
                async with delivery:
                    raise ValueError("no")
            again = await broker.areceive("q", LONG)
            assert again is not None
            assert again.attempt == 2
            async with again:
                await asyncio.sleep(0)
                raise_later = libmq.Reject("bad")
                with pytest.raises(libmq.Reject):
                    async with again:
                        raise raise_later

    in_time(main())
    assert [letter.reason for letter in broker.dead_letters.list()] == ["bad", "bad"]


def test_a_pause_and_another_queue_wake_nobody(broker: libmq.Broker) -> None:
    async def main() -> None:
        broker.enqueue("q", 1)
        broker.pause("q")
        waiting = asyncio.create_task(broker.areceive("q"))
        await broker.aenqueue("other", 1)
        await asyncio.sleep(0.05)
        assert not waiting.done()
        broker.resume("q")
        delivery = await waiting
        assert delivery is not None
        delivery.ack()

    in_time(main())


def test_a_close_elsewhere_ends_those_who_wait() -> None:
    async def main() -> None:
        broker = libmq.open(":memory:")
        waiting = [asyncio.create_task(broker.areceive("q")) for _ in range(3)]
        await asyncio.sleep(0.05)
        await asyncio.to_thread(broker.close)
        for end in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(end, libmq.ClosedError)
        with pytest.raises(libmq.ClosedError):
            await broker.aenqueue("q", 1)

    in_time(main())


def test_of_many_that_fail_together_each_has_an_error_of_its_own(
    program: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    ended = program(
        """
        import asyncio, resource, signal, sys
        import libmq

        async def main():
            await broker.aenqueue("q", 0)
            # Nothing this process writes goes beyond so many bytes in a file from now on.
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return await asyncio.gather(*(broker.aenqueue("q", number) for number in range(10)), return_exceptions=True)

        broker = libmq.open(sys.argv[1])
        errors = asyncio.run(main())
        print({type(error).__name__ for error in errors}, len({id(error) for error in errors}))
        print({(error.code, error.path is not None, str(error) == str(errors[0])) for error in errors})
        """,
        "q",
    )
    assert ended.stdout.splitlines() == ["{'PoisonedError'} 10", "{('POISONED', True, True)}"]


def test_an_enqueue_in_memory_that_waits_for_room_keeps_nobody_from_making_some(
    program: Callable[..., "subprocess.CompletedProcess[str]"],
) -> None:
    """Where no thread could be started to wait for room, it waited itself, and with the interpreter's lock in hand."""
    ended = program(
        """
        import asyncio, os, resource, threading, time
        import libmq

        if os.getuid() == 0:
            # Whom no limit of processes stops.
            os.setuid(65534)

        def make_room():
            time.sleep(0.3)
            broker.receive("q", 0).ack()

        async def main():
            await asyncio.sleep(0)
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            return await broker.aenqueue("q", 2)

        broker = libmq.open(":memory:", capacity=1, on_full="block", block_timeout=30)
        broker.enqueue("q", 1)
        threading.Thread(target=make_room).start()
        print(asyncio.run(main()).status, flush=True)
        os._exit(0)
        """,
    )
    assert ended.stdout == "accepted\n"


def test_a_close_tells_every_enqueue_what_became_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with libmq.open(tmp_path / "q") as broker:
            tasks = [asyncio.create_task(broker.aenqueue("q", number)) for number in range(200)]
            await asyncio.sleep(0)
        assert len(await asyncio.gather(*tasks)) == 200

    in_time(main())
    with libmq.open(tmp_path / "q") as broker:
        assert broker.metrics().ready == 200


def test_several_loops_at_once(broker: libmq.Broker) -> None:
    got: list[int] = []

    async def produce(first: int) -> None:
        await asyncio.gather(*(broker.aenqueue("q", first + number) for number in range(100)))

    async def consume() -> None:
        while (delivery := await broker.areceive("q", 1)) is not None:
            async with delivery:
                got.append(delivery.body)

    mains = [produce(0), produce(100), produce(200), consume(), consume()]
    threads = [threading.Thread(target=in_time, args=(main,)) for main in mains]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * LONG)
    assert sorted(got) == list(range(300))


def test_a_loop_that_is_closed_early_leaves_the_broker_whole(broker: libmq.Broker) -> None:
    for _ in range(3):
        loop = asyncio.new_event_loop()
        waiting = loop.create_task(broker.areceive("q"))
        enqueue = loop.create_task(broker.aenqueue("r", 1))
        loop.run_until_complete(asyncio.sleep(0))
        for task in (waiting, enqueue):
            task.cancel()
        loop.run_until_complete(asyncio.gather(waiting, enqueue, return_exceptions=True))
        loop.close()
    broker.enqueue("q", 1)
    assert in_time(broker.aenqueue("q", 2)).status == "accepted"
    assert len(broker.receive_many("q", 10, 0)) == 2


def test_a_broker_that_nobody_has_any_more_leaves_the_loop() -> None:
    async def main() -> None:
        broker = libmq.open(":memory:")
        await broker.aenqueue("q", 1)
        weak = weakref.ref(broker)
        loop: Any = asyncio.get_running_loop()
        watched = len(loop._selector.get_map())
        del broker
        gc.collect()
        await asyncio.sleep(0.01)
        assert weak() is None
        assert len(loop._selector.get_map()) == watched - 1

    in_time(main())


def test_without_a_loop_a_coroutine_says_so(broker: libmq.Broker) -> None:
    for coroutine in (broker.aenqueue("q", 1), broker.areceive("q")):
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)


def test_other_loops_do_as_well(broker: libmq.Broker) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        await asyncio.gather(*(broker.aenqueue("q", number) for number in range(100)))
        got = 0
        while (delivery := await broker.areceive("q", 0.05)) is not None:
            async with delivery:
                got += 1
        assert got == 100

    uvloop.run(main())
