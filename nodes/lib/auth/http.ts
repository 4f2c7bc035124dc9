import http from 'node:http';
import https from 'node:https';
import type { ConnectionOptions as TlsOptions } from 'node:tls';
import { agentFor, type Proxy } from '../wire/proxy';

export interface HttpRequest {
  method: 'GET' | 'POST';
  headers: Record<string, string>;
  body?: string;
  tls?: TlsOptions;
  /** Undefined: as the usual environment variables say. */
  proxy?: Proxy;
  /** Milliseconds for all of it. */
  timeout: number;
}

export interface Answer {
  status: number;
  /** The content type. */
  type?: string;
  text: string;
}

/** A request that came to nothing; its message goes on from the name of the server. */
export class HttpFailure extends Error {}

/** Characters of an answer. */
const MAX_ANSWER = 65_536;

/** Asks a server. No redirect is followed: what is sent is secret. Rejects with an HttpFailure within bounded time. */
export function request(url: string, { method, headers, body, tls, proxy, timeout }: HttpRequest): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { request: send } = url.startsWith('https:') ? https : http;
    const agent = agentFor(url, proxy, timeout, tls);
    // An agent of its own, so that no socket is kept for later.
    const asked = send(url, { method, headers, agent: agent ?? false, ...tls }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length > MAX_ANSWER) fail(new HttpFailure('answers with more than a token can be'));
      });
      response.on('error', fail);
      response.on('end', () => {
        clearTimeout(timer);
        resolve({ status: response.statusCode ?? 0, type: response.headers['content-type'], text });
      });
    });
    const timer = setTimeout(() => fail(new HttpFailure(`does not answer within ${timeout / 1000} s`)), timeout);
    function fail(error: Error & { code?: string }): void {
      clearTimeout(timer);
      asked.destroy();
      reject(
        error instanceof HttpFailure ? error : new HttpFailure(`cannot be reached: ${error.code ?? error.message}`),
      );
    }
    asked.on('error', fail);
    asked.end(body);
  });
}
