#!/bin/sh
# True when cargo-nextest is there, if need be after installing it once.
set -eu
. "$(dirname "$0")/lib.sh"

cargo nextest --version >/dev/null 2>&1 && exit 0
echo "installing cargo-nextest, which takes some minutes, once"
# Its own target directory: it shares no crate build with ours, and is not kept.
CARGO_TARGET_DIR="$target/nextest" cargo install --locked --quiet cargo-nextest >"$target/install.log" 2>&1
rm -rf "$target/nextest"
cargo nextest --version >/dev/null 2>&1
