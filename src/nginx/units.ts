const BYTES: Readonly<Record<string, number>> = { '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
/** Milliseconds. Case matters: `m` is a minute and `M` a month. */
const TIMES: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
  M: 2_592_000_000,
  y: 31_536_000_000,
};
/** Timers wait for 24 days at most. */
const LONGEST = 24 * 86_400_000;

/** `10m` in bytes; null when it is no size. */
export function sizeOf(written: string): number | null {
  const [, digits, unit] = /^(\d{1,12})([kmg]?)$/i.exec(written) ?? [];
  return digits === undefined ? null : Number(digits) * (BYTES[unit?.toLowerCase() ?? ''] ?? 1);
}

/** `1h 30m` or `90` (seconds) in milliseconds; null when it is no time. */
export function timeOf(written: string): number | null {
  if (/^\d{1,9}$/.test(written)) return Number(written) * 1_000;
  if (!/^(?:\d{1,9}(?:ms|[smhdwMy]) ?)+$/.test(written)) return null;
  const parts = written.matchAll(/(\d+)(ms|[smhdwMy])/g);
  return [...parts].reduce((sum, [, digits, unit]) => sum + Number(digits) * (TIMES[unit ?? ''] ?? 0), 0);
}

/** Bytes as a setting: `10MiB`, or a plain number. */
export function sizeSetting(bytes: number): string | number {
  for (const [unit, factor] of [
    ['GiB', 1024 ** 3],
    ['MiB', 1024 ** 2],
    ['KiB', 1024],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return bytes;
}

/** Milliseconds as a setting: `90s`, `5m`. */
export function timeSetting(milliseconds: number): string {
  const bounded = Math.min(milliseconds, LONGEST);
  for (const unit of ['h', 'm', 's'] as const) {
    const factor = TIMES[unit] ?? 1;
    if (bounded >= factor && bounded % factor === 0) return `${bounded / factor}${unit}`;
  }
  return `${bounded}ms`;
}
