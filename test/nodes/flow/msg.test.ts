import should from 'should';
import { newMsg, received, withSent } from '../../../nodes/flow/msg';
import type { Incoming } from '../../../nodes/lib/message/message';

const BODY = { format: 'body', output: 'auto' } as const;
const delivery = { tag: '01', address: 'q', redelivered: false };
const incoming = (body: Incoming['body'], fields: Incoming['fields'] = {}): Incoming => ({ body, fields });
const text = incoming({ type: 'value', content: 'text' });

describe('a msg', () => {
  it('of a message has its body, its fields, and how it came', () => {
    const { msg, error } = received(incoming(text.body, { subject: 's' }), delivery, BODY);
    should(error).equal(undefined);
    should(msg).eql({ topic: 'q', payload: 'text', amqp: { subject: 's' }, delivery });
  });

  it('has as topic where the message was sent to, if that says more than where it came from', () => {
    should(received(incoming(text.body, { to: 'topic.of.many' }), delivery, BODY).msg.topic).equal('topic.of.many');
  });

  it('in the older dialect has all of the message as payload', () => {
    const { msg } = received(incoming(text.body, { subject: 's' }), delivery, { format: 'message', output: 'auto' });
    should(msg).eql({ topic: 'q', payload: { subject: 's', body: 'text' }, delivery });
  });

  it('has the body as it came where that is not what it says, and there is an error', () => {
    const content = Buffer.from('{');
    const broken = incoming({ type: 'data', content }, { content_type: 'application/json' });
    const { msg, error } = received(broken, delivery, BODY);
    should(error).match({ code: 'AMQP_DECODE' });
    should(msg.payload).equal(content);
  });

  it('has an id of its own when it is new, and none when it is to become part of another', () => {
    const ids = [1, 2].map(() => newMsg(text, delivery, BODY).msg._msgid);
    should(ids[0]).be.a.String();
    should(ids[0]).not.equal(ids[1]);
    should(received(text, delivery, BODY).msg).not.have.property('_msgid');
  });

  it('tells what became of it, in the older dialect by the properties that this had', () => {
    const sent = { state: 'accepted', tag: '02', address: 'q' } as const;
    should(withSent({ payload: 1 }, sent, 'body')).eql({ payload: 1, sent });
    should(withSent({ payload: 1, delivery: { id: 'token', tag: '01' } }, sent, 'message')).eql({
      payload: 1,
      sent,
      deliveryStatus: 'accepted',
      delivery: { id: 'token', ...sent },
    });
  });
});
