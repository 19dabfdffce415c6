'use strict';

// The native half, which the build leaves beside this directory.

module.exports = require('../libmq.node');
