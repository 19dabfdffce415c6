// Schemas: bodies are validated before their handler is called, with anything that keeps to Standard Schema.

import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';

import { RejectError } from '../lib/index.mjs';
import { broker, tools } from './support.mjs';

// What a body must never be found in.
const CANARY = 'canary-4711';

// A schema of this test's own, with what it answers.
const schemaOf = (validate) => ({ '~standard': { version: 1, vendor: 'test', validate } });

// A library that is there where the tests are run by their script.
function library(t, name) {
  try {
    return createRequire(join(process.env.LIBMQ_NODE_TOOLS, 'tools.js'))(name);
  } catch {
    const reason = `Node: bodies were not validated with ${name}, which is not there`;
    if (process.env.LIBMQ_SKIPS) appendFileSync(process.env.LIBMQ_SKIPS, `${reason}\n`);
    t.skip(reason);
    return undefined;
  }
}

// What a handler was given of these bodies, and the dead letters.
async function validated(t, schema, bodies, { options, ...init } = {}) {
  const queue = await broker(t, init);
  const given = [];
  queue.handle('q', (body) => void given.push(body), { schema, maxRetries: 0, ...options });
  await queue.enqueueMany('q', bodies);
  await queue.start();
  assert.equal(await queue.waitIdle({ timeout: 10_000 }), true);
  const letters = await queue.deadLetters.list();
  return { queue, given, letters: letters.map(({ reason, error, attempts }) => ({ reason, error, attempts })) };
}

test('a handler gets what its schema makes of a body, at once or later', async (t) => {
  for (const validate of [
    (value) => ({ value: value + 1 }),
    async (value) => ({ value: value + 1, issues: undefined }),
  ]) {
    const { given, queue } = await validated(t, schemaOf(validate), [1, 2]);
    assert.deepEqual(given, [2, 3]);
    assert.equal(queue.metrics().acked, 2);
    const callable = Object.assign(() => {}, schemaOf(validate));
    assert.deepEqual((await validated(t, callable, [5])).given, [6]);
  }
  const bytes = await validated(
    t,
    schemaOf((value) => ({ value: value.toString() })),
    [Buffer.from('as they are')],
  );
  assert.deepEqual(bytes.given, ['as they are']);
});

test('a body that is not as its schema asks is a dead letter at once, and no scope is opened', async (t) => {
  let scopes = 0;
  const issues = [
    { message: 'is missing', path: ['items', 0, { key: 'price' }] },
    { message: `is "${CANARY}"` },
    { message: `${CANARY} is 90210, and not 0`, path: ['name'] },
    { message: `what is in it: {"name":"${CANARY}"}`, path: [] },
    { message: 'a symbol', path: [Symbol('s')] },
  ];
  const init = { scope: () => ({ number: ++scopes }), options: { maxRetries: 5 } };
  const body = { name: CANARY, zip: 90210, items: [] };
  for (const answer of [{ issues }, Promise.resolve({ issues })]) {
    const { given, letters, queue } = await validated(
      t,
      schemaOf(() => answer),
      [body],
      init,
    );
    assert.deepEqual([given, scopes, queue.metrics().deadLettered], [[], 0, 1]);
    const [{ reason, error, attempts }] = letters;
    assert.deepEqual([reason, attempts, letters.length], ['decode', 1, 1]);
    const said = 'the body is not as its schema asks: items.0.price: is missing; is …; name: … is 90210, and not 0; ';
    assert.equal(error, `${said}what is in it: {"name":…}; Symbol(s): a symbol`);
  }
});

test('of many issues some are told, and of a long one the beginning', async (t) => {
  const many = Array.from({ length: 25 }, (_, i) => ({ message: `${'x'.repeat(i === 0 ? 5000 : 1)}`, path: [i] }));
  const { letters } = await validated(
    t,
    schemaOf(() => ({ issues: many })),
    [1],
  );
  assert.match(letters[0].error, /^the body is not as its schema asks: 0: x{297}; 1: x; .*; 9: x; and 15 more$/);
});

test('a validation that fails is a failed attempt, and so is an answer that is none', async (t) => {
  const fails = () => {
    throw new Error('no connection');
  };
  for (const [validate, letter] of [
    [fails, ['max_retries', 'no connection']],
    [async () => fails(), ['max_retries', 'no connection']],
    [() => Promise.reject(new RejectError('by the schema')), ['by the schema', '']],
    [() => undefined, ['max_retries', 'TypeError: the schema answered no result']],
    [() => ({ issues: [null] }), undefined],
    [() => ({ issues: 5 }), undefined],
  ]) {
    const { given, letters } = await validated(t, schemaOf(validate), [1]);
    assert.deepEqual([given.length, letters.length], [0, 1]);
    if (letter !== undefined) assert.deepEqual([letters[0].reason, letters[0].error.split('\n\n')[0]], letter);
    else assert.equal(letters[0].reason, 'max_retries');
  }
  let calls = 0;
  const second = (value) => (++calls === 1 ? fails() : { value });
  const { given } = await validated(t, schemaOf(second), [1], { options: { maxRetries: 1 } });
  assert.deepEqual(given, [1]);
});

