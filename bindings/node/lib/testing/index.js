'use strict';

const { assertEnqueued, assertNotEnqueued } = require('./assertions.js');
const { drain } = require('./draining.js');
const { clearEnqueued, enqueued, testBroker } = require('./opening.js');
const { runHandler } = require('./running.js');

module.exports = { assertEnqueued, assertNotEnqueued, clearEnqueued, drain, enqueued, runHandler, testBroker };
