import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { ColumnTable, not, op } from "arquero";
import { OptionError } from "../errors.js";
import { fromIperf3 } from "../parse/iperf3.js";
import type { Profile } from "../parse/perf-script.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { accounting } from "../source/lines.js";
import type { Run } from "../study.js";
import type { Trace } from "../trace.js";
import { directionsOf, estimate, iperf3Runs, kvmRun, perfStatRuns, ratioInterval, runRate, shareRatioInterval, studentQuantile, type Estimate, type RatioInterval } from "./compare.js";
import { foldStacks } from "./fold.js";
import { chooseEvent } from "./fold-samples.js";
import { excludeIdle } from "./idle.js";
import { kickSpans, stageLengths } from "./kick-stages.js";
import { virtioKicks } from "./kicks.js";
import { quantileSorted } from "./quantile.js";
import { callersOf } from "./stacks.js";
import { numbersOf } from "./walk.js";

// Is b better than a? Measure by measure, with the interval of the ratio and a verdict in words.
//
// Where there are repeats, the spread between them gives the interval. Where a side has one run alone, its spread is that within the run: a
// moving-block bootstrap (Künsch 1989): stretches of √n neighbours, drawn anew, keep what neighbours have in common. That says nothing of
// what differs from run to run, and the column method says so. Such a row is called better or worse only where the interval excludes every
// difference that does not matter; between single runs of one and the same mode one measure in ten is still called so. Record repeats.
//
// The verdict compares the interval with 1 and with the factors that matter (1.1 and its inverse by default):
//   inside these factors   → no difference seen  (a difference that matters is excluded)
//   not around 1           → better or worse     (a difference is shown; of one run: one that matters)
//   anything else          → too little data     (a difference that matters is neither shown nor excluded)
// One verdict in twenty of better or worse is wrong where nothing differs (at 95 %), and a comparison has dozens of rows: look for those that agree.

export const runComparisonColumns = {
  group: { type: "string", unit: null, meaning: "Kind of measure: bitrate, exits, kicks and interrupts, system calls, stages of a kick, CPU." },
  measure: { type: "string", unit: null, meaning: "What is measured." },
  unit: { type: "string", unit: null, meaning: "Unit of the two values; MB is 10⁶ bytes moved by iperf3." },
  better: { type: "string", unit: null, meaning: "Which direction is better: more or less." },
  a: { type: "number", unit: null, meaning: "Value of the first side, in the row's unit: the mean over its repeats.", null: "it has no recording of this, or the data moved are not known" },
  b: { type: "number", unit: null, meaning: "Value of the second side, in the row's unit: the mean over its repeats.", null: "it has no recording of this, or the data moved are not known" },
  ratio: { type: "number", unit: null, meaning: "Second value over the first: ratio above 1 means more.", null: "a side has no value, or the first is 0" },
  low: { type: "number", unit: null, meaning: "Lower end of the interval of the ratio (95 % by default).", null: "nothing tells the spread, or there is no ratio" },
  high: { type: "number", unit: null, meaning: "Upper end of the interval of the ratio (95 % by default).", null: "nothing tells the spread, or there is no ratio" },
  n_a: { type: "number", unit: "count", meaning: "Repeats (or blocks of time, or samples: see method) behind the first value." },
  n_b: { type: "number", unit: "count", meaning: "Repeats (or blocks of time, or samples: see method) behind the second value." },
  verdict: { type: "string", unit: null, meaning: "What is to be said of the second side: better, worse, no difference seen, too little data." },
  needed: { type: "number", unit: "count", meaning: "Repeats per side that would do: with so many, a difference that matters would be seen in four of five studies.", null: "the verdict is another one than too little data, or no repeats tell how much runs differ" },
  method: { type: "string", unit: null, meaning: "How the interval was computed, what weakens it, or why there is none." },
} as const satisfies Columns;

export type Verdict = "better" | "worse" | "no difference seen" | "too little data";

