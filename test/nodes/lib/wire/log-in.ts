// Logs in at a port, for a trace of it: rhea's peer in the same process would print the login as well.
import { type Mechanisms, DialledWire } from '../../../../nodes/lib/wire/wire';

const { port, mechanisms } = JSON.parse(process.env['LOG_IN']!) as {
  port: number;
  /** By their name: the initial response, and those to challenges. */
  mechanisms: Record<string, string[]>;
};

const ours: Mechanisms = Object.fromEntries(
  Object.entries(mechanisms).map(([name, texts]) => {
    const next = (): Buffer => Buffer.from(texts.shift()!);
    type Callback = (error: undefined, response: Buffer) => void;
    return [
      name,
      () => ({
        start: (callback: Callback) => callback(undefined, next()),
        step: (_challenge: Buffer, callback: Callback) => callback(undefined, next()),
      }),
    ];
  }),
);

const end = (error: unknown): void => {
  if (error) console.error(error);
  process.exitCode = 1;
};
const wire: DialledWire = new DialledWire({ host: '127.0.0.1', port, containerId: 'client', idleTimeout: 0 }, ours, {
  began: () => {},
  loggingIn: () => {},
  refused: end,
  opened: () => {
    console.log('logged in');
    wire.close();
  },
  closed: (error) => error && end(error),
  dropped: (error) => error && end(error),
  unspoken: end,
  failed: end,
  fault: end,
});
wire.connect();
