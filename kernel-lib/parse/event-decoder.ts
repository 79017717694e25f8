import { Dictionary, DictionaryColumn, narrowCodes, NullableColumn, type Column, type Columns } from "../source/columns.js";
import { eventFormats, type EventFormat } from "./events.js";

/** An event's own columns. */
export interface EventFields {
  columns: Record<string, Column<any>>;
  specs: Columns;
  /** The text of events that have no columns, or that no layout fits (null where one did); null where all were decoded. */
  info: DictionaryColumn | null;
}

/** Takes an event's info, line by line, and appends to its columns. */
export interface Decoder {
  /** Whether the event has columns of its own in events.ts. */
  known: boolean;
  count: number;
  /** How many of a known event's texts no layout fitted. */
  undecoded: number;
  decode(bytes: Buffer, start: number, end: number): void;
  finish(): EventFields;
}

export function decoderOf(event: string): Decoder {
  const format = Object.hasOwn(eventFormats, event) ? eventFormats[event] : undefined;
  return format ? formatDecoder(format) : textDecoder();
}

/** Keeps the text, each distinct one once. */
function textDecoder(): Decoder {
  const info = new CodeColumn();
  return {
    known: false,
    count: 0,
    undecoded: 0,
    decode(bytes, start, end) { info.set(this.count++, info.dictionary.intern(bytes, start, end)); },
    finish() { return { columns: {}, specs: {}, info: info.finish(this.count)! }; },
  };
}

/** A column of numbers, set row by row in the narrowest array that holds them; rows left out are null. */
export class Numbers {
  // One of these holds the numbers, by `bits`: one property for all would make V8 look up the array's type, and allocate, at each store.
  private bits: 8 | 16 | 32 | 64 = 8;
  private int8 = new Int8Array(64);
  private int16 = new Int16Array(0);
  private int32 = new Int32Array(0);
  private float64 = new Float64Array(0);
  /** What that array can hold. Below `least` stands null: one less, or NaN among doubles. */
  private least = -127;
  private most = 127;
  private capacity = 64;
  private length = 0;
  private nulls = false;

  /** Sets a row to values[i] (not passed by itself, for which V8 would allocate). */
  set(row: number, values: Float64Array, i: number): void {
    const x = values[i];
    if (x < this.least || x > this.most) this.move(Math.abs(x) <= 0x7fff ? 16 : Math.abs(x) <= 0x7fffffff ? 32 : 64, this.capacity);
    if (row >= this.capacity) this.move(this.bits, Math.max(row + 1, this.capacity * 2));
    if (this.length < row) this.pad(row);
    this.length = row + 1;
    switch (this.bits) {
      case 8: this.int8[row] = x; break;
      case 16: this.int16[row] = x; break;
      case 32: this.int32[row] = x; break;
      default: this.float64[row] = x;
    }
  }

  /** Null where every row is. */
  finish(rows: number): Column<any> | null {
    if (this.length === 0) return null;
    if (rows > this.capacity) this.move(this.bits, rows);
    if (this.length < rows) this.pad(rows);
    const { data, least } = this;
    if (!this.nulls) return data.slice(0, rows);
    const out = new Float64Array(rows);
    for (let i = 0; i < rows; i++) out[i] = data[i] < least ? NaN : data[i];
    return new NullableColumn(out);
  }

  private get data(): Int8Array | Int16Array | Int32Array | Float64Array {
    return this.bits === 8 ? this.int8 : this.bits === 16 ? this.int16 : this.bits === 32 ? this.int32 : this.float64;
  }

  private pad(row: number): void {
    this.data.fill(this.bits === 64 ? NaN : this.least - 1, this.length, row);
    this.length = row;
    this.nulls = true;
  }

  /** Into an array of other numbers, or of more. */
  private move(bits: 8 | 16 | 32 | 64, capacity: number): void {
    const { data: old, least, length } = this;
    this.bits = bits;
    this.capacity = capacity;
    this.most = bits === 64 ? Infinity : 2 ** (bits - 1) - 1;
    this.least = -this.most;
    this.int8 = new Int8Array(bits === 8 ? capacity : 0);
    this.int16 = new Int16Array(bits === 16 ? capacity : 0);
    this.int32 = new Int32Array(bits === 32 ? capacity : 0);
    this.float64 = new Float64Array(bits === 64 ? capacity : 0);
    const { data } = this;
    data.set(old.subarray(0, length));
    if (!this.nulls || least === this.least) return;
    const none = bits === 64 ? NaN : this.least - 1;
    for (let i = 0; i < length; i++) if (old[i] < least) data[i] = none;
  }
}

