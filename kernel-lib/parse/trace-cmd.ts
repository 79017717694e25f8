import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { Dictionary, DictionaryColumn, makeTable, narrowCodes, NullableColumn, tableOf, type Codes, type Column, type ColumnSpec, type Columns } from "../source/columns.js";
import { HEADER, parseText, ROW, UNKNOWN, type Format, type LineKind, type LineParser, type ParseOptions } from "../source/lines.js";
import { MissingEventError } from "../errors.js";
import { loadCached, type CachedLoadOptions } from "../store/cache.js";
import type { Trace } from "../trace.js";
import { eventFormats } from "./events.js";
import { CodeColumn, decoderOf, Numbers, type Decoder, type EventFields } from "./event-decoder.js";
import { fieldsOfInfo } from "./event-info.js";

// trace-cmd record -e kvm -e sched -e kprobes:kp_tun_get_user -- CMD; trace-cmd report
// Printed by trace-cmd's tracecmd/trace-read.c and libtraceevent's tep_print_event; the kernel's own trace file by
// kernel/trace/trace_output.c (trace_print_context); perf script's tracepoints by tools/perf/builtin-script.c.
//
//      trace.dat:  qemu-system-aar-696   [001] d....   667.657586: (+329)   kvm_exit:   <CANT FIND FIELD exit_reason>TRAP: …
//      └ side     └ comm           └ pid └ cpu └ flags └ time      └ --ts-diff └ event  └ info

export const traceCmd: Format<Trace, ParseOptions> = {
  name: "trace-cmd",
  command: "trace-cmd report",
  parser: ({ name }) => traceParser(name),
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

const SPACE = 32, TAB = 9, HASH = 35, COLON = 58, LBRACKET = 91, RBRACKET = 93, LPAREN = 40, RPAREN = 41, PLUS = 43, DOT = 46, DASH = 45, SLASH = 47, ZERO = 48, NINE = 57;
const isDigit = (c: number) => c >= ZERO && c <= NINE;
const isBlank = (c: number) => c === SPACE || c === TAB;
/** ns per unit of the last of that many decimals. */
const FRACTION = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1];
// Damaged lines stay cheap: nothing below looks further than what a tool prints, however often a line seems to begin anew.
const LONGEST_FLAGS = 16, LONGEST_TGID = 12, LONGEST_DIFF = 32, MOST_SIDES = 100, MOST_PID = 0x7fffffff;
/** What `lineTgid` says where there is no such column, and where it reads "(-----)". */
const NO_TGID = -2, TGID_UNKNOWN = -1;

