import type { ForwardRequest } from '../../src/forward/exchange.js';

/** A request without a body, as it is handed to `Upstream`. */
export const BARE_REQUEST: ForwardRequest = {
  method: 'GET',
  target: '/',
  headers: ['Host', 'a'],
  identityHeaders: [],
  body: null,
  contentLength: null,
  trailers: null,
  expectsContinue: false,
};
