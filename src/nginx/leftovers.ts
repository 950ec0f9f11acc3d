import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import type { ImportOptions } from './work.js';

type Say = (directive: Directive, ledger: Ledger) => void;

const notNeeded =
  (text: string): Say =>
  (directive, ledger) =>
    ledger.notNeeded(directive, text);
const lost =
  (text: string): Say =>
  (directive, ledger) =>
    ledger.lost(directive, text);
const guardLost =
  (text: string): Say =>
  (directive, ledger) =>
    ledger.guardLost(directive, text);
/** For a guard that can be switched off: then nothing is lost. */
const guardUnlessOff =
  (text: string): Say =>
  (directive, ledger) => {
    if (directive.args[0] === 'off') ledger.notNeeded(directive, 'off here as well');
    else ledger.guardLost(directive, text);
  };
const lostUnlessOff =
  (text: string): Say =>
  (directive, ledger) => {
    if (directive.args[0] === 'off') ledger.notNeeded(directive, 'off here as well');
    else ledger.lost(directive, text);
  };

const BY_APPLICATION = 'let the application do it';
const MEMORY = 'Node manages memory and sockets itself';
const STREAMS = 'bodies are streamed, never stored';
const NO_FILES = 'types come from the names of files';
const RATE = 'nothing limits the rate of a caller: limit it in the application or before the sidecar';
const OCSP = 'callers are not looked up by OCSP: use revocation lists (ssl_crl)';
const STAPLE = 'no OCSP answer is stapled; callers that insist on one must not';
const PASSWORDS = 'passwords are not asked for: let the application ask';

