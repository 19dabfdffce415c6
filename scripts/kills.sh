#!/bin/sh
# Ten thousand kill rounds, or what LIBMQ_KILL_ROUNDS says: half of them in Rust, the others in C, Python and Node, two
# languages at a time.
set -eu
. "$(dirname "$0")/lib.sh"

export LIBMQ_KILL_ROUNDS="${LIBMQ_KILL_ROUNDS:-5000}"
say "kill rounds: $LIBMQ_KILL_ROUNDS in Rust, and as many in all other languages"
cargo test --release --test kill -- --nocapture --test-threads 2 \
	nothing_in_rust nothing_in_c killer:: owner::

python=
if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	driven Python kill LIBMQ_KILL_WORKER "Python .venv/bin/python tests/kill/worker.py" --release &
	python=$!
else
	skip "kill rounds in Python: the package is not built"
fi
if [ -e bindings/node/libmq.node ]; then
	driven Node kill LIBMQ_KILL_WORKER "Node node $PWD/tests/kill/worker.mjs" --release
else
	skip "kill rounds in Node: the package is not built"
fi
[ -z "$python" ] || wait "$python"
