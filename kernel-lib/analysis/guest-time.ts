import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { NO_NUMBER, type Profile } from "../parse/perf-script.js";
import { inGuestMode, type Scale } from "./merge-stacks.js";
import { quantileSorted } from "./quantile.js";
import { columnReader } from "./walk.js";

/** Stretches of the host's time; `edges` has one number more than there are slices. */
export interface Slices {
  edges: Float64Array;
  /** Whether the guest was recorded during the whole of the slice. */
  covered: boolean[];
}

/** The slice of a time; -1 outside of all. One slice holds samples without a time, too. */
export function sliceOf({ edges }: Slices, ts: number): number {
  const n = edges.length - 1;
  if (n === 1 && !(ts < edges[0] || ts > edges[1])) return 0;
  if (!(ts >= edges[0] && ts <= edges[n])) return -1;
  let low = 0, high = n - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (edges[middle] <= ts) low = middle;
    else high = middle - 1;
  }
  return low;
}

export interface GuestTime {
  /** Whether the weights of the host's samples hold the time in guest mode. If not, it is added to them. */
  counted: boolean;
  /** Samples that stand for time in guest mode, where it is counted. */
  isGuestMode: (row: number) => boolean;
  /** Samples that perf gives to the guest. */
  isGuests: (row: number) => boolean;
  /** Time in guest mode by lane (one per vCPU thread, and a last one for what is nobody's) and slice. */
  cells: Float64Array[];
  how: string;
}

export type GuestTimeOption = "counted" | "missing" | ColumnTable;

/** Where host samples of one CPU follow each other: the time between and the weight of the later one. */
type Interval = (row: number, before: number, elapsed: number, weight: number) => void;

/** How long each vCPU thread was in guest mode, slice by slice, as the host knows it. */
export function guestTimeOf(
  host: Profile, scale: Scale, unit: string, laneOf: (row: number) => number, threads: readonly number[], slices: Slices, replaced: boolean, option: GuestTimeOption | undefined,
): GuestTime {
  if (option !== undefined && option !== "counted" && unit !== "ns") throw new OptionError(`guestTime: weights in ${unit} can be "counted" only, since times are ns; give nsPerUnit`);
  const { isGuests, entersGuest } = inGuestMode(host);
  const lanes = threads.length, none = lanes;
  const cells = Array.from({ length: lanes + 1 }, () => new Float64Array(slices.covered.length));
  if (option !== undefined && typeof option !== "string") {
    addStates(option, threads, slices, cells);
    return { counted: false, isGuests, isGuestMode: () => false, cells, how: "time in state guest, from the table of states" };
  }
  if (option !== undefined && option !== "counted" && option !== "missing") {
    throw new OptionError(`guestTime: ${JSON.stringify(option)}; one of "counted", "missing", or a table that vcpuStates made`);
  }
  const found = option === undefined && unit === "ns" ? methodOf(host, scale, laneOf, none, isGuests) : { method: option ?? "counted", why: option ? "as the option says" : `${unit} are no time` };
  if (found.method === "counted") {
    // A vCPU thread's stack that ends at the entry keeps its place where no guest's stack takes it.
    const isGuestMode = replaced ? (i: number) => isGuests(i) || (laneOf(i) < lanes && entersGuest(i)) : isGuests;
    for (const i of scale.rows) if (isGuestMode(i)) cells[laneOf(i)][Math.max(0, sliceOf(slices, host.raw.ts[i]))] += weightOf(host, i) * scale.nsPerUnit;
    return { counted: true, isGuests, isGuestMode, cells, how: `weight of the host's samples in guest mode (${found.why})` };
  }
  const seen = new Map<number, Set<number>>(), gaps = new Map<number, { gap: number; elapsed: number }>();
  for (const i of scale.rows) if (laneOf(i) < lanes) seen.set(host.raw.cpu[i], (seen.get(host.raw.cpu[i]) ?? new Set()).add(laneOf(i)));
  intervals(host, scale, (i, _, elapsed, weight) => {
    const cpu = gaps.get(host.raw.cpu[i]) ?? { gap: 0, elapsed: 0 };
    cpu.gap += elapsed - weight;
    cpu.elapsed += elapsed;
    gaps.set(host.raw.cpu[i], cpu);
  });
  intervals(host, scale, (i, before, elapsed, weight) => {
    const cpu = host.raw.cpu[i], here = seen.get(cpu), { gap, elapsed: all } = gaps.get(cpu)!;
    // On a CPU that no vCPU is seen on, a little is the counter's own inaccuracy.
    if (!here && gap < 0.02 * all) return;
    const lane = laneOf(i) < lanes ? laneOf(i) : laneOf(before) < lanes ? laneOf(before) : here?.size === 1 ? [...here][0] : none;
    spread(slices, host.raw.ts[before], host.raw.ts[i], elapsed - weight, cells[lane]);
  });
  for (const lane of cells) lane.forEach((ns, s) => { if (ns < 0) lane[s] = 0; });
  return { counted: false, isGuests, isGuestMode: () => false, cells, how: `time in which the counters of CPUs stood still (${found.why})${
    scale.rows.some(isGuests) ? "" : "; none of the host's samples is in guest mode: perf script hides those without --guestmount, and their time is in this"}` };
}

const weightOf = ({ raw }: Profile, row: number): number => (raw.period[row] > 0 ? raw.period[row] : 1);

/**
 * perf record without kvm asks the counter to stand still while a guest runs (exclude_guest). Where it goes on while a CPU idles, as clocks and
 * the counters of emulated CPUs do, the time in guest mode is what it lacks. Where it stops in idle, too, that cannot be told apart.
 */
