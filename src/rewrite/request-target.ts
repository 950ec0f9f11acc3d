import type { Route } from '../config/config.js';

/**
 * Makes the function that turns a target into the one that the application gets: as it is, or with the beginning that the
 * route is for replaced, as nginx's `proxy_pass` with a URI does.
 */
export function createTargetRewriter(route: Pick<Route, 'path' | 'replaceWith'> | null): (target: string) => string {
  const replacement = route?.replaceWith ?? null;
  if (route === null || replacement === null) return (target) => target;
  const begin = route.path.replace(/\*$/, '');
  // `/api` is taken for `/api/`, and may be all there is of a path.
  return (target) => replacement + target.slice(target.startsWith(begin) ? begin.length : begin.length - 1);
}
