#!/usr/bin/env bash
# The image, the compose file and the pod for real, where podman is: builds, starts, calls, rotates the certificate, stops,
# and looks at logs and exit codes. Says so and ends with 0 where there is no podman that can start a container.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

build_image=docker.io/library/node:24-bookworm-slim
run_image=gcr.io/distroless/nodejs24-debian12:nonroot
app_image=docker.io/library/node:24-slim
image=mtls-sidecar:$(node -p "require('./package.json').version")
scratch=$(mktemp -d)
tls_port=18443 admin_port=18081

say() { printf 'containers: %s\n' "$*"; }
skip() { say "$*; skipped"; exit 0; }
fail() { say "FAILED: $*"; exit 1; }
talk() { node test/containers/talk.mjs "$@"; }

# On machines without systemd podman complains about timers that it cannot make.
podman() { command podman "$@" 2> >(grep -v -e systemd -e 'to syslog' >&2); }

clean() {
  command podman pod rm -f mtls-sidecar-test >/dev/null 2>&1 || true
  for container in alone app beside net; do
    command podman rm -f -t 0 "mtls-sidecar-$container" >/dev/null 2>&1 || true
  done
  (cd "$scratch/compose" 2>/dev/null && podman-compose -p mtlstest down >/dev/null 2>&1) || true
  rm -rf "$scratch"
}
trap clean EXIT

can_start() {
  podman run --rm --network none --entrypoint '["node","--version"]' -e PATH=/nodejs/bin:/usr/bin "$run_image" >/dev/null
}

# Podman always asks for limits of open files and processes, and some sandboxes let nobody set any. Without systemd there
# are no control groups of its making either. Neither is what is tested here.
ask_for_less() {
  local runtime
  runtime=$(podman info --format '{{.Host.OCIRuntime.Path}}')
  cat >"$scratch/oci-runtime" <<END
#!/bin/sh
node -e '
  const fs = require("fs");
  const [, bundle] = /(?:^| )(?:--bundle|-b)[ =](\\S+)/.exec(process.argv.slice(1).join(" ")) ?? [];
  if (bundle === undefined) process.exit();
  const config = JSON.parse(fs.readFileSync(bundle + "/config.json"));
  delete config.process.rlimits;
  fs.writeFileSync(bundle + "/config.json", JSON.stringify(config));
' "\$@"
exec "$runtime" "\$@"
END
  chmod +x "$scratch/oci-runtime"
  printf '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "%s"\n' "$scratch/oci-runtime" >"$scratch/containers.conf"
  export CONTAINERS_CONF=$scratch/containers.conf
}

type -P podman >/dev/null || skip 'no podman here'
for base in "$build_image" "$run_image" "$app_image"; do
  podman image exists "$base" || timeout 300 podman pull -q "$base" >/dev/null || skip "no base image $base"
done
if ! can_start 2>"$scratch/start.log"; then
  ask_for_less
  can_start || { cat "$scratch/start.log"; skip 'podman cannot start a container here'; }
  say 'podman may set no limits here; going on without'
fi

# $1 container, $2 what has to be in its log; ends it, with exit code 0
stop_cleanly() {
  podman stop -t 40 "$1" >/dev/null
  [ "$(podman inspect "$1" --format '{{.State.ExitCode}}')" = 0 ] || fail "$1 did not end with 0"
  podman logs "$1" >"$scratch/log" 2>&1
  grep -q "$2" "$scratch/log" || fail "no $2 in the log of $1"
  # Every line of the sidecar is one JSON object.
  node -e 'require("fs").readFileSync(process.argv[1],"utf8").trim().split("\n").forEach((l) => JSON.parse(l))' "$scratch/log"
}

say 'build'
# The format of OCI has no HEALTHCHECK.
podman build --quiet --format docker --pull=never --network host -t "$image" . >/dev/null
base_size=$(podman image inspect "$run_image" --format '{{.Size}}')
layers=$(($(podman image inspect "$image" --format '{{.Size}}') - base_size))
say "layers of our own: $((layers / 1024)) KiB"
[ "$layers" -lt $((15 * 1024 * 1024)) ] || fail 'more than 15 MiB'

