#!/bin/sh
# Installs what will be published in an empty directory, and runs a program of each kind of module with it.
#
# try-npm-packages.sh TARBALLS
set -eu

tarballs=$1
app=$(mktemp -d)
trap 'rm -rf "$app"' EXIT
cd "$app"

# Of the platforms' packages npm takes the one that fits; the others are refused one by one.
platform=$(node -p '
	const { platform, arch } = process;
	const isGlibc = process.report.getReport().header.glibcVersionRuntime !== undefined;
	[platform, arch, ...(platform === "linux" ? [isGlibc ? "gnu" : "musl"] : [])].join("-")')
printf '{ "private": true }\n' >package.json
npm install --no-audit --no-fund "$tarballs"/libmq-node-[0-9]*.tgz "$tarballs"/libmq-node-"$platform"-*.tgz

cat >program.mjs <<'EOF'
import libmq, { open } from '@libmq/node';
import { drain, testBroker } from '@libmq/node/testing';

const broker = await open('data');
broker.handle('orders', (order, ctx) => ctx.enqueue('mail', order));
await broker.start();
await broker.enqueue('orders', { id: 'ORD-1' });
if (!(await broker.waitIdle({ timeout: 20_000 }))) throw new Error('it was not handled');
const mail = await broker.receive('mail', { timeout: 0 });
await mail.ack();
await broker.close();
const tested = await testBroker();
await drain(tested);
await tested.close();
console.log(mail.body.id, libmq.open === open);
EOF
cat >program.cjs <<'EOF'
const { open } = require('@libmq/node');
open(':memory:').then((broker) => broker.close());
EOF
test "$(node program.mjs)" = "ORD-1 true"
node program.cjs
echo "it works on $platform with Node $(node -p process.versions.node)"
