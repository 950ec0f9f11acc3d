/** How good or bad a thing that was looked at is. `note` is worth knowing, and neither. */
export type Grade = 'ok' | 'note' | 'warning' | 'error';

/** One line of the report of `check`. */
export interface Finding {
  readonly grade: Grade;
  /** The setting, or the file. */
  readonly about: string;
  readonly text: string;
}

export const ok = (about: string, text: string): Finding => ({ grade: 'ok', about, text });
export const note = (about: string, text: string): Finding => ({ grade: 'note', about, text });
export const warning = (about: string, text: string): Finding => ({ grade: 'warning', about, text });
export const problem = (about: string, text: string): Finding => ({ grade: 'error', about, text });

/** `2027-01-31 12:00:00 UTC`; local time would differ between the operator's machine and the log. */
export function date(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}

/** `12 days`, rounded down; hours below two days, minutes below two hours. */
export function span(milliseconds: number): string {
  const minutes = Math.floor(Math.abs(milliseconds) / 60_000);
  const hours = Math.floor(minutes / 60);
  const [amount, unit] =
    hours < 2 ? [minutes, 'minute'] : hours < 48 ? [hours, 'hour'] : [Math.floor(hours / 24), 'day'];
  return `${amount} ${unit}${amount === 1 ? '' : 's'}`;
}