function methodOf(host: Profile, scale: Scale, laneOf: (row: number) => number, none: number, isGuests: (row: number) => boolean): { method: "counted" | "missing"; why: string } {
  const idle: number[] = [];
  let weights = 0, times = 0, within = 0, samples = 0;
  const comm = (i: number) => host.raw.comm.at(i);
  intervals(host, scale, (i, before, elapsed, weight) => {
    if (comm(i) === "swapper" && comm(before) === "swapper") idle.push(weight / elapsed);
    if (laneOf(i) === none || laneOf(i) !== laneOf(before)) return;
    within++;
    weights += weight;
    times += elapsed;
  });
  for (const i of scale.rows) if (isGuests(i)) samples++;
  const idleRate = idle.length >= 20 ? quantileSorted(Float64Array.from(idle).sort(), 0.75) : NaN;
  const rate = within >= 10 ? weights / times : NaN;
  // With perf script --header the text says it; else the samples must show it.
  const recorded = host.header.event?.split("\n")[0], excludes = recorded === undefined ? null : /\bexclude_guest = 1\b/.test(recorded);
  // perf asks its software clocks to leave guests out, too, but these go on.
  if (/\bname = (cpu|task)-clock/.test(recorded ?? "")) return { method: "counted", why: "a clock goes on while guests run" };
  if (excludes === false) return { method: "counted", why: "the recording counts while guests run, as its header says" };
  if (excludes && idleRate > 0.95) return { method: "missing", why: "the recording leaves guests out, as its header says, and counters go on while a CPU idles" };
  if (excludes) throw new OptionError("guestTime: the host's recording leaves guests out (exclude_guest in its header), and its counters do not go on while a CPU idles, so that guest mode cannot be told from idle. Give vcpuStates(trace) of a trace made at the same time, or record with perf kvm --host --guest record");
  if (scale.unit === "samples") return { method: "counted", why: "without periods nothing shows whether counters stand still" };
  if (!(idleRate > 0.95)) {
    const why = idle.length < 20 ? "too few idle samples to see whether counters stand still in the guest alone" : `counters of idle CPUs count ${Math.round(100 * idleRate)} % of the time at most, so what they lack is not the guest's alone`;
    return { method: "counted", why: rate < 0.85 ? `${why}; between samples of one vCPU thread they counted ${Math.round(100 * rate)} % of it: if the recording leaves guests out, as perf record without kvm does, this is KVM's own time, and guestTime is needed` : why };
  }
  if (rate > 0.85) return { method: "counted", why: `counters go on while vCPU threads run: ${Math.round(100 * rate)} % of the time between their samples` };
  if (rate <= 0.85) return { method: "missing", why: `they go on while a CPU idles, but counted ${Math.round(100 * rate)} % of the time between samples of one vCPU thread` };
  return samples > 0 ? { method: "counted", why: "too few samples of vCPU threads to see whether counters stand still" }
    : { method: "missing", why: "they go on while a CPU idles, and no sample was taken in guest mode" };
}

/** Pairs of samples that follow each other on a CPU, without a loss in between. */
function intervals(host: Profile, { rows, nsPerUnit }: Scale, each: Interval): void {
  const { ts, cpu } = host.raw;
  const lost = (host.lost.objects() as { ts: number; cpu: number | null }[]).sort((a, b) => a.ts - b.ts);
  const before = new Map<number, number>(), losses = new Map<number | null, number>();
  let next = 0;
  for (const i of rows) {
    if (cpu[i] === NO_NUMBER) continue;
    for (; next < lost.length && lost[next].ts <= ts[i]; next++) losses.set(lost[next].cpu, lost[next].ts);
    const last = before.get(cpu[i]), elapsed = last === undefined ? NaN : ts[i] - ts[last];
    const loss = Math.max(losses.get(cpu[i]) ?? -Infinity, losses.get(null) ?? -Infinity);
    if (elapsed > 0 && loss < ts[last!]) each(i, last!, elapsed, weightOf(host, i) * nsPerUnit);
    before.set(cpu[i], i);
  }
}

/** Deals an amount out over the slices between two times, evenly in time. */
function spread(slices: Slices, from: number, to: number, amount: number, into: Float64Array): void {
  const { edges } = slices, last = into.length - 1;
  const first = Math.max(0, sliceOf(slices, from));
  if (last === 0 || to <= edges[first + 1]) {
    into[first] += amount;
    return;
  }
  for (let s = first; s <= last && edges[s] < to; s++) {
    const part = Math.min(to, edges[s + 1]) - Math.max(from, edges[s]);
    if (part > 0) into[s] += (amount * part) / (to - from);
  }
}

function addStates(states: ColumnTable, threads: readonly number[], slices: Slices, cells: Float64Array[]): void {
  const missing = ["start", "dur", "pid", "state"].filter((name) => !states.columnNames().includes(name));
  if (missing.length > 0) throw new OptionError(`guestTime: a table that vcpuStates made has start, dur, pid and state; this one lacks ${missing.join(", ")}`);
  const [start, dur, pid, state] = ["start", "dur", "pid", "state"].map(columnReader(states));
  const { edges } = slices, end = edges[edges.length - 1];
  let overlap = false;
  states.scan((row) => {
    const from = Math.max(start(row!) as number, edges[0]), to = Math.min((start(row!) as number) + (dur(row!) as number), end);
    if (!(to > from)) return;
    overlap = true;
    if (state(row!) !== "guest") return;
    const lane = threads.indexOf(pid(row!) as number);
    spread(slices, from, to, to - from, cells[lane < 0 ? threads.length : lane]);
  });
  if (!overlap) throw new OptionError("guestTime: no state lies within the host's profile; both must be of one time and on one clock (perf record -k mono, trace-cmd record -C mono)");
}
