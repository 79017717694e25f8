// perf script: samples with their stacks.
//
//   perf record -a -g -F 99 -- CMD; perf script > perf-script-host.txt
//   printed by tools/perf/builtin-script.c (process_event, perf_sample__fprintf_start) and util/evsel_fprintf.c (frames)
//
//   qemu-system-aar  1764/1769  [000]  1729.594561:      10101   cycles:P:
//   comm             pid/tid    cpu    time, s           period  event
//   <tab>ffff8000081820e8 generic_exec_single+0xd4 ([kernel.kallsyms])
//        address          symbol           offset  dso
//
// Frames come leaf first; a blank line ends them. Samples without stacks take one line, with the comm right-aligned:
//               perf  2048 [000]  2088.157389:           sched:sched_waking: comm=migration/0 pid=15 prio=0 target_cpu=000
import type { ColumnTable } from "arquero";
import {
  Dictionary, DictionaryColumn, IntBuilder, makeTable, NullableColumn, NumberBuilder, tableOf,
  type Column, type Columns, type RowOf,
} from "../source/columns.js";
import type { Source } from "../source/bytes.js";
import { Pairs } from "../source/pairs.js";
import {
  CONTINUATION, HEADER, parseText, ROW, UNKNOWN,
  type Format, type LineKind, type LineParser, type ParseOptions,
} from "../source/lines.js";
import { loadCached, type CachedLoadOptions } from "../store/cache.js";
import { Frames, NOT_A_FRAME, type FrameKind } from "./perf-frames.js";

export type { FrameKind };

export const sampleColumns = {
  ts: { type: "number", unit: "ns", meaning: "Time of the sample, since boot on the clock of the machine that recorded it.", null: "perf script printed no time (-F without time)" },
  cpu: { type: "number", unit: null, meaning: "CPU on which the sample was taken.", null: "perf script printed no CPU (recorded without -a)" },
  pid: { type: "number", unit: null, meaning: "Process id; -1 where perf knows none.", null: "perf script printed the thread id alone, as it does by default" },
  tid: { type: "number", unit: null, meaning: "Thread id (the only number where perf script prints one).", null: "perf script printed neither pid nor tid" },
  comm: { type: "string", unit: null, meaning: "Name of the thread. `:TID` and `:-1` are threads that perf does not know, such as those of a guest.", null: "perf script printed no comm" },
  event: { type: "string", unit: null, meaning: "Event that made the sample, with its modifiers (cycles:P).", null: "perf script printed no event" },
  period: { type: "number", unit: "events", meaning: "Weight of the sample: how many events it stands for. ns for cpu-clock and task-clock.", null: "perf script printed no period; the sample then counts as 1" },
  stack: { type: "number", unit: null, meaning: "Id of the leaf in the table of stacks; 0, the root, where the sample has no stack." },
  misc: { type: "string", unit: null, meaning: "Context letters of -F +misc: K kernel, U user, H hypervisor, G guest kernel, g guest user.", null: "perf script printed none" },
  vm: { type: "number", unit: null, meaning: "Process id of the guest's QEMU on the host (-F +machine_pid).", null: "not a guest's sample, or not printed" },
  vcpu: { type: "number", unit: null, meaning: "vCPU of the guest (-F +vcpu).", null: "not a guest's sample, or not printed" },
  payload: { type: "string", unit: null, meaning: "What a tracepoint printed, as text.", null: "the event prints nothing" },
} as const satisfies Columns;

export const stackColumns = {
  id: { type: "number", unit: null, meaning: "Row number. 0 is the root of all stacks." },
  parent: { type: "number", unit: null, meaning: "Id of the caller's row, always smaller than id.", null: "the root" },
  frame: { type: "number", unit: null, meaning: "Id of the frame in the table of frames.", null: "the root" },
  depth: { type: "number", unit: "frames", meaning: "How many frames from the root; 0 for the root." },
} as const satisfies Columns;

