'use strict';

// Attempts in Nest: a provider that is there once is called as it is. One that is request-scoped, or depends on one that is, is
// made anew for each attempt, with everything of that kind that it needs; all that was made for an attempt is closed before its
// ack.

const { ContextIdFactory } = require('@nestjs/core');
const { Injector } = require('@nestjs/core/injector/injector');

const { asyncDispose, dispose } = require('../disposal.js');
const { entered } = require('../running.js');
const { within } = require('../scope.js');

class Attempts {
  #modules;
  #moduleRef;
  #logger;
  #injector = new Injector();
  #closing;

  constructor(modules, moduleRef, logger) {
    this.#modules = modules;
    this.#moduleRef = moduleRef;
    this.#logger = logger;
  }

  // The handler that a provider's method is.
  handlerOf(wrapper, collection, method) {
    if (wrapper.isDependencyTreeStatic() && !wrapper.isTransient) {
      const { instance } = wrapper;
      return (body, ctx) => instance[method](body, ctx);
    }
    const tell = (error) => this.#logger.error(`closing what an attempt of ${wrapper.name} used failed`, error?.stack);
    return (body, ctx) => {
      const work = async (scope) => {
        const instance = await scope.load();
        await entered(() => instance[method](body, ctx));
      };
      return within(() => this.#open(wrapper, collection, { body, ctx }, tell), ctx, work, tell);
    };
  }

  #open(wrapper, collection, request, tell) {
    const id = ContextIdFactory.getByRequest(request);
    this.#moduleRef.registerRequestByContextId(id.payload ? Object.assign(request, id.payload) : request, id);
    const { host } = wrapper;
    return {
      load: () =>
        this.#injector.loadPerContext(
          wrapper.instance ?? { constructor: wrapper.metatype },
          host,
          host[collection],
          id,
          wrapper,
        ),
      [asyncDispose]: (succeeded) => this.#close(id, succeeded, tell),
    };
  }

  // Closes what was made, each before what it uses. All are closed, whatever comes of it; the first failure is told.
  async #close(id, succeeded, tell) {
    const failures = [];
    for (const instance of this.#made(id)) {
      const close = instance[asyncDispose] ?? instance[dispose];
      if (typeof close !== 'function') continue;
      try {
        await entered(() => close.call(instance, succeeded && failures.length === 0));
      } catch (error) {
        failures.push(error);
      }
    }
    const [first, ...others] = failures;
    others.forEach(tell);
    if (failures.length > 0) throw first;
  }

  #made(id) {
    this.#closing ??= inOrderOfClosing(this.#modules);
    const there = this.#closing.flatMap((wrapper) =>
      typeof wrapper.getExistingInstancesByContextId === 'function'
        ? wrapper.getExistingInstancesByContextId(id)
        : [wrapper.getInstanceByContextId(id)],
    );
    const made = there.filter(
      ({ instance, isResolved }) => isResolved && typeof instance === 'object' && instance !== null,
    );
    return new Set(made.map(({ instance }) => instance));
  }
}

// What can be made for an attempt, each before what it depends on.
function inOrderOfClosing(modules) {
  const all = [...modules.values()].flatMap(({ providers, injectables, controllers }) => [
    ...providers.values(),
    ...injectables.values(),
    ...controllers.values(),
  ]);
  const seen = new Set();
  const order = [];
  const visit = (wrapper) => {
    if (wrapper === undefined || seen.has(wrapper)) return;
    seen.add(wrapper);
    (wrapper.getCtorMetadata() ?? []).forEach(visit);
    (wrapper.getPropertiesMetadata() ?? []).forEach((property) => visit(property.wrapper));
    order.push(wrapper);
  };
  all.forEach(visit);
  const isMade = (wrapper) => !wrapper.isAlias && (wrapper.isTransient || !wrapper.isDependencyTreeStatic());
  return order.filter(isMade).reverse();
}

module.exports = { Attempts };
