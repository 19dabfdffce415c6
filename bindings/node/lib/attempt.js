'use strict';

// Attempts: what is done with a message. Its body is validated, a scope opened, the handler called, the scope closed; each
// once, in this order.

const { Context } = require('./context.js');
const { validated } = require('./schema.js');
const { entered } = require('./running.js');
const { within } = require('./scope.js');

// What is called with a body and its context; `tell` with the failure of a close that failed after another one.
function attemptOf(callee, { schema, scope }, tell) {
  if (schema === undefined && scope === undefined) return callee;
  return async (body, context) => {
    const message = schema === undefined ? body : await validated(schema, body);
    const call = () => entered(() => callee(message, context));
    if (scope === undefined) {
      await call();
      return;
    }
    const work = (opened) => {
      Context.enter(context, opened);
      return call();
    };
    await within(scope, context, work, (error) => tell(error, context));
  };
}

module.exports = { attemptOf };
