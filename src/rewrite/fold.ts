/**
 * A header name as the loosest application server reads it: CGI, WSGI and PHP turn `-`, `_` and `.` into one character,
 * others every mark. Two names that fold to the same are the same header to somebody.
 */
export function foldName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9-]/g, '-');
}
