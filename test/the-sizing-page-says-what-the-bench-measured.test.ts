import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { committedResults, parts } from '../bench/sizing.mjs';
import { readProjectFile } from './support/source-tree.js';

/** What of a result is looked at here. */
interface Result {
  readonly machine: { readonly node: string };
  readonly settings: { readonly preset: string };
  readonly scenarios: Readonly<
    Record<string, { readonly rows: readonly { readonly name: string; readonly figures: Record<string, number> }[] }>
  >;
}

const results = committedResults() as readonly Result[];

function figure(scenario: string, name: string, peer = 'sidecar'): number {
  const rows = results[0]?.scenarios[scenario]?.rows ?? [];
  const value = rows.find((row) => row.name === peer)?.figures[name];
  if (value === undefined) throw new Error(`${scenario} has no ${name}`);
  return value;
}

/** MiB of `128Mi`. */
const mebibytes = (quantity: string): number => {
  const [, number] = /^(\d+)Mi$/.exec(quantity) ?? [];
  return Number(number);
};

describe('the documents', () => {
  it.each(parts().map((part) => [part.document, part] as const))(
    '%s says what is in bench/results (node bench/sizing.mjs fills it)',
    (_, { stands, wanted }) => expect(stands).toBe(wanted),
  );

  it('rest on a record of everything', () => {
    expect(results.map(({ settings }) => settings.preset)).toEqual(results.map(() => 'record'));
    const measured = Object.keys(results[0]?.scenarios ?? {});
    expect(measured).toEqual(expect.arrayContaining(['callbacks', 'handshake-rsa', 'idle', 'start', 'memory']));
  });

  it('name metrics that there are', () => {
    const source = readProjectFile('src/observe/metrics.ts');
    const named = [...readProjectFile('docs/scaling.md').matchAll(/mtls_sidecar_(\w+)/g)].map(([, name]) => name);
    expect(named.length).toBeGreaterThan(4);
    expect(named.filter((name) => !source.includes(`'${name}'`))).toEqual([]);
  });
});

describe.each(['native-sidecar', 'classic'])('what the manifests request (%s)', (life) => {
  const { spec } = parse(readProjectFile(`k8s/components/${life}/sidecar.yaml`)) as {
    spec: { template: { spec: Record<string, { name: string; resources: Record<string, { memory: string }> }[]> } };
  };
  const containers = [...(spec.template.spec['initContainers'] ?? []), ...(spec.template.spec['containers'] ?? [])];
  const resources = containers.find(({ name }) => name === 'mtls-sidecar')?.resources ?? {};

  it('is enough at rest', () => {
    expect(mebibytes(resources['requests']?.memory ?? '')).toBeGreaterThan(figure('start', 'rss', 'sidecar-image'));
  });

  it('has room for full load, every connection that limits.connections lets in, and a quarter more', () => {
    const needed = figure('memory', 'loaded') + (4096 * figure('idle', 'perConnection')) / 1024;
    expect(mebibytes(resources['limits']?.memory ?? '')).toBeGreaterThan(1.25 * needed);
  });
});
