import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * A loopback port nobody listens on: the preferred one, else any below those that the system gives out by itself (from 32768 on
 * Linux). Those would be free now, and a client of some process that runs beside this one may have it when a server wants it.
 */
export async function freePort(preferred = randomInt(11_000, 32_000)): Promise<number> {
  const server = createServer().listen(preferred, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
    return await freePort();
  }
  server.close();
  await once(server, 'close');
  return preferred;
}