export interface CompareRunsOptions {
  /** Names of the two sides, which become the names of their columns; default: those of the runs where they differ, else ["a", "b"]. */
  names?: readonly [string, string];
  /** Confidence of the interval, in %; default 95; above 0 and below 100. */
  confidence?: number;
  /** The smallest difference that matters, in %; default 10. */
  matters?: number;
  /** Bytes that iperf3 moved in each recording of counters and events, where commands.txt does not tell; default: these measures are left without a value. */
  bytes?: number;
  /** Start of the random numbers of the bootstrap; default 1; the same seed gives the same table. */
  seed?: number;
}

/** What one repeat says of a measure, and its standard error from within that repeat where it has a course in time. */
interface Value extends Estimate { note: string | null; /** Of a share: how many of how many samples. */ share?: [hits: number, samples: number] }
interface Measure { group: string; measure: string; unit: string; better: "more" | "less"; values: Value[]; why: string | null }
type Runs = Run | readonly Run[];

/**
 * The second run against the first, one row per measure that their recordings give: bitrate, exits per MB by reason, kicks and
 * interrupts per MB, system calls on a packet's way, the stages of a kick, instructions per MB, CPU without idle by process.
 * A run's own repeats are its repeats; of a list of runs each is one repeat (the mean of its own).
 * Columns: `runComparisonColumns`, with the two sides named by the option names.
 * @throws OptionError for empty lists, names that clash, and percentages out of range
 */
export function compareRuns(a: Runs, b: Runs, options: CompareRunsOptions = {}): ColumnTable {
  const { confidence = 95, matters = 10, seed = 1 } = options;
  const [left, right] = [listOf(a, "a"), listOf(b, "b")];
  const names = options.names ?? (left[0].name !== right[0].name && !(left[0].name in runComparisonColumns) && !(right[0].name in runComparisonColumns) ? [left[0].name, right[0].name] : ["a", "b"]);
  const { a: aSpec, b: bSpec, group, measure, unit, better, ...others } = runComparisonColumns;
  if (names.length !== 2 || names[0] === names[1] || names.some((name) => typeof name !== "string" || name === "" || name in { group, measure, unit, better, ...others })) {
    throw new OptionError(`names takes two different names that are not columns of the result (${Object.keys({ group, measure, unit, better, ...others }).join(", ")}); this is ${JSON.stringify(names)}`);
  }
  if (!(confidence > 0 && confidence < 100)) throw new OptionError(`confidence is a percentage above 0 and below 100; this is ${confidence}`);
  if (!(matters > 0)) throw new OptionError(`matters is a percentage above 0; this is ${matters}`);
  if (options.bytes !== undefined && !(options.bytes > 0)) throw new OptionError(`bytes is a number above 0; this is ${options.bytes}`);

  const [before, after] = [left, right].map((runs) => sideOf(runs, options.bytes ?? null, seed));
  const columns: Columns = { group, measure, unit, better, [names[0]]: aSpec, [names[1]]: bSpec, ...others };
  const keys = [...new Set([...before.keys(), ...after.keys()])].sort((p, q) => orderOf(before.get(p) ?? after.get(p)!) - orderOf(before.get(q) ?? after.get(q)!));
  return tableOf(columns, keys.flatMap((key) => {
    const of = before.get(key) ?? after.get(key)!;
    const [one, two] = [before, after].map((side) => {
      const found = side.get(key);
      // perf kvm stat does not list a reason that never came: it came 0 times.
      return found ?? (of.measure.startsWith("exits for ") ? zeros(side) : undefined);
    });
    const [p, q] = [one, two].map((side) => (side && side.values.length > 0 ? together(side.values) : null));
    if (p?.mean === 0 && q?.mean === 0) return [];
    const shares = [one, two].map((side) => side?.values.flatMap(({ share }) => (share ? [share] : [])) ?? []).map(sumOf);
    const byShare = shares[0][1] > 0 && shares[1][1] > 0;
    const interval = !p || !q ? null : byShare ? shareRatioInterval(shares[0], shares[1], confidence) : ratioInterval(p, q, confidence);
    const repeated = [one, two].map((side) => (side?.values.length ?? 0) > 1);
    const verdict = verdictOf(interval, of.better, matters, repeated.includes(false) ? matters : 0);
    const spreads = [one, two].flatMap((side) => (side && side.values.length > 1 ? [estimate(side.values.map(({ mean }) => mean))] : []));
    const notes = [...new Set([one, two].flatMap((side) => side?.values.map(({ note }) => note) ?? []).filter((note) => note !== null))];
    const how = [...new Set(repeated.map((many) => (many ? "repeats" : `${byShare ? "samples" : "blocks of time"} of one run: says nothing of the spread between runs`)))].join("; ");
    const by = byShare ? "Walter's interval of a ratio of shares" : `Welch's t on logarithms, ${interval?.degrees.toFixed(1)} degrees of freedom`;
    const why = !p || !q ? [one, two].map((side) => side?.why).find((reason) => reason) ?? `not recorded in ${[!p && names[0], !q && names[1]].filter(Boolean).join(" and ")}`
      : p.mean === 0 || q.mean === 0 ? `never in ${p.mean === 0 ? names[0] : names[1]}: no ratio` : "one run, and nothing in it tells the spread: record repeats";
    return [{
      group: of.group, measure: of.measure, unit: of.unit, better: of.better, [names[0]]: p?.mean ?? null, [names[1]]: q?.mean ?? null,
      ratio: p && q && p.mean !== 0 ? q.mean / p.mean : null, low: p?.mean === 0 ? null : interval?.low ?? null, high: p?.mean === 0 ? null : interval?.high ?? null,
      n_a: byShare ? shares[0][1] : p?.n ?? 0, n_b: byShare ? shares[1][1] : q?.n ?? 0,
      verdict, // More than there are, whatever the spread: these were too few.
      needed: interval && verdict === "too little data" && spreads.length > 0 ? Math.max(repeatsNeeded(spreads, matters, confidence) ?? 0, ...spreads.map(({ n }) => n + 1)) : null,
      method: [interval ? `${how}; ${by}` : why, ...notes].join("; "),
    } as RowOf<typeof columns>];
  }));
}

