"""What the pages show is run, snippet by snippet: each page in an empty directory, with what its snippets before have
made. `run` and `arun` end there when there is nothing left to do, as if somebody had stopped the program then.
"""

import ast
import asyncio
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libmq
import pytest
from libmq import testing

ROOT = Path(__file__).parents[3]
PAGES = ["README.md", "bindings/python/README.md", "docs/python.md"]

Snippet = tuple[int, str, str]


def snippets(page: str) -> Iterator[Snippet]:
    """The line, the rest of the first line, and the text of each."""
    text = ROOT.joinpath(page).read_text()
    for match in re.finditer(r"^```python(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
        yield text[: match.start()].count("\n") + 1, match[1].strip(), match[2]


def snippet(page: str, beginning: str) -> str:
    """The one that begins so."""
    (found,) = [text for _, _, text in snippets(page) if text.startswith(beginning)]
    return found


class Pool:
    """What a program may have that the snippets do not show."""

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def session(self) -> "Session":
        return Session()


class Session(Pool):
    def commit(self) -> None: ...


async def nothing(*_: object) -> None: ...


def given() -> dict[str, Any]:
    """What the snippets take for granted."""
    return {
        "__name__": "shown",
        "libmq": libmq,
        "Pool": Pool,
        "Session": Session,
        "FakeSession": Session,
        "Order": dict[str, Any],
        "ship": nothing,
    }


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory, where whatever runs comes to an end."""
    monkeypatch.chdir(tmp_path)
    run, arun = libmq.Broker.run, libmq.Broker.arun

    def run_until_idle(broker: libmq.Broker) -> None:
        # What is only delayed keeps nobody.
        run(broker, until_idle=True, install_signal_handlers=False)

    async def arun_until_idle(broker: libmq.Broker, install_signal_handlers: bool = True) -> None:
        await arun(broker, until_idle=True, install_signal_handlers=False)

    monkeypatch.setattr(libmq.Broker, "run", run_until_idle)
    monkeypatch.setattr(libmq.Broker, "arun", arun_until_idle)


def is_closed(broker: object) -> bool:
    return not isinstance(broker, libmq.Broker) or broker._is_closed()


def made(names: dict[str, Any], before: dict[str, Any]) -> list[Any]:
    return [value for name, value in names.items() if before.get(name) is not value and inspect.isfunction(value)]


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("page", PAGES)
def test_every_snippet_of_a_page_runs(page: str) -> None:
    """One never ended, and one asked for a name that it did not import."""
    names, count = given(), 0
    if "from fastapi" in ROOT.joinpath(page).read_text():
        pytest.importorskip("fastapi")
        pytest.importorskip("httpx2")
    for line, notes, text in snippets(page):
        count += 1
        ast.parse(text)
        if notes:
            # Of another library.
            continue
        if is_closed(names.get("broker")):
            names["broker"] = libmq.open(":memory:")
        before = dict(names)
        exec(compile("\n" * line + text, page, "exec"), names)
        for function in made(names, before):
            if function.__name__ == "main":
                asyncio.run(function())
            elif function.__name__.startswith("test_"):
                parameters = inspect.signature(function).parameters
                with testing.open() as broker:
                    function(*[broker for _ in parameters])
        if isinstance(before.get("broker"), libmq.Broker) and names["broker"] is not before["broker"]:
            before["broker"].close()
    if isinstance(names.get("broker"), libmq.Broker):
        names["broker"].close()
    assert count > 0


@pytest.mark.parametrize("page", PAGES)
def test_every_page_that_is_linked_is_there(page: str) -> None:
    # In code a bracket may be anything.
    text = re.sub(r"```.*?```", "", ROOT.joinpath(page).read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)", text):
        if not link.startswith("http"):
            assert ROOT.joinpath(page).parent.joinpath(link).exists(), link
            assert os.path.normpath(page), page
