/**
 * The pod of k8s/ for `podman play kube`, as YAML on standard output: with folders of this machine in place of Secret and
 * ConfigMaps, and with its two ports published on loopback. The component `classic`, for podman knows no native sidecars.
 *
 *   pod.ts SETTINGS-FOLDER CERTIFICATES-FOLDER TLS-PORT ADMIN-PORT
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { render, type Fields, type Resource } from '../support/kustomize.js';

const [settings = '', certificates = '', tlsPort = '', adminPort = ''] = process.argv.slice(2);
const PUBLISHED: Readonly<Record<string, string>> = { mtls: tlsPort, 'mtls-admin': adminPort };

interface Container extends Fields {
  readonly name: string;
  readonly ports?: readonly (Fields & { name: string })[];
}

const resources = render('k8s', { resources: ['base'], components: ['components/classic'] });
const find = (kind: string): Resource => {
  const found = resources.find((resource) => resource.kind === kind);
  if (found === undefined) throw new Error(`no ${kind}`);
  return found;
};

function published(container: Container): Fields {
  const ports = container.ports?.map((port) => ({
    ...port,
    hostIP: '127.0.0.1',
    hostPort: Number(PUBLISHED[port.name]),
  }));
  // Podman has no lifecycle hooks.
  const { lifecycle: _, ...rest } = container;
  return ports === undefined ? rest : { ...rest, ports };
}

const hostFolder = (name: string, path: string): Fields => ({ name, hostPath: { path, type: 'Directory' } });

const { data } = find('ConfigMap') as unknown as { data: Record<string, string> };
for (const [file, text] of Object.entries(data)) writeFileSync(join(settings, file), text);

const { template } = find('Deployment')['spec'] as unknown as { template: { spec: Fields } };
const { containers, topologySpreadConstraints: _, ...spec } = template.spec;
const pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'mtls-sidecar-test' },
  spec: {
    ...spec,
    containers: (containers as unknown as Container[]).map(published),
    volumes: [hostFolder('mtls-sidecar-settings', settings), hostFolder('mtls-sidecar-certificates', certificates)],
  },
};
process.stdout.write(stringify(pod));
