import type { ColumnTable } from "arquero";
import { KernelLibError, MissingEventError, OptionError } from "../errors.js";
import { formatValue } from "../format.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { bestBand, coarseScores, collectBounds, guestTimes, inside, limits, scaleRange, withoutBroken, type Blind, type Bounds, type Coarse, type GuestTime } from "./clock-fit.js";
import { vcpuOfThreads } from "./vcpus.js";
import { hostSide } from "./walk.js";

export const clockCpusColumns = {
  cpu: { type: "number", unit: null, meaning: "Number of the guest's CPU." },
  tid: { type: "number", unit: null, meaning: "Host thread id of the vCPU that is this CPU.", null: "no thread of the host fits" },
  vcpu: { type: "number", unit: null, meaning: "vCPU id that the thread's own events name.", null: "none does" },
  how: { type: "string", unit: null, meaning: "What the thread rests on: given; vCPU id (the thread's events name the vCPU of this number); or fit (its guest mode holds this CPU's events best)." },
  offset: { type: "number", unit: "ns", meaning: "What is added to this CPU's times.", null: "the clocks are not aligned" },
  residual: { type: "number", unit: "ns", meaning: "The orderings allow the offset to be this much more or less: half the width of the band.", null: "the offset was given, or nothing bounds it" },
  pairs: { type: "number", unit: "count", meaning: "Orderings that bound the offset: a kvm_entry before the guest's first event, a kvm_exit after its last." },
  events: { type: "number", unit: "count", meaning: "Events of this CPU." },
  inside: { type: "number", unit: "count", meaning: "Of these, events that lie in guest mode of the thread, with the offset." },
  outside: { type: "number", unit: "count", meaning: "Events that do not, and cannot be: orderings that still break. Events that the host's recording does not cover count for neither." },
  outside_before: { type: "number", unit: "count", meaning: "The same as recorded, without the offset." },
  other_tid: { type: "number", unit: null, meaning: "Thread id of the vCPU that fits next best, with the same offset.", null: "there is no other" },
  other_inside: { type: "number", unit: "count", meaning: "Events that lie in guest mode of that one.", null: "there is no other" },
} as const satisfies Columns;

/** How a guest's clock stands to its host's: host time = time + offset + (scale − 1) × (time − at). */
export interface Clocks {
  /** Whether an offset was found (or given); where not, `why` says why not, and offset and residual are null. */
  aligned: boolean;
  why: string | null;
  /** Whether a person gave the offset. */
  given: boolean;
  /** ns to add to the guest's times; where each CPU has its own (`perCpu`), that of the CPU with most events. */
  offset: number | null;
  /** By how much, ns, the orderings allow the offset to be more or less; the largest of the CPUs. Null where it was given. */
  residual: number | null;
  /** How fast the host's clock runs against the guest's; exactly 1 where the recording is too short to tell it from 1. */
  scale: number;
  /** By how much the orderings allow the scale to be more or less; null where it was given or nothing bounds it. */
  scaleResidual: number | null;
  /** Guest time, ns, at which the offset holds. */
  at: number;
  /** Whether the guest's CPUs need offsets of their own: no common one keeps all orderings. */
  perCpu: boolean;
  /** Orderings that bound the offset. */
  pairs: number;
  /** Events of the guest that the host's recording covers. */
  judged: number;
  /** Events that lie outside of guest mode of their vCPU, with the offset: orderings that still break. */
  broken: number;
  /** The same as recorded. */
  brokenBefore: number;
  /** One row per CPU of the guest: its host thread, its offset, what speaks for them. */
  cpus: ColumnTable;
}

export interface AlignOptions {
  /** What to add to the guest's times, ns; default: found. One number, or one for each CPU of the guest: { 0: 25e3, 1: 34e3 }. */
  offset?: number | Record<number, number>;
  /** Rate of the host's clock against the guest's, such as 1.00002; default: found, and 1 where the recordings do not tell. */
  scale?: number;
  /** Guest time, ns, at which a given offset holds; default: the middle of the guest's recording. Matters with a scale alone. */
  at?: number;
  /** How far from 0 the offset may be, ns; default: as far as the recordings can overlap. */
  within?: number;
  /** Whether each CPU of the guest gets an offset of its own; default: where no common one fits. */
  perCpu?: boolean;
  /** Host thread of each CPU of the guest: { 0: 520, 1: 521 }; default: inferred. */
  threads?: Record<number, number>;
}

