import { LineCounter, isAlias, isMap, isScalar, parseDocument } from 'yaml';
import type { Document, Node, ParseOptions, DocumentOptions, SchemaOptions } from 'yaml';

/** Called for each key that is no section, with its path from the top and its value (maps as `Map`). */
export interface YamlVisitor {
  isSection(path: readonly string[]): boolean;
  value(path: readonly string[], value: unknown, line: number): void;
  problem(message: string, line: number): void;
}

const OPTIONS: ParseOptions & DocumentOptions & SchemaOptions = {
  version: '1.2',
  uniqueKeys: true,
  // Merge keys would make it hard to say which line a value came from.
  merge: false,
  stringKeys: true,
  prettyErrors: false,
  // Nothing is printed here either. At 'silent' the parser drops a second document, and its rules, without a word.
  logLevel: 'error',
};

/**
 * Walks a YAML text by its syntax tree, so that every value has a line and no key ever becomes a property:
 * `__proto__` is only a name that nobody knows.
 */
export function visitYaml(text: string, visitor: YamlVisitor): void {
  const lines = new LineCounter();
  const document = parseDocument(text, { ...OPTIONS, lineCounter: lines });
  const lineAt = (offset: number): number => lines.linePos(offset).line;
  const complaints = [...document.errors, ...document.warnings];
  for (const { code, message, pos } of complaints) {
    const isSecond = code === 'MULTIPLE_DOCS';
    visitor.problem(isSecond ? 'a second document begins here: settings are one document' : message, lineAt(pos[0]));
  }
  if (complaints.length === 0) visitSection(document.contents, [], { document, visitor, lineAt });
}

interface Walk {
  readonly document: Document;
  readonly visitor: YamlVisitor;
  readonly lineAt: (offset: number) => number;
}

function visitSection(node: unknown, path: readonly string[], walk: Walk): void {
  const section = isAlias(node) ? node.resolve(walk.document) : node;
  // A section whose settings are all commented out reads as null.
  if (section === null || section === undefined || (isScalar(section) && section.value === null)) return;
  if (!isMap(section)) {
    const what = path.length === 0 ? 'the file' : path.join('.');
    walk.visitor.problem(`${what} must be a map of settings`, lineOf(section, walk));
    return;
  }
  for (const pair of section.items) visitPair(pair.key, pair.value, path, walk);
}

function visitPair(key: unknown, value: unknown, parent: readonly string[], walk: Walk): void {
  const line = lineOf(key, walk);
  const path = [...parent, String(isScalar(key) ? key.value : key)];
  if (walk.visitor.isSection(path)) return visitSection(value, path, walk);
  try {
    walk.visitor.value(path, valueOf(value, walk), line);
  } catch (error) {
    // Aliases that multiply ("billion laughs") end here.
    walk.visitor.problem((error as Error).message, line);
  }
}

/**
 * A setting with nothing behind it is empty text, which every format refuses. Only the word null is null: `crl:` with
 * its files commented out, or left out by a template, must not pass for "no revocation lists".
 */
function valueOf(node: unknown, walk: Walk): unknown {
  if (node === null) return '';
  const meant = isAlias(node) ? node.resolve(walk.document) : node;
  if (isScalar(meant) && meant.value === null && !NULL_WORD.test(meant.source ?? '')) return '';
  return (node as Node).toJS(walk.document, { mapAsMap: true });
}

/** YAML 1.2.2 section 10.3.2. */
const NULL_WORD = /^(?:null|Null|NULL|~)$/;

function lineOf(node: unknown, walk: Walk): number {
  return walk.lineAt((node as Node | null)?.range?.[0] ?? 0);
}

/**
 * A list or map written in one environment variable or flag as JSON. Read as YAML, of which JSON is a part, because
 * `JSON.parse` lets the last of two equal keys win in silence.
 * @returns the structure with maps as `Map`; the text itself when it is none, for the format to refuse
 */
export function parseStructure(text: string): unknown {
  if (!/^[[{]/.test(text)) return text;
  const document = parseDocument(text, OPTIONS);
  if (document.errors.length + document.warnings.length > 0) return text;
  return document.toJS({ mapAsMap: true }) as unknown;
}
