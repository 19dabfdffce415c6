#!/bin/sh
# What one language wrote, every other one handles: the scenarios that are played in turns.
set -eu
. "$(dirname "$0")/lib.sh"

players=
if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	players="python .venv/bin/python tests/conformance/python/play.py"
else
	skip "Python in turns with other languages: the package is not built"
fi
if [ -e bindings/node/libmq.node ]; then
	players="$players
node node tests/conformance/node/play.mjs"
else
	skip "Node in turns with other languages: the package is not built"
fi
log="$target/turns.log"
LIBMQ_PLAYER="$players" cargo test --quiet --test conformance what_one_language -- --nocapture >"$log" 2>&1 ||
	{ cat "$log"; die "the languages do not understand each other"; }
grep 'plays in turns' "$log" || { cat "$log"; die "no scenario was played in turns"; }
