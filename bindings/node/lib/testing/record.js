'use strict';

// What a test broker remembers: what was enqueued, and how attempts ended.

const { decode, encode } = require('../body.js');
const { isMessage } = require('../message.js');

class Enqueued {
  constructor(queue, body, options, id) {
    this.queue = queue;
    this.body = body;
    this.options = options;
    this.id = id;
    Object.freeze(this);
  }
}

class Record {
  // In the order of the enqueues; a message that was replaced is not there any more.
  enqueued = [];
  // Of attempts that have ended: their queue, id and number, and what they threw, if they did.
  attempts = [];
  isStarted = false;

  // Remembers what a receipt answers for.
  received(made, receipt) {
    if (receipt.status === 'duplicate') return;
    if (receipt.status === 'replaced') this.enqueued = this.enqueued.filter(({ id }) => id !== receipt.id);
    this.enqueued.push(new Enqueued(made.queue, made.body, made.options, receipt.id));
  }

  // Remembers what was enqueued together with an ack, and has no receipt.
  committed(children) {
    for (const { queue, body, options } of children) {
      this.enqueued.push(new Enqueued(queue, body, options, null));
    }
  }
}

// What is enqueued, as it is at this moment and as a handler will be given it; whoever enqueues may change it later.
function made(queue, item, options) {
  const [body, own] = isMessage(item) && options === undefined ? apart(item) : [item, options];
  const encoded = encode(body);
  const kept = typeof encoded === 'string' ? decode(encoded) : Buffer.from(encoded);
  return { queue, body: kept, options: Object.freeze({ ...own }) };
}

function apart({ body, ...options }) {
  return [body, options];
}

// Has a delivery or a context note what it enqueues, which is so only if it is acked.
function childrenOf(held) {
  const children = [];
  const { enqueue } = held;
  const noting = function (queue, body, options) {
    enqueue.call(held, queue, body, options);
    children.push(made(queue, body, options));
  };
  Object.defineProperty(held, 'enqueue', { value: noting });
  return children;
}

module.exports = { Record, childrenOf, made };
