'use strict';

// What a handler is: a function; an object with a method `handle`; or a class that has one, of which each attempt gets an
// instance, resolved from its scope or made with `new`.

const { types } = require('node:util');

const { LibmqError } = require('./errors.js');
const { wrongType } = require('./options.js');
const { entered } = require('./running.js');

const WANTED = 'a function, a class with a method handle, or an object with one';

// What is called with a message and its context; whether there is a scope that may resolve a class.
function calleeOf(handler, hasScope) {
  if (typeof handler === 'function') {
    if (isClass(handler)) {
      const isStatic = typeof handler.handle === 'function' && typeof handler.prototype?.handle !== 'function';
      if (isStatic) throw wrongType('handler', `${WANTED}; this class has a static one`);
      if (!hasScope && !mayHandle(handler)) throw wrongType('handler', `${WANTED}; ${nameOf(handler)} has none`);
      return (message, context) => callInstance(handler, message, context);
    }
    refuseGenerator(handler);
    return handler;
  }
  if (typeof handler !== 'object' || handler === null) throw wrongType('handler', WANTED);
  const { handle } = handler;
  if (typeof handle !== 'function') throw wrongType('handler', WANTED);
  refuseGenerator(handle);
  return (message, context) => handler.handle(message, context);
}

// A class by its syntax, which a method of this name has not, or by what it was compiled to.
function isClass(value) {
  if (/^class\b(?!\s*\()/.test(Function.prototype.toString.call(value))) return true;
  return typeof value.prototype === 'object' && typeof value.prototype?.handle === 'function';
}

// Whether an instance can have a method `handle`: of its prototype, or a field of its own, which is seen in the text alone.
function mayHandle(of) {
  if (typeof of.prototype?.handle === 'function') return true;
  for (let at = of; typeof at === 'function'; at = Object.getPrototypeOf(at)) {
    if (/\bhandle\b/.test(Function.prototype.toString.call(at))) return true;
  }
  return false;
}

function nameOf(of) {
  return of.name || 'the class';
}

async function callInstance(of, message, context) {
  const { scope } = context;
  const resolves = typeof scope?.resolve === 'function';
  const instance = resolves ? await entered(() => scope.resolve(of)) : entered(() => new of());
  const handle = instance?.handle;
  if (typeof handle !== 'function') {
    const name = nameOf(of);
    throw new TypeError(`${resolves ? `scope.resolve(${name})` : `new ${name}()`} is nothing with a method handle`);
  }
  refuseGenerator(handle);
  return entered(() => handle.call(instance, message, context));
}

// Called, it would only make a generator, and nothing of it would run.
function refuseGenerator(handle) {
  if (types.isGeneratorFunction(handle)) {
    throw new LibmqError('UNSUPPORTED', 'a generator as a handler is not supported');
  }
}

module.exports = { calleeOf };
