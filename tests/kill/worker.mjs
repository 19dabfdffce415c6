// The worker of the kill rounds in Node: `WORKER DIRECTORY SEED [drain]`, see README.md.
//
// One write a line, so that a kill cannot tear one. Whatever libmq answers that it should not answer here is an `error`
// line and the end of the process.

import { writeSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';

import { RejectError, ReleaseError, RetryError, open } from '../../bindings/node/lib/index.mjs';

const NUMBERS = 1_000_000;
const BATCH_MAX = 6;
// How many times as long producers pause.
const PACE = Number(process.env.LIBMQ_KILL_PACE ?? 1);
const KEYS = 12;
const PULLED_MAX = 4;
const DRAIN_MAX_MS = 300_000;

const [directory, seedText, mode] = process.argv.slice(2);
const seed = Number(seedText);

// ---- Lines ----

function say(line) {
  writeSync(1, `${line.replaceAll('\n', ' ')}\n`);
}

function fail(error) {
  say(`error ${error.code ?? ''} ${error.stack}`);
  process.exit(1);
}

process.on('uncaughtException', fail);
process.on('unhandledRejection', fail);

// ---- Choices and numbers ----

class Random {
  #state;

  constructor(stream) {
    this.#state = (seed * 0x9e3779b1 + stream * 0x85ebca6b) >>> 0;
  }

  below(bound) {
    let mixed = (this.#state = (this.#state + 0x6d2b79f5) >>> 0);
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  }

  percent(share) {
    return this.below(100) < share;
  }
}

let nextNumber = 1;

// `count` numbers in a row; the first of them.
function takeNumbers(count) {
  const first = nextNumber;
  nextNumber += count;
  if (nextNumber > NUMBERS) fail(new Error('a start has no more numbers to give'));
  return seed * NUMBERS + first;
}

function makeBody(number, bytes) {
  return Buffer.from(`${number} ${'.'.repeat(bytes)}`);
}

// The number that a body carries; nothing for the killer.
function numberOf(body) {
  const [word] = body.toString('latin1').split(' ', 1);
  return /^[0-9]+$/.test(word) ? Number(word) : undefined;
}

// ---- Producers ----

function chooseQueue(random) {
  return random.percent(25) ? 'pulled' : 'work';
}

function chooseSize(random) {
  // Now and then one that takes a good part of a segment.
  return random.percent(2) ? random.below(30_000) : random.below(800);
}

function chooseLevel(random, share) {
  return random.percent(share) ? 'sync' : 'os';
}

function sayEnqueued(number, level, { id, status }) {
  say(`enqueued ${number} ${id} ${level} ${status}`);
}

async function single(broker, random, durability) {
  const number = takeNumbers(1);
  const queue = chooseQueue(random);
  const delay = random.percent(10) ? 1 + random.below(30) : undefined;
  const body = makeBody(number, chooseSize(random));
  say(`enqueuing ${number} ${queue} ${durability}${delay === undefined ? '' : ' delayed'}`);
  sayEnqueued(number, durability, await broker.enqueue(queue, body, { durability, delay }));
}

async function keyed(broker, random) {
  const number = takeNumbers(1);
  const dedupKey = `key-${random.below(KEYS)}`;
  const durability = chooseLevel(random, 50);
  const dedup = random.percent(30) ? 'keep' : 'replace';
  // So that it is still waiting when the next one of its key comes.
  const delay = random.percent(30) ? 1 + random.below(20) : undefined;
  const body = makeBody(number, chooseSize(random));
  say(`enqueuing ${number} work ${durability} key=${dedupKey}${dedup === 'keep' ? ' keep' : ''} delayed`);
  sayEnqueued(number, durability, await broker.enqueue('work', body, { dedupKey, dedup, durability, delay }));
}

async function batch(broker, random) {
  const count = 2 + random.below(BATCH_MAX - 1);
  const first = takeNumbers(count);
  const queue = chooseQueue(random);
  const messages = [];
  for (let number = first; number < first + count; number++) {
    const durability = chooseLevel(random, 70);
    messages.push({ body: makeBody(number, chooseSize(random)), durability });
    say(`enqueuing ${number} ${queue} ${durability} batch=${first}`);
  }
  const receipts = await broker.enqueueMany(queue, messages);
  receipts.forEach((receipt, i) => sayEnqueued(first + i, messages[i].durability, receipt));
}

// The first two enqueue singly, one with `sync` and one with `os`; the third uses keys; the fourth makes batches.
async function produce(broker, producer) {
  const random = new Random(producer);
  for (;;) {
    if (producer === 0) await single(broker, random, 'sync');
    else if (producer === 1) await single(broker, random, 'os');
    else if (producer === 2) await keyed(broker, random);
    else await batch(broker, random);
    if (PACE > 1) await pause(random.below(PACE));
    else if (random.percent(70)) await pause(1);
  }
}

// ---- Handlers ----

// Ends the process as a killer says: it aborts, it gets the signal of a write where nothing is, or it exits.
function die(body) {
  const [, how] = body.toString('latin1').split(' ');
  // The first one may be looked at, and taken for somebody's.
  while (how === 'segfault') process.kill(process.pid, 'SIGSEGV');
  if (how === 'exit') process.exit(9);
  process.abort();
}

// Says that a delivery is in hand; its number.
function enter({ id, attempt, token, queue }, body, lane) {
  const number = numberOf(body);
  if (number === undefined) {
    say(`aborting ${id}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3);
    die(body);
  }
  say(`entered ${id} ${attempt} ${token} ${number} ${queue} ${lane}`);
  return number;
}

function ending(what, id, error) {
  say(`${what} ${id}`);
  if (error !== undefined) throw error;
}

async function onWork(body, ctx) {
  const number = enter(ctx, body, '-');
  const random = new Random(Number(ctx.token % 1_000_003n));
  if (random.percent(60)) await pause(random.percent(3) ? 4 : 1);
  if (body.toString('latin1').endsWith(' innocent')) return ending('acking', ctx.id);
  const fails = number % 97 === 0 || random.percent(12);
  if (fails && random.percent(50)) ending('failing', ctx.id, new RetryError());
  if (number % 89 === 0 && number % 97 !== 0) ending('rejecting', ctx.id, new RejectError('rejected'));
  if (random.percent(4)) ending('releasing', ctx.id, new ReleaseError(random.below(5)));
  if (number % 3 === 0) {
    const child = takeNumbers(1);
    const durability = chooseLevel(random, 50);
    say(`child ${ctx.id} ${child} ${durability}`);
    ctx.enqueue('children', makeBody(child, random.below(300)), { durability });
  }
  if (fails) ending('failing', ctx.id, new Error('meant to fail'));
  ending('acking', ctx.id);
}

function onChild(body, ctx) {
  const number = enter(ctx, body, '-');
  const random = new Random(Number(ctx.token % 1_000_003n));
  if (number % 97 === 0 || random.percent(8)) ending('failing', ctx.id, new Error('meant to fail'));
  ending('acking', ctx.id);
}

// Pulls and acks, until told to stop. It waits for its settles, so it is a lane.
async function pull(broker, isStopped) {
  while (!isStopped()) {
    const deliveries = await broker.receiveMany('pulled', PULLED_MAX, { timeout: 20 });
    const entered = deliveries.map((delivery) => [delivery, enter(delivery, delivery.body, 'puller')]);
    for (const [delivery, number] of entered) {
      const random = new Random(Number(delivery.token % 1_000_003n));
      if (number % 97 === 0 || random.percent(5)) {
        say(`failing ${delivery.id}`);
        await delivery.retry();
      } else {
        say(`acking ${delivery.id}`);
        await delivery.ack();
        say(`acked ${delivery.id}`);
      }
    }
  }
}

// Handles what is there until nothing is left, lists the dead letters, and closes.
async function drain(broker) {
  let stopped = false;
  const pulling = pull(broker, () => stopped);
  const end = Date.now() + DRAIN_MAX_MS;
  for (;;) {
    // A message that is delayed and was never tried keeps nobody from being idle.
    const idle = await broker.waitIdle({ timeout: 1000 });
    const { ready, delayed, inFlight } = broker.metrics();
    if (idle && ready + delayed + inFlight === 0) break;
    if (Date.now() > end) fail(new Error(`${ready} are ready, ${delayed} delayed, ${inFlight} in flight`));
    await pause(2);
  }
  stopped = true;
  await pulling;
  for (const { id, reason, attempts, raw } of await broker.deadLetters.list({ limit: NUMBERS })) {
    say(`dead ${id} ${reason || '-'} ${attempts} ${numberOf(raw) ?? '-'}`);
  }
  await broker.close({ timeout: 10_000 });
  say('drained');
}

const broker = await open(directory, {
  segmentBytes: 64 << 10,
  snapshotThreshold: 200,
  snapshotInterval: 50,
  defaultMaxRetries: 3,
  maxCrashes: 3,
  defaultBackoff: { base: 1, factor: 2, cap: 20, jitter: 1 },
});
say(`recovered ${broker.recovery.messages} ${broker.recovery.deadLetters}`);
say(`suspects ${broker.recovery.suspects}`);
broker.handle('work', onWork, { maxParallelism: 3 });
broker.handle('children', onChild, { maxParallelism: 2 });
say('ready');
await broker.start();
if (mode === 'drain') {
  await drain(broker);
} else {
  pull(broker, () => false);
  for (let producer = 0; producer < 4; producer++) produce(broker, producer);
}