export const frameColumns = {
  id: { type: "number", unit: null, meaning: "Row number." },
  symbol: { type: "string", unit: null, meaning: "Function, without offset; [unknown] where perf found none." },
  dso: { type: "string", unit: null, meaning: "File, or [kernel.kallsyms], [guest.kernel.kallsyms.PID], [module].", null: "perf script printed none, as for inlined functions" },
  kind: { type: "string", unit: null, meaning: "kernel, user, guest (a guest's kernel, seen from the host), jit, inlined, or unknown." },
  addr: { type: "hex", unit: null, meaning: "Address as perf script prints it (in a user file: offset within the file).", null: "the symbol is known: its frames are one, whatever the address" },
  srcline: { type: "string", unit: null, meaning: "Source file and line.", null: "perf script ran without -F +srcline" },
} as const satisfies Columns;

export const profileEventColumns = {
  event: { type: "string", unit: null, meaning: "Name of the event, with its modifiers.", null: "perf script printed no event" },
  samples: { type: "number", unit: "samples", meaning: "How many samples it has." },
  weight: { type: "number", unit: "events", meaning: "Sum of the periods; a sample without one counts as 1." },
} as const satisfies Columns;

export const profileLostColumns = {
  ts: { type: "number", unit: "ns", meaning: "When the loss was noted." },
  cpu: { type: "number", unit: null, meaning: "CPU whose buffer was full.", null: "perf script printed no CPU" },
  lost: { type: "number", unit: "events", meaning: "How many events were lost.", null: "the line does not say" },
} as const satisfies Columns;

/** What perf script printed. Plain data: `foldStacks(profile)` and others are functions beside it. */
export interface Profile {
  /** Path of the text, or "text". */
  source: string;
  /** One row per sample: ts, cpu, pid, tid, comm, event, period, stack, misc, vm, vcpu, payload. */
  samples: ColumnTable;
  /** All stacks as one tree: id, parent, frame, depth. A stack is the path from a row up to the root. */
  stacks: ColumnTable;
  /** Distinct frames: id, symbol, dso, kind, addr, srcline. */
  frames: ColumnTable;
  /** Events in the order in which they were first seen: event, samples, weight. */
  events: ColumnTable;
  /** Where perf lost events (perf script --show-lost-events): ts, cpu, lost. */
  lost: ColumnTable;
  /** The `#` block that perf script --header prints: hostname, arch, cmdline, …; repeated keys are joined by newlines. Empty without it. */
  header: Record<string, string>;
  /** The arrays behind the tables, for analyses that walk all samples. */
  raw: ProfileArrays;
}

export interface ProfileArrays {
  /** Number of samples. */
  length: number;
  /** ns; NaN where perf script printed no time. */
  ts: Float64Array;
  /** NO_NUMBER where there is none; the same for pid and tid. */
  cpu: Int32Array;
  pid: Int32Array;
  tid: Int32Array;
  comm: DictionaryColumn;
  event: DictionaryColumn;
  /** NaN where perf script printed no period. */
  period: Float64Array;
  /** Leaf's row in `parent`, `frame`, `depth`; 0 is the root: no stack. */
  stack: Int32Array;
  /** Tree of stacks: caller's row, -1 for the root. Rows come after their callers. */
  parent: Int32Array;
  /** Tree of stacks: index into symbol, dso, kind; -1 for the root. */
  frame: Int32Array;
  depth: Int32Array;
  symbol: string[];
  dso: (string | null)[];
  kind: FrameKind[];
  addr: (string | null)[];
  /** Whether the text ended within the last sample's stack, without the blank line that closes it. */
  unclosed: boolean;
}

/** Stands for "not printed" in the Int32Arrays of a profile, since -1 is a pid that perf prints. */
export const NO_NUMBER = -0x80000000;

export const perfScript: Format<Profile> = {
  name: "perf-script",
  command: "perf script",
  parser: (options) => new PerfScriptParser(options.name),
};

/**
 * Text of `perf script` → samples and stacks. Any of its fields may be missing, but the thread id (-F tid or pid), by which a sample is known.
 * @throws ParseError when no line of it can be read
 */
