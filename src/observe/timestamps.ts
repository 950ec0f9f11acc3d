/**
 * The spellings of time that access lines need. All are made once a second and reused: at thousands of lines a
 * second, formatting a Date anew costs more than the rest of the line.
 */

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const YEAR_10000 = 253_402_300_800_000;

let isoSecond = -1;
let isoPrefix = '';
let clfSecond = -1;
let clfText = '';

/** ISO 8601 in UTC, `2026-01-31T23:59:59.123Z`. @param epochMs a time outside the years 1970 to 9999 reads as 1970. */
export function isoTime(epochMs: number): string {
  const whole = wholeMilliseconds(epochMs);
  const second = Math.floor(whole / 1000);
  if (second !== isoSecond) {
    isoSecond = second;
    isoPrefix = new Date(second * 1000).toISOString().slice(0, 20);
  }
  return `${isoPrefix}${String(whole - second * 1000).padStart(3, '0')}Z`;
}

/** nginx's `$time_local`: `31/Jan/2026:23:59:59 +0000`, in the time zone of the process. */
export function clfTime(epochMs: number): string {
  const second = Math.floor(wholeMilliseconds(epochMs) / 1000);
  if (second !== clfSecond) {
    clfSecond = second;
    clfText = formatClf(new Date(second * 1000));
  }
  return clfText;
}

let localSecond = -1;
let localText = '';

/** nginx's `$time_iso8601`: `2026-01-31T23:59:59+00:00`, in the time zone of the process. */
export function isoLocalTime(epochMs: number): string {
  const second = Math.floor(wholeMilliseconds(epochMs) / 1000);
  if (second !== localSecond) {
    localSecond = second;
    localText = formatLocal(new Date(second * 1000));
  }
  return localText;
}

function formatLocal(date: Date): string {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day}T${timeOfDay(date)}${zoneOf(date, ':')}`;
}

function formatClf(date: Date): string {
  const day = `${two(date.getDate())}/${MONTHS[date.getMonth()]}/${date.getFullYear()}`;
  return `${day}:${timeOfDay(date)} ${zoneOf(date, '')}`;
}

function timeOfDay(date: Date): string {
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function zoneOf(date: Date, separator: string): string {
  const offset = -date.getTimezoneOffset();
  const zone = Math.abs(offset);
  return `${offset < 0 ? '-' : '+'}${two(Math.floor(zone / 60))}${separator}${two(zone % 60)}`;
}

function two(value: number): string {
  return String(value).padStart(2, '0');
}

function wholeMilliseconds(epochMs: number): number {
  return epochMs >= 0 && epochMs < YEAR_10000 ? Math.floor(epochMs) : 0;
}
