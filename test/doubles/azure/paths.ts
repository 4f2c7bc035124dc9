/** The path in the address of a node, or in its URL, without a slash around it: clients write it in all these ways. */
export function pathIn(address: string): string {
  return address.replace(/^[a-z]+:\/\/[^/]*/i, '').replaceAll(/^\/+|\/+$/g, '');
}
