import should from 'should';
import { sharedAccessSignature } from '../../../../nodes/lib/auth/sas';
import { secretOf } from '../../../secrets';

describe('a shared access signature', () => {
  it('signs the audience and its end, with the key as it is written', () => {
    const end = Date.UTC(2030, 0, 1);
    const made = sharedAccessSignature('sb://ns.example/q a', { name: 'policy/1', key: 'a2V5' }, end);
    const [, resource, signature, seconds, name] =
      /^SharedAccessSignature sr=([^&]+)&sig=([^&]+)&se=(\d+)&skn=([^&]+)$/.exec(made)!;
    should(decodeURIComponent(resource!)).equal('sb://ns.example/q a');
    should(Number(seconds)).equal(end / 1000);
    should(decodeURIComponent(name!)).equal('policy/1');
    // printf 'sb%%3A%%2F%%2Fns.example%%2Fq%%20a\n1893456000' | openssl dgst -sha256 -hmac a2V5 -binary | base64
    should(decodeURIComponent(signature!)).equal('Q/HUb+GhvxD4F/gMlhpZW3gW7ReBDQQEzhrt+eBXIts=');
  });

  it('ends no earlier than asked for', () => {
    should(sharedAccessSignature('a', { name: 'n', key: secretOf('connection key') }, 1_000_001)).match(/&se=1001&/);
  });
});
