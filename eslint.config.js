/**
 * The linter keeps the house in order: which room may import which (levels), and who alone may touch the outside world
 * (powers). Each message says why, because a rule without its reason is worked around. ARCHITECTURE.md explains both;
 * test/house-rules.test.ts checks the same tables by another road.
 */
import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

const PURE_ROOMS = ['identify', 'admit', 'rewrite', 'pki', 'nginx'];

/** What pure code may import as values: functions from values to values, nothing that touches the outside. */
const PURE_MODULES = String.raw`node:crypto$|node:buffer$|asn1js$|ipaddr\.js$`;

/**
 * The level table. `may` lists the rooms whose values a room may import, besides its own folder; types are free, except
 * that nothing below level 4 knows the composition root.
 */
const ROOMS = [
  { files: 'errors.ts', level: 0, may: [] },
  ...PURE_ROOMS.map((room) => ({ files: `${room}/**`, level: 1, may: ['errors', room] })),
  ...['listen', 'forward', 'respond', 'trust', 'observe', 'admin', 'config'].map((room) => ({
    files: `${room}/**`,
    level: 2,
    may: ['errors', ...PURE_ROOMS, room],
  })),
  {
    files: '{proxy,passage}.ts',
    level: 3,
    may: ['errors', 'identify', 'admit', 'rewrite', 'forward', 'respond', 'proxy', 'passage'],
  },
  { files: 'app.ts', level: 4, may: null },
  { files: 'management.ts', level: 4, may: null },
  { files: 'workers/**', level: 4, may: null },
  { files: 'lifecycle.ts', level: 4, may: null },
  { files: 'rehearsal.ts', level: 4, may: null },
  {
    files: 'commands/**',
    level: 5,
    may: [
      'errors',
      'commands',
      'app',
      'workers',
      'lifecycle',
      'rehearsal',
      'config',
      'trust',
      'observe/log',
      'identify',
      'pki',
    ],
  },
  { files: 'main.ts', level: 5, may: ['errors', 'commands', 'config'] },
];

const LEVEL_REASONS = [
  'errors is level 0: everything imports it, so it imports nothing of ours.',
  'Level 1 is pure: it may use errors, its own folder and types. Hand it values; it hands back values.',
  'Level 2 is an edge: it may use errors, the pure rooms and its own folder; another edge by `import type` only, so that app.ts wires them.',
  'proxy is the hallway: errors, the pure rooms, forward and respond; observe by `import type` only.',
  '',
  'Commands use the composition root (app, workers, lifecycle, rehearsal), config, trust, observe/log, identify and pki, not the rooms behind them.',
];

/** Modules that some room may use. Any other is a power without an owner: one more HTTP client, a child process, an evaluator. */
const KNOWN_MODULES = [
  ...['buffer', 'crypto', 'events', 'os', 'path', 'stream', 'stream/promises', 'timers/promises', 'tty', 'url', 'util'],
  ...['cluster', 'dns', 'dns/promises', 'fs', 'fs/promises', 'http', 'http2', 'https', 'module', 'net', 'tls', 'vm'],
].map((name) => `node:${name}`);
const KNOWN_PACKAGES = 'asn1js convict http-proxy ipaddr.js pino pino-pretty prom-client send yaml'.split(' ');
const KNOWN = [...KNOWN_MODULES, ...KNOWN_PACKAGES].join('|').replaceAll('.', String.raw`\.`);
const NO_OWNER =
  'Nobody owns this module: a sidecar starts no other program, evaluates no code and has one HTTP client. Give a new one an owner first.';
/** Writes log lines to descriptor 1 through node:fs; it opens nothing. */
const DESCRIPTOR_WRITER = ['observe/output.ts'];
/** The demo plays caller, application and PKI in one process. */
const DEMO = ['commands/demo.ts'];
/**
 * Ask another process: the admin listener of a sidecar, a sidecar as its callers do, whether an application is there, the
 * API server of Kubernetes.
 */
const ASKS_ANOTHER = ['ask-admin', 'explain-call', 'check-upstream', 'kubernetes-secret'].map(
  (name) => `commands/${name}.ts`,
);

