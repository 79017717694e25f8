import { Dictionary, DictionaryColumn, IntBuilder, NullableColumn, NumberBuilder, type Column, type Columns } from "../source/columns.js";
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
  decode(bytes: Buffer, start: number, end: number): void;
  finish(): EventFields;
}

export function decoderOf(event: string): Decoder {
  const format = Object.hasOwn(eventFormats, event) ? eventFormats[event] : undefined;
  return format ? formatDecoder(format) : textDecoder();
}

/** Keeps the text, each distinct one once. */
function textDecoder(): Decoder {
  const dictionary = new Dictionary(), codes = new IntBuilder();
  return {
    known: false,
    count: 0,
    decode(bytes, start, end) {
      codes.push(dictionary.intern(bytes, start, end));
      this.count++;
    },
    finish: () => ({ columns: {}, specs: {}, info: new DictionaryColumn(codes.finish(), dictionary.values()) }),
  };
}

/** One step of a layout: literal bytes, or a field up to the next literal. */
type Step = { literal: Buffer } | { field: number; kind: FieldKind; words: [Buffer, number][] | null };

const SPACE = 32, ZERO = 48, NINE = 57, MINUS = 45, LOWER = 32;
const SKIP = -1;
/** No kernel event is longer; a damaged line may be, and trying where its texts end could then take very long. */
const LONGEST = 5000;

/** What libtraceevent puts where a plugin found no field, before the text that the kernel's own format gives. */
const NOISE: [start: Buffer, end: number][] = [
  [Buffer.from("<CANT FIND FIELD "), 62 /* > */],
  [Buffer.from("CAN'T FIND FIELD \""), 34 /* " */],
  [Buffer.from("[FAILED TO PARSE"), 93 /* ] */],
];

function startsWith(bytes: Buffer, at: number, end: number, text: Buffer): boolean {
  if (at + text.length > end) return false;
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
  return true;
}

function compile(layout: string, names: string[], format: EventFormat): Step[] {
  return layout.split(/(\{\w+\})/).filter((piece) => piece !== "").map((piece): Step => {
    if (!/^\{\w+\}$/.test(piece)) return { literal: Buffer.from(piece) };
    const name = piece.slice(1, -1);
    if (name === "_") return { field: SKIP, kind: "text", words: null };
    const { kind, words } = format.fields[name];
    return { field: names.indexOf(name), kind, words: words ? Object.entries(words).map(([word, n]) => [Buffer.from(word), n]) : null };
  });
}

