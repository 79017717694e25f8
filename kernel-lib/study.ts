import { readdirSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { ColumnTable } from "arquero";
import { InterruptedError, KernelLibError, MissingFileError, OptionError } from "./errors.js";
import { loadCommands } from "./parse/commands.js";
import { loadIperf3 } from "./parse/iperf3.js";
import { loadKvmexit } from "./parse/kvmexit.js";
import { loadPerfKvmStat } from "./parse/perf-kvm-stat.js";
import { loadPerfReport } from "./parse/perf-report.js";
import { loadPerfScript, type Profile } from "./parse/perf-script.js";
import { loadPerfStat } from "./parse/perf-stat.js";
import { loadThreadList } from "./parse/threads.js";
import { loadTraceCmd } from "./parse/trace-cmd.js";
import { loadVirtiostat } from "./parse/virtiostat.js";
import { BooleanColumn, columnsOf, describeColumns, DictionaryColumn, NullableColumn, tableOf, type Column, type Columns, type RowOf } from "./source/columns.js";
import { accounting, type Accounting } from "./source/lines.js";
import { progressText, startProgress } from "./source/progress.js";
import { CACHE_SUFFIX, type CachedLoadOptions } from "./store/cache.js";
import type { Trace } from "./trace.js";

/** What a run may hold, by the name under which it is found there. */
interface Recordings {
  iperf3: ColumnTable;
  perfStat: ColumnTable;
  instructions: ColumnTable;
  kvmStat: ColumnTable;
  virtiostat: ColumnTable;
  kvmexit: ColumnTable;
  functions: ColumnTable;
  byCommand: ColumnTable;
  idleFunctions: ColumnTable;
  afterExclusion: ColumnTable;
  trace: Trace;
  hostProfile: Profile;
  /** The host's profile with its samples in guest mode, which perf script prints with --guestmount alone; for nestStacks. */
  wholeHostProfile: Profile;
  guestProfile: Profile;
  threads: ColumnTable;
  commands: ColumnTable;
}
export type RecordingName = keyof Recordings;

/** Recordings of which a run may hold several, made one after the other. */
interface Repeats {
  iperf3: ColumnTable[];
  perfStat: ColumnTable[];
  instructions: ColumnTable[];
  kvmStat: ColumnTable[];
  trace: Trace[];
}

interface Kind<T> {
  /** File names, without .gz and .zst; the first that is there is taken. */
  files: string[];
  /** Step of data/record.sh that makes it; left out for what a host is not asked for, which is not missed either. */
  step?: string;
  /** File names of repeats, which may include the file above. */
  repeats?: RegExp;
  load(path: string, options: CachedLoadOptions): Promise<T>;
}

const kinds: { [K in RecordingName]: Kind<Recordings[K]> } = {
  iperf3: { files: ["iperf3.json", "iperf3.txt"], step: "iperf3", repeats: /^iperf3-(run|ab)\d+\.json$/, load: loadIperf3 },
  perfStat: { files: ["perf-stat.txt", "perf-stat.json", "perf-stat.csv"], step: "perf-stat", repeats: /^perf-stat-(run|ab)\d+\.txt$/, load: loadPerfStat },
  instructions: { files: ["perf-stat-instructions.txt", "perf-stat-instructions-run1.txt"], repeats: /^perf-stat-instructions-run\d+\.txt$/, load: loadPerfStat },
  kvmStat: { files: ["perf-kvm-stat.txt"], step: "perf-kvm-stat", repeats: /^perf-kvm-stat(-r\d+)?\.txt$/, load: loadPerfKvmStat },
  virtiostat: { files: ["virtiostat.txt"], step: "virtiostat", load: loadVirtiostat },
  kvmexit: { files: ["kvmexit.txt"], step: "kvmexit", load: loadKvmexit },
  functions: { files: ["perf-kvm-report.txt"], step: "perf-kvm-report", load: loadPerfReport },
  byCommand: { files: ["perf-kvm-report-comm.txt"], step: "perf-kvm-report", load: loadPerfReport },
  idleFunctions: { files: ["perf-kvm-report-idle.txt"], load: loadPerfReport },
  afterExclusion: { files: ["perf-kvm-report-after-exclusion.txt"], load: loadPerfReport },
  trace: { files: ["trace-cmd.nsec.txt", "trace-cmd.txt"], step: "trace-cmd", repeats: /^trace-cmd(-r\d+)?\.nsec\.txt$/, load: loadTraceCmd },
  hostProfile: { files: ["perf-script-host.txt"], step: "perf-script", load: loadPerfScript },
  wholeHostProfile: { files: ["perf-script-host-guestmount.txt"], load: loadPerfScript },
  guestProfile: { files: ["perf-script-guest.txt"], step: "perf-script", load: loadPerfScript },
  threads: { files: ["environment.txt"], load: loadThreadList },
  commands: { files: ["commands.txt"], load: loadCommands },
};
const names = Object.keys(kinds) as RecordingName[];

export const overviewColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run." },
  recording: { type: "string", unit: null, meaning: "Name under which the run has it, such as trace.", null: "the file's name is none that a run looks for" },
  file: { type: "string", unit: null, meaning: "Name of the file; where it is missing, the name looked for." },
  state: { type: "string", unit: null, meaning: "loaded, missing, empty, unreadable, left out (by an option), or another file (none that a run looks for)." },
  rows: { type: "number", unit: "count", meaning: "Rows, events or samples.", null: "not loaded" },
  time_span: { type: "number", unit: "ns", meaning: "From the first to the last time in it.", null: "it has no times, or is not loaded" },
  lost: { type: "number", unit: "count", meaning: "Places at which the recorder lost events.", null: "the format cannot say, or it is not loaded" },
  lines: { type: "number", unit: "count", meaning: "Lines of text.", null: "not loaded" },
  not_understood: { type: "number", unit: "count", meaning: "Lines that the parser did not understand.", null: "not loaded" },
  note: { type: "string", unit: null, meaning: "What is wrong with it, or how to make it.", null: "there is nothing to say" },
} as const satisfies Columns;

