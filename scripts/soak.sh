#!/bin/sh
# A constant load for so many hours, 24 unless said: a worker is killed every 30 seconds in one directory, in every language
# that is built, and one lives on in another. The report comes every ten minutes and at the end.
set -eu
. "$(dirname "$0")/lib.sh"

export LIBMQ_SOAK_HOURS="${1:-24}"
workers=
if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	workers="Python .venv/bin/python tests/kill/worker.py"
else
	skip "the soak in Python: the package is not built"
fi
if [ -e bindings/node/libmq.node ]; then
	workers="$workers${workers:+
}Node node $PWD/tests/kill/worker.mjs"
else
	skip "the soak in Node: the package is not built"
fi
export LIBMQ_SOAK_WORKERS="$workers"
say "soak: $LIBMQ_SOAK_HOURS hours"
cargo test --quiet --release --test kill -- --nocapture soak::
say "all held"
