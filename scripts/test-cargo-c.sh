#!/bin/sh
# Installs the C library as a distribution would by cargo-c, which has its own mind about names and places, and builds and runs
# the outside project against that. cargo-c itself is fetched and built when it is not there, which takes ten minutes.
set -eu
. "$(dirname "$0")/lib.sh"

# The newest that asks for no later Rust than this house does.
cargo_c=0.10.24+cargo-0.98.0
own="$target/cargo-c"
have cargo-cinstall || PATH="$own/bin:$PATH"
have cargo-cinstall ||
	cargo install --quiet --locked --root "$own" --target-dir "$own/build" "cargo-c@$cargo_c" ||
	die "cargo-c $cargo_c cannot be built"
need pkg-config pkg-config || die "pkg-config is needed"

stage="$own/stage"
rm -rf "$stage"
mkdir -p "$stage/run"
cargo cinstall --locked --manifest-path ffi/Cargo.toml --release --target-dir "$own/libmq" \
	--prefix=/usr/local --libdir=/usr/local/lib --destdir="$stage" >"$own/log" 2>&1 || { cat "$own/log"; die "cargo-c failed"; }
export PKG_CONFIG_PATH="$stage/usr/local/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$stage"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
[ "$(pkg-config --modversion libmq)" = "$version" ] || die "libmq.pc is of another version than $version"
readelf -d "$stage/usr/local/lib/libmq.so" | grep -q "SONAME.*\[libmq.so.${version%%.*}\]" || die "libmq.so has another SONAME"

# ran LANGUAGE COMPILER SOURCE: what is built against what is installed there has to run.
ran() {
	# Flags are words.
	# shellcheck disable=SC2046
	$2 "tests/install/$3" $(pkg-config --cflags --libs libmq) -o "$stage/app"
	answer=$(cd "$stage/run" && LD_LIBRARY_PATH="$stage/usr/local/lib" "$stage/app") || die "the program in $1 failed"
	[ "$answer" = "$1 $version $version" ] || die "the program in $1 said '$answer'"
	echo "installed by cargo-c: $answer"
}

ran C cc app.c
ran C++ "c++ -std=c++17" app.cpp
rm -rf "$stage"
