#!/bin/sh
# Runs libmq beside the bounds of the machine and SQLite, in Rust, Python and Node, in turns, and prints medians beside what is
# promised; then how well time is kept. `bench.sh peers [ONLY]` fetches what peers and servers can be had and runs those, too;
# who is not there is left out, and said to be. Figures are left as JSON and as plots in target/bench. `bench.sh own [ONLY]` is
# the first; ONLY picks a category, or contests by a part of their name, and leaves out how well time is kept.
# LIBMQ_BENCH_ROUNDS sets the rounds (5).
set -eu
. "$(dirname "$0")/lib.sh"

need cc gcc || die "a C compiler is needed for SQLite"
bench="$target/bench"
mkdir -p "$bench"
cargo build --release --package libmq-bench --bin peers --bin player
export LIBMQ_BENCH_ONLY="${2:-${LIBMQ_BENCH_ONLY:-}}"
# What is asked for, before anything is fetched for it.
"$target/release/peers" list

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
	echo "fetching $*, which takes some minutes, once"
	(cd "$fetched" && npm install --silent --no-audit --no-fund "$@" >"$target/install.log" 2>&1) || skip "npm could not fetch $*"
}
if [ -e bindings/node/libmq.node ] && need npm npm; then
	export LIBMQ_BENCH_NODE="$(command -v node)" LIBMQ_BENCH_NODE_PEERS="$fetched"
	npm_packages better-sqlite3@12.11.1 fastq@1.20.3
else
	skip "contests in Node: the package is not built, or npm is not there"
fi

if [ "${1:-}" = peers ]; then
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
	[ -z "${LIBMQ_BENCH_NODE:-}" ] || npm_packages plainjob@0.0.14 better-queue@3.8.12 bullmq@6.7.0 ioredis@5.11.1
fi
export LIBMQ_BENCH_PYTHON="$python"

# locked LOCKFILE CRATE...: which versions were built.
locked() {
	lockfile=$1
	shift
	for crate; do
		awk -v crate="$crate" '$1 == "name" && $3 == "\"" crate "\"" { getline; gsub("\"", "", $3); print crate, $3 }' "$lockfile"
	done
}
# What the figures are of, a line each; of whom is not there, nothing.
{
	awk -F ': *' '/^model name/ { print "processor: " $2; exit }' /proc/cpuinfo
	echo "cores: $(nproc); memory: $(awk '/^MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo)"
	echo "kernel: $(uname -sr); file system: $(df --output=fstype "$bench" | tail -1)"
	echo "libmq: $(git describe --always --dirty 2>/dev/null || echo 'of no commit'); $(rustc --version)"
	echo "Rust: $(locked Cargo.lock rusqlite crossbeam-queue crossbeam-channel | paste -sd, | sed 's/,/, /g')"
	if [ "${1:-}" = peers ]; then
		echo "Rust, peers: $(locked benches/rust/Cargo.lock fjall redb yaque effectum async-nats redis | paste -sd, | sed 's/,/, /g')"
		echo "servers: $(dpkg-query --show --showformat '${Package} ${Version}, ' redis-server beanstalkd nats-server 2>/dev/null | sed 's/, $//')"
	fi
	[ -z "$python" ] || "$python" - <<-'EOF'
		import importlib.metadata, platform, sqlite3
		packages = {"huey", "litequeue", "persist-queue", "honker"}
		found = sorted((d.name, d.version) for d in importlib.metadata.distributions() if d.name in packages)
		print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}", *(" ".join(one) for one in found), sep=", ")
	EOF
	[ -z "${LIBMQ_BENCH_NODE:-}" ] || (cd "$fetched" && node -e '
		const { dependencies } = JSON.parse(fs.readFileSync("package.json"));
		const versions = Object.keys(dependencies).map((name) => `${name} ${require(`./node_modules/${name}/package.json`).version}`);
		console.log([`Node ${process.versions.node}`, ...versions].join(", "));')
} >"$bench/machine.txt"

"$target/release/peers" "$bench"
[ "${1:-}" != peers ] && [ -z "$LIBMQ_BENCH_ONLY" ] || exit 0

# Last: where a bound is not kept, it says so by its status.
cargo build --release --package libmq-bench --bin time
"$target/release/time"
