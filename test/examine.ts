import * as kl from "kernel-lib";
import { inChunks } from "./peer.js";
import { readers, type Reader } from "./recording-files.js";

// What must hold of any text whatever: no error but ours, every line accounted for, the same in pieces as whole, and analyses that take the result.

export class Broken extends Error {}

/** Lines of a text as a person would count them: a last line without newline counts too. */
export function countLines(bytes: Uint8Array): number {
  let n = 0;
  for (const b of bytes) if (b === 10) n++;
  return bytes.length > 0 && bytes[bytes.length - 1] !== 10 ? n + 1 : n;
}

/** What it gives; null where it throws one of our errors. Any other error is passed on. */
function typed<T>(what: () => T): T | null {
  try {
    return what();
  } catch (error) {
    if (error instanceof kl.KernelLibError) return null;
    throw error;
  }
}

function hold(condition: boolean, otherwise: string): void {
  if (!condition) throw new Broken(otherwise);
}

/** Parses a text (packed or not; `plain` is what is in it, null where that is not known) and holds it to all that. How its result was, in a word. */
export async function examine(reader: Reader, bytes: Buffer, plain: Buffer | null, how: { chunk: number | null; other: object | null; deep: boolean }): Promise<"read" | "refused"> {
  typed(() => kl.needFormat(bytes));
  const result = typed(() => reader.from(bytes));
  if (result !== null) {
    const a = kl.accounting(result);
    hold(a.rows + a.continuation + a.header + a.notUnderstood === a.lines, `${a.rows} rows + ${a.continuation} continuation + ${a.header} header + ${a.notUnderstood} not understood are not ${a.lines} lines`);
    if (plain) hold(a.lines === countLines(plain) && a.bytes === plain.length, `${a.lines} lines, ${a.bytes} bytes; there are ${countLines(plain)}, ${plain.length}`);
    hold(a.unknown.length === Math.min(1000, a.notUnderstood), "lines not understood are not kept");
    hold(a.unknown.every(({ text }) => text.length <= 300), "a line not understood is kept whole");
  }
  if (how.chunk !== null) {
    let again: object | null;
    try {
      again = await reader.load(inChunks(bytes, how.chunk), { quiet: true, name: "text" });
    } catch (error) {
      if (!(error instanceof kl.KernelLibError)) throw error;
      again = null;
    }
    hold((again === null) === (result === null), `whole it is ${result === null ? "refused" : "read"}, in pieces of ${how.chunk} bytes it is ${again === null ? "refused" : "read"}`);
    if (result && again) {
      hold(JSON.stringify(kl.accounting(again)) === JSON.stringify(kl.accounting(result)), `in pieces of ${how.chunk} bytes its lines are spent otherwise`);
      hold(contents(again) === contents(result), `in pieces of ${how.chunk} bytes its rows differ`);
    }
  }
  if (result === null) return "refused";
  analyse(reader, result, how);
  return "read";
}

function contents(result: object): string {
  return tablesOf(result).map((table) => table.toCSV()).join("\n");
}

/** Every table that a result holds. */
export function tablesOf(result: object): kl.ColumnTable[] {
  if (result instanceof kl.ColumnTable) return [result];
  if ("eventNames" in result) {
    const trace = result as kl.Trace;
    return [trace.events, trace.lost, ...trace.eventNames.map((event) => trace.of(event))];
  }
  const { samples, stacks, frames, events, lost } = result as kl.Profile;
  return [samples, stacks, frames, events, lost];
}

/** A result through everything that takes such a one. */
function analyse(reader: Reader, result: object, how: { other: object | null; deep: boolean }): void {
  if ("eventNames" in result) analyseTrace(result as kl.Trace, how.other as kl.Trace | null, how.deep);
  else if (!(result instanceof kl.ColumnTable)) analyseProfile(result as kl.Profile, how.other as kl.Profile | null, how.deep);
  else analyseTable(reader, result, how.other as kl.ColumnTable | null, how.deep);
  if (!how.deep) return;
  for (const table of tablesOf(result)) showSafely(table);
  const [one, two] = [result, how.other ?? result].map((one) => runOf(reader, one));
  if (one && two) typed(() => kl.effectsChart(kl.compareRuns(one, two, { names: ["one", "two"], bytes: 1e6 })));
}