/** A dictionary column, set row by row; rows left out are null. */
export class CodeColumn {
  private data = new Int32Array(64);
  private length = 0;
  readonly dictionary = new Dictionary();

  set(row: number, code: number): void {
    if (row >= this.data.length) {
      const more = new Int32Array(Math.max(row + 1, this.data.length * 2));
      more.set(this.data);
      this.data = more;
    }
    if (this.length < row) this.data.fill(-1, this.length, row);
    this.data[row] = code;
    this.length = row + 1;
  }

  /** Null where every row is. */
  finish(rows: number, prefix = ""): DictionaryColumn | null {
    if (this.length === 0) return null;
    const codes = narrowCodes(this.data, this.length, this.dictionary.size, rows).fill(-1, this.length);
    const values = this.dictionary.values();
    return new DictionaryColumn(codes, prefix ? values.map((value) => prefix + value) : values);
  }
}

/** Reads an info by one layout; false where it does not fit, else `match` holds what it read. */
type Matcher = (bytes: Buffer, at: number, end: number) => boolean;
interface Match {
  /** Fields that are numbers. */
  value: Float64Array;
  /** Where fields that are texts begin and end. */
  from: Int32Array;
  to: Int32Array;
}
interface Layout {
  fits: Matcher;
  /** Fields by how they are kept: as numbers, as texts, as texts that follow from the numbers. */
  numbers: number[];
  texts: number[];
  derived: number[];
}

const SPACE = 32, ZERO = 48, NINE = 57, MINUS = 45, POINT = 46, LOWER = 32, X = 120;
/** A damaged line may fit a layout's beginning at very many places; no event that a kernel printed needs as many tries as this. */
const MOST_TRIES = 10_000;

/** What libtraceevent puts where a plugin found no field, before the text that the kernel's own format gives. */
const NOISE = [
  { text: Buffer.from("<CANT FIND FIELD "), close: 62 /* > */ },
  { text: Buffer.from("CAN'T FIND FIELD \""), close: 34 /* " */ },
  { text: Buffer.from("[FAILED TO PARSE"), close: 93 /* ] */ },
];

function startsWith(bytes: Buffer, at: number, end: number, text: Uint8Array): boolean {
  if (at + text.length > end) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

/**
 * Compiles a layout into a function of its own, since every event of a trace goes through one: twice as fast as walking a list
 * of steps. Each text field is a loop over the places where it could end, around the code of all that follows it; it ends
 * where the rest fits, because comms may hold what comes next ("kworker/0:1:16 [120]").
 */
function compile(layout: string, names: string[], format: EventFormat, match: Match): Layout {
  const pieces = layout.split(/(\{\w+\})/).filter((piece) => piece !== "");
  const numbers: number[] = [], texts: number[] = [], words: [Uint8Array, number][][] = [];
  let loops = 0, code = "let tries = 0;";
  const failAt = (depth: number) => (depth === 0 ? "return false;" : `continue L${depth};`);
  pieces.forEach((piece, i) => {
    const fail = failAt(loops);
    if (!/^\{\w+\}$/.test(piece)) {
      const bytes = [...Buffer.from(piece)];
      code += `if (at + ${bytes.length} > end || ${bytes.map((c, k) => `b[at + ${k}] !== ${c}`).join(" || ")}) ${fail} at += ${bytes.length};`;
      return;
    }
    const name = piece.slice(1, -1), f = names.indexOf(name), kind = name === "_" ? "text" : format.fields[name].kind;
    if (kind === "text") {
      const next = pieces[i + 1];
      if (name !== "_") { texts.push(f); code += `from[${f}] = at;`; }
      if (next === undefined) code += "at = end;";
      else {
        loops++;
        code += `L${loops}: for (let stop = at; ; stop++) { while (stop < end && b[stop] !== ${next.charCodeAt(0)}) stop++; if (stop >= end || ++tries > ${MOST_TRIES}) ${fail} at = stop;`;
      }
      if (name !== "_") code += `to[${f}] = at;`;
    } else if (kind === "hex64") {
      texts.push(f);
      code += `while (at < end && b[at] === ${SPACE}) at++; if (b[at] === ${ZERO} && (b[at + 1] | ${LOWER}) === ${X}) at += 2;
        { const first = at; at = afterHex(b, at, end); if (at === first) ${fail} from[${f}] = first; to[${f}] = at; }`;
    } else {
      numbers.push(f);
      const { words: table } = format.fields[name];
      if (table) words[f] = Object.entries(table).map(([word, n]) => [Buffer.from(word), n]);
      code += `while (at < end && b[at] === ${SPACE}) at++;
        { let after = ${kind}(b, at, end, value, ${f}); ${table ? `if (after < 0) after = word(b, at, end, value, ${f}, words[${f}]);` : ""} if (after < 0) ${fail} at = after; }`;
    }
  });
  code += `while (at < end && b[at] === ${SPACE}) at++; if (at !== end) ${failAt(loops)} return true;${"}".repeat(loops)}`;
  const { value, from, to } = match;
  const fits = new Function("value", "from", "to", "words", ...Object.keys(readers), `return (b, at, end) => {${code}};`)(value, from, to, words, ...Object.values(readers)) as Matcher;
  const printed = new Set([...numbers, ...texts]);
  return { fits, numbers, texts, derived: Object.keys(format.derive ?? {}).map((name) => names.indexOf(name)).filter((f) => !printed.has(f)) };
}

function afterHex(bytes: Buffer, at: number, end: number): number {
  while (at < end && isHex(bytes[at])) at++;
  return at;
}

// Readers of numbers: each puts the number into value[f] and gives where it ends; -1 where there is none, or a word goes on behind it.

function int(bytes: Buffer, at: number, end: number, value: Float64Array, f: number): number {
  const minus = bytes[at] === MINUS;
  if (minus) at++;
  if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === X) return minus ? -1 : hex(bytes, at, end, value, f);
  const digits = at;
  let n = 0;
  for (let c = bytes[at]; at < end && c >= ZERO && c <= NINE; c = bytes[++at]) n = n * 10 + (c - ZERO);
  if (at === digits || (at < end && isWord(bytes[at]))) return -1;
  value[f] = minus ? -n : n;
  return at;
}

