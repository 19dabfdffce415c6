'use strict';

// Test brokers: without files, on a clock that is moved by hand, and with a memory for what they were given. Each is a
// `Broker` like every other one; only the calls that are remembered are put before its own.

const { attemptOf } = require('../attempt.js');
const { calleeOf } = require('../callee.js');
const { Log } = require('../log.js');
const { optionsOf, wrongType } = require('../options.js');
const { open } = require('../opening.js');
const { Record, childrenOf, made } = require('./record.js');

const records = new WeakMap();

async function testBroker(options) {
  const { scope } = optionsOf('broker', options);
  const init = { ...options, scope: undefined };
  init.clock ??= 'manual';
  init.defaultBackoff ??= { jitter: 0 };
  const broker = await open(':memory:', init);
  const record = new Record();
  records.set(broker, record);
  const log = typeof init.log === 'function' ? new Log(init.log) : undefined;
  for (const [name, call] of Object.entries(remembering(broker, record, scope, log))) {
    Object.defineProperty(broker, name, { value: call, configurable: true, writable: true });
  }
  return broker;
}

// What was enqueued, to a queue or at all.
function enqueued(broker, queue) {
  const all = recordOf(broker).enqueued;
  return queue === undefined ? [...all] : all.filter((message) => message.queue === queue);
}

function clearEnqueued(broker) {
  recordOf(broker).enqueued = [];
}

function recordOf(broker) {
  const record = records.get(broker);
  if (record === undefined) throw wrongType('broker', 'one that testBroker() has opened');
  return record;
}

// The calls of a broker that are remembered.
function remembering(broker, record, scope, log) {
  const { close, enqueue, enqueueMany, handle, receiveMany, start, stop } = broker;
  return {
    async enqueue(queue, body, options) {
      // Begun before it is looked at, so that what is wrong with it is said as ever.
      const answer = enqueue.call(broker, queue, body, options);
      const message = attempted(() => made(queue, body, options));
      const receipt = await answer;
      record.received(message, receipt);
      return receipt;
    },

    async enqueueMany(queue, items) {
      const list = typeof items?.[Symbol.iterator] === 'function' && typeof items !== 'string' ? [...items] : items;
      const answer = enqueueMany.call(broker, queue, list);
      const messages = attempted(() => list.map((item) => made(queue, item)));
      const receipts = await answer;
      receipts.forEach((receipt, at) => record.received(messages[at], receipt));
      return receipts;
    },

    handle(queue, handler, options) {
      const { schema, scope: own = scope, ...init } = optionsOf('handler', options);
      const callee = calleeOf(handler, own !== undefined);
      const tell = (error, { id, attempt }) => log?.tell('warn', 'scope_error', { queue, id, attempt, error });
      const call = attemptOf(callee, { schema, scope: own }, tell);
      const rest = Object.fromEntries(Object.entries(options ?? {}).filter(([name]) => Object.hasOwn(init, name)));
      handle.call(broker, queue, (body, ctx) => remembered(record, call, body, ctx), rest);
    },

    async receiveMany(queue, max, options) {
      const deliveries = await receiveMany.call(broker, queue, max, options);
      for (const delivery of deliveries) {
        const children = childrenOf(delivery);
        const { ack } = delivery;
        const noting = async () => {
          await ack.call(delivery);
          record.committed(children);
        };
        Object.defineProperty(delivery, 'ack', { value: noting });
      }
      return deliveries;
    },

    async start() {
      await start.call(broker);
      record.isStarted = true;
    },

    async stop(options) {
      record.isStarted = false;
      await stop.call(broker, options);
    },

    async close(options) {
      record.isStarted = false;
      await close.call(broker, options);
    },
  };
}

// An attempt of which is remembered what it enqueued, if it succeeded, and what it threw, if it did not.
async function remembered(record, call, body, ctx) {
  const children = childrenOf(ctx);
  const { queue, id, attempt } = ctx;
  try {
    await call(body, ctx);
  } catch (error) {
    record.attempts.push({ queue, id, attempt, failed: true, error });
    throw error;
  }
  record.committed(children);
  record.attempts.push({ queue, id, attempt, failed: false, error: undefined });
}

// What cannot be remembered is refused by the call itself.
function attempted(call) {
  try {
    return call();
  } catch {
    return undefined;
  }
}

module.exports = { clearEnqueued, enqueued, recordOf, testBroker };
