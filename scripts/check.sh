#!/bin/sh
# What a machine can see without running a test: formatting, lints, documentation, and the header.
set -eu
. "$(dirname "$0")/lib.sh"

say "formatting"
if component fmt rustfmt; then cargo fmt --all --check; else skip "formatting: rustfmt is not installed"; fi

say "lints"
if component clippy clippy; then
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
else
	skip "lints: clippy is not installed"
fi

say "documentation"
RUSTDOCFLAGS="--deny warnings --document-private-items" cargo doc --workspace --no-deps --quiet

say "the header is what the code declares"
cargo test --package libmq-ffi --quiet header
