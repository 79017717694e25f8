import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { Dictionary, DictionaryColumn, makeTable, newCodes, NullableColumn, tableOf, type Codes, type Column, type ColumnSpec, type Columns, type Words } from "../source/columns.js";
import { HEADER, parseText, ROW, UNKNOWN, type Format, type LineKind, type LineParser, type ParseOptions } from "../source/lines.js";
import { MissingEventError } from "../errors.js";
import { loadCached, type CachedLoadOptions } from "../store/cache.js";
import type { Trace } from "../trace.js";
import { eventFormats } from "./events.js";
import { EventDecoder, type EventFields } from "./event-decoder.js";
import { fieldsOfInfo } from "./event-info.js";
import { LineReader, NO_TGID, TGID_UNKNOWN } from "./trace-line.js";

// trace-cmd record -e kvm -e sched -e kprobes:kp_tun_get_user -- CMD; trace-cmd report
// Printed by trace-cmd's tracecmd/trace-read.c and libtraceevent's tep_print_event; the kernel's own trace file by
// kernel/trace/trace_output.c (trace_print_context); perf script's tracepoints by tools/perf/builtin-script.c.

export const traceCmd: Format<Trace, ParseOptions> = {
  name: "trace-cmd",
  command: "trace-cmd report",
  parser: ({ name }) => new TraceParser(name),
};

/**
 * Text of `trace-cmd report` (plain, -t, -l, -R, -N, -w, --ts-diff, several files), of the kernel's own
 * `trace` file, or tracepoint samples of `perf script` → Trace.
 * @throws ParseError where nothing in the text is an event.
 */
export function fromTraceCmd(input: string | Uint8Array, options: ParseOptions = {}): Trace {
  return parseText(input, traceCmd, options);
}

/** The same from a file (plain, .gz, .zst), bytes or chunks; with `cache`, the second time from what was kept beside the file. */
export function loadTraceCmd(source: Source, options: CachedLoadOptions = {}): Promise<Trace> {
  return loadCached(source, traceCmd, { apart: tracePartsOf, together: (parts: TraceParts, name) => traceOf({ ...parts, source: name }) }, options);
}

const base = {
  ts: { type: "number", unit: "ns", meaning: "When, since boot; ticks of the counter where the recorder used a raw clock." },
  cpu: { type: "number", unit: null, meaning: "Number of the CPU that recorded it." },
  pid: { type: "number", unit: null, meaning: "Thread id of the thread that ran there." },
  comm: { type: "string", unit: null, meaning: "That thread's name; <idle> for the idle task, <...> where the recorder did not know it." },
} as const satisfies Columns;
const sideColumn = { side: { type: "string", unit: null, meaning: "Which file of a merged report it came from.", null: "the line names none" } } as const satisfies Columns;
const flagsColumn = { flags: { type: "string", unit: null, meaning: "Latency field: irqs off, need-resched, hard or soft interrupt, preemption depth …", null: "the layout has none" } } as const satisfies Columns;
const tgidColumn = { tgid: { type: "number", unit: null, meaning: "Process id (the kernel's TGID column).", null: "the kernel had it no more" } } as const satisfies Columns;

const infoSpec = { type: "string", unit: null, meaning: "The event's own text, as printed.", null: "its columns say it all" } as const satisfies ColumnSpec;

export const traceEventColumns = {
  ...base,
  event: { type: "string", unit: null, meaning: "Name of the event, without its system." },
} as const satisfies Columns;

/** The table of each event that has columns of its own: those of every event, and its own. */
export const eventColumns: Record<string, Columns> = Object.fromEntries(Object.entries(eventFormats).map(([event, { fields }]) =>
  [event, { ...base, ...Object.fromEntries(Object.entries(fields).map(([name, { spec }]) => [name, spec])) }]));

export const lostColumns = {
  cpu: { type: "number", unit: null, meaning: "Number of the CPU whose events were lost." },
  count: { type: "number", unit: "count", meaning: "How many events were lost.", null: "the recorder did not say" },
  from: { type: "number", unit: "ns", meaning: "Time of that CPU's last event before.", null: "there is none" },
  to: { type: "number", unit: "ns", meaning: "Time of that CPU's next event.", null: "there is none" },
  position: { type: "number", unit: null, meaning: "Number of events that stand before it in the text, its index among them." },
  side: { type: "string", unit: null, meaning: "Which file of a merged report it came from.", null: "the report is of one file" },
} as const satisfies Columns;

export const sidesColumns = {
  side: { type: "string", unit: null, meaning: "Name of the file of a merged report, or of the trace joined." },
  cpus: { type: "number", unit: "count", meaning: "Number of CPUs of that machine: as its recorder names it, else 1 + the highest seen." },
  events: { type: "number", unit: "count", meaning: "Events that came from it." },
} as const satisfies Columns;

