import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import should from 'should';
import { ERROR_TEXTS, errorText } from '../../../nodes/lib/error-texts';

const nodes = join(__dirname, '../../../nodes');
const sources = readdirSync(nodes, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.endsWith('error-texts.ts'))
  .map((file) => readFileSync(join(nodes, file), 'utf8'))
  .join('\n');

describe('the texts of errors', () => {
  it('have their gaps filled, also with what looks like a gap', () => {
    const text = errorText('AMQP_NO_ADDRESS.text', { name: '{type}', type: 'number' });
    should(text).equal('{type} is not text: it is of type number');
  });

  it('are all in use', () => {
    should(Object.keys(ERROR_TEXTS).filter((key) => !sources.includes(`'${key}'`))).eql([]);
  });

  it('begin as the rest of a line does, without a full stop', () => {
    should(Object.values(ERROR_TEXTS).filter((text) => /^[A-Z]+[a-z]|[.!]$/.test(text))).eql([]);
  });

  it('stand nowhere else', () => {
    should(sources.match(/new AmqpError\([^)]*/g)).eql(['new AmqpError(code, errorText(key, values']);
  });
});
