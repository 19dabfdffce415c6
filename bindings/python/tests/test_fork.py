"""Forked children: every use of a parent's broker is refused, and the child's end is clean."""

from collections.abc import Callable
from typing import Any

Program = Callable[..., Any]

START = """
    import libmq, os, sys, threading, time
    broker = libmq.open("queue")
    broker.handler("handled", lambda body: None, max_parallelism=2)
    broker.start()
    broker.enqueue("handled", 1)
    assert broker.wait_idle(20)
    broker.enqueue("q", 1)
    broker.enqueue("q", 2)
    delivery = broker.receive("q", timeout=0)

    def in_child(work, leave=sys.exit):
        child = os.fork()
        if child == 0:
            work()
            leave(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_every_call_is_refused(program: Program) -> None:
    program(
        START
        + """
    def calls():
        for call in (
            lambda: broker.enqueue("q", 1),
            lambda: broker.enqueue_many("q", [1]),
            lambda: broker.receive("q"),
            lambda: broker.receive_many("q", 2),
            lambda: broker.handler("q", print),
            lambda: broker.start(),
            lambda: broker.stop(),
            lambda: broker.close(),
            lambda: broker.wait_idle(),
            lambda: broker.run(),
            lambda: broker.__enter__(),
            lambda: broker.__aenter__().send(None),
            lambda: broker.snapshot(),
            lambda: broker.advance(1),
            lambda: broker.metrics(),
            lambda: broker.scale("q", 1),
            lambda: broker.prometheus(),
            lambda: broker.dead_letters.list(),
            lambda: broker.dead_letters.get(1),
            lambda: broker.dead_letters.replay(1),
            lambda: broker.dead_letters.replay_all(),
            lambda: broker.dead_letters.purge(),
            lambda: len(broker.dead_letters),
            lambda: delivery.ack(),
            lambda: delivery.retry(),
            lambda: delivery.reject("no"),
            lambda: delivery.release(),
            lambda: delivery.extend(1),
            lambda: delivery.enqueue("q", 1),
        ):
            try:
                call()
            except libmq.ForkedError as error:
                assert error.code == "FORKED"
            else:
                raise AssertionError("a child was served")
        assert delivery.body == 1
    in_child(calls)
    delivery.ack()
    broker.close()
    """
    )


def test_a_child_ends_by_every_way_out(program: Program) -> None:
    program(
        START
        + """
    in_child(lambda: None)
    in_child(lambda: None, os._exit)
    def garbage():
        global broker, delivery
        del broker, delivery
        import gc
        gc.collect()
    in_child(garbage)
    def grandchild():
        in_child(lambda: None)
    in_child(grandchild)
    second = broker.receive("q", timeout=0)
    assert second.body == 2, "the children have settled nothing"
    broker.close()
    """
    )


def test_a_child_that_ends_within_a_with_ends_as_it_says(program: Program) -> None:
    """`sys.exit(0)` was a traceback and 1."""
    ran = program(
        """
        import libmq, os, sys
        with libmq.open("queue") as broker:
            for code in (0, 7):
                child = os.fork()
                if child == 0:
                    sys.exit(code)
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            broker.enqueue("q", 1)
        """
    )
    assert (ran.stdout, ran.stderr) == ("0\n7\n", "")


def test_a_child_may_open_a_broker_of_its_own(program: Program) -> None:
    program(
        START
        + """
    def own():
        try:
            libmq.open("queue")
        except libmq.LockedError as error:
            assert error.pid == os.getppid(), error.pid
        else:
            raise AssertionError("the parent's directory was given to the child")
        done = threading.Event()
        with libmq.open("other") as other:
            other.handler("q", lambda body: done.set())
            other.start()
            other.enqueue("q", 1)
            assert done.wait(20)
        # And one that nobody closes.
        left = libmq.open("left")
        left.handler("q", print)
        left.start()
    in_child(own)
    broker.close()
    """
    )


def test_a_child_forked_in_a_handler_ends(program: Program) -> None:
    program(
        START
        + """
    statuses = []
    @broker.handler("forks")
    def handle(body):
        child = os.fork()
        if child:
            statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    broker.enqueue("forks", 1)
    end = time.monotonic() + 30
    while not statuses and time.monotonic() < end:
        time.sleep(0.01)
    assert statuses == [0], statuses
    broker.close()
    """
    )


def test_multiprocessing_forks(program: Program) -> None:
    program(
        START
        + """
    import multiprocessing
    fork = multiprocessing.get_context("fork")
    def work(answers):
        try:
            broker.enqueue("q", 3)
        except libmq.ForkedError:
            answers.put("forked")
    answers = fork.Queue()
    children = [fork.Process(target=work, args=(answers,)) for _ in range(4)]
    for child in children:
        child.start()
    assert [answers.get(timeout=20) for _ in children] == ["forked"] * 4
    for child in children:
        child.join(20)
        assert child.exitcode == 0
    with fork.Pool(2) as pool:
        assert pool.map(abs, [-1, -2]) == [1, 2]
    broker.close()
    """
    )


def test_forks_while_handlers_run(program: Program) -> None:
    program(
        START
        + """
    broker.handler("busy", lambda body: broker.enqueue("busy", body, durability="os"), max_parallelism=3)
    broker.enqueue_many("busy", range(6))
    for _ in range(40):
        in_child(lambda: None)
    broker.close()
    """
    )
