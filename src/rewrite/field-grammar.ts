/** A token: the name of a header, a method (RFC 9110 §5.6.2). */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/**
 * The value of a header, or a reason phrase (RFC 9110 §5.5, RFC 9112 §4), in latin1. A line end in it would be another
 * header; so would some letters beyond latin1, of which only the lower byte is written (U+010D ends in that of CR).
 */
export const FIELD_TEXT = /^[\t\x20-\x7e\x80-\xff]*$/;
