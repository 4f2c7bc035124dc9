/** It has no typings of its own. */
declare module 'proxy-from-env' {
  /** The URL of the proxy by which a URL is reached, by the environment variables. Empty: straight. */
  export function getProxyForUrl(url: string): string;
}
