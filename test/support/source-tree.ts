import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import ts from 'typescript';

/** The checkout. */
export const ROOT = join(import.meta.dirname, '..', '..');

/** What .gitignore names, and git itself: a fresh clone may have no git, so its own listing cannot be asked for. */
const IGNORED = new Set(['.git', 'node_modules', 'dist', 'coverage', 'bench/tmp', 'bench/results']);

/** Every file of the project below a folder, relative to the checkout, with forward slashes. */
export function projectFiles(below = ''): string[] {
  return readdirSync(join(ROOT, below), { withFileTypes: true }).flatMap((entry) => {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (IGNORED.has(path) || path.endsWith('.log')) return [];
    return entry.isDirectory() ? projectFiles(path) : [path];
  });
}

export function readProjectFile(path: string): string {
  return readFileSync(join(ROOT, path), 'utf8');
}

export interface ImportLine {
  readonly from: string;
  readonly specifier: string;
  /** For imports of our own files: relative to the checkout, `.ts`. */
  readonly target: string | null;
  readonly typeOnly: boolean;
}

/** Static and dynamic imports and re-exports of one file. */
export function importsOf(file: string): ImportLine[] {
  const found: ImportLine[] = [];
  const add = (specifier: ts.Node, typeOnly: boolean): void => {
    if (ts.isStringLiteral(specifier)) found.push(importLine(file, specifier.text, typeOnly));
  };
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, isTypeImport(node.importClause));
    if (ts.isExportDeclaration(node) && node.moduleSpecifier) add(node.moduleSpecifier, node.isTypeOnly);
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword && node.arguments[0])
      add(node.arguments[0], false);
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return found;
}

/** Every `object.property` of a file, as text: `process.env`. */
export function memberExpressionsOf(file: string): Set<string> {
  const found = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isPropertyAccessExpression(node)) found.add(node.getText());
    ts.forEachChild(node, visit);
  };
  visit(parse(file));
  return found;
}

function parse(file: string): ts.SourceFile {
  return ts.createSourceFile(file, readProjectFile(file), ts.ScriptTarget.Latest, true);
}

/** `import {type A, type B}` leaves nothing behind either. */
function isTypeImport(clause: ts.ImportClause | undefined): boolean {
  if (clause === undefined) return false;
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true;
  const bindings = clause.namedBindings;
  if (clause.name !== undefined || bindings === undefined || !ts.isNamedImports(bindings)) return false;
  return bindings.elements.every((element) => element.isTypeOnly);
}

function importLine(from: string, specifier: string, typeOnly: boolean): ImportLine {
  const absolute = join(ROOT, from, '..', specifier.replace(/\.js$/, '.ts'));
  const target = specifier.startsWith('.') ? relative(ROOT, absolute).split(sep).join('/') : null;
  return { from, specifier, target, typeOnly };
}
