import type { PeerError } from '../errors';
import { type LinkEnd, type LinkEndOptions, ReceivingEnd, SendingEnd } from './link-end';
import { type AskedLink, askedOf } from './remote';
import type { Attach, RheaLink, RheaSession } from './rhea';
import { Session, type SessionUser } from './session';

const { unwrap } = require('rhea/lib/terminus.js') as {
  unwrap(this: void, terminus: unknown): Record<string, unknown> | null;
};

/** What becomes of a link that a client attaches. */
export interface Attaching {
  /**
   * Attaches our end, by `attachSender` or `attachReceiver` of the session, before it returns, unless it refuses the link.
   * May throw, which ends the connection.
   */
  attaching(session: AcceptedSession, asked: AskedLink): AttachAnswer;
  /** Bytes of deliveries that have not come whole: more, or fewer. Throws where that is too much. */
  hold(bytes: number): void;
}

export interface AttachAnswer {
  /** Where that is made here. */
  address?: string;
  /** Why the link is refused. */
  refusal?: PeerError;
  /** To be called once the link is gone. */
  gone: () => void;
}

/**
 * A session that a client has begun: links are attached by the client, and our ends follow. Names are told apart by
 * direction, for rhea knows links by their names alone (R23).
 */
export class AcceptedSession extends Session {
  readonly #listener: Attaching;
  /** What is being attached: the name that rhea knows it by, and what the client asks for. */
  #attach: Attach | undefined;
  #end: LinkEnd | undefined;
  /** The client's handles that are in use. */
  readonly #handles = new Set<number>();
  /** What the client hears once its attach is answered, by the name of the link. */
  readonly #refusals = new Map<string, PeerError>();

  constructor(user: SessionUser, rhea: RheaSession, listener: Attaching) {
    super(user, rhea);
    this.#listener = listener;
    this.countFromBegin();
    const onAttach = rhea.on_attach.bind(rhea);
    rhea.on_attach = (frame) => {
      onAttach(frame);
      const { name } = frame.performative;
      const refusal = this.#refusals.get(name);
      this.#refusals.delete(name);
      if (refusal) this.ownEnd(name)?.detach(true, refusal);
    };
  }

  protected override endOf(attach: Attach): LinkEnd {
    const { name, role, source, target, handle } = attach;
    const key = `${role ? 'to' : 'from'} ${name}`;
    if (this.ownEnd(key)) throw new Error(`the client attaches the link ${name} twice`);
    if (this.#handles.has(handle)) throw new Error(`the client uses the handle ${handle} twice`);
    const asked = askedOf(attach, unwrap(role ? source : target));
    attach.name = key;
    this.#attach = attach;
    this.#end = undefined;
    const answer = this.#listener.attaching(this, asked);
    const { address, refusal } = answer;
    const attached = this.#end as LinkEnd | undefined;
    if (refusal || !attached) this.#refuse(key, role, refusal ?? { condition: 'amqp:internal-error' });
    else if (!this.ownEnd(key)) {
      // It was taken back.
      answer.gone();
      throw new Error('the answer to an attach of the client would be larger than any frame that it takes');
    } else if (address !== undefined) this.#name(address, role);
    this.#attach = undefined;
    const end = this.#end!;
    this.#handles.add(handle);
    const gone = (): void => {
      this.#handles.delete(handle);
      end.off('close', gone);
      this.off('end', gone);
      answer.gone();
    };
    end.on('close', gone);
    this.on('end', gone);
    return end;
  }

  override attachSender(name: string, options: LinkEndOptions): SendingEnd {
    const link = this.rhea.create_sender(this.#attach!.name, {});
    return this.#attached(name, link as unknown as RheaLink, options, new SendingEnd(this, link));
  }

  override attachReceiver(name: string, options: LinkEndOptions): ReceivingEnd {
    const { max_message_size: limit } = options;
    const link = this.rhea.create_receiver(this.#attach!.name, {
      autoaccept: false,
      credit_window: 0,
      ...(limit && { max_message_size: limit }),
    });
    return this.#attached(name, link as unknown as RheaLink, options, new ReceivingEnd(this, link, limit));
  }

  /** Answers with what the client asks for, less what is not done here: filters, and to be kept while the client is away. */
  #attached<E extends LinkEnd>(_name: string, link: RheaLink, options: LinkEndOptions, end: E): E {
    const { name, role, source, target, snd_settle_mode: mode } = this.#attach!;
    const { attach } = link.local;
    attach.name = name.replace(/^(to|from) /, '');
    Object.assign(attach, { snd_settle_mode: options.snd_settle_mode ?? mode, rcv_settle_mode: 0 });
    const asked = unwrap(role ? source : target);
    const { address, capabilities } = asked ?? {};
    const own = { address, ...(Array.isArray(capabilities) && { capabilities }) };
    if (role) {
      link.set_source(own);
      attach.target = target;
    } else {
      link.set_target(own);
      attach.source = source;
    }
    this.#end = this.addEnd(name, end);
    return end;
  }

  /** Gives the address that was made here. */
  #name(address: string, role: boolean): void {
    const link = this.rhea.links[this.#attach!.name]!;
    if (role) link.set_source({ address, dynamic: true });
    else link.set_target({ address, dynamic: true });
  }

  /** A refusal is an attach without a terminus, and a detach behind it (2.6.3). */
  #refuse(key: string, role: boolean, error: PeerError): void {
    this.#end ??= role ? this.attachSender(key, {}) : this.attachReceiver(key, {});
    const { attach } = this.rhea.links[key]!.local;
    if (role) attach.source = null;
    else attach.target = null;
    this.#refusals.set(key, error);
  }
}
