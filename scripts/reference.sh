#!/bin/sh
# Makes the reference of the C library from its headers: target/reference/html. A name without a word, a reference that leads
# nowhere, anything that doxygen has to say fails it.
set -eu
. "$(dirname "$0")/lib.sh"

if ! need doxygen doxygen; then
	skip "the reference of the C library: doxygen cannot be installed"
	exit 0
fi
out="$target/reference"
rm -rf "$out"
mkdir -p "$out"
{ cat docs/Doxyfile; printf 'OUTPUT_DIRECTORY = "%s"\n' "$out"; } >"$out/Doxyfile"
doxygen "$out/Doxyfile" >"$out/log" 2>&1 || { cat "$out/log"; die "doxygen has something to say"; }
for name in libmq_broker_open libmq_message enqueue_async; do
	grep -rqs "$name" "$out/html" || die "the reference knows no $name"
done
echo "the reference: $out/html/index.html"
