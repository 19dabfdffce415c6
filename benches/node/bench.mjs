// libmq for Node beside better-sqlite3 by hand and fastq, which keeps nothing: the second half of `make bench`.
//
// Usage: node bench.mjs DIRECTORY. Works in DIRECTORY/scratch, finds the peers in DIRECTORY/node_modules, and leaves
// its figures in DIRECTORY/latest.json. LIBMQ_BENCH_ROUNDS sets the rounds, LIBMQ_BENCH_ONLY picks contests by a part
// of their name. As in `benches/peers`, each round runs all contenders of a contest in turns, and what is reported is
// the median over the rounds of figures and of ratios.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';

import { open } from '../../bindings/node/lib/index.mjs';

const directory = resolve(process.argv[2]);
const scratch = join(directory, 'scratch');
const require = createRequire(join(directory, 'package.json'));
const Database = require('better-sqlite3');
const fastq = require('fastq');

const BODY = {
  orderId: 'ORD-001',
  customer: 4711,
  lines: [{ sku: 'B-17', count: 3 }],
  note: 'leave it at the door, please',
};
const BATCH = 100;

const median = (figures) => [...figures].sort((one, other) => one - other)[figures.length >> 1];

// Does `work` for this many messages; a second's worth of them.
async function rate(messages, work) {
  const began = performance.now();
  await work();
  return (messages * 1000) / (performance.now() - began);
}

// ---- libmq ----

async function withBroker(work) {
  const broker = await open(join(scratch, 'queue'), { durability: 'os' });
  try {
    return await work(broker);
  } finally {
    await broker.close();
  }
}

function enqueueOneByOne(messages) {
  return withBroker((broker) =>
    rate(messages, async () => {
      for (let i = 0; i < messages; i++) await broker.enqueue('orders', BODY);
    }),
  );
}

function handle(messages, maxParallelism) {
  return withBroker(async (broker) => {
    const batch = Array.from({ length: BATCH }, () => BODY);
    for (let i = 0; i < messages; i += BATCH) await broker.enqueueMany('orders', batch);
    let handled = 0;
    const all = new Promise((done) => {
      broker.handle('orders', async (order) => void (order.customer === 4711 && ++handled === messages && done()), {
        maxParallelism,
      });
    });
    return rate(messages, async () => {
      await broker.start();
      await all;
    });
  });
}

