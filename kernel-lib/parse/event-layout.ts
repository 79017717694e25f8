import type { EventFormat } from "./events.js";

// A layout of events.ts, such as "{ret}: HSR_EC: {esr_ec} ({_}), PC: {pc}", as a list of steps that one loop walks: a literal that
// has to be met, then a field to read. Literals are compared four bytes at a time.

/** Numbers of a step: how long its literal is, where it begins in `literals`, what to read behind it, into which field, and up to which character. */
const LENGTH = 0, LITERAL = 1, KIND = 2, FIELD = 3, STOP = 4, STEP = 5;
const END = 0, INT = 1, HEX = 2, HEX64 = 3, US = 4, TEXT = 5, SKIPPED = 6;
const KINDS = { int: INT, hex: HEX, hex64: HEX64, us: US, text: TEXT };

export interface Layout {
  steps: Int32Array;
  literals: Int32Array;
  /** By field: words that are printed in place of its number. */
  words: Word[][];
  /** Fields that it prints as texts, as numbers of 64 bits. */
  texts: number[];
  hexes: number[];
  /** All that it prints. */
  fields: number[];
}
type Word = [text: Uint8Array, number: number];

/** What `fits` read. */
export interface Match {
  /** Fields that are numbers, `stride` apart from each other. */
  numbers: Float64Array;
  stride: number;
  /** Place of the row at hand among `stride`. */
  row: number;
  /** Texts: where they begin and end; 64-bit numbers: their upper and lower half. */
  from: Int32Array;
  to: Int32Array;
}

export function compileLayout(layout: string, names: string[], format: EventFormat): Layout {
  const pieces = layout.split(/\{(\w+)\}/); // literal, field, literal … literal
  const steps: number[] = [], literals: number[] = [], words: Word[][] = names.map(() => []);
  const numbers: number[] = [], texts: number[] = [], hexes: number[] = [];
  for (let i = 0; i < pieces.length; i += 2) {
    const literal = Buffer.from(pieces[i]), name = pieces[i + 1] as string | undefined, n = literal.length;
    const f = name === undefined || name === "_" ? -1 : names.indexOf(name);
    const kind = name === undefined ? END : name === "_" ? SKIPPED : KINDS[format.fields[name].kind];
    steps.push(n, literals.length, kind, f, pieces[i + 2] ? pieces[i + 2].charCodeAt(0) : -1);
    if (n < 4) literals.push(...literal);
    else {
      for (let at = 0; at + 4 <= n; at += 4) literals.push(literal.readInt32LE(at));
      if (n & 3) literals.push(literal.readInt32LE(n - 4));
    }
    if (f < 0) continue;
    (kind === TEXT ? texts : kind === HEX64 ? hexes : numbers).push(f);
    words[f] = Object.entries(format.fields[name!].words ?? {}).map(([word, number]) => [Buffer.from(word), number]);
  }
  return { steps: Int32Array.from(steps), literals: Int32Array.from(literals), words, texts, hexes, fields: [...numbers, ...texts, ...hexes] };
}

const SPACE = 32, ZERO = 48, NINE = 57, MINUS = 45, POINT = 46, LOWER = 32, X = 120;
/** By character: the value of a hexadecimal digit, -1 for what is none. */
const DIGIT = Int8Array.from({ length: 256 }, (_, c) => ((c >= ZERO && c <= NINE) ? c - ZERO : (c | LOWER) >= 97 && (c | LOWER) <= 102 && c > NINE ? (c | LOWER) - 87 : -1));
const IS_WORD = Uint8Array.from({ length: 256 }, (_, c) => Number((c >= ZERO && c <= NINE) || ((c | LOWER) >= 97 && (c | LOWER) <= 122) || c === 95));

/** A damaged line may fit a layout's beginning at very many places; no event that a kernel printed needs as many tries as this. */
const MOST_TRIES = 10_000;
/** Text fields whose end is not sure yet: which step, and where it was tried last. */
const openStep = new Int32Array(16), openStop = new Int32Array(16);

/**
 * Reads `bytes[at, end)` by a layout; false where it does not fit. A text field ends where the rest fits, because comms may hold what
 * comes next ("kworker/0:1:16 [120]"). `bytes[end]` has to be there and to end the line; `view` is of the same bytes.
 */