/** One owner per power: modules that only their owner may import as values. */
const MODULE_POWERS = [
  {
    modules: String.raw`node:fs(/promises)?$`,
    owners: ['trust/**', 'config/**', 'forward/static-files.ts', ...DESCRIPTOR_WRITER, ...DEMO],
    why: 'The file system belongs to trust, config and forward/static-files: whoever reads files must also say what happens when they change.',
  },
  {
    modules: String.raw`(http-proxy|send)$`,
    owners: ['forward/**'],
    why: 'Forwarding belongs to forward: it alone knows timeouts, aborts and retries.',
  },
  {
    modules: String.raw`node:http2$`,
    owners: ['listen/**', 'forward/**'],
    why: 'HTTP/2 is spoken with callers by listen and with the application by forward, within limits that they set.',
  },
  {
    modules: String.raw`prom-client$`,
    owners: ['observe/metrics.ts'],
    why: 'prom-client belongs to observe/metrics: label values are closed sets there.',
  },
  {
    modules: String.raw`pino(-pretty)?$`,
    owners: ['observe/log.ts'],
    why: 'pino belongs to observe/log: one place flushes, masks and survives a broken stdout.',
  },
  {
    modules: String.raw`(convict|yaml)$`,
    owners: ['config/**'],
    why: 'Settings are parsed in config, at start; everything else gets the typed, frozen Config.',
  },
  {
    modules: String.raw`node:dns(/promises)?$`,
    owners: ['forward/**', 'commands/explain-call.ts'],
    why: 'Names are looked up by whoever connects: between a look-up and a connection elsewhere the answer may change.',
  },
  {
    modules: 'node:cluster$',
    owners: ['workers/**'],
    why: 'Processes belong to workers: they are this program alone, and somebody has to see how each of them ends.',
  },
  {
    modules: 'node:vm$',
    owners: ['lifecycle.ts'],
    why: 'An evaluator. Lifecycle makes an empty script with it, for its weight alone, and runs nothing.',
  },
  {
    modules: 'node:module$',
    owners: ['main.ts', 'app.ts'],
    why: 'createRequire loads anything unseen by the level table; main and app read the version with it, nothing else.',
  },
  {
    modules: String.raw`(?!\.|(${KNOWN})$)`,
    owners: [],
    why: NO_OWNER,
  },
  {
    modules: String.raw`node:process$`,
    owners: [],
    why: 'Use the global: the rules about process.env, process.exit and signals are written for it.',
  },
  {
    modules: String.raw`(?!node:)(assert|buffer|crypto|dns|events|fs|http|http2|https|net|os|path|perf_hooks|process|stream|timers|tls|url|util|zlib)(/.*)?$`,
    owners: [],
    why: 'Write node: in front of a built-in module, so that the rules about built-in modules see it.',
  },
];

const RESERVED_HEADER =
  '/^(x-ssl-client|x-ssl$|x-ssl-issuer|ssl-client|x-client-cert|client-cert(-chain)?$|x-forwarded-client-cert|x-forwarded-tls-client-cert)/i';

/** Modules that hold both servers and clients, and functions of values besides: here the name tells the power. */
const NETWORK = String.raw`[source.value=/^node:(http|http2|https|net|tls)$/]`;
const SERVER_NAMES = '(createServer|Server|TLSSocket|performServerHandshake)';
const CLIENT_NAMES = '(request|get|Agent|globalAgent|ClientRequest|connect|createConnection|Socket|Stream)';
const HARMLESS_NAMES =
  '(isIP|isIPv4|isIPv6|BlockList|STATUS_CODES|METHODS|constants|createSecureContext|rootCertificates|checkServerIdentity)';

/**
 * Imports of network values under a name, whatever they are called here; types are free. A rule about calls would look
 * for `createServer(` and be blind to `createServer as start`.
 */
function networkImport(condition) {
  return `ImportDeclaration[importKind!="type"]${NETWORK} > ImportSpecifier[importKind!="type"]${condition}`;
}

/** `process.x` that harms nobody, and what the rules below give an owner. */
const HARMLESS_MEMBERS = ['nextTick', 'version', 'versions', 'cwd', 'pid', 'platform', 'uptime', 'hrtime'];
const OWNED_MEMBERS = [
  ...['env', 'exit', 'exitCode', 'abort', 'kill', 'reallyExit', 'noDeprecation', 'stdout', 'stderr', 'stdin', 'argv'],
  ...['on', 'once', 'off', 'addListener', 'removeListener', 'prependListener', 'prependOnceListener'],
  'removeAllListeners',
];
const KNOWN_MEMBERS = [...HARMLESS_MEMBERS, ...OWNED_MEMBERS].join('|');

