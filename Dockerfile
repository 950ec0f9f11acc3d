# The sidecar as an image: Node, one folder, no shell needed, no package manager, not root.
#
#   docker build -t mtls-sidecar:0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
#
# Both base images are arguments: RUN_IMAGE=docker.io/library/node:24-bookworm-slim has a shell, for debugging. Pin
# them by digest, and the allocator to a version, where builds have to be repeatable. Both must be of the same Debian, for its allocator goes from one to the other.
ARG BUILD_IMAGE=docker.io/library/node:24-bookworm-slim
ARG RUN_IMAGE=gcr.io/distroless/nodejs24-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
# The allocator; see below.
RUN apt-get update \
 && apt-get install -y --no-install-recommends libjemalloc2 \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p /app/lib \
 && cp /usr/lib/*/libjemalloc.so.2 /app/lib/ \
 && cp /usr/share/doc/libjemalloc2/copyright /app/lib/libjemalloc2.copyright
COPY package.json package-lock.json .npmrc ./
# No install scripts: none of the packages needs one, and one that is taken over would begin there.
RUN npm ci --ignore-scripts
COPY tsconfig.json LICENSE ./
COPY scripts scripts
COPY src src
RUN npm run build \
 && node scripts/bundle.mjs /app \
 && npm sbom --package-lock-only --omit=dev --sbom-format=cyclonedx > /app/sbom.cdx.json \
 && node scripts/add-to-sbom.mjs /app/sbom.cdx.json libjemalloc2 "$(dpkg-query -W -f '${Version}' libjemalloc2)" BSD-2-Clause \
      "$(. /etc/os-release && echo "arch=$(dpkg --print-architecture)&distro=$ID-$VERSION_ID")" \
 && cp LICENSE /app/ \
 && mkdir -p /settings/etc/mtls-sidecar \
 && echo '# Nothing is set here. Mount a folder with your sidecar.yaml over this one.' > /settings/etc/mtls-sidecar/sidecar.yaml \
 && chmod -R a+rX /app /settings

FROM ${RUN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mtls-sidecar" \
      org.opencontainers.image.description="Mutual TLS in front of one application" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Node is at another place in each base image.
ENV PATH=/nodejs/bin:/usr/local/bin:/usr/bin:/bin \
    NODE_ENV=production
# Of what thousands of connections take, the C library's allocator gives hardly anything back: small pieces that live on keep whole regions.
# jemalloc does after a second, keeps less per connection, and makes a handshake cheaper. One arena, since one thread does nearly all; and a thread
# of its own that gives back, for the others look at that only while they allocate, and a process at rest would keep what a busy time left.
ENV LD_PRELOAD=/app/lib/libjemalloc.so.2 MALLOC_CONF=narenas:1,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0
COPY --from=build /settings/ /
COPY --from=build /app /app
WORKDIR /app
# By number: kubelets check runAsNonRoot without a look into the image. Any other user will do.
USER 65532:65532
EXPOSE 8443
STOPSIGNAL SIGTERM
# Alive, not ready: some engines replace an unhealthy container, and a new sidecar does not mend an application.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 \
  CMD ["node", "/app/dist/main.js", "probe", "--live", "--config", "/etc/mtls-sidecar/sidecar.yaml"]
# V8 collects garbage on the thread that answers, and compiles on one other. Its helpers, four each by default, are for processors that nobody else
# uses. A sidecar has one, or a share of one, and callers waited while five threads shared it. New objects get 16 MiB: by itself
# V8 gives them one where 512 are allowed, and collects so often that a request costs half as much again, or 32 and more where nothing is limited;
# and after a rest it leaves them one, wherever it is.
ENTRYPOINT ["node", "--single-threaded-gc", "--v8-pool-size=1", "--min-semi-space-size=16", "--max-semi-space-size=16", "/app/dist/main.js"]
CMD ["run", "--config", "/etc/mtls-sidecar/sidecar.yaml"]