function formatDecoder(format: EventFormat): Decoder {
  const names = Object.keys(format.fields);
  const kinds = names.map((name) => format.fields[name].kind);
  const layouts = format.layouts.map((layout) => compile(layout, names, format));
  const numbers = kinds.map((kind) => (kind === "int" || kind === "hex" ? new NumberBuilder() : null));
  const dictionaries = kinds.map((kind) => (kind === "hex64" || kind === "text" ? new Dictionary() : null));
  const codes = dictionaries.map((dictionary) => (dictionary ? new IntBuilder() : null));
  const derived = new Map(Object.keys(format.derive ?? {}).map((name) => [names.indexOf(name), { of: format.derive![name], memo: new Map<string, number>() }]));
  const texts = new Dictionary(), info = new IntBuilder();
  let undecoded = 0;

  // The match at hand: a number, or where the text stands; set says which fields it has.
  const value = new Float64Array(names.length), from = new Int32Array(names.length), to = new Int32Array(names.length), set = new Uint8Array(names.length);

  /** Matches steps[k…] at `at`; blanks in a literal stand for one or more, and so do those before a number. */
  function match(steps: Step[], k: number, bytes: Buffer, at: number, end: number): boolean {
    for (; k < steps.length; k++) {
      const step = steps[k];
      if ("literal" in step) {
        at = literalAt(step.literal, bytes, at, end);
        if (at < 0) return false;
        continue;
      }
      const { field, kind } = step;
      if (kind === "text") {
        if (k + 1 === steps.length) {
          if (field !== SKIP) { from[field] = at; to[field] = end; set[field] = 1; }
          return true;
        }
        // Text ends where the rest of the layout fits: comms may hold what comes next ("kworker/0:1:16 [120]").
        const next = steps[k + 1];
        const first = "literal" in next ? next.literal[0] : SPACE;
        for (let stop = bytes.indexOf(first, at); stop >= 0 && stop < end; stop = bytes.indexOf(first, stop + 1)) {
          if (match(steps, k + 1, bytes, stop, end)) {
            if (field !== SKIP) { from[field] = at; to[field] = stop; set[field] = 1; }
            return true;
          }
        }
        return false;
      }
      while (at < end && bytes[at] === SPACE) at++;
      const begin = at;
      if (kind === "hex64") {
        if (bytes[at] === ZERO && (bytes[at + 1] | LOWER) === 120) at += 2;
        const digits = at;
        while (at < end && isHex(bytes[at])) at++;
        if (at === digits) return false;
        from[field] = digits;
        to[field] = at;
        set[field] = 1;
        continue;
      }
      const minus = bytes[at] === MINUS;
      if (minus) at++;
      let n = 0;
      const hex = bytes[at] === ZERO && (bytes[at + 1] | LOWER) === 120;
      const digits = hex ? at + 2 : at;
      at = digits;
      if (hex || kind === "hex") for (; at < end && isHex(bytes[at]); at++) n = n * 16 + (bytes[at] <= NINE ? bytes[at] - ZERO : (bytes[at] | LOWER) - 87);
      else for (; at < end && bytes[at] >= ZERO && bytes[at] <= NINE; at++) n = n * 10 + bytes[at] - ZERO;
      if (at === digits || (at < end && isWordByte(bytes[at]))) {
        const word = step.words?.find(([text]) => startsWith(bytes, begin, end, text) && !isWordByte(bytes[begin + text.length]));
        if (!word) return false;
        n = word[1];
        at = begin + word[0].length;
      } else if (minus) n = -n;
      // "Latency: 154.160 usecs" is a decimal number of µs.
      if (bytes[at] === 46 && kind === "int") {
        let digits2 = 0;
        for (at++; at < end && bytes[at] >= ZERO && bytes[at] <= NINE; at++, digits2++) n = n * 10 + bytes[at] - ZERO;
        n *= 10 ** (3 - digits2);
      }
      value[field] = n;
      set[field] = 1;
    }
    while (at < end && bytes[at] === SPACE) at++;
    return at === end;
  }

  let last = 0; // the layout that fitted last time fits most times

  return {
    known: true,
    count: 0,
    decode(bytes, start, end) {
      this.count++;
      let at = start;
      for (let again = true; again;) {
        again = false;
        const c = bytes[at];
        if (c !== 60 && c !== 67 && c !== 91) break;
        for (const [text, close] of NOISE) {
          if (!startsWith(bytes, at, end, text)) continue;
          const stop = bytes.indexOf(close, at + text.length);
          if (stop < 0 || stop >= end) continue;
          at = stop + 1;
          while (at < end && bytes[at] === SPACE) at++;
          again = true;
        }
      }
      set.fill(0);
      let fits = end - start <= LONGEST && match(layouts[last], 0, bytes, at, end);
      for (let i = 0; !fits && end - start <= LONGEST && i < layouts.length; i++) {
        set.fill(0);
        if ((fits = match(layouts[i], 0, bytes, at, end))) last = i;
      }
      if (!fits) { set.fill(0); undecoded++; }
      info.push(fits ? -1 : texts.intern(bytes, start, end));
      for (let f = 0; f < names.length; f++) {
        const number = numbers[f];
        if (number) number.push(set[f] ? value[f] : NaN);
        else if (!set[f]) codes[f]!.push(fits && derived.has(f) ? derive(f) : -1);
        else if (kinds[f] === "hex64") codes[f]!.push(hexCode(dictionaries[f]!, bytes, from[f], to[f]));
        else codes[f]!.push(dictionaries[f]!.intern(bytes, from[f], to[f]));
      }
    },
    finish() {
      const columns: Record<string, Column<any>> = {}, specs: Columns = {};
      names.forEach((name, f) => {
        const number = numbers[f];
        const column = number ? number.finish() : new DictionaryColumn(codes[f]!.finish(), dictionaries[f]!.values());
        if (isEmpty(column)) return; // no layout of this trace prints it
        columns[name] = column;
        specs[name] = { ...format.fields[name].spec };
      });
      return { columns, specs, info: undecoded > 0 ? new DictionaryColumn(info.finish(), texts.values()) : null };
    },
  };

  function derive(f: number): number {
    const { of, memo } = derived.get(f)!;
    let key = "";
    const seen: Record<string, number> = {};
    for (let i = 0; i < names.length; i++) if (numbers[i] && set[i]) { seen[names[i]] = value[i]; if (value[i] < 1e6) key += `${i}:${value[i]};`; }
    let code = memo.get(key);
    if (code === undefined) {
      const text = of(seen);
      code = text === null ? -1 : dictionaries[f]!.internString(text);
      memo.set(key, code);
    }
    return code;
  }
}

const isHex = (c: number) => (c >= ZERO && c <= NINE) || ((c | LOWER) >= 97 && (c | LOWER) <= 102);
const isWordByte = (c: number) => (c >= ZERO && c <= NINE) || ((c | LOWER) >= 97 && (c | LOWER) <= 122) || c === 95;

function literalAt(literal: Buffer, bytes: Buffer, at: number, end: number): number {
  for (let i = 0; i < literal.length; i++) {
    const c = literal[i];
    if (c === SPACE) {
      if (bytes[at] !== SPACE || at >= end) return -1;
      while (at < end && bytes[at] === SPACE) at++;
    } else {
      if (at >= end || bytes[at] !== c) return -1;
      at++;
    }
  }
  return at;
}

const scratch = Buffer.alloc(34);
/** Interns hexadecimal digits with 0x before them, in lower case. */
function hexCode(dictionary: Dictionary, bytes: Buffer, from: number, to: number): number {
  const length = Math.min(to - from, 32);
  scratch[0] = ZERO;
  scratch[1] = 120;
  for (let i = 0; i < length; i++) {
    const c = bytes[from + i];
    scratch[i + 2] = c > NINE ? c | LOWER : c;
  }
  return dictionary.intern(scratch, 0, length + 2);
}

function isEmpty(column: Float64Array | NullableColumn | DictionaryColumn): boolean {
  if (column.length === 0) return true;
  if (column instanceof NullableColumn) return column.data.every((x) => x !== x);
  return column instanceof DictionaryColumn && column.values.length === 0;
}
