import { createHash } from 'node:crypto';
import { SCRIPT } from './status-page-script.js';
import { STYLE } from './status-page-style.js';

/** One page, whole in itself: what is on it comes from `/status`, `/refusals` and `/readyz` as JSON and text. */
export const STATUS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>mtls-sidecar</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>mtls-sidecar</h1>
<p id="phase" class="badge" role="status">…</p>
<p id="about" class="quiet"></p>
</header>
<noscript><p>This page needs JavaScript. The same is at <a href="status">status</a> and <a href="refusals">refusals</a>.</p></noscript>
<main>
<section class="wide"><h2>The last ten minutes</h2><div id="charts" class="charts"></div></section>
<section><h2>Listening</h2><dl id="listening"></dl></section>
<section><h2>Certificates</h2><ul id="endings"></ul></section>
<section class="wide"><h2>Routes</h2><div id="routes" class="scroll" tabindex="0"></div></section>
<section class="wide"><h2>Callers seen</h2><div id="callers" class="scroll" tabindex="0"></div></section>
<section class="wide"><h2>Refusals</h2><div id="refusals" class="scroll" tabindex="0"></div></section>
<section class="wide"><h2>Reloads</h2><div id="reloads" class="scroll" tabindex="0"></div></section>
</main>
<footer><a href="status">status</a><a href="refusals">refusals</a><a href="metrics">metrics</a></footer>
<script>${SCRIPT}</script>
</body>
</html>
`;

/**
 * The page shows what strangers wrote. Should one of them ever get markup into it, this is what remains: only our script and style
 * run, no string becomes markup, and nothing leaves for another origin.
 */
export const STATUS_PAGE_HEADERS: Readonly<Record<string, string>> = {
  'Content-Security-Policy': [
    "default-src 'none'",
    `script-src '${digest(SCRIPT)}'`,
    `style-src '${digest(STYLE)}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  'X-Frame-Options': 'DENY',
  'Referrer-Policy': 'no-referrer',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Resource-Policy': 'same-origin',
};

function digest(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
