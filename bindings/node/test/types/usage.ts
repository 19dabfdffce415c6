// Compiled, never run: the declarations against the uses that the documentation shows.

import {
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
  type Broker,
  type Context,
  type HandlerObject,
  type MessageInit,
  type Receipt,
  type Scope,
  type StandardSchema,
} from '@libmq/node';

interface Order {
  orderId: string;
}

export async function uses(): Promise<void> {
  const broker: Broker = await open('queue-data', {
    durability: 'sync',
    capacity: 1_000_000,
    log: (level, event, fields) => console.log(level, event, fields.queue),
  });
  const { id, status }: Receipt = await broker.enqueue('orders', { orderId: 'ORD-001' }, { dedupKey: 'ORD-001' });
  const sum: bigint = id + 1n;
  const isNew: boolean = status === 'accepted';
  const receipts = await broker.enqueueMany('orders', [
    1,
    { body: 2, dedupKey: 'k' } satisfies MessageInit,
    message(3),
  ]);
  broker.handle<Order>(
    'orders',
    async (order, ctx: Context) => {
      ctx.enqueue('payments', { for: order.orderId });
      ctx.extend(60_000);
      if (ctx.signal.reason instanceof CancelledError && ctx.signal.reason.reason === 'timeout')
        throw new RetryError(1000);
      if (ctx.attempt > ctx.maxRetries) throw new RejectError('too often');
      if (ctx.raw.length === 0 || ctx.deadline < new Date()) throw new ReleaseError();
    },
    { maxParallelism: 4, timeout: 300_000, maxRetries: 3, backoff: { base: 1000, factor: 2, cap: 600_000, jitter: 1 } },
  );
  await broker.start();
  const delivery: Delivery<Order> | null = await broker.receive<Order>('orders', { timeout: 1000, lease: 30_000 });
  if (delivery !== null) {
    delivery.body.orderId.at(0);
    await delivery.retry({ delay: 5, error: 'why' });
  }
  for await (const one of broker.deliveries<Order>('orders', { signal: AbortSignal.timeout(5) })) await one.ack();
  const letters = await broker.deadLetters.list({ queue: 'orders', limit: 100, after: id });
  await broker.deadLetters.replay(letters[0]?.id ?? '7');
  const unknown: unknown = letters[0] ?? delivery;
  if (unknown instanceof DeadLetter) console.log(unknown.reason);
  if (unknown instanceof Delivery) await unknown.ack();
  const ready: number | undefined = broker.metrics().queues['orders']?.ready;
  await broker.stop({ timeout: 25_000 }).catch((error: unknown) => {
    if (error instanceof LibmqError && error.code === 'TIMEOUT' && error.retryable) return;
    throw error;
  });
  await broker.backup(new URL('file:///elsewhere'));
  const report = await verify('elsewhere');
  const first: number | null | undefined = report.problems[0]?.offset;
  console.log(report.sound, report.deadLetters, first);
  await broker.close();
  console.log(sum, isNew, receipts.length, ready);
}

export async function disposes(): Promise<void> {
  await using broker = await open(new URL('file:///queue-data'));
  // @ts-expect-error: an option that there is not
  await broker.enqueue('orders', 1, { dedupkey: 'k' });
  // @ts-expect-error: a level that there is not
  await open('queue-data', { durability: 'fast' });
  // @ts-expect-error: made by the package alone
  console.log(new Delivery());
  // @ts-expect-error: it stays as it is
  (await broker.enqueue('orders', 1)).id = 5n;
  // @ts-expect-error: an id is a bigint or text
  await broker.deadLetters.get(5);
}

interface Shape {
  readonly at: Date;
  readonly parts?: readonly string[];
}

export async function bodies(broker: Broker, ctx: Context, shape: Shape, something: unknown, any: any): Promise<void> {
  for (const body of [1, 'text', true, null, [1, { a: undefined }], shape, new Uint8Array(2), Buffer.from('x')]) {
    await broker.enqueue('orders', body);
  }
  await broker.enqueue('orders', something);
  await broker.enqueue('orders', any);
  ctx.enqueue<unknown>('orders', shape);
  // @ts-expect-error: an await is missing
  await broker.enqueue('orders', Promise.resolve(shape));
  // @ts-expect-error: it may be nothing
  await broker.enqueue('orders', shape.parts);
  // @ts-expect-error: JSON has no form for it
  await broker.enqueue('orders', () => shape);
  // @ts-expect-error: nor for this
  await broker.enqueue('orders', 1n);
  // @ts-expect-error: nor for this
  ctx.enqueue('orders', new Map([['a', 1]]));
  // @ts-expect-error: nor for this
  ctx.enqueue('orders', undefined);
  // @ts-expect-error: bytes are a Uint8Array
  await broker.enqueue('orders', new Uint16Array(2));
  // @ts-expect-error: so is what this is of
  await broker.enqueue('orders', new DataView(new ArrayBuffer(2)));
  // @ts-expect-error: JSON would keep nothing of it
  await broker.enqueue('orders', new Blob(['x']));
  // @ts-expect-error: nor of this
  await broker.enqueue('orders', new URLSearchParams('a=1'));
  await broker.enqueue('orders', { name: 'ada', message: 'hello', stack: undefined });
  await broker.enqueue('orders', { size: 5, type: 'text/plain', at: new Date(), of: new URL('file:///x') });
}

class Session {
  async [Symbol.asyncDispose](succeeded: boolean): Promise<void> {
    console.log(succeeded);
  }
}