/** Most of the events that may lie outside of guest mode; and the next best offset must score less than this share of the best. */
const MOST_BROKEN = 0.05, NEXT_BEST = 0.9, FEWEST_EVENTS = 20;
const FASTEST = 1e-3;

/**
 * How a guest's clock stands to its host's, found from what must hold: the guest's events happen while their vCPU is in guest mode,
 * after a kvm_entry and before the next kvm_exit of its thread. The offset is the middle of what these orderings allow, the residual half
 * its width; a few wrong ones do not move it. Each CPU of a guest may need an offset of its own: trace-cmd's ptp synchronization
 * measures them one by one. A scale is told only where the recording is long enough for it. Recordings that were synchronized come
 * out near 0. Where no offset fits, or several do, `aligned` is false and `why` says so.
 *
 * Needs kvm_entry and kvm_exit of the host; any events of the guest. A merged report may stand in both places.
 * @throws MissingEventError without them; OptionError for options that cannot be.
 */
export function alignClocks(host: Trace, guest: Trace, options: AlignOptions = {}): Clocks {
  for (const [name, trace] of [["host", host], ["guest", guest]] as const) {
    if (typeof trace?.raw?.event?.at === "function" && "eventNames" in trace) continue;
    throw new KernelLibError(`alignClocks needs traces; its ${name} is none. Samples of perf script hold no events that must follow each other across the two: record both with trace-cmd record -A, or each with trace-cmd record`);
  }
  needEvents(host, "alignClocks", ["kvm_entry", "kvm_exit"]);
  checkOptions(options);
  const times = guestTimes(host), byCpu = eventsByCpu(guest);
  if (byCpu.size === 0) throw new MissingEventError("alignClocks", ["any event of the guest"], [], "trace-cmd record -A GUEST -e sched -e irq -e net");
  const all = [...byCpu.values()];
  const first = Math.min(...all.map((list) => list[0])), last = Math.max(...all.map((list) => list[list.length - 1]));
  const at = options.at ?? Math.round((first + last) / 2);
  const slack = Math.max(resolutionOf(host), resolutionOf(guest));
  const blind = (host.lost.objects() as { from: number | null; to: number | null }[]).map(({ from, to }): Blind => ({ from: from ?? -Infinity, to: to ?? Infinity }));

  const ids = vcpuOfThreads(host);
  const numbers = [...byCpu.keys()].sort((a, b) => a - b);
  const cpus = numbers.map((cpu): Cpu => {
    const own = options.threads?.[cpu];
    if (own !== undefined && !times.has(own)) throw new OptionError(`threads says that thread ${own} is the guest's CPU ${cpu}, yet it enters no guest; those that do: ${[...times.keys()].join(", ")}`);
    const named = [...ids].filter(([tid, id]) => id === cpu && times.has(tid)).map(([tid]) => tid);
    const candidates = own !== undefined ? [own] : named.length > 0 ? named : [...times.keys()];
    return { cpu, events: byCpu.get(cpu)!, candidates, how: own !== undefined ? "given" : named.length > 0 ? "vCPU id" : "fit", tid: candidates[0], offset: NaN, residual: NaN, pairs: 0 };
  });

  let why: string | null = null, scale = options.scale ?? 1, scaleResidual: number | null = null;
  const given = options.offset !== undefined;
  if (given) {
    for (const cpu of cpus) {
      cpu.offset = typeof options.offset === "number" ? options.offset : options.offset![cpu.cpu] ?? NaN;
      if (!Number.isFinite(cpu.offset)) throw new OptionError(`offset names no CPU ${cpu.cpu}, which the guest's recording has; give one number, or one for each of the CPUs ${numbers.join(", ")}`);
      pickThread(cpu, times, (t) => hostTime(t, cpu.offset, scale, at), blind, slack);
    }
  } else {
    why = coarseFit(cpus, times, [first, last], options.within);
    if (why === null) [scale, scaleResidual] = fineFit(cpus, times, at, slack, options);
  }

  const aligned = why === null;
  let rows = judge(cpus, times, (t, cpu) => hostTime(t, aligned ? cpu.offset : 0, scale, at), blind, slack, ids);
  let judged = sum(rows, "inside") + sum(rows, "outside"), broken = sum(rows, "outside");
  if (aligned && !given && broken > MOST_BROKEN * judged) {
    why = `with the best offset ${(100 * broken / judged).toFixed(0)} % of the guest's events still lie outside of guest mode of its vCPUs; are these recordings of one moment and of one guest?`;
  }
  if (why !== null) {
    for (const cpu of cpus) [cpu.offset, cpu.residual, cpu.pairs] = [NaN, NaN, 0];
    rows = judge(cpus, times, (t) => t, blind, slack, ids);
    judged = sum(rows, "inside") + sum(rows, "outside");
    broken = sum(rows, "outside");
    [scale, scaleResidual] = [1, null];
  }
  const most = cpus.reduce((a, b) => (b.events.length > a.events.length ? b : a));
  const residuals = cpus.map(({ residual }) => residual).filter((x) => x === x);
  return {
    aligned: why === null, why, given, offset: nullable(most.offset), residual: residuals.length > 0 ? Math.max(...residuals) : null, scale, scaleResidual, at,
    perCpu: why === null && cpus.some(({ offset }) => offset !== most.offset), pairs: sum(rows, "pairs"), judged, broken, brokenBefore: sum(rows, "outside_before"),
    cpus: tableOf(clockCpusColumns, rows),
  };
}

