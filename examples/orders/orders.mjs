// A small shop: orders in, payments out. The same program as orders.rs and orders.c.
//
// Run it after `make build` with `node examples/orders/orders.mjs`, and again: the directory stays, and so does what is
// in it.

import { RejectError, open } from '../../bindings/node/lib/index.mjs';

const broker = await open('target/orders-data');

// A handler takes one message at a time, unless told otherwise. What it throws is a failed attempt, tried again later.
broker.handle('orders', takeOrder, { maxParallelism: 4, backoff: 100 });
broker.handle('payments', pay, { timeout: 10_000 });
await broker.start();

// When `enqueue` has resolved, the order survives a crash and a power loss. Its key makes it one of its kind: an order
// sent again before it is handled takes the place of the first.
for (let number = 1; number <= 5; number++) {
  const dedupKey = `ORD-${String(number).padStart(3, '0')}`;
  const { id, status } = await broker.enqueue('orders', { number, what: `${number} books` }, { dedupKey });
  console.log(`order ${number}: ${status} as message ${id}`);
}

await broker.waitIdle({ timeout: 10_000 });
for (const letter of await broker.deadLetters.list({ limit: 10 })) {
  console.log(`dead letter ${letter.id} of ${letter.queue}: ${letter.reason}`);
}
const { acked, retried, dead } = broker.metrics();
console.log(`${acked} acked, ${retried} retried, ${dead} dead`);
await broker.close();

// Fails once for one order, to be tried again; passes each order on to `payments`.
async function takeOrder(order, ctx) {
  if (order.number === 3 && ctx.attempt === 1) throw new Error('the stock is being counted');
  console.log(`  took the order of ${order.what}, attempt ${ctx.attempt}`);
  // The payment exists if and only if this attempt is acked: both are one record in the journal.
  ctx.enqueue('payments', order);
}

// Refuses one payment for good: it becomes a dead letter, to be looked at by somebody.
function pay(order) {
  if (order.number === 5) throw new RejectError('the card has expired');
  console.log(`  paid ${order.what}`);
}
