#!/bin/sh
# Runs libmq, the bare disk and SQLite in turns, and prints medians beside what is promised; then Python and Node beside
# their peers; then how well time is kept.
# LIBMQ_BENCH_ROUNDS sets the rounds (5), LIBMQ_BENCH_ONLY picks rows by a part of their name.
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed for SQLite"
mkdir -p "$target/bench"
cargo build --release --package libmq-bench --bin peers --bin player
"$target/release/peers" "$target/bench"

if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	.venv/bin/python benches/python/bench.py "$target/bench"
else
	echo "make build has not left the Python package in .venv: its rows are left out"
fi

scripts/build-node.sh
peers="$target/bench/node"
mkdir -p "$peers"
[ -s "$peers/package.json" ] || echo '{ "private": true }' >"$peers/package.json"
if [ ! -e bindings/node/libmq.node ] || ! need npm npm; then
	skip "the contests of Node: Node or npm is not there"
elif ! (cd "$peers" && npm install --silent --no-audit --no-fund better-sqlite3@12 fastq@1 >"$target/install.log" 2>&1 &&
	node -e 'new (require("better-sqlite3"))(":memory:")'); then
	skip "the contests of Node: npm could not fetch better-sqlite3 and fastq"
else
	node benches/node/bench.mjs "$peers"
fi

# Last: where a bound is not kept, it says so by its status.
cargo build --release --package libmq-bench --bin time
"$target/release/time"
