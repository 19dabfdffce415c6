import libmq from './index.js';

export const {
  Broker,
  CancelledError,
  DeadLetter,
  Delivery,
  LibmqError,
  RejectError,
  ReleaseError,
  RetryError,
  message,
  open,
  verify,
} = libmq;
export default libmq;
