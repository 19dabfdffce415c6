#!/bin/sh
# Which lines of the core the tests reach: `coverage.sh [NEXTEST OPTION...]`. A table at the end, and the lines themselves below
# target/coverage. The tests that are driven from scripts, in other languages, do not count.
set -eu
. "$(dirname "$0")/lib.sh"

# What reads the figures has to be of the compiler's own LLVM, or of a later one.
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
need "llvm-cov-$llvm" "llvm-$llvm" || die "llvm-cov and llvm-profdata of LLVM $llvm are needed"
scripts/nextest.sh || die "cargo-nextest is needed"

out="$target/coverage"
rm -rf "$out/raw"
mkdir -p "$out/raw"
export RUSTFLAGS="-C instrument-coverage" LLVM_PROFILE_FILE="$out/raw/%p-%4m.profraw" CARGO_TARGET_DIR="$out/build"
say "tests"
cargo nextest run --package libmq --package libmq-suite --package libmq-ffi --package libmq-fuzz --no-fail-fast "$@" || :

say "lines"
find "$out/raw" -name '*.profraw' >"$out/raw/list"
"llvm-profdata-$llvm" merge --sparse --input-files="$out/raw/list" --output="$out/tests.profdata"
set --
for program in $(find "$out/build/debug/deps" "$out/build/debug" -maxdepth 1 -type f -perm -u+x ! -name '*.so'); do
	set -- "$@" --object "$program"
done
# The first is named without the option.
shift
"llvm-cov-$llvm" show --instr-profile="$out/tests.profdata" --show-line-counts-or-regions "$@" --sources core/src \
	>"$out/lines.txt" 2>"$out/llvm.log"
"llvm-cov-$llvm" report --instr-profile="$out/tests.profdata" "$@" --sources core/src 2>>"$out/llvm.log" |
	awk 'NF >= 10 && $8 ~ /^[0-9]+$/ && ($1 ~ /\.rs$/ || $1 == "TOTAL") { printf "%-36s %6d lines %9s\n", $1, $8, $10 }'
echo "line by line: $out/lines.txt"