/** One owner per power: things that the name of a module does not tell. `at` is an esquery selector. */
const SYNTAX_POWERS = [
  {
    at: ['MemberExpression[object.name="process"][property.name="env"]'],
    owners: ['config/**'],
    why: 'process.env belongs to config: a setting that is read elsewhere is neither checked nor documented.',
  },
  {
    at: [
      'MemberExpression[object.name="process"][property.name=/^(exit|exitCode|abort|kill|reallyExit|noDeprecation)$/]',
    ],
    owners: ['main.ts'],
    why: 'process.exit belongs to main: anywhere else it cuts off requests and log lines. Throw, or return an exit code.',
  },
  {
    at: [
      'CallExpression[callee.object.name="process"][callee.property.name=/^(on|once|off|addListener|removeListener|prependListener|prependOnceListener|removeAllListeners)$/]:not([arguments.0.value="exit"])',
      // `once(process, 'SIGTERM')`, and any other way of listening to it.
      'CallExpression > Identifier[name="process"]',
    ],
    // 'exit' is no signal: it is the last chance to write what is left of the log.
    owners: ['lifecycle.ts'],
    why: 'Signals belong to lifecycle: two handlers for one signal are two opinions about when to stop.',
  },
  {
    at: [
      'MemberExpression[computed=true][object.name="process"]',
      ':not(MemberExpression, CallExpression) > Identifier[name="process"]:not(.key)',
    ],
    owners: [],
    why: 'Write process.member in full: under another name, the rules about environment, exit and signals cannot see it.',
  },
  {
    at: [`MemberExpression[computed=false][object.name="process"]:not([property.name=/^(${KNOWN_MEMBERS})$/])`],
    owners: [],
    why: 'Nobody owns this member of process: some load modules (getBuiltinModule, binding, dlopen). Give it an owner first.',
  },
  {
    at: [
      networkImport(`[imported.name=/^${SERVER_NAMES}$/]`),
      // http-proxy has servers of its own.
      ':matches(CallExpression, NewExpression)[callee.property.name=/^(create(Secure)?Server|Server)$/]',
      ':matches(CallExpression, NewExpression)[callee.name=/^create(Secure)?Server$/]',
    ],
    owners: ['listen/**', 'admin/**', ...DEMO],
    why: 'Servers belong to listen and admin: an unadmitted peer must never reach another HTTP parser.',
  },
  {
    at: [networkImport(`[imported.name=/^${CLIENT_NAMES}$/]`)],
    owners: ['forward/**', ...ASKS_ANOTHER, ...DEMO],
    why: 'Outgoing connections belong to forward: it alone knows timeouts, aborts and retries.',
  },
  {
    at: [
      networkImport(`:not([imported.name=/^(${SERVER_NAMES}|${CLIENT_NAMES}|${HARMLESS_NAMES})$/])`),
      `ImportDeclaration[importKind!="type"]${NETWORK} > :matches(ImportDefaultSpecifier, ImportNamespaceSpecifier)`,
      `ImportDeclaration[importKind!="type"]${NETWORK}[specifiers.length=0]`,
      `:matches(ExportNamedDeclaration, ExportAllDeclaration)[exportKind!="type"]${NETWORK}`,
      'TSImportEqualsDeclaration[moduleReference.type="TSExternalModuleReference"]',
    ],
    owners: [],
    why: 'Import network values one by one, by a name that the tables of eslint.config.js know: the name tells server from client.',
  },
  {
    at: [
      'ImportDeclaration[source.value="node:vm"] > :matches(ImportDefaultSpecifier, ImportNamespaceSpecifier)',
      'ImportDeclaration[source.value="node:vm"] > ImportSpecifier:not([imported.name="Script"][local.name="Script"])',
      'NewExpression[callee.name="Script"]:not([arguments.length=1][arguments.0.value=""])',
      ':not(NewExpression, ImportSpecifier) > Identifier[name="Script"]',
      'NewExpression > Identifier.arguments[name="Script"]',
      'MemberExpression[object.callee.name="Script"]',
      ':matches(ExportNamedDeclaration, ExportAllDeclaration)[source.value="node:vm"]',
    ],
    owners: [],
    why: 'The one script there is has nothing in it: a sidecar evaluates no code.',
  },
  {
    at: [`Literal[value=${RESERVED_HEADER}]`, `TemplateElement[value.raw=${RESERVED_HEADER}]`],
    owners: ['rewrite/identity-headers.ts'],
    why: 'Identity header names belong to rewrite/identity-headers: a name that is set elsewhere is not stripped first.',
  },
  {
    at: [
      'CallExpression[callee.property.name="writeHead"]',
      'AssignmentExpression[left.property.name=/^status(Code|Message)$/]',
    ],
    owners: ['respond/**', 'admin/**', ...DEMO],
    why: 'A status is written by respond alone (relay, or refuse for an invented one), so that each is logged and counted once.',
  },
  {
    at: ['Literal[value=/^HTTP\\u002F1\\.[01] [1-5]/]', 'TemplateElement[value.raw=/^HTTP\\u002F1\\.[01] [1-5]/]'],
    owners: ['respond/refuse.ts'],
    why: 'A status is written by respond alone, and invented by respond/refuse alone.',
  },
  {
    at: ['Literal[value=/^HTTP\\u002F1\\.([01] ?)?$/]', 'TemplateElement[value.raw=/^HTTP\\u002F1\\./]'],
    // What is not invented: 1xx of the application, and its answer to an Upgrade.
    owners: ['respond/refuse.ts', 'respond/relay.ts', 'forward/tunnel.ts'],
    why: 'A status line is written by respond, and by forward/tunnel for the status of the application: any other would be neither logged nor counted.',
  },
  {
    at: ['MemberExpression[object.name="process"][property.name=/^(stdout|stderr|stdin|argv)$/]'],
    owners: ['main.ts', 'commands/**', 'observe/log.ts'],
    why: 'Standard streams and arguments belong to main, commands and observe/log.',
  },
  {
    at: ['ImportExpression', 'CallExpression[callee.name="require"]'],
    owners: ['main.ts', 'forward/static-files.ts'],
    why: 'Imports are static, so that the level table can be checked; only main loads commands lazily, and forward/static-files what sends files.',
  },
  {
    at: ['ImportExpression:not([source.value=/^\\.\\u002Fcommands\\u002F/])'],
    owners: ['forward/static-files.ts'],
    why: 'Lazily loaded are commands, by name: what else is loaded has to be seen by the level table.',
  },
  {
    at: ['ImportExpression:not([source.value="send"])'],
    owners: ['main.ts'],
    why: 'Lazily loaded is send, by name: what else is loaded has to be seen by the level table.',
  },
  {
    at: [':not(CallExpression[arguments.0.value="../package.json"]) > CallExpression[callee.name="createRequire"]'],
    owners: [],
    why: 'createRequire reads package.json: what else is loaded has to be seen by the level table.',
  },
];

