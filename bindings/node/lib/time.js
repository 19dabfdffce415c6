'use strict';

// What libmq itself goes by: the loop's timers and clocks, as they are when the package is loaded. Tests put others in their
// places, which stand still, and handlers would with them.

const { performance } = require('node:perf_hooks');
const { clearTimeout, setImmediate, setInterval, setTimeout } = require('node:timers');

// Milliseconds on a clock that is never set, and those since the epoch, as the machine has them.
const elapsed = performance.now.bind(performance);
const { now } = Date;

module.exports = { clearTimeout, elapsed, now, setImmediate, setInterval, setTimeout };
