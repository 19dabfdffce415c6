'use strict';

const { InjectBroker, MessageHandler, brokerToken } = require('./decorators.js');
const { LibmqModule } = require('./module.js');

module.exports = { InjectBroker, LibmqModule, MessageHandler, brokerToken };