/** What is said about directives that no other part has dealt with. Names that are not here are not known. */
const GROUPS: readonly (readonly [say: Say, names: string])[] = [
  [notNeeded('the process keeps the user it is started as'), 'user'],
  [notNeeded('it runs in the foreground and has no master process'), 'daemon master_process pid lock_file'],
  [notNeeded('limits.connections bounds them'), 'worker_connections worker_rlimit_nofile'],
  [notNeeded('shutdown.grace bounds it'), 'worker_shutdown_timeout'],
  [notNeeded('Node does it'), 'use multi_accept accept_mutex accept_mutex_delay worker_cpu_affinity worker_priority'],
  [
    notNeeded('Node does it'),
    'worker_rlimit_core working_directory thread_pool timer_resolution pcre_jit debug_points',
  ],
  [notNeeded('what a module adds is reported where it is used'), 'load_module'],
  [notNeeded('the environment is there as it is'), 'env'],
  [notNeeded(MEMORY), 'sendfile sendfile_max_chunk tcp_nopush tcp_nodelay aio aio_write directio output_buffers'],
  [notNeeded(MEMORY), 'postpone_output connection_pool_size request_pool_size client_header_buffer_size'],
  [notNeeded(MEMORY), 'types_hash_max_size types_hash_bucket_size variables_hash_max_size read_ahead'],
  [notNeeded(MEMORY), 'variables_hash_bucket_size server_names_hash_max_size server_names_hash_bucket_size'],
  [notNeeded(MEMORY), 'map_hash_max_size map_hash_bucket_size proxy_headers_hash_max_size'],
  [notNeeded(MEMORY), 'proxy_headers_hash_bucket_size ssl_buffer_size http2_chunk_size http2_recv_buffer_size'],
  [notNeeded(MEMORY), 'open_file_cache open_file_cache_valid open_file_cache_min_uses open_file_cache_errors'],
  [notNeeded(MEMORY), 'open_log_file_cache'],
  [notNeeded(STREAMS), 'client_body_buffer_size client_body_temp_path client_body_in_file_only'],
  [notNeeded(STREAMS), 'client_body_in_single_buffer proxy_buffering proxy_buffer_size proxy_buffers'],
  [notNeeded(STREAMS), 'proxy_busy_buffers_size proxy_max_temp_file_size proxy_temp_path'],
  [notNeeded(STREAMS), 'proxy_temp_file_write_size proxy_request_buffering'],
  [notNeeded(MEMORY), 'directio_alignment subrequest_output_buffer_size worker_aio_requests gunzip_buffers'],
  [notNeeded(MEMORY), 'referer_hash_max_size referer_hash_bucket_size proxy_send_lowat max_headers'],
  [notNeeded('log.level: debug says it'), 'debug_connection'],
  [notNeeded('each connection ends with a short lingering read'), 'lingering_close lingering_time lingering_timeout'],
  [notNeeded('a dead connection is closed at once'), 'reset_timedout_connection'],
  [notNeeded('HTTP/1.1 with kept connections is what the application is spoken to in'), 'proxy_http_version'],
  [notNeeded('the application hears at once when its caller is gone'), 'proxy_ignore_client_abort'],
  [notNeeded('names are looked up by the system'), 'resolver resolver_timeout'],
  [notNeeded('the application is spoken to without TLS'), 'proxy_ssl_server_name proxy_ssl_name proxy_ssl_verify'],
  [notNeeded('the version of nothing is told'), 'server_tokens'],
  [notNeeded(NO_FILES), 'types default_type'],
  [notNeeded('all of what is sent is checked, and framed anew'), 'merge_slashes chunked_transfer_encoding'],
  [notNeeded('it is there in files that are served'), 'etag if_modified_since max_ranges disable_symlinks'],
  [notNeeded('redirects are relative'), 'absolute_redirect port_in_redirect server_name_in_redirect'],
  [notNeeded('there are no pages of nginx'), 'msie_padding msie_refresh recursive_error_pages'],
  [notNeeded('access records say it'), 'log_not_found log_subrequest rewrite_log uninitialized_variable_warn'],
  [notNeeded('what is carried uses it, or nothing does'), 'map geo split_clients set log_format limit_req_zone'],
  [
    notNeeded('what is carried uses it, or nothing does'),
    'limit_conn_zone proxy_cache_path upstream auth_basic_user_file',
  ],
  [notNeeded('headers that are not mentioned go on unchanged'), 'proxy_pass_header'],
  [lost('a body goes on with its request'), 'proxy_pass_request_body'],
  [
    notNeeded('it applies to rate limits, which are reported'),
    'limit_req_status limit_req_log_level limit_req_dry_run',
  ],
  [
    notNeeded('it applies to rate limits, which are reported'),
    'limit_conn_status limit_conn_log_level limit_conn_dry_run',
  ],
  [notNeeded('it applies to OCSP, which is reported'), 'ssl_ocsp_cache ssl_ocsp_responder ssl_stapling_file'],
  [notNeeded('it applies to OCSP, which is reported'), 'ssl_stapling_responder ssl_stapling_verify'],
  [notNeeded('0-RTT data could be replayed, and is never taken'), 'ssl_early_data'],
  [notNeeded('key exchange is by elliptic curves alone'), 'ssl_dhparam'],
  [notNeeded('the sidecar answers in the same way to both'), 'keepalive_disable'],
  [lostUnlessOff('answers go on as the application compressed them'), 'gzip gzip_static gunzip brotli brotli_static'],
  [notNeeded('answers go on as the application compressed them'), 'gzip_vary gzip_proxied gzip_comp_level gzip_types'],
  [notNeeded('answers go on as the application compressed them'), 'gzip_buffers gzip_http_version gzip_min_length'],
  [notNeeded('answers go on as the application compressed them'), 'gzip_disable brotli_types brotli_comp_level'],
  [lost(BY_APPLICATION), 'add_header add_trailer expires charset charset_types override_charset source_charset'],
  [lost(BY_APPLICATION), 'proxy_hide_header proxy_ignore_headers proxy_cookie_path proxy_cookie_domain'],
  [lost(BY_APPLICATION), 'proxy_cookie_flags sub_filter sub_filter_once sub_filter_types addition_types'],
  [lost('Location headers go on as the application wrote them, and it sees the public Host'), 'proxy_redirect'],
  [lost('answers are not cached'), 'proxy_cache proxy_cache_valid proxy_cache_key proxy_cache_bypass proxy_no_cache'],
  [lost('answers are not cached'), 'proxy_cache_use_stale proxy_cache_lock proxy_cache_methods proxy_store'],
  [lost('answers are not cached'), 'proxy_cache_revalidate proxy_cache_background_update proxy_cache_min_uses'],
  [lost('nothing is sent twice but what one kept connection lost unanswered'), 'proxy_next_upstream'],
  [lost('nothing is sent twice but what one kept connection lost unanswered'), 'proxy_next_upstream_tries'],
  [lost('nothing is sent twice but what one kept connection lost unanswered'), 'proxy_next_upstream_timeout'],
  [lost("the application's answers go on as they are"), 'proxy_intercept_errors proxy_socket_keepalive proxy_bind'],
  [lost('a slow reader is not ended by a deadline'), 'send_timeout proxy_send_timeout send_lowat'],
  [lost('pages of refusals are the sidecar’s own, with nginx’s titles'), 'error_page'],
  [lostUnlessOff(STAPLE), 'ssl_stapling'],
  [lost('a directory without an index file gets 403'), 'autoindex autoindex_exact_size autoindex_format'],
  [lost('a directory without an index file gets 403'), 'autoindex_localtime random_index'],
  [lost('the speed of answers is not limited'), 'limit_rate limit_rate_after'],
  [lost('set it where it is read'), 'ignore_invalid_headers'],
  [lost('another protocol: keep nginx for it, or use another proxy'), 'stream mail'],
  [lost('it is not served'), 'stub_status mirror mirror_request_body empty_gif flv mp4 slice post_action'],
  [lost(BY_APPLICATION), 'add_before_body add_after_body charset_map userid userid_service userid_name userid_domain'],
  [lost(BY_APPLICATION), 'userid_path userid_expires userid_p3p userid_mark userid_flags proxy_force_ranges'],
  [lost('answers are not stored'), 'proxy_store_access'],
  [lost('the speed of answers is not limited'), 'proxy_limit_rate'],
  [notNeeded('it applies to passwords, which are reported'), 'auth_delay auth_request_set'],
  [guardLost('requests go on as they came'), 'proxy_method proxy_set_body'],
  [guardUnlessOff(OCSP), 'ssl_ocsp'],
  [guardUnlessOff(PASSWORDS), 'auth_basic'],
  [guardUnlessOff('no other service is asked: let the application ask'), 'auth_request auth_jwt'],
  [guardUnlessOff('strangers are refused by their certificates, or listen.serverNames'), 'ssl_reject_handshake'],
  [guardUnlessOff('requests are not filtered by content'), 'modsecurity naxsi'],
  [guardLost('requests are not filtered by content'), 'modsecurity_rules modsecurity_rules_file'],
  [guardLost(RATE), 'limit_req limit_conn'],
  [guardLost('paths are never changed: let the application do it'), 'rewrite'],
  [guardLost('fixed answers are not given: the request would go on'), 'return'],
  [guardLost('what was private here would be public'), 'internal secure_link secure_link_md5 valid_referers'],
  [guardLost('OpenSSL commands are not passed on: look for a setting of tls'), 'ssl_conf_command'],
  [guardLost("the caller's headers all go on"), 'proxy_pass_request_headers'],
  [guardLost('no grpc_pass is there for it: take it away'), 'grpc_set_header'],
  [guardLost('write it with one of proxy_pass and root in location /'), 'location alias'],
];

