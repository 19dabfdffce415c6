#!/bin/sh
# Holds the interface of libmq.so against that of an earlier commit, by default the last tag's: what was there has to be there,
# as it was. More may have been added. `abi.sh COMMIT` says which.
set -eu
. "$(dirname "$0")/lib.sh"

before=${1:-$(git describe --tags --abbrev=0 2>/dev/null || :)}
if [ -z "$before" ]; then
	echo "the interface: there is no tag yet, so nothing that it has to keep"
	exit 0
fi
if ! need abidiff abigail-tools; then
	skip "the interface of libmq.so against $before: abidiff cannot be installed"
	exit 0
fi

# Types are read from what a debugger reads, which a shipped library has not: both are built for this, without the optimiser.
old="$target/abi"
rm -rf "$old"
mkdir -p "$old/source"
git archive "$before" | tar -x -C "$old/source"
built() {
	(cd "$1" && CARGO_TARGET_DIR="$2" CARGO_PROFILE_DEV_DEBUG=full cargo build --quiet --package libmq-ffi)
}
built "$old/source" "$old/before"
built . "$old/now"

# 0 is no difference, 4 one, 8 beside it one that breaks programs for certain, and 1 and 2 are failures of its own. It is not told
# where the headers are: of types that are declared in Rust it would then say nothing.
answer=0
abidiff --no-added-syms "$old/before/debug/libmq.so" "$old/now/debug/libmq.so" >"$old/log" 2>&1 || answer=$?
rm -rf "$old/source" "$old/before" "$old/now"
cat "$old/log"
if [ "$answer" = 4 ] && [ -n "${LIBMQ_ABI_LOOKED_AT:-}" ]; then
	echo "the interface: different from $before, which somebody has looked at"
elif [ "$answer" != 0 ]; then
	# A struct may grow at its end: its struct_size says how long it is. abidiff knows nothing of that.
	die "libmq.so is not what it was at $before; if structs have grown at their ends and no more, LIBMQ_ABI_LOOKED_AT=1 says so"
else
	echo "the interface: all of $before is there, as it was"
fi
