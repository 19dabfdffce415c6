#!/bin/sh
# Counts the instructions of a message, by callgrind, here and at another commit: `instructions.sh [COMMIT]`. What a message
# does not use may cost it 3 % at most. Then the same from C against Rust: an enqueue may cost 5 % more, a handler's message
# 10 %. `instructions.sh c` counts that alone.
set -eu
. "$(dirname "$0")/lib.sh"

commit=${1:-1a8253b^}
[ "$commit" != c ] || commit=
need valgrind valgrind || die "valgrind counts the instructions"
scratch=$(mktemp -d)
trap 'git worktree remove --force "$scratch/then" 2>/dev/null || :; rm -rf "$scratch"' EXIT
[ -z "$commit" ] || git worktree add --quiet --detach "$scratch/then" "$commit"

# program NAME CORE FEATURES: builds the program against a core, into $scratch/NAME.bin.
program() {
	mkdir -p "$scratch/$1"
	cat >"$scratch/$1/Cargo.toml" <<-TOML
		[package]
		name = "instructions"
		edition = "2024"

		[[bin]]
		name = "instructions"
		path = "$PWD/benches/instructions/main.rs"

		[dependencies]
		libmq = { path = "$2", $3 }

		[profile.release]
		debug = "line-tables-only"

		[workspace]
	TOML
	cargo build --quiet --release --manifest-path "$scratch/$1/Cargo.toml" --target-dir "$target/instructions"
	cp "$target/instructions/release/instructions" "$scratch/$1.bin"
}

# count NAME WORK COUNT
count() {
	valgrind --tool=callgrind --callgrind-out-file=/dev/null "$scratch/$1.bin" "$2" "$3" 2>&1 |
		sed -n 's/.*Collected : *//p'
}

# per_message NAME WORK: what one more message costs.
per_message() {
	few=$(count "$1" "$2" 2000)
	many=$(count "$1" "$2" 12000)
	echo $(((many - few) / 10000))
}

# more THIS THAN: in per cent.
more() {
	awk "BEGIN { printf \"%.1f\", ($1 / $2 - 1) * 100 }"
}

program lean "$PWD/core" 'default-features = false'
if [ -n "$commit" ]; then
	program base "$scratch/then/core" 'default-features = false'
	program full "$PWD/core" 'default-features = true'
	printf '%-10s %14s %14s %14s %8s %8s\n' work "$commit" lean default lean default
	for work in enqueue cycle keyed; do
		base=$(per_message base "$work") lean=$(per_message lean "$work") full=$(per_message full "$work")
		printf '%-10s %14d %14d %14d %7s%% %7s%%\n' "$work" "$base" "$lean" "$full" "$(more "$lean" "$base")" \
			"$(more "$full" "$base")"
	done
fi

cargo build --quiet --release --package libmq-ffi
[ -e "$target/release/libmq.so.0" ] || ln -s libmq.so "$target/release/libmq.so.0"
cc -std=c11 -O2 -Wall -Wextra -Werror -Iinclude benches/instructions/main.c -o "$scratch/c.bin" \
	-L"$target/release" -Wl,-rpath,"$target/release" -lmq
printf '%-10s %14s %14s %8s\n' work Rust C more
for work in enqueue cycle handle; do
	lean=$(per_message lean "$work") c=$(per_message c "$work")
	printf '%-10s %14d %14d %7s%%\n' "$work" "$lean" "$c" "$(more "$c" "$lean")"
	[ $((c * 100)) -le $((lean * 110)) ] || die "$work costs more than 10 % more from C"
	[ "$work" != enqueue ] || [ $((c * 100)) -le $((lean * 105)) ] || die "an enqueue costs more than 5 % more from C"
done
