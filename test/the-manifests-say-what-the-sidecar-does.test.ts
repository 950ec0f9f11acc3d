import { spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments, stringify } from 'yaml';
import { parseArguments } from '../src/config/arguments.js';
import { loadConfig } from '../src/config/load.js';
import type { Config } from '../src/config/config.js';
import { startApplication } from './support/application.js';
import { imageCommand } from './support/container-files.js';
import { schemaProblems, unknownFields } from './support/kubernetes-schemas.js';
import { render, type Fields, type Kustomization, type Resource } from './support/kustomize.js';
import { readProjectFile, ROOT } from './support/source-tree.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const LIVES = ['native-sidecar', 'classic'] as const;
const EXTRAS = [
  ...['cert-manager', 'prometheus', 'tencent-im', 'autoscaling'],
  ...['shared-ticket-keys', 'rotate-ticket-keys'],
] as const;
const SETTINGS = '/etc/mtls-sidecar';
const CERTIFICATES = '/run/mtls-sidecar';

/** The part of a container that is looked at here. */
interface Container {
  readonly name: string;
  readonly image: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly restartPolicy?: string;
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[];
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly lifecycle?: {
    readonly preStop: { readonly exec?: { command: string[] }; readonly sleep?: { seconds: number } };
  };
  readonly resources: { readonly requests: Fields; readonly limits: Fields };
  readonly securityContext: Fields;
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[];
  readonly env?: readonly { readonly name: string; readonly value: string }[];
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string };
  readonly timeoutSeconds?: number;
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly terminationGracePeriodSeconds: number;
  readonly securityContext?: Fields;
  readonly automountServiceAccountToken?: boolean;
  readonly volumes: readonly Fields[];
}

/** Every subset of the extras under each of the two lives. */
const COMBINATIONS = LIVES.flatMap((life) =>
  Array.from({ length: 2 ** EXTRAS.length }, (_, bits) => [life, ...EXTRAS.filter((_extra, at) => bits & (1 << at))]),
);

function combination(components: readonly string[]): Resource[] {
  const kustomization: Kustomization = {
    resources: ['base'],
    components: components.map((name) => `components/${name}`),
  };
  return render('k8s', kustomization);
}

const one = (resources: readonly Resource[], kind: string): Resource => {
  const [found, ...more] = resources.filter((resource) => resource.kind === kind);
  if (found === undefined || more.length > 0) throw new Error(`${more.length + 1} of ${kind}`);
  return found;
};

const podOf = (deployment: Resource): PodSpec =>
  (deployment['spec'] as unknown as { template: { spec: PodSpec } }).template.spec;

const all = ({ containers, initContainers = [] }: PodSpec): Container[] => [...initContainers, ...containers];

function sidecarOf(pod: PodSpec): Container {
  const found = all(pod).find(({ name }) => name === 'mtls-sidecar');
  if (found === undefined) throw new Error('no sidecar');
  return found;
}

const directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-manifests-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The settings that the container runs with: its ConfigMap, and the flags of its command line. */
function configOf(resources: readonly Resource[]): Config {
  const { data } = one(resources, 'ConfigMap') as unknown as { data: Record<string, string> };
  const file = join(directory, 'sidecar.yaml');
  writeFileSync(file, data['sidecar.yaml'] ?? '');
  const [command, ...args] = sidecarOf(podOf(one(resources, 'Deployment'))).args ?? [];
  expect(command).toBe('run');
  const { file: mounted, flags } = parseArguments(args);
  expect(mounted).toBe(`${SETTINGS}/sidecar.yaml`);
  return loadConfig({ env: {}, file, flags });
}

describe('every combination', () => {
  it('is as the JSON schemas of its kinds want it', () => {
    expect(COMBINATIONS).toHaveLength(128);
    const resources = [...COMBINATIONS.flatMap(combination), ...render('k8s'), ...render('k8s/existing')];
    expect(resources.flatMap(schemaProblems)).toEqual([]);
  });

  it('has no field that its kind does not have', () => {
    const fullest = [combination(['native-sidecar', ...EXTRAS]), combination(['classic', ...EXTRAS])];
    expect(unknownFields([...fullest.flat(), ...render('k8s/existing')])).toEqual([]);
  });

  it('is judged by schemas that find something', () => {
    const [deployment = {} as Resource] = combination(['classic']).filter(({ kind }) => kind === 'Deployment');
    expect(schemaProblems({ ...deployment, spec: { replicas: 'two' } })).toHaveLength(1);
    expect(unknownFields([{ ...deployment, specification: {} }])).toEqual([expect.stringContaining('specification')]);
  });

  it.each(COMBINATIONS.map((components) => [components.join(' + '), components] as const))(
    '%s has settings that the sidecar takes',
    (_, components) => {
      const config = configOf(combination(components));
      expect(config.clientCert.verify).toBe('required');
      expect(config.upstream.address).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 8080 });
    },
  );

  it('gives no two resources the same name', () => {
    const names = combination(['native-sidecar', ...EXTRAS]).map(({ kind, metadata }) => `${kind} ${metadata.name}`);
    expect(new Set(names).size).toBe(names.length);
  });
});

