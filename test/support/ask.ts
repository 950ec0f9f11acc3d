import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';

/** Asks the admin listener on a port. */
export async function ask(port: number, path: string, method = 'GET') {
  const outgoing = httpRequest({ host: '127.0.0.1', port, path, method, agent: false });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response.setEncoding('utf8')) body += chunk as string;
  return { status: response.statusCode ?? 0, body };
}