/** The recordings of one run. Asking for one that is missing throws a MissingFileError that says how to make it. */
export interface Run extends Readonly<Recordings> {
  name: string;
  dir: string;
  /** Repeats of a measurement, one table or trace each; empty where there are none. */
  repeats: Readonly<Repeats>;
  /** Per file: rows, time span, lost events, lines not understood, or that it is missing. */
  overview: ColumnTable;
  has(recording: RecordingName): boolean;
}

/** Several runs side by side: each table of all of them stacked, with a first column run. */
export interface Study extends Readonly<Omit<Recordings, "trace" | "hostProfile" | "wholeHostProfile" | "guestProfile">> {
  runs: readonly Run[];
  /** One run by its name. @throws OptionError for a name that the study has not. */
  run(name: string): Run;
  overview: ColumnTable;
}

export interface LoadRunOptions {
  /** Name of the run; default: the folder's name. */
  name?: string;
  /** Load these recordings alone; default: all. */
  only?: RecordingName[];
  /** Load repeats too; default true. */
  repeats?: boolean;
  /** Keep what traces and profiles were read into beside them, for the next time (see loadTraceCmd); default false; one of false, true, "hash". */
  cache?: CachedLoadOptions["cache"];
  /** Stops the loading, which then fails with an InterruptedError; default none. */
  signal?: AbortSignal;
}

const plainName = (file: string) => file.replace(/\.(gz|zst)$/, "");

/**
 * Loads the recordings that a folder holds, found by file name (those that data/record.sh writes). A file that is
 * missing is no error until something asks for it; one that cannot be read is said in the overview.
 */