class OrderHandler implements HandlerObject<Order, Container> {
  constructor(private readonly session: Session) {}

  async handle(order: Order, ctx: Context<Container>): Promise<void> {
    console.log(order.orderId, ctx.scope.session === this.session);
  }
}

class Container implements Scope {
  readonly session = new Session();

  resolve<T>(of: new (session: Session) => T): T {
    return new of(this.session);
  }

  [Symbol.asyncDispose](succeeded: boolean): Promise<void> {
    return this.session[Symbol.asyncDispose](succeeded);
  }
}

class Plain {
  handle(order: unknown): void {
    console.log(order);
  }
}

class Needy extends Plain {
  constructor(readonly session: Session) {
    super();
  }
}

class Told {
  constructor(readonly session: Session) {}

  handle(order: Order, ctx: Context): void {
    console.log(order, ctx.attempt, this.session);
  }
}

declare const schema: StandardSchema<unknown, Order>;

export async function scopes(): Promise<void> {
  const plain: Broker = await open('queue-data');
  const broker = await open('queue-data', {
    scope: async (ctx) => (ctx.attempt > 0 ? new Container() : new Container()),
  });
  const text: string = broker.prometheus();
  broker.handle('orders', OrderHandler);
  broker.handle('orders', new OrderHandler(new Session()));
  broker.handle('orders', { handle: (order: Order) => order.orderId });
  broker.handle('orders', (body, ctx) => [body satisfies unknown, ctx.scope.session]);
  broker.handle<Order>('orders', (order, ctx) => [order.orderId, ctx.scope.session]);
  broker.handle('orders', (order, ctx) => [order.orderId, ctx.scope.session], { schema });
  broker.handle('orders', (_, ctx) => ctx.scope.session, { scope: () => ({ session: 5 }) });
  broker.handle('orders', (order, ctx) => order.orderId.at(ctx.scope.place), {
    schema,
    scope: async () => ({ place: 5 }),
  });
  broker.handle('orders', OrderHandler, { schema });
  plain.handle('orders', (_, { scope }: Context) => scope);
  const none = await open('queue-data');
  none.handle('orders', (_, ctx) => ctx.scope satisfies undefined);
  // @ts-expect-error: there is no scope
  none.handle('orders', (_, ctx) => ctx.scope.session);
  none.handle('orders', Plain);
  // @ts-expect-error: nobody gives it a session
  none.handle('orders', Needy);
  // @ts-expect-error: nor this one, also where it takes any context
  none.handle('orders', Told);
  // @ts-expect-error: nor with options
  none.handle('orders', Told, { timeout: 5 });
  // @ts-expect-error: nor with a schema
  none.handle('orders', Told, { schema });
  none.handle('orders', Told, { scope: () => new Container() });
  none.handle('orders', Told, { schema, scope: () => new Container() });
  none.handle('orders', OrderHandler, { scope: async () => new Container() });
  // @ts-expect-error: it wants another scope
  none.handle('orders', OrderHandler, { scope: () => ({ place: 5 }) });
  none.handle('orders', (order: Order, ctx: Context) => [order.orderId, ctx.attempt], { maxRetries: 5 });
  none.handle<Order>('orders', (order) => order.orderId, { timeout: 5 });
  none.handle('orders', class extends Plain {});
  broker.handle('orders', Told);
  broker.handle('orders', Needy);
  plain.handle('orders', Told, { timeout: 5 });
  plain.handle('orders', (_: unknown, ctx: Context<Container>) => ctx.scope.session);
  // @ts-expect-error: the schema makes an Order of it
  broker.handle('orders', (order) => order.other, { schema });
  // @ts-expect-error: it has no method `handle`
  broker.handle('orders', Session);
  // @ts-expect-error: nor has this
  broker.handle('orders', new Session());
  // @ts-expect-error: no schema
  broker.handle('orders', () => {}, { schema: {} });
  // @ts-expect-error: no object
  await open('queue-data', { scope: () => 5 });
  // @ts-expect-error: no function
  await open('queue-data', { scope: new Container() });
  const hooked = await open('queue-data', {
    log: async (level, event, fields) =>
      level === 'debug' ? fields.id : JSON.stringify({ event, ...fields.toJSON() }),
  });
  console.log(text, hooked);
}

export async function ends(): Promise<void> {
  const [one, two] = [await open('one'), await open('two', { scope: () => new Container() })];
  const undo: () => void = closeOnSignal(one);
  undo();
  closeOnSignal([one, two], { signals: ['SIGTERM'], timeout: 5000, before: async (signal) => console.log(signal) });
  // @ts-expect-error: no such signal
  closeOnSignal(one, { signals: ['SIGNONE'] });
  // @ts-expect-error: no broker
  closeOnSignal({ close: () => {} });
}

// An option that is undefined is one that is absent; where that means all, it is said by leaving it out.
export async function absent(
  broker: Broker,
  schema: StandardSchema | undefined,
  ms: number | undefined,
): Promise<void> {
  await open('queue-data', { capacity: ms, scope: undefined });
  broker.handle('orders', () => {}, { schema, timeout: ms, backoff: { base: ms } });
  await broker.enqueue('orders', {}, { delay: ms, dedupKey: undefined });
  await broker.deadLetters.list({ queue: undefined, limit: ms });
  // @ts-expect-error without it all are purged, which is said by leaving it out
  await broker.deadLetters.purge({ queue: undefined });
  const { reason }: { reason: string } = new RejectError();
  closeOnSignal(broker, { before: undefined, timeout: reason.length });
  await broker.close({ timeout: ms });
}
