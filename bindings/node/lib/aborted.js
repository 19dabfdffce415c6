'use strict';

// Those who wait with a signal, told when it is aborted. One listener for all of them, since Node warns of a leak where a
// signal has more than ten.

const waiting = new WeakMap();

// Has `call` called when a signal is aborted, once; answers what takes that back.
function whenAborted(signal, call) {
  const line = waiting.get(signal) ?? lineOf(signal);
  line.calls.add(call);
  return () => {
    line.calls.delete(call);
    if (line.calls.size > 0 || waiting.get(signal) !== line) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', line.abort);
  };
}

function lineOf(signal) {
  const calls = new Set();
  const abort = () => {
    waiting.delete(signal);
    for (const call of [...calls]) call();
  };
  signal.addEventListener('abort', abort, { once: true });
  const line = { calls, abort };
  waiting.set(signal, line);
  return line;
}

module.exports = { whenAborted };
