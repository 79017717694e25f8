import { Dictionary, DictionaryColumn, NullableColumn, type Column, type Columns } from "../source/columns.js";
import { eventFormats, type EventFormat, type FieldKind } from "./events.js";

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
  const info = new Codes();
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
  private data: Int8Array | Int16Array | Int32Array | Float64Array = new Int8Array(64);
  /** What the array at hand can hold. Below `least` stands null: one less, or NaN among doubles. */
  private least = -127;
  private most = 127;
  private length = 0;
  private nulls = false;

  set(row: number, x: number): void {
    if (x < this.least || x > this.most) this.widen(x);
    if (row >= this.data.length) this.grow(row);
    if (this.length < row) this.pad(row);
    this.data[row] = x;
    this.length = row + 1;
  }

  /** Null where every row is. */
  finish(rows: number): Column<number | null> | null {
    if (this.length === 0) return null;
    if (rows > this.data.length) this.grow(rows);
    if (this.length < rows) this.pad(rows);
    const { data, least } = this;
    if (!this.nulls) return data.slice(0, rows);
    const out = new Float64Array(rows);
    for (let i = 0; i < rows; i++) out[i] = data[i] < least ? NaN : data[i];
    return new NullableColumn(out);
  }

  private pad(row: number): void {
    this.data.fill(this.data instanceof Float64Array ? NaN : this.least - 1, this.length, row);
    this.length = row;
    this.nulls = true;
  }

  private grow(row: number): void {
    const more = new (this.data.constructor as Float64ArrayConstructor)(Math.max(row + 1, this.data.length * 2));
    more.set(this.data);
    this.data = more;
  }

  private widen(x: number): void {
    const { data, least, length } = this;
    const bits = Math.abs(x) <= 0x7fff ? 16 : Math.abs(x) <= 0x7fffffff ? 32 : 64;
    this.data = bits === 16 ? new Int16Array(data.length) : bits === 32 ? new Int32Array(data.length) : new Float64Array(data.length);
    this.most = bits === 64 ? Infinity : 2 ** (bits - 1) - 1;
    this.least = -this.most;
    const none = bits === 64 ? NaN : this.least - 1;
    for (let i = 0; i < length; i++) this.data[i] = data[i] < least ? none : data[i];
  }
}

/** A dictionary column, set row by row; rows left out are null. */
export class Codes {
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
    const codes = new Int32Array(rows).fill(-1, this.length);
    codes.set(this.data.subarray(0, this.length));
    const values = this.dictionary.values();
    return new DictionaryColumn(codes, prefix ? values.map((value) => prefix + value) : values);
  }
}

/** One step of a layout: literal bytes to be found, or a field to be read. All of one shape, for speed. */
interface Step {
  kind: FieldKind | "literal";
  /** A field's index, SKIP where it is not kept. */
  field: number;
  literal: Uint8Array;
  /** Of a text field: the byte that ends it at the earliest, that of the next step's literal; 0 where it reaches to the end. */
  stop: number;
  words: [Uint8Array, number][];
}

interface Layout { steps: Step[]; numbers: number[]; texts: number[]; derived: number[] }

const SPACE = 32, ZERO = 48, NINE = 57, MINUS = 45, POINT = 46, LOWER = 32;
const SKIP = -1;
/** A damaged line may fit a layout's beginning at very many places; no event that a kernel printed needs as many tries as this. */
const MOST_TRIES = 10_000;

/** What libtraceevent puts where a plugin found no field, before the text that the kernel's own format gives. */
const NOISE: [start: Uint8Array, end: number][] = [
  [Buffer.from("<CANT FIND FIELD "), 62 /* > */],
  [Buffer.from("CAN'T FIND FIELD \""), 34 /* " */],
  [Buffer.from("[FAILED TO PARSE"), 93 /* ] */],
];

