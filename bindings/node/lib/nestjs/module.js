'use strict';

// The module: opens a broker that can be injected everywhere, and has an explorer find its handlers.

const { Module } = require('@nestjs/common');
const { DiscoveryModule, DiscoveryService, ModuleRef, ModulesContainer } = require('@nestjs/core');

const { LibmqError } = require('../errors.js');
const { open } = require('../opening.js');
const { brokerToken } = require('./decorators.js');
const { Explorer } = require('./explorer.js');

// What the broker comes from. A module of its own, and global: were the explorer in it, Nest would have it begin before all
// others and end after them, and handlers would run without what they need.
class BrokerModule {}
Module({})(BrokerModule);

class LibmqModule {
  static forRoot(options) {
    const { name, isGlobal, ...settings } = given('forRoot', options);
    return moduleOf({ name, isGlobal }, { useValue: settings });
  }

  static forRootAsync(options) {
    const {
      name,
      isGlobal,
      imports,
      inject,
      useFactory,
      useClass,
      useExisting,
      extraProviders = [],
    } = given('forRootAsync', options);
    const of = { name, isGlobal, imports };
    if (useFactory !== undefined) return moduleOf(of, { useFactory, inject: inject ?? [] }, extraProviders);
    const source = useExisting ?? useClass;
    if (typeof source !== 'function') {
      throw new LibmqError('INVALID', 'forRootAsync takes useFactory, useClass or useExisting');
    }
    const made = useExisting === undefined ? [{ provide: source, useClass: source }] : [];
    const asked = { useFactory: (maker) => maker.createLibmqOptions(), inject: [source] };
    return moduleOf(of, asked, [...made, ...extraProviders]);
  }
}
Module({})(LibmqModule);

function given(call, options) {
  if (typeof options !== 'object' || options === null) throw new TypeError(`${call} takes an object with options`);
  return options;
}

function moduleOf({ name, isGlobal = true, imports = [] }, settings, others = []) {
  const token = brokerToken(name);
  const settingsToken = `libmq.settings.${name ?? ''}`;
  const broker = {
    provide: token,
    useFactory: (found) => {
      const { path, autoStart, stopTimeout, ...options } = given('LibmqModule, from its factory,', found);
      return open(path, options);
    },
    inject: [settingsToken],
  };
  const explorer = {
    provide: Explorer,
    useFactory: (...parts) => new Explorer(name, ...parts),
    inject: [token, settingsToken, DiscoveryService, ModulesContainer, ModuleRef],
  };
  const source = {
    module: BrokerModule,
    global: isGlobal,
    imports,
    providers: [...others, { provide: settingsToken, ...settings }, broker],
    exports: [token, settingsToken],
  };
  return { module: LibmqModule, imports: [source, DiscoveryModule], providers: [explorer], exports: [source] };
}

module.exports = { LibmqModule };
