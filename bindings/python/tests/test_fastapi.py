"""An application of FastAPI or Starlette and its broker: they begin and end together, under a real server."""

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import libmq
import pytest
from libmq import testing

fastapi = pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("httpx2")

from fastapi import Depends, FastAPI, WebSocket  # noqa: E402
from libmq.fastapi import Lifespan, get_broker  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

APP = """
import asyncio, os
from typing import Annotated
import libmq
from fastapi import Depends, FastAPI
from libmq.fastapi import Lifespan, get_broker

queue = Lifespan("queue", stop_timeout=10, **OPTIONS)
app = FastAPI(lifespan=queue)
LOOP = []

@queue.handler("orders", max_parallelism=4)
async def handle(order: dict, ctx: libmq.Context) -> None:
    assert asyncio.get_running_loop() is LOOP[0]
    await asyncio.sleep(order.get("takes", 0))
    with open("done", "a") as done:
        done.write(f"{order['id']}\\n")

@app.post("/orders/{id}", status_code=202)
async def take(id: int, takes: float, broker: Annotated[libmq.Broker, Depends(get_broker)]) -> int:
    LOOP[:] = [asyncio.get_running_loop()]
    return (await broker.aenqueue("orders", {"id": id, "takes": takes})).id

@app.post("/threads/{id}", status_code=202)
def take_in_a_thread(id: int, broker: Annotated[libmq.Broker, Depends(get_broker)]) -> int:
    return broker.enqueue("orders", {"id": id}).id

@app.get("/pid")
async def pid() -> int:
    LOOP[:] = [asyncio.get_running_loop()]
    return os.getpid()
"""


class Server:
    """Uvicorn in a process of its own, in an empty directory."""

    def __init__(self, directory: Path, *arguments: str, options: str = "{}") -> None:
        self.directory = directory
        directory.joinpath("shop.py").write_text(APP.replace("**OPTIONS", f"**{options}"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "uvicorn", "shop:app", "--port", str(self.port), *arguments]
        # A log is a file: a pipe that nobody reads would hold up the server.
        self.log = directory / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=directory, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def ask(self, path: str, method: str = "GET") -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return str(answer.read().decode())

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < end, f"{what}\n{self.log.read_text()}"
            time.sleep(0.02)

    def pid(self) -> str:
        """Of the process that answers; nothing while none does, or where the one that began to ended meanwhile."""
        try:
            return self.ask("/pid")
        except (OSError, http.client.HTTPException):
            return ""

    def serves(self) -> bool:
        return bool(self.pid())

    def done(self) -> list[int]:
        done = self.directory / "done"
        return [int(line) for line in done.read_text().split()] if done.exists() else []

    def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return self.process.wait(40)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: str, options: str = "{}") -> Server:
        servers.append(Server(tmp_path, *arguments, options=options))
        return servers[-1]

    yield start
    for each in servers:
        # Its group is its own, and what it started is in it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait(20)


def test_what_is_posted_is_handled_and_a_sigterm_loses_nothing(server: Callable[..., Server]) -> None:
    """`create_task(broker.arun())` in a lifespan takes the server's signals, and the server never ends."""
    shop = server()
    shop.wait_for(shop.serves, "it serves")
    for id in range(10):
        shop.ask(f"/orders/{id}?takes=0", "POST")
    shop.ask("/threads/10", "POST")
    shop.wait_for(lambda: sorted(shop.done()) == list(range(11)), "all are handled")
    for id in range(11, 40):
        shop.ask(f"/orders/{id}?takes=1.5", "POST")
    assert shop.end() in (0, -signal.SIGTERM)
    log = shop.log.read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
    done = shop.done()
    with libmq.open(shop.directory / "queue") as broker:
        assert broker.recovery.suspects == 0, "those that ran came to their end"
        left = [delivery.body["id"] for delivery in broker.receive_many("orders", 100, 0)]
    assert 0 < len(left) < 29
    assert sorted(done + left) == list(range(40))


