import should from 'should';
import { ClientConnection } from '../../../../nodes/lib/listen/client-connection';

describe('the connection of a client', () => {
  it('gives faults of its links to who listens', () => {
    const faults: unknown[] = [];
    // As a listener has it, which is an emitter too.
    class Listening {
      readonly options = {} as ClientConnection['options'];
      readonly faults = faults;
      fault(error: unknown): void {
        this.faults.push(error);
      }
    }
    const connection = new ClientConnection(new Listening(), {} as ConstructorParameters<typeof ClientConnection>[1]);
    const error = new Error('thrown');
    connection.guarded(() => {
      throw error;
    })();
    should(faults).eql([error]);
  });
});
