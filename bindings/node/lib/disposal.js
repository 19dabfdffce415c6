'use strict';

// The symbols by which an object says how it is closed. Node has them from 20.4 on; before that they are the ones that
// compilers use where there are none.

module.exports = {
  asyncDispose: Symbol.asyncDispose ?? Symbol.for('Symbol.asyncDispose'),
  dispose: Symbol.dispose ?? Symbol.for('Symbol.dispose'),
};