/** What a table shows holds no markup of its own making. */
function showSafely(table: kl.ColumnTable): void {
  const html = String(kl.bundleOf(table).data["text/html"]);
  hold(!/<(?!\/?(div|table|thead|tbody|tr|th|td|br|span)\b)/i.test(html), "a table's HTML holds markup of the text");
  kl.bundleOf(kl.describe(table));
}

function analyseTrace(trace: kl.Trace, other: kl.Trace | null, deep: boolean): void {
  const tables = trace.eventNames.map((event) => trace.of(event));
  hold(tables.reduce((rows, table) => rows + table.numRows(), 0) === trace.events.numRows(), "the events' own tables do not hold all events");
  hold(trace.raw.length === trace.events.numRows(), "the arrays are not as long as the table");
  const vcpus = typed(() => kl.vcpuThreads(trace)) ?? undefined;
  typed(() => kl.virtioDevices(trace));
  const exits = typed(() => kl.kvmExits(trace));
  if (exits) {
    const summary = kl.exitSummary(exits);
    kl.exitAccount(exits);
    if (deep) {
      typed(() => kl.exitChart(summary));
      for (const span of ["handling", "guest"] as const) typed(() => kl.latencyChart(exits, { span } as kl.LatencyChartOptions));
    }
  }
  const kicks = typed(() => kl.virtioKicks(trace, { vcpus }));
  if (kicks) {
    const stages = kl.kickStages(kicks);
    kl.kickSpans(kicks);
    kl.kickAccount(kicks);
    const paths = typed(() => kl.kickPaths(trace, kicks, { vcpus }));
    if (paths) {
      const path = kl.criticalPath(paths);
      kl.kickWaits(paths);
      if (deep) typed(() => kl.pathChart(path));
      waysAddUp(trace, kicks, paths);
    }
    if (deep) typed(() => kl.stageChart(stages));
    if (deep && kicks.numRows() > 0) typed(() => kl.sequenceChart(kl.kickSequence(trace, kicks.object(0) as kl.KickRow)));
  }
  for (const statesOf of [kl.vcpuStates, kl.backendStates]) {
    const states = typed(() => statesOf(trace, { vcpus }));
    if (!states) continue;
    typed(() => kl.preemptions(states));
    typed(() => kl.vcpuStateSummary(states));
    if (deep) typed(() => kl.stateChart(states));
    addsUp(trace, states);
  }
  if (!deep) return;
  for (const [host, guest] of [[trace, other ?? trace], [other ?? trace, trace]]) {
    typed(() => kl.alignClocks(host, guest));
    const joined = typed(() => kl.joinTraces({ host, guest }, { offset: 0 }));
    if (joined && !host.raw.side && !guest.raw.side) hold(joined.raw.length === host.raw.length + guest.raw.length, "two traces joined do not hold the events of both");
  }
}

/** Whether times are whole ns, exact in sums, and never go back. */
function exactTimes({ raw: { ts, length } }: kl.Trace): boolean {
  for (let i = 0; i < length; i++) if (!(Math.abs(ts[i]) < 2 ** 50 && Number.isInteger(ts[i])) || (i > 0 && ts[i] < ts[i - 1])) return false;
  return true;
}

/** The pieces of the kicks' paths add up to their ways, to the ns. */
function waysAddUp(trace: kl.Trace, kicks: kl.ColumnTable, paths: kl.ColumnTable): void {
  if (!exactTimes(trace)) return;
  const ways = (kicks.objects({ limit: Infinity }) as { exit: number | null; end: number | null }[]).reduce((sum, { exit, end }) => (exit === null || end === null ? sum : sum + end - exit), 0);
  const pieces = (Array.from(paths.array("dur")) as number[]).reduce((a, b) => a + b, 0);
  hold(pieces === ways, `the pieces of kicks add up to ${pieces} ns, their ways to ${ways} ns`);
}