export function fromPerfScript(text: string | Uint8Array, options: ParseOptions = {}): Profile {
  return parseText(text, perfScript, options);
}

/** File of `perf script` text (plain, .gz, .zst) → samples and stacks; with `cache`, the second time from what was kept beside the file. @throws ParseError when no line of it can be read. */
export async function loadPerfScript(source: Source, options: CachedLoadOptions = {}): Promise<Profile> {
  return loadCached(source, perfScript, { apart: (profile) => profile, together: (parts: Profile, name) => ({ ...parts, source: name }) }, options);
}

const TAB = 9, BLANK = 32, HASH = 35, PAREN = 41, MINUS = 45, DOT = 46, SLASH = 47, ZERO = 48, NINE = 57, COLON = 58, OPEN = 91, CLOSE = 93;
const NOT_SEEN = -2;

// What perf and its libraries say on stderr, which lands in the file under `2>&1`.
const MESSAGE = new RegExp([
  String.raw`^\[ perf \w+: `, "^Warning:$", "^Processed \\d+ (events|samples)", "^Check IO/CPU overload!", "^Samples in kernel ",
  "^unwind: ", "^libtraceevent: ", "^ +\\[[\\w-]+:[\\w-]+\\] (bad op|unknown op|failed|function|could not)", "^ +(bad op token|unknown op|failed to read event print fmt)",
  "^(addr2line|cmd__addr2line) ", "continuing without symbols$", "^no symbols found in ", "^Kernel address maps ", "^Cannot load tips.txt ",
].join("|"));

class PerfScriptParser implements LineParser<Profile> {
  private readonly ts = new NumberBuilder();
  private readonly cpu = new IntBuilder();
  private readonly pid = new IntBuilder();
  private readonly tid = new IntBuilder();
  private readonly comm = new IntBuilder();
  private readonly event = new IntBuilder();
  private readonly period = new NumberBuilder();
  private readonly stack = new IntBuilder();
  private readonly comms = new Dictionary();
  private readonly events = new Dictionary();
  private readonly misc = new Rare();
  private readonly payload = new Rare();
  private readonly vm = new Rare();
  private readonly vcpu = new Rare();
  private readonly lost: RowOf<typeof profileLostColumns>[] = [];
  private readonly header: Record<string, string> = {};

  /** Tree of stacks: a pair of caller's node and frame per node; node 0 is the root. */
  private readonly tree = new Pairs();
  private readonly frames = new Frames();

  /** Each distinct frame line is understood once; the next time, its code leads to its frame. */
  private readonly lines = new Dictionary();
  private frameOfLine = new Int32Array(1024).fill(NOT_SEEN);

  /** Frames of the sample that is being read, leaf first. */
  private path = new Int32Array(128);
  private depth = 0;
  private open = false;

  constructor(private readonly name: string) {
    this.tree.code(-1, -1);
  }

  line(bytes: Buffer, start: number, end: number): LineKind {
    if (start === end) {
      this.close();
      return HEADER;
    }
    const first = bytes[start];
    if (first === TAB && this.open) return this.frameLine(bytes, start + 1, end);
    if (first === HASH && (start + 1 === end || bytes[start + 1] === BLANK)) return this.headerLine(bytes, start, end);
    // Older perfs indent frames by blanks, as they do the first lines of samples without stacks.
    const kind = first === TAB ? null : this.sampleLine(bytes, start, end);
    if (kind !== null) return kind;
    if (this.open && bytes[end - 1] === PAREN && this.frameLine(bytes, skip(bytes, start, end), end) === CONTINUATION) return CONTINUATION;
    return this.otherLine(bytes, start, end);
  }

  private frameLine(bytes: Buffer, start: number, end: number): LineKind {
    const frame = this.frameOf(bytes, start, end);
    if (frame === NOT_A_FRAME) return UNKNOWN;
    this.push(frame);
    return CONTINUATION;
  }

