/**
 * Text for a terminal. Names and paths come from files: a control or bidirectional character among them could rewrite
 * what an operator sees.
 */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, (character) => {
    return `\\u${(character.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`;
  });
}