[ "$(podman image inspect "$image" --format '{{index .Labels "org.opencontainers.image.version"}}')" = "${image#*:}" ] ||
  fail 'no version in the labels'
podman run --rm --network none --entrypoint '["node","-p","require(`/app/sbom.cdx.json`).bomFormat"]' "$image" |
  grep -qx CycloneDX || fail 'no list of parts'
# The C library only complains about an allocator that it cannot load.
podman run --rm --network none --entrypoint '["node","-p","require(`fs`).readFileSync(`/proc/self/maps`,`utf8`).includes(`libjemalloc`)"]' "$image" |
  grep -qx true || fail 'the allocator was not loaded'
# Nor of an option that it does not know.
podman run --rm --network none --entrypoint '["node","-p","const fs = require(`fs`); fs.readdirSync(`/proc/self/task`).some((id) => fs.readFileSync(`/proc/self/task/${id}/comm`, `utf8`).startsWith(`jemalloc_bg`))"]' "$image" |
  grep -qx true || fail 'the allocator has no thread of its own'
podman run --rm --network none --entrypoint '["node","-p","require(`/app/sbom.cdx.json`).components.some(({ purl }) => /^pkg:deb.debian.libjemalloc2@.+distro=debian/.test(purl))"]' "$image" |
  grep -qx true || fail 'the allocator is not among the parts'

say 'ticket keys: made, then rotated, by any user and in a read-only image'
mkdir -m 777 "$scratch/keys"
for done in made rotated; do
  podman run --rm --network none --cap-drop=ALL --read-only --read-only-tmpfs=false --user 12345:54321 \
    -v "$scratch/keys:/keys" "$image" rotate-ticket-keys /keys/current.key /keys/next.key /keys/previous.key |
    grep -q "^$done " || fail "ticket keys were not $done"
done

say 'alone: no capabilities, read-only, any user'
talk certificates "$scratch/certs"
podman run -d --name mtls-sidecar-alone --network none --cap-drop=ALL --read-only --read-only-tmpfs=false \
  --security-opt no-new-privileges --user 12345:54321 -v "$scratch/certs:/certs:ro" \
  -e MTLS_SIDECAR_TLS_CERT=/certs/server.crt -e MTLS_SIDECAR_TLS_KEY=/certs/server.key \
  -e MTLS_SIDECAR_CLIENT_CERT_CA=/certs/ca.crt "$image" >/dev/null
# The probe from a container of the same network: some sandboxes let nobody enter a running one.
probe() { podman run --rm --network container:mtls-sidecar-alone --env-file "$scratch/env" "$image" probe "$@"; }
printf '%s\n' MTLS_SIDECAR_TLS_CERT=x MTLS_SIDECAR_TLS_KEY=x MTLS_SIDECAR_CLIENT_CERT_CA=x >"$scratch/env"
for _ in 1 2 3 4 5 6 7 8 9 10; do probe --live >/dev/null 2>&1 && break || sleep 0.5; done
[ "$(probe --live)" = alive ] || fail 'not alive'
probe --ready >/dev/null 2>&1 && fail 'ready without an application'
stop_cleanly mtls-sidecar-alone '"msg":"stopped"'

# As compose.sidecar.yaml has it (network_mode: service:net), without a compose that may not know `!reset`.
say 'beside: application and sidecar in the network of a third'
app="require('http').createServer((q, a) => a.end('hello ' + q.headers['x-ssl-client-cn'] + '\\n')).listen(8080, '127.0.0.1');
  process.on('SIGTERM', () => process.exit())"
entrypoint=$(node -p "JSON.stringify(require('yaml').parse(process.argv[1]).services.net.entrypoint)" \
  "$(sed 's/!reset//' compose.sidecar.yaml)")
podman run -d --name mtls-sidecar-net -p "$tls_port:8443" --cap-drop=ALL --read-only --read-only-tmpfs=false \
  --security-opt no-new-privileges --entrypoint "$entrypoint" "$image" >/dev/null
