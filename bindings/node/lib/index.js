'use strict';

const { Broker } = require('./broker.js');
const { DeadLetter } = require('./dead_letters.js');
const { Delivery } = require('./delivery.js');
const { CancelledError, LibmqError, RejectError, ReleaseError, RetryError } = require('./errors.js');
const { message } = require('./message.js');
const { open, verify } = require('./opening.js');
const { closeOnSignal } = require('./signals.js');

module.exports = {
  Broker,
  CancelledError,
  DeadLetter,
  Delivery,
  LibmqError,
  RejectError,
  ReleaseError,
  RetryError,
  closeOnSignal,
  message,
  open,
  verify,
};