function traceParser(source: string): LineParser<Trace> {
  // One array per column of every event, all grown together.
  let length = 0, capacity = 1024;
  let ts = new Float64Array(capacity), cpu = new Int16Array(capacity), pid = new Int32Array(capacity);
  let comm = new Int32Array(capacity), event = new Int32Array(capacity), slot = new Int32Array(capacity);
  const comms = new Dictionary(), events = new Dictionary();
  const decoders: Decoder[] = [];
  // What only some layouts print.
  const flags = new CodeColumn(), side = new CodeColumn(), tgid = new Numbers();
  let anyTgid = false;
  let cpus = 0;
  const sides: Buffer[] = []; // names of the files of a merged report, from their "NAME: cpus=4" lines
  const sideCpus: number[] = [];
  const lost: Lost[] = [];

  // What the head of the line at hand says.
  let at = 0, sideCode = -1, lineCpu = 0, linePid = 0, commStart = 0, commEnd = 0, lineComm = 0, cpuEnd = 0, flagStart = 0, flagEnd = 0, lineTgid = NO_TGID, eventStart = 0, eventEnd = 0;

  const lineTs = new Float64Array(1), number = new Float64Array(1); // not plain variables, which would be allocated anew for each line

  // The last line of each CPU up to its `[001]`, and what it said: most lines are of the thread that the same CPU's last line is of.
  const RECENT = 16, LONGEST_HEAD = 64;
  const recent = new DataView(new ArrayBuffer(RECENT * LONGEST_HEAD));
  const recentLength = new Int32Array(RECENT), recentComm = new Int32Array(RECENT), recentPid = new Int32Array(RECENT), recentCpu = new Int32Array(RECENT);
  const recentTgid = new Int32Array(RECENT), recentSide = new Int32Array(RECENT);
  let headLength = 0;
  let view = recent, viewed: Uint8Array | null = null;

  function grow(): void {
    capacity *= 2;
    const longer = <A extends Float64Array | Int32Array | Int16Array>(old: A): A => {
      const more = new (old.constructor as new (n: number) => A)(capacity);
      more.set(old);
      return more;
    };
    ts = longer(ts);
    cpu = longer(cpu);
    pid = longer(pid);
    comm = longer(comm);
    event = longer(event);
    slot = longer(slot);
  }

  /** `[001]` at i → reads cpu, sets `at` behind it; false if it is something else in brackets. */
  function bracketedCpu(b: Buffer, i: number, end: number): boolean {
    let n = 0, j = i + 1;
    for (; j < end && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
    if (j === i + 1 || j >= end || b[j] !== RBRACKET || j - i > 5) return false;
    lineCpu = n;
    at = cpuEnd = j + 1;
    return true;
  }

  /** `comm-123`, or perf's `comm  123`, that ends at `end`, with the kernel's TGID column behind it or not. */
  function thread(b: Buffer, start: number, end: number): boolean {
    while (end > start && b[end - 1] === SPACE) end--;
    lineTgid = NO_TGID;
    if (b[end - 1] === RPAREN) { // "(  123)" or "(-----)"
      let open = end - 2, n = 0, scale = 1, digits = 0;
      for (; open > start && b[open] !== LPAREN && end - open < LONGEST_TGID; open--) if (isDigit(b[open])) { n += (b[open] - ZERO) * scale; scale *= 10; digits++; }
      if (b[open] !== LPAREN) return false;
      lineTgid = digits > 0 ? n : TGID_UNKNOWN;
      end = open;
      while (end > start && b[end - 1] === SPACE) end--;
    }
    let i = end, n = 0, scale = 1;
    while (i > start && isDigit(b[i - 1])) { n += (b[--i] - ZERO) * scale; scale *= 10; }
    if (i === end || i === start || end - i > 10 || n > MOST_PID) return false;
    linePid = n;
    commStart = start;
    if (b[i - 1] === DASH && i - 1 > start && b[i - 2] !== SPACE) { commEnd = i - 1; return true; }
    if (b[i - 1] === DASH && b[i - 2] === SPACE) { linePid = -n; i--; } // perf: ":-1    -1"
    if (b[i - 1] === SLASH) { // perf's pid/tid
      i--;
      while (i > start && isDigit(b[i - 1])) i--;
    }
    if (b[i - 1] !== SPACE) return false;
    while (i > start && b[i - 1] === SPACE) i--;
    commEnd = i;
    return commEnd > start;
  }

  /** Optional flags, the time, `(+N)`, the event's name; leaves `at` at the info. */
  function timeAndEvent(b: Buffer, end: number): boolean {
    let i = at;
    flagEnd = flagStart = 0;
    for (;;) {
      while (i < end && b[i] === SPACE) i++;
      const word = i;
      let whole = 0, c = b[i];
      for (; i < end && c >= ZERO && c <= NINE; c = b[++i]) whole = whole * 10 + (c - ZERO);
      if (i > word && c === DOT) {
        let fraction = 0, digits = 0;
        for (c = b[++i]; i < end && c >= ZERO && c <= NINE && digits < 9; c = b[++i], digits++) fraction = fraction * 10 + c - ZERO;
        if (c === COLON && digits > 0) { lineTs[0] = whole * 1e9 + fraction * FRACTION[digits]; return eventName(b, i + 1, end); }
      } else if (i > word && c === COLON) { lineTs[0] = whole; return eventName(b, i + 1, end); }
      // Not a time: the latency field, which stands before it.
      if (flagEnd > 0) return false;
      i = word;
      while (i < end && b[i] !== SPACE) i++;
      if (i === word || i > word + LONGEST_FLAGS) return false;
      flagStart = word;
      flagEnd = i;
    }
  }

  function eventName(b: Buffer, i: number, end: number): boolean {
    while (i < end && b[i] === SPACE) i++;
    if (b[i] === LPAREN && b[i + 1] === PLUS) { // (+486)
      const stop = Math.min(end, i + LONGEST_DIFF);
      while (i < stop && b[i] !== RPAREN) i++;
      i++;
      while (i < end && b[i] === SPACE) i++;
    }
    eventStart = i;
    for (; i < end; i++) {
      const c = b[i];
      if (c === COLON) {
        if (i + 1 === end || b[i + 1] === SPACE) break;
        eventStart = i + 1; // a system's name, as perf prints it: kvm:kvm_exit
      } else if (c === SPACE) return false;
    }
    if (i >= end || i === eventStart) return false;
    eventEnd = i++;
    while (i < end && b[i] === SPACE) i++;
    at = i;
    return true;
  }

  /** trace-cmd report -l: `trace-cm-762     0d.h..   667.528273: event`, the CPU glued to the flags. */
  function latencyHead(b: Buffer, start: number, end: number): boolean {
    for (let colon = start; colon < end; colon++) {
      if (b[colon] !== COLON || !isDigit(b[colon - 1])) continue;
      let i = colon;
      while (i > start && (isDigit(b[i - 1]) || b[i - 1] === DOT)) i--;
      if (i === start || b[i - 1] !== SPACE) continue;
      const time = i;
      while (i > start && b[i - 1] === SPACE) i--;
      const flagsEnd = i;
      while (i > start && b[i - 1] !== SPACE) i--;
      let n = 0, j = i;
      for (; j < flagsEnd && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
      if (j === i || j === flagsEnd || j - i > 4 || flagsEnd - j > LONGEST_FLAGS) return false;
      lineCpu = n;
      at = time;
      cpuEnd = 0;
      if (!thread(b, start, i) || !timeAndEvent(b, end)) return false;
      flagStart = j;
      flagEnd = flagsEnd;
      return true;
    }
    return false;
  }

  function head(b: Buffer, start: number, end: number): boolean {
    for (let i = start; i < end; i++) {
      if (b[i] === LBRACKET && b[i - 1] === SPACE && bracketedCpu(b, i, end) && thread(b, start, i) && timeAndEvent(b, end)) return true;
    }
    return latencyHead(b, start, end);
  }

  /** Whether the line begins as a recent one does; then that one's thread and CPU are this one's. */
  function recentHead(b: Buffer, start: number, end: number): boolean {
    const n = headLength, last = start + n - 4;
    if (n === 0 || last + 4 > end || b[last + 3] !== RBRACKET) return false;
    const r = b[last + 2] & (RECENT - 1), from = r * LONGEST_HEAD;
    if (recentLength[r] !== n) return false;
    if (b !== viewed) { viewed = b; view = new DataView(b.buffer, b.byteOffset, b.length); }
    for (let i = 0; i + 4 <= n; i += 4) if (view.getInt32(start + i) !== recent.getInt32(from + i)) return false;
    if (view.getInt32(last) !== recent.getInt32(from + n - 4)) return false;
    at = start + n;
    if (!timeAndEvent(b, end)) return false;
    lineComm = recentComm[r];
    linePid = recentPid[r];
    lineCpu = recentCpu[r];
    lineTgid = recentTgid[r];
    sideCode = recentSide[r];
    return true;
  }

  function keepHead(b: Buffer, start: number): void {
    const n = cpuEnd - start;
    if (n < 4 || n > LONGEST_HEAD) return;
    const r = b[cpuEnd - 2] & (RECENT - 1);
    for (let i = 0; i < n; i++) recent.setUint8(r * LONGEST_HEAD + i, b[start + i]);
    headLength = recentLength[r] = n;
    recentComm[r] = lineComm;
    recentPid[r] = linePid;
    recentCpu[r] = lineCpu;
    recentTgid[r] = lineTgid;
    recentSide[r] = sideCode;
  }

  /** Skips `   trace-guest.dat: `, the name of the file of a merged report. */
  function afterSide(b: Buffer, i: number, end: number): number {
    for (let s = 0; s < sides.length; s++) {
      const name = sides[s], colon = i + name.length;
      if (colon >= end || b[colon] !== COLON || b.compare(name, 0, name.length, i, colon) !== 0) continue;
      sideCode = s;
      i = colon + 1;
      while (i < end && isBlank(b[i])) i++;
      break;
    }
    return i;
  }

  /** Everything that is not an event: headings, lost events, the tools' messages. */
  function other(b: Buffer, start: number, end: number): LineKind {
    const line = b.toString("latin1", start, Math.min(end, start + 400)).trim();
    let m: RegExpExecArray | null;
    if (line === "") return HEADER;
    // The second is the kernel's, for each CPU whose buffer begins later than the trace, where buffers overran: what was before is not said.
    if ((m = /^CPU:(\d{1,4}) \[(?:LOST )?(?:(\d+) )?EVENTS(?: DROPPED)?\]$/.exec(line) ?? /^##### CPU (\d{1,4}) buffer started ####$/.exec(line))) {
      lost.push({ cpu: Number(m[1]), count: m[2] ? Number(m[2]) : null, from: null, to: null, position: length, sideCode });
      return ROW;
    }
    if ((m = /^(?:(.+): *)?cpus=(\d{1,4})$/.exec(line))) {
      cpus = Math.max(cpus, Number(m[2]));
      if (m[1]) {
        const name = Buffer.from(m[1], "latin1");
        if (!sides.some((s) => s.equals(name))) {
          if (sides.length === MOST_SIDES) return UNKNOWN;
          sides.push(name);
          sideCpus.push(Number(m[2]));
          recentLength.fill(0);
        }
      }
      return HEADER;
    }
    return HEADINGS.test(line) ? HEADER : UNKNOWN;
  }

  return {
    line(b, start, end) {
      if (!recentHead(b, start, end)) {
        let from = start;
        while (from < end && isBlank(b[from])) from++;
        sideCode = -1;
        if (sides.length > 0) from = afterSide(b, from, end);
        if (b[from] === HASH || !head(b, from, end)) return other(b, from, end);
        lineComm = comms.intern(b, commStart, commEnd);
        keepHead(b, start);
      }
      const row = length;
      if (row === capacity) grow();
      length++;
      const code = events.intern(b, eventStart, eventEnd);
      const decoder = decoders[code] ??= decoderOf(events.get(code));
      ts[row] = lineTs[0];
      cpu[row] = lineCpu;
      if (lineCpu >= cpus) cpus = lineCpu + 1;
      if (sideCode >= 0 && lineCpu >= sideCpus[sideCode]) sideCpus[sideCode] = lineCpu + 1;
      pid[row] = linePid;
      comm[row] = lineComm;
      event[row] = code;
      slot[row] = decoder.count;
      decoder.decode(b, at, end);
      if (flagEnd > 0) flags.set(row, flags.dictionary.intern(b, flagStart, flagEnd));
      if (sideCode >= 0) side.set(row, sideCode);
      if (lineTgid !== NO_TGID) {
        anyTgid = true;
        if (lineTgid !== TGID_UNKNOWN) {
          number[0] = lineTgid;
          tgid.set(row, number, 0);
        }
      }
      return ROW;
    },
    finish() {
      ts = ts.slice(0, length);
      cpu = cpu.slice(0, length);
      const sideNames = sides.map((name) => name.toString());
      const sideCodes = side.finish(length)?.codes ?? null;
      surroundLost(lost, ts, cpu, sideCodes);
      return traceOf({
        source, length, ts, cpu, pid: pid.slice(0, length), slot: slot.slice(0, length),
        comm: new DictionaryColumn(narrowCodes(comm, length, comms.size), comms.values()), event: new DictionaryColumn(narrowCodes(event, length, events.size), events.values()),
        side: sideCodes && new DictionaryColumn(sideCodes, sideNames), flags: flags.finish(length),
        tgid: anyTgid ? tgid.finish(length) ?? new NullableColumn(new Float64Array(length).fill(NaN)) : null,
        own: decoders.map((decoder) => ({ count: decoder.count, known: decoder.known, fields: decoder.finish() })),
        undecoded: decoders.reduce((sum, decoder) => sum + decoder.undecoded, 0), cpus, sides: sides.length > 0 ? sideNames.map((name, s) => ({ side: name, cpus: sideCpus[s] })) : null,
        lost: tableOf(lostColumns, lost.map(({ sideCode, ...gap }) => ({ ...gap, side: sideNames[sideCode] ?? null }))),
      });
    },
  };
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
