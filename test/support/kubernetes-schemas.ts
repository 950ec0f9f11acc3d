import { join } from 'node:path';
import { Certificate } from '@kubernetes-models/cert-manager/cert-manager.io/v1/Certificate';
import { Bundle } from '@kubernetes-models/cert-manager/trust.cert-manager.io/v1alpha1/Bundle';
import { PodMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor';
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule';
import { Deployment } from 'kubernetes-models/apps/v1/Deployment';
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler';
import { CronJob } from 'kubernetes-models/batch/v1/CronJob';
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1/NetworkPolicy';
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget';
import { Role } from 'kubernetes-models/rbac.authorization.k8s.io/v1/Role';
import { RoleBinding } from 'kubernetes-models/rbac.authorization.k8s.io/v1/RoleBinding';
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap';
import { Pod } from 'kubernetes-models/v1/Pod';
import { Service } from 'kubernetes-models/v1/Service';
import { ServiceAccount } from 'kubernetes-models/v1/ServiceAccount';
import ts from 'typescript';
import type { Resource } from './kustomize.js';
import { ROOT } from './source-tree.js';

interface Model {
  new (data?: never): { validate(): void };
}

/** Model and module of each kind that k8s/ uses. */
const KINDS: Readonly<Record<string, readonly [model: Model, module: string]>> = {
  'v1 ConfigMap': [ConfigMap, 'kubernetes-models'],
  'v1 Pod': [Pod, 'kubernetes-models'],
  'v1 Service': [Service, 'kubernetes-models'],
  'v1 ServiceAccount': [ServiceAccount, 'kubernetes-models'],
  'apps/v1 Deployment': [Deployment, 'kubernetes-models'],
  'autoscaling/v2 HorizontalPodAutoscaler': [HorizontalPodAutoscaler, 'kubernetes-models'],
  'batch/v1 CronJob': [CronJob, 'kubernetes-models'],
  'policy/v1 PodDisruptionBudget': [PodDisruptionBudget, 'kubernetes-models'],
  'networking.k8s.io/v1 NetworkPolicy': [NetworkPolicy, 'kubernetes-models'],
  'rbac.authorization.k8s.io/v1 Role': [Role, 'kubernetes-models'],
  'rbac.authorization.k8s.io/v1 RoleBinding': [RoleBinding, 'kubernetes-models'],
  'cert-manager.io/v1 Certificate': [Certificate, '@kubernetes-models/cert-manager'],
  'trust.cert-manager.io/v1alpha1 Bundle': [Bundle, '@kubernetes-models/cert-manager'],
  'monitoring.coreos.com/v1 PodMonitor': [PodMonitor, '@kubernetes-models/prometheus-operator'],
  'monitoring.coreos.com/v1 PrometheusRule': [PrometheusRule, '@kubernetes-models/prometheus-operator'],
};

function modelOf({ apiVersion, kind }: Resource): readonly [Model, string] {
  const found = KINDS[`${apiVersion} ${kind}`];
  if (found === undefined) throw new Error(`no schema for ${apiVersion} ${kind}`);
  return found;
}

/** What the JSON schema of its kind says against a resource. The schemas let unknown fields pass. */
export function schemaProblems(resource: Resource): string[] {
  const [Model] = modelOf(resource);
  try {
    new Model(resource as never).validate();
    return [];
  } catch (error) {
    return [`${resource.kind} ${resource.metadata.name}: ${(error as Error).message}`];
  }
}

/**
 * Fields that no API server knows, and values of a wrong type: each resource is compiled as a literal of its type, and the
 * compiler takes no field too many.
 */
export function unknownFields(resources: readonly Resource[]): string[] {
  const file = join(ROOT, 'test', 'resources-as-literals.ts');
  const source = resources.map((resource, index) => {
    const [, module] = modelOf(resource);
    const { apiVersion, kind } = resource;
    return `const r${index}: import('${module}/${apiVersion}/${kind}').I${kind} = ${JSON.stringify(resource, null, 1)};`;
  });
  const options: ts.CompilerOptions = {
    module: ts.ModuleKind.NodeNext,
    moduleResolution: ts.ModuleResolutionKind.NodeNext,
    target: ts.ScriptTarget.ES2023,
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
  };
  const host = ts.createCompilerHost(options);
  const fromDisk = host.getSourceFile.bind(host);
  host.fileExists = (name) => name === file || ts.sys.fileExists(name);
  host.getSourceFile = (name, ...rest) =>
    name === file ? ts.createSourceFile(name, source.join('\n'), ts.ScriptTarget.ES2023) : fromDisk(name, ...rest);
  const diagnostics = ts.getPreEmitDiagnostics(ts.createProgram([file], options, host));
  return diagnostics.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
