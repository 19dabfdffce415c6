#!/bin/sh
# Looks for inputs that break something, for `FUZZ_SECONDS` (60) each: `fuzz.sh [TARGET...]`, all without one. It begins with the
# corpus in fuzz/corpus and keeps what it finds below target/; what broke something is told, and belongs into the corpus.
set -eu
. "$(dirname "$0")/lib.sh"

seconds=${FUZZ_SECONDS:-60}
need c++ g++ || die "a compiler for C++ is needed for libFuzzer"
host=$(rustc -vV | sed -n 's/^host: //p')

# Coverage as libFuzzer reads it, which the stable compiler makes if it is told to. With a target named, build scripts and
# macros are spared.
export RUSTFLAGS="--cfg fuzzing -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
	-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
	-C llvm-args=-sanitizer-coverage-trace-compares"
say "building with coverage"
cargo build --quiet --profile fuzz --package libmq-fuzz --bin fuzz --features engine --target "$host" \
	--target-dir "$target/fuzz"

[ $# -gt 0 ] || set -- record segment snapshot directory calls
for name; do
	say "$name, for $seconds s"
	found="$target/fuzz/corpus/$name"
	mkdir -p "$found"
	log="$target/fuzz/$name.log"
	LIBMQ_FUZZ=$name "$target/fuzz/$host/fuzz/fuzz" "$found" "fuzz/corpus/$name" -max_total_time="$seconds" -timeout=20 \
		-max_len=8192 -rss_limit_mb=2048 -artifact_prefix="$target/fuzz/$name-" -print_final_stats=1 >"$log" 2>&1 ||
		{ tail -n 40 "$log"; die "$name was broken; see $log"; }
	first=$(sed -n 's/.*INITED cov: *\([0-9]*\).*/\1/p' "$log")
	last=$(sed -n 's/.*cov: *\([0-9]*\).*/\1/p' "$log" | tail -n 1)
	runs=$(sed -n 's/stat::number_of_executed_units: *//p' "$log")
	echo "$runs runs, coverage from $first to $last, $(ls "$found" | wc -l) inputs found that reach something new"
done