interface Cpu { cpu: number; events: Float64Array; candidates: number[]; how: string; tid: number; offset: number; residual: number; pairs: number }
type Row = RowOf<typeof clockCpusColumns>;

const nullable = (x: number): number | null => (x === x ? x : null);
const sum = (rows: Row[], name: "inside" | "outside" | "outside_before" | "pairs"): number => rows.reduce((total, row) => total + row[name], 0);

/** A guest's time on the host's clock, ns. */
export function hostTime(time: number, offset: number, scale: number, at: number): number {
  return Math.round(time + offset + (scale - 1) * (time - at));
}

function checkOptions({ offset, scale, at, within }: AlignOptions): void {
  const numbers = { scale, at, within, ...(typeof offset === "object" ? Object.fromEntries(Object.entries(offset).map(([cpu, x]) => [`offset of CPU ${cpu}`, x])) : { offset }) };
  for (const [name, value] of Object.entries(numbers)) if (value !== undefined && !Number.isFinite(value)) throw new OptionError(`${name} is ${String(value)}; it must be a number`);
  if (scale !== undefined && !(scale > 0.5 && scale < 2)) throw new OptionError(`scale is ${scale}; it must be near 1: the rate of the host's clock against the guest's`);
  if (within !== undefined && within <= 0) throw new OptionError(`within is ${within}; it must be more than 0 ns`);
}

/** Times of the guest's events by CPU, sorted. */
function eventsByCpu(guest: Trace): Map<number, Float64Array> {
  const { ts, cpu, side, length } = guest.raw, hostCode = hostSide(guest);
  const lists = new Map<number, number[]>();
  for (let i = 0; i < length; i++) {
    if (side !== null && side.codes[i] === hostCode) continue;
    let list = lists.get(cpu[i]);
    if (!list) lists.set(cpu[i], (list = []));
    list.push(ts[i]);
  }
  return new Map([...lists].map(([number, list]) => [number, Float64Array.from(list).sort()]));
}

/** The step of a trace's times: 1000 ns where the text has µs. */
function resolutionOf(trace: Trace): number {
  const { ts, length } = trace.raw;
  for (let i = 0; i < length; i++) if (ts[i] % 1000 !== 0) return 1;
  return 1000;
}

