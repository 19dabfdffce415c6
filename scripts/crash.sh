#!/bin/sh
# The crash, model and kill tests in full: every image of every boundary, every error at every call, tens of thousands of
# sequences of calls, millions of calls by many threads at once, and as many kill rounds as asked for, in every language that is
# built. What is random comes from the day's number, unless LIBMQ_CRASH_SEED says another.
set -eu
. "$(dirname "$0")/lib.sh"

export LIBMQ_CRASH="${LIBMQ_CRASH:-full}"
export LIBMQ_MODEL_CASES="${LIBMQ_MODEL_CASES:-20000}"
export LIBMQ_HISTORIES="${LIBMQ_HISTORIES:-100000}"
export LIBMQ_TOTAL_MESSAGES="${LIBMQ_TOTAL_MESSAGES:-2500000}"
export LIBMQ_STRESS="${LIBMQ_STRESS:-10}"

# Whoever kills waits half of the time, and whoever judges images computes all of it: side by side, and built before.
cargo test --release --no-run --test crash --test model --test concurrent --test kill
log="$target/kills.log"
scripts/kills.sh >"$log" 2>&1 &
kills=$!
trap 'wait' EXIT

say "crash images: $LIBMQ_CRASH, sequences: $LIBMQ_MODEL_CASES"
# More than there are cores: some take many times as long as others, and the last would have one core to itself.
cargo test --release --test crash -- --nocapture --test-threads 4
cargo test --release --test model -- --nocapture --test-threads 1

say "threads: $LIBMQ_HISTORIES histories, $LIBMQ_TOTAL_MESSAGES messages, stress times $LIBMQ_STRESS"
cargo test --release --test concurrent -- --nocapture --test-threads 1
cargo test --release --package libmq --package libmq-ffi --lib stress

wait "$kills" || { cat "$log"; die "the kill rounds failed"; }
cat "$log"
