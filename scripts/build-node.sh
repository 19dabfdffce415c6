#!/bin/sh
# Builds the package for Node: leaves bindings/node importable.
set -eu
. "$(dirname "$0")/lib.sh"

node_is_there() {
	need node nodejs && node -e 'process.exit(process.versions.node.split(".")[0] >= 20 ? 0 : 1)'
}

node_is_there || { skip "Node: version 20 or newer is not there"; exit 0; }
cargo build --release --package libmq-node
# Under another name first: a process that has the old one loaded keeps it.
cp "$target/release/liblibmq_node.so" bindings/node/libmq.node.new
# What ships is without what only debuggers read, three quarters of it; what was built keeps that.
if have strip; then strip --strip-unneeded bindings/node/libmq.node.new; fi
mv bindings/node/libmq.node.new bindings/node/libmq.node
node -e 'require("./bindings/node")'
ls -l bindings/node/libmq.node | awk '{ printf "%9d bytes  %s\n", $5, $NF }'
