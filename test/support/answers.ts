import fc from 'fast-check';

/** Bytes that an application may send in reply to one request, and whether they are what HTTP asks for. */
export interface GeneratedAnswer {
  readonly method: string;
  /** latin1. */
  readonly bytes: string;
  /** Whether the application closes the connection behind them. */
  readonly ends: boolean;
  /** Nothing in it is wrong, so it has to be passed on. */
  readonly wellFormed: boolean;
  /** Where the bytes are split, as fractions; one more than 1 splits them into single bytes. */
  readonly cuts: readonly number[];
}

/** A text and whether it is right. */
type Part = readonly [text: string, right: boolean];

const right = (...texts: readonly string[]): fc.Arbitrary<Part> =>
  fc.constantFrom(...texts).map((text) => [text, true] as const);
const wrong = (...texts: readonly string[]): fc.Arbitrary<Part> =>
  fc.constantFrom(...texts).map((text) => [text, false] as const);
/** Mostly right: several mistakes in one answer hide each other. */
const mostly = (good: fc.Arbitrary<Part>, bad: fc.Arbitrary<Part>, weight = 40): fc.Arbitrary<Part> =>
  fc.oneof({ weight, arbitrary: good }, { weight: 1, arbitrary: bad });

const lineEnd = mostly(right('\r\n'), wrong('\n', '\r', '\r\r\n', '\n\r', ' \r\n ', '\0\r\n', ''), 120);

const statusLine = mostly(
  right(
    ...['HTTP/1.1 200 OK', 'HTTP/1.1 200 ', 'HTTP/1.1 200', 'HTTP/1.1 404 Not Found', 'HTTP/1.1 500 caf\xe9\t!'],
    ...['HTTP/1.1 204 No Content', 'HTTP/1.1 304 Not Modified', 'HTTP/1.1 205 Reset', 'HTTP/1.1 999 Odd'],
    ...['HTTP/1.0 200 OK', 'HTTP/1.0 204 No', 'HTTP/1.0 304 Not'],
  ),
  wrong(
    ...[
      'HTTP/1.1 20 OK',
      'HTTP/1.1 2000 OK',
      'HTTP/1.1 099 Odd',
      'HTTP/1.1 000 Odd',
      'HTTP/1.1  200 OK',
      'HTTP/1.1\t200 OK',
    ],
    ...[
      'HTTP/1.2 200 OK',
      'HTTP/2.0 200 OK',
      'HTTP/0.9 200 OK',
      'http/1.1 200 OK',
      'HTTP/1.1 2e2 OK',
      'HTTP/1.1 200OK',
    ],
    ...[
      'HTTP/1.1 200 a\x01b',
      'HTTP/1.1 200 a\0b',
      'HTTP/1.1 101 Switching',
      ' HTTP/1.1 200 OK',
      'SSH-2.0',
      '',
      '\r\nHTTP/1.1 200 OK',
    ],
    ...['HTTP/11 200 OK', 'HTTP/1.1 +20 OK', 'HTTP/1.1 200\x0bOK', 'ICY 200 OK', 'RTSP/1.0 200 OK'],
  ),
);

const field = mostly(
  right(
    ...[
      'Content-Type: text/plain',
      'X-A:b',
      'X-A: b',
      'X-A:  \t b  ',
      'X-Empty:',
      'X-Empty: ',
      'Set-Cookie: a=b',
      'x-b: caf\xe9\xa0',
    ],
    ...[
      'X-Colon: a:b::c',
      "!#$%&'*+-.^_`|~9: token",
      'Connection: close',
      'Connection: keep-alive',
      'connection: x, Close , y',
    ],
    ...[
      'Connection: closed',
      'Connection: upgrade',
      'Keep-Alive: timeout=5',
      'Keep-Alive: timeout=1, max=3',
      'Upgrade: h2c',
      'Trailer: X',
    ],
  ),
  wrong(
    ...[
      'X A: b',
      'X-A : b',
      ' X-A: b',
      '\tX-A: b',
      ': b',
      'X-A',
      'X-A: b\t',
      'X-A: b\t ',
      'X-A: a\x01b',
      'X-A: a\0b',
      'X-\xe9: b',
      'X-A: a\x7fb',
      'X(A): b',
    ],
    ...[
      'X-A: b\r\n folded',
      'X-A: b\r\n\tfolded',
      'X-A:\r\n folded',
      'X-A: b\rX-B: c',
      'X-A: b\nX-B: c',
      '"X": b',
      'X-A\0: b',
    ],
  ),
);

