'use strict';

// Scopes: what is opened once an attempt, and closed before its ack.

const { asyncDispose, dispose } = require('./disposal.js');
const { entered } = require('./running.js');

// Opens one, has `work` done with it, and closes it, whatever came of that. The first failure is the attempt's; a close that
// fails after another failure is told to `tell`.
async function within(open, context, work, tell) {
  const scope = await entered(() => open(context));
  if ((typeof scope !== 'object' && typeof scope !== 'function') || scope === null) {
    throw new TypeError(`the scope is ${scope === null ? 'null' : typeof scope}, but has to be an object`);
  }
  const close = scope[asyncDispose] ?? scope[dispose];
  if (close !== undefined && close !== null && typeof close !== 'function') {
    throw new TypeError('the scope cannot be closed: its Symbol.asyncDispose is no function');
  }
  try {
    await work(scope);
  } catch (error) {
    try {
      await entered(() => close?.call(scope, false));
    } catch (second) {
      tell(second);
    }
    throw error;
  }
  await entered(() => close?.call(scope, true));
}

module.exports = { within };
