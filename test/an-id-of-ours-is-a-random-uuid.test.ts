import { describe, expect, it } from 'vitest';
import { newRequestId } from '../src/listen/request-ids.js';

/** More than are made at once. */
const IDS = Array.from({ length: 1000 }, newRequestId);

/** RFC 9562 §5.4: 6 bits of it are fixed. */
const RANDOM_UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe('the id of a request that brought none', () => {
  it('is a UUID of the random kind', () => {
    expect(IDS.filter((id) => !RANDOM_UUID.test(id))).toEqual([]);
  });

  it('is given to no other request', () => {
    expect(new Set(IDS).size).toBe(IDS.length);
  });

  it('has every digit in every place that is not fixed', () => {
    const seen = Array.from({ length: 36 }, (_, place) => new Set(IDS.map((id) => id[place])).size);
    // A digit is missing among a thousand once in 10 to the 25th.
    const [dash, version, variant] = [1, 1, 4];
    const expected = Array.from({ length: 36 }, (_, place) => ([8, 13, 18, 23].includes(place) ? dash : 16));
    expected[14] = version;
    expected[19] = variant;
    expect(seen).toEqual(expected);
  });
});