test('schema, scope and class go together, and close is a DEADLOCK in a schema, too', async (t) => {
  const codes = [];
  const told = [];
  const queue = await broker(t, {
    scope: () => ({ resolve: (of) => new of(), [Symbol.dispose]: (succeeded) => void told.push(`close ${succeeded}`) }),
  });
  const validate = async (value) => {
    queue.close().catch(({ code }) => codes.push(code));
    await null;
    return { value: { was: value } };
  };
  class Handler {
    handle({ was }) {
      told.push(was);
    }
  }
  queue.handle('q', Handler, { schema: schemaOf(validate) });
  await queue.enqueue('q', 1);
  await queue.start();
  await queue.waitIdle({ timeout: 10_000 });
  assert.deepEqual([codes, told], [['DEADLOCK'], [1, 'close true']]);
});

const BAD = { id: CANARY, mail: CANARY, kind: CANARY, deep: [{ n: 987_654 }] };
const GOOD = { id: '5', mail: 'a@example.com', kind: 'a', deep: [{ n: 1 }], more: true };

function checkText({ letters }, ...wanted) {
  const [{ reason, error }] = letters;
  assert.equal(reason, 'decode');
  for (const text of [CANARY, CANARY.toUpperCase(), '987654']) assert.ok(!error.includes(text), error);
  for (const text of wanted) assert.ok(error.includes(text), error);
}

test('zod', async (t) => {
  const zod = library(t, 'zod');
  if (zod === undefined) return;
  const { z } = zod;
  const schema = z.object({
    id: z.coerce.number(),
    mail: z.email(),
    kind: z.enum(['a', 'b']).default('b'),
    deep: z.array(z.object({ n: z.number().max(5) })),
  });
  const found = await validated(t, schema, [BAD, GOOD]);
  assert.deepEqual(found.given, [{ id: 5, mail: 'a@example.com', kind: 'a', deep: [{ n: 1 }] }]);
  checkText(found, 'id: ', 'mail: Invalid email', 'deep.0.n: Too big');
  const taken = z.object({ id: z.string() }).refine(async () => false, 'is taken');
  checkText(await validated(t, taken, [BAD]), 'is taken');
});

test('valibot', async (t) => {
  const v = library(t, 'valibot');
  if (v === undefined) return;
  const schema = v.object({
    id: v.pipe(
      v.string(),
      v.transform((text) => text.toUpperCase()),
      v.regex(/^\d+$/),
    ),
    mail: v.pipe(v.string(), v.email()),
    kind: v.picklist(['a', 'b']),
    deep: v.array(v.object({ n: v.pipe(v.number(), v.maxValue(5)) })),
  });
  const found = await validated(t, schema, [BAD, GOOD]);
  assert.deepEqual(found.given, [{ id: '5', mail: 'a@example.com', kind: 'a', deep: [{ n: 1 }] }]);
  checkText(found, 'id: Invalid format', 'mail: Invalid email', 'deep.0.n: Invalid value: Expected <=5 but received …');
  const later = v.objectAsync({
    id: v.pipeAsync(
      v.string(),
      v.checkAsync(async () => false, 'is taken'),
    ),
  });
  checkText(await validated(t, later, [BAD]), 'id: is taken');
});

// A module, which is a function with properties.
test('arktype', async (t) => {
  const at = tools(t, 'arktype');
  if (at === undefined) return;
  const { type } = await import(pathToFileURL(createRequire(join(at, 'tools.js')).resolve('arktype')).href);
  const schema = type({
    id: type('string')
      .pipe((text) => text.toUpperCase())
      .to(/^\d+$/),
    mail: 'string.email',
    kind: "'a' | 'b'",
    deep: type({ n: 'number<=5' }).array(),
  });
  const found = await validated(t, schema, [BAD, { ...GOOD, more: undefined }]);
  assert.deepEqual(found.given, [{ id: '5', mail: 'a@example.com', kind: 'a', deep: [{ n: 1 }] }]);
  checkText(found, 'mail: mail must be an email address', 'deep.0.n: ');
  const narrowed = type({ id: type('string').narrow((id, ctx) => ctx.mustBe('free')) });
  checkText(await validated(t, narrowed, [BAD]), 'id must be free');
});