/**
 * What is to be said of an interval of the ratio: see the head of this file.
 * @param matters the smallest difference that matters, in %; default 10
 * @param shown the difference, in %, that the interval must lie beyond to be called better or worse; default 0
 */
export function verdictOf(interval: Pick<RatioInterval, "low" | "high"> | null, better: "more" | "less", matters = 10, shown = 0): Verdict {
  if (interval === null) return "too little data";
  const { low, high } = interval, factor = 1 + matters / 100, beyond = 1 + shown / 100;
  if (low >= 1 / factor && high <= factor) return "no difference seen";
  if (low > beyond || high < 1 / beyond) return (low > 1) === (better === "more") ? "better" : "worse";
  return "too little data";
}

/**
 * Repeats per side with which a difference that matters is seen with a power of 80 %: the smallest n with
 * (t(1 − α/2) + t(0.8)) · s · √(2/n) ≤ ln(factor), s the pooled relative spread of the repeats there are. Null where there are none.
 */
export function repeatsNeeded(sides: Estimate[], matters = 10, confidence = 95): number | null {
  const known = sides.filter(({ n, error, mean }) => n > 1 && error !== null && mean > 0);
  if (known.length === 0) return null;
  const spread2 = known.reduce((sum, { n, error, mean }) => sum + (n - 1) * n * (error! / mean) ** 2, 0) / known.reduce((sum, { n }) => sum + n - 1, 0);
  const enough = (n: number): boolean => (studentQuantile(0.5 + confidence / 200, 2 * n - 2) + studentQuantile(0.8, 2 * n - 2)) * Math.sqrt((2 * spread2) / n) <= Math.log1p(matters / 100);
  let low = 1, high = 2;
  while (!enough(high)) [low, high] = [high, 2 * high];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (enough(middle)) high = middle;
    else low = middle;
  }
  return high;
}

