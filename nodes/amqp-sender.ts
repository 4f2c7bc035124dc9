import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { addressing } from './flow/address';
import { batchOf } from './flow/azure';
import { Disk } from './flow/disk';
import { endpointOf } from './flow/endpoint';
import { actionOf, endAfter, endMsg, errorOf, give } from './flow/give';
import { received, withSent } from './flow/msg';
import { durabilityOf, headerOf, isLegacy, mappingOf, outcomesOf, type SenderDef, senderOptions } from './flow/options';
import { batchKey, eachOf, isScheduling, parts, scheduled } from './flow/service-bus';
import { Settings } from './flow/settings';
import { withTraceOf } from './flow/trace-context';
import { Batches, type Member } from './lib/azure/batches';
import { Schedule } from './lib/azure/schedule';
import {
  BATCH_FORMAT,
  decode,
  encode,
  messagesIn,
  type Outgoing,
  outgoing,
  stylesOf,
  withHeader,
  withMessageId,
} from './lib/message/message';
import { type Done, Entry } from './lib/link/entry';
import type { Stored } from './lib/sender/store';
import { checkedError } from './lib/wire/outcome';

type Send = (msg: NodeMessage) => void;
type End = (error?: Error) => void;

/** Bytes of a batch at most, also where the peer takes larger messages; and while it is not known what it takes. */
const [MOST_BATCHED, LEAST_MOST] = [2 ** 20, 2 ** 18];
const NOTHING = Buffer.alloc(0);

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
    const { service } = endpoint;
    const { format, body } = mappingOf(settings, service);
    const outcomes = outcomesOf(settings, config);
    const address = addressing(RED, this, settings, config);
    const header = headerOf(settings, { isDurable: !isLegacy(config) });
    const options = senderOptions(settings, config, address.fixed);
    const { guarantee } = options;
    const durability = durabilityOf(settings);
    const batch = service ? batchOf(settings) : 'off';
    const batchTime = service ? settings.milliseconds('batchtime') : 0;
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
    const sender = endpoint.links.sender(options);
    const schedule = service === 'servicebus' ? new Schedule(endpoint.connection) : undefined;
    const batches = new Batches({
      time: batchTime,
      get mostBytes() {
        return Math.min(MOST_BATCHED, sender.maxMessageSize ?? LEAST_MOST);
      },
      send: (entry) => sender.send(entry),
    });
    const withId = (message: Outgoing): Outgoing => (guarantee === 'pre-settled' ? message : withMessageId(message));

    const memberOf = (bytes: Buffer, msg: NodeMessage, send: Send, done: End, isDirect = false): Member => {
      let end = done;
      const ended: Done = (error, sent) => {
        const failure = give(() => {
          withSent(msg, sent, format);
          if (!error || outcomes === 'all') send(msg);
        });
        endMsg(this, end, error ?? failure);
      };
      if (!options.store || isDirect) return { bytes, done: ended };
      const stored = (): void => {
        endMsg(this, end);
        // Node-RED takes one end of a msg only; what fails later is an error of the node.
        end = (error) => error && this.error(error, msg);
      };
      return { bytes, done: ended, stored };
    };

    const take = (message: Outgoing, to: string | undefined, msg: NodeMessage, send: Send, done: End): void => {
      const transaction = endpoint.transactionOf(msg);
      if (transaction) {
        const { receiver, token } = transaction;
        // What is only on disk would not be of the transaction.
        const member = memberOf(encode(withId(message)), msg, send, done, true);
        const counted: Done = (error, sent) => {
          sender.count(error, sent);
          member.done(error, sent);
        };
        receiver.send(token, entryOf({ ...member, done: counted }, to), options);
      } else if (isScheduling(msg, service)) {
        const entry = entryOf(memberOf(NOTHING, msg, send, done), to);
        scheduled(schedule!, msg, message, to ?? address.fixed).then(
          (sent) => entry.done(undefined, sent),
          (error: unknown) => entry.fail(errorOf(error)),
        );
      } else if (batch === 'time')
        batches.add(to, batchKey(message), memberOf(encode(withId(message)), msg, send, done));
      else if (batch === 'array' && Array.isArray(message.payload)) {
        const each = eachOf(message).map((one) => encode(withId(one)));
        for (const one of parts(memberOf(NOTHING, msg, send, done), each)) batches.add(to, '', one);
        batches.flush();
        if (each.length === 0) endMsg(this, done);
      } else sender.send(entryOf(memberOf(encode(withId(message)), msg, send, done), to));
    };

    const restored = ({ bytes, address: to, isBatch }: Stored): Entry => {
      const output = 'auto';
      const delivery = { tag: '', address: to, redelivered: false };
      const messageFormat = isBatch ? BATCH_FORMAT : 0;
      const [first, ...others] = messagesIn(bytes, messageFormat).map((one) => {
        const { delivery: _, ...msg } = received(decode(one, stylesOf(format, output)), delivery, {
          format,
          output,
        }).msg;
        return msg;
      });
      const msg = isBatch ? { ...first!, payload: [first!, ...others].map(({ payload }) => payload) } : first!;
      const ended = memberOf(
        bytes,
        msg,
        (sent) => this.send(sent),
        () => {},
      );
      ended.stored?.();
      return new Entry(bytes, ended.done, { address: to, format: messageFormat });
    };

    // Not within the input, so that no msg needs closures for it that has its address at once.
    const takeLater = (
      to: Promise<string | undefined>,
      message: Outgoing,
      msg: NodeMessage,
      send: Send,
      done: End,
    ): void => {
      const found = (given?: string): void => take(message, given, msg, send, done);
      to.then(found).catch((error: unknown) => endMsg(this, done, errorOf(error)));
    };

    const act = (msg: NodeMessage & { error?: object }, send: Send): Promise<void> | undefined => {
      const action = actionOf(msg, 'detach', 'cancel', 'status');
      if (action === 'status') {
        send(Object.assign(msg, { payload: endpoint.reportOf(this) }));
        return Promise.resolve();
      }
      if (action === 'detach') return sender.detach(msg.error && checkedError(msg.error));
      return endpoint.act(action);
    };

    this.on('input', (msg, send, done) => {
      try {
        if (endpoint.takesToken(msg)) return endMsg(this, done);
        const doing = act(msg, send);
        if (doing) return endAfter(this, doing, done);
        const message = outgoing(msg, { format, body });
        withHeader(message, header);
        if (endpoint.carriesTrace) withTraceOf(msg, message);
        const to = address.of(msg, message);
        if (to instanceof Promise) takeLater(to, message, msg, send, done);
        else take(message, to, msg, send, done);
      } catch (error) {
        endMsg(this, done, errorOf(error));
      }
    });

    this.on('close', () => {
      // In this very turn: the sender takes no more in the next.
      batches.flush();
      schedule?.close();
    });
    this.on('close', () => disk.leave(directory));
    endpoint.register(this, sender);
  }

  RED.nodes.registerType('amqp-sender', SenderNode);
}

function entryOf({ bytes, done, stored }: Member, address: string | undefined): Entry {
  return new Entry(bytes, done, stored ? { address, stored } : { address });
}