/** What kubectl itself makes of it: our reading of Kustomize is not to agree with itself alone. */
describe.runIf(spawnSync('kubectl', ['version', '--client']).status === 0)('kubectl', () => {
  const kubectl = (folder: string): Resource[] => {
    const { stdout, stderr } = spawnSync('kubectl', ['kustomize', folder], { encoding: 'utf8' });
    expect(stderr).toBe('');
    return parseAllDocuments(stdout).map((document) => document.toJS() as Resource);
  };
  /** Hashes aside; in lists of things with names their order means nothing. */
  const inOrder = (resources: readonly Resource[]): unknown => {
    const text = JSON.stringify(resources).replace(/"mtls-sidecar-[0-9a-z]{10}"/g, '"mtls-sidecar-HASH"');
    const nameOf = ({ kind, name, metadata }: Partial<Resource> & { name?: string }): string =>
      [kind, name, metadata?.name].join(' ');
    return JSON.parse(text, (_key, value: unknown) =>
      Array.isArray(value)
        ? (value as Partial<Resource>[]).sort((one, other) => nameOf(one).localeCompare(nameOf(other)))
        : value,
    );
  };

  it.each(['k8s', 'k8s/existing'])('renders %s as we do', (folder) => {
    expect(inOrder(kubectl(join(ROOT, folder)))).toEqual(inOrder(render(folder)));
  });

  it.each(LIVES)('renders %s with all components as we do', (life) => {
    const folder = mkdtempSync(join(directory, 'kustomization-'));
    const at = (name: string): string => relative(realpathSync(folder), join(ROOT, 'k8s', name));
    const components = [life, ...EXTRAS].map((name) => at(`components/${name}`));
    const kustomization = { resources: [at('base')], components };
    writeFileSync(join(folder, 'kustomization.yaml'), stringify(kustomization));
    expect(inOrder(kubectl(folder))).toEqual(inOrder(combination([life, ...EXTRAS])));
  });
});

