#!/bin/sh
# The package for Node: its own tests, and, as for every language, the scenarios and the kill rounds.
set -eu
. "$(dirname "$0")/lib.sh"

package=bindings/node
if [ ! -e "$package/libmq.node" ]; then
	skip "Node: the package is not built"
	exit 0
fi

# Some tests are with libraries of others, and some on other runtimes.
node_tools || skip "Node's tests with what is of others: npm could not fetch it"
node_runtimes || skip "Node's tests on Bun and Deno: npm could not fetch them"

say "Node: tests"
log="$target/node-tests.log"
node --test --test-reporter tap "$package"/test/*.test.mjs >"$log" 2>&1 || { grep -v '^# Subtest' "$log"; die "tests of the Node package failed"; }
grep -E '^# (tests|pass|fail) ' "$log"

rm -rf "$target/node-orders"
mkdir -p "$target/node-orders/target"
house=$PWD
(cd "$target/node-orders" && node "$house/examples/orders/orders.mjs") >"$target/orders-mjs.log" 2>&1 ||
	{ cat "$target/orders-mjs.log"; die "orders.mjs failed"; }
tail -n 1 "$target/orders-mjs.log" | sed "s|^|orders-mjs: |"

driven Node conformance LIBMQ_PLAYER "node node $PWD/tests/conformance/node/play.mjs"
driven "Node without promises" conformance LIBMQ_PLAYER "node env LIBMQ_PLAY_SYNC=1 node $PWD/tests/conformance/node/play.mjs"
driven Node kill LIBMQ_KILL_WORKER "Node node $PWD/tests/kill/worker.mjs"
