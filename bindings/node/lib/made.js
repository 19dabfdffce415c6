'use strict';

// What only this package makes: such constructors are given this key first, and methods stay what they are of when they are
// taken out of it.

const key = Symbol('libmq');

// Refuses whoever has not got the key, and says how one comes by what it wants.
function onlyMade(given, how) {
  if (given !== key) throw new TypeError(how);
}

// Has methods of a class know their object also as `const { ack } = delivery`. Whoever sets one has set it, as in a test.
function bindable(of, ...names) {
  for (const name of names) {
    const method = of.prototype[name];
    Object.defineProperty(of.prototype, name, {
      configurable: true,
      get() {
        return method.bind(this);
      },
      set(value) {
        Object.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true });
      },
    });
  }
}

module.exports = { bindable, key, onlyMade };
