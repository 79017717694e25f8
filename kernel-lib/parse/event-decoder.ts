import { Dictionary, DictionaryColumn, type Column, type Columns, type Words } from "../source/columns.js";
import { NarrowBuilder } from "../source/narrow.js";
import { compileLayout, fits, type Layout, type Match } from "./event-layout.js";
import { hashOf, Recent } from "./recent.js";
import { eventFormats, type EventFormat } from "./events.js";

/** An event's own columns. */
export interface EventFields {
  columns: Record<string, Column<any>>;
  specs: Columns;
  /** The text of events that have no columns, or that no layout fits (null where one did); null where all were decoded. */
  info: DictionaryColumn | null;
}

/** Rows that wait until their columns are appended to. */
const BLOCK = 512;
/** Texts of an event that are remembered. */
const PLACES = 64;

/** An event's format made ready, once for all traces. */
interface Format extends EventFormat {
  names: string[];
  compiled: Layout[];
  rules: Rule[];
}
/** A text field that follows from numbers. */
interface Rule { field: number; from: number[]; say: (...numbers: number[]) => string | null }

const formats = new Map<string, Format | null>();

function formatOf(event: string): Format | null {
  let format = formats.get(event);
  if (format === undefined && Object.hasOwn(eventFormats, event)) {
    const of = eventFormats[event], names = Object.keys(of.fields);
    formats.set(event, format = {
      ...of, names, compiled: of.layouts.map((layout) => compileLayout(layout, names, of)),
      rules: Object.entries(of.derive ?? {}).map(([name, { from, say }]) => ({ field: names.indexOf(name), from: from.map((input) => names.indexOf(input)), say })),
    });
  }
  return format ?? null;
}

/** Distinct 64-bit numbers ↔ small integers; as words they read "0x…". */
class HexWords implements Words {
  private upper = new Int32Array(64);
  private lower = new Int32Array(64);
  /** Codes by hash; -1 is free. */
  private table: Int32Array = new Int32Array(128).fill(-1);
  size = 0;

  intern(upper: number, lower: number): number {
    const mask = this.table.length - 1;
    for (let slot = hexHash(upper, lower) & mask; ; slot = (slot + 1) & mask) {
      const code = this.table[slot];
      if (code < 0) return this.add(upper, lower, slot);
      if (this.lower[code] === lower && this.upper[code] === upper) return code;
    }
  }

  get(code: number): string {
    const upper = this.upper[code], lower = this.lower[code] >>> 0;
    return upper === 0 ? `0x${lower.toString(16)}` : `0x${(upper >>> 0).toString(16)}${lower.toString(16).padStart(8, "0")}`;
  }

  /** Lets go of what is needed to add more. */
  finish(): Words {
    this.table = new Int32Array(0);
    this.upper = this.upper.slice(0, this.size);
    this.lower = this.lower.slice(0, this.size);
    return this;
  }

  private add(upper: number, lower: number, slot: number): number {
    const code = this.size++;
    if (code === this.upper.length) {
      this.upper = longer(this.upper);
      this.lower = longer(this.lower);
    }
    this.upper[code] = upper;
    this.lower[code] = lower;
    this.table[slot] = code;
    if (this.size * 2 > this.table.length) {
      const table = new Int32Array(this.table.length * 2).fill(-1), mask = table.length - 1;
      for (let c = 0; c < this.size; c++) {
        let free = hexHash(this.upper[c], this.lower[c]) & mask;
        while (table[free] >= 0) free = (free + 1) & mask;
        table[free] = c;
      }
      this.table = table;
    }
    return code;
  }
}

function hexHash(upper: number, lower: number): number {
  const hash = Math.imul(lower ^ Math.imul(upper, 0x85ebca6b), 0x9e3779b1);
  return hash ^ (hash >>> 15);
}

function longer(old: Int32Array): Int32Array {
  const more = new Int32Array(old.length * 2);
  more.set(old);
  return more;
}

/** Takes an event's infos, line by line, and appends to its columns. */
export class EventDecoder {
  /** One stays, as V8 drops what it compiled for a class with its last object, and to compile it all anew takes as long as to read ten megabytes. */
  static readonly kept = new EventDecoder("kvm_exit");

  count = 0;
  /** How many of a known event's texts no layout fitted. */
  undecoded = 0;
  /** Null where the event has no columns in events.ts: then its text is kept, each distinct one once. */
  private readonly format: Format | null;
  private readonly fields: number;
  /** Fields of the rows that wait, one behind the other, and behind them info. Texts are codes; NaN is null. */
  private readonly pending: Float64Array;
  private waiting = 0;
  private readonly match: Match;
  private readonly columns: NarrowBuilder[];
  private readonly texts: (Dictionary | null)[];
  private readonly hexes: (HexWords | null)[];
  private readonly memos: Memo[];
  /** Texts read lately and what they said, while at least a quarter of the texts come again. */
  private readonly recent = new Recent(PLACES);
  private readonly recentValues: Float64Array;
  private comesAgain: boolean;
  private again = 0;
  /** The layout that fitted last time fits most times. */
  private latest: Layout | null = null;
  /** By field: whether any row has it. */
  private readonly seen: Uint8Array;

