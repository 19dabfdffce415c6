#!/bin/sh
# Takes what `make bench-peers` has left into the documentation: tables, the figures of each round, and plots. What
# docs/performance.md says of them in words is to be read again then.
set -eu
. "$(dirname "$0")/lib.sh"

[ -s "$target/bench/latest.json" ] || die "there are no figures: make bench-peers first"
cp "$target/bench/latest.md" docs/performance/figures.md
cp "$target/bench/latest.json" docs/performance/figures.json
cp "$target"/bench/*.svg docs/performance/
