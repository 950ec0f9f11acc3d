/** Variables of nginx that an access line can carry here. */
export const LOG_VARIABLES = [
  'args',
  'body_bytes_sent',
  'connection',
  'content_length',
  'content_type',
  'host',
  'https',
  'is_args',
  'msec',
  'pipe',
  'query_string',
  'remote_addr',
  'remote_port',
  'remote_user',
  'request',
  'request_id',
  'request_method',
  'request_time',
  'request_uri',
  'scheme',
  'server_port',
  'server_protocol',
  'ssl_cipher',
  'ssl_client_fingerprint',
  'ssl_client_i_dn',
  'ssl_client_s_dn',
  'ssl_client_s_dn_legacy',
  'ssl_client_serial',
  'ssl_client_v_end',
  'ssl_client_v_remain',
  'ssl_client_v_start',
  'ssl_client_verify',
  'ssl_protocol',
  'ssl_server_name',
  'ssl_session_reused',
  'status',
  'time_iso8601',
  'time_local',
  'upstream_header_time',
  'upstream_status',
] as const;
export type LogVariable = (typeof LOG_VARIABLES)[number];

/** A piece of a template: text as it is, a variable, or a header of the request (`$http_name`). */
export type TemplatePart =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'variable'; readonly name: LogVariable }
  /** Lower case, with dashes. */
  | { readonly kind: 'header'; readonly name: string };

const KNOWN: ReadonlySet<string> = new Set(LOG_VARIABLES);
const VARIABLE = /\$(?:\{([A-Za-z0-9_]+)\}|([A-Za-z0-9_]+))?/g;

export function isLogVariable(name: string): boolean {
  return KNOWN.has(name) || /^http_[a-z0-9_]+$/.test(name);
}

/** @throws Error naming what is not known */
export function parseTemplate(template: string): TemplatePart[] {
  const parts: TemplatePart[] = [];
  let end = 0;
  for (const match of template.matchAll(VARIABLE)) {
    if (match.index > end) parts.push({ kind: 'text', text: template.slice(end, match.index) });
    parts.push(variablePart(match[1] ?? match[2]));
    end = match.index + match[0].length;
  }
  if (end < template.length) parts.push({ kind: 'text', text: template.slice(end) });
  return parts;
}

/** Replaces the variables that are not known by `-`, which is what nginx writes for an empty one. */
export function withKnownVariables(template: string): { readonly template: string; readonly unknown: string[] } {
  const unknown: string[] = [];
  const known = template.replace(VARIABLE, (whole, braced?: string, plain?: string) => {
    const name = braced ?? plain ?? '';
    if (isLogVariable(name)) return whole;
    unknown.push(`$${name}`);
    return '-';
  });
  return { template: known, unknown: [...new Set(unknown)] };
}

function variablePart(name: string | undefined): TemplatePart {
  if (name === undefined) throw new Error('a $ must be followed by the name of a variable');
  if (KNOWN.has(name)) return { kind: 'variable', name: name as LogVariable };
  if (isLogVariable(name)) return { kind: 'header', name: name.slice('http_'.length).replaceAll('_', '-') };
  throw new Error(`there is no variable $${name}`);
}