def test_a_sigint_ends_it_too_and_a_handler_that_takes_too_long_is_given_back(server: Callable[..., Server]) -> None:
    shop = server(options='{"default_timeout": 3600}')
    shop.directory.joinpath("shop.py").write_text(
        shop.directory.joinpath("shop.py").read_text().replace("stop_timeout=10", "stop_timeout=0.2")
    )
    shop.wait_for(shop.serves, "it serves")
    shop.ask("/orders/1?takes=60", "POST")
    assert shop.end(signal.SIGINT) in (0, -signal.SIGINT)
    assert "Application shutdown complete" in shop.log.read_text()
    with libmq.open(shop.directory / "queue") as broker:
        delivery = broker.receive("orders", 0)
        assert delivery is not None
        assert (delivery.body["id"], delivery.attempt, broker.recovery.suspects) == (1, 1, 0)


def test_a_reload_goes_on_with_what_is_there(server: Callable[..., Server]) -> None:
    shop = server("--reload", "--reload-delay", "0.1", options='{"lock_timeout": 20}')
    shop.wait_for(shop.serves, "it serves")
    before = shop.pid()
    for id in range(20):
        shop.ask(f"/orders/{id}?takes=0.1", "POST")
    source = shop.directory / "shop.py"
    source.write_text(source.read_text() + "\n# Changed.\n")
    shop.wait_for(lambda: shop.pid() not in ("", before), "another process serves")
    shop.wait_for(lambda: sorted(shop.done()) == list(range(20)), "all are handled, each once")
    shop.end()
    assert "LockedError" not in shop.log.read_text()


def test_a_second_worker_says_that_one_process_owns_the_directory(server: Callable[..., Server]) -> None:
    shop = server("--workers", "2")
    said = "LockedError: "
    shop.wait_for(lambda: said in shop.log.read_text(), "the second one says it")
    shop.wait_for(lambda: "Run the server with one worker" in shop.log.read_text(), "and what to do")
    shop.wait_for(shop.serves, "the first one serves all the same")
    shop.ask("/orders/1?takes=0", "POST")
    shop.wait_for(lambda: shop.done() == [1], "and handles")


# Within this process.


def test_a_test_has_the_application_with_a_broker_of_its_own() -> None:
    queue = Lifespan("never-made")
    app = FastAPI(lifespan=queue)
    seen = []

    @queue.handler("orders")
    async def handle(order: dict[str, Any]) -> None:
        seen.append(order["id"])

    @app.post("/orders/{id}")
    async def take(id: int, broker: Annotated[libmq.Broker, Depends(get_broker)]) -> int:
        return (await broker.aenqueue("orders", {"id": id})).id

    with queue.override(testing.open), TestClient(app) as client:
        assert client.post("/orders/7").status_code == 200
        assert isinstance(queue.broker, testing.TestBroker)
        queue.broker.assert_enqueued("orders", id=7)
        assert seen == [], "it is drained, and does not run by itself"
        assert queue.broker.drain().handled == 1
    assert seen == [7]
    assert not Path("never-made").exists()
    with pytest.raises(RuntimeError, match="while the application runs"):
        queue.broker  # noqa: B018


def test_an_application_may_be_run_twice_and_its_handlers_run(tmp_path: Path) -> None:
    queue = Lifespan(tmp_path / "queue")
    app = FastAPI(lifespan=queue)
    seen: list[int] = []
    queue.handler("q")(lambda body: seen.append(body))
    for turn in (1, 2):
        with TestClient(app):
            queue.broker.enqueue("q", turn)
            assert queue.broker.wait_idle(20)
    assert seen == [1, 2]


def test_starlette_alone_will_do_and_so_will_a_mounted_application() -> None:
    def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(get_broker(request).path)

    inner = Starlette(routes=[Route("/path", answer)])
    app = Starlette(routes=[Route("/path", answer), Mount("/inner", inner)], lifespan=Lifespan(":memory:"))
    with TestClient(app) as client:
        assert client.get("/path").text == client.get("/inner/path").text == ":memory:"


def test_a_websocket_has_the_broker_too() -> None:
    app = FastAPI(lifespan=Lifespan(":memory:"))

    @app.websocket("/orders")
    async def take(socket: WebSocket, broker: Annotated[libmq.Broker, Depends(get_broker)]) -> None:
        await socket.accept()
        receipt = await broker.aenqueue("orders", await socket.receive_json())
        await socket.send_json(receipt.status)
        await socket.close()

    with TestClient(app) as client, client.websocket_connect("/orders") as socket:
        socket.send_json({"id": 1})
        assert socket.receive_json() == "accepted"