/** The rough offset, common to all CPUs, and their threads; says why not where there is none. */
function coarseFit(cpus: Cpu[], times: Map<number, GuestTime>, [first, last]: [number, number], within: number | undefined): string | null {
  const ends = [...times.values()];
  let low = Math.min(...ends.map((time) => time.first)) - last, high = Math.max(...ends.map((time) => time.last)) - first;
  if (within !== undefined) [low, high] = [Math.max(low, -within), Math.min(high, within)];
  if (high < low) return `the recordings are further apart than ${formatValue(within!, "ns")}: the host's begins ${formatValue(Math.abs(low + high) / 2, "ns")} ${low + high > 0 ? "after" : "before"} the guest's; leave out within, or give more`;
  if (cpus.reduce((n, { events }) => n + events.length, 0) < FEWEST_EVENTS) return `the guest's recording has fewer than ${FEWEST_EVENTS} events, which fit in too many places`;
  // The busiest stretch is enough for a first look, and short enough for clocks of different rates.
  const scores = cpus.map(({ events, candidates }) => candidates.map((tid) => (times.has(tid) ? coarseScores(busiest(events), times.get(tid)!, low, high) : null)));
  const blocks = scores.flat().find((score) => score !== null)?.blocks.length ?? 0;
  const peak = (coarse: Coarse | null, b: number): number => (coarse === null ? 0 : Math.max(coarse.blocks[b], b > 0 ? coarse.blocks[b - 1] : -Infinity, b + 1 < blocks ? coarse.blocks[b + 1] : -Infinity));
  const joint = Float64Array.from({ length: blocks }, (_, b) => scores.reduce((total, own) => total + Math.max(...own.map((coarse) => peak(coarse, b))), 0));
  const best = joint.indexOf(joint.reduce((a, b) => Math.max(a, b), -Infinity));
  const next = joint.reduce((most, score, b) => (Math.abs(b - best) > 3 ? Math.max(most, score) : most), -Infinity);
  if (!(joint[best] > 0)) return "no offset puts most of the guest's events into the time in which its vCPUs were in guest mode; are these recordings of one moment and of one guest?";
  if (next > NEXT_BEST * joint[best]) return `several offsets fit about as well as the best, so it proves nothing${within === undefined ? "; where the recorder synchronized the clocks, say how far off it may be, such as { within: 2e6 }" : ""}`;
  cpus.forEach((cpu, c) => {
    const own = scores[c];
    const k = own.reduce((a, coarse, i) => (peak(coarse, best) > peak(own[a], best) ? i : a), 0);
    const coarse = own[k], width = coarse ? (high - low + 2 * coarse.step) / blocks : 0;
    cpu.tid = cpu.candidates[k];
    const from = low + (best - 1) * width, to = low + (best + 2) * width;
    const band = coarse && bestBand(busiest(cpu.events), times.get(cpu.tid)!, from, to, 0, (from + to) / 2);
    cpu.offset = band ? (band.low + band.high) / 2 : (from + to) / 2;
  });
  return null;
}

/** Up to 2000 events that follow each other closest. */
function busiest(events: Float64Array): Float64Array {
  const n = 2000;
  if (events.length <= n) return events;
  let best = 0;
  for (let i = 0; i + n <= events.length; i += 100) if (events[i + n - 1] - events[i] < events[best + n - 1] - events[best]) best = i;
  return events.subarray(best, best + n);
}