function listOf(runs: Runs, side: string): Run[] {
  const list = Array.isArray(runs) ? [...runs as readonly Run[]] : [runs as Run];
  if (list.length === 0) throw new OptionError(`the list of runs for ${side} is empty; give a run, or one per repeat`);
  for (const run of list) if (typeof run?.has !== "function" || !run.repeats) throw new OptionError(`side ${side} takes what loadRun gives, or a list of these; this is ${typeof run}`);
  return list;
}

const GROUPS = ["bitrate", "exits", "kicks and interrupts", "system calls", "stages of a kick", "CPU"];
const orderOf = ({ group }: Measure): number => GROUPS.indexOf(group);

/** A measure that never happened in any of the repeats of perf kvm stat; undefined where there are none. */
function zeros(side: Map<string, Measure>): Measure | undefined {
  const some = [...side.values()].find(({ measure }) => measure.startsWith("exits for "));
  return some && { ...some, values: some.values.map(() => ({ mean: 0, error: null, n: 1, note: null })) };
}

/** Several repeats: their mean and its error; one: what it says itself. */
const together = (values: Value[]): Estimate => (values.length > 1 ? estimate(values.map(({ mean }) => mean)) : values[0]);

const sumOf = (shares: [hits: number, samples: number][]): [hits: number, samples: number] => shares.reduce(([k, n], [hits, samples]) => [k + hits, n + samples], [0, 0]);

/** All measures of one side. Of several runs each gives one value. */
function sideOf(runs: Run[], bytes: number | null, seed: number): Map<string, Measure> {
  const sides = runs.map((run) => measuresOf(run, bytes, seed, runs.length === 1));
  if (sides.length === 1) return sides[0];
  const all = new Map<string, Measure>();
  for (const side of sides) for (const [key, measure] of side) if (!all.has(key)) all.set(key, { ...measure, values: [] });
  for (const [key, measure] of all) {
    for (const side of sides) {
      const found = side.get(key) ?? (measure.measure.startsWith("exits for ") ? zeros(side) : undefined);
      if (found && found.values.length > 0) measure.values.push({ ...found.values[0], ...together(found.values) });
    }
  }
  return all;
}

/** A run's repeats of a recording; where it has none, the one that there is. */
function recordings<T>(run: Run, name: "iperf3" | "perfStat" | "instructions" | "kvmStat" | "trace"): T[] {
  const repeats = run.repeats[name] as readonly unknown[];
  return (repeats.length > 0 ? [...repeats] : run.has(name) ? [run[name]] : []) as T[];
}

