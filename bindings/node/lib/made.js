'use strict';

// What only this package makes: such constructors are given this key first.

const key = Symbol('libmq');

// Refuses whoever has not got the key, and says how one comes by what it wants.
function onlyMade(given, how) {
  if (given !== key) throw new TypeError(how);
}

module.exports = { key, onlyMade };
