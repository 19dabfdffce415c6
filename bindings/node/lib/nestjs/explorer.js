'use strict';

// The explorer: finds the methods that are a broker's handlers when the application starts, registers them, and has the broker live
// as long as the application.

const { Logger } = require('@nestjs/common');

const { LibmqError } = require('../errors.js');
const { Attempts } = require('./attempts.js');
const { brokerToken, handlersOf } = require('./decorators.js');

class Explorer {
  #name;
  #broker;
  #settings;
  #discovery;
  #modules;
  #moduleRef;
  #logger = new Logger('Libmq');

  constructor(name, broker, settings, discovery, modules, moduleRef) {
    this.#name = name;
    this.#broker = broker;
    this.#settings = settings;
    this.#discovery = discovery;
    this.#modules = modules;
    this.#moduleRef = moduleRef;
  }

  async onApplicationBootstrap() {
    try {
      this.#register();
      if (this.#settings.autoStart ?? true) await this.#broker.start();
    } catch (error) {
      // The application will not come up, and nobody else knows of the broker.
      await this.#broker.close({ timeout: 0 }).catch(() => {});
      throw error;
    }
  }

  // Handlers end while there is what they use: connections are closed later than this.
  async onModuleDestroy() {
    await this.#ending((options) => this.#broker.stop(options));
  }

  async onApplicationShutdown() {
    await this.#ending((options) => this.#broker.close(options));
  }

  #register() {
    const found = this.#find();
    const attempts = new Attempts(this.#modules, this.#moduleRef, this.#logger);
    const places = new Map();
    for (const { queue, options, place } of found) {
      if (places.has(queue)) {
        throw new LibmqError('INVALID', `queue ${queue} has two handlers: ${places.get(queue)} and ${place}`);
      }
      places.set(queue, place);
    }
    for (const { queue, options, wrapper, collection, method } of found) {
      this.#broker.handle(queue, attempts.handlerOf(wrapper, collection, method), options);
    }
    const named = this.#name === undefined ? '' : ` of ${this.#name}`;
    for (const [queue, place] of places) this.#logger.log(`${place} handles queue ${queue}${named}`);
  }

  // The handlers of this broker.
  #find() {
    const all = [
      ...this.#discovery.getProviders().map((wrapper) => [wrapper, 'providers']),
      ...this.#discovery.getControllers().map((wrapper) => [wrapper, 'controllers']),
    ];
    const tokens = new Set(all.map(([wrapper]) => wrapper.token));
    return all
      .filter(([wrapper]) => !wrapper.isAlias)
      .flatMap(([wrapper, collection]) =>
        handlersOf(prototypeOf(wrapper)).map(({ method, queue, options }) => {
          const { broker, ...rest } = options ?? {};
          const place = `${wrapper.name}.${String(method)} in ${wrapper.host?.name ?? 'no module'}`;
          if (!tokens.has(brokerToken(broker))) {
            const which = broker === undefined ? 'without a name' : `named ${broker}`;
            throw new LibmqError('INVALID', `${place} is a handler of a broker ${which}, which no LibmqModule opens`);
          }
          return { broker, queue, options: rest, wrapper, collection, method, place };
        }),
      )
      .filter(({ broker }) => broker === this.#name);
  }

  async #ending(end) {
    const { stopTimeout } = this.#settings;
    try {
      await end(stopTimeout === undefined ? undefined : { timeout: stopTimeout });
    } catch (error) {
      if (error.code === 'CLOSED') return;
      // It is stopped, or closed, all the same, and others have to end, too.
      this.#logger.warn(`the broker was not stopped in order: ${error.message}`);
    }
  }
}

// What a provider's methods are looked for on: that of its class, or of what its factory made.
function prototypeOf(wrapper) {
  const { instance, metatype } = wrapper;
  if (typeof instance === 'object' && instance !== null) return Object.getPrototypeOf(instance);
  return typeof metatype === 'function' && !wrapper.inject ? metatype.prototype : null;
}

module.exports = { Explorer };