function measuresOf(run: Run, bytes: number | null, seed: number, alone: boolean): Map<string, Measure> {
  const found = new Map<string, Measure>();
  const add = (group: string, measure: string, unit: string, better: "more" | "less", value: Value | null, why: string | null = null): void => {
    const of = found.get(measure) ?? { group, measure, unit, better, values: [], why };
    found.set(measure, of);
    if (value) of.values.push(value);
  };
  const random = randomFrom(seed);
  // The spread within a run counts only where there is one alone.
  const within = (repeats: number, n: number, statistic: (rows: number[]) => number): Pick<Estimate, "error" | "n"> => (alone && repeats === 1 ? blockError(n, random, statistic) : { error: null, n: 1 });
  const plain = (mean: number, note: string | null = null): Value => ({ mean, error: null, n: 1, note });

  const tests = recordings<ColumnTable>(run, "iperf3").flatMap(iperf3Runs);
  for (const direction of directionsOf(tests)) {
    for (const test of tests) {
      const rate = runRate(test.filter((row) => row.direction === direction), "receiver");
      if (!rate) continue;
      const known = rate.intervals.filter((row) => row.bytes !== null);
      const spread = within(tests.length, known.length, (rows) => rows.reduce((sum, i) => sum + 8 * known[i].bytes!, 0) / rows.reduce((sum, i) => sum + known[i].end - known[i].start, 0));
      add("bitrate", direction === null ? "bitrate" : `bitrate ${direction}`, "bit/s", "more", { mean: rate.rate, ...spread, note: null });
    }
  }

  const moved = (recording: object): number | null => {
    const all = bytesMoved(run, basename(accounting(recording).source).replace(/\.(gz|zst)$/, "")) ?? bytes;
    return all === null ? null : all / 1e6;
  };
  const perMB = (group: string, measure: string, count: number, megabytes: number | null, spread: Pick<Estimate, "error" | "n"> = { error: null, n: 1 }, note: string | null = null, unit = "per MB"): void => {
    const value = megabytes === null ? null : { mean: count / megabytes, error: spread.error === null ? null : spread.error / megabytes, n: spread.n, note };
    add(group, measure, unit, "less", value, megabytes === null ? `the data moved in ${run.name} are not known: commands.txt tells neither iperf3 -n nor where its output went; give the option bytes` : null);
  };

  for (const table of recordings<ColumnTable>(run, "perfStat")) {
    for (const one of perfStatRuns(table)) {
      const counts = one.objects() as { event: string; value: number | null }[];
      for (const [event, group, measure] of COUNTERS) for (const { value } of counts.filter((row) => row.event === event && row.value !== null)) perMB(group, measure, value!, moved(table));
    }
  }
  const stats = recordings<ColumnTable>(run, "kvmStat").map((table) => ({ moved: moved(table), rows: kvmRun(table).objects() as { event: string; samples: number }[] }));
  for (const reason of new Set(stats.flatMap(({ rows }) => rows.map(({ event }) => event)))) {
    for (const one of stats) perMB("exits", `exits for ${reason}`, one.rows.find(({ event }) => event === reason)?.samples ?? 0, one.moved);
  }

  const traces = recordings<Trace>(run, "trace");
  for (const trace of traces) {
    const kicks = trace.eventNames.includes("kvm_mmio") && trace.eventNames.includes("kvm_exit") && trace.eventNames.includes("sched_switch") ? virtioKicks(trace) : null;
    const note = trace.lost.numRows() > 0 ? "events were lost: counts are too low" : null;
    const counted = (measure: string, times: ArrayLike<number>): void => perMB("kicks and interrupts", measure, times.length, moved(trace), within(traces.length, SLICES, slicesOf(trace, times)), note);
    const timed = (measure: string, spans: number[]): void => {
      if (spans.length === 0) return;
      const percentile = (p: number) => (rows: number[]) => quantileSorted(Float64Array.from(rows, (i) => spans[i]).sort(), p);
      const all = spans.map((_, i) => i);
      for (const [name, p] of [["median", 0.5], ["p90", 0.9]] as const) {
        add("stages of a kick", `${measure}, ${name}`, "ns", "less", { mean: percentile(p)(all), ...within(traces.length, spans.length, percentile(p)), note });
      }
    };
    if (trace.eventNames.includes("kp_tun_get_user")) counted("tun_get_user calls", trace.of("kp_tun_get_user").array("ts") as ArrayLike<number>);
    const interrupts = deviceInterrupts(trace);
    if (interrupts) counted("device interrupts raised", interrupts);
    if (!kicks || kicks.numRows() === 0) continue;
    counted("kicks", kicks.array("ts") as ArrayLike<number>);
    const spans = kickSpans(kicks);
    for (const name of ["kick → tun_get_user", "kick → InterruptStatus read"]) timed(name, (spans.objects() as { span: string; dur: number }[]).filter(({ span }) => span === name).map(({ dur }) => dur));
    for (const [stage, lengths] of stageLengths(kicks.select(not("backend")))) timed(stage, lengths);
  }

  for (const table of recordings<ColumnTable>(run, "instructions")) {
    for (const one of perfStatRuns(table)) {
      const counts = one.objects() as { event: string; value: number | null }[];
      for (const [event, measure] of INSTRUCTIONS) for (const { value } of counts.filter((row) => row.event === event && row.value !== null)) perMB("CPU", measure, value!, moved(table), undefined, null, "instructions per MB");
    }
  }
  if (run.has("hostProfile")) {
    const ways = callersOf(foldStacks(run.hostProfile, { weight: "samples" }), "tun_get_user");
    const samples = ways.rollup({ all: op.sum("value"), inside: "d => op.sum(d.syscall ? d.value : 0)" }).object() as { all?: number; inside?: number };
    const share: [number, number] = [samples.inside ?? 0, samples.all ?? 0];
    for (const { comm, value, ...spread } of busyBy(run.hostProfile, (slices) => within(1, SLICES, slices))) {
      const megabytes = moved(run.hostProfile), unit = chooseEvent(run.hostProfile, undefined).unit;
      perMB("CPU", `CPU of ${comm} without idle, on the host`, value, megabytes, spread, null, `${unit} per MB`);
    }
    add("system calls", "tun_get_user inside a system call", "% of its samples", "less", share[1] > 0 ? { ...plain((100 * share[0]) / share[1]), share } : null, `no sample of ${run.name} is in tun_get_user`);
  }
  if (run.has("functions") && run.has("byCommand")) {
    const shares = new Map<string, number>();
    for (const { comm, overhead } of excludeIdle(run.functions, { from: run.byCommand }).objects() as { comm: string; overhead: number | null }[]) {
      const process = processOf(comm);
      shares.set(process, (shares.get(process) ?? 0) + (overhead ?? 0));
    }
    const load = loadOf(run, basename(accounting(run.byCommand).source));
    for (const [process, share] of shares) if (share > 0) add("CPU", `CPU of ${process} without idle${load}`, "% of all CPUs", "less", plain(share));
  }
  return found;
}

