#!/bin/sh
# Compiles and runs every program in tests/c/, and the examples in C and C++, against the header and the shared library,
# each in an empty directory.
set -eu
. "$(dirname "$0")/lib.sh"

out="$target/c"
mkdir -p "$out"
ran=0

# run SOURCE COMPILER FLAGS...: compiles a program and runs it in an empty directory.
run() {
	source=$1
	shift
	name=$(basename "$source" | tr . -)
	"$@" -O1 -g -Wall -Wextra -Wpedantic -Werror -Iinclude "$source" -o "$out/$name" \
		-L"$target/release" -Wl,-rpath,"$target/release" -lmq -pthread
	rm -rf "$out/$name.dir"
	mkdir -p "$out/$name.dir/target"
	(cd "$out/$name.dir" && "$out/$name") >"$out/$name.log" 2>&1 || { cat "$out/$name.log"; die "$source failed"; }
	tail -n 1 "$out/$name.log" | sed "s|^|$name: |"
	rm -rf "$out/$name.dir"
	ran=$((ran + 1))
}

for source in tests/c/*.c examples/orders/orders.c; do
	[ ! -e "$source" ] || run "$source" cc -std=c11
done
run examples/orders/orders.cpp c++ -std=c++17
[ "$ran" -gt 1 ] || die "there is no C program in tests/c"
