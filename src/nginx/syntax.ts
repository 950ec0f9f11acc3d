import { Lexer, NginxSyntaxError, type Token } from './tokens.js';

/** One directive of a configuration, or one line of a block of values such as `map`. */
export interface Directive {
  readonly name: string;
  readonly args: readonly string[];
  /** Null when it ends in a semicolon. */
  readonly block: readonly Directive[] | null;
  readonly file: string;
  /** Of its name. */
  readonly line: number;
}

/** How the parser gets at files. */
export interface ConfReader {
  /** @throws Error when the file cannot be read */
  read(path: string): string;
  /** Files that match, sorted, as glob(3). */
  list(pattern: string): readonly string[];
}

/** Deeper than any honest nesting of includes. */
const DEEPEST_INCLUDE = 16;
const DEEPEST_BLOCK = 32;

/**
 * Reads a configuration and all that it includes. An `include` stays in the list, before what it brought.
 * @throws NginxSyntaxError
 */
export function parseConf(file: string, reader: ConfReader): Directive[] {
  return new Parser(directoryOf(file), reader).file(file, 0);
}

/** As ngx_get_full_name: joined, not normalised. */
export function fullName(directory: string, name: string): string {
  if (name.startsWith('/')) return name;
  return directory.endsWith('/') ? directory + name : `${directory}/${name}`;
}

/** The directory that a file lies in. */
export function directoryOf(file: string): string {
  const slash = file.lastIndexOf('/');
  if (slash === -1) return '.';
  return slash === 0 ? '/' : file.slice(0, slash);
}

interface Place {
  readonly lexer: Lexer;
  readonly file: string;
  readonly includes: number;
  readonly blocks: number;
}

class Parser {
  constructor(
    private readonly directory: string,
    private readonly reader: ConfReader,
  ) {}

  file(file: string, includes: number): Directive[] {
    const lexer = new Lexer(this.reader.read(file), file);
    return this.directives({ lexer, file, includes, blocks: 0 });
  }

  private directives(place: Place): Directive[] {
    const found: Directive[] = [];
    const { lexer, blocks } = place;
    for (let token = lexer.next(); token?.kind !== '}'; token = lexer.next()) {
      if (token === null) {
        if (blocks > 0) lexer.fail('unexpected end of file, expecting "}"');
        return found;
      }
      const directive = this.directive(token, place);
      found.push(directive);
      if (directive.name === 'include') found.push(...this.included(directive, place));
    }
    if (blocks === 0) lexer.fail('unexpected "}"');
    return found;
  }

  private directive(first: Token, place: Place): Directive {
    const { lexer, file } = place;
    if (first.kind !== 'word') lexer.fail(`unexpected "${first.text}"`);
    const args: string[] = [];
    for (let token = lexer.next(); ; token = lexer.next()) {
      if (token === null) return lexer.fail('unexpected end of file, expecting ";" or "}"');
      const directive = { name: first.text, args, file, line: first.line };
      if (token.kind === ';') return { ...directive, block: null };
      if (token.kind === '{') return { ...directive, block: this.block(directive.name, place) };
      if (token.kind === '}') return lexer.fail('unexpected "}"');
      args.push(token.text);
    }
  }

  private block(name: string, place: Place): Directive[] {
    // Its own language, with its own braces: what stands in it cannot be told apart from what follows it.
    if (name.endsWith('_by_lua_block')) place.lexer.fail(`${name} holds Lua, which cannot be read here`);
    if (place.blocks === DEEPEST_BLOCK) place.lexer.fail('blocks are nested too deeply');
    return this.directives({ ...place, blocks: place.blocks + 1 });
  }

  private included({ args, file, line }: Directive, { includes }: Place): Directive[] {
    const [name] = args;
    if (name === undefined || args.length > 1) throw new NginxSyntaxError('include needs one name', file, line);
    if (includes === DEEPEST_INCLUDE) throw new NginxSyntaxError('files include each other too deeply', file, line);
    const path = fullName(this.directory, name);
    // A pattern may match nothing; a plain name must exist.
    const files = /[*?[]/.test(path) ? this.reader.list(path) : [path];
    return files.flatMap((each) => this.includedFile(each, { file, line, includes }));
  }

  private includedFile(path: string, from: { file: string; line: number; includes: number }): Directive[] {
    try {
      return this.file(path, from.includes + 1);
    } catch (error) {
      if (error instanceof NginxSyntaxError) throw error;
      throw new NginxSyntaxError(`include: ${(error as Error).message}`, from.file, from.line);
    }
  }
}
