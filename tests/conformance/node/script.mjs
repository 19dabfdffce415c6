// The script: its lines, what stands in them, and which of it was looked at.

// Handlers are plain functions where they need not wait, and bodies that can be are values and not bytes.
export const SYNC = process.env.LIBMQ_PLAY_SYNC === '1';

export class Wrong extends Error {}
export class Unknown extends Error {}

export function same(what, found, expected) {
  if (found !== expected) throw new Wrong(`${what} is ${found}, but ${expected} was expected`);
}

// A line of the script. Notes which of its keys were looked at.
export class Fields {
  #values = new Map();
  #used = new Set();

  constructor(line) {
    for (const pair of line.split('\t')) {
      const at = pair.indexOf('=');
      if (at > 0) this.#values.set(pair.slice(0, at), pair.slice(at + 1).replace(/\\(.)/g, unescaped));
    }
  }

  get(key) {
    if (this.#values.has(key)) this.#used.add(key);
    return this.#values.get(key);
  }

  need(key) {
    const value = this.get(key);
    if (value === undefined) throw new Wrong(`the step lacks ${key}`);
    return value;
  }

  number(key) {
    const value = this.get(key);
    return value === undefined ? undefined : Number(value);
  }

  list(key) {
    const count = this.number(`${key}.#`);
    return count === undefined ? undefined : Array.from({ length: count }, (_, i) => this.need(`${key}.${i}`));
  }

  // The keys below this path, without it, and their values.
  below(path) {
    const keys = [...this.#values.keys()].filter((key) => key.startsWith(path));
    return keys.map((key) => [key.slice(path.length), this.get(key)]);
  }

  has(path) {
    return [...this.#values.keys()].some((key) => key.startsWith(path));
  }

  checkAllUsed() {
    for (const key of this.#values.keys()) {
      if (!this.#used.has(key)) throw new Unknown(`the key ${key} here`);
    }
  }
}

function unescaped(_, character) {
  return { t: '\t', n: '\n' }[character] ?? character;
}

// The body and the options of the message whose keys begin with `path`.
export function message(step, path = '') {
  const key = (name) => path + name;
  const count = step.number(key('body_bytes'));
  const body = count === undefined ? Buffer.from(step.get(key('body')) ?? '') : Buffer.alloc(count, 'x');
  const options = {};
  const set = (name, value) => {
    if (value !== undefined) options[name] = value;
  };
  set('dedupKey', step.get(key('dedup_key')));
  set('dedup', step.get(key('dedup')));
  set('dedupWindow', step.number(key('dedup_window_ms')));
  set('correlationId', step.get(key('correlation_id')));
  set('contentType', step.get(key('content_type')));
  if (step.has(key('headers.'))) set('headers', Object.fromEntries(step.below(key('headers.'))));
  set('delay', step.number(key('delay_ms')));
  const offset = step.number(key('run_at_ms'));
  if (offset !== undefined) set('runAt', new Date(Date.now() + offset));
  set('expiresIn', step.number(key('expires_in_ms')));
  set('priority', step.number(key('priority')));
  set('group', step.get(key('group')));
  set('durability', step.get(key('durability')));
  if (!SYNC) return { body, options };
  const value = valueOf(body);
  // The same bytes, and said to be the same.
  return value === undefined ? { body, options } : { body: value, options: { contentType: OCTETS, ...options } };
}

const OCTETS = 'application/octet-stream';

// The value that JSON writes as these bytes, if there is one.
function valueOf(body) {
  const text = body.toString();
  try {
    const value = JSON.parse(text);
    return JSON.stringify(value) === text && Buffer.from(text).equals(body) ? value : undefined;
  } catch {
    return undefined;
  }
}

// A backoff of these keys: a fixed wait, or one that doubles without jitter.
export function backoff(step, prefix) {
  const key = (name) => `${prefix}backoff${name}_ms`;
  const cap = step.number(key('_cap')) ?? 600_000;
  const base = step.number(key('_base'));
  return base === undefined ? step.number(key('')) : { base, factor: 2, cap, jitter: 0 };
}

const BROKER = {
  durability: 'text',
  capacity: 'number',
  max_bytes: 'number',
  max_message_bytes: 'number',
  max_batch_bytes: 'number',
  max_dead_letters: 'number',
  on_full: 'text',
  block_timeout_ms: 'number',
  snapshot_interval_ms: 'number',
  snapshot_threshold: 'number',
  segment_bytes: 'number',
  cache_bytes: 'number',
  sync_interval_ms: 'number',
  default_timeout_ms: 'number',
  default_max_retries: 'number',
  max_crashes: 'number',
  on_corruption: 'text',
  lock_timeout_ms: 'number',
  clock: 'text',
};

const HANDLER = {
  max_parallelism: 'number',
  min_parallelism: 'number',
  max_retries: 'number',
  timeout_ms: 'number',
  cancel_grace_ms: 'number',
  lease_extension_enabled: 'flag',
};

// The name of the documentation in JavaScript's casing, without its unit.
function camel(name) {
  return name.replace(/_ms$/, '').replace(/_(.)/g, (_, letter) => letter.toUpperCase());
}

function read(step, table, options) {
  for (const [name, kind] of Object.entries(table)) {
    const value = kind === 'number' ? step.number(name) : step.get(name);
    if (value !== undefined) options[camel(name)] = kind === 'flag' ? value === 'true' : value;
  }
  return options;
}

// These options on top of one another.
export function brokerOptions(...sources) {
  const options = {};
  for (const source of sources) {
    read(source, BROKER, options);
    const wait = backoff(source, 'default_');
    if (wait !== undefined) options.defaultBackoff = wait;
  }
  return options;
}

export function handlerOptions(step) {
  const options = read(step, HANDLER, {});
  const wait = backoff(step, '');
  if (wait !== undefined) options.backoff = wait;
  return options;
}
