/** Reads a value that another process sent. @throws TypeError when it is of another shape */
export type Shape<T> = (value: unknown) => T;

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Shaped<F extends Fields> = { readonly [K in keyof F]: ReturnType<F[K]> };

export const nothing: Shape<null> = () => null;

export const text: Shape<string> = (value) => {
  if (typeof value !== 'string') throw new TypeError('no text');
  return value;
};

export const number: Shape<number> = (value) => {
  if (typeof value !== 'number' || !Number.isFinite(value)) throw new TypeError('no number');
  return value;
};

/** The latest and, negated, the earliest that a Date can be (ECMAScript §21.4.1.1): beyond it, to write it down throws. */
const LAST_MOMENT = 8.64e15;

/** Milliseconds since the epoch. */
export const moment: Shape<number> = (value) => {
  const at = number(value);
  if (Math.abs(at) > LAST_MOMENT) throw new TypeError('no date');
  return at;
};

export function matching(pattern: RegExp): Shape<string> {
  return (value) => {
    const word = text(value);
    if (!pattern.test(word)) throw new TypeError(`not of the form ${pattern.source}`);
    return word;
  };
}

/** At most `most` bytes, and not none. */
export function base64(most: number): Shape<string> {
  const longest = 4 * Math.ceil(most / 3);
  return (value) => {
    const word = text(value);
    if (word.length > longest || !/^[A-Za-z0-9+/]+={0,2}$/.test(word))
      throw new TypeError('no base64, or too much of it');
    return word;
  };
}

export const flag: Shape<boolean> = (value) => {
  if (typeof value !== 'boolean') throw new TypeError('neither true nor false');
  return value;
};

export function oneOf<const W extends string>(...words: readonly W[]): Shape<W> {
  return (value) => {
    const word = words.find((known) => known === value);
    if (word === undefined) throw new TypeError(`none of ${words.join(', ')}`);
    return word;
  };
}

export function orNull<T>(shape: Shape<T>): Shape<T | null> {
  return (value) => (value === null ? null : shape(value));
}

/** At most `most` of one shape. */
export function list<T>(shape: Shape<T>, most: number): Shape<readonly T[]> {
  return (value) => {
    if (!Array.isArray(value) || value.length > most) throw new TypeError('no list, or too long a one');
    return value.map(shape);
  };
}

export function pair<A, B>(one: Shape<A>, other: Shape<B>): Shape<readonly [A, B]> {
  return (value) => {
    if (!Array.isArray(value) || value.length !== 2) throw new TypeError('no pair');
    return [one(value[0]), other(value[1])];
  };
}

/** An object of these fields; what else is in it is left behind. */
export function record<F extends Fields>(fields: F): Shape<Shaped<F>> {
  return (value) => {
    const from = objectOf(value);
    const entries = Object.entries(fields).map(([name, shape]) => [name, shape(from[name])]);
    return Object.fromEntries(entries) as Shaped<F>;
  };
}

/** An object that has these fields; what else is in it is handed on as it is, for somebody who shows it as it is. */
export function having<F extends Fields>(fields: F): Shape<Shaped<F>> {
  return (value) => ({ ...objectOf(value), ...record(fields)(value) });
}

function objectOf(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new TypeError('no object');
  return value as Record<string, unknown>;
}
