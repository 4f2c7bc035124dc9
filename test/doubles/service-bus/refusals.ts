// What Service Bus alone refuses.
import { Refusal } from '../azure/refusals';

export const notFound = (sequenceNumber: number) =>
  new Refusal('com.microsoft:message-not-found', `There is no such message with number ${sequenceNumber}.`, 404);
export const sessionLost = () =>
  new Refusal('com.microsoft:session-lock-lost', 'The session lock has expired or was given back.', 410);
export const sessionTaken = (id: string) =>
  new Refusal('com.microsoft:session-cannot-be-locked', `The requested session '${id}' cannot be accepted.`);
export const timedOut = () =>
  new Refusal('com.microsoft:timeout', 'The operation did not complete within the allotted time.', 408);