const SAYINGS: ReadonlyMap<string, Say> = new Map(
  GROUPS.flatMap(([say, names]) => names.split(' ').map((name) => [name, say] as const)),
);

/** Whole modules, whose switch or `_pass` is reported by itself. */
const FAMILIES: readonly (readonly [start: string, say: Say])[] = [
  ['proxy_ssl_', notNeeded('the application is spoken to without TLS')],
  ['proxy_cache_', lost('answers are not cached')],
  ['grpc_', lost('the settings of upstream hold for gRPC as well')],
  ...['fastcgi_', 'uwsgi_', 'scgi_', 'memcached_'].map((start) => [start, lost('HTTP alone is spoken')] as const),
  ...['quic_', 'http3'].map((start) => [start, lost('HTTP/3 is not offered')] as const),
  ['http2_', notNeeded(MEMORY)],
  ...['gzip_', 'brotli_'].map((start) => [start, notNeeded('answers go on as they are')] as const),
  ['sub_filter', lost(BY_APPLICATION)],
  ['ssi', lostUnlessOff(BY_APPLICATION)],
  ['dav_', guardUnlessOff('files are never written')],
];

/** Blocks whose lines are values, or are no directives that this program could know. */
const VALUE_BLOCKS = new Set(['types', 'upstream', 'map', 'geo', 'split_clients', 'charset_map', 'stream', 'mail']);

