// Compiled, never run: the schemas of others, where they are.

import { open } from '@libmq/node';
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { type } from 'arktype';
import * as v from 'valibot';
import { z } from 'zod';

declare const any: StandardSchemaV1<string, { at: Date }>;

export async function schemas(): Promise<void> {
  const broker = await open('queue-data', { scope: async () => ({ place: 5 }) });
  broker.handle('orders', (order, ctx) => order.at.getTime() + ctx.scope.place, { schema: any });
  broker.handle('orders', (order, { scope }) => order.id.toFixed(scope.place), {
    schema: z.object({ id: z.coerce.number() }),
  });
  broker.handle('orders', async (order) => order.id.at(0), {
    schema: v.objectAsync({ id: v.string() }),
  });
  broker.handle('orders', (order) => order.at.getTime(), { schema: type({ at: 'string.date.iso.parse' }) });
  // @ts-expect-error: it is a number
  broker.handle('orders', (order) => order.id.at(0), { schema: z.object({ id: z.number() }) });
  // @ts-expect-error: it is a date
  broker.handle('orders', (order) => order.at.at(0), { schema: type({ at: 'string.date.iso.parse' }) });
  // @ts-expect-error: it is text
  broker.handle('orders', (order) => order.id.toFixed(), { schema: v.object({ id: v.string() }) });
}