describe.each([
  ...LIVES.map((life) => [life, () => combination([life])] as const),
  ['existing', () => render('k8s/existing')] as const,
])('the pod with the sidecar (%s)', (life, resourcesOf) => {
  const resources = resourcesOf();
  const pod = podOf(one(resources, 'Deployment'));
  const sidecar = sidecarOf(pod);
  const config = configOf(resources);
  const portOf = (name: string) => sidecar.ports?.find((port) => port.name === name)?.containerPort;

  it('opens the ports of its settings, and the Service leads to the TLS one', () => {
    expect([portOf('mtls'), portOf('mtls-admin')]).toEqual([config.listen.port, config.admin.port]);
    const { ports } = one(resources, 'Service')['spec'] as unknown as { ports: { targetPort: number }[] };
    expect(ports.map(({ targetPort }) => targetPort)).toEqual([config.listen.port]);
  });

  it('probes the admin listener, which listens where the kubelet asks', () => {
    const probes = [sidecar.startupProbe, sidecar.readinessProbe, sidecar.livenessProbe].filter(Boolean) as Probe[];
    expect(new Set(probes.map(({ httpGet }) => httpGet.port))).toEqual(new Set(['mtls-admin']));
    expect(config.admin.host).toBe('0.0.0.0');
    expect(sidecar.readinessProbe?.httpGet.path).toBe('/readyz');
    expect(sidecar.livenessProbe?.httpGet.path).toBe('/livez');
    // Readiness tries to connect to the application.
    expect((sidecar.readinessProbe?.timeoutSeconds ?? 1) * 1000).toBeGreaterThan(config.upstream.connectTimeout);
  });

  it('drains before it is stopped, through the command of the image', () => {
    const command = sidecar.lifecycle?.preStop.exec?.command ?? [];
    const { entrypoint } = imageCommand();
    // What the image gives Node besides is for the process that serves.
    expect(command).toEqual([entrypoint.at(0), entrypoint.at(-1), 'drain', '--config', `${SETTINGS}/sidecar.yaml`]);
  });

  it('finds every file in a folder that is mounted read-only and whole', () => {
    expect(JSON.stringify(resources)).not.toContain('subPath');
    expect(sidecar.volumeMounts.map(({ mountPath, readOnly }) => [mountPath, readOnly])).toEqual([
      [SETTINGS, true],
      [CERTIFICATES, true],
    ]);
    const paths = [...JSON.stringify(pod.volumes).matchAll(/"path":"([^"]+)"/g)].map(
      ([, path]) => `${CERTIFICATES}/${path}`,
    );
    expect(paths.sort()).toEqual([...config.clientCert.ca, config.tls.cert, config.tls.key].sort());
    const map = one(resources, 'ConfigMap').metadata.name;
    expect(map).toMatch(/^mtls-sidecar-[0-9a-f]{10}$/);
    expect(JSON.stringify(pod.volumes)).toContain(map);
  });

  it('has time to stop: the pod waits longer than application and sidecar take', () => {
    const app = pod.containers.find(({ name }) => name !== 'mtls-sidecar');
    const slept = app?.lifecycle?.preStop.sleep?.seconds ?? 0;
    const grace = config.shutdown.grace / 1000;
    if (life === 'classic') {
      // Both get SIGTERM at once: the application has to outlive the sidecar.
      expect(slept).toBeGreaterThan(grace);
      expect(config.shutdown.delay / 1000).toBeGreaterThanOrEqual(5);
      expect(config.shutdown.delay).toBeLessThan(config.shutdown.grace);
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(slept + 10);
    } else {
      // One after the other: the application's sleep and end, then the sidecar.
      expect(slept).toBeGreaterThanOrEqual(5);
      expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(slept + grace + 10);
    }
  });

  it('is pinned to a version, the sidecar to that of this checkout', () => {
    const { version } = JSON.parse(readProjectFile('package.json')) as { version: string };
    expect(sidecar.image).toBe(`mtls-sidecar:${version}`);
    for (const { image } of all(pod)) expect(image).toMatch(/(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$/);
  });

  it('runs under the restricted standard of Pod Security', () => {
    expect(sidecar.securityContext).toEqual({
      runAsNonRoot: true,
      runAsUser: 65532,
      runAsGroup: 65532,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(JSON.stringify(pod)).not.toMatch(/"(hostNetwork|hostPID|hostIPC|hostPath|hostPort|privileged)"/);
  });

  it('asks for what it needs, and takes no more memory than that', () => {
    expect(sidecar.resources.requests).toEqual({ cpu: expect.any(String), memory: expect.any(String) });
    expect(Object.keys(sidecar.resources.limits)).toEqual(['memory']);
    const most = Number.parseInt(sidecar.resources.limits['memory'] as string, 10);
    // 64 KiB for each connection that is let in, beside the process itself.
    expect(most).toBeGreaterThan(128 + (config.limits.connections * 64) / 1024);
  });
});

describe.each(LIVES)('shared ticket keys (%s)', (life) => {
  const filesOf = (components: readonly string[]): string[] => {
    const { volumes } = podOf(one(combination(components), 'Deployment'));
    return [...JSON.stringify(volumes).matchAll(/"path":"([^"]+)"/g)].map(([, path]) => `${CERTIFICATES}/${path}`);
  };
  const named = /ticketKeys: (\[.*\])/.exec(readProjectFile('k8s/README.md'))?.[1] ?? '';

  it('stand beside all other files, under the names that the README gives to the settings', () => {
    const file = join(directory, 'tickets.yaml');
    writeFileSync(file, `tls: {cert: a, key: b, sessions: {ticketKeys: ${named}}}\nclientCert: {ca: c}\n`);
    const { ticketKeys } = loadConfig({ env: {}, file }).tls.sessions;
    expect(ticketKeys).toHaveLength(3);
    expect(filesOf([life, 'shared-ticket-keys'])).toEqual([...filesOf([life]), ...ticketKeys]);
  });
});

describe('the job that rotates the ticket keys', () => {
  const resources = combination(['native-sidecar', 'shared-ticket-keys', 'rotate-ticket-keys']);
  const deployed = podOf(one(resources, 'Deployment'));
  const { jobTemplate, ...timing } = one(resources, 'CronJob')['spec'] as unknown as {
    jobTemplate: { spec: Fields & { template: { metadata: Resource['metadata']; spec: PodSpec } } };
  };
  const { template, ...job } = jobTemplate.spec;
  const [rotator] = template.spec.containers as [Container];
  const sidecar = sidecarOf(deployed);

  it('rotates the entries that the pods mount, in the order of the settings', () => {
    const sources = JSON.stringify(deployed.volumes);
    const [, name = '', items = ''] =
      /"secret":\{"name":"([\w-]*ticket[\w-]*)","items":(\[[^\]]*\])/.exec(sources) ?? [];
    const keys = (JSON.parse(items) as { key: string }[]).map(({ key }) => key);
    expect(rotator.args).toEqual(['rotate-ticket-keys', `--secret=${name}`, ...keys]);
    expect(rotator.image).toBe(sidecar.image);
  });

  it('may read and change this one Secret, which holds no private key, and nothing else', () => {
    const { rules } = one(resources, 'Role') as unknown as { rules: Fields[] };
    const resourceNames = ['mtls-sidecar-ticket-keys'];
    expect(rules).toEqual([{ apiGroups: [''], resources: ['secrets'], resourceNames, verbs: ['get', 'patch'] }]);
    const { roleRef, subjects } = one(resources, 'RoleBinding');
    const name = 'rotate-ticket-keys';
    expect(roleRef).toEqual({ apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name });
    expect(subjects).toEqual([{ kind: 'ServiceAccount', name }]);
    expect(template.spec).toMatchObject({ serviceAccountName: name, automountServiceAccountToken: true });
  });

  it('is the only one that is given a token', () => {
    expect(one(resources, 'ServiceAccount')['automountServiceAccountToken']).toBe(false);
    expect(JSON.stringify(resources).match(/"automountServiceAccountToken":true/g)).toHaveLength(1);
    expect(deployed).toMatchObject({ automountServiceAccountToken: false });
    expect(deployed).not.toHaveProperty('serviceAccountName');
  });

  it('runs as restricted as the sidecar, and nobody can connect to it', () => {
    expect(rotator.securityContext).toEqual(sidecar.securityContext);
    expect(template.spec.volumes).toBeUndefined();
    const { labels } = template.metadata;
    expect(labels).toEqual({ 'app.kubernetes.io/name': 'rotate-ticket-keys' });
    const policy = resources.find(({ kind, metadata }) => kind === 'NetworkPolicy' && metadata.name !== 'app');
    expect(policy?.['spec']).toEqual({ podSelector: { matchLabels: labels }, policyTypes: ['Ingress'] });
  });

  it('rotates once a day, later than any session lives, and never twice', () => {
    expect(timing).toMatchObject({ schedule: '17 3 * * *', concurrencyPolicy: 'Forbid' });
    expect(configOf(resources).tls.sessions.lifetime).toBeLessThan(24 * 3_600_000);
    expect([job['backoffLimit'], template.spec]).toEqual([0, expect.objectContaining({ restartPolicy: 'Never' })]);
  });
});

describe('the two lives', () => {
  const [native, classic] = LIVES.map((life) => podOf(one(combination([life]), 'Deployment'))) as [PodSpec, PodSpec];

  it('differ in nothing but order and clocks', () => {
    const { restartPolicy, startupProbe, args, ...sameOfNative } = sidecarOf(native);
    const { args: classicArgs = [], ...sameOfClassic } = sidecarOf(classic);
    expect(sameOfNative).toEqual(sameOfClassic);
    expect(classicArgs.slice(0, args?.length)).toEqual(args);
    expect([restartPolicy, startupProbe?.httpGet.path]).toEqual(['Always', '/livez']);
    expect(native.volumes).toEqual(classic.volumes);
  });

  it('native: an init container that starts before the application and does not wait for it', () => {
    expect(native.initContainers?.map(({ name }) => name)).toEqual(['mtls-sidecar']);
    expect(native.containers.map(({ name }) => name)).toEqual(['app']);
  });

  it('classic: one container of two', () => {
    expect(classic.initContainers).toBeUndefined();
    expect(classic.containers.map(({ name }) => name).sort()).toEqual(['app', 'mtls-sidecar']);
  });
});

describe('the autoscaler', () => {
  const resources = combination(['native-sidecar', 'autoscaling']);
  const deployment = one(resources, 'Deployment');
  const { scaleTargetRef, minReplicas, metrics } = one(resources, 'HorizontalPodAutoscaler')['spec'] as unknown as {
    scaleTargetRef: Fields;
    minReplicas: number;
    metrics: { type: string; containerResource: { container: string; target: Fields } }[];
  };

  it('scales the Deployment, which no longer says how many', () => {
    expect(scaleTargetRef).toEqual({ apiVersion: 'apps/v1', kind: 'Deployment', name: deployment.metadata.name });
    expect(Object.keys(deployment['spec'] as Fields)).not.toContain('replicas');
    const [without] = combination(['native-sidecar']).filter(({ kind }) => kind === 'Deployment');
    expect((without?.['spec'] as Fields)['replicas']).toBe(minReplicas);
  });

  it('goes by the CPU of each container that the pod has, and of no other', () => {
    const names = all(podOf(deployment)).map(({ name }) => name);
    expect(metrics.map(({ containerResource }) => containerResource.container).sort()).toEqual(names.sort());
    expect(new Set(metrics.map(({ type }) => type))).toEqual(new Set(['ContainerResource']));
  });

  it('wants less than the core that one process can use', () => {
    const [sidecar] = metrics.filter(({ containerResource }) => containerResource.container === 'mtls-sidecar');
    expect(sidecar?.containerResource.target).toEqual({ type: 'AverageValue', averageValue: '600m' });
  });
});

describe('the base', () => {
  const resources = combination(['native-sidecar']);
  const config = configOf(resources);
  const deployment = one(resources, 'Deployment');
  const pod = podOf(deployment);

  it('spreads its pods over hosts and zones, where it can', () => {
    const { topologySpreadConstraints } = pod as unknown as { topologySpreadConstraints: Fields[] };
    expect(topologySpreadConstraints.map(({ topologyKey }) => topologyKey)).toEqual([
      'kubernetes.io/hostname',
      'topology.kubernetes.io/zone',
    ]);
    const { selector } = deployment['spec'] as Fields;
    for (const { labelSelector, whenUnsatisfiable } of topologySpreadConstraints) {
      expect([labelSelector, whenUnsatisfiable]).toEqual([selector, 'ScheduleAnyway']);
    }
  });

  it('leaves two ports open: TLS to everybody, the admin listener to Prometheus', () => {
    const { ingress, policyTypes } = one(resources, 'NetworkPolicy')['spec'] as Fields;
    expect(policyTypes).toEqual(['Ingress']);
    expect(ingress).toEqual([
      { ports: [{ port: config.listen.port }] },
      {
        from: [{ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'monitoring' } } }],
        ports: [{ port: config.admin.port }],
      },
    ]);
  });

  it('selects its own pods everywhere', () => {
    const labels = { 'app.kubernetes.io/name': 'app' };
    const { selector, template } = deployment['spec'] as unknown as { selector: Fields; template: Resource };
    expect(template.metadata.labels).toEqual(labels);
    expect(selector).toEqual({ matchLabels: labels });
    expect((one(resources, 'Service')['spec'] as Fields)['selector']).toEqual(labels);
    expect((one(resources, 'PodDisruptionBudget')['spec'] as Fields)['selector']).toEqual({ matchLabels: labels });
    expect((one(resources, 'NetworkPolicy')['spec'] as Fields)['podSelector']).toEqual({ matchLabels: labels });
  });

  it('gives the pod no token, no root and the default seccomp profile', () => {
    expect(pod).toMatchObject({
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      securityContext: { runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    });
  });

  it('binds the application to loopback', () => {
    expect(pod.containers[0]?.command?.join(' ')).toMatch(/listen\(8080, '127\.0\.0\.1'\)/);
    expect(pod.containers[0]?.ports).toBeUndefined();
  });

  it('never goes below its replicas in a rollout', () => {
    expect(deployment['spec']).toMatchObject({
      replicas: 2,
      strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
    });
  });

  it('is what kubectl apply -k k8s brings, with the native sidecar', () => {
    expect(render('k8s')).toEqual(resources);
  });

  it('names each component that there is', () => {
    const file = readProjectFile('k8s/kustomization.yaml');
    for (const component of [...LIVES, ...EXTRAS]) expect(file).toContain(`components/${component}\n`);
  });
});

describe('the patch for an existing Deployment', () => {
  const resources = render('k8s/existing');
  const pod = podOf(one(resources, 'Deployment'));
  const web = pod.containers.find(({ name }) => name === 'web');

  it('leaves two ports open, as the base does', () => {
    const policy = one(resources, 'NetworkPolicy')['spec'] as Fields;
    const base = one(combination(['native-sidecar']), 'NetworkPolicy')['spec'] as Fields;
    const { selector } = one(resources, 'Deployment')['spec'] as Fields;
    expect(policy).toEqual({ ...base, podSelector: selector });
  });

  it('leaves the application as it is, but on loopback and with a moment before its end', () => {
    expect(pod.containers).toHaveLength(1);
    expect(web?.env).toEqual([
      { name: 'PORT', value: '8080' },
      { name: 'HOST', value: '127.0.0.1' },
    ]);
    expect(web?.command?.[0]).toBe('node');
  });

  it('closes the old way in', () => {
    const { ports } = one(resources, 'Service')['spec'] as Fields;
    expect(ports).toEqual([{ name: 'https', port: 443, targetPort: 8443 }]);
  });

  it('has the settings of the base', () => {
    expect(readProjectFile('k8s/existing/sidecar.yaml')).toBe(readProjectFile('k8s/base/sidecar.yaml'));
  });
});

describe('the component tencent-im', () => {
  const [plain, im] = [configOf(combination(['classic'])), configOf(combination(['classic', 'tencent-im']))];

  it('narrows the settings of the base, and keeps the rest', () => {
    const { clientCert, upstream, ...rest } = im;
    expect(clientCert).toEqual({ ...plain.clientCert, allow: [{ methods: ['POST'] }] });
    expect(upstream).toEqual({ ...plain.upstream, headTimeout: 2_000 });
    const { clientCert: _, upstream: __, ...same } = plain;
    expect(rest).toEqual(same);
  });
});

describe('the component cert-manager', () => {
  const resources = combination(['native-sidecar', 'cert-manager']);

  it('makes the Secret and the ConfigMap that the pod mounts', () => {
    const { secretName } = one(resources, 'Certificate')['spec'] as Fields;
    const volumes = JSON.stringify(podOf(one(resources, 'Deployment')).volumes);
    expect(volumes).toContain(`"secret":{"name":"${secretName as string}"`);
    const bundle = one(resources, 'Bundle');
    expect(volumes).toContain(`"configMap":{"name":"${bundle.metadata.name}"`);
    expect(bundle['spec']).toMatchObject({ target: { configMap: { key: 'ca.crt' } } });
  });
});

describe('what the manifests ask of a running sidecar', () => {
  let sidecar: Sidecar;
  let stop: () => Promise<void>;
  beforeAll(async () => {
    const application = await startApplication();
    sidecar = await startSidecar({ upstream: application.url });
    stop = async () => {
      await sidecar.stop();
      await application.stop();
    };
  });
  afterAll(() => stop());
  afterEach(() => expect(sidecar.app.phase).toBe('ready'));

  it('is there: the paths of the probes and of the metrics', async () => {
    const text = JSON.stringify(combination(['native-sidecar', ...EXTRAS]));
    const paths = new Set([...text.matchAll(/"path":"(\/[^"]+)"/g)].map(([, path = '']) => path));
    expect([...paths].sort()).toEqual(['/livez', '/metrics', '/readyz']);
    for (const path of paths) expect((await sidecar.admin(path)).status, path).toBe(200);
  });

  it('is there: every metric of the alerts, with its labels', async () => {
    const rules = JSON.stringify(one(combination(['native-sidecar', 'prometheus']), 'PrometheusRule'));
    const exposed = (await sidecar.admin('/metrics')).body;
    const names = new Set(rules.match(/mtls_sidecar_\w+/g));
    expect(names.size).toBeGreaterThan(5);
    for (const name of names) expect(exposed, name).toContain(`\n# TYPE ${name} `);
    expect(exposed).toMatch(/mtls_sidecar_handshakes_total\{result="refused",reason="/);
    expect(exposed).toMatch(/mtls_sidecar_request_refusals_total\{code="upstream_/);
    expect(exposed).toMatch(/mtls_sidecar_ca_expiry_seconds\{[^}]*subject="/);
  });

  it('scrapes the port that the pod names', () => {
    const { podMetricsEndpoints } = one(combination(['classic', 'prometheus']), 'PodMonitor')['spec'] as Fields;
    expect(podMetricsEndpoints).toEqual([{ port: 'mtls-admin', path: '/metrics', interval: '30s' }]);
  });
});
