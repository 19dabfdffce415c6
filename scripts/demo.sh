#!/bin/sh
# The demo: real webhooks through a Node, a Python and a C program over one directory, with SIGKILL on the way.
set -eu
. "$(dirname "$0")/lib.sh"

package=@octokit/webhooks-examples@7.6.1
demo="$target/demo"
source=examples/webhooks
broker="$demo/broker"
began=$(date +%s)

# Runs the Node program and shows what it prints; kills it, if a line is named, as soon as that line is printed.
ingest() {
	rm -f "$demo/pipe"
	mkfifo "$demo/pipe"
	node $source/ingest.mjs "$broker" "$demo/index.tsv" >"$demo/pipe" &
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
[ -x .venv/bin/python ] || die "Python 3.11 or later is needed for the second program"
[ -e bindings/node/libmq.node ] || die "Node 20 or later is needed for the first program"
.venv/bin/python $source/prepare.py "$demo/package/api.github.com/index.json" "$demo"

say "2  the programs: ingest.mjs, events.py, drain.c"
cc -std=c11 -O2 -Wall -Wextra -Iinclude $source/drain.c -o "$demo/drain" \
	-L"$target/release" -Wl,-rpath,"$target/release" -lmq
rm -rf "$broker"

say "3  Node: webhooks in, signatures verified, routed to events; killed twice"
killed_at "ingest: sent 120 "
killed_at "ingest: sent 240 "
ingest

say "4  Python: events into ledger lines, with failures, dead letters and a replay"
.venv/bin/python $source/events.py "$broker"

say "5  C: the ledger drained"
"$demo/drain" "$broker" "$demo/ledger.tsv"

say "6  the ledger against the dataset"
.venv/bin/python $source/check.py "$demo/expected.tsv" "$demo/ledger.tsv"
echo "    in $(($(date +%s) - began)) s; the directory is $broker"