/** Lines without data: of trace-cmd and the kernel; libtraceevent's complaints about formats that it cannot print; the end of a report with -w. */
const HEADINGS = new RegExp([
  String.raw`^#`, String.raw`^version = \d+$`, String.raw`^CPU \d+ is empty$`, String.raw`^CPU:\d+ \[SUBBUFFER START\]$`,
  String.raw`^\[[\w-]+:[\w-]+\] `, String.raw`^(libtraceevent|trace-cmd|perf): `, String.raw`^(Error|Warning): `, String.raw`^could not load plugin `,
  String.raw`^Average wakeup latency: [\d.]+ usecs$`, String.raw`^(Maximum|Minimum) Latency: [\d.]+ usecs at timestamp: [\d.]+$`, "^RT task timings:?$",
].join("|"));

/** The columns of so many events. */
interface Block {
  ts: Float64Array; cpu: Int16Array; pid: Int32Array; comm: Int32Array; event: Int32Array; slot: Int32Array;
  /** What only some layouts print; -1 is null. */
  side: Int32Array | null; flags: Int32Array | null; tgid: Int32Array | null;
}
type Narrow = Codes | Float64Array;
const BLOCK = 1 << 16;
const newBlock = (): Block => ({
  ts: new Float64Array(BLOCK), cpu: new Int16Array(BLOCK), pid: new Int32Array(BLOCK), comm: new Int32Array(BLOCK), event: new Int32Array(BLOCK), slot: new Int32Array(BLOCK),
  side: null, flags: null, tgid: null,
});
const nulls = () => new Int32Array(BLOCK).fill(-1);

/** A class, not closures, so that what V8 compiled for one trace serves the next. */
class TraceParser implements LineParser<Trace> {
  private readonly reader = new LineReader();
  private readonly decoders: EventDecoder[] = [];
  private block = newBlock();
  private readonly blocks = [this.block];
  /** Rows in the last one. */
  private filled = 0;
  private readonly flagWords = new Dictionary();
  private cpus = 0;
  private readonly sideCpus: number[] = [];
  private readonly lost: Lost[] = [];
  private viewed: Uint8Array | null = null;
  private view = new DataView(new ArrayBuffer(0));

  constructor(private readonly source: string) {}

  line(b: Buffer, start: number, end: number): LineKind {
    if (b !== this.viewed) {
      this.viewed = b;
      this.view = new DataView(b.buffer, b.byteOffset, b.length);
    }
    const { reader, view } = this;
    if (!reader.read(b, view, start, end)) return this.other(b, reader.lineStart, end);
    if (this.filled === BLOCK) this.nextBlock();
    const { block } = this, row = this.filled++, code = reader.event, decoder = this.decoders[code] ??= new EventDecoder(reader.events.get(code));
    block.ts[row] = reader.ts[0];
    block.cpu[row] = reader.cpu;
    if (reader.cpu >= this.cpus) this.cpus = reader.cpu + 1;
    block.pid[row] = reader.pid;
    block.comm[row] = reader.comm;
    block.event[row] = code;
    block.slot[row] = decoder.count;
    decoder.decode(b, view, reader.info, reader.at, end);
    if (reader.flagEnd > 0) (block.flags ??= nulls())[row] = this.flagWords.intern(b, reader.flagStart, reader.flagEnd);
    if (reader.side >= 0) {
      (block.side ??= nulls())[row] = reader.side;
      if (reader.cpu >= this.sideCpus[reader.side]) this.sideCpus[reader.side] = reader.cpu + 1;
    }
    if (reader.tgid !== NO_TGID) (block.tgid ??= nulls())[row] = reader.tgid === TGID_UNKNOWN ? -1 : reader.tgid;
    return ROW;
  }

  private get length(): number { return (this.blocks.length - 1) * BLOCK + this.filled; }

  private nextBlock(): void {
    this.blocks.push(this.block = newBlock());
    this.filled = 0;
  }

