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

# Only what the header declares is the interface.
headers_then="$old/source/include" headers_now="include"
# 0 is no difference, 4 one; 8 beside it is one that breaks programs, and 1 and 2 are failures of its own.
set +e
abidiff --no-added-syms --headers-dir1 "$headers_then" --headers-dir2 "$headers_now" \
	"$old/before/debug/libmq.so" "$old/now/debug/libmq.so" >"$old/log" 2>&1
answer=$?
set -e
rm -rf "$old/source" "$old/before" "$old/now"
cat "$old/log"
[ "$answer" = 0 ] || die "libmq.so is not what it was at $before: $old/log"
echo "the interface: all of $before is there, as it was"
