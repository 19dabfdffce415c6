/**
 * libmq in NestJS: a module that opens a broker and closes it with the application, and a decorator for the methods that
 * handle its messages.
 */

import type {
  DynamicModule,
  ForwardReference,
  InjectionToken,
  OptionalFactoryDependency,
  Provider,
  Type,
} from '@nestjs/common';

import type { Broker, BrokerOptions, Context, HandlerOptions, SchemaOutput, StandardSchema } from '../index.js';

/** What the module opens: a broker's path and options, and what the module does with it. */
export interface LibmqModuleOptions extends BrokerOptions<any> {
  /** The broker's directory; `:memory:` is a broker without files. */
  path: string | URL;
  /** Starts the broker when the application has started. Default true. */
  autoStart?: boolean | undefined;
  /** How long handlers have to end with the application, in milliseconds. Default 25,000. */
  stopTimeout?: number | undefined;
}

/** How the module is known in the application. */
export interface LibmqModuleScope {
  /** For a second broker: it is injected with {@link InjectBroker}, and handlers say `broker`. Default none. */
  name?: string | undefined;
  /** Whether every module can have the broker injected. Default true. */
  isGlobal?: boolean | undefined;
}

/** Makes a module's options, for `useClass` and `useExisting`. */
export interface LibmqOptionsFactory {
  createLibmqOptions(): LibmqModuleOptions | Promise<LibmqModuleOptions>;
}

/** Where the module has its options from: one of `useFactory`, `useClass` and `useExisting`. */
export interface LibmqModuleAsyncOptions extends LibmqModuleScope {
  imports?: Array<Type<any> | DynamicModule | Promise<DynamicModule> | ForwardReference> | undefined;
  inject?: Array<InjectionToken | OptionalFactoryDependency> | undefined;
  useFactory?: ((...args: any[]) => LibmqModuleOptions | Promise<LibmqModuleOptions>) | undefined;
  useClass?: Type<LibmqOptionsFactory> | undefined;
  useExisting?: Type<LibmqOptionsFactory> | undefined;
  extraProviders?: Provider[] | undefined;
}

/**
 * Opens a broker, which is injected by its class, `Broker`. When the application has started, each method with a
 * {@link MessageHandler} is registered and the broker started; a queue with two handlers, or a handler of a broker that is not
 * there, fails the start. When the application ends, in `onModuleDestroy` no message is taken any more and handlers have
 * `stopTimeout` to end, and in `onApplicationShutdown` the broker is closed: so a request that is under way can enqueue until
 * then. On signals Nest does so after `app.enableShutdownHooks()`.
 */
export class LibmqModule {
  static forRoot(options: LibmqModuleOptions & LibmqModuleScope): DynamicModule;
  static forRootAsync(options: LibmqModuleAsyncOptions): DynamicModule;
}

export interface MessageHandlerOptions<S = any> extends HandlerOptions<S> {
  /** The name of the broker. Default the one without a name. */
  broker?: string | undefined;
}

/** Decorates a method that is called with a body and its context. */
export type MessageHandlerDecorator<T> = <Method extends (body: T, ctx: Context<any>) => unknown>(
  target: object,
  method: string | symbol,
  descriptor: TypedPropertyDescriptor<Method>,
) => void;

/**
 * Makes a method of a provider, or of a controller, a queue's handler, as `Broker.handle` does.
 *
 * A provider that is request-scoped, or depends on one that is, is made anew for each attempt, and `REQUEST` is a
 * {@link MessageRequest} there. When the handler has ended, and before its message is acked, what was made for the attempt
 * is closed, each before what it uses: its `Symbol.asyncDispose`, or else its `Symbol.dispose`, is called with whether the
 * handler succeeded. What that throws fails the attempt.
 */
export function MessageHandler<Schema extends StandardSchema>(
  queue: string,
  options: Omit<MessageHandlerOptions, 'schema'> & { schema: Schema },
): MessageHandlerDecorator<SchemaOutput<Schema>>;
export function MessageHandler(queue: string, options?: MessageHandlerOptions): MessageHandlerDecorator<any>;

/** What `REQUEST` is in a provider that was made for an attempt. */
export interface MessageRequest<T = unknown, S = unknown> {
  readonly body: T;
  readonly ctx: Context<S>;
}

/** Injects a broker by its name; without one, the one without a name. */
export function InjectBroker(name?: string): ParameterDecorator & PropertyDecorator;

/** What a broker is injected by, for `inject`, `app.get` and `overrideProvider`. */
export function brokerToken(name: string): string;
export function brokerToken(name?: undefined): typeof Broker;
export function brokerToken(name?: string): InjectionToken;
