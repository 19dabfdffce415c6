"""What libmq tells: to logging, and to Prometheus."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import libmq
import pytest
from conftest import LONG

Program = Callable[..., "CompletedProcess[str]"]


class Records(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.threads: set[str] = set()
        self.came = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self.came:
            self.records.append(record)
            self.threads.add(threading.current_thread().name)
            self.came.notify_all()

    def wait_for(self, event: str) -> logging.LogRecord:
        """The first record of an event, once it is there."""

        def found() -> list[logging.LogRecord]:
            return [record for record in self.records if getattr(record, "event", None) == event]

        with self.came:
            assert self.came.wait_for(found, LONG), [record.getMessage() for record in self.records]
            return found()[0]


@pytest.fixture
def records() -> Iterator[Records]:
    """The logger `libmq`, listened to."""
    logger, handler = logging.getLogger("libmq"), Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_what_happens_is_logged_with_its_fields_on_a_thread_of_python(tmp_path: Path, records: Records) -> None:
    with libmq.open(tmp_path / "q") as broker:
        broker.handler("q", lambda body: 1 / 0, max_retries=0)
        broker.start()
        receipt = broker.enqueue("q", "secret", dedup_key="canary", headers={"h": "hidden"})
        assert broker.wait_idle(LONG)
        dead = records.wait_for("dead_letter")
        assert dead.levelno == logging.WARNING
        fields = vars(dead)["fields"]
        assert (fields["queue"], fields["id"], fields["reason"]) == ("q", receipt.id, "max_retries")
        assert f"dead_letter queue=q id={receipt.id}" in dead.getMessage()
    opened, closed = records.wait_for("open"), records.wait_for("close")
    assert opened.levelno == closed.levelno == logging.INFO
    assert vars(opened)["fields"]["path"] == str(tmp_path / "q")
    told = [record for record in records.records if hasattr(record, "event")]
    assert records.threads == {"libmq-log", "libmq-q"}
    for record in told:
        assert not any(secret in record.getMessage() for secret in ("secret", "canary", "hidden"))


def test_a_handler_of_logging_may_call_the_broker_and_close_it(records: Records) -> None:
    done = threading.Event()

    class Closes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", None) == "dead_letter":
                broker.metrics()
                broker.close()
                done.set()

    closes = Closes()
    logging.getLogger("libmq").addHandler(closes)
    try:
        broker = libmq.open(":memory:")
        broker.enqueue("q", 1)
        delivery = broker.receive("q", 0)
        assert delivery is not None
        delivery.reject("no")
        assert done.wait(LONG)
        with pytest.raises(libmq.ClosedError):
            broker.enqueue("q", 1)
    finally:
        logging.getLogger("libmq").removeHandler(closes)


def test_a_handler_of_logging_that_hangs_or_raises_holds_nobody_up(records: Records) -> None:
    free = threading.Event()

    class Hangs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", None) == "open":
                free.wait(LONG)
            raise OSError("the disk of the log is full")

    hangs = Hangs()
    logging.getLogger("libmq").addHandler(hangs)
    try:
        begin = time.monotonic()
        broker = libmq.open(":memory:")
        broker.close()
        assert time.monotonic() - begin < LONG / 2
        free.set()
        records.wait_for("close")
    finally:
        free.set()
        logging.getLogger("libmq").removeHandler(hangs)


def test_nothing_is_told_where_nobody_listens(program: Program) -> None:
    ran = program(
        """
        import threading, libmq
        with libmq.open("q") as broker:
            broker.enqueue("q", 1)
            broker.receive("q", 0).reject("no")
            print([thread.name for thread in threading.enumerate()])
            with open("/proc/self/task/%d/comm" % threading.get_native_id()) as comm:
                comm.read()
            import os
            from pathlib import Path
            names = {Path(f"/proc/self/task/{id}/comm").read_text().strip() for id in os.listdir("/proc/self/task")}
            print("libmq-log" in names)
        """
    )
    assert ran.stdout == "['MainThread']\nFalse\n"
    assert ran.stderr == ""


def test_the_last_words_are_logged_when_the_program_ends(program: Program) -> None:
    ran = program(
        """
        import logging, sys, libmq
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s %(event)s")
        libmq.open("q").close()
        """
    )
    assert ran.stdout == "INFO libmq open\nINFO libmq close\n"


def test_a_program_that_never_closes_ends_with_logging_on(program: Program) -> None:
    ran = program(
        """
        import logging, sys, threading, libmq
        logging.basicConfig(level=logging.DEBUG, stream=sys.stdout)
        opened = threading.Event()
        class Sees(logging.Handler):
            def emit(self, record):
                opened.set()
        logging.getLogger().addHandler(Sees())
        broker = libmq.open("q")
        broker.start()
        assert opened.wait(60)
        broker.enqueue("q", 1)
        broker.receive("q").reject("told while the program ends")
        """
    )
    assert "open path=" in ran.stdout


def test_the_figures_are_there_for_prometheus(broker: libmq.Broker) -> None:
    broker.enqueue_many("orders", range(3))
    delivery = broker.receive("orders", 0)
    assert delivery is not None
    delivery.ack()
    lines = broker.prometheus().splitlines()
    assert any(line.startswith("# TYPE libmq_") for line in lines)
    ready = [line for line in lines if line.startswith("libmq_") and "ready" in line and 'queue="orders"' in line]
    assert any(line.endswith(" 2") for line in ready), ready
    broker.close()
    with pytest.raises(libmq.ClosedError):
        broker.prometheus()


def test_what_a_slow_handler_of_logging_misses_is_counted(records: Records) -> None:
    """It was kept without end."""
    entered, free = threading.Event(), threading.Event()

    class Hangs(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", None) == "open":
                entered.set()
                free.wait(LONG)

    hangs = Hangs()
    logging.getLogger("libmq").addHandler(hangs)
    try:
        with libmq.open(":memory:", max_dead_letters=5000, default_max_retries=0) as broker:
            assert entered.wait(LONG)
            for _ in range(5):
                broker.enqueue_many("q", range(1000))
                for delivery in broker.receive_many("q", 1000, 0):
                    delivery.reject("no")
                time.sleep(0.05)
            free.set()
            missed = records.wait_for("events_missed")
            assert missed.levelno == logging.WARNING
            told = sum(getattr(record, "event", None) == "dead_letter" for record in records.records)
            counts = [vars(it)["fields"]["count"] for it in records.records if vars(it).get("event") == "events_missed"]
            assert told + sum(counts) == 5000
            # What the core keeps, and what the channel does.
            assert told <= 2 * 1024
    finally:
        free.set()
        logging.getLogger("libmq").removeHandler(hangs)


def test_a_close_does_not_wait_without_a_bound_for_who_logs(records: Records) -> None:
    """A handler of logging that did not come back, as one that writes to a full disk, kept a close for ever."""
    inside, free = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "event", None) is None:
                inside.set()
                free.wait(2 * LONG)

    slow = Slow()
    logging.getLogger("libmq").addHandler(slow)
    try:
        broker = libmq.open(":memory:", default_max_retries=0)

        @broker.handler("q")
        def handle(body: object) -> None:
            raise ValueError("no")

        broker.start()
        broker.enqueue("q", 1)
        assert inside.wait(LONG)
        began = time.monotonic()
        with pytest.raises(libmq.TimeoutError):
            broker.close(0)
        assert time.monotonic() - began < LONG
    finally:
        free.set()
        logging.getLogger("libmq").removeHandler(slow)
