#!/bin/sh
# Runs libmq beside its peers in Rust, Python and Node and beside servers on loopback, all in turns, and leaves the figures as JSON
# and as plots in target/bench. What of the peers can be had is fetched first; what cannot be is left out, and said to be.
# LIBMQ_BENCH_ROUNDS sets the rounds (5), `ONLY=` picks a category, or contests by a part of their name.
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed for SQLite"
bench="$target/bench"
mkdir -p "$bench"
cargo build --release --package libmq-bench --bin peers --bin player

# In a place of their own: they bring another SQLite, and nobody else is to wait for them.
if cargo build --release --locked --manifest-path benches/rust/Cargo.toml --target-dir "$target/others"; then
	export LIBMQ_BENCH_RUST="$target/others/release/others"
else
	skip "peers in Rust, and servers: they cannot be built"
fi
for server in redis-server beanstalkd nats-server; do
	need "$server" "$server" || skip "$server: it cannot be installed"
done

LIBMQ_BENCH_ONLY="${1:-}" "$target/release/peers" "$bench"