  constructor(event: string) {
    const format = this.format = formatOf(event), kinds = (format?.names ?? []).map((name) => format!.fields[name].kind);
    this.fields = kinds.length;
    this.pending = new Float64Array((kinds.length + 1) * BLOCK).fill(NaN);
    this.match = { numbers: this.pending, stride: BLOCK, row: 0, from: new Int32Array(kinds.length), to: new Int32Array(kinds.length) };
    this.columns = [...kinds, "text"].map((kind) => new NarrowBuilder(kind === "text" || kind === "hex64"));
    this.texts = [...kinds, "text"].map((kind) => (kind === "text" ? new Dictionary() : null));
    this.hexes = kinds.map((kind) => (kind === "hex64" ? new HexWords() : null));
    this.memos = (format?.rules ?? []).map(() => new Map() as Memo);
    this.seen = new Uint8Array(kinds.length + 1);
    this.recentValues = new Float64Array(PLACES * kinds.length);
    this.comesAgain = format !== null;
  }

  get known(): boolean { return this.format !== null; }

  /** The info is `bytes[start, end)`; what a tool complains of stands before `at`. `bytes[end]` has to be there and to end the line; `view` is of the same bytes. */
  decode(bytes: Buffer, view: DataView, start: number, at: number, end: number): void {
    if (this.waiting === BLOCK) this.flush();
    this.count++;
    const row = this.match.row = this.waiting++, length = end - at;
    if (!this.comesAgain || length < 4) {
      this.read(bytes, view, start, at, end, row);
      return;
    }
    const { pending, recent, recentValues, fields } = this, place = hashOf(view, at, length) & (PLACES - 1), values = place * fields;
    if (recent.length[place] === length && recent.matches(place, view, at, end)) {
      this.again++;
      for (let f = 0; f < fields; f++) pending[f * BLOCK + row] = recentValues[values + f];
    } else if (this.read(bytes, view, start, at, end, row) && recent.keep(place, view, at, length)) {
      for (let f = 0; f < fields; f++) recentValues[values + f] = pending[f * BLOCK + row];
    }
  }

  /** False where no layout fits. */
  private read(bytes: Buffer, view: DataView, start: number, at: number, end: number, row: number): boolean {
    const { match, pending } = this;
    if (this.latest === null || !fits(this.latest, bytes, view, at, end, match)) {
      this.latest = this.firstFit(bytes, view, at, end);
      if (this.latest === null) {
        if (this.format !== null) this.undecoded++;
        pending[this.fields * BLOCK + row] = this.texts[this.fields]!.intern(bytes, start, end);
        this.seen[this.fields] = 1;
        return false;
      }
    }
    const { texts, hexes } = this.latest, { from, to } = match;
    for (let i = 0; i < texts.length; i++) {
      const f = texts[i];
      pending[f * BLOCK + row] = this.texts[f]!.intern(bytes, from[f], to[f]);
    }
    for (let i = 0; i < hexes.length; i++) {
      const f = hexes[i];
      pending[f * BLOCK + row] = this.hexes[f]!.intern(from[f], to[f]);
    }
    return true;
  }

  private firstFit(bytes: Buffer, view: DataView, at: number, end: number): Layout | null {
    if (this.format === null) return null;
    const { row } = this.match;
    for (const layout of this.format.compiled) {
      for (let f = 0; f < this.fields; f++) this.pending[f * BLOCK + row] = NaN; // what the layout tried before this one read
      if (!fits(layout, bytes, view, at, end, this.match)) continue;
      for (let i = 0; i < layout.fields.length; i++) this.seen[layout.fields[i]] = 1;
      return layout;
    }
    for (let f = 0; f < this.fields; f++) this.pending[f * BLOCK + row] = NaN;
    return null;
  }

  private flush(): void {
    const { waiting, pending, seen } = this, before = this.count - waiting;
    this.format?.rules.forEach((rule, i) => { this.derive(rule, this.memos[i]); });
    for (let f = 0; f < seen.length; f++) {
      if (seen[f] === 0) continue;
      this.columns[f].pad(before);
      this.columns[f].append(pending, f * BLOCK, f * BLOCK + waiting);
      pending.fill(NaN, f * BLOCK, f * BLOCK + waiting);
    }
    if (before >= BLOCK && this.again < waiting / 4) this.comesAgain = false;
    this.again = this.waiting = 0;
  }

  /** Fills a text column in rows whose layout does not print it, from the numbers that it does. */
  private derive({ field, from, say }: Rule, memo: Memo): void {
    const { pending, seen } = this;
    if (!from.some((input) => seen[input])) return;
    seen[field] = 1;
    for (let row = 0; row < this.waiting; row++) {
      const place = field * BLOCK + row;
      if (pending[place] === pending[place]) continue;
      let node: Memo | number | undefined = memo, known = false;
      for (let i = 0; i < from.length; i++) {
        const n = pending[from[i] * BLOCK + row], map = node as Memo;
        if (n === n) known = true;
        node = map.get(n);
        if (node === undefined) {
          if (i < from.length - 1) node = new Map() as Memo;
          else {
            const text = say(...from.map((input) => pending[input * BLOCK + row]));
            node = text === null ? NaN : this.texts[field]!.internString(text);
          }
          map.set(n, node);
        }
      }
      if (known) pending[place] = node as number;
    }
  }

  finish(): EventFields {
    this.flush();
    const columns: Record<string, Column<any>> = {}, specs: Columns = {}, { format, seen, fields } = this;
    format?.names.forEach((name, f) => {
      if (seen[f] === 0) return; // no layout of this trace prints it
      const { kind, spec } = format.fields[name];
      columns[name] = kind === "text" ? this.columns[f].strings(this.texts[f]!) : kind === "hex64" ? this.columns[f].strings(this.hexes[f]!.finish()) : this.columns[f].numbers();
      specs[name] = spec;
    });
    return { columns, specs, info: seen[fields] ? this.columns[fields].strings(this.texts[fields]!) : null };
  }
}

/** Texts by the numbers that they follow from, one level per number; NaN for none. */
type Memo = Map<number, Memo | number>;