  private frameOf(bytes: Buffer, start: number, end: number): number {
    const code = this.lines.intern(bytes, start, end);
    if (code >= this.frameOfLine.length) {
      const more = new Int32Array(this.frameOfLine.length * 2).fill(NOT_SEEN);
      more.set(this.frameOfLine);
      this.frameOfLine = more;
    }
    let frame = this.frameOfLine[code];
    if (frame === NOT_SEEN) frame = this.frameOfLine[code] = this.frames.fromText(bytes.toString("utf8", start, end));
    return frame;
  }

  private push(frame: number): void {
    if (this.depth === this.path.length) {
      const more = new Int32Array(this.depth * 2);
      more.set(this.path);
      this.path = more;
    }
    this.path[this.depth++] = frame;
  }

  private close(): void {
    if (!this.open) return;
    this.open = false;
    if (this.depth === 0) return;
    let node = 0;
    for (let i = this.depth - 1; i >= 0; i--) node = this.tree.code(node, this.path[i]);
    this.stack.data[this.stack.length - 1] = node;
    this.depth = 0;
  }

  /** The lines that are few: source lines, messages, blanks. */
  private otherLine(bytes: Buffer, start: number, end: number): LineKind {
    const text = bytes.toString("utf8", start, end);
    if (text.trim() === "") {
      this.close();
      return HEADER;
    }
    if (MESSAGE.test(text)) return HEADER;
    // -F +srcline prints "  file.c:12" below a frame, and "(inlined)" after it.
    const source = /^ {2}(\S.*(?::\d+|\[[0-9a-f]+\])(?: \(discriminator \d+\))?)( \(inlined\))?$/.exec(text);
    if (source && this.open && this.depth > 0) {
      this.path[this.depth - 1] = this.frames.withSource(this.path[this.depth - 1], source[1], source[2] !== undefined);
      return CONTINUATION;
    }
    // After the messages, since "  bad op token {" looks like a frame without dso.
    return this.open ? this.frameLine(bytes, skip(bytes, start, end), end) : UNKNOWN;
  }

  private headerLine(bytes: Buffer, start: number, end: number): LineKind {
    const pair = /^# (\S[^:]*): (.*)$/.exec(bytes.toString("utf8", start, end));
    if (pair) {
      const key = pair[1].trimEnd();
      this.header[key] = Object.hasOwn(this.header, key) ? `${this.header[key]}\n${pair[2]}` : pair[2];
    }
    return HEADER;
  }

  /** What perf script --show-task-events and the like put between the samples, "PERF_RECORD_COMM exec: perf:802/802"; of these only losses hold data that we keep. */
  private sideRecord(text: string, ts: number, cpu: number): LineKind {
    this.close();
    if (!text.startsWith("PERF_RECORD_LOST")) return HEADER;
    const lost = / (\d+)/.exec(text);
    this.lost.push({ ts, cpu: cpu === NO_NUMBER ? null : cpu, lost: lost && Number(lost[1]) });
    return ROW;
  }