def test_a_lifespan_of_ones_own_may_hold_it() -> None:
    queue = Lifespan(":memory:")
    order = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        order.append("before")
        async with queue(app):
            yield
        order.append("after")

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    def path(broker: Annotated[libmq.Broker, Depends(get_broker)]) -> str:
        return broker.path

    with TestClient(app) as client:
        assert client.get("/").json() == ":memory:"
    assert order == ["before", "after"]


def test_an_application_without_a_broker_says_so() -> None:
    app = FastAPI()

    @app.get("/")
    def path(broker: Annotated[libmq.Broker, Depends(get_broker)]) -> str:
        return broker.path

    with TestClient(app) as client, pytest.raises(RuntimeError, match=r"lifespan=libmq\.fastapi\.Lifespan"):
        client.get("/")


def of_two(first: int, second: int) -> None: ...


WRONG: dict[str, tuple[Callable[[Any], Any], type[Exception], str]] = {
    "option of the broker": (lambda queue: Lifespan("q", capacitty=1), TypeError, "'capacitty'"),  # type: ignore[call-arg]
    "stop_timeout": (lambda queue: Lifespan("q", stop_timeout=-1), libmq.InvalidError, "stop_timeout"),
    "option": (lambda queue: queue.handler("q", max_paralelism=1)(print), TypeError, "'max_paralelism'"),
    "value": (lambda queue: queue.handler("q", max_parallelism=0)(print), libmq.InvalidError, "max_parallelism"),
    "parameters": (lambda queue: queue.handler("q", of_two), TypeError, "two parameters for the body"),
    "function": (lambda queue: queue.handler("q", 1), TypeError, "must be callable"),
    "queue": (lambda queue: queue.handler("a b", print), libmq.InvalidError, "queue has ' ' in it"),
    "no queue": (lambda queue: queue.handler(print), TypeError, "handler takes the queue first"),
    "two": (lambda queue: queue.handler("taken")(print), libmq.InvalidError, "taken has a handler already"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_raised_where_it_is_said(tmp_path: Path, wrong: str) -> None:
    """It was raised when the server started, or never: of two handlers the last one was taken."""
    make, error, says = WRONG[wrong]
    queue, seen = Lifespan(tmp_path / "queue"), list[int]()
    queue.handler("taken", seen.append)
    with pytest.raises(error, match=says):
        make(queue)
    with TestClient(FastAPI(lifespan=queue)):
        queue.broker.enqueue("taken", 1)
        assert queue.broker.wait_idle(20)
        assert sorted(queue.broker.metrics().queues) == ["taken"]
    assert seen == [1]


def test_a_directory_that_is_owned_is_explained(tmp_path: Path) -> None:
    with libmq.open(tmp_path / "queue"):
        app = FastAPI(lifespan=Lifespan(tmp_path / "queue"))
        with pytest.raises(libmq.LockedError) as caught, TestClient(app):
            pass
    assert "one worker" in caught.value.__notes__[0]


def test_a_broker_that_is_closed_by_somebody_else_ends_quietly() -> None:
    async def main() -> None:
        queue = Lifespan(":memory:")
        async with queue(FastAPI()) as state:
            (broker,) = state.values()
            await asyncio.to_thread(broker.close)
            await asyncio.sleep(0.05)

    asyncio.run(main())


def test_the_program_of_the_module_is_a_program() -> None:
    """What its documentation shows."""
    import libmq.fastapi

    shown = textwrap.dedent((libmq.fastapi.__doc__ or "").split("\n\n", 1)[1].rsplit("\n\nSignals", 1)[0])
    names: dict[str, Any] = {"FastAPI": FastAPI, "Depends": Depends, "Annotated": Annotated, "libmq": libmq}
    exec(
        compile(f"from pydantic import BaseModel\nclass Order(BaseModel):\n    id: int\n{shown}", "shown", "exec"),
        names,
    )
    assert names["app"].url_path_for("take") == "/orders"