/** Gives a verdict on everything that has none yet. */
export function settle(tree: readonly Directive[], ledger: Ledger, options: ImportOptions): void {
  for (const directive of tree) {
    if (!ledger.has(directive)) sayAbout(directive, ledger, options);
    if (!VALUE_BLOCKS.has(directive.name)) settle(directive.block ?? [], ledger, options);
  }
}

const SPECIAL: Readonly<Record<string, (directive: Directive, ledger: Ledger, options: ImportOptions) => void>> = {
  include: (directive, ledger) => ledger.carried(directive),
  events: (directive, ledger) => ledger.notNeeded(directive, 'Node does it'),
  satisfy: ruleOfSatisfy,
  error_page: errorPage,
  worker_processes: workers,
  proxy_redirect: (directive, ledger) => {
    if (directive.args[0] === 'off') ledger.carried(directive);
    else sayingOf(directive)?.(directive, ledger);
  },
};

function sayAbout(directive: Directive, ledger: Ledger, options: ImportOptions): void {
  const special = SPECIAL[directive.name];
  if (special !== undefined && Object.hasOwn(SPECIAL, directive.name)) return special(directive, ledger, options);
  const say = sayingOf(directive);
  if (say !== undefined) return say(directive, ledger);
  // It may be what kept somebody out.
  ledger.guardLost(directive, 'not known here: if it keeps nobody out, take it away');
}

function sayingOf({ name }: Directive): Say | undefined {
  return SAYINGS.get(name) ?? FAMILIES.find(([start]) => name.startsWith(start))?.[1];
}

function ruleOfSatisfy(directive: Directive, ledger: Ledger): void {
  if (directive.args[0] === 'any') ledger.guardLost(directive, 'every rule counts here, not any one of them');
  else ledger.notNeeded(directive, 'every rule counts always');
}

/** The page for plain HTTP on the TLS port, sent on to https, is what `listen.plainHttp` is for. */
function errorPage(directive: Directive, ledger: Ledger): void {
  const target = directive.args.at(-1) ?? '';
  const isRedirect =
    /^https:\/\/\$(?:host|http_host|server_name)(?::\d+|:\$server_port)?(?:\$request_uri|\$uri\$is_args\$args)?$/.test(
      target,
    );
  const codes = directive.args.filter((word) => /^\d{3}$/.test(word));
  if (codes.includes('497') && isRedirect) {
    ledger.set('listen.plainHttp', 'redirect', directive);
    const status = /^=(\d{3})$/.exec(directive.args.at(-2) ?? '')?.[1] ?? '302';
    if (codes.length === 1 && status === '301') return ledger.carried(directive);
    return ledger.changed(directive, `${codes.length === 1 ? '' : 'for 497 alone, '}with 301 in place of ${status}`);
  }
  if (codes.includes('497'))
    ledger.lost(directive, `${OWN_PAGE} plain HTTP (497); listen.plainHttp: redirect sends it on`);
  else if (codes.some((code) => code === '495' || code === '496'))
    ledger.lost(directive, `${OWN_PAGE} callers without a good certificate: they reach no location`);
  else sayingOf(directive)?.(directive, ledger);
}

const OWN_PAGE = "400 with nginx's title, in a page of the sidecar, is the answer to";

function workers(directive: Directive, ledger: Ledger): void {
  const [count = ''] = directive.args;
  const isNumber = /^\d+$/.test(count);
  ledger.set('workers', isNumber ? Math.max(1, Number(count)) : 'auto', directive);
  if (count === '1') ledger.carried(directive);
  else ledger.changed(directive, 'each is a process of some 80 MB');
}
