import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { NO_NUMBER, type Profile } from "../parse/perf-script.js";
import { guestTimeOf, sliceOf, type GuestTime, type GuestTimeOption, type Slices } from "./guest-time.js";
import { excludeIdle } from "./idle.js";
import { scaleOf, type MergeOptions, type Scale } from "./merge-stacks.js";
import { vcpuRows } from "./nest-vcpus.js";

/** Two recordings of the same time. */
export interface HostAndGuest { host: Profile; guest?: Profile }

export interface NestOptions extends Pick<MergeOptions, "event" | "kernel" | "jit" | "all" | "addrs" | "nsPerUnit"> {
  /** Which thread is which vCPU: a table with tid and vcpu, such as vcpuThreads gives; default: what nestVcpus finds in the profiles. */
  vcpus?: ColumnTable;
  /**
   * Where the time in guest mode comes from; default: what the host's samples allow, and the weights say which. One of
   * "counted": the weight of the host's samples in guest mode, for recordings that count while a guest runs (perf kvm --host --guest record);
   * "missing": the time in which the counters of CPUs stood still, for those that do not, where the counter goes on while a CPU idles;
   * a table that vcpuStates made, of a trace recorded at the same time and on the same clock.
   */
  guestTime?: GuestTimeOption;
  /** ns to add to the guest's times to have the host's; default null: not known, so that the whole recording is one slice. */
  offset?: number | null;
  /** Length of a slice in ns, where the offset is known; default 1e9. */
  slice?: number;
}

/** A vCPU: its thread on the host, its CPU in the guest, or both. */
export interface Lane { vcpu: number | null; tid: number | null; comm: string | null; evidence: string }

/** What nestStacks and nestWeights both rest on. */
export interface Plan {
  host: Profile;
  guest: Profile | undefined;
  scales: { host: Scale; guest: Scale; unit: string };
  lanes: Lane[];
  /** lanes.length for threads that are no vCPU, and for CPUs of the guest that have no thread. */
  laneOf: (hostRow: number) => number;
  guestLaneOf: (guestRow: number) => number;
  slices: Slices;
  /** Slice of each sample of the guest; -1 for those outside. */
  guestSlices: Int32Array;
  /** ns of each sample of the guest; 0 for those that take no time in guest mode. */
  guestNs: Float64Array;
  time: GuestTime;
  /** By lane and slice: what a guest's weight becomes, and what is left of the time in guest mode. */
  factors: Float64Array[];
  unattributed: Float64Array[];
  how: string;
}

