#!/bin/sh
# Builds what is shipped: the library for C, shared and static, and the packages for Python and Node. `build.sh c` builds
# the library alone.
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed"
cargo build --release --package libmq-ffi
# Programs linked with it ask for the library by the name of its interface.
[ "$(readlink "$target/release/libmq.so.0" || :)" = libmq.so ] || ln -sf libmq.so "$target/release/libmq.so.0"
ls -l "$target/release/libmq.so" "$target/release/libmq.a" | awk '{ printf "%9d bytes  %s\n", $5, $NF }'
# What a program carries, without what debuggers read of it, has a limit.
strip -o "$target/stripped.so" "$target/release/libmq.so"
bytes=$(wc -c <"$target/stripped.so")
[ "$bytes" -le 2500000 ] || die "libmq.so is $bytes bytes without its symbols, but at most 2500000"
rm "$target/stripped.so"
[ "${1:-all}" != c ] || exit 0
scripts/build-python.sh
scripts/build-node.sh
