#!/bin/sh
# Things that go wrong, by their names: `chaos.sh` plays all, `chaos.sh list` says what there is, and `chaos.sh NAME` plays
# those in whose name that is. Each prints a line with what it did and found. LIBMQ_CHAOS_ROUNDS says how many workers are
# killed in each of those that have some.
set -eu
. "$(dirname "$0")/lib.sh"

export LIBMQ_CHAOS_ROUNDS="${LIBMQ_CHAOS_ROUNDS:-200}"
only=$(printf '%s' "${1:-}" | tr ' -' '__')
log="$target/chaos.log"
played=0

# names SUITE FILTER: the tests of a suite that are chaos, one a line.
names() {
	cargo test --quiet --release --test "$1" -- --list --format terse "$2" 2>/dev/null |
		sed -n 's/: test$//p'
}

# play SUITE FILTER
play() {
	found=$(names "$1" "$2" | grep -e "${only:-.}" || :)
	[ -n "$found" ] || return 0
	# shellcheck disable=SC2086
	cargo test --quiet --release --test "$1" -- --exact --nocapture --test-threads 2 $found \
		>"$log" 2>&1 || { cat "$log"; die "chaos: something did not hold"; }
	grep -E '^(chaos [a-z-]+|[a-z]+-[a-z-]+|SKIPPED): ' "$log" || { cat "$log"; die "chaos: nothing was played"; }
	played=$((played + $(printf '%s\n' "$found" | wc -l)))
}

if [ "$only" = list ]; then
	names kill chaos::
	names host ::
	exit 0
fi
say "chaos${1:+: $1}"
play kill chaos::
play host ::
[ "$played" -gt 0 ] || die "no chaos is called $1; \`make chaos ONLY=list\` says what there is"
say "all held: $((played)) played"
