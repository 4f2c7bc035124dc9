import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { addressing } from './flow/address';
import { Disk } from './flow/disk';
import { endpointOf } from './flow/endpoint';
import { endMsg, errorOf, give } from './flow/give';
import { received, withSent } from './flow/msg';
import { durabilityOf, headerOf, isLegacy, mappingOf, outcomesOf, type SenderDef, senderOptions } from './flow/options';
import { Settings } from './flow/settings';
import { decode, encode, type Outgoing, outgoing, stylesOf, withHeader, withMessageId } from './lib/message/message';
import { type Done, Entry } from './lib/link/entry';
import { Sender } from './lib/sender/sender';
import type { Stored } from './lib/sender/store';

type Send = (msg: NodeMessage) => void;
type End = (error?: Error) => void;

let tellOfLeft: (() => void) | undefined;

export default function init(RED: NodeAPI): void {
  const disk = new Disk(RED);
  // Only tests load the module more than once.
  if (tellOfLeft) RED.events.off('flows:started', tellOfLeft);
  tellOfLeft = () => void disk.tellOfLeft();
  RED.events.on('flows:started', tellOfLeft);

  function SenderNode(this: Node, config: SenderDef): void {
    RED.nodes.createNode(this, config);
    const endpoint = endpointOf(RED, this, config.endpoint);
    if (!endpoint) return;

    const settings = new Settings(RED, this, config, 'amqp-sender');
    const { format, body } = mappingOf(settings);
    const outcomes = outcomesOf(settings, config);
    const address = addressing(RED, this, settings, config);
    const header = headerOf(settings, { isDurable: !isLegacy(config) });
    const options = senderOptions(settings, config, address.fixed);
    const { guarantee } = options;
    const durability = durabilityOf(settings);
    if (!settings.check()) return;
    const directory = disk.directoryOf(this.id);
    if (durability && guarantee === 'at-least-once') {
      disk.use(directory);
      const damaged = (error: Error): void => this.error(error);
      options.store = { directory, durability, restored: (stored) => restored(stored), damaged };
    } else if (durability) {
      // A message that may be sent only once cannot be sent again from the disk.
      this.warn(RED._('amqp-sender.log.no-store'));
    }
    const sender = new Sender(endpoint.connection, options);

    const entryOf = (bytes: Buffer, to: string | undefined, msg: NodeMessage, send: Send, done: End): Entry => {
      let end = done;
      const ended: Done = (error, sent) => {
        const failure = give(() => {
          withSent(msg, sent, format);
          if (!error || outcomes === 'all') send(msg);
        });
        endMsg(this, end, error ?? failure);
      };
      if (!options.store) return new Entry(bytes, ended, { address: to });
      const stored = (): void => {
        endMsg(this, end);
        // Node-RED takes one end of a msg only; what fails later is an error of the node.
        end = (error) => error && this.error(error, msg);
      };
      return new Entry(bytes, ended, { address: to, stored });
    };

    const restored = ({ bytes, address: to }: Stored): Entry => {
      const output = 'auto';
      const delivery = { tag: '', address: to, redelivered: false };
      const { msg } = received(decode(bytes, stylesOf(format, output)), delivery, { format, output });
      const { delivery: _, ...rest } = msg;
      const entry = entryOf(
        bytes,
        to,
        rest,
        (sent) => this.send(sent),
        () => {},
      );
      entry.stored?.();
      return entry;
    };

    // Not within the input, so that no msg needs closures for it that has its address at once.
    const sendLater = (
      to: Promise<string | undefined>,
      message: Outgoing,
      msg: NodeMessage,
      send: Send,
      done: End,
    ): void => {
      const take = (given?: string): void => sender.send(entryOf(encode(message), given, msg, send, done));
      to.then(take).catch((error: unknown) => endMsg(this, done, errorOf(error)));
    };

    this.on('input', (msg, send, done) => {
      try {
        if (endpoint.takesToken(msg)) return endMsg(this, done);
        const message = outgoing(msg, { format, body });
        withHeader(message, header);
        if (guarantee !== 'pre-settled') withMessageId(message);
        const to = address.of(msg, message);
        if (to instanceof Promise) sendLater(to, message, msg, send, done);
        else sender.send(entryOf(encode(message), to, msg, send, done));
      } catch (error) {
        endMsg(this, done, errorOf(error));
      }
    });

    this.on('close', () => disk.leave(directory));
    endpoint.register(this, sender);
  }

  RED.nodes.registerType('amqp-sender', SenderNode);
}
