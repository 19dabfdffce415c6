#!/bin/sh
# Under AddressSanitizer: the core's tests, which reach all of its unsafe parts, those of the C library, and every program in C
# and C++ against a library that is built so. It is a flag of the compiler that stable does not have, which is told to forget that.
set -eu
. "$(dirname "$0")/lib.sh"
. scripts/c-programs.sh

plain=$target
triple=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="$plain/asan"
# What has too little memory on purpose is told so, and does not end there.
export ASAN_OPTIONS="allocator_may_return_null=1${ASAN_OPTIONS:+ $ASAN_OPTIONS}"

# So are the C programs of tests.
export CFLAGS="-fsanitize=address"

# What could not be run under it is no part of what `make test` has skipped.
mkdir -p "$CARGO_TARGET_DIR"
export LIBMQ_SKIPS="$CARGO_TARGET_DIR/skips"
: >"$LIBMQ_SKIPS"

say "the core and the C library"
cargo test --no-fail-fast --target "$triple" --package libmq --package libmq-ffi

say "programs in C and C++"
# The library brings no runtime of its own: the program's is there before it.
cargo build --target "$triple" --package libmq-ffi
ln -sf libmq.so "$plain/asan/$triple/debug/libmq.so.0"
out="$plain/asan/c"
mkdir -p "$out"
need c++ g++ || die "a C++ compiler is needed"

run() {
	compiler=cc flags=-std=c11
	is_cpp "$1" && compiler=c++ flags=-std=c++17
	name=$(basename "$1" | tr . -)
	$compiler "$flags" -O1 -g -fsanitize=address -Iinclude "$1" -o "$out/$name" -L"$plain/asan/$triple/debug" \
		-Wl,-rpath,"$plain/asan/$triple/debug" -lmq -pthread
	run_program "$1" "$out/$name" "${2:-}"
}

each_program run "$out"

sed 's/^/SKIPPED: /' "$LIBMQ_SKIPS"
say "nothing found, $(($(wc -l <"$LIBMQ_SKIPS"))) skipped"
