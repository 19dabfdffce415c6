#!/bin/sh
# Under AddressSanitizer: the core's tests, which reach all of its unsafe parts, those of the C library, and every C program
# against a library that is built so. It is a flag of the compiler that stable does not have, which is told to forget that.
set -eu
. "$(dirname "$0")/lib.sh"

plain=$target
triple=$(rustc -vV | sed -n 's/^host: //p')
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" CARGO_TARGET_DIR="$plain/asan"
# What has too little memory on purpose is told so, and does not end there.
export ASAN_OPTIONS="allocator_may_return_null=1${ASAN_OPTIONS:+ $ASAN_OPTIONS}"

# And so are the C programs of tests.
export CFLAGS="-fsanitize=address"

say "the core and the C library"
cargo test --no-fail-fast --target "$triple" --package libmq --package libmq-ffi

say "C programs"
# The library brings no runtime of its own: the program's is there before it.
cargo build --target "$triple" --package libmq-ffi
ln -sf libmq.so "$plain/asan/$triple/debug/libmq.so.0"
out="$plain/asan/c"
mkdir -p "$out"
for source in tests/c/*.c examples/orders/orders.c; do
	name=$(basename "$source" .c)
	cc -std=c11 -O1 -g -fsanitize=address -Iinclude "$source" -o "$out/$name" -L"$plain/asan/$triple/debug" \
		-Wl,-rpath,"$plain/asan/$triple/debug" -lmq -pthread
	rm -rf "$out/$name.dir"
	mkdir -p "$out/$name.dir/target"
	(cd "$out/$name.dir" && "$out/$name") >"$out/$name.log" 2>&1 || { cat "$out/$name.log"; die "$source failed"; }
	tail -n 1 "$out/$name.log" | sed "s|^|$name: |"
	rm -rf "$out/$name.dir"
done
