#!/bin/sh
# Every test that fits in a quarter of an hour on two cores. `scripts/crash.sh` has the rest.
set -eu
. "$(dirname "$0")/lib.sh"

began=$(date +%s)
: >"$LIBMQ_SKIPS"

# The loom models run in a build of their own, in which every atomic and lock is loom's. Linking it as a release takes
# longer than it saves.
models() {
	log="$target/loom.log"
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target/loom" CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=8 \
		cargo test --release --package libmq --package libmq-ffi --lib loom >"$log" 2>&1 || { cat "$log"; return 1; }
	grep '^test result: ok' "$log" || { cat "$log"; return 1; }
	! grep -q ' 0 passed' "$log" || die "no loom model ran"
}

scripts/check.sh

say "tests"
if scripts/nextest.sh; then
	cargo nextest run --no-fail-fast
else
	echo "cargo-nextest could not be had; using cargo test"
	cargo test --no-fail-fast
fi

say "loom models"
models

say "programs in C and C++"
scripts/test-c.sh

say "the same under valgrind"
scripts/memcheck.sh

say "the installed C library"
scripts/test-install.sh

# Side by side, since each waits more than it works: for what is due later, for processes that begin and die.
say "Python and Node"
python=passed node=passed
scripts/test-python.sh >"$target/test-python.log" 2>&1 &
scripts/test-node.sh >"$target/test-node.log" 2>&1 || node=failed
wait $! || python=failed
cat "$target/test-python.log" "$target/test-node.log"
[ "$python, $node" = "passed, passed" ] || die "the tests of Python $python, those of Node $node"

say "languages in turns"
scripts/test-turns.sh

skipped=$(wc -l <"$LIBMQ_SKIPS")
sed 's/^/SKIPPED: /' "$LIBMQ_SKIPS"
say "all passed in $(($(date +%s) - began)) s, $((skipped)) skipped"
