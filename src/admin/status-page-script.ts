/**
 * What runs in the browser. Names in certificates and requests are their senders' to choose, so text reaches the page as text
 * nodes alone: no markup is ever made of a string, and the page's Trusted Types policy refuses it to be.
 */
export const SCRIPT = String.raw`
'use strict';

const REFRESH_MS = 5000;
const DAY = 86400000;
const STEPS = 60;

// Invisible characters, and those that turn the direction of what follows, are spelled out.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

function plain(value) {
  return String(value).replace(UNSEEN, (char) => '\\u' + char.charCodeAt(0).toString(16).padStart(4, '0'));
}

function add(node, children) {
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child instanceof Node ? child : plain(child));
  }
  return node;
}

function el(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className !== '') node.className = className;
  return add(node, children);
}

function drawn(tag, attributes, ...children) {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return add(node, children);
}

function fill(id, ...children) {
  const node = document.getElementById(id);
  node.replaceChildren();
  add(node, children);
}

const UNITS = [['day', DAY], ['hour', 3600000], ['minute', 60000], ['second', 1000]];

function span(milliseconds) {
  const length = Math.abs(milliseconds);
  const [unit, size] = UNITS.find(([, size]) => length >= size) || UNITS[3];
  const count = Math.floor(length / size);
  return counted(count, unit);
}

function ago(time, now) {
  return now - Date.parse(time) < 1500 ? 'now' : span(now - Date.parse(time)) + ' ago';
}

function moment(time) {
  return time.slice(0, 19).replace('T', ' ') + ' UTC';
}

function date(time) {
  return time.slice(0, 10);
}

function value(text) {
  return el('span', 'value', text);
}

function figure(number) {
  return number >= 100 || Number.isInteger(number) ? String(Math.round(number)) : number.toPrecision(2);
}

function counted(number, noun) {
  return number + ' ' + noun + (number === 1 ? '' : 's');
}

// A certificate that lives for an hour is not in danger half an hour before its end.
function grade(left, lifetime) {
  if (left <= Math.min(7 * DAY, lifetime / 4)) return 'bad';
  return left <= Math.min(30 * DAY, lifetime / 2) ? 'warn' : 'good';
}

// Expiry.

function ending(item, now) {
  const end = Date.parse(item.end);
  const left = end - now;
  const lifetime = end - Date.parse(item.begin);
  const words = left <= 0 ? 'EXPIRED ' + span(left) + ' ago' : span(left) + ' left';
  const bar = el('div', 'bar');
  bar.style.width = Math.max(0, Math.min(100, (100 * left) / lifetime)) + '%';
  return el(
    'li', '',
    el('div', 'ends', el('span', '', el('span', 'quiet', item.what + ' '), value(item.name)),
      el('strong', grade(left, lifetime), words)),
    el('div', 'track ' + grade(left, lifetime), bar),
    el('div', 'ends quiet', el('span', '', item.note), el('span', '', 'ends ' + moment(item.end))),
  );
}

function usage(callers, now) {
  if (callers === null) return 'intermediate';
  const { openConnections, connections, requests, lastUsed } = callers;
  if (lastUsed === null) return 'not used since the start';
  const totals = counted(connections, 'connection') + ' (' + openConnections + ' open), ' + counted(requests, 'request');
  return totals + ', last used ' + ago(lastUsed, now);
}

function endings(status, now) {
  const items = status.serverCertificates.map((server) => {
    return { what: 'Server', name: server.subject, note: server.subjectAltName, begin: server.notBefore, end: server.notAfter };
  });
  for (const ca of status.cas) {
    const name = ca.label === ca.subject ? ca.subject : ca.label + ' (' + ca.subject + ')';
    items.push({ what: 'CA', name, note: usage(ca.callers, now), begin: ca.notBefore, end: ca.notAfter });
  }
  for (const crl of status.crls) {
    if (crl.nextUpdate !== null) {
      items.push({ what: 'CRL', name: crl.issuer, note: 'next update', begin: crl.thisUpdate, end: crl.nextUpdate });
    }
  }
  return items;
}

function endless(crl) {
  return el('li', '', el('span', 'quiet', 'CRL '), value(crl.issuer), el('span', 'quiet', ' has no next update'));
}

// Tables. On a narrow screen the header is hidden and each cell carries its label.

function table(columns, rows, nothing) {
  if (rows.length === 0) return el('p', 'quiet', nothing);
  const head = el('tr', '', columns.map((column) => el('th', '', column)));
  const body = rows.map((cells) => el('tr', '', cells.map((cell, index) => labelled(cell, columns[index]))));
  return el('table', '', el('thead', '', head), el('tbody', '', body));
}

function labelled(cell, label) {
  const node = el('td', cell.className || '', el('span', '', cell.children));
  if (cell.children.every((child) => child === null || child === '')) node.classList.add('absent');
  node.dataset.label = label;
  return node;
}

function cell(...children) {
  return { children };
}

function short(...children) {
  return { children, className: 'short' };
}

function roomy(...children) {
  return { children, className: 'roomy' };
}

function callerRow(caller, status, now) {
  const ca = status.cas.find((one) => one.sha256 === caller.anchorSha256);
  const end = Date.parse(caller.notAfter);
  const urgency = grade(end - now, end - Date.parse(caller.notBefore));
  const verified = caller.verified ? null : el('span', 'bad', ' not verified');
  return [
    cell(value(caller.subject), verified),
    short(ago(caller.lastSeen, now)),
    short(el('span', urgency, date(caller.notAfter))),
    short(String(caller.requests)),
    short(String(caller.openConnections)),
    roomy(ca === undefined ? '' : value(ca.label)),
    roomy(value(caller.address)),
  ];
}

function refusalRow(refusal, now) {
  const request = refusal.kind === 'request' ? refusal.method + ' ' + refusal.path : '';
  return [
    short(ago(refusal.time, now)),
    short(el('span', 'code', refusal.reason || refusal.code)),
    cell(refusal.detail || '', request === '' ? null : el('br', ''), request === '' ? null : value(request)),
    cell(refusal.subject === null ? '' : value(refusal.subject)),
    roomy(value(refusal.peer)),
  ];
}

function asked({ verify, allowRules }) {
  if (verify === 'off') return 'off: everybody';
  return verify + ', ' + (allowRules === 0 ? 'every certificate under the CA' : counted(allowRules, 'allow rule'));
}

function routeRow(name, kind, terms, url) {
  return [cell(name), short(kind), roomy(asked(terms)), roomy(value(url))];
}

// Names end in a star where a path only has to begin so.
function routes({ routes, clientCert, upstream }) {
  if (routes.length === 0) return [];
  const rows = routes.map((route) => {
    return routeRow(value(route.name), route.name.endsWith('*') ? 'prefix' : 'exact', route, route.upstream);
  });
  return [...rows, routeRow('everything else', '', clientCert, upstream.url)];
}

const RESULTS = { applied: 'good', refused: 'bad', unchanged: 'quiet' };

function reloadRow(reload, now) {
  return [short(ago(reload.at, now)), short(el('span', RESULTS[reload.result] || '', reload.result)), cell(value(reload.message))];
}

// Charts: the newest step stands at the right edge.

function place(index, count) {
  return STEPS - count + index;
}

function bars(numbers, most, className) {
  return numbers.map((number, index) => {
    const height = (100 * number) / most;
    const at = { x: place(index, numbers.length) + 0.1, y: 100 - height, width: 0.8, height, class: 'fill ' + className };
    return number > 0 ? drawn('rect', at) : null;
  });
}

// A step without requests has no latency, and the line a gap.
function line(numbers, most, className) {
  let path = '';
  numbers.forEach((number, index) => {
    if (number === null) return;
    const joined = index > 0 && numbers[index - 1] !== null;
    const at = place(index, numbers.length);
    const y = 100 - (100 * number) / most;
    path += (joined ? 'L' : 'M') + at + ' ' + y + 'L' + (at + 1) + ' ' + y;
  });
  return drawn('path', { d: path, class: 'stroke ' + className });
}

function chart(title, unit, series, recent) {
  const numbers = series.flatMap(({ of }) => recent.map(of)).filter((number) => number !== null);
  const most = Math.max(...numbers, 0);
  const marks = series.map(({ of, draw, className }) => draw(recent.map(of), most || 1, className));
  const touches = recent.map((step, index) => {
    const words = series.map(({ name, of }) => (of(step) === null ? '' : name + ' ' + figure(of(step)) + unit)).join(' ');
    const at = { x: place(index, recent.length), y: 0, width: 1, height: 100, class: 'touch' };
    return drawn('rect', at, drawn('title', {}, moment(step.at) + ' ' + words));
  });
  const label = title + ', at most ' + figure(most) + unit;
  const frame = { viewBox: '0 0 60 100', preserveAspectRatio: 'none', role: 'img', 'aria-label': label };
  const legend = series.map(({ name, className }) => el('span', className, name + ' '));
  return el(
    'figure', '',
    el('figcaption', '', el('span', '', title), el('span', '', legend)),
    drawn('svg', frame, marks.flat(), touches),
    el('figcaption', '', el('span', '', '10 minutes ago'), el('span', '', 'most ' + figure(most) + unit), el('span', '', 'now')),
  );
}

function charts(recent) {
  return [
    chart('Requests', '/s', [
      { name: 'all', draw: bars, className: 'first', of: (step) => step.requests / step.seconds },
      { name: '5xx', draw: bars, className: 'second', of: (step) => step.serverErrors / step.seconds },
    ], recent),
    chart('Latency', ' ms', [
      { name: 'p50', draw: line, className: 'first', of: (step) => step.p50Ms },
      { name: 'p99', draw: line, className: 'second', of: (step) => step.p99Ms },
    ], recent),
    chart('Refusals', '', [
      { name: 'connections', draw: bars, className: 'second', of: (step) => step.refusedConnections },
      { name: 'requests', draw: line, className: 'first', of: (step) => step.refusedRequests },
    ], recent),
  ];
}

// The whole.

function facts(pairs) {
  return pairs.flatMap(([name, text]) => [el('dt', '', name), el('dd', '', value(text))]);
}

function staffed(workers) {
  return workers.filter((worker) => worker.state === 'serving').length + ' of ' + workers.length + ' serve';
}

function listening(status, now) {
  const { listen, admin, upstream, clientCert } = status;
  const other = status.otherCallers;
  return facts([
    ['Callers', listen.host + ' port ' + listen.port],
    ['Admin', admin === null ? 'off' : admin.host + ' port ' + admin.port],
    ['Workers', status.workers === null ? '' : staffed(status.workers)],
    ['Verification', asked(clientCert)],
    ['Connections', status.connections + ' open, ' + counted(status.tunnels, 'tunnel')],
    ['Under no CA', other === null || other.connections === 0 ? '' : usage(other, now)],
    ['Application', upstream.url + (upstream.reached ? '' : ' (not reached yet)')],
    ['Its connections', upstream.open + ' open, ' + upstream.busy + ' busy, ' + counted(upstream.waiting, 'request') + ' waiting'],
  ].filter(([, text]) => text !== ''));
}

function phase(status, readiness) {
  if (status.phase !== 'ready') return ['warn', status.phase];
  return readiness.ok ? ['good', 'ready'] : ['bad', 'not ready: ' + readiness.reason];
}

function badge([className, text]) {
  const node = document.getElementById('phase');
  node.className = 'badge ' + className;
  node.textContent = plain(text);
}

function render({ status, refusals, readiness }) {
  const now = Date.parse(status.now);
  badge(phase(status, readiness));
  const up = 'version ' + status.version + ', up for ' + span(now - Date.parse(status.startedAt));
  fill('about', up + ', as of ' + moment(status.now));
  fill('charts', charts(status.recent));
  fill('listening', listening(status, now));
  fill('endings', endings(status, now).map((item) => ending(item, now)), status.crls.filter((crl) => crl.nextUpdate === null).map(endless));
  fill('routes', table(['Route', 'Match', 'Verification', 'Goes to'], routes(status), 'None: every request goes to the application.'));
  fill('callers', table(
    ['Subject', 'Last seen', 'Certificate ends', 'Requests', 'Open', 'CA', 'Address'],
    status.callers.map((caller) => callerRow(caller, status, now)), 'None yet.'));
  fill('refusals', table(
    ['When', 'Reason', 'Detail', 'Subject', 'Address'],
    refusals.map((refusal) => refusalRow(refusal, now)), 'None.'));
  fill('reloads', table(['When', 'Result', 'Detail'], status.reloads.map((reload) => reloadRow(reload, now)), 'None yet.'));
}

// Relative names: the page also works behind a path, as kubectl proxy gives it one.
async function get(path) {
  return fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(REFRESH_MS) });
}

async function load() {
  const [status, refusals, readiness] = await Promise.all([get('status'), get('refusals'), get('readyz')]);
  const reason = await readiness.text();
  return { status: await status.json(), refusals: await refusals.json(), readiness: { ok: readiness.ok, reason: reason.trim() } };
}

async function refresh() {
  // Whoever is copying a serial number wants it to stay.
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    render(await load());
  } catch (error) {
    badge(['bad', 'no answer: ' + error.message]);
  }
}

async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, REFRESH_MS);
}

document.addEventListener('visibilitychange', refresh);
keepFresh();
`;
