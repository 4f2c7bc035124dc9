// A peer that behaves, and takes small frames only: none that the nodes send it is larger, whatever flows ask for.
import should from 'should';
import { helper, inject, message, node, status } from '../flow';
import * as amqp from './frames';
import { type Peer, transfer } from './hostile';
import { patiently, Scene, until } from './scene';

describe('small frames', () => {
  before(() => helper.startServer());
  after(() => helper.stopServer());

  let scene: Scene | undefined;
  afterEach(async () => {
    await scene?.stop();
    scene = undefined;
  });

  for (const maxFrameSize of [512, 4096]) {
    const long = 'x'.repeat(2 * maxFrameSize);

    /** Another sender on the endpoint still sends. */
    async function goesOn(peer: Peer): Promise<void> {
      const done = message('completed');
      peer.accepts = true;
      inject('sender', { payload: 'x' });
      await patiently(done, 'a message out');
      scene!.check();
    }

    it(`sends what is larger in several (${maxFrameSize})`, async () => {
      scene = await Scene.start([node('amqp-sender')], { maxFrameSize });
      const peer = await scene.attached('sender');
      const parts: Buffer[] = [];
      let isWhole = false;
      peer.on('frame', ({ code, fields, payload }) => {
        if (code !== amqp.TRANSFER) return;
        parts.push(payload);
        isWhole = !fields[5];
      });
      const payload = Buffer.alloc(100_000, 'x');
      inject('sender', { payload });
      await until(peer, () => isWhole, 'the last frame of a message');
      should(Buffer.concat(parts).includes(payload)).equal(true);
      const done = message('completed');
      peer.accept(peer.link('sender'));
      await patiently(done, 'its end');
      scene.check();
    });

    for (const outcome of [
      { settle: 'reject', error: { condition: 'amqp:not-allowed', description: long } },
      { settle: 'reject', error: { condition: long, description: 'x' } },
      { settle: 'reject', error: { condition: 'amqp:not-allowed', description: 'x', info: { long } } },
      { settle: 'modify', annotations: { 'x-opt-long': long } },
    ]) {
      const what = JSON.stringify(outcome).replaceAll(/x{100,}/g, '…');
      it(`settles by ${what} (${maxFrameSize})`, async () => {
        const configs = [node('amqp-receiver', { settle: 'flow' }), node('amqp-sender')];
        scene = await Scene.start(configs, { maxFrameSize });
        const peer = await scene.attached('receiver', 'sender');
        const arrived = message('out');
        peer.send(transfer(peer.link('receiver'), 'x'));
        const { delivery } = await patiently(arrived, 'a message');
        const ended = Promise.race([message('completed'), message('caught')]);
        let isSettled = false;
        peer.on('frame', ({ code }) => (isSettled ||= code === amqp.DISPOSITION));
        inject('receiver', { delivery, ...outcome });
        await patiently(ended, 'the end of the msg');
        // What cannot be said to the peer may be refused to the flow, which can then settle in another way.
        if (!isSettled) inject('receiver', { delivery, settle: 'accept' });
        await until(peer, () => isSettled, 'an outcome');
        await goesOn(peer);
      });
    }

    for (const [what, config] of Object.entries({
      'a receiver with a long address': node('amqp-receiver', { id: 'far', address: long }),
      'a receiver with a long selector': node('amqp-receiver', { id: 'far', selector: `a = '${long}'` }),
      'a sender with a long address': node('amqp-sender', { id: 'far', address: long }),
    })) {
      it(`says that there is no link for ${what} (${maxFrameSize})`, async () => {
        scene = await Scene.start([config, node('amqp-sender')], { maxFrameSize });
        const peer = await scene.attached('sender');
        await goesOn(peer);
        await patiently(status('far', 'status.refused'), 'a status that tells of it');
        await goesOn(peer);
      });
    }

    it(`fails a message for a long address of its own (${maxFrameSize})`, async () => {
      const configs = [node('amqp-sender', { id: 'any', address: '', timeout: 2 }), node('amqp-sender')];
      scene = await Scene.start(configs, { maxFrameSize });
      const peer = await scene.attached('sender');
      const failed = message('caught');
      inject('any', { topic: long, payload: 'x' });
      await patiently(failed, 'its end');
      await goesOn(peer);
    });
  }
});
