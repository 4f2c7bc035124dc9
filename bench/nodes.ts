// Nodes of the flows that are measured: one makes messages, one counts them. Loaded by the Node-RED of `node-red.ts`.
import type { Node, NodeAPI, NodeMessage } from 'node-red';
import { bodyOf, Course, type Task } from './course';

type Msg = NodeMessage & { since?: number };

const task = JSON.parse(process.env['BENCH']!) as Task;
const course = new Course(task);
let fill = (): void => {};

export default function init(RED: NodeAPI): void {
  RED.nodes.registerType('bench-start', function BenchStart(this: Node, config) {
    RED.nodes.createNode(this, config);
    const payload = bodyOf(task.size);
    fill = () =>
      course.fill(() => {
        const msg: Msg = { payload };
        if (task.workload === 'requests') msg.since = performance.now();
        this.send(msg);
      });
    // The endpoint has to be there first.
    RED.events.on('flows:started', () => setTimeout(fill, 1000));
  });

  RED.nodes.registerType('bench-count', function BenchCount(this: Node, config) {
    RED.nodes.createNode(this, config);
    this.on('input', (msg: Msg, _send, done) => {
      course.arrive(msg.since);
      fill();
      done();
    });
  });
}