function hex(bytes: Buffer, at: number, end: number, value: Float64Array, f: number): number {
  if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === X) at += 2;
  const digits = at;
  let n = 0;
  for (let c = bytes[at]; at < end && isHex(c); c = bytes[++at]) n = n * 16 + (c <= NINE ? c - ZERO : (c | LOWER) - 87);
  if (at <= digits || (at < end && isWord(bytes[at]))) return -1;
  value[f] = n;
  return at;
}

/** "154.160" */
function us(bytes: Buffer, at: number, end: number, value: Float64Array, f: number): number {
  let n = 0, unit = 1000, point = false;
  const first = at;
  for (; at < end; at++) {
    const c = bytes[at];
    if (c === POINT && !point) point = true;
    else if (c >= ZERO && c <= NINE) { n = n * 10 + (c - ZERO); if (point) unit /= 10; } else break;
  }
  if (at === first) return -1;
  value[f] = Math.round(n * unit);
  return at;
}

function word(bytes: Buffer, at: number, end: number, value: Float64Array, f: number, words: [Uint8Array, number][]): number {
  for (let i = 0; i < words.length; i++) {
    const text = words[i][0], after = at + text.length;
    if (!startsWith(bytes, at, end, text) || (after < end && isWord(bytes[after]))) continue;
    value[f] = words[i][1];
    return after;
  }
  return -1;
}

const readers = { int, hex, us, word, afterHex };

/** An event's layouts compiled, once for all traces, so that what V8 learned of them stays; and what the last match read. */
const compiled = new Map<EventFormat, { layouts: Layout[]; match: Match }>();

function compiledFormat(format: EventFormat, names: string[]): { layouts: Layout[]; match: Match } {
  let done = compiled.get(format);
  if (done === undefined) {
    const match: Match = { value: new Float64Array(names.length), from: new Int32Array(names.length), to: new Int32Array(names.length) };
    compiled.set(format, done = { match, layouts: format.layouts.map((layout) => compile(layout, names, format, match)) });
  }
  return done;
}

