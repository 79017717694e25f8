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
import { DictionaryColumn, makeTable, newCodes, NullableColumn, tableOf, type Codes, type Column, type Columns } from "../source/columns.js";
import type { Source } from "../source/bytes.js";
import { accounting, parseText, setAccounting, type Format, type ParseOptions } from "../source/lines.js";
import { loadCached } from "../store/cache.js";
import { NO_NUMBER } from "./perf-head.js";
import { loadPerfSamples, type PerfScriptOptions } from "./perf-parts.js";
import { perfSamples, type PerfSamples, type ProfileArrays, type RareValues } from "./perf-samples.js";

export { NO_NUMBER };
export type { PerfScriptOptions, ProfileArrays };
export type { FrameKind } from "./perf-frames.js";

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

export const perfScript: Format<Profile> = {
  name: perfSamples.name,
  command: perfSamples.command,
  parser: ({ name }) => {
    const parser = perfSamples.parser({ name });
    return {
      line: (bytes, start, end) => parser.line(bytes, start, end),
      ahead: (bytes, start, count) => parser.ahead!(bytes, start, count),
      finish: () => profileOf(name, parser.finish()),
    };
  },
};

/**
 * Text of `perf script` → samples and stacks. Any of its fields may be missing, but the thread id (-F tid or pid), by which a sample is known.
 * @throws ParseError when no line of it can be read
 */
export function fromPerfScript(text: string | Uint8Array, options: ParseOptions = {}): Profile {
  return parseText(text, perfScript, options);
}

/**
 * File of `perf script` text (plain, .gz, .zst) → samples and stacks; with `cache`, the second time from what was kept beside the file.
 * @throws ParseError when no line of it can be read; OptionError when workers is not a number of threads
 */
export async function loadPerfScript(source: Source, options: PerfScriptOptions = {}): Promise<Profile> {
  if (options.cache !== undefined && options.cache !== false) return loadCached(source, perfScript, { apart: (profile) => profile, together: (parts: Profile, name) => ({ ...parts, source: name }) }, options);
  const samples = await loadPerfSamples(source, options), count = accounting(samples), profile = profileOf(count.source, samples);
  setAccounting(profile, count);
  return profile;
}

/** The tables over the arrays. */
export function profileOf(source: string, { raw, srcline, misc, payload, vm, vcpu, lost, header }: PerfSamples): Profile {
  const { length, parent, frame, depth, symbol, dso, kind, addr } = raw;
  const samples = makeTable(sampleColumns, {
    ts: nullable(raw.ts), cpu: withNulls(raw.cpu, NO_NUMBER), pid: withNulls(raw.pid, NO_NUMBER), tid: withNulls(raw.tid, NO_NUMBER),
    comm: raw.comm, event: raw.event, period: nullable(raw.period), stack: raw.stack,
    misc: strings(misc, length), vm: numbers(vm, length), vcpu: numbers(vcpu, length), payload: strings(payload, length),
  });
  return {
    source, samples,
    stacks: makeTable(stackColumns, { id: ids(parent.length), parent: withNulls(parent, -1), frame: withNulls(frame, -1), depth }),
    frames: makeTable(frameColumns, { id: ids(symbol.length), symbol, dso, kind, addr, srcline }),
    events: eventsOf(raw), lost: tableOf(profileLostColumns, lost), header, raw,
  };
}

function eventsOf({ length, event, period }: ProfileArrays): ColumnTable {
  const samples = new Float64Array(event.values.length + 1), weight = new Float64Array(event.values.length + 1);
  addUp(event.codes, period, length, samples, weight);
  const rows = [...event.values, null].map((name, i) => ({ event: name, samples: samples[(i + 1) % samples.length], weight: weight[(i + 1) % samples.length] }));
  return tableOf(profileEventColumns, rows.filter((row) => row.samples > 0));
}

/** A function of its own, since what V8 compiles for the loop serves the next recording too. */
function addUp(codes: Codes, period: Float64Array, length: number, samples: Float64Array, weight: Float64Array): void {
  for (let i = 0; i < length; i++) {
    samples[codes[i] + 1]++;
    weight[codes[i] + 1] += period[i] > 0 ? period[i] : 1;
  }
}

function ids(length: number): Int32Array {
  const ids = new Int32Array(length);
  for (let i = 0; i < length; i++) ids[i] = i;
  return ids;
}

function strings({ rows, numbers, values }: RareValues, length: number): DictionaryColumn {
  const codes = newCodes(length, values.length).fill(-1);
  for (let i = 0; i < rows.length; i++) codes[rows[i]] = numbers[i];
  return new DictionaryColumn(codes, values);
}

function numbers({ rows, numbers }: RareValues, length: number): NullableColumn {
  const values = new Float64Array(length).fill(NaN);
  for (let i = 0; i < rows.length; i++) values[rows[i]] = numbers[i];
  return new NullableColumn(values);
}

function nullable(data: Float64Array): Float64Array | NullableColumn {
  return data.includes(NaN) ? new NullableColumn(data) : data;
}

function withNulls(data: Int32Array, none: number): Column<any> {
  if (!data.includes(none)) return data;
  const values = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) values[i] = data[i] === none ? NaN : data[i];
  return new NullableColumn(values);
}
