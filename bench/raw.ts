// The contestant that all others are measured by: rhea alone, in a process of its own, as its examples use it.
import rhea, { type EventContext } from 'rhea';
import { bodyOf, Course, type Task } from './course';

const task = JSON.parse(process.argv[2]!) as Task;
const { port, workload, size } = task;
const course = new Course(task);
const container = rhea.create_container();
const options = {
  host: '127.0.0.1',
  port,
  username: 'anonymous',
  reconnect: false,
  tcp_no_delay: true,
};
const connection = container.connect(options);
const given = bodyOf(size);
const body = typeof given === 'string' ? given : rhea.message.data_section(given);

if (workload === 'source' || workload === 'settle') {
  connection.open_receiver({ source: 'source', credit_window: 1000 });
  container.on('message', () => course.arrive());
} else if (workload === 'requests') {
  const replies = connection.open_receiver({ source: { address: '', dynamic: true }, credit_window: 1000 });
  const requests = connection.open_sender('requests');
  const sent = new Map<string, number>();
  let number = 0;
  const fill = (): void =>
    course.fill(() => {
      const id = `${number++}`;
      sent.set(id, performance.now());
      requests.send({ message_id: id, correlation_id: id, reply_to: replies.source.address, body });
    });
  container.on('message', ({ message }: EventContext) => {
    const id = message!.correlation_id as string;
    course.arrive(sent.get(id));
    sent.delete(id);
    fill();
  });
  replies.once('receiver_open', fill);
  requests.once('sendable', fill);
} else {
  const sender = connection.open_sender(workload === 'sink' ? 'sink' : 'queue');
  const fill = (): void =>
    course.fill(() => {
      sender.send({ body });
    }, sender.sendable.bind(sender));
  const arrived = (): void => {
    course.arrive();
    fill();
  };
  container.on('sendable', fill);
  if (workload === 'sink') container.on('accepted', arrived);
  else {
    connection.open_receiver({ source: 'queue', credit_window: 1000 });
    container.on('message', arrived);
  }
}
container.on('error', (error) => {
  throw error;
});
