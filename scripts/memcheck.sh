#!/bin/sh
# Every program in C and C++ under valgrind's memcheck: no access to what is not theirs, no decision by what nobody wrote, and
# nothing that is definitely lost. A forked child may leave what its parent had.
set -eu
. "$(dirname "$0")/lib.sh"
. scripts/c-programs.sh

if ! need valgrind valgrind; then
	skip "C programs under valgrind: it cannot be installed"
	exit 0
fi
[ -f "$target/release/libmq.so" ] || scripts/build.sh c

check() {
	compiled "$1"
	run_program "$1" "$program" "${2:-}" valgrind --quiet --error-exitcode=99 --leak-check=full \
		--show-leak-kinds=definite --errors-for-leak-kinds=definite --child-silent-after-fork=yes --fair-sched=yes
}

each_program check "$target/c"
