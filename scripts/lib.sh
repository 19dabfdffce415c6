# Shared by the scripts: where things are, how they speak, and how a missing tool is had. Sourced, never run.

cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target"
target=$(cd "$target" && pwd)
export CARGO_TARGET_DIR="$target"

# What could not be run here, one reason a line. Tests that skip append to it too.
export LIBMQ_SKIPS="${LIBMQ_SKIPS:-$target/skips}"

say() {
	printf '\n== %s\n' "$*"
}

die() {
	printf 'error: %s\n' "$*" >&2
	exit 1
}

skip() {
	printf 'SKIPPED: %s\n' "$*"
	printf '%s\n' "$*" >>"$LIBMQ_SKIPS"
}

have() {
	command -v "$1" >/dev/null 2>&1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# need COMMAND PACKAGE: true when the command is there, if need be after installing the system's package for it.
need() {
	have "$1" && return 0
	have apt-get || return 1
	printf 'installing %s, which is missing\n' "$2"
	{ as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$2"; } \
		>"$target/install.log" 2>&1 || return 1
	have "$1"
}

# component SUBCOMMAND NAME: true when cargo has the subcommand, if need be after adding the toolchain's component.
component() {
	cargo "$1" --version >/dev/null 2>&1 && return 0
	have rustup && rustup component add "$2" >"$target/install.log" 2>&1 && cargo "$1" --version >/dev/null 2>&1
}