/** Ways round every table of this file. */
const GLOBALS = [
  ...['globalThis', 'global'].map((name) => ({
    name,
    message: 'Name the global itself: behind globalThis, the rules about process and fetch cannot see it.',
  })),
  ...['fetch', 'WebSocket', 'EventSource'].map((name) => ({
    name,
    message:
      'Outgoing connections belong to forward, which reads answers strictly: a global client has timeouts and a pool of its own.',
  })),
];

const PURE_GLOBALS = [
  ...['process', 'console', 'performance'],
  ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'],
].map((name) => ({
  name,
  message: 'Pure code touches values only: no socket, file, clock, timer, environment or logger.',
}));

const PURE_SYNTAX = [
  'CallExpression[callee.object.name="Date"][callee.property.name="now"]',
  'CallExpression[callee.name="Date"]',
  'NewExpression[callee.name="Date"][arguments.length=0]',
].map((selector) => ({ selector, message: 'Pure code has no clock: take the time as an argument, in milliseconds.' }));

const RANDOM = ['CallExpression[callee.object.name="Math"][callee.property.name="random"]'].map((selector) => ({
  selector,
  message: 'Math.random is predictable, and pure code has no randomness: take the value as an argument.',
}));

/** Whether a room's glob lies within an owner's glob: 'forward/static-files.ts' and 'forward/**' are both within 'forward/**'. */
function owns(files, owners) {
  return owners.some((owner) => owner === files || (owner.endsWith('/**') && files.startsWith(owner.slice(0, -2))));
}