function startsWith(bytes: Buffer, at: number, end: number, text: Uint8Array): boolean {
  if (at + text.length > end) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

function compile(layout: string, names: string[], format: EventFormat): Layout {
  const pieces = layout.split(/(\{\w+\})/).filter((piece) => piece !== "");
  const steps = pieces.map((piece, i): Step => {
    if (!/^\{\w+\}$/.test(piece)) return { kind: "literal", field: SKIP, literal: Buffer.from(piece), stop: 0, words: [] };
    const name = piece.slice(1, -1), next = pieces[i + 1];
    const { kind, words = {} } = name === "_" ? { kind: "text" as const } : format.fields[name];
    return {
      kind, field: name === "_" ? SKIP : names.indexOf(name), literal: Buffer.alloc(0), stop: next === undefined ? 0 : next.charCodeAt(0),
      words: Object.entries(words).map(([word, n]) => [Buffer.from(word), n]),
    };
  });
  const printed = steps.filter(({ field }) => field !== SKIP);
  const of = (...kinds: string[]) => printed.filter(({ kind }) => kinds.includes(kind)).map(({ field }) => field);
  return {
    steps, numbers: of("int", "hex", "us"), texts: of("text", "hex64"),
    derived: Object.keys(format.derive ?? {}).map((name) => names.indexOf(name)).filter((f) => !printed.some(({ field }) => field === f)),
  };
}

function formatDecoder(format: EventFormat): Decoder {
  const names = Object.keys(format.fields);
  const layouts = format.layouts.map((layout) => compile(layout, names, format));
  const numbers = names.map(() => new Numbers()), codes = names.map(() => new Codes());
  const isNumber = names.map((name) => !["text", "hex64"].includes(format.fields[name].kind));
  const isHex64 = names.map((name) => format.fields[name].kind === "hex64");
  const derive = names.map((name) => {
    const rule = format.derive?.[name];
    return rule ? { from: rule.from.map((input) => names.indexOf(input)), say: rule.say, memo: new Map() as Memo } : null;
  });
  const info = new Codes();

  // The match at hand: numbers, and where texts stand.
  const value = new Float64Array(names.length), from = new Int32Array(names.length), to = new Int32Array(names.length);
  // Text fields that could also end further on: their steps.
  const retry = new Int32Array(16), retryAt = new Int32Array(16);

  /** Matches a layout against `bytes[at, end)`. Text ends where the rest fits: comms may hold what comes next ("kworker/0:1:16 [120]"). */
  function match(steps: Step[], bytes: Buffer, at: number, end: number): boolean {
    let k = 0, depth = 0, tries = 0;
    for (;;) {
      at = k === steps.length ? (skipSpaces(bytes, at, end) === end ? end : -1) : step(steps[k], bytes, at, end);
      if (at >= 0) {
        if (k === steps.length) return true;
        const { kind, stop } = steps[k];
        if (kind === "text" && stop !== 0) { retry[depth] = k; retryAt[depth++] = at; }
        k++;
        continue;
      }
      // Back to the last text that may be longer.
      for (;;) {
        if (depth === 0 || ++tries > MOST_TRIES) return false;
        k = retry[depth - 1];
        const { stop, field } = steps[k];
        at = retryAt[depth - 1] + 1;
        while (at < end && bytes[at] !== stop) at++;
        if (at >= end) { depth--; continue; }
        retryAt[depth - 1] = at;
        if (field !== SKIP) to[field] = at;
        k++;
        break;
      }
    }
  }

  /** Reads one step at `at`; where it ends, or -1. */
  function step({ kind, field, literal, stop, words }: Step, bytes: Buffer, at: number, end: number): number {
    switch (kind) {
      case "literal":
        for (let i = 0; i < literal.length; i++) {
          const c = literal[i];
          if (at >= end || bytes[at] !== c) return -1;
          at++;
          if (c === SPACE) while (at < end && bytes[at] === SPACE) at++;
        }
        return at;
      case "text": {
        const begin = at;
        if (stop === 0) at = end;
        else while (at < end && bytes[at] !== stop) at++;
        if (stop !== 0 && at >= end) return -1;
        if (field !== SKIP) { from[field] = begin; to[field] = at; }
        return at;
      }
      case "hex64": {
        at = skipSpaces(bytes, at, end);
        if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === 120) at += 2;
        const begin = at;
        while (at < end && isHex(bytes[at])) at++;
        if (at === begin || at > end) return -1;
        let first = begin;
        while (first + 1 < at && bytes[first] === ZERO) first++;
        from[field] = first;
        to[field] = at;
        return at;
      }
      default: {
        at = skipSpaces(bytes, at, end);
        const begin = at;
        const minus = bytes[at] === MINUS;
        if (minus) at++;
        const prefixed = bytes[at] === ZERO && (bytes[at + 1] | LOWER) === 120;
        if (prefixed) at += 2;
        const digits = at;
        let n = 0;
        if (prefixed || kind === "hex") for (; at < end && isHex(bytes[at]); at++) n = n * 16 + (bytes[at] <= NINE ? bytes[at] - ZERO : (bytes[at] | LOWER) - 87);
        else for (; at < end && bytes[at] >= ZERO && bytes[at] <= NINE; at++) n = n * 10 + bytes[at] - ZERO;
        if (at > end) return -1;
        if (at === digits || (at < end && isWord(bytes[at]))) {
          for (const [word, number] of words) {
            if (!startsWith(bytes, begin, end, word) || (begin + word.length < end && isWord(bytes[begin + word.length]))) continue;
            value[field] = number;
            return begin + word.length;
          }
          return -1;
        }
        if (kind === "us") { // 154.160
          let decimals = 0;
          if (bytes[at] === POINT) for (at++; at < end && bytes[at] >= ZERO && bytes[at] <= NINE; at++, decimals++) n = n * 10 + bytes[at] - ZERO;
          n = Math.round(n * 10 ** (3 - decimals));
        }
        value[field] = minus ? -n : n;
        return at;
      }
    }
  }

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
      if (!match(latest.steps, bytes, at, end)) {
        const found = layouts.find((layout) => layout !== latest && match(layout.steps, bytes, at, end));
        if (!found) {
          this.undecoded++;
          info.set(row, info.dictionary.intern(bytes, start, end));
          return;
        }
        latest = found;
      }
      const { numbers: printed, texts, derived } = latest;
      for (let i = 0; i < printed.length; i++) numbers[printed[i]].set(row, value[printed[i]]);
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
    const noise = NOISE.find(([text]) => startsWith(bytes, at, end, text));
    if (noise === undefined) return at;
    let stop = at + noise[0].length;
    while (stop < end && bytes[stop] !== noise[1]) stop++;
    if (stop >= end) return at;
    at = stop + 1;
  }
}

const lower = Buffer.alloc(32);
/** Interns hexadecimal digits in lower case. */
function hexCode(dictionary: Dictionary, bytes: Buffer, from: number, to: number): number {
  let upper = false;
  for (let i = from; i < to; i++) if (bytes[i] > NINE && bytes[i] < 97) { upper = true; break; }
  if (!upper) return dictionary.intern(bytes, from, to);
  const length = Math.min(to - from, lower.length);
  for (let i = 0; i < length; i++) lower[i] = bytes[from + i] > NINE ? bytes[from + i] | LOWER : bytes[from + i];
  return dictionary.intern(lower, 0, length);
}