/** The states of every thread add up to one and the same time, to the ns (where times are whole ns and exact). */
function addsUp(trace: kl.Trace, states: kl.ColumnTable): void {
  const { ts, length } = trace.raw;
  for (let i = 0; i < length; i++) if (!(Math.abs(ts[i]) < 2 ** 50 && Number.isInteger(ts[i]))) return;
  const sums = new Map<number, number>(), pids = states.array("pid") as ArrayLike<number>, durs = states.array("dur") as ArrayLike<number>;
  for (let i = 0; i < durs.length; i++) {
    hold(durs[i] >= 0, `a state lasts ${durs[i]} ns`);
    sums.set(pids[i], (sums.get(pids[i]) ?? 0) + durs[i]);
  }
  hold(new Set(sums.values()).size <= 1, `the states of the threads add up to different times: ${[...sums].map(String).join("; ")}`);
}

function analyseProfile(profile: kl.Profile, other: kl.Profile | null, deep: boolean): void {
  const folded = typed(() => kl.foldStacks(profile, deep ? { all: true, addrs: true, tid: true } as kl.FoldOptions : {}));
  typed(() => kl.idleAudit(profile));
  const busy = typed(() => kl.excludeIdle(profile));
  if (busy) typed(() => kl.foldStacks(busy));
  typed(() => kl.mergeStacks({ host: profile, guest: other ?? profile }));
  for (const both of [{ host: profile, guest: other ?? profile }, { host: other ?? profile, guest: profile }]) {
    typed(() => kl.nestStacks(both));
    typed(() => kl.nestWeights(both));
    typed(() => kl.nestVcpus(both));
  }
  if (folded) analyseFolded(folded, deep);
}

function analyseFolded(stacks: kl.ColumnTable, deep: boolean): void {
  const text = typed(() => kl.toFolded(stacks));
  if (text !== null && text !== "") typed(() => kl.fromFolded(text));
  typed(() => kl.topFrames(stacks));
  typed(() => kl.syscallShare(stacks));
  const first = String(stacks.numRows() > 0 ? stacks.get("stack", 0) : "x").split(";").at(-1)!;
  typed(() => kl.callersOf(stacks, first));
  const diff = typed(() => kl.diffStacks(stacks, stacks));
  typed(() => kl.excludeIdle(stacks));
  if (!deep) return;
  typed(() => kl.flameGraph(stacks));
  if (diff) typed(() => kl.diffFlameGraph(diff));
}

function analyseTable(reader: Reader, table: kl.ColumnTable, other: kl.ColumnTable | null, deep: boolean): void {
  switch (reader.name) {
    case "iperf3":
      typed(() => kl.compareBitrate(table, other ?? table));
      if (deep) typed(() => kl.bitrateChart(table));
      break;
    case "perf-stat": case "perf-kvm-stat": {
      const counts = typed(() => kl.compareCounts(table, other ?? table));
      if (counts && deep) typed(() => kl.countsChart(counts));
      break;
    }
    case "perf-report": {
      typed(() => kl.excludeIdle(table));
      typed(() => kl.idleAudit(table));
      typed(() => kl.perfReportSections(table));
      if (deep) typed(() => kl.cpuChart(table));
      break;
    }
    case "folded": analyseFolded(table, deep); break;
    case "thread-list": typed(() => kl.vcpuThreads({ threads: table } as kl.VcpuSources)); break;
  }
}

/** A run that holds one recording alone. */
function runOf(reader: Reader, result: object): kl.Run | null {
  const recordings: Partial<Record<string, kl.RecordingName>> = { iperf3: "iperf3", "perf-stat": "perfStat", "perf-kvm-stat": "kvmStat", "perf-report": "functions", "trace-cmd": "trace", "perf-script": "hostProfile" };
  const recording = recordings[reader.name];
  if (!recording) return null;
  return {
    name: "run", dir: ".", overview: null, has: (name: string) => name === recording, [recording]: result,
    repeats: { iperf3: [], perfStat: [], instructions: [], kvmStat: [], trace: [] },
  } as unknown as kl.Run;
}

/** Every reader, for texts that are none of their format. */
export const allReaders: readonly Reader[] = Object.values(readers);
