#!/bin/sh
# Counts the instructions of a message, by callgrind, here and at another commit: `instructions.sh [COMMIT]`. What a message
# does not use may cost it 3 % at most.
set -eu
. "$(dirname "$0")/lib.sh"

commit=${1:-1a8253b^}
need valgrind valgrind || die "valgrind counts the instructions"
scratch=$(mktemp -d)
trap 'git worktree remove --force "$scratch/then" 2>/dev/null; rm -rf "$scratch"' EXIT
git worktree add --quiet --detach "$scratch/then" "$commit"

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

program base "$scratch/then/core" 'default-features = false'
program lean "$PWD/core" 'default-features = false'
program full "$PWD/core" 'default-features = true'
printf '%-10s %14s %14s %14s %8s %8s\n' work "$commit" lean default lean default
for work in enqueue cycle keyed; do
	for name in base lean full; do
		few=$(count "$name" "$work" 2000)
		many=$(count "$name" "$work" 12000)
		eval "$name=$(((many - few) / 10000))"
	done
	printf '%-10s %14d %14d %14d %7s%% %7s%%\n' "$work" "$base" "$lean" "$full" \
		"$(awk "BEGIN { printf \"%.1f\", ($lean / $base - 1) * 100 }")" \
		"$(awk "BEGIN { printf \"%.1f\", ($full / $base - 1) * 100 }")"
done
