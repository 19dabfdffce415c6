#!/bin/sh
# The crash and kill tests in full: every image of every boundary, and as many kill rounds as asked for.
set -eu
. "$(dirname "$0")/lib.sh"

export LIBMQ_CRASH="${LIBMQ_CRASH:-full}"
export LIBMQ_KILL_ROUNDS="${LIBMQ_KILL_ROUNDS:-1000}"
say "crash images: $LIBMQ_CRASH, kill rounds: $LIBMQ_KILL_ROUNDS"
cargo test --release --package libmq-suite --test crash --test kill -- --nocapture --test-threads 1
