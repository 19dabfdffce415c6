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

say "Python"
scripts/test-python.sh

say "Node"
scripts/test-node.sh

say "languages in turns"
scripts/test-turns.sh

skipped=$(wc -l <"$LIBMQ_SKIPS")
sed 's/^/SKIPPED: /' "$LIBMQ_SKIPS"
say "all passed in $(($(date +%s) - began)) s, $((skipped)) skipped"
