import should from 'should';
import { statusOf } from '../../../../nodes/lib/exchange/status';

const of = (application_properties: unknown, subject?: string) => statusOf({ application_properties, subject });

describe('the status of a reply', () => {
  for (const [what, properties] of [
    ['the words of AMQP Management', { statusCode: 404, statusDescription: 'no', errorCondition: 'a:b' }],
    ['those of Azure', { 'status-code': 404, 'status-description': 'no', 'error-condition': 'a:b' }],
    ['text', { statusCode: '404', statusDescription: 'no', errorCondition: 'a:b' }],
    [
      'AMQP types',
      {
        statusCode: { $amqp: 'int', value: 404 },
        statusDescription: 'no',
        errorCondition: { $amqp: 'symbol', value: 'a:b' },
      },
    ],
    [
      'a map with its order',
      {
        $amqp: 'map',
        value: [
          ['statusCode', 404],
          ['statusDescription', 'no'],
          ['errorCondition', 'a:b'],
        ],
      },
    ],
  ] as const) {
    it(`is read from ${what}`, () => {
      should(of(properties)).eql({ code: 404, condition: 'a:b', description: 'no' });
    });
  }

  it("is the subject beside RabbitMQ's mark of a response", () => {
    should(of({ 'http:response': '1.1' }, '409')).eql({ code: 409 });
    should(of({}, '409')).equal(undefined);
  });

  it('has no more than it says', () => {
    should(of({ statusCode: 200 })).eql({ code: 200 });
    should(of({ statusCode: 200, statusDescription: 5, errorCondition: null })).eql({ code: 200 });
  });

  it('is none where there is no whole number', () => {
    for (const properties of [
      undefined,
      null,
      {},
      [],
      'text',
      { statusCode: null },
      { statusCode: 'ok' },
      { statusCode: 1.5 },
    ])
      should(of(properties)).equal(undefined);
    should(of({ 'http:response': '1.1' })).equal(undefined);
  });
});