export function fits(layout: Layout, bytes: Uint8Array, view: DataView, at: number, end: number, match: Match): boolean {
  const { steps, literals } = layout, { numbers, stride, row } = match;
  let step = 0, open = 0, tries = 0;
  for (;;) {
    read: {
      const length = steps[step + LENGTH];
      let literal = steps[step + LITERAL];
      if (at + length > end) break read;
      if (length < 4) {
        for (let i = 0; i < length; i++) if (bytes[at + i] !== literals[literal++]) break read;
      } else {
        let i = 0;
        for (; i + 4 <= length; i += 4) if (view.getInt32(at + i, true) !== literals[literal++]) break read;
        if (i < length && view.getInt32(at + length - 4, true) !== literals[literal]) break read;
      }
      at += length;
      switch (steps[step + KIND]) {
        case INT: {
          while (bytes[at] === SPACE) at++;
          const first = at, field = steps[step + FIELD], minus = bytes[at] === MINUS;
          if (minus) at++;
          let digit = bytes[at] - ZERO;
          if (digit === 0 && (bytes[at + 1] | LOWER) === X && !minus) {
            if ((at = hex(bytes, at, numbers, field * stride + row)) < 0) break read;
          } else {
            let n = digit, after = at;
            if (digit >= 0 && digit <= 9) {
              const most = at + 9; // as many digits as are surely no more than 2^31
              while ((digit = bytes[++after] - ZERO) >= 0 && digit <= 9 && after < most) n = (Math.imul(n, 10) + digit) | 0;
            }
            if (digit >= 0 && digit <= 9) after = longInt(bytes, after, n, numbers, field * stride + row);
            else numbers[field * stride + row] = n;
            if (after === at || IS_WORD[bytes[after]] === 1) {
              after = word(bytes, first, end, layout.words[field], numbers, field * stride + row);
              if (after < 0) break read;
            } else if (minus) numbers[field * stride + row] = -numbers[field * stride + row];
            at = after;
          }
          break;
        }
        case HEX: {
          while (bytes[at] === SPACE) at++;
          const field = steps[step + FIELD], first = at;
          if ((at = hex(bytes, at, numbers, field * stride + row)) >= 0) break;
          if ((at = word(bytes, first, end, layout.words[field], numbers, field * stride + row)) < 0) break read;
          break;
        }
        case HEX64: {
          while (bytes[at] === SPACE) at++;
          if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === X) at += 2;
          const first = at;
          while (bytes[at] === ZERO) at++;
          const most = at + 16;
          let upper = 0, lower = 0;
          for (let digit = DIGIT[bytes[at]]; digit >= 0; digit = DIGIT[bytes[++at]]) {
            upper = (upper << 4) | (lower >>> 28);
            lower = (lower << 4) | digit;
          }
          if (at === first || at > most) break read;
          match.from[steps[step + FIELD]] = upper;
          match.to[steps[step + FIELD]] = lower;
          break;
        }
        case US: {
          while (bytes[at] === SPACE) at++;
          if ((at = us(bytes, at, numbers, steps[step + FIELD] * stride + row)) < 0) break read;
          break;
        }
        case TEXT: case SKIPPED: {
          const field = steps[step + FIELD], stop = steps[step + STOP];
          if (field >= 0) match.from[field] = at;
          if (stop < 0) at = end;
          else {
            while (at < end && bytes[at] !== stop) at++;
            if (at >= end) break read;
            openStep[open] = step;
            openStop[open++] = at;
          }
          if (field >= 0) match.to[field] = at;
          break;
        }
        default: {
          while (bytes[at] === SPACE) at++;
          if (at === end) return true;
          break read;
        }
      }
      step += STEP;
      continue;
    }
    // It does not fit: the text read last may go on to the next place where it could end.
    for (;;) {
      if (open === 0) return false;
      step = openStep[open - 1];
      const stop = steps[step + STOP], field = steps[step + FIELD];
      at = openStop[open - 1] + 1;
      while (at < end && bytes[at] !== stop) at++;
      if (at < end && ++tries < MOST_TRIES) {
        openStop[open - 1] = at;
        if (field >= 0) match.to[field] = at;
        step += STEP;
        break;
      }
      open--;
    }
  }
}

// Readers of numbers: each puts the number into numbers[i] and gives where it ends; -1 where there is none, or a word goes on behind it.

/** The rest of an integer of more than nine digits. */
function longInt(bytes: Uint8Array, at: number, begun: number, numbers: Float64Array, i: number): number {
  let n = begun + 0.5 - 0.5;
  for (let digit = bytes[at] - ZERO; digit >= 0 && digit <= 9; digit = bytes[++at] - ZERO) n = n * 10 + digit;
  numbers[i] = n;
  return at;
}

function hex(bytes: Uint8Array, at: number, numbers: Float64Array, i: number): number {
  if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === X) at += 2;
  const first = at, most = at + 7;
  let n = 0, digit = DIGIT[bytes[at]];
  for (; digit >= 0 && at < most; digit = DIGIT[bytes[++at]]) n = (n << 4) | digit;
  numbers[i] = n;
  for (; digit >= 0; digit = DIGIT[bytes[++at]]) numbers[i] = numbers[i] * 16 + digit;
  return at === first || IS_WORD[bytes[at]] === 1 ? -1 : at;
}

/** "154.160" */
function us(bytes: Uint8Array, at: number, numbers: Float64Array, i: number): number {
  let n = 0, unit = 1000, point = false;
  const first = at;
  for (;; at++) {
    const c = bytes[at];
    if (c === POINT && !point) point = true;
    else if (c >= ZERO && c <= NINE) { n = n * 10 + (c - ZERO); if (point) unit /= 10; } else break;
  }
  if (at === first) return -1;
  numbers[i] = Math.round(n * unit);
  return at;
}

function word(bytes: Uint8Array, at: number, end: number, words: Word[], numbers: Float64Array, i: number): number {
  for (let w = 0; w < words.length; w++) {
    const text = words[w][0], after = at + text.length;
    if (!startsWith(bytes, at, end, text) || IS_WORD[bytes[after]] === 1) continue;
    numbers[i] = words[w][1];
    return after;
  }
  return -1;
}

export function startsWith(bytes: Uint8Array, at: number, end: number, text: Uint8Array): boolean {
  if (at + text.length > end) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}
