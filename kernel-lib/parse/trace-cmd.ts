import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { Dictionary, DictionaryColumn, IntBuilder, makeTable, NullableColumn, NumberBuilder, tableOf, type Column, type Columns } from "../source/columns.js";
import { HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LineKind, type LineParser, type LoadOptions, type ParseOptions } from "../source/lines.js";
import { MissingEventError } from "../errors.js";
import type { Trace } from "../trace.js";
import { eventFormats } from "./events.js";
import { decoderOf, type Decoder } from "./event-decoder.js";
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

/** The same from a file (plain, .gz, .zst), bytes or chunks. */
export function loadTraceCmd(source: Source, options: LoadOptions = {}): Promise<Trace> {
  return loadText(source, traceCmd, options);
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

const SPACE = 32, COLON = 58, LBRACKET = 91, RBRACKET = 93, LPAREN = 40, RPAREN = 41, DOT = 46, DASH = 45, SLASH = 47, ZERO = 48, NINE = 57;
const isDigit = (c: number) => c >= ZERO && c <= NINE;
const FRACTION = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1];

function traceParser(source: string): LineParser<Trace> {
  const ts = new NumberBuilder(), cpu = new IntBuilder(), pid = new IntBuilder(), slot = new IntBuilder();
  const comms = new Dictionary(), comm = new IntBuilder();
  const events = new Dictionary(), event = new IntBuilder();
  const flagNames = new Dictionary(), flags = new IntBuilder();
  const sideNames = new Dictionary(), side = new IntBuilder();
  const tgid = new NumberBuilder();
  const decoders: Decoder[] = [];
  let anyFlags = false, anySide = false, anyTgid = false;
  let cpus = 0;
  const sides: Buffer[] = []; // names of the files of a merged report, from their "NAME: cpus=4" lines
  const lost: { cpu: number; count: number | null; from: number | null; to: number | null; position: number; side: string | null }[] = [];
  const openLost: typeof lost = [];
  const lastTs = new Map<number, number>(); // by side and CPU

  // What the head of the line at hand says.
  let at = 0, sideCode = -1, lineTs = 0, lineCpu = 0, linePid = 0, commStart = 0, commEnd = 0, flagStart = 0, flagEnd = 0, lineTgid = NaN, eventStart = 0, eventEnd = 0;
  const place = (side: number, c: number) => (side + 1) * 4096 + c;

  /** `[001]` at i → reads cpu, sets `at` behind it; false if it is something else in brackets. */
  function bracketedCpu(b: Buffer, i: number, end: number): boolean {
    let n = 0, j = i + 1;
    for (; j < end && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
    if (j === i + 1 || b[j] !== RBRACKET || j - i > 6) return false;
    lineCpu = n;
    at = j + 1;
    return true;
  }

  /** `comm-123` or `comm  123` that ends at `end`, with the kernel's TGID column behind or not. */
  function thread(b: Buffer, start: number, end: number): boolean {
    while (end > start && b[end - 1] === SPACE) end--;
    lineTgid = NaN;
    if (b[end - 1] === RPAREN) { // "(  123)" or "(-----)"
      let open = end - 2, n = 0, scale = 1, digits = 0;
      for (; open > start && b[open] !== LPAREN; open--) if (isDigit(b[open])) { n += (b[open] - ZERO) * scale; scale *= 10; digits++; }
      anyTgid = true;
      if (digits > 0) lineTgid = n;
      end = open;
      while (end > start && b[end - 1] === SPACE) end--;
    }
    let i = end, n = 0, scale = 1;
    while (i > start && isDigit(b[i - 1])) { n += (b[--i] - ZERO) * scale; scale *= 10; }
    if (i === end || i === start) return false;
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
    for (let round = 0; round < 3; round++) {
      while (i < end && b[i] === SPACE) i++;
      const word = i;
      let whole = 0;
      while (i < end && isDigit(b[i])) whole = whole * 10 + b[i++] - ZERO;
      if (i > word && b[i] === DOT) {
        let fraction = 0, digits = 0;
        for (i++; i < end && isDigit(b[i]) && digits < 9; i++, digits++) fraction = fraction * 10 + b[i] - ZERO;
        if (b[i] === COLON && digits > 0) { lineTs = whole * 1e9 + fraction * FRACTION[digits]; i++; return eventName(b, i, end); }
      } else if (i > word && b[i] === COLON) { lineTs = whole; return eventName(b, i + 1, end); }
      // Not a time: the latency field, which stands before it, or trace-cmd's own second word.
      i = word;
      while (i < end && b[i] !== SPACE) { if (b[i] === COLON && i > word + 12) return false; i++; }
      if (i === word || flagEnd > 0) return false;
      flagStart = word;
      flagEnd = i;
    }
    return false;
  }

  function eventName(b: Buffer, i: number, end: number): boolean {
    while (i < end && b[i] === SPACE) i++;
    if (b[i] === LPAREN && b[i + 1] === 43) { // (+486)
      while (i < end && b[i] !== RPAREN) i++;
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
    let colon = b.indexOf(": ", start, "latin1");
    if (colon < 0 || colon >= end) return false;
    while (colon >= 0 && colon < end && !(isDigit(b[colon - 1]) && timeBefore(b, colon, start))) colon = b.indexOf(": ", colon + 1, "latin1");
    if (colon < 0 || colon >= end) return false;
    let i = colon;
    while (i > start && b[i - 1] !== SPACE) i--;
    const timeAt = i;
    while (i > start && b[i - 1] === SPACE) i--;
    const flagsEnd = i;
    while (i > start && b[i - 1] !== SPACE) i--;
    let n = 0, j = i;
    for (; j < flagsEnd && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
    if (j === i || j === flagsEnd) return false;
    lineCpu = n;
    if (!thread(b, start, i)) return false;
    at = timeAt;
    const flagsFrom = j;
    if (!timeAndEvent(b, end)) return false;
    flagStart = flagsFrom;
    flagEnd = flagsEnd;
    return true;
  }
  const timeBefore = (b: Buffer, colon: number, start: number) => {
    let i = colon;
    while (i > start && (isDigit(b[i - 1]) || b[i - 1] === DOT)) i--;
    return i < colon && b[i - 1] === SPACE;
  };

  function head(b: Buffer, start: number, end: number): boolean {
    for (let i = start; i < end; i++) {
      if (b[i] !== LBRACKET || b[i - 1] !== SPACE) continue;
      if (bracketedCpu(b, i, end) && thread(b, start, i) && timeAndEvent(b, end)) return true;
    }
    return latencyHead(b, start, end);
  }

  function afterSide(b: Buffer, start: number, end: number): number {
    sideCode = -1;
    let i = start;
    while (i < end && b[i] === SPACE) i++;
    for (let s = 0; s < sides.length; s++) {
      const name = sides[s];
      if (i + name.length < end && b[i + name.length] === COLON && b.compare(name, 0, name.length, i, i + name.length) === 0) {
        sideCode = s;
        i += name.length + 1;
        while (i < end && b[i] === SPACE) i++;
        return i;
      }
    }
    return i;
  }

  /** Everything that is not an event: headings, lost events, the tools' messages. */
  function other(b: Buffer, start: number, end: number): LineKind {
    const line = b.toString("latin1", start, end).trim();
    let m: RegExpExecArray | null;
    if (line === "") return HEADER;
    if ((m = /^CPU:(\d+) \[(?:LOST )?(?:(\d+) )?EVENTS(?: DROPPED)?\]$/.exec(line))) {
      const c = Number(m[1]);
      const gap = { cpu: c, count: m[2] ? Number(m[2]) : null, from: lastTs.get(place(sideCode, c)) ?? null, to: null, position: ts.length, side: sideCode < 0 ? null : sides[sideCode].toString() };
      lost.push(gap);
      openLost.push(gap);
      return ROW;
    }
    if ((m = /^(?:(.+): *)?cpus=(\d+)$/.exec(line))) {
      cpus = Math.max(cpus, Number(m[2]));
      if (m[1]) {
        const name = Buffer.from(m[1], "latin1");
        if (!sides.some((s) => s.equals(name))) { sides.push(name); sideNames.internString(m[1]); }
      }
      return HEADER;
    }
    if (/^#|^version = \d+$|^CPU \d+ is empty$|^CPU:\d+ \[SUBBUFFER START\]$/.test(line)) return HEADER;
    if (/^\[?(sub)?buffer/i.test(line) && line.length < 60) return HEADER;
    // libtraceevent's complaints about formats that it cannot print, and its plugins' about fields.
    if (/^\[[\w-]+:[\w-]+\] |^libtraceevent: |^(trace-cmd|perf): |^\s*(Error|Warning): |^overrun\b|^Can't find|^(Average|Minimum) wakeup latency: |^(Maximum|Minimum) Latency: |^RT task timings|^Wakeup Latency|^could not load plugin/.test(line)) return HEADER;
    return UNKNOWN;
  }

  return {
    line(b, start, end) {
      let from = start;
      if (sides.length > 0) from = afterSide(b, start, end);
      else { sideCode = -1; while (from < end && b[from] === SPACE) from++; }
      if (b[from] === 35 || (b[from] === 67 && b[from + 1] === 80 && b[from + 2] === 85 && (b[from + 3] === COLON || b[from + 3] === SPACE) && !head(b, from, end))) return other(b, from, end);
      if (!head(b, from, end)) return other(b, from, end);
      const code = events.intern(b, eventStart, eventEnd);
      const decoder = decoders[code] ??= decoderOf(events.get(code));
      ts.push(lineTs);
      cpu.push(lineCpu);
      pid.push(linePid);
      comm.push(comms.intern(b, commStart, commEnd));
      event.push(code);
      slot.push(decoder.count);
      decoder.decode(b, at, end);
      if (flagEnd > 0) anyFlags = true;
      flags.push(flagEnd > 0 ? flagNames.intern(b, flagStart, flagEnd) : -1);
      if (sideCode >= 0) anySide = true;
      side.push(sideCode);
      tgid.push(lineTgid);
      lastTs.set(place(sideCode, lineCpu), lineTs);
      if (openLost.length > 0) {
        const name = sideCode < 0 ? null : sides[sideCode].toString();
        for (let i = openLost.length - 1; i >= 0; i--) if (openLost[i].cpu === lineCpu && openLost[i].side === name) { openLost[i].to = lineTs; openLost.splice(i, 1); }
      }
      return ROW;
    },
    finish() {
      const length = ts.length;
      const commColumn = new DictionaryColumn(comm.finish(), comms.values());
      const eventColumn = new DictionaryColumn(event.finish(), events.values());
      const cpuColumn = Int16Array.from(cpu.finish());
      let seen = 0;
      for (const c of cpuColumn) if (c >= seen) seen = c + 1;
      return makeTrace({
        source, length, ts: ts.data.slice(0, length), cpu: cpuColumn, pid: pid.finish(), comm: commColumn, event: eventColumn, slot: slot.finish(),
        side: anySide ? new DictionaryColumn(side.finish(), sideNames.values()) : null,
        flags: anyFlags ? new DictionaryColumn(flags.finish(), flagNames.values()) : null,
        tgid: anyTgid ? new NullableColumn(tgid.data.slice(0, length)) : null,
        decoders, lost: tableOf(lostColumns, lost), cpus: Math.max(cpus, seen),
      });
    },
  };
}

interface Parts {
  source: string; length: number; ts: Float64Array; cpu: Int16Array; pid: Int32Array; comm: DictionaryColumn; event: DictionaryColumn; slot: Int32Array;
  side: DictionaryColumn | null; flags: DictionaryColumn | null; tgid: NullableColumn | null; decoders: Decoder[]; lost: ColumnTable; cpus: number;
}

function makeTrace(parts: Parts): Trace {
  const { source, length, ts, cpu, pid, comm, event, slot, side, flags, tgid, decoders, lost, cpus } = parts;
  const codeOf = new Map(event.values.map((name, code) => [name, code]));
  const counts = decoders.map((decoder) => decoder.count);
  const fields = decoders.map((decoder) => decoder.finish());
  const tables = new Map<string, ColumnTable>();
  const eventNames = event.values.map((name, code) => ({ name, n: counts[code] })).sort((a, b) => b.n - a.n).map(({ name }) => name);
  let all: ColumnTable | null = null;
  const fieldsOf = (name: string) => {
    const code = codeOf.get(name);
    if (code === undefined) return null;
    return (fields[code] = fields[code].info && !decoders[code].known ? fieldsOfInfo(name, fields[code].info!) : fields[code]);
  };
  const trace: Trace = {
    source,
    eventNames,
    lost,
    cpus,
    get events() {
      if (all) return all;
      const columns: Columns = { ...traceEventColumns, ...(side ? sideColumn : {}), ...(flags ? flagsColumn : {}), ...(tgid ? tgidColumn : {}) };
      return (all = makeTable(columns, { ts, cpu, pid, comm, event, ...(side ? { side } : {}), ...(flags ? { flags } : {}), ...(tgid ? { tgid } : {}) }));
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
        comm: new DictionaryColumn(Int32Array.from(rows, (i) => comm.codes[i]), comm.values),
        ...(side ? { side: new DictionaryColumn(Int32Array.from(rows, (i) => side.codes[i]), side.values) } : {}),
        ...own.columns,
        ...(own.info ? { info: own.info } : {}),
      };
      if (own.info) columns.info = { type: "string", unit: null, meaning: "The event's own text, as printed.", null: "its fields say it all" };
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

