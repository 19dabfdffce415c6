'use strict';

// Opening a directory, and verifying one.

const { Broker } = require('./broker.js');
const { environment, promised, rest, rouse } = require('./environment.js');
const { calling } = require('./errors.js');
const { Log } = require('./log.js');
const { key } = require('./made.js');
const { optionsOf, withGiven } = require('./options.js');
const { pathOf } = require('./path.js');

let watchesExit = false;

// On its own: a listener made in `open` would keep what the first one was given.
function watchExit() {
  if (watchesExit) return;
  watchesExit = true;
  process.on('exit', () => environment.shut());
}

async function open(path, options) {
  const at = pathOf(path);
  const { log: hook, scope, ...init } = optionsOf('broker', options);
  watchExit();
  rouse();
  const log = hook === undefined ? undefined : new Log(hook);
  try {
    const number = await promised((promise) => environment.open(promise, at, init, differing(init), log?.number ?? 0));
    const native = calling(() => environment.broker(number));
    return new Broker(key, native, log, scope);
  } catch (error) {
    log?.end();
    rest();
    throw withGiven('broker', init, error);
  }
}

// The options in which two environments may not differ, as text.
function differing({ lockTimeout, ...init }) {
  return JSON.stringify(init, Object.keys(init).sort().concat('steps', 'base', 'factor', 'cap', 'jitter'));
}

async function verify(path) {
  const at = pathOf(path);
  rouse();
  try {
    return await promised((promise) => environment.verify(promise, at));
  } finally {
    rest();
  }
}

module.exports = { open, verify };
