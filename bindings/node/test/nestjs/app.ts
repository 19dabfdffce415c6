// Applications in NestJS, of which the tests run one after the other in processes of their own: the name of one is the first
// argument.

import 'reflect-metadata';

import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';

import { Controller, Inject, Injectable, Logger, Module, Scope, type OnModuleDestroy } from '@nestjs/common';
import { NestFactory, REQUEST } from '@nestjs/core';
import { Test } from '@nestjs/testing';
import { Broker, LibmqError, RetryError, type Context, type StandardSchema } from '@libmq/node';
import { InjectBroker, LibmqModule, MessageHandler, brokerToken, type MessageRequest } from '@libmq/node/nestjs';
import { assertEnqueued, drain, testBroker } from '@libmq/node/testing';

interface Order {
  id: string;
}

const told: string[] = [];
const path = process.argv[3] ?? ':memory:';
const quiet = { logger: false } as const;

@Injectable()
class Prices {
  of(order: Order): number {
    return order.id.length;
  }
}

@Injectable()
class Orders {
  constructor(
    private readonly prices: Prices,
    private readonly broker: Broker,
  ) {}

  async place(order: Order): Promise<void> {
    await this.broker.enqueue('orders', order, { dedupKey: order.id });
  }

  @MessageHandler('orders', { maxRetries: 1 })
  async handle(order: Order, ctx: Context): Promise<void> {
    told.push(`order ${order.id} for ${this.prices.of(order)}, attempt ${ctx.attempt}`);
    ctx.enqueue('mail', { order: order.id });
  }

  @MessageHandler('mail')
  mail({ order }: { order: string }): void {
    told.push(`mail of ${order}`);
  }
}

@Module({ providers: [Orders, Prices], exports: [Orders] })
class OrdersModule {}

// A session of a database, as it would be, and what uses it: both are made for each attempt.
@Injectable({ scope: Scope.REQUEST })
class Session {
  static count = 0;
  readonly number = ++Session.count;
  constructor(@Inject(REQUEST) readonly request: MessageRequest<Order>) {}

  async [Symbol.asyncDispose](succeeded: boolean): Promise<void> {
    await pause(1);
    told.push(`session ${this.number} of ${this.request.body.id}, attempt ${this.request.ctx.attempt}: ${succeeded}`);
    if (this.request.body.id === 'uncommitted' && this.request.ctx.attempt === 1) throw new RetryError(0);
  }
}

@Injectable()
class Ledger {
  constructor(readonly session: Session) {}

  [Symbol.dispose](): void {
    told.push(`ledger ${this.session.number}`);
  }
}

@Injectable()
class Accounting {
  constructor(
    private readonly ledger: Ledger,
    private readonly session: Session,
    private readonly broker: Broker,
  ) {}

  @MessageHandler('orders', { maxParallelism: 2, backoff: 0 })
  async handle(order: Order, ctx: Context): Promise<void> {
    assert.equal(this.ledger.session, this.session);
    assert.equal(this.session.request.ctx, ctx);
    await pause(1);
    if (ctx.attempt === 1 && order.id === 'failing') throw new Error('not yet');
    told.push(`handled ${order.id} with ${this.session.number}, acked ${this.broker.metrics().acked}`);
  }
}

@Module({ imports: [LibmqModule.forRoot({ path })], providers: [Accounting, Ledger, Session] })
class ScopedModule {}

const schema: StandardSchema<unknown, { at: Date }> = {
  '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: { at: new Date(value as string) } }) },
};

@Controller()
class Dates {
  @MessageHandler('dates', { schema })
  date(body: { at: Date }): void {
    told.push(body.at.toISOString());
  }
}

class Base {
  @MessageHandler('inherited')
  one(): void {
    told.push(`one of ${this.constructor.name}`);
  }

  @MessageHandler('said-anew')
  two(): void {
    told.push('two of the base');
  }
}

@Injectable()
class Derived extends Base {
  @MessageHandler('said')
  override two(): void {
    told.push('two of the derived');
  }
}

@Injectable()
class Second {
  constructor(@InjectBroker('second') readonly broker: Broker) {}

  @MessageHandler('orders', { broker: 'second' })
  handle(body: string): void {
    told.push(`second: ${body}`);
  }
}

