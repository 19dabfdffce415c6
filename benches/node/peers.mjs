// The contenders in Node, each with the same few calls: put, putAll, take (with its ack), handle, close; polls is how long it
// sleeps between two looks, in milliseconds, where it polls. What an answer survives is said where each is made.

import { createRequire } from 'node:module';
import { join } from 'node:path';

import { open } from '../../bindings/node/lib/index.mjs';

export class Missing extends Error {}

// What npm has fetched for the benchmark.
function fetched(name) {
  try {
    return createRequire(join(process.env.LIBMQ_BENCH_NODE_PEERS ?? '.', 'package.json'))(name);
  } catch (error) {
    throw new Missing(`${name} is not installed: ${error.message}`);
  }
}

// Survives what its level says: by default `os`, a kill.
async function libmq(directory, { level = 'os', parallelism = 1 }) {
  const broker = await open(join(directory, 'queue'), { durability: level });
  return {
    polls: 0,
    put: (body) => broker.enqueue('bench', body),
    async putAll(bodies) {
      for (let i = 0; i < bodies.length; i += 1000) await broker.enqueueMany('bench', bodies.slice(i, i + 1000));
    },
    async take() {
      const delivery = await broker.receive('bench', { timeout: 0 });
      await delivery.ack();
      return delivery.body;
    },
    async handle(work) {
      broker.handle('bench', async (body) => work(body), { maxParallelism: Number(parallelism) });
      await broker.start();
    },
    close: () => broker.close(),
  };
}

// In memory: survives nothing.
function fastq(_, { parallelism = 1 }) {
  let handler;
  const queue = fetched('fastq').promise(async (body) => handler(body), Number(parallelism));
  // Until there is a handler, what is pushed waits.
  queue.pause();
  return {
    polls: 0,
    // Its promise is that of the work: who only enqueues does not wait for it.
    put: (body) => void queue.push(body),
    putAll(bodies) {
      for (const body of bodies) queue.push(body);
    },
    handle(work) {
      handler = work;
      queue.resume();
    },
    close: () => {},
  };
}

// A table by hand, WAL and NORMAL: survives a kill. Taken in two transactions, as by whoever delivers at least once.
function sqlite(directory) {
  const Database = fetched('better-sqlite3');
  const database = new Database(join(directory, 'queue.db'));
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  database.exec('CREATE TABLE queue (id INTEGER PRIMARY KEY, body TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0)');
  const insert = database.prepare('INSERT INTO queue (body) VALUES (?)');
  const take = database.prepare(
    'UPDATE queue SET attempts = attempts + 1 WHERE id = (SELECT id FROM queue ORDER BY id LIMIT 1) RETURNING id, body',
  );
  const remove = database.prepare('DELETE FROM queue WHERE id = ?');
  return {
    polls: 0,
    put: (body) => insert.run(JSON.stringify(body)),
    putAll: database.transaction((bodies) => bodies.forEach((body) => insert.run(JSON.stringify(body)))),
    take() {
      const { id, body } = take.get();
      remove.run(id);
      return JSON.parse(body);
    },
    close: () => database.close(),
  };
}

// It sets WAL and NORMAL: survives a kill. Its worker looks once a second unless told otherwise.
function plainjob(directory) {
  const { better, defineQueue, defineWorker } = fetched('plainjob');
  const Database = fetched('better-sqlite3');
  const quiet = { error() {}, warn() {}, info() {}, debug() {} };
  const queue = defineQueue({ connection: better(new Database(join(directory, 'queue.db'))), logger: quiet });
  return {
    polls: 1000,
    put: (body) => queue.add('bench', body),
    putAll: (bodies) => queue.addMany('bench', bodies),
    handle(work) {
      const worker = defineWorker('bench', async ({ data }) => work(JSON.parse(data)), { queue, logger: quiet });
      worker.start();
    },
    close: () => {},
  };
}

// In its memory store: survives nothing.
function betterQueue() {
  let handler;
  const Queue = fetched('better-queue');
  const queue = new Queue((task, done) => {
    handler?.(task.body);
    done();
  });
  // Nothing is worked off before there is a handler.
  queue.pause();
  let number = 0;
  return {
    polls: 0,
    // Without a number of its own a task with the same body would take the place of the one before.
    put: (body) => new Promise((resolve) => queue.push({ id: number++, body }).on('accepted', resolve)),
    handle: (work) => {
      handler = work;
      queue.resume();
    },
    close: () => {},
  };
}

// In Redis, which the conductor has started: what an answer survives is Redis's to say.
async function bullmq(_, { port, parallelism = 1 }) {
  const { Queue, Worker } = fetched('bullmq');
  const connection = { host: '127.0.0.1', port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  return {
    polls: 0,
    put: (body) => queue.add('bench', body, { removeOnComplete: true }),
    putAll: (bodies) =>
      queue.addBulk(bodies.map((data) => ({ name: 'bench', data, opts: { removeOnComplete: true } }))),
    async handle(work) {
      const concurrency = Number(parallelism);
      const worker = new Worker('bench', async ({ data }) => work(data), { connection, concurrency });
      await worker.waitUntilReady();
    },
    close: () => {},
  };
}

export const peers = { libmq, fastq, sqlite, plainjob, 'better-queue': betterQueue, bullmq };