/** Weight of a profile's samples that are not idle: of all, and of each name that has a twentieth of them or more. */
function busyBy(profile: Profile, spread: (statistic: (rows: number[]) => number) => Pick<Estimate, "error" | "n">): (Pick<Estimate, "error" | "n"> & { comm: string; value: number })[] {
  const { taken } = chooseEvent(profile, undefined), { raw } = excludeIdle(profile);
  const first = raw.ts[0], span = raw.ts[raw.length - 1] - first;
  const slices = new Map<string, Float64Array>();
  for (let i = 0; i < raw.length; i++) {
    if (!taken[raw.event.codes[i] + 1]) continue;
    for (const comm of ["all", processOf(raw.comm.at(i) ?? "")]) {
      let of = slices.get(comm);
      if (!of) slices.set(comm, of = new Float64Array(SLICES));
      of[Math.min(SLICES - 1, Math.floor((SLICES * (raw.ts[i] - first)) / span) || 0)] += raw.period[i] > 0 ? raw.period[i] : 1;
    }
  }
  const sum = (of: Float64Array) => of.reduce((total, x) => total + x, 0), all = slices.get("all");
  return [...slices].filter(([, of]) => sum(of) >= sum(all!) / 20)
    .map(([comm, of]) => ({ comm, value: sum(of), ...spread((rows) => rows.reduce((total, i) => total + of[i], 0)) }));
}

/** A guest's comm is its thread (":195"), vhost's worker carries QEMU's pid: names that another run does not share. */
const processOf = (comm: string): string => comm.replace(/^:\d+$/, "guest").replace(/^vhost-\d+$/, "vhost");

const COUNTERS: [event: string, group: string, measure: string][] = [
  ["kvm:kvm_exit", "exits", "exits"],
  ["kvm:kvm_userspace_exit", "exits", "exits to user space"],
  ["kvm:kvm_vcpu_wakeup", "kicks and interrupts", "vCPU wake-ups"],
];
const INSTRUCTIONS: [event: string, measure: string][] = [
  ["instructions:uH", "host instructions, user mode"], ["instructions:kH", "host instructions, kernel"],
  ["instructions:uG", "guest instructions, user mode"], ["instructions:kG", "guest instructions, kernel"],
];

/** When a shared (device) interrupt was raised: ids from 32 on, arm64. Null where the trace does not have the event. */
function deviceInterrupts(trace: Trace): number[] | null {
  const ids = numbersOf(trace, "vgic_update_irq_pending", "irq"), levels = numbersOf(trace, "vgic_update_irq_pending", "level");
  if (!ids || !levels) return null;
  const ts = trace.of("vgic_update_irq_pending").array("ts") as ArrayLike<number>;
  return Array.from(ts).filter((_, i) => ids[i] >= 32 && levels[i] === 1);
}

