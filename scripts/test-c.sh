#!/bin/sh
# Compiles and runs every program in tests/c/, and the example, against the header and the shared library, each in an
# empty directory.
set -eu
. "$(dirname "$0")/lib.sh"

out="$target/c"
mkdir -p "$out"
ran=0
for source in tests/c/*.c examples/orders/orders.c; do
	[ -e "$source" ] || continue
	name=$(basename "$source" .c)
	cc -std=c11 -O1 -g -Wall -Wextra -Wpedantic -Werror -Iinclude "$source" -o "$out/$name" \
		-L"$target/release" -Wl,-rpath,"$target/release" -lmq -pthread
	rm -rf "$out/$name.dir"
	mkdir "$out/$name.dir"
	(cd "$out/$name.dir" && "$out/$name") >"$out/$name.log" 2>&1 || { cat "$out/$name.log"; die "$source failed"; }
	tail -n 1 "$out/$name.log" | sed "s|^|$name: |"
	rm -rf "$out/$name.dir"
	ran=$((ran + 1))
done
[ "$ran" -gt 0 ] || die "there is no C program in tests/c"
