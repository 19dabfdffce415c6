#!/bin/sh
# The demo: real webhooks through a C and a Rust program over one directory, with SIGKILL on the way.
set -eu
. "$(dirname "$0")/lib.sh"

package=@octokit/webhooks-examples@7.6.1
demo="$target/demo"
source=examples/webhooks
broker="$demo/broker"
began=$(date +%s)

# Runs the C program and shows what it prints; kills it, if a line is named, as soon as that line is printed.
ingest() {
	rm -f "$demo/pipe"
	mkfifo "$demo/pipe"
	"$demo/ingest" "$broker" "$demo/index.tsv" >"$demo/pipe" &
	pid=$!
	while read -r line; do
		echo "$line"
		case "$line" in
		"${1:-nothing}"*) kill -9 "$pid" ;;
		esac
	done <"$demo/pipe"
	wait "$pid"
}

killed_at() {
	status=0
	ingest "$1" || status=$?
	[ "$status" = 137 ] || die "the program should have been killed, but ended with status $status"
	echo "        kill -9, with handlers at work"
}

say "1  the payloads: $package"
if [ ! -s "$demo/package/api.github.com/index.json" ]; then
	need npm npm || die "npm is needed to fetch the payloads: install Node"
	mkdir -p "$demo/fetch"
	rm -f "$demo"/fetch/*.tgz
	(cd "$demo/fetch" && npm pack --silent "$package" >/dev/null) || die "npm could not fetch $package"
	tar -xzf "$demo"/fetch/*.tgz -C "$demo"
fi
need python3 python3 || die "Python 3 is needed to read the payloads"
python3 $source/prepare.py "$demo/package/api.github.com/index.json" "$demo"

say "2  the programs: ingest.c and ledger.rs"
cc -std=c11 -O2 -Wall -Wextra -Iinclude $source/ingest.c -o "$demo/ingest" \
	-L"$target/release" -Wl,-rpath,"$target/release" -lmq -pthread
cargo build --release --quiet --example ledger
rm -rf "$broker"

say "3  C: webhooks in, routed to events; killed twice"
killed_at "ingest: sent 120 "
killed_at "ingest: sent 240 "
ingest

say "4  Rust: events into ledger lines, with failures and a replay"
"$target/release/examples/ledger" "$broker" "$demo/ledger.tsv"

say "5  the ledger against the dataset"
python3 $source/check.py "$demo/expected.tsv" "$demo/ledger.tsv"
echo "    in $(($(date +%s) - began)) s; the directory is $broker"