const LENGTHS_WRONG = [
  'Content-Length: +5',
  'Content-Length: -5',
  'Content-Length: 0x5',
  'Content-Length: 5, 5',
  'Content-Length: 5 5',
];
const CODINGS_WRONG = [
  ...[
    'Transfer-Encoding: gzip, chunked',
    'Transfer-Encoding: chunked, chunked',
    'Transfer-Encoding: identity',
    'Transfer-Encoding: xchunked',
  ],
  ...[
    'Transfer-Encoding: chunked, gzip',
    'Transfer-Encoding: "chunked"',
    'Transfer-Encoding: \x0bchunked',
    'Transfer-Encoding:',
    'Transfer-Encoding: chunked,',
  ],
  ...[
    'Transfer-Encoding : chunked',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked',
    'Transfer_Encoding: chunked',
  ],
  ...[
    'Content-Length: 3\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: chunked\r\nContent-Length: 3',
    'Transfer-Encoding: gzip',
    'Transfer-Encoding: chunked\t',
  ],
];

const extension = mostly(
  right('', '', '', ';a', ';a=b', ';a="b c"', ';a="\\"";b=1'),
  wrong(
    ';',
    ' ;a',
    ';a b',
    ';a="b',
    ';=b',
    ';a=\x01',
    ';\ta=b',
    ' ',
    '\t',
    ';a=b\n',
    `;${'x'.repeat(5_000)}`,
    ';a="\r"',
  ),
);

/** The same number, written in another way. */
const sizeForm = mostly(
  right('plain', 'upper', 'zeros'),
  wrong('0x', 'negative', 'huge', 'space', 'empty', 'more', 'less', 'plus', 'letters'),
);

function writtenSize(length: number, form: string): string {
  const hex = length.toString(16);
  const forms: Record<string, string> = {
    ...{
      plain: hex,
      upper: hex.toUpperCase(),
      zeros: `00${hex}`,
      '0x': `0x${hex}`,
      negative: `-${hex}`,
      plus: `+${hex}`,
    },
    ...{ huge: `fffffffffffffff${hex}`, space: ` ${hex}`, empty: '', letters: `${hex}g` },
    ...{ more: (length + 1).toString(16), less: Math.max(0, length - 1).toString(16) },
  };
  return forms[form] ?? hex;
}

const payload = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    'hello',
    '\r\n',
    '0\r\n\r\n',
    '\r\n\r\n',
    'HTTP/1.1 200 OK\r\n\r\n',
    '\xff\0\n',
    'x'.repeat(20_000),
  ),
  fc.string({ maxLength: 40, unit: 'binary-ascii' }),
);

const chunk = fc
  .tuple(payload, sizeForm, extension, lineEnd, lineEnd)
  .filter(([data]) => data !== '')
  .map(([data, [form, formRight], [ext, extRight], [first, firstRight], [second, secondRight]]): Part => {
    const isRight = formRight && extRight && firstRight && secondRight;
    return [`${writtenSize(data.length, form)}${ext}${first}${data}${second}`, isRight];
  });

const lines = (line: fc.Arbitrary<Part>, maxLength: number): fc.Arbitrary<Part> =>
  fc.array(fc.tuple(line, lineEnd), { maxLength }).map((all): Part => {
    const isRight = all.every(([[, lineRight], [, endRight]]) => lineRight && endRight);
    return [all.map(([[text], [end]]) => text + end).join(''), isRight];
  });

const trailer = mostly(right('X-Sum: 1', 'X-T:'), wrong('X Sum: 1', ' X: 1', 'X', 'X: \0', 'X: 1\r\n fold'));

const chunkedBody = fc
  .tuple(
    fc.array(chunk, { maxLength: 4 }),
    mostly(right('0', '000'), wrong('', '-0', '0x0', '00000000000000000000')),
    extension,
    lineEnd,
  )
  .chain(([chunks, [zero, zeroRight], [ext, extRight], [end, endRight]]) =>
    fc.tuple(lines(trailer, 2), lineEnd).map(([[trailers, trailersRight], [last, lastRight]]): Part => {
      const isRight = [
        zeroRight,
        extRight,
        endRight,
        trailersRight,
        lastRight,
        ...chunks.map(([, each]) => each),
      ].every(Boolean);
      return [`${chunks.map(([text]) => text).join('')}${zero}${ext}${end}${trailers}${last}`, isRight];
    }),
  );

/** Framing header and body that belong together, or do not. */
interface Framed {
  readonly header: string;
  readonly body: string;
  readonly right: boolean;
  readonly untilClose: boolean;
}

