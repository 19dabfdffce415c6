'use strict';

// Decorators: what marks a method as a queue's handler, and where a broker is injected.

const { Inject } = require('@nestjs/common');

const { Broker } = require('../broker.js');
const { queueOf } = require('../options.js');

// Where a prototype keeps what was said of its methods. On the prototype, since decorators may put another function in a
// method's place.
const HANDLERS = Symbol('libmq.handlers');

// What a broker is injected by: its class, or its name where it has one.
function brokerToken(name) {
  return name === undefined ? Broker : `libmq.broker.${name}`;
}

function InjectBroker(name) {
  return Inject(brokerToken(name));
}

function MessageHandler(queue, options) {
  queueOf(queue);
  return (target, method, descriptor) => {
    if (typeof target?.[method] !== 'function' || descriptor === undefined) {
      throw new TypeError(
        'MessageHandler is for methods, with the decorators that Nest is used with (experimentalDecorators)',
      );
    }
    if (!Object.hasOwn(target, HANDLERS)) Object.defineProperty(target, HANDLERS, { value: [] });
    target[HANDLERS].push({ method, queue, options });
  };
}

// What was said of the methods of a prototype, and of those that it inherits and says nothing of itself.
function handlersOf(prototype) {
  const found = new Map();
  for (let at = prototype; at !== null && at !== undefined; at = Object.getPrototypeOf(at)) {
    const own = Object.hasOwn(at, HANDLERS) ? at[HANDLERS] : [];
    const fresh = own.filter(({ method }) => !found.has(method));
    for (const said of fresh) found.set(said.method, [...(found.get(said.method) ?? []), said]);
  }
  return [...found.values()].flat();
}

module.exports = { InjectBroker, MessageHandler, brokerToken, handlersOf };