// Microseconds from the call of an enqueue to the first line of an idle handler, half of them.
function dispatch(messages) {
  return withBroker(async (broker) => {
    let entered;
    broker.handle('orders', () => entered(performance.now()));
    await broker.start();
    const times = [];
    for (let i = 0; i < messages; i++) {
      const entry = new Promise((resolve) => (entered = resolve));
      const began = performance.now();
      broker.enqueue('orders', BODY);
      times.push((await entry) - began);
      // So that it is idle.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return 1000 * median(times);
  });
}

// ---- peers ----

function withTable(work) {
  const database = new Database(join(scratch, 'queue.db'));
  try {
    database.pragma('journal_mode = WAL');
    database.pragma('synchronous = NORMAL');
    database.exec('CREATE TABLE queue (id INTEGER PRIMARY KEY, body TEXT NOT NULL)');
    return work(database);
  } finally {
    database.close();
  }
}

function insertOneByOne(messages) {
  return withTable((database) => {
    const insert = database.prepare('INSERT INTO queue (body) VALUES (?)');
    return rate(messages, () => {
      for (let i = 0; i < messages; i++) insert.run(JSON.stringify(BODY));
    });
  });
}

function takeAndDelete(messages) {
  return withTable((database) => {
    const insert = database.prepare('INSERT INTO queue (body) VALUES (?)');
    database.transaction(() => {
      for (let i = 0; i < messages; i++) insert.run(JSON.stringify(BODY));
    })();
    const take = database.prepare('SELECT id, body FROM queue ORDER BY id LIMIT 1');
    const remove = database.prepare('DELETE FROM queue WHERE id = ?');
    return rate(messages, () => {
      for (let i = 0; i < messages; i++) {
        const { id, body } = take.get();
        if (JSON.parse(body).customer === 4711) remove.run(id);
      }
    });
  });
}

async function inMemory(messages, concurrency) {
  let handled = 0;
  const queue = fastq.promise(async (order) => void (order.customer === 4711 && handled++), concurrency);
  queue.pause();
  for (let i = 0; i < messages; i++) queue.push(BODY);
  return rate(messages, async () => {
    queue.resume();
    await queue.drained();
  });
}

// ---- the contests ----

const CONTESTS = [
  {
    name: 'Node: enqueue os, awaited one by one',
    contenders: [
      { name: 'libmq', run: () => enqueueOneByOne(40_000) },
      { name: 'better-sqlite3 NORMAL, insert', promised: 2, run: () => insertOneByOne(20_000) },
    ],
  },
  {
    name: 'Node: handled os',
    contenders: [
      { name: 'libmq, maxParallelism 8', run: () => handle(100_000, 8) },
      { name: 'libmq, maxParallelism 1', run: () => handle(100_000, 1) },
      { name: 'better-sqlite3, take + delete', promised: 10, run: () => takeAndDelete(10_000) },
      { name: 'fastq 8, in memory alone', run: () => inMemory(100_000, 8) },
    ],
  },
  {
    name: 'Node: dispatch to an idle handler, p50',
    unit: 'µs',
    lessThan: 200,
    contenders: [{ name: 'libmq', run: () => dispatch(300) }],
  },
];

function shown(contest, figure) {
  return contest.unit === 'µs' ? `${figure.toFixed(1)} µs` : `${Math.round(figure).toLocaleString('en-US')}/s`;
}

function word(reached) {
  return reached ? 'ok' : 'MISSED';
}

// Whether the contest is as promised.
function print(contest) {
  console.log(`\n${contest.name}`);
  let reached = true;
  for (const [index, contender] of contest.contenders.entries()) {
    const figure = median(contender.figures);
    let verdict = '';
    if (contest.lessThan !== undefined) {
      reached &&= figure < contest.lessThan;
      verdict = `less than ${contest.lessThan} ${contest.unit}: ${word(figure < contest.lessThan)}`;
    } else if (index > 0) {
      contender.ratio = median(contender.figures.map((peer, round) => contest.contenders[0].figures[round] / peer));
      verdict = `x ${contender.ratio.toFixed(2).padEnd(6)} `;
      if (contender.promised !== undefined) {
        reached &&= contender.ratio >= contender.promised;
        verdict += `at least ${contender.promised}: ${word(contender.ratio >= contender.promised)}`;
      }
    }
    console.log(`  ${contender.name.padEnd(32)} ${shown(contest, figure).padStart(15)}   ${verdict}`);
  }
  return reached;
}

const rounds = Math.max(1, Number(process.env.LIBMQ_BENCH_ROUNDS ?? 5));
const only = process.env.LIBMQ_BENCH_ONLY ?? '';
const contests = CONTESTS.filter(({ name }) => name.includes(only));
for (const { contenders } of contests) for (const contender of contenders) contender.figures = [];

for (let round = 0; round < rounds; round++) {
  for (const { name, contenders } of contests) {
    console.error(`round ${round + 1} of ${rounds}: ${name}`);
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(turn + round) % contenders.length];
      rmSync(scratch, { recursive: true, force: true });
      mkdirSync(scratch, { recursive: true });
      contender.figures.push(await contender.run());
    }
  }
}
rmSync(scratch, { recursive: true, force: true });

const reached = contests.map(print).filter(Boolean).length;
console.log(`\n${reached} of ${contests.length} contests of Node as promised`);
const figures = contests.map(({ name, contenders }) => ({
  name,
  contenders: contenders.map(({ name: peer, figures: all, ratio, promised }) => ({
    name: peer,
    rounds: all,
    ratio,
    promised,
  })),
}));
writeFileSync(join(directory, 'latest.json'), `${JSON.stringify({ rounds, contests: figures }, null, 2)}\n`);
