#!/bin/sh
# What analysers see in C and C++ without running it: gcc's in the programs in C, clang-tidy in the examples and in the header
# for C++.
set -eu
. "$(dirname "$0")/lib.sh"
. scripts/c-programs.sh

# That snprintf is not snprintf_s, which the C library has not, and that two arguments have the same type, is nothing to act on.
# To look before each `->` of what a receive answered is for programs, not for what shows them how.
checks='-*,clang-analyzer-*,bugprone-*,performance-*,portability-*'
checks="$checks,-clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling"
checks="$checks,-bugprone-easily-swappable-parameters,-bugprone-unchecked-optional-access"

if need gcc gcc && gcc -fanalyzer -E - </dev/null >/dev/null 2>&1; then
	for source in tests/c/*.c examples/orders/orders.c examples/c/*.c; do
		# shellcheck disable=SC2086
		gcc $c_flags -fanalyzer -O1 -Iinclude -c "$source" -o /dev/null
	done
	echo "gcc -fanalyzer: nothing to say"
else
	skip "gcc's analyser: this gcc has none"
fi

if need clang-tidy clang-tidy; then
	# It counts what it has suppressed on its error output, where it also says why it failed.
	tidy() {
		clang-tidy --quiet --warnings-as-errors='*' --checks="$checks" --header-filter='libmq\.hpp$' "$@" 2>"$target/clang-tidy.log" ||
			{ cat "$target/clang-tidy.log"; die "clang-tidy has something to say"; }
	}
	tidy examples/orders/orders.c examples/c/pull.c examples/c/async.c -- -std=c11 -Iinclude
	tidy examples/orders/orders.cpp -- -std=c++17 -Iinclude
	echo "clang-tidy: nothing to say"
else
	skip "clang-tidy: it cannot be installed"
fi
