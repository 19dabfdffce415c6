#!/bin/sh
# Runs libmq, the bare disk and SQLite in turns, and prints medians beside what is promised.
# LIBMQ_BENCH_ROUNDS sets the rounds (5), LIBMQ_BENCH_ONLY picks rows by a part of their name.
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed for SQLite"
mkdir -p "$target/bench"
cargo build --release --package libmq-bench --bin peers
"$target/release/peers" "$target/bench"

if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	.venv/bin/python benches/python/bench.py "$target/bench"
else
	echo "make build has not left the Python package in .venv: its rows are left out"
fi
