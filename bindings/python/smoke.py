"""Whether an installed libmq works at all: what a release tries on each platform, with nothing but Python beside it."""

import asyncio
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import libmq

NATIVE_BYTES_MAX = 8 << 20
"""Stripped, it has less; unstripped much more."""


def main() -> None:
    here = Path(libmq.__file__).parent
    assert here.is_relative_to(sys.prefix), f"{here} is not what was installed"
    (native,) = [file for file in here.glob("_native.*") if file.suffix in (".so", ".pyd")]
    assert native.stat().st_size < NATIVE_BYTES_MAX, f"{native} has {native.stat().st_size} bytes"
    assert (here / "py.typed").exists()
    files = [str(file) for file in importlib.metadata.files("libmq") or []]
    for name in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert any(file.endswith(f"licenses/{name}") for file in files), f"{name} is not in {files}"

    seen: list[int] = []
    with tempfile.TemporaryDirectory() as above:
        path = os.path.join(above, "queue")
        with libmq.open(path) as broker:
            broker.enqueue("orders", {"id": 1}, dedup_key="ORD-1")
            # As the death of the process leaves it.
            broker.receive("orders", 0)
        with libmq.open(path) as broker:

            @broker.handler("orders")
            async def handle(order: dict[str, int], ctx: libmq.Context) -> None:
                ctx.enqueue("payments", order)
                await asyncio.sleep(0)

            broker.handler("payments", lambda order: seen.append(order["id"]))
            broker.start()
            assert broker.wait_idle(20)
        verified = subprocess.run([sys.executable, "-m", "libmq", "verify", path], check=True, capture_output=True)
        assert b"0 messages" in verified.stdout, verified.stdout
    assert seen == [1]
    print(f"libmq {importlib.metadata.version('libmq')} works with Python {sys.version.split()[0]}: {native.name}")


if __name__ == "__main__":
    main()