export async function loadRun(dir: string, options: LoadRunOptions = {}): Promise<Run> {
  const { name = basename(dir.replace(/\/+$/, "")), only = names, repeats: wantRepeats = true, cache = false } = options;
  for (const one of only) if (!names.includes(one)) throw new OptionError(`only: ${JSON.stringify(one)} is no recording; one of ${names.join(", ")}`);
  let files: string[];
  try {
    files = readdirSync(dir).filter((file) => !file.includes(CACHE_SUFFIX) && statSync(join(dir, file)).isFile()).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  } catch (error) {
    throw new MissingFileError(`${dir} is not a folder that can be read (${(error as NodeJS.ErrnoException).code ?? "error"}); loadRun takes the folder that data/record.sh made`);
  }
  const loaded = new Map<RecordingName, unknown>();
  const byFile = new Map<string, { result: object | null; error: string | null }>();
  const overview: RowOf<typeof overviewColumns>[] = [];
  const progress = startProgress();
  const blank = { rows: null, time_span: null, lost: null, lines: null, not_understood: null, note: null };

  const read = async (file: string, kind: Kind<object>, recording: RecordingName): Promise<object | null> => {
    const known = byFile.get(file);
    if (known) return known.result;
    let result: object | null = null, error: string | null = null;
    try {
      result = await kind.load(join(dir, file), {
        cache, signal: options.signal,
        progress: (state) => { progress.update(() => `run ${name}: ${file} (${byFile.size + 1} of at most ${files.length} files): ${progressText(state)}`); },
      });
    } catch (thrown) {
      if (!(thrown instanceof KernelLibError) || thrown instanceof InterruptedError) throw thrown;
      error = thrown.message;
    }
    byFile.set(file, { result, error });
    if (result === null) overview.push({ run: name, recording, file, state: "unreadable", ...blank, note: error });
    else overview.push({ run: name, recording, file, ...factsOf(result) });
    return result;
  };

  try {
    const repeats: { [K in keyof Repeats]: unknown[] } = { iperf3: [], perfStat: [], instructions: [], kvmStat: [], trace: [] };
    for (const recording of names) {
      const kind = kinds[recording] as Kind<object>;
      const file = kind.files.map((wanted) => files.find((file) => plainName(file) === wanted)).find((file) => file !== undefined);
      if (!only.includes(recording)) {
        if (file) overview.push({ run: name, recording, file, state: "left out", ...blank });
        continue;
      }
      if (file) {
        const result = await read(file, kind, recording);
        if (result) loaded.set(recording, result);
      } else if (kind.step) overview.push({ run: name, recording, file: kind.files[0], state: "missing", ...blank, note: `data/record.sh --steps ${kind.step} makes it` });
      if (!kind.repeats || !wantRepeats) continue;
      // In the order in which they were made: the file without a number is the first.
      const number = (file: string) => Number(/(?:-r|run|ab)(\d+)\./.exec(file)?.[1] ?? 1);
      for (const repeat of files.filter((file) => kind.repeats!.test(plainName(file))).sort((a, b) => number(a) - number(b))) {
        const result = await read(repeat, kind, recording);
        if (result) repeats[recording as keyof Repeats].push(result);
      }
    }
    const seen = new Set(overview.map(({ file }) => file));
    for (const file of files) if (!seen.has(file)) overview.push({ run: name, recording: null, file, state: "another file", ...blank });
    const run = {
      name, dir, repeats,
      overview: tableOf(overviewColumns, overview),
      has: (recording: RecordingName) => loaded.has(recording),
    };
    for (const recording of names) {
      Object.defineProperty(run, recording, { enumerable: true, get: () => loaded.get(recording) ?? missing(recording, name, dir, only) });
    }
    return run as unknown as Run;
  } finally {
    progress.close();
  }
}

function missing(recording: RecordingName, run: string, dir: string, only: RecordingName[]): never {
  if (!only.includes(recording)) throw new MissingFileError(`${recording} of run ${run} was left out; add it to only: [${[...only, recording].map((name) => JSON.stringify(name)).join(", ")}]`);
  throw new MissingFileError(`run ${run} has no ${recording}: ${dir} holds no readable ${kinds[recording].files.join(" or ")}${kinds[recording].step ? `; make it with data/record.sh --steps ${kinds[recording].step} GUEST DIR` : ""}`);
}

/**
 * Loads several runs: `loadStudy({ virtio: "../data/capture/icount-virtio", vhost: "../data/capture/icount-vhost" })`.
 * Each of its tables stacks those runs that have it, with a first column run.
 */
export async function loadStudy(dirs: Record<string, string>, options: Omit<LoadRunOptions, "name"> = {}): Promise<Study> {
  const runs: Run[] = [];
  for (const [name, dir] of Object.entries(dirs)) runs.push(await loadRun(dir, { ...options, name }));
  if (runs.length === 0) throw new OptionError("loadStudy takes at least one run: loadStudy({ name: folder })");
  const study = {
    runs,
    run(name: string) {
      const run = runs.find((run) => run.name === name);
      if (!run) throw new OptionError(`the study has no run ${JSON.stringify(name)}; it has ${runs.map((run) => run.name).join(", ")}`);
      return run;
    },
    overview: describeColumns(runs.map((run) => run.overview).reduce((a, b) => a.concat(b)), overviewColumns),
  };
  const stacked = new Map<string, ColumnTable>();
  for (const recording of names) {
    Object.defineProperty(study, recording, {
      enumerable: true,
      get() {
        const made = stacked.get(recording);
        if (made) return made;
        const having = runs.filter((run) => run.has(recording));
        if (having.length === 0) return runs[0][recording]; // throws, and says what is missing
        const first = runs[0].has(recording) ? runs[0][recording] : having[0][recording];
        if (!(first instanceof ColumnTable)) throw new OptionError(`study.${recording} does not exist, since a ${recording} is more than a table; take study.run("${having[0].name}").${recording}`);
        const table = stackRuns(Object.fromEntries(having.map((run) => [run.name, run[recording] as ColumnTable])));
        stacked.set(recording, table);
        return table;
      },
    });
  }
  return study as unknown as Study;
}

