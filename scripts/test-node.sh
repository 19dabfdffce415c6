#!/bin/sh
# The package for Node: its types and its form, its own tests, and, as for every language, the scenarios and the kill
# rounds.
set -eu
. "$(dirname "$0")/lib.sh"

package=bindings/node
if [ ! -e "$package/libmq.node" ]; then
	skip "Node: the package is not built"
	exit 0
fi

# Tools, and libraries that the package is to get on with, which are fetched once and kept beside what is built.
tools="$target/node-tools"
are_there() {
	[ -x "$tools/node_modules/.bin/tsc" ] && [ -d "$tools/node_modules/zod" ]
}
fetched() {
	are_there && return 0
	mkdir -p "$tools"
	(cd "$tools" && npm install --silent --no-save --no-audit --no-fund typescript@5.9 @types/node@20 prettier@3 \
		@standard-schema/spec@1 zod@4 valibot@1 >"$target/install.log" 2>&1) || return 1
	are_there
}
export LIBMQ_NODE_TOOLS="$tools"

say "Node: form and types"
if need npm npm && fetched; then
	"$tools/node_modules/.bin/prettier" --check --log-level warn "$package/**/*.{js,mjs,ts}" "tests/**/*.mjs" \
		"examples/**/*.mjs" "benches/**/*.mjs"
	"$tools/node_modules/.bin/tsc" --project "$package/test/types" --typeRoots "$tools/node_modules/@types"
	# Others' types are found only from beside them.
	mkdir -p "$tools/types" "$tools/node_modules/@libmq"
	ln -sfn "$PWD/$package" "$tools/node_modules/@libmq/node"
	cp "$package/test/types/schemas.ts" "$tools/types"
	"$tools/node_modules/.bin/tsc" --noEmit --strict --target ES2022 --lib ES2023,ESNext.Disposable --module NodeNext \
		--moduleResolution NodeNext --skipLibCheck --typeRoots "$tools/node_modules/@types" --types node \
		"$tools/types/schemas.ts"
else
	skip "Node's types and form: npm could not fetch typescript and prettier"
fi

say "Node: tests"
log="$target/node-tests.log"
node --test "$package"/test/*.test.mjs >"$log" 2>&1 || { grep -v '^# Subtest' "$log"; die "tests of the Node package failed"; }
grep -E '^# (tests|pass|fail) ' "$log"

rm -rf "$target/node-orders"
mkdir -p "$target/node-orders/target"
house=$PWD
(cd "$target/node-orders" && node "$house/examples/orders/orders.mjs") >"$target/orders-mjs.log" 2>&1 ||
	{ cat "$target/orders-mjs.log"; die "orders.mjs failed"; }
tail -n 1 "$target/orders-mjs.log" | sed "s|^|orders-mjs: |"

driven Node conformance LIBMQ_PLAYER "node node $PWD/tests/conformance/node/play.mjs"
driven Node kill LIBMQ_KILL_WORKER "Node node $PWD/tests/kill/worker.mjs"
