// Where tests have their passwords, tokens and keys from. All have a part that occurs nowhere else, which is looked for in
// whatever the nodes let out: audit.ts does so in each test.

/** Letters and digits only: it stays as it is in a URL, and its base64 is the same in both alphabets. */
const MARK = 'Zq7Wk3Xv9Jh2Tb5N';

/**
 * A secret of a kind, the same one each time, such as 'password', 'token' or 'proxy password'; with `special`, of
 * characters that have to be encoded somewhere.
 */
export function secretOf(kind: string, special = ''): string {
  const part = kind.replaceAll(/\W/g, '-');
  if (!kind.endsWith('token')) return `${part}${special}-${MARK}`;
  // As a JWT is made (RFC 7519), the secret in all that is not the header.
  const [header, claims] = [
    { alg: 'RS256', typ: 'JWT' },
    { sub: part, jti: MARK, exp: 4_102_444_800 },
  ];
  const encoded = [header, claims].map((object) => Buffer.from(JSON.stringify(object)).toString('base64url'));
  return `${encoded.join('.')}.${part}${special}-${MARK}`;
}

const bytes = [...Buffer.from(MARK)];

/**
 * Base64 makes four characters of three bytes: what becomes of the mark depends on the bytes before it, and its first
 * and last characters on its neighbours.
 */
function base64At(offset: 0 | 1 | 2): string {
  const text = Buffer.from('-'.repeat(offset) + MARK).toString('base64');
  return text.slice([0, 2, 3][offset], -4);
}

const FORMS: Record<string, RegExp> = {
  'as it is': new RegExp(MARK),
  'in base64': new RegExp([base64At(0), base64At(1), base64At(2)].join('|')),
  'in hexadecimal': new RegExp(bytes.map((byte) => byte.toString(16)).join('[ ,:]?'), 'i'),
  'as 0x and hexadecimal': new RegExp(bytes.map((byte) => `0x${byte.toString(16)}`).join(',\\s*')),
  'as a list of bytes': new RegExp(bytes.join(',\\s*')),
  'in percent signs': new RegExp(bytes.map((byte) => `%${byte.toString(16)}`).join(''), 'i'),
  'in UTF-16': new RegExp(MARK.split('').join('\\x00')),
};
const any = new RegExp(
  Object.values(FORMS)
    .map(({ source }) => source)
    .join('|'),
  'i',
);

/** The form in which one of the secrets occurs in a text, if one does. */
export function secretIn(text: string): string | undefined {
  if (!any.test(text)) return undefined;
  return Object.keys(FORMS).find((form) => FORMS[form]!.test(text)) ?? 'in other letters';
}