  /** Reads the first line of a sample, or a side record; null, and nothing changed, where the line is neither. */
  private sampleLine(bytes: Buffer, start: number, end: number): LineKind | null {
    while (bytes[start] === BLANK) start++;
    while (end > start && bytes[end - 1] === BLANK) end--;

    // The time is the anchor: comm may hold blanks, colons and numbers, but no "123.123456: ".
    let colon = start, timeStart = -1;
    for (; colon < end; colon++) {
      if (bytes[colon] !== COLON || (colon + 1 < end && bytes[colon + 1] !== BLANK)) continue;
      timeStart = startOfTime(bytes, start, colon);
      if (timeStart >= 0) break;
    }
    const timed = timeStart >= 0;
    if (!timed) {
      // -F without time: the event, at the end of the line, is the anchor, and only without payload.
      if (end === start || bytes[end - 1] !== COLON) return null;
      timeStart = startOfWord(bytes, start, end);
      colon = timeStart - 1;
    }

    // Backwards from the anchor: misc letters, [cpu], pid or pid/tid, comm.
    let at = skipBack(bytes, start, timeStart);
    let period = NaN;
    if (!timed && isNumber(bytes, startOfWord(bytes, start, at), at)) {
      // "node 31912 cpu-clock:" has no period, "node 31912 250000 cpu-clock:" and "node 31912 [001] 250000 cpu-clock:" do
      const word = startOfWord(bytes, start, at), before = skipBack(bytes, start, word);
      if (before > start && (bytes[before - 1] === CLOSE || isNumber(bytes, startOfWord(bytes, start, before), before))) {
        period = number(bytes, word, at);
        at = before;
      }
    }
    let miscStart = -1, miscEnd = -1;
    let word = startOfWord(bytes, start, at);
    if (word < at && isMisc(bytes, word, at)) {
      miscStart = word; miscEnd = at;
      at = skipBack(bytes, start, word);
      word = startOfWord(bytes, start, at);
    }
    let cpu = NO_NUMBER;
    if (at - word > 2 && bytes[word] === OPEN && bytes[at - 1] === CLOSE && isNumber(bytes, word + 1, at - 1)) {
      cpu = number(bytes, word + 1, at - 1);
      at = skipBack(bytes, start, word);
      word = startOfWord(bytes, start, at);
    }
    let pid = NO_NUMBER, tid = NO_NUMBER;
    if (word < at) {
      let slash = word;
      while (slash < at && bytes[slash] !== SLASH) slash++;
      if (slash < at) {
        if (!isNumber(bytes, word, slash) || !isNumber(bytes, slash + 1, at)) return null;
        pid = number(bytes, word, slash);
        tid = number(bytes, slash + 1, at);
      } else {
        if (!isNumber(bytes, word, at)) return null;
        tid = number(bytes, word, at);
      }
      at = skipBack(bytes, start, word);
    } else if (!timed) {
      return null;
    }
    let commStart = start;
    const commEnd = at;
    let vm = NO_NUMBER, vcpu = NO_NUMBER;
    if (commEnd - commStart > 3 && bytes[start] === 86 && bytes[start + 1] === 77 && bytes[start + 2] === COLON) {
      const prefix = /^VM: *(\d+) +(?:VCPU:(\d+) *)?/.exec(bytes.toString("latin1", start, commEnd));
      if (prefix) {
        commStart += prefix[0].length;
        vm = Number(prefix[1]);
        if (prefix[2] !== undefined) vcpu = Number(prefix[2]);
      }
    }

    // Forwards from the time: period, event, then a payload or, in a sample of one line, its only frame.
    at = timed ? skip(bytes, colon + 1, end) : timeStart;
    if (timed) {
      const numberEnd = endOfWord(bytes, at, end);
      if (numberEnd < end && isNumber(bytes, at, numberEnd)) {
        period = number(bytes, at, numberEnd);
        at = skip(bytes, numberEnd, end);
      }
    }
    const eventStart = at, eventEnd = endOfWord(bytes, at, end);
    if (timed && startsWith(bytes, eventStart, end, "PERF_RECORD_")) return this.sideRecord(bytes.toString("utf8", eventStart, end), time(bytes, timeStart, colon), cpu);
    let event = -1, frame = NOT_A_FRAME, payloadStart = end;
    if (eventEnd - eventStart > 1 && bytes[eventEnd - 1] === COLON) {
      event = this.events.intern(bytes, eventStart, eventEnd - 1);
      payloadStart = skip(bytes, eventEnd, end);
      // perf prints a blank and the address in 16 columns, where a payload begins right after "event: ".
      if (endOfWord(bytes, payloadStart, end) - eventEnd === 18) frame = this.frameOf(bytes, payloadStart, end);
      if (frame !== NOT_A_FRAME) payloadStart = end;
    } else if (eventStart < end) {
      frame = this.frameOf(bytes, eventStart, end); // -F without event
      if (frame === NOT_A_FRAME) return null;
    }

    this.close();
    const row = this.stack.length;
    this.ts.push(timed ? time(bytes, timeStart, colon) : NaN);
    this.cpu.push(cpu);
    this.pid.push(pid);
    this.tid.push(tid);
    this.comm.push(commStart < commEnd ? this.comms.intern(bytes, commStart, commEnd) : -1);
    this.event.push(event);
    this.period.push(period);
    this.stack.push(0);
    if (miscStart >= 0) this.misc.set(row, bytes, miscStart, miscEnd);
    if (payloadStart < end) this.payload.set(row, bytes, payloadStart, end);
    if (vm !== NO_NUMBER) this.vm.setNumber(row, vm);
    if (vcpu !== NO_NUMBER) this.vcpu.setNumber(row, vcpu);
    this.open = true;
    if (frame !== NOT_A_FRAME) this.push(frame);
    return ROW;
  }

