#!/bin/sh
# Changes the code in one place after the other and sees whether a test notices: `mutants.sh [FILE...]`, of the codecs,
# recovery, leases, keys, tokens and what a snapshot may free without one. Fails on a change that nobody notices and
# docs/mutants.md does not list, and where fewer than 95 of 100 are noticed.
set -eu
. "$(dirname "$0")/lib.sh"

cargo mutants --version >/dev/null 2>&1 || {
	echo "installing cargo-mutants, which takes some minutes, once"
	CARGO_TARGET_DIR="$target/mutants/build" cargo install --locked --quiet cargo-mutants >"$target/install.log" 2>&1 ||
		die "cargo-mutants cannot be installed"
	rm -rf "$target/mutants/build"
}

# Beside each file the tests that hold it: nobody waits for the others.
files='
codec codec::
dispatch/lease dispatch::lease
buffer/head buffer::head
buffer/inhabitants buffer::inhabitants
buffer/kept buffer::kept
buffer/keys buffer::
buffer/token buffer::token
journal/record journal::record
journal/segment journal:: broker::open
journal/snapshot journal:: buffer::snapshot broker::open
journal/recovery journal::recovery journal::log
journal/walk journal::walk journal::recovery
journal/window journal::window journal::walk
journal/stretch journal::stretch journal::window
journal/reader journal::reader journal::window
'
# Beside what cargo builds under the profile's name.
results="$target/changes"
rm -rf "$results"
mkdir -p "$results"
for wanted in ${*:-$(echo "$files" | sed 's/ .*//')}; do
	tests=$(echo "$files" | sed -n "s|^$wanted ||p")
	[ "$tests" ] || die "$wanted is no file that is changed"
	say "$wanted"
	out="$results/$(echo "$wanted" | tr / -)"
	code=0
	# shellcheck disable=SC2086
	cargo mutants --package libmq --output "$out" --minimum-test-timeout 20 --no-shuffle \
		--file "core/src/$wanted.rs" -- -- $tests || code=$?
	# That some are missed, or that tests do not end, is looked at below.
	case $code in 0 | 2 | 3) ;; *) die "$wanted could not be changed" ;; esac
	cat "$out/mutants.out/missed.txt" >>"$results/missed"
	cat "$out/mutants.out/caught.txt" "$out/mutants.out/timeout.txt" >>"$results/caught"
done

# A line moves and its words stay: each is listed by file and words, as often as it is missed.
sed 's|^core/src/\(.*\)\.rs:[0-9]*:[0-9]*: |\1: |' "$results/missed" | sort | uniq -c | sed 's/^ *//' >"$results/found"
unlisted=0
while read -r count what; do
	# In a table a bar of a name's own is written so.
	cell=$(echo "$what" | sed 's/|/\\|/g')
	listed=$(grep -cF "| \`$cell\` |" docs/mutants.md || :)
	[ "$listed" -ge "$count" ] || { echo "nobody notices ($count, listed $listed): $what"; unlisted=$((unlisted + 1)); }
done <"$results/found"
caught=$(wc -l <"$results/caught") missed=$(wc -l <"$results/missed")
say "$caught of $((caught + missed)) changes are noticed, $missed are not, $unlisted of those are not listed"
[ "$unlisted" = 0 ] || die "write a test that notices, or say in docs/mutants.md why there can be none"
[ "$((caught * 100))" -ge "$(((caught + missed) * 95))" ] || die "fewer than 95 of 100 are noticed"