/** Bytes that iperf3 moved while a file was recorded: those of its -n by commands.txt (K, M, G, T are powers of 1024), else those that it printed. */
function bytesMoved(run: Run, file: string): number | null {
  const { command, output } = recordCommand(run, file) ?? { command: "", output: null };
  if (!/\biperf3\b/.test(command)) return null;
  const match = /iperf3\b[^|;>]*?\s-n\s*(\d+(?:\.\d+)?)([KMGT]?)(?=\s|$|')/i.exec(command);
  if (match) return Number(match[1]) * 1024 ** " KMGT".indexOf(match[2].toUpperCase() || " ");
  if (output === null || !existsSync(join(run.dir, output))) return null;
  const totals = iperf3Runs(fromIperf3(readFileSync(join(run.dir, output)))).flat().filter(({ kind, side, bytes }) => kind === "total" && side === "receiver" && bytes !== null);
  return totals.length === 0 ? null : totals.reduce((sum, { bytes }) => sum + bytes!, 0);
}

/** The command that recorded what a file shows: the one that wrote it, or, where that is a report, the one that wrote what it reads. */
function recordCommand(run: Run, file: string): { command: string; output: string | null } | null {
  if (!run.has("commands")) return null;
  const rows = (run.commands.objects() as { command: string; exit: number | null; output: string | null }[]).filter(({ exit }) => exit === null || exit === 0);
  const made = rows.findLast(({ command, output }) => output === file || command.includes(`> ${file} `)) ?? null;
  const input = made !== null && /\b(report|script)\b/.test(made.command) ? /\s-i\s*(\S+)/.exec(made.command)?.[1] ?? null : null;
  return input === null ? made : rows.findLast(({ command }) => / -o\s*(\S+)/.exec(command)?.[1] === input) ?? null;
}

/** " at 100M": CPU shares compare where both sides were given the same load, so that it is part of the measure's name. */
function loadOf(run: Run, file: string): string {
  const rate = /iperf3\b[^|;>]*?\s-b\s*(\S+)/.exec(recordCommand(run, file)?.command ?? "")?.[1];
  return rate ? ` at ${rate}bit/s` : ", load not known";
}

const SLICES = 64;

/** A trace's time in slices, and how many events some of them hold. */
function slicesOf(trace: Trace, times: ArrayLike<number>): (rows: number[]) => number {
  const { ts, length } = trace.raw, slices = new Float64Array(SLICES);
  const first = ts[0], span = ts[length - 1] - first;
  for (let i = 0; i < times.length; i++) slices[Math.min(SLICES - 1, Math.max(0, Math.floor((SLICES * (times[i] - first)) / span) || 0))]++;
  return (rows) => rows.reduce((sum, i) => sum + slices[i], 0);
}

const DRAWS = 400;

/** Standard error of a statistic over n values in time, by moving blocks of √n neighbours, around the end; n is then the number of blocks. None of fewer than 4 blocks. */
function blockError(n: number, random: () => number, statistic: (rows: number[]) => number): Pick<Estimate, "error" | "n"> {
  const size = Math.max(1, Math.floor(Math.sqrt(n))), count = Math.floor(n / size);
  if (count < 4) return { error: null, n: 1 };
  const drawn = Array.from({ length: DRAWS }, () => {
    const rows: number[] = [];
    while (rows.length < n) {
      const start = Math.floor(random() * n);
      for (let i = 0; i < size && rows.length < n; i++) rows.push((start + i) % n);
    }
    return statistic(rows);
  });
  const mean = drawn.reduce((sum, x) => sum + x, 0) / DRAWS;
  return { error: Math.sqrt(drawn.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (DRAWS - 1)), n: count };
}

/** Random numbers in [0, 1) that a seed determines: Lehmer's generator with Park and Miller's constants. */
function randomFrom(seed: number): () => number {
  let state = (Math.abs(Math.trunc(seed)) % 2147483646) + 1;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}