  /** Everything that is not an event: headings, lost events, the tools' messages. */
  private other(b: Buffer, start: number, end: number): LineKind {
    const line = b.toString("latin1", start, Math.min(end, start + 400)).trim();
    let m: RegExpExecArray | null;
    if (line === "") return HEADER;
    // The second is the kernel's, for each CPU whose buffer begins later than the trace, where buffers overran: what was before is not said.
    if ((m = /^CPU:(\d{1,4}) \[(?:LOST )?(?:(\d+) )?EVENTS(?: DROPPED)?\]$/.exec(line) ?? /^##### CPU (\d{1,4}) buffer started ####$/.exec(line))) {
      this.lost.push({ cpu: Number(m[1]), count: m[2] ? Number(m[2]) : null, from: null, to: null, position: this.length, sideCode: this.reader.side });
      return ROW;
    }
    if ((m = /^(?:(.+): *)?cpus=(\d{1,4})$/.exec(line))) {
      this.cpus = Math.max(this.cpus, Number(m[2]));
      if (m[1]) {
        const s = this.reader.addSide(Buffer.from(m[1], "latin1"));
        if (s < 0) return UNKNOWN;
        this.sideCpus[s] ??= Number(m[2]);
      }
      return HEADER;
    }
    return HEADINGS.test(line) ? HEADER : UNKNOWN;
  }

  finish(): Trace {
    const { source, length, reader, cpus, lost } = this, { sideNames } = reader;
    const strings = (codes: Codes | null, words: Words | readonly string[]) => codes && new DictionaryColumn(codes, words);
    const ts = this.join("ts", new Float64Array(length))!, cpu = this.join("cpu", new Int16Array(length))!;
    const side = strings(this.join("side", newCodes(length, sideNames.length)), sideNames);
    const tgid = this.join("tgid", new Int32Array(length));
    surroundLost(lost, ts, cpu, side?.codes ?? null);
    return traceOf({
      source, length, ts, cpu, side, pid: this.join("pid", new Int32Array(length))!, slot: this.join("slot", new Int32Array(length))!,
      comm: strings(this.join("comm", newCodes(length, reader.comms.size)), reader.comms)!, event: strings(this.join("event", newCodes(length, reader.events.size)), reader.events)!,
      flags: strings(this.join("flags", newCodes(length, this.flagWords.size)), this.flagWords),
      tgid: tgid?.includes(-1) ? new NullableColumn(Float64Array.from(tgid, (x) => (x < 0 ? NaN : x))) : tgid,
      own: this.decoders.map((decoder) => ({ count: decoder.count, known: decoder.known, fields: decoder.finish() })),
      undecoded: this.decoders.reduce((sum, decoder) => sum + decoder.undecoded, 0), cpus, sides: sideNames.length > 0 ? sideNames.map((name, s) => ({ side: name, cpus: this.sideCpus[s] })) : null,
      lost: tableOf(lostColumns, lost.map(({ sideCode, ...gap }) => ({ ...gap, side: sideNames[sideCode] ?? null }))),
    });
  }

  /** A column of all blocks, which let go of theirs, so that one column at a time is in memory twice; null where no line had it. */
  private join<A extends Narrow>(name: keyof Block, all: A): A | null {
    if (this.blocks.every((block) => block[name] === null)) return null;
    this.blocks.forEach((block, i) => {
      const start = i * BLOCK, rows = Math.min(BLOCK, all.length - start), { [name]: column } = block;
      if (column === null) all.fill(-1, start, start + rows);
      else all.set(column.subarray(0, rows), start);
      block[name] = null as never;
    });
    return all;
  }
}

interface Lost { cpu: number; count: number | null; from: number | null; to: number | null; position: number; sideCode: number }

/** Finds the times of the events of the same CPU before and after each gap. Gaps are in the order of the text. */
function surroundLost(lost: Lost[], ts: Float64Array, cpu: Int16Array, side: Codes | null): void {
  if (lost.length === 0) return;
  const place = (cpuNumber: number, sideCode: number) => (sideCode + 1) * 65536 + cpuNumber;
  const before = new Map<number, number>();
  let row = 0;
  for (const gap of lost) {
    for (; row < gap.position; row++) before.set(place(cpu[row], side ? side[row] : -1), ts[row]);
    gap.from = before.get(place(gap.cpu, gap.sideCode)) ?? null;
  }
  const after = new Map<number, number>();
  row = ts.length;
  for (const gap of lost.slice().reverse()) {
    while (row > gap.position) after.set(place(cpu[--row], side ? side[row] : -1), ts[row]);
    gap.to = after.get(place(gap.cpu, gap.sideCode)) ?? null;
  }
}

/** What all traces are made of; columns of all events, in the order of the text. */
interface SharedParts {
  source: string; length: number; ts: Float64Array; cpu: Int16Array; pid: Int32Array; comm: DictionaryColumn; event: DictionaryColumn; slot: Int32Array;
  side: DictionaryColumn | null; flags: DictionaryColumn | null; tgid: Column<any> | null;
  undecoded: number; lost: ColumnTable; cpus: number; sides: { side: string; cpus: number }[] | null;
}

/** Parts that are plain values, columns and one table. `own` holds for each code of `event` that event's own columns. */
export interface TraceParts extends SharedParts {
  /** known: its columns are made already; else they are read from its info when asked for. */
  own: { count: number; known: boolean; fields: EventFields }[];
}

/** Parts whose events' own columns are made when somebody asks for them. */
export interface LazyTraceParts extends SharedParts {
  /** An event's own columns, by its code. */
  own: (code: number) => EventFields;
  /** What of an event's text its columns do not say, by its code. */
  infos: (Column<string | null> | null)[];
}

const partsOf = new WeakMap<Trace, TraceParts>();

/** What a trace that `traceOf` made is made of; null of others. */
export const tracePartsOf = (trace: Trace): TraceParts | null => partsOf.get(trace) ?? null;

/** Makes a trace of its parts. For what reads traces. */
export function traceOf(parts: TraceParts): Trace {
  const { own } = parts, fields = own.map((one) => one.fields);
  // What an event's text says is asked of it when somebody wants to know.
  const ofCode = (code: number): EventFields => (fields[code] = fields[code].info && !own[code].known ? fieldsOfInfo(parts.event.words.get(code), fields[code].info!) : fields[code]);
  const trace = makeTrace({ ...parts, own: ofCode, infos: own.map((one) => one.fields.info) });
  partsOf.set(trace, parts);
  return trace;
}

/** Makes a trace of its parts. For what puts traces together. */
export function makeTrace(parts: LazyTraceParts): Trace {
  const { source, length, ts, cpu, pid, comm, event, slot, side, flags, tgid, lost, cpus } = parts;
  const codeOf = new Map(event.values.map((name, code) => [name, code]));
  const counts = new Int32Array(event.values.length);
  for (let i = 0; i < length; i++) counts[event.codes[i]]++;
  const tables = new Map<string, ColumnTable>();
  const eventNames = event.values.map((name, code) => ({ name, n: counts[code] })).sort((a, b) => b.n - a.n).map(({ name }) => name);
  let all: ColumnTable | null = null;
  const fieldsOf = (name: string) => {
    const code = codeOf.get(name);
    return code === undefined ? null : parts.own(code);
  };
  const trace: Trace = {
    source,
    eventNames,
    lost,
    cpus,
    sides: parts.sides && tableOf(sidesColumns, parts.sides.map(({ side: name, cpus: n }) => ({ side: name, cpus: n, events: countOf(side, name) }))),
    undecoded: parts.undecoded,
    get events() {
      if (all) return all;
      const info = infoColumn(event, slot, parts.infos);
      const columns: Columns = { ...traceEventColumns, ...(side ? sideColumn : {}), ...(flags ? flagsColumn : {}), ...(tgid ? tgidColumn : {}), ...(info ? { info: infoSpec } : {}) };
      return (all = makeTable(columns, { ts, cpu, pid, comm, event, ...(side ? { side } : {}), ...(flags ? { flags } : {}), ...(tgid ? { tgid } : {}), ...(info ? { info } : {}) }));
    },
    of(name) {
      const made = tables.get(name);
      if (made) return made;
      const own = fieldsOf(name);
      const code = codeOf.get(name);
      if (own === null || code === undefined) throw new MissingEventError(`trace.of("${name}")`, [name], eventNames, `trace-cmd record -e ${name}`);
      const rows = new Int32Array(counts[code]);
      for (let i = 0; i < length; i++) if (event.codes[i] === code) rows[slot[i]] = i;
      const columns: Columns = { ...base, ...(side ? sideColumn : {}), ...own.specs };
      const data: Record<string, Column<any>> = {
        ts: Float64Array.from(rows, (i) => ts[i]), cpu: Int16Array.from(rows, (i) => cpu[i]), pid: Int32Array.from(rows, (i) => pid[i]),
        comm: comm.take(rows),
        ...(side ? { side: side.take(rows) } : {}),
        ...own.columns,
        ...(own.info ? { info: own.info } : {}),
      };
      if (own.info) columns.info = infoSpec;
      const table = makeTable(columns, data);
      tables.set(name, table);
      return table;
    },
    raw: {
      length, ts, cpu, pid, comm, event, slot, side,
      fields: (name) => fieldsOf(name)?.columns ?? null,
      fieldSpecs: (name) => fieldsOf(name)?.specs ?? {},
    },
  };
  return trace;
}

function countOf(side: DictionaryColumn | null, name: string): number {
  let n = 0;
  const code = side ? side.values.indexOf(name) : -1;
  if (side) for (const c of side.codes) if (c === code) n++;
  return n;
}

/** Texts of the events whose columns do not say it all, by their place among all events; null where there are none. Read from the events' own columns, to cost no memory. */
function infoColumn(event: DictionaryColumn, slot: Int32Array, infos: (Column<string | null> | null)[]): Column<string | null> | null {
  if (infos.every((info) => info === null)) return null;
  const at = (row: number) => infos[event.codes[row]]?.at(slot[row]) ?? null;
  return {
    length: slot.length,
    at,
    *[Symbol.iterator]() { for (let row = 0; row < slot.length; row++) yield at(row); },
  };
}
