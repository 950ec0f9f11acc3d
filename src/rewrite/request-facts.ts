/** What `forwarded.headers` can put into a header: facts of the request and its connection. */
export const FACTS = ['remoteAddress', 'scheme', 'host', 'serverPort', 'requestId', 'forwardedFor'] as const;
export type Fact = (typeof FACTS)[number];

/** What the facts are taken from. */
export interface FactSource {
  readonly remoteAddress: string;
  readonly localPort: number;
  readonly host: string;
  readonly requestId: string;
  /** The X-Forwarded-For that is sent. */
  readonly forwardedFor: string;
}

const READERS: Readonly<Record<Fact, (source: FactSource) => string>> = {
  remoteAddress: ({ remoteAddress }) => remoteAddress,
  scheme: () => 'https',
  host: ({ host }) => host,
  serverPort: ({ localPort }) => String(localPort),
  requestId: ({ requestId }) => requestId,
  forwardedFor: ({ forwardedFor }) => forwardedFor,
};

const TEXT = 'text:';
/** The header is removed, and nothing is put in its place. */
const NONE = 'none';

/** For people: what a value may be. */
export const ALLOWED_FACTS = `${FACTS.join(', ')}, text: and a text, or none`;

/** Whether a value of `forwarded.headers` can be read. */
export function isFact(written: string): boolean {
  if (written.startsWith(TEXT)) return /^[!-~](?:[ -~]*[!-~])?$/.test(written.slice(TEXT.length));
  return written === NONE || (FACTS as readonly string[]).includes(written);
}

/** Appends headers to a flat list. */
export type PushFacts = (into: string[], source: FactSource) => void;

/** Null when there is nothing to append. @param headers validated at start */
export function compileFacts(headers: Readonly<Record<string, string>>): PushFacts | null {
  const entries = Object.entries(headers)
    .filter(([, written]) => written !== NONE)
    .map(([name, written]) => ({ name, read: readerOf(written) }));
  if (entries.length === 0) return null;
  return (into, source) => {
    for (const { name, read } of entries) into.push(name, read(source));
  };
}

function readerOf(written: string): (source: FactSource) => string {
  if (!written.startsWith(TEXT)) return READERS[written as Fact];
  const text = written.slice(TEXT.length);
  return () => text;
}
