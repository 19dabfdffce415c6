// Takes webhooks in, verifies their signatures, and routes them: the Node half of the demo.
//
// Usage: node ingest.mjs DIRECTORY INDEX_TSV
//
// Every payload of the index is signed as GitHub signs and enqueued to `webhooks`, some of them twice, as a sender does
// that got no answer in time; one is sent by somebody who does not know the secret. The handler of `webhooks` verifies
// the signature over the bytes as they came, looks at the event's name and passes the payload on to `events` under its
// route. That and the handler's ack are one record of the journal: there is no moment at which a crash could lose the
// message or double it. A signature that is wrong makes a dead letter.
//
// Kill the program when you like and start it again. It keeps no notes: it sends everything once more, from the start.
// What still waits answers `duplicate`. What was routed already goes through `webhooks` again and ends at `events`,
// where the first of its delivery id waits under the same key.

import { createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

import { RejectError, open } from '../../bindings/node/lib/index.mjs';

const SECRET = process.env.WEBHOOK_SECRET ?? "It's a Secret to Everybody";
const SEND_TWICE_EVERY = 7;
const REPORT_EVERY = 30;

const ROUTES = {
  issues: ['issue', 'label', 'milestone'],
  pulls: ['pull_request'],
  builds: ['check_', 'workflow_', 'status', 'deploy', 'merge_group'],
  code: ['push', 'create', 'delete', 'commit_', 'branch_', 'fork', 'release'],
  security: ['security_', 'code_scanning', 'dependabot', 'repository_vuln'],
  people: ['member', 'organization', 'org_', 'team', 'sponsor'],
  planning: ['discussion', 'project', 'gollum'],
};

function routeOf(event) {
  const found = Object.entries(ROUTES).find(([, prefixes]) => prefixes.some((prefix) => event.startsWith(prefix)));
  return found === undefined ? 'other' : found[0];
}

function sign(body, secret) {
  return `sha256=${createHmac('sha256', secret).update(body).digest('hex')}`;
}

function isSigned(body, signature) {
  const [given, right] = [Buffer.from(signature ?? ''), Buffer.from(sign(body, SECRET))];
  return given.length === right.length && timingSafeEqual(given, right);
}

let routed = 0;

async function route(payload, ctx) {
  const { 'X-GitHub-Event': event, 'X-GitHub-Delivery': delivery, 'X-Hub-Signature-256': signature } = ctx.headers;
  if (!isSigned(ctx.raw, signature)) throw new RejectError('bad signature');
  if (event === undefined || delivery === undefined) throw new RejectError('no webhook');
  await pause(15); // the work a real handler would do

  ctx.enqueue('events', ctx.raw, {
    contentType: ctx.contentType,
    headers: { 'X-GitHub-Event': event, 'X-GitHub-Delivery': delivery, Route: routeOf(event) },
    dedupKey: delivery,
    dedup: 'keep',
  });
  routed++;
}

function send(delivery, event, body, secret = SECRET) {
  return broker.enqueue('webhooks', body, {
    contentType: 'application/json',
    headers: { 'X-GitHub-Event': event, 'X-GitHub-Delivery': delivery, 'X-Hub-Signature-256': sign(body, secret) },
    dedupKey: delivery,
    dedup: 'keep',
  });
}

const [directory, indexFile] = process.argv.slice(2);
if (indexFile === undefined) {
  console.error('usage: node ingest.mjs DIRECTORY INDEX_TSV');
  process.exit(2);
}
const index = readFileSync(indexFile, 'utf8').trimEnd().split('\n');

const broker = await open(directory);
console.log(`ingest: opened, recovery ${JSON.stringify(broker.recovery)}`);
broker.handle('webhooks', route, { maxParallelism: 4 });
await broker.start();

await send('forged-1', 'push', Buffer.from('{"forged":true}'), 'a guess');
const counts = { accepted: 0, replaced: 0, duplicate: 0 };
for (const [number, line] of index.entries()) {
  const [delivery, event, file] = line.split('\t');
  const body = readFileSync(file);
  for (let copies = number % SEND_TWICE_EVERY === 0 ? 2 : 1; copies > 0; copies--) {
    const { status } = await send(delivery, event, body);
    counts[status]++;
  }
  await pause(3);
  if ((number + 1) % REPORT_EVERY === 0) {
    console.log(`ingest: sent ${number + 1} payloads, routed ${routed} messages`);
  }
}

await broker.waitIdle({ timeout: 30_000 });
const forged = await broker.deadLetters.list({ queue: 'webhooks' });
console.log(`ingest: rejected ${forged.length} forged: ${[...new Set(forged.map(({ reason }) => reason))].join()}`);
await broker.deadLetters.purge({ queue: 'webhooks' });
console.log(
  `ingest: done, sent ${index.length} payloads: ${counts.accepted} accepted, ${counts.duplicate} duplicates; routed ${routed} messages`,
);
await broker.close({ timeout: 5_000 });