  finish(): Profile {
    const unclosed = this.open && this.depth > 0;
    this.close();
    const length = this.stack.length;
    const ts = this.ts.data.slice(0, length), period = this.period.data.slice(0, length);
    const parent = this.tree.first.finish(), frame = this.tree.second.finish(), depth = new Int32Array(parent.length);
    for (let node = 1; node < depth.length; node++) depth[node] = depth[parent[node]] + 1;
    const { symbol, dso, kind, addr, srcline } = this.frames;
    const raw: ProfileArrays = {
      length, ts, period, cpu: this.cpu.finish(), pid: this.pid.finish(), tid: this.tid.finish(),
      comm: new DictionaryColumn(this.comm.finish(), this.comms.values()), event: new DictionaryColumn(this.event.finish(), this.events.values()),
      stack: this.stack.finish(), parent, frame, depth, symbol, dso, kind, addr, unclosed,
    };
    const samples = makeTable(sampleColumns, {
      ts: this.ts.nulls ? new NullableColumn(ts) : ts, cpu: withNulls(raw.cpu, NO_NUMBER), pid: withNulls(raw.pid, NO_NUMBER), tid: withNulls(raw.tid, NO_NUMBER),
      comm: raw.comm, event: raw.event, period: this.period.nulls ? new NullableColumn(period) : period, stack: raw.stack,
      misc: this.misc.finish(length), vm: this.vm.finishNumbers(length), vcpu: this.vcpu.finishNumbers(length), payload: this.payload.finish(length),
    });
    const ids = (n: number) => Int32Array.from({ length: n }, (_, i) => i);
    return {
      source: this.name, samples,
      stacks: makeTable(stackColumns, { id: ids(parent.length), parent: withNulls(parent, -1), frame: withNulls(frame, -1), depth }),
      frames: makeTable(frameColumns, { id: ids(symbol.length), symbol, dso, kind, addr, srcline }),
      events: eventsOf(raw), lost: tableOf(profileLostColumns, this.lost), header: this.header, raw,
    };
  }
}

/**
 * Ids of stacks that hold through several profiles, parts of one text: for each profile in turn, the id that each of its
 * stacks would have if the text were read as one.
 */
export function stackIds(): (profile: Profile) => Int32Array {
  const tree = new Pairs(), frames = new Map<string, number>();
  tree.code(-1, -1);
  return ({ raw, frames: table }) => {
    const srcline = table.array("srcline") as (string | null)[];
    const frameOf = Int32Array.from(raw.symbol, (symbol, i) => {
      const key = JSON.stringify([symbol, raw.dso[i], raw.kind[i], raw.addr[i], srcline[i]]);
      let frame = frames.get(key);
      if (frame === undefined) frames.set(key, (frame = frames.size));
      return frame;
    });
    const ids = new Int32Array(raw.parent.length);
    for (let node = 1; node < ids.length; node++) ids[node] = tree.code(ids[raw.parent[node]], frameOf[raw.frame[node]]);
    return ids;
  };
}

function eventsOf({ length, event, period }: ProfileArrays): ColumnTable {
  const samples = new Float64Array(event.values.length + 1), weight = new Float64Array(event.values.length + 1);
  for (let i = 0; i < length; i++) {
    samples[event.codes[i] + 1]++;
    weight[event.codes[i] + 1] += period[i] > 0 ? period[i] : 1;
  }
  const rows = [...event.values, null].map((name, i) => ({ event: name, samples: samples[(i + 1) % samples.length], weight: weight[(i + 1) % samples.length] }));
  return tableOf(profileEventColumns, rows.filter((row) => row.samples > 0));
}