podman run -d --name mtls-sidecar-beside --network container:mtls-sidecar-net --cap-drop=ALL --read-only \
  --read-only-tmpfs=false --security-opt no-new-privileges --user 12345:54321 -v "$scratch/certs:/certs:ro" \
  -e MTLS_SIDECAR_TLS_CERT=/certs/server.crt -e MTLS_SIDECAR_TLS_KEY=/certs/server.key \
  -e MTLS_SIDECAR_CLIENT_CERT_CA=/certs/ca.crt -e MTLS_SIDECAR_UPSTREAM_URL=http://127.0.0.1:8080 "$image" >/dev/null
podman run -d --name mtls-sidecar-app --network container:mtls-sidecar-net "$app_image" node -e "$app" >/dev/null
talk callback "$tls_port" "$scratch/certs"
for container in app beside; do
  say "beside: $container restarts, and finds its network again"
  podman restart -t 5 "mtls-sidecar-$container" >/dev/null
  talk callback "$tls_port" "$scratch/certs"
done
podman rm -f -t 5 mtls-sidecar-app >/dev/null
stop_cleanly mtls-sidecar-beside '"status":200'
podman stop -t 5 mtls-sidecar-net >/dev/null
[ "$(podman inspect mtls-sidecar-net --format '{{.State.ExitCode}}')" = 0 ] || fail 'net did not end with 0'
podman rm mtls-sidecar-net mtls-sidecar-beside >/dev/null 2>&1 || true

say 'compose'
if type -P podman-compose >/dev/null; then
  mkdir "$scratch/compose"
  cp compose.yaml "$scratch/compose"
  talk certificates "$scratch/compose/certs"
  # As compose.yaml says: the sidecar runs as whoever starts it, with a key that is nobody else's.
  chmod 600 "$scratch/compose/certs/server.key"
  export SIDECAR_PORT=$tls_port SIDECAR_USER=0
  (cd "$scratch/compose" && podman-compose -p mtlstest up -d --no-build) >"$scratch/compose.log" 2>&1 ||
    { cat "$scratch/compose.log"; fail 'podman-compose up'; }
  talk callback "$tls_port" "$scratch/compose/certs"
  say 'compose: another certificate and CA'
  talk certificates "$scratch/compose/certs"
  talk taken-over "$tls_port" "$scratch/compose/certs"
  talk callback "$tls_port" "$scratch/compose/certs"
  stop_cleanly mtlstest_sidecar_1 '"status":200'
  (cd "$scratch/compose" && podman-compose -p mtlstest down) >/dev/null 2>&1
else
  say 'no podman-compose here; skipped'
fi

say 'pod'
mkdir -p "$scratch/settings" node_modules/.cache
bundled=node_modules/.cache/mtls-sidecar-pod.mjs
node_modules/.bin/rolldown --platform node --external typescript --external yaml --file "$bundled" test/containers/pod.ts >/dev/null
node "$bundled" "$scratch/settings" "$scratch/certs" "$tls_port" "$admin_port" >"$scratch/pod.yaml"
chmod 755 "$scratch" && chmod -R a+rX "$scratch/settings" "$scratch/certs"
podman play kube "$scratch/pod.yaml" >"$scratch/pod.log" 2>&1 || { cat "$scratch/pod.log"; fail 'podman play kube'; }
talk callback "$tls_port" "$scratch/certs"
[ "$(talk admin "$admin_port" GET /livez)" = 200 ] || fail '/livez'
[ "$(talk admin "$admin_port" GET /readyz)" = 200 ] || fail '/readyz'
say 'pod: POST from outside of it is refused'
for path in /reload /drain; do
  [ "$(talk admin "$admin_port" POST "$path")" = 403 ] || fail "$path from outside"
done
say 'pod: another certificate and CA'
talk certificates "$scratch/certs"
podman kill -s HUP mtls-sidecar-test-mtls-sidecar >/dev/null
talk taken-over "$tls_port" "$scratch/certs"
talk callback "$tls_port" "$scratch/certs"
[ "$(podman run --rm --pod mtls-sidecar-test --env-file "$scratch/env" "$image" drain)" = draining ] ||
  fail 'drain'
[ "$(talk admin "$admin_port" GET /readyz)" = 503 ] || fail '/readyz while draining'
talk callback "$tls_port" "$scratch/certs"
stop_cleanly mtls-sidecar-test-mtls-sidecar '"msg":"draining'
podman pod rm -f mtls-sidecar-test >/dev/null

say 'all passed'
