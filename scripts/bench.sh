#!/bin/sh
# Runs libmq beside the bounds of the machine and SQLite, in Rust, Python and Node, in turns, and prints medians beside what is
# promised; then how well time is kept. `bench.sh peers [ONLY]` fetches what peers and servers can be had and runs those, too;
# who is not there is left out, and said to be. Figures are left as JSON and as plots in target/bench.
# LIBMQ_BENCH_ROUNDS sets the rounds (5), LIBMQ_BENCH_ONLY picks a category, or contests by a part of their name.
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed for SQLite"
bench="$target/bench"
mkdir -p "$bench"
cargo build --release --package libmq-bench --bin peers --bin player

if .venv/bin/python -c 'import libmq' 2>/dev/null; then
	python=$PWD/.venv/bin/python
else
	skip "contests in Python: make build has not left the package in .venv"
	python=
fi
fetched="$bench/node"
mkdir -p "$fetched"
[ -s "$fetched/package.json" ] || echo '{ "private": true }' >"$fetched/package.json"
# npm PACKAGE...: fetches them beside what is built.
npm_packages() {
	(cd "$fetched" && npm install --silent --no-audit --no-fund "$@" >"$target/install.log" 2>&1) || skip "npm could not fetch $*"
}
if [ -e bindings/node/libmq.node ] && need npm npm; then
	export LIBMQ_BENCH_NODE="$(command -v node)" LIBMQ_BENCH_NODE_PEERS="$fetched"
	npm_packages better-sqlite3@12 fastq@1
else
	skip "contests in Node: the package is not built, or npm is not there"
fi

if [ "${1:-}" = peers ]; then
	export LIBMQ_BENCH_ONLY="${2:-}"
	# In a place of their own: they bring another SQLite, and nobody else is to wait for them.
	if cargo build --release --locked --manifest-path benches/rust/Cargo.toml --target-dir "$target/others"; then
		export LIBMQ_BENCH_RUST="$target/others/release/others"
	else
		skip "peers in Rust, and servers: they cannot be built"
	fi
	for server in redis-server beanstalkd nats-server; do
		need "$server" "$server" || skip "$server: it cannot be installed"
	done
	if [ "$python" ]; then
		python3 -m venv "$bench/python"
		"$bench/python/bin/python" -m pip install --quiet --disable-pip-version-check \
			huey==3.5.4 litequeue==0.9 persist-queue==1.1.0 honker==0.2.4 || skip "pip could not fetch peers in Python"
		# libmq stays where it was built.
		own=$("$python" -c 'import libmq, os; print(os.path.dirname(os.path.dirname(libmq.__file__)))')
		for packages in "$bench"/python/lib/python*/site-packages; do echo "$own" >"$packages/libmq.pth"; done
		python="$bench/python/bin/python"
	fi
	[ -z "${LIBMQ_BENCH_NODE:-}" ] || npm_packages plainjob@0.0.14 better-queue@3 bullmq@6 ioredis@5
fi
export LIBMQ_BENCH_PYTHON="$python"
"$target/release/peers" "$bench"
[ "${1:-}" != peers ] || exit 0

# Last: where a bound is not kept, it says so by its status.
cargo build --release --package libmq-bench --bin time
"$target/release/time"
