// One run of one contender in Node: `node player.mjs PEER WORK DIRECTORY [KEY=VALUE]...` does the work in DIRECTORY and prints
// its figures as JSON. Who is compared with whom, `benches/peers` knows. Where the peer is not installed, the status is 77.

import { Missing, peers } from './peers.mjs';

const MISSING = 77;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const rate = (messages, began) => ({ rate: (messages * 1000) / (performance.now() - began) });

// Messages in, one by one, each answered before the next.
async function enqueue(peer, messages, body) {
  const began = performance.now();
  for (let i = 0; i < messages; i++) await peer.put(body);
  return rate(messages, began);
}

// Messages in, a thousand under way, each of a thousand callers with one after the other.
async function enqueueAtOnce(peer, messages, body) {
  const each = Math.floor(messages / 1000);
  const putSome = async () => {
    for (let i = 0; i < each; i++) await peer.put(body);
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: 1000 }, putSome));
  return rate(each * 1000, began);
}

// Messages out that have been put in before, one at a time, each acked.
async function checkout(peer, messages, body) {
  await peer.putAll(Array.from({ length: messages }, () => body));
  const began = performance.now();
  for (let i = 0; i < messages; i++) check(await peer.take(), body);
  return rate(messages, began);
}

// Messages that have been put in before, until a handler has had each.
async function handled(peer, messages, body) {
  await peer.putAll(Array.from({ length: messages }, () => body));
  return handle(peer, messages, body, () => {});
}

// Messages in, one by one, until a handler has had each.
function endToEnd(peer, messages, body) {
  return handle(peer, messages, body, async () => {
    for (let i = 0; i < messages; i++) await peer.put(body);
  });
}

async function handle(peer, messages, body, meanwhile) {
  let seen = 0;
  let wrong = 0;
  let done;
  const all = new Promise((resolve) => (done = resolve));
  const began = performance.now();
  await peer.handle((found) => {
    // What is wrong is told at the end: thrown here, it would be the peer's to deal with.
    if (found !== body) wrong++;
    if (++seen === messages) done();
  });
  await meanwhile();
  await all;
  const figures = rate(messages, began);
  if (wrong > 0) throw new Error(`${wrong} bodies changed on their way`);
  return figures;
}

// From the call of an enqueue to the first line of a handler that had nothing to do.
async function idle(peer, messages, body) {
  let entered;
  await peer.handle(() => entered(performance.now()));
  const times = [];
  for (let i = 0; i < messages; i++) {
    // Of one that polls, any moment between two looks is as likely.
    await pause(1 + Math.random() * peer.polls);
    const entry = new Promise((resolve) => (entered = resolve));
    const began = performance.now();
    peer.put(body);
    times.push(1000 * ((await entry) - began));
  }
  times.sort((one, other) => one - other);
  const at = (thousandth) => times[Math.min(Math.floor((times.length * thousandth) / 1000), times.length - 1)];
  return { p50: at(500), p99: at(990), p999: at(999), max: times.at(-1) };
}

function check(found, body) {
  if (found !== body) throw new Error('a body changed on its way');
}

const [, , name, work, directory, ...settings] = process.argv;
const asked = Object.fromEntries(settings.map((setting) => setting.split('=')));
const works = { enqueue, 'enqueue-at-once': enqueueAtOnce, checkout, handled, 'end-to-end': endToEnd, idle };
try {
  const peer = await peers[name](directory, asked);
  console.log(JSON.stringify(await works[work](peer, Number(asked.messages), 'x'.repeat(Number(asked.body)))));
  await peer.close();
  // Some keep timers, whatever they are told.
  process.exit(0);
} catch (error) {
  if (!(error instanceof Missing)) throw error;
  console.error(error.message);
  process.exit(MISSING);
}