/** The scale, and each CPU's offset within what the orderings allow. */
function fineFit(cpus: Cpu[], times: Map<number, GuestTime>, at: number, slack: number, options: AlignOptions): [scale: number, residual: number | null] {
  const bounds = cpus.map((cpu): Bounds => {
    const time = times.get(cpu.tid), busy = busiest(cpu.events);
    return time ? collectBounds(cpu.events, time, cpu.offset, busy[busy.length >> 1], at, slack) : { x: [], y: [], upper: [] };
  });
  let e = (options.scale ?? 1) - 1, residual: number | null = null;
  let kept = bounds.map((own) => withoutBroken(own, e));
  if (options.scale === undefined) {
    // Which bounds are wrong depends on the scale, and the scale on them.
    let range = scaleRange(bounds, FASTEST);
    for (let i = 0; i < 3 && range.low !== range.low; i++) {
      kept = bounds.map((own) => withoutBroken(own, range.best));
      range = scaleRange(kept, FASTEST);
    }
    e = range.low <= 0 && range.high >= 0 ? 0 : range.low === range.low ? (range.low + range.high) / 2 : range.best;
    residual = range.low === range.low && range.low > -FASTEST && range.high < FASTEST ? (e === 0 ? Math.max(-range.low, range.high) : (range.high - range.low) / 2) : null;
    kept = bounds.map((own) => withoutBroken(own, e));
  }
  const bands = kept.map((own) => limits(own, e));
  const common = bands.reduce((a, b) => ({ low: Math.max(a.low, b.low), high: Math.min(a.high, b.high) }));
  // Where they only just meet, one offset for all leaves no room for what the times are rounded by.
  const perCpu = options.perCpu ?? common.high - common.low < slack;
  if (!perCpu && common.low > common.high) {
    // Asked for one offset where the CPUs have none in common: the one that breaks fewest orderings.
    const merged = withoutBroken({ x: kept.flatMap(({ x }) => x), y: kept.flatMap(({ y }) => y), upper: kept.flatMap(({ upper }) => upper) }, e);
    Object.assign(common, limits(merged, e));
  }
  const known = bands.filter(({ low, high }) => Number.isFinite(low) && Number.isFinite(high)).map(({ low, high }) => (low + high) / 2).sort((a, b) => a - b);
  cpus.forEach((cpu, c) => {
    const band = perCpu ? bands[c] : common, bounded = Number.isFinite(band.low) && Number.isFinite(band.high);
    // A CPU that nothing bounds goes with the others.
    cpu.offset = Math.round(bounded ? (band.low + band.high) / 2 : known[known.length >> 1] ?? cpu.offset);
    cpu.residual = bounded ? Math.round((band.high - band.low) / 2) : NaN;
    cpu.pairs = kept[c].x.length;
  });
  return [1 + e, residual];
}

/** Of several threads, the one whose guest mode holds most of a CPU's events. */
function pickThread(cpu: Cpu, times: Map<number, GuestTime>, clock: (t: number) => number, blind: Blind[], slack: number): void {
  const moved = cpu.events.map(clock);
  const fits = cpu.candidates.map((tid) => (times.has(tid) ? inside(moved, times.get(tid)!, blind, slack).inside : 0));
  cpu.tid = cpu.candidates[fits.indexOf(Math.max(...fits))];
}

function judge(cpus: Cpu[], times: Map<number, GuestTime>, clock: (t: number, cpu: Cpu) => number, blind: Blind[], slack: number, ids: Map<number, number>): Row[] {
  return cpus.map((cpu) => {
    const moved = cpu.events.map((t) => clock(t, cpu)), time = times.get(cpu.tid);
    const count = time ? inside(moved, time, blind, slack) : { inside: 0, outside: 0 };
    const before = time ? inside(cpu.events, time, blind, slack) : count;
    let other: { tid: number; inside: number } | null = null;
    for (const [tid, its] of times) {
      if (tid === cpu.tid) continue;
      const n = inside(moved, its, blind, slack).inside;
      if (other === null || n > other.inside) other = { tid, inside: n };
    }
    return {
      cpu: cpu.cpu, tid: time ? cpu.tid : null, vcpu: ids.get(cpu.tid) ?? null, how: cpu.how, offset: nullable(cpu.offset), residual: nullable(cpu.residual), pairs: cpu.pairs,
      events: cpu.events.length, inside: count.inside, outside: count.outside, outside_before: before.outside, other_tid: other?.tid ?? null, other_inside: other?.inside ?? null,
    };
  });
}