/** Tables of several runs as one, with a first column run. A column that a table lacks is null in its rows. */
export function stackRuns(tables: Record<string, ColumnTable>): ColumnTable {
  const parts = Object.entries(tables).map(([run, table]) => ({ run, table: table.isFiltered() || table.isOrdered() ? table.reify() : table, like: table }));
  const specs: Columns = { run: { type: "string", unit: null, meaning: "Name of the run." } };
  for (const { table, like } of parts) {
    const known = columnsOf(like);
    for (const name of table.columnNames()) if (name !== "run") specs[name] ??= known[name];
  }
  const sizes = parts.map(({ table }) => table.numRows());
  const total = sizes.reduce((a, b) => a + b, 0);
  const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((a, b) => a + b, 0));
  const runCodes = new Int32Array(total);
  parts.forEach((_, i) => runCodes.fill(i, starts[i], starts[i] + sizes[i]));
  const data: Record<string, Column<any>> = { run: new DictionaryColumn(runCodes, parts.map(({ run }) => run)) };
  for (const name of Object.keys(specs)) {
    if (name !== "run") data[name] = join1(parts.map(({ table }) => table.data()[name] as Column<any> | undefined), sizes, starts, total);
  }
  for (const name of Object.keys(specs)) if (!specs[name]) delete specs[name];
  return describeColumns(new ColumnTable(data as any, Object.keys(data)), specs);
}

/** One column from the pieces of several tables, in the narrowest of our column types that holds them all. */
function join1(columns: (Column<any> | undefined)[], sizes: number[], starts: number[], total: number): Column<any> {
  const there = columns.filter((column) => column !== undefined);
  if (there.every((column) => column instanceof DictionaryColumn)) {
    const values: string[] = [], codeOf = new Map<string, number>(), codes = new Int32Array(total).fill(-1);
    columns.forEach((column, i) => {
      if (!(column instanceof DictionaryColumn)) return;
      const map = column.values.map((value) => {
        let code = codeOf.get(value);
        if (code === undefined) { codeOf.set(value, (code = values.length)); values.push(value); }
        return code;
      });
      for (let row = 0; row < sizes[i]; row++) codes[starts[i] + row] = column.codes[row] < 0 ? -1 : map[column.codes[row]];
    });
    return new DictionaryColumn(codes, values);
  }
  const numeric = there.every((column) => column instanceof NullableColumn || ArrayBuffer.isView(column) && !(column instanceof BigInt64Array) && !(column instanceof BigUint64Array));
  if (numeric) {
    const all = new Float64Array(total).fill(NaN);
    columns.forEach((column, i) => { if (column) all.set((column instanceof NullableColumn ? column.data : column) as unknown as Float64Array, starts[i]); });
    return all.some((x) => x !== x) ? new NullableColumn(all) : all;
  }
  if (there.length === columns.length && there.every((column) => column instanceof BooleanColumn)) {
    const all = new Uint8Array(total);
    columns.forEach((column, i) => all.set((column as BooleanColumn).data, starts[i]));
    return new BooleanColumn(all);
  }
  const all: unknown[] = new Array(total).fill(null);
  columns.forEach((column, i) => { if (column) for (let row = 0; row < sizes[i]; row++) all[starts[i] + row] = column.at(row) ?? null; });
  return all as unknown as Column<any>;
}

function factsOf(result: object): Omit<RowOf<typeof overviewColumns>, "run" | "recording" | "file"> {
  const a: Accounting = accounting(result);
  const { rows, span, lost } = sizeOf(result);
  return {
    state: a.lines === 0 ? "empty" : "loaded", rows, time_span: span, lost, lines: a.lines, not_understood: a.notUnderstood,
    note: a.notUnderstood === 0 ? null : `line ${a.unknown[0].line} was not understood: ${a.unknown[0].text.slice(0, 60)}`,
  };
}

function sizeOf(result: object): { rows: number; span: number | null; lost: number | null } {
  if (result instanceof ColumnTable) {
    const end = result.columnNames().includes("end") ? Math.max(...(result.array("end") as (number | null)[]).map((x) => x ?? 0)) : null;
    return { rows: result.numRows(), span: end === null || !Number.isFinite(end) ? null : end * 1e9, lost: null };
  }
  const { raw, lost } = result as Trace | Profile;
  const { ts, length } = raw;
  let first = Infinity, last = -Infinity;
  for (let i = 0; i < length; i++) {
    if (ts[i] < first) first = ts[i];
    if (ts[i] > last) last = ts[i];
  }
  return { rows: length, span: last >= first ? last - first : null, lost: lost.numRows() };
}