@Injectable()
class Twice {
  @MessageHandler('orders')
  again(): void {}
}

// What handlers use until they have ended.
@Injectable()
class Connection implements OnModuleDestroy {
  isOpen = true;

  onModuleDestroy(): void {
    this.isOpen = false;
    told.push('connection closed');
  }
}

@Module({ providers: [Connection], exports: [Connection] })
class ConnectionModule {}

@Injectable()
class Slow {
  constructor(private readonly connection: Connection) {}

  @MessageHandler('slow', { maxRetries: 0 })
  async handle(): Promise<void> {
    told.push('began');
    console.log('began');
    await pause(300);
    if (!this.connection.isOpen) throw new Error('the connection is closed');
    told.push('ended');
    console.log('ended');
  }
}

@Module({ imports: [ConnectionModule], providers: [Slow] })
class SlowModule {}

const applications: Record<string, () => Promise<void>> = {
  async handles() {
    @Module({ imports: [LibmqModule.forRoot({ path }), OrdersModule] })
    class App {}
    const app = await NestFactory.createApplicationContext(App, quiet);
    await app.get(Orders).place({ id: 'ORD-1' });
    assert.equal(await app.get(Broker).waitIdle({ timeout: 10_000 }), true);
    assert.deepEqual(told, ['order ORD-1 for 5, attempt 1', 'mail of ORD-1']);
    const broker = app.get(Broker);
    await app.close();
    await assert.rejects(broker.enqueue('orders', 1), { code: 'CLOSED' });
  },

  async scopes() {
    const app = await NestFactory.createApplicationContext(ScopedModule, quiet);
    const broker = app.get(Broker);
    await broker.enqueue('orders', { id: 'A' });
    assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
    assert.deepEqual(told, ['handled A with 1, acked 0', 'ledger 1', 'session 1 of A, attempt 1: true']);
    told.length = 0;
    await broker.enqueue('orders', { id: 'failing' });
    assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
    assert.deepEqual(told, [
      'ledger 2',
      'session 2 of failing, attempt 1: false',
      'handled failing with 3, acked 1',
      'ledger 3',
      'session 3 of failing, attempt 2: true',
    ]);
    told.length = 0;
    await broker.enqueue('orders', { id: 'uncommitted' });
    assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
    assert.equal(told.filter((line) => line.startsWith('session')).length, 2);
    assert.equal(broker.metrics().acked, 3);
    await broker.enqueueMany(
      'orders',
      Array.from({ length: 50 }, (_, at) => ({ id: String(at) })),
    );
    assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
    assert.equal(Session.count, 55);
    await app.close();
  },

  async asynchronous() {
    @Injectable()
    class Config {
      createLibmqOptions() {
        return { path, defaultMaxRetries: 0 };
      }
    }
    @Module({ providers: [Config], exports: [Config] })
    class ConfigModule {}
    for (const options of [
      { imports: [ConfigModule], inject: [Config], useFactory: async (config: Config) => config.createLibmqOptions() },
      { imports: [ConfigModule], useExisting: Config },
      { useClass: Config },
    ]) {
      told.length = 0;
      @Module({
        imports: [LibmqModule.forRootAsync(options), OrdersModule],
        controllers: [Dates],
        providers: [Derived],
      })
      class App {}
      const app = await NestFactory.createApplicationContext(App, quiet);
      const broker = app.get(Broker);
      await broker.enqueue('dates', '2026-11-27');
      await broker.enqueue('inherited', 1);
      await broker.enqueue('said', 1);
      assert.equal(await broker.waitIdle({ timeout: 10_000 }), true);
      assert.deepEqual(told.sort(), ['2026-11-27T00:00:00.000Z', 'one of Derived', 'two of the derived']);
      assert.equal(broker.metrics().queues['said-anew'], undefined);
      await app.close();
    }
  },

  async named() {
    @Module({
      imports: [LibmqModule.forRoot({ path }), LibmqModule.forRoot({ name: 'second', path: ':memory:' }), OrdersModule],
      providers: [Second],
    })
    class App {}
    const app = await NestFactory.createApplicationContext(App, quiet);
    const second: Broker = app.get(brokerToken('second'));
    assert.equal(app.get(Second).broker, second);
    await second.enqueue('orders', 'B');
    await app.get(Orders).place({ id: 'A' });
    assert.equal(await second.waitIdle({ timeout: 10_000 }), true);
    assert.equal(await app.get(Broker).waitIdle({ timeout: 10_000 }), true);
    assert.deepEqual(told.sort(), ['mail of A', 'order A for 1, attempt 1', 'second: B']);
    await app.close();
  },

  async doubled() {
    @Module({ imports: [LibmqModule.forRoot({ path }), OrdersModule], providers: [Twice] })
    class App {}
    const refused = await failureOf(App);
    assert.equal(refused.code, 'INVALID');
    assert.match(refused.message, /^queue orders has two handlers: (.*) and (.*)$/);
    for (const place of ['Orders.handle in OrdersModule', 'Twice.again in App'])
      assert.ok(refused.message.includes(place));
    @Module({
      imports: [LibmqModule.forRoot({ path: ':memory:' })],
      providers: [Second],
    })
    class Nameless {}
    @Module({ imports: [LibmqModule.forRoot({ path })], providers: [OtherHandler] })
    class Unknown {}
    assert.match(
      (await failureOf(Unknown)).message,
      /OtherHandler\.handle in Unknown .* named other, which no LibmqModule opens/,
    );
    assert.match(String(await failureOf(Nameless)), /libmq\.broker\.second/);
    for (const call of ['forRoot', 'forRootAsync'] as const) {
      assert.throws(() => (LibmqModule[call] as () => unknown)(), {
        name: 'TypeError',
        message: RegExp(`^${call} takes`),
      });
    }
    // It could not be destructured, it said.
    for (const answer of [undefined, null, 5]) {
      const useFactory = (() => answer) as never;
      @Module({ imports: [LibmqModule.forRootAsync({ useFactory })] })
      class Optionless {}
      const { name, message } = await failureOf(Optionless);
      assert.deepEqual([name, message], ['TypeError', 'LibmqModule, from its factory, takes an object with options']);
    }
    // Nobody has the directory any more.
    @Module({ imports: [LibmqModule.forRoot({ path }), OrdersModule] })
    class Sound {}
    await (await NestFactory.createApplicationContext(Sound, quiet)).close();
  },

  async testing() {
    const broker = await testBroker();
    const module = await Test.createTestingModule({
      imports: [LibmqModule.forRoot({ path: '/never/opened', autoStart: false }), OrdersModule],
    })
      .overrideProvider(Broker)
      .useValue(broker)
      .setLogger(false as never)
      .compile();
    await module.init();
    await module.get(Orders).place({ id: 'ORD-1' });
    assertEnqueued(broker, 'orders', { id: 'ORD-1' }, { dedupKey: 'ORD-1' });
    assert.deepEqual(told, []);
    await drain(broker);
    assertEnqueued(broker, 'mail', { order: 'ORD-1' });
    assert.equal(told.length, 2);
    await module.close();
  },

  async ending() {
    @Module({ imports: [LibmqModule.forRoot({ path }), SlowModule] })
    class App {}
    @Module({ imports: [ConnectionModule, LibmqModule.forRoot({ path })], providers: [Slow] })
    class Flat {}
    for (const Application of [App, Flat]) {
      told.length = 0;
      const app = await NestFactory.createApplicationContext(Application, quiet);
      await app.get(Broker).enqueue('slow', 1);
      while (told.length === 0) await pause(1);
      await app.close();
      assert.deepEqual(told, ['began', 'ended', 'connection closed']);
    }
  },

  // Ends by a signal.
  async signalled() {
    @Module({ imports: [LibmqModule.forRoot({ path }), SlowModule] })
    class App {}
    const app = await NestFactory.createApplicationContext(App, quiet);
    app.enableShutdownHooks();
    await app.get(Broker).enqueueMany('slow', [1, 2]);
  },
};

@Injectable()
class OtherHandler {
  @MessageHandler('orders', { broker: 'other' })
  handle(): void {}
}

async function failureOf(App: new () => object): Promise<LibmqError> {
  try {
    await NestFactory.createApplicationContext(App, { ...quiet, abortOnError: false });
  } catch (error) {
    return error as LibmqError;
  }
  return assert.fail('the application has started');
}

Logger.overrideLogger(false);
await applications[process.argv[2]!]!();
