#!/bin/sh
# Makes bindings/python/Cargo.lock: the workspace's own lock, less what the source distribution of the Python package does
# not have. With it `cargo --locked` builds from that, the same versions as here.
set -eu
. "$(dirname "$0")/lib.sh"

python_tool maturin "maturin>=1.14,<2" || die "maturin cannot be installed, or make build has not been run"
made="$target/lock-sdist"
rm -rf "$made"
mkdir -p "$made"
# Begun with the whole lock, so that no version changes.
cp Cargo.lock bindings/python/Cargo.lock
.venv/bin/maturin sdist --manifest-path bindings/python/Cargo.toml --out "$made" >"$target/lock-sdist.log" 2>&1
tar -xzf "$made"/*.tar.gz -C "$made"
cargo metadata --offline --quiet --format-version 1 --manifest-path "$made"/libmq-*/Cargo.toml >/dev/null
cp "$made"/libmq-*/Cargo.lock bindings/python/Cargo.lock