const framed: fc.Arbitrary<Framed> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.tuple(payload, fc.constantFrom('', '00')).map(([body, zeros]) => {
      return { header: `Content-Length: ${zeros}${body.length}`, body, right: true, untilClose: false };
    }),
  },
  {
    weight: 8,
    arbitrary: fc
      .tuple(chunkedBody, fc.constantFrom('Transfer-Encoding: chunked', 'transfer-encoding: Chunked  '))
      .map(([[body, isRight], header]) => ({ header, body, right: isRight, untilClose: false })),
  },
  { weight: 3, arbitrary: payload.map((body) => ({ header: '', body, right: true, untilClose: true })) },
  {
    weight: 1,
    arbitrary: fc.tuple(payload, fc.integer({ min: -2, max: 2 })).map(([body, more]) => {
      const header = `Content-Length: ${Math.max(0, body.length + more)}`;
      return { header, body, right: false, untilClose: false };
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.oneof(
          payload,
          chunkedBody.map(([text]) => text),
        ),
        fc.constantFrom(...LENGTHS_WRONG, ...CODINGS_WRONG),
      )
      .map(([body, header]) => ({ header, body, right: false, untilClose: false })),
  },
  {
    weight: 1,
    arbitrary: payload.map((body) => {
      const header = `Content-Length: ${body.length}\r\nContent-Length: ${body.length}`;
      return { header, body, right: false, untilClose: false };
    }),
  },
);

const interim = mostly(
  right(
    '',
    '',
    '',
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 102 P\r\n\r\n',
  ),
  wrong(
    'HTTP/1.1 100\n\n',
    'HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\nhello',
    '\r\n',
    'HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
  ),
);

const behind = mostly(
  right(''),
  wrong('x', '\r\n', '\0', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil', 'HTTP/1.1 20'),
  12,
);

/** Where no body may stand, the same heads are right without one. */
function isBodiless(method: string, status: string): boolean {
  return method === 'HEAD' || status.includes(' 204') || status.includes(' 304');
}

const tooLong = fc.constantFrom(...Array.from({ length: 60 }, () => ''), `X-Long: ${'a'.repeat(70_000)}\r\n`);

export const answers: fc.Arbitrary<GeneratedAnswer> = fc
  .record({
    method: fc.constantFrom('GET', 'GET', 'GET', 'POST', 'HEAD'),
    interim,
    statusLine: fc.tuple(statusLine, lineEnd),
    fields: lines(field, 4),
    framed: fc.tuple(framed, lineEnd),
    tooLong,
    emptyLine: lineEnd,
    behind,
    cutShort: fc.oneof(
      { weight: 11, arbitrary: fc.constant(null) },
      { weight: 1, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
    ),
    ends: fc.boolean(),
    cuts: fc.oneof(
      fc.constant([]),
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 5 }),
      fc.constant([2]),
    ),
  })
  .map((parts) => {
    const [[status, statusRight], [statusEnd, statusEndRight]] = parts.statusLine;
    const [{ header, body, right: framedRight, untilClose }, [framedEnd, framedEndRight]] = parts.framed;
    const bodiless = isBodiless(parts.method, status);
    const old = status.startsWith('HTTP/1.0') && /^transfer/i.test(header);
    const head = `${status}${statusEnd}${parts.fields[0]}${parts.tooLong}${header === '' ? '' : header + framedEnd}${parts.emptyLine[0]}`;
    const whole = `${parts.interim[0]}${head}${bodiless && framedRight ? '' : body}${parts.behind[0]}`;
    const bytes = parts.cutShort === null ? whole : whole.slice(0, Math.floor(whole.length * parts.cutShort));
    const isRight = [parts.interim, parts.fields, parts.emptyLine, parts.behind].every(([, each]) => each);
    const ends = parts.ends || (untilClose && !bodiless);
    return {
      method: parts.method,
      bytes,
      ends,
      cuts: parts.cuts,
      wellFormed:
        isRight &&
        statusRight &&
        statusEndRight &&
        framedRight &&
        (header === '' || framedEndRight) &&
        !old &&
        parts.cutShort === null &&
        parts.tooLong === '',
    };
  });

/** The bytes in the pieces in which they arrive. */
export function piecesOf({ bytes, cuts }: GeneratedAnswer): Buffer[] {
  const all = Buffer.from(bytes, 'latin1');
  // Long ones in a few pieces all the same: a head in single bytes takes its time.
  if (cuts[0] === 2 && all.length < 2_000)
    return Array.from({ length: all.length }, (_, index) => all.subarray(index, index + 1));
  const places = [
    0,
    ...cuts.map((cut) => Math.min(all.length, Math.floor(cut * all.length))).sort((a, b) => a - b),
    all.length,
  ];
  const pieces = places.slice(1).map((place, index) => all.subarray(places[index], place));
  return pieces.filter(({ length }) => length > 0);
}
