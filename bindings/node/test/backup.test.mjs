// Copies of a broker, and verification.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { open, verify } from '../lib/index.mjs';
import { broker, directory } from './support.mjs';

test('a copy is a directory like any other', async (t) => {
  const path = directory();
  const queue = await broker(t, {}, path);
  await queue.enqueue('q', { n: 1 });
  const held = await queue.receive('q');
  const to = join(dirname(path), 'copy');
  await queue.backup(to);
  await held.ack();
  await assert.rejects(queue.backup(pathToFileURL(to)), { code: 'INVALID', message: /not empty/ });
  await assert.rejects(queue.backup(join(path, 'below')), { code: 'INVALID', message: /own directory/ });
  await assert.rejects(queue.backup(join(path, '../no/where')), { code: 'IO' });
  await assert.rejects(verify(path), { code: 'LOCKED' });
  const report = await verify(pathToFileURL(to));
  assert.equal(existsSync(join(to, 'lock')), false);
  const { sound, closed, messages, deadLetters, suspects, droppedBytes, problems } = report;
  assert.deepEqual(
    { sound, closed, messages, deadLetters, suspects, droppedBytes, problems },
    { sound: true, closed: true, messages: 1, deadLetters: 0, suspects: 0, droppedBytes: 0, problems: [] },
  );
  assert.equal(typeof report.records, 'number');
  assert.ok(report.segments === 1 && report.bytes > 0 && report.snapshot > 0);
  const copy = await broker(t, {}, to);
  const again = await copy.receive('q', { timeout: 0 });
  assert.deepEqual([again.body, again.attempt], [{ n: 1 }, 1]);
});

test('a copy is written while the loop goes on', async (t) => {
  const path = directory();
  const queue = await broker(t, { durability: 'os' }, path);
  await queue.enqueueMany('q', Array(20).fill(Buffer.alloc(1_000_000, 'x')));
  const to = join(dirname(path), 'copy');
  let over = false;
  let turns = 0;
  const written = queue.backup(to).then(() => (over = true));
  while (!over) {
    turns++;
    await new Promise(setImmediate);
  }
  await written;
  assert.ok(turns > 1, `${turns} turns`);
  assert.equal((await verify(to)).messages, 20);
});

test('damage is told by a report', async () => {
  const path = directory();
  const queue = await open(path);
  await queue.enqueue('q', Buffer.from('a body that nobody reads'));
  await queue.snapshot();
  await queue.close();
  const segment = join(path, '00000001.segment');
  const bytes = readFileSync(segment);
  bytes[bytes.indexOf('nobody')] ^= 1;
  writeFileSync(segment, bytes);
  const report = await verify(path);
  assert.equal(report.sound, false);
  assert.equal(report.messages, 1);
  const [problem] = report.problems;
  assert.equal(report.problems.length, 1);
  assert.deepEqual([problem.kind, problem.path], ['CORRUPT', segment]);
  assert.ok(problem.text.includes(`offset ${problem.offset}`), problem.text);
});