export function planOf({ host, guest }: HostAndGuest, options: NestOptions): Plan {
  const { offset = null, slice = 1e9 } = options;
  if (!(slice > 0)) throw new OptionError(`slice: ${slice}; it takes a length in ns above 0`);
  if (offset !== null && !Number.isFinite(offset)) throw new OptionError(`offset: ${offset}; it takes ns, or null where it is not known`);
  const scales = scaleOf({ host, guest: guest ?? host }, options);
  const lanes: Lane[] = vcpuRows({ host, guest }, options.vcpus);
  const byTid = new Map(lanes.flatMap(({ tid }, l) => (tid === null ? [] : [[tid, l] as const]))), byVcpu = new Map(lanes.flatMap(({ vcpu }, l) => (vcpu === null ? [] : [[vcpu, l] as const])));
  const laneOf = (i: number) => byTid.get(host.raw.tid[i]) ?? lanes.length;
  const guestLaneOf = (i: number) => (guest!.raw.cpu[i] === NO_NUMBER ? undefined : byVcpu.get(guest!.raw.cpu[i])) ?? lanes.length;
  const { slices, how } = slicesOf(host, scales.host, guest, scales.guest, offset, slice);
  const time = guestTimeOf(host, scales.host, scales.unit, laneOf, lanes.map(({ tid }) => tid ?? -2), slices, guest !== undefined, options.guestTime);
  const guestNs = new Float64Array(guest?.raw.length ?? 0), guestSlices = new Int32Array(guestNs.length).fill(-1);
  const cells = time.cells.map((lane) => new Float64Array(lane.length));
  if (guest) {
    const awake = new Set<number>();
    const clock = scales.guest.unit === "ns" || scales.guest.unit === "samples";
    if (clock) {
      // Rows keep their numbers only in the profile itself, so each carries its own as its weight.
      const numbered = { ...guest, raw: { ...guest.raw, period: Float64Array.from(guest.raw.period, (_, i) => i) } };
      for (const row of excludeIdle(numbered).raw.period) awake.add(row);
    }
    for (const i of scales.guest.rows) {
      guestSlices[i] = offset === null ? 0 : sliceOf(slices, guest.raw.ts[i] + offset);
      if (clock && !awake.has(i)) continue;
      guestNs[i] = weightOf(guest, i) * scales.guest.nsPerUnit;
      if (guestSlices[i] >= 0) cells[guestLaneOf(i)][guestSlices[i]] += guestNs[i];
    }
    if (scales.guest.rows.length > 0 && !time.cells.some((lane) => lane.some((ns) => ns > 0))) {
      throw new OptionError("nestStacks: the host's profile shows no time in guest mode. Print it with perf script --guestmount=DIR (any folder), record it with perf kvm --host --guest record, or give guestTime: vcpuStates(trace) of a trace made at the same time");
    }
  }
  const factors = cells.map((lane) => new Float64Array(lane.length)), unattributed = time.cells.map((lane) => lane.slice());
  for (let l = 0; l < lanes.length; l++) {
    cells[l].forEach((guestTime, s) => {
      const hostTime = time.cells[l][s];
      if (!(hostTime > 0 && guestTime > 0)) return;
      factors[l][s] = slices.covered[s] ? hostTime / guestTime : Math.min(1, hostTime / guestTime);
      unattributed[l][s] = slices.covered[s] || hostTime <= guestTime ? 0 : hostTime - guestTime;
    });
  }
  // Without a guest's profile the frames of the host's own samples in guest mode are what is known of the guest.
  if (!guest && time.counted) for (let l = 0; l < lanes.length; l++) unattributed[l].fill(0);
  return { host, guest, scales, lanes, laneOf, guestLaneOf, slices, guestSlices, guestNs, time, factors, unattributed, how };
}

/** The host's time in slices: one, where the guest's clock is not known; else of equal length, and cut where the guest's recording begins and ends. */
function slicesOf(host: Profile, hostScale: Scale, guest: Profile | undefined, guestScale: Scale, offset: number | null, length: number): { slices: Slices; how: string } {
  const [first, last] = span(host, hostScale.rows);
  const [from, to] = guest ? span(guest, guestScale.rows) : [NaN, NaN];
  const part = (100 * (to - from)) / (last - first);
  if (offset === null || !guest || !(last > first) || !(to >= from)) {
    const covered = part > 95;
    const how = !guest ? "no profile of the guest: the frames are those of the host's samples in guest mode"
      : `no offset of the clocks, so the whole recording is one slice${Number.isFinite(part) ? `; the guest's is ${part.toFixed(0)} % as long${covered ? "" : ", so its stacks get no more time than they had"}` : ""}`;
    return { slices: { edges: Float64Array.of(first, last), covered: [covered] }, how };
  }
  const begin = Math.max(first, from + offset), end = Math.min(last, to + offset);
  if (!(end >= begin)) throw new OptionError(`offset: with ${offset} ns the guest's recording lies outside of the host's, which is at ${(first - from) / 1e9} to ${(last - to) / 1e9} s from it`);
  const edges = new Set<number>([first, last, begin, end]);
  for (let at = first + length; at < last; at += length) edges.add(at);
  const sorted = Float64Array.from(edges).sort();
  return {
    slices: { edges: sorted, covered: Array.from({ length: sorted.length - 1 }, (_, s) => sorted[s] >= begin && sorted[s + 1] <= end) },
    how: `${sorted.length - 1} slices of at most ${length / 1e6} ms, the guest's clock ${offset} ns before the host's`,
  };
}

function span({ raw }: Profile, rows: Int32Array): [number, number] {
  let first = Infinity, last = -Infinity;
  for (const i of rows) {
    if (raw.ts[i] < first) first = raw.ts[i];
    if (raw.ts[i] > last) last = raw.ts[i];
  }
  return [first, last];
}

export const sum = (values: Iterable<number>): number => [...values].reduce((a, b) => a + b, 0);
export const weightOf = ({ raw }: Profile, row: number): number => (raw.period[row] > 0 ? raw.period[row] : 1);
export const frameOf = ({ vcpu, tid }: Lane): string => (vcpu === null ? `vCPU thread ${tid}` : `vCPU ${vcpu}`);
