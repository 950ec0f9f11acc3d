import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { readProjectFile } from './source-tree.js';

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };
export type Fields = Record<string, Json>;

/** A Kubernetes object. */
export interface Resource extends Fields {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
}

interface Generator {
  readonly name: string;
  readonly behavior?: 'merge';
  readonly files: readonly string[];
}

interface Patch {
  readonly path: string;
  readonly target?: { readonly kind: string; readonly name?: string };
}

export interface Kustomization {
  readonly resources?: readonly string[];
  readonly components?: readonly string[];
  readonly configMapGenerator?: readonly Generator[];
  readonly patches?: readonly Patch[];
}

const KNOWN = ['apiVersion', 'kind', 'resources', 'components', 'configMapGenerator', 'patches'];

/** Lists that a strategic merge patch merges by a key, as the types of Kubernetes say; other lists it replaces. */
const MERGE_KEYS: Readonly<Record<string, (item: Fields) => Json | undefined>> = {
  containers: ({ name }) => name,
  initContainers: ({ name }) => name,
  volumes: ({ name }) => name,
  env: ({ name }) => name,
  volumeMounts: ({ mountPath }) => mountPath,
  ports: ({ containerPort, port }) => containerPort ?? port,
};

/**
 * What `kubectl kustomize` would print, for the part of Kustomize that k8s/ uses. Anything else is an error: what is not
 * understood here would be left out in silence.
 * @param folder of the kustomization, relative to the checkout
 */
export function render(folder: string, kustomization: Kustomization = read(folder)): Resource[] {
  return withHashes(accumulate(folder, kustomization));
}

function read(folder: string): Kustomization {
  const [kustomization] = documents(join(folder, 'kustomization.yaml'));
  const unknown = Object.keys(kustomization ?? {}).filter((key) => !KNOWN.includes(key));
  if (unknown.length > 0) throw new Error(`${folder}: ${unknown.join(', ')} is not understood here`);
  return kustomization as unknown as Kustomization;
}

function documents(path: string): Fields[] {
  return parseAllDocuments(readProjectFile(path)).map((document) => {
    if (document.errors.length > 0) throw new Error(`${path}: ${document.errors.join(', ')}`);
    return document.toJS() as Fields;
  });
}

/** In the order of Kustomize: resources, components, generators, patches. */
function accumulate(folder: string, kustomization: Kustomization, inherited: readonly Resource[] = []): Resource[] {
  let resources = [...inherited, ...(kustomization.resources ?? []).flatMap((path) => load(join(folder, path)))];
  for (const path of kustomization.components ?? []) {
    const component = join(folder, path);
    resources = accumulate(component, read(component), resources);
  }
  for (const generator of kustomization.configMapGenerator ?? []) resources = generate(folder, generator, resources);
  for (const patch of kustomization.patches ?? []) resources = applyPatch(folder, patch, resources);
  return resources;
}

function load(path: string): Resource[] {
  return path.endsWith('.yaml') ? (documents(path) as unknown as Resource[]) : accumulate(path, read(path));
}

function generate(folder: string, { name, behavior, files }: Generator, resources: Resource[]): Resource[] {
  const data = Object.fromEntries(files.map((file) => [file, readProjectFile(join(folder, file))]));
  const existing = resources.find((resource) => resource.kind === 'ConfigMap' && resource.metadata.name === name);
  if ((existing === undefined) !== (behavior === undefined)) throw new Error(`${folder}: ConfigMap ${name}: behavior`);
  if (existing === undefined) return [...resources, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data }];
  const merged = { ...existing, data: { ...(existing['data'] as Fields), ...data } };
  return resources.map((resource) => (resource === existing ? merged : resource));
}

function applyPatch(folder: string, { path, target }: Patch, resources: Resource[]): Resource[] {
  const [patch] = documents(join(folder, path)) as unknown as Resource[];
  if (patch === undefined) throw new Error(`${dirname(path)}: no patch`);
  const wanted = target ?? { kind: patch.kind, name: patch.metadata.name };
  const hit = ({ kind, metadata }: Resource): boolean =>
    kind === wanted.kind && (wanted.name === undefined || wanted.name === metadata.name);
  // Kustomize complains only about a patch that names its resource itself.
  if (target === undefined && !resources.some(hit)) throw new Error(`${path}: nothing to patch`);
  // Which name it has is the resource's affair.
  const { name: _, ...metadata } = patch.metadata;
  const change = { ...patch, metadata };
  return resources.map((resource) => (hit(resource) ? (merge(resource, change, '') as Resource) : resource));
}

function merge(old: Json | undefined, change: Json, key: string): Json {
  if (Array.isArray(change)) return mergeList(old, change as readonly Fields[], key);
  if (change === null || typeof change !== 'object' || !isFields(old)) return change;
  const merged: Fields = { ...old };
  for (const [name, value] of Object.entries(change)) {
    if (value === null) delete merged[name];
    else merged[name] = merge(merged[name], value, name);
  }
  return merged;
}

/** New items come first. Kustomize has an order of its own, which in these lists means nothing. */
function mergeList(old: Json | undefined, change: readonly Fields[], key: string): Json {
  const keyOf = MERGE_KEYS[key];
  const items = change.filter((item) => item['$patch'] === undefined);
  if (keyOf === undefined || !Array.isArray(old) || items.length < change.length) return items;
  const list = old as readonly Fields[];
  const known = new Set(list.map(keyOf));
  const merged = list.map((item) => {
    const changed = items.find((candidate) => keyOf(candidate) === keyOf(item));
    return changed === undefined ? item : merge(item, changed, key);
  });
  return [...items.filter((item) => !known.has(keyOf(item))), ...merged];
}

function isFields(value: Json | undefined): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Generated ConfigMaps get a hash of their content, and so do all references to them. */
function withHashes(resources: readonly Resource[]): Resource[] {
  const generated = resources.filter(({ kind }) => kind === 'ConfigMap');
  const names = new Map(
    generated.map((map) => [map.metadata.name, `${map.metadata.name}-${digest(map['data'] ?? null)}`]),
  );
  const rename = (value: Json, parent: string): Json => {
    if (Array.isArray(value)) return value.map((item: Json) => rename(item, parent));
    if (!isFields(value)) return value;
    const fields = Object.entries(value).map(([key, inner]): [string, Json] => {
      const reference = parent === 'configMap' && key === 'name' && typeof inner === 'string';
      return [key, reference ? (names.get(inner) ?? inner) : rename(inner, key)];
    });
    return Object.fromEntries(fields);
  };
  return resources.map((resource) => {
    const name = resource.kind === 'ConfigMap' ? names.get(resource.metadata.name) : undefined;
    const renamed = rename(resource, '') as Resource;
    return name === undefined ? renamed : { ...renamed, metadata: { ...renamed.metadata, name } };
  });
}

function digest(data: Json): string {
  return createHash('sha256').update(JSON.stringify(data)).digest('hex').slice(0, 10);
}