/** The rooms, and after them (a later entry wins) the single files that own what their room does not. */
function places() {
  const owners = [...MODULE_POWERS, ...SYNTAX_POWERS].flatMap((power) => power.owners);
  const singles = [...new Set(owners)].filter((owner) => owner.includes('/') && !owner.endsWith('/**'));
  return [...ROOMS, ...singles.map((files) => ({ ...roomOf(files), files }))];
}

function roomOf(file) {
  return ROOMS.find((room) => owns(file, [room.files]));
}

function levelPatterns({ files, level, may }) {
  if (may === null) return [];
  const own = files.includes('/') ? String.raw`|\./` : '';
  const allowed = may.map((name) => String.raw`(\.\./|\./)${name}(/|\.js$)`).join('|');
  const root = String.raw`\.\.?/(main|app|management|workers|lifecycle|rehearsal|commands)(/|\.js$)`;
  // The two never match the same import: one pattern that allows types would speak for both.
  const skip = level < 4 ? `${root}|` : '';
  const relative = {
    regex: `^(?!${skip}${allowed || '$'}${own})\\.`,
    message: LEVEL_REASONS[level],
    allowTypeImports: true,
  };
  const message = 'Nothing below level 4 knows the composition root, not even its types.';
  const upward = { regex: `^${root}`, message };
  return level < 4 ? [relative, upward] : [relative];
}

function modulePatterns({ files, level }) {
  const powers = MODULE_POWERS.filter((power) => !owns(files, power.owners)).map((power) => ({
    regex: `^${power.modules}`,
    message: power.why,
    allowTypeImports: true,
  }));
  if (level > 1) return powers;
  const message = 'Pure code imports nothing that can touch the outside world.';
  const valueFunctions = ['isIP', 'isIPv4', 'isIPv6'];
  return [
    ...powers,
    { regex: `^(?!\\.|node:net$|${PURE_MODULES})`, message, allowTypeImports: true },
    { regex: '^node:net$', allowImportNames: valueFunctions, message, allowTypeImports: true },
  ];
}

function restrictedSyntax({ files, level }) {
  const powers = SYNTAX_POWERS.filter((power) => !owns(files, power.owners)).flatMap((power) =>
    power.at.map((selector) => ({ selector, message: power.why })),
  );
  return level <= 1 ? [...powers, ...RANDOM, ...PURE_SYNTAX] : [...powers, ...RANDOM];
}

/** ESLint replaces a rule's options instead of merging them, so each place gets its complete list. */
function placeRules(place) {
  return {
    files: [`src/${place.files}`],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        { patterns: [...levelPatterns(place), ...modulePatterns(place)] },
      ],
      'no-restricted-syntax': ['error', ...restrictedSyntax(place)],
      'no-restricted-globals': ['error', ...GLOBALS, ...(place.level <= 1 ? PURE_GLOBALS : [])],
      'no-console': place.level === 5 ? 'off' : 'error',
    },
  };
}

export default defineConfig(
  globalIgnores(['test/.fuzz/', 'dist/', 'coverage/', 'bench/tmp/', 'bench/results/']),
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      eqeqeq: 'error',
      'no-var': 'error',
      'prefer-const': 'error',
      'no-eval': 'error',
      'no-new-func': 'error',
      'no-warning-comments': ['error', { terms: ['todo', 'fixme', 'xxx'] }],
      // Control characters are what this program has to find in hostile input.
      'no-control-regex': 'off',
      'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
    },
  },
  {
    files: ['src/**/*.ts', 'test/**/*.ts', 'vitest.config.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: {
      parserOptions: { project: ['tsconfig.json', 'test/tsconfig.json'], tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'max-lines-per-function': ['error', { max: 60, skipBlankLines: true, skipComments: true }],
      'max-params': ['error', 4],
      'max-depth': ['error', 3],
      complexity: ['error', 15],
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
    },
  },
  // ProxyError's five facts have no defaults; an options object would repeat their names at every throw.
  { files: ['src/errors.ts'], rules: { 'max-params': ['error', 5] } },
  ...places().map(placeRules),
  {
    files: ['test/**/*.ts'],
    rules: {
      // Tests poke at parsed JSON and at the insides of sockets; types there would be casts.
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    files: ['**/*.mjs', 'eslint.config.js'],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'process',
          'console',
          'Buffer',
          'URL',
          'URLSearchParams',
          'setTimeout',
          'clearTimeout',
          'setInterval',
          'clearInterval',
          'performance',
          'fetch',
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
);