/** A column that most recordings lack. */
class Rare {
  private readonly rows = new IntBuilder();
  private readonly codes = new IntBuilder();
  private readonly dictionary = new Dictionary();

  set(row: number, bytes: Buffer, start: number, end: number): void {
    this.rows.push(row);
    this.codes.push(this.dictionary.intern(bytes, start, end));
  }
  setNumber(row: number, value: number): void {
    this.rows.push(row);
    this.codes.push(value);
  }
  finish(length: number): DictionaryColumn {
    const codes = new Int32Array(length).fill(-1);
    for (let i = 0; i < this.rows.length; i++) codes[this.rows.data[i]] = this.codes.data[i];
    return new DictionaryColumn(codes, this.dictionary.values());
  }
  finishNumbers(length: number): Column<number | null> {
    const values = new Float64Array(length).fill(NaN);
    for (let i = 0; i < this.rows.length; i++) values[this.rows.data[i]] = this.codes.data[i];
    return new NullableColumn(values);
  }
}

function withNulls(data: Int32Array, none: number): Column<any> {
  if (!data.includes(none)) return data;
  const values = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) values[i] = data[i] === none ? NaN : data[i];
  return new NullableColumn(values);
}

const isDigit = (byte: number) => byte >= ZERO && byte <= NINE;

/** Where "123.123456" or "123.123456789" begins that ends at a colon; -1 where something else does. */
function startOfTime(bytes: Buffer, start: number, colon: number): number {
  let at = colon - 1;
  while (at >= start && isDigit(bytes[at])) at--;
  const decimals = colon - 1 - at;
  if (at < start || bytes[at] !== DOT || (decimals !== 6 && decimals !== 9)) return -1;
  const dot = at--;
  while (at >= start && isDigit(bytes[at])) at--;
  return at === dot - 1 || (at >= start && bytes[at] !== BLANK) ? -1 : at + 1;
}

/** ns. Whole seconds and the fraction apart, since their sum in seconds would lose digits. */
function time(bytes: Buffer, start: number, colon: number): number {
  let seconds = 0, fraction = 0, at = start;
  for (; bytes[at] !== DOT; at++) seconds = seconds * 10 + bytes[at] - ZERO;
  const decimals = colon - at - 1;
  for (at++; at < colon; at++) fraction = fraction * 10 + bytes[at] - ZERO;
  return seconds * 1e9 + (decimals === 6 ? fraction * 1000 : fraction);
}

function isNumber(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === MINUS) start++; // perf prints -1 for a pid that it does not know
  if (start >= end) return false;
  for (let i = start; i < end; i++) if (!isDigit(bytes[i])) return false;
  return true;
}

function number(bytes: Buffer, start: number, end: number): number {
  const negative = bytes[start] === MINUS;
  let x = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) x = x * 10 + bytes[i] - ZERO;
  return negative ? -x : x;
}

const MISC_LETTERS = new Set(Buffer.from("KUHGgMESp"));
function isMisc(bytes: Buffer, start: number, end: number): boolean {
  if (end - start > 6) return false;
  for (let i = start; i < end; i++) if (!MISC_LETTERS.has(bytes[i])) return false;
  return true;
}

function skip(bytes: Buffer, at: number, end: number): number {
  while (at < end && bytes[at] === BLANK) at++;
  return at;
}
function skipBack(bytes: Buffer, start: number, at: number): number {
  while (at > start && bytes[at - 1] === BLANK) at--;
  return at;
}
function startOfWord(bytes: Buffer, start: number, at: number): number {
  while (at > start && bytes[at - 1] !== BLANK) at--;
  return at;
}
function endOfWord(bytes: Buffer, at: number, end: number): number {
  while (at < end && bytes[at] !== BLANK) at++;
  return at;
}
function startsWith(bytes: Buffer, start: number, end: number, word: string): boolean {
  if (end - start < word.length) return false;
  for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word.charCodeAt(i)) return false;
  return true;
}