function formatDecoder(format: EventFormat): Decoder {
  const names = Object.keys(format.fields);
  const { layouts, match: { value, from, to } } = compiledFormat(format, names);
  const numbers = names.map(() => new Numbers()), codes = names.map(() => new CodeColumn());
  const isNumber = names.map((name) => !["text", "hex64"].includes(format.fields[name].kind));
  const isHex64 = names.map((name) => format.fields[name].kind === "hex64");
  const derive = names.map((name) => {
    const rule = format.derive?.[name];
    return rule ? { from: rule.from.map((input) => names.indexOf(input)), say: rule.say, memo: new Map() as Memo } : null;
  });
  const info = new CodeColumn();

  /** The code of a text that follows from the numbers of the row at hand; -1 for none. */
  function deriveCode(f: number, printed: number[]): number {
    const { from: inputs, say, memo } = derive[f]!;
    let node = memo;
    const last = inputs.length - 1;
    for (let i = 0; i < last; i++) {
      const n = printed.includes(inputs[i]) ? value[inputs[i]] : NaN;
      let next = node.get(n) as Memo | undefined;
      if (next === undefined) node.set(n, next = new Map());
      node = next;
    }
    const n = printed.includes(inputs[last]) ? value[inputs[last]] : NaN;
    let code = node.get(n) as number | undefined;
    if (code === undefined) {
      const text = say(...inputs.map((input) => (printed.includes(input) ? value[input] : NaN)));
      node.set(n, code = text === null ? -1 : codes[f].dictionary.internString(text));
    }
    return code;
  }

  let latest = layouts[0]; // the layout that fitted last time fits most times

  return {
    known: true,
    count: 0,
    undecoded: 0,
    decode(bytes, start, end) {
      const row = this.count++, at = afterNoise(bytes, start, end);
      if (!latest.fits(bytes, at, end)) {
        const found = firstFit(layouts, bytes, at, end);
        if (found === null) {
          this.undecoded++;
          info.set(row, info.dictionary.intern(bytes, start, end));
          return;
        }
        latest = found;
      }
      const { numbers: printed, texts, derived } = latest;
      for (let i = 0; i < printed.length; i++) numbers[printed[i]].set(row, value, printed[i]);
      for (let i = 0; i < texts.length; i++) {
        const f = texts[i], column = codes[f];
        column.set(row, isHex64[f] ? hexCode(column.dictionary, bytes, from[f], to[f]) : column.dictionary.intern(bytes, from[f], to[f]));
      }
      for (let i = 0; i < derived.length; i++) {
        const code = deriveCode(derived[i], printed);
        if (code >= 0) codes[derived[i]].set(row, code);
      }
    },
    finish() {
      const columns: Record<string, Column<any>> = {}, specs: Columns = {};
      names.forEach((name, f) => {
        const column = isNumber[f] ? numbers[f].finish(this.count) : codes[f].finish(this.count, isHex64[f] ? "0x" : "");
        if (column === null) return; // no layout of this trace prints it
        columns[name] = column;
        specs[name] = format.fields[name].spec;
      });
      return { columns, specs, info: info.finish(this.count) };
    },
  };
}

function firstFit(layouts: Layout[], bytes: Buffer, at: number, end: number): Layout | null {
  for (const layout of layouts) if (layout.fits(bytes, at, end)) return layout;
  return null;
}

/** Texts by the numbers that they follow from, one level per number. */
type Memo = Map<number, Memo | number>;

const isHex = (c: number) => (c >= ZERO && c <= NINE) || ((c | LOWER) >= 97 && (c | LOWER) <= 102);
const isWord = (c: number) => (c >= ZERO && c <= NINE) || ((c | LOWER) >= 97 && (c | LOWER) <= 122) || c === 95;

function skipSpaces(bytes: Buffer, at: number, end: number): number {
  while (at < end && bytes[at] === SPACE) at++;
  return at;
}

function afterNoise(bytes: Buffer, at: number, end: number): number {
  for (;;) {
    const c = bytes[at];
    if (c !== 60 && c !== 67 && c !== 91 && c !== SPACE) return at; // < C [
    if (c === SPACE) { at = skipSpaces(bytes, at, end); if (at >= end) return end; continue; }
    let which = 0;
    while (which < NOISE.length && !startsWith(bytes, at, end, NOISE[which].text)) which++;
    if (which === NOISE.length) return at;
    const { text, close } = NOISE[which];
    let stop = at + text.length;
    while (stop < end && bytes[stop] !== close) stop++;
    if (stop >= end) return at;
    at = stop + 1;
  }
}

const lower = Buffer.alloc(32);
/** Interns hexadecimal digits in lower case, without leading zeros. */
function hexCode(dictionary: Dictionary, bytes: Buffer, from: number, to: number): number {
  while (from + 1 < to && bytes[from] === ZERO) from++;
  let upper = false;
  for (let i = from; i < to; i++) if (bytes[i] > NINE && bytes[i] < 97) { upper = true; break; }
  if (!upper) return dictionary.intern(bytes, from, to);
  const length = Math.min(to - from, lower.length);
  for (let i = 0; i < length; i++) lower[i] = bytes[from + i] > NINE ? bytes[from + i] | LOWER : bytes[from + i];
  return dictionary.intern(lower, 0, length);
}
