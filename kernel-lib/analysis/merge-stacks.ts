import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { NO_NUMBER, type Profile } from "../parse/perf-script.js";
import { makeTable, tableOf, type Columns, type RowOf } from "../source/columns.js";
import { foldStacks, type FoldOptions } from "./fold.js";
import { chooseEvent } from "./fold-samples.js";

export interface MergeOptions extends FoldOptions {
  /** Put before the names of the guest's processes; default "<guest>". */
  prefix?: string;
  /**
   * ns of CPU time per unit of weight (per cycle, or per sample where there are no periods), for either side; default: estimated,
   * see `stackScale`. With `perf record -F 99` and no periods: 1e9 / 99.
   */
  nsPerUnit?: { host?: number; guest?: number };
}

export type Side = "host" | "guest";
const SIDES: Side[] = ["host", "guest"];

export const mergedColumns = {
  side: { type: "string", unit: null, meaning: "Where the samples were taken: host or guest." },
  stack: { type: "string", unit: null, meaning: "Frames from the root to the leaf, separated by semicolons; the guest's processes have the prefix <guest>." },
  value: { type: "number", unit: "ns", meaning: "CPU time, scaled from the weights of either side; stackScale says how." },
} as const satisfies Columns;

/**
 * Stacks of host and guest in one table: side, stack, value. Weights of both are brought to one kind, ns of CPU time; `stackScale` shows how.
 * What the two sides both saw is in it twice; `countedTwice` says how much that is. The guest's stacks stand beside those of the host,
 * as in the talk; `nestStacks` puts them inside the vCPU threads that ran them, where nothing counts twice.
 * @throws OptionError when the weights of the two sides cannot be brought to one kind
 */
export function mergeStacks(profiles: { host: Profile; guest: Profile }, options: MergeOptions = {}): ColumnTable {
  const scales = scaleOf(profiles, options);
  const { prefix = "<guest>" } = options;
  const side: Side[] = [], stack: string[] = [], value: number[] = [];
  for (const name of SIDES) {
    const folded = foldStacks(profiles[name], options);
    folded.scan((row, data) => {
      side.push(name);
      stack.push((name === "guest" ? prefix : "") + data!.stack.at(row!));
      // whole ns, so that flamegraph.pl can read them
      value.push(Math.round((data!.value.at(row!) as number) * scales[name].nsPerUnit));
    }, true);
  }
  const columns = scales.unit === "ns" ? mergedColumns
    : { ...mergedColumns, value: { ...mergedColumns.value, unit: scales.unit, meaning: `${scales.unit} of either side, unscaled.` } };
  return makeTable(columns, { side, stack, value: Float64Array.from(value) });
}

export const scaleColumns = {
  side: { type: "string", unit: null, meaning: "host or guest." },
  event: { type: "string", unit: null, meaning: "What the side's weights count: cycles, ns (cpu-clock, task-clock), samples." },
  samples: { type: "number", unit: "samples", meaning: "Samples taken." },
  weight: { type: "number", unit: "events", meaning: "Sum of their weights, as recorded." },
  nsPerUnit: { type: "number", unit: null, meaning: "Factor from recorded weight to the merged table's value: ns per cycle, per sample, …" },
  value: { type: "number", unit: "ns", meaning: "weight × nsPerUnit: the CPU time that the side has in the merged table." },
  span: { type: "number", unit: "ns", meaning: "From the first to the last sample. Sides recorded together should agree.", null: "perf script printed no time" },
  cpus: { type: "number", unit: "count", meaning: "CPUs (the guest's: vCPUs) with samples.", null: "perf script printed no CPU" },
  how: { type: "string", unit: null, meaning: "How the factor was found." },
} as const satisfies Columns;

/**
 * How mergeStacks scales the weights of host and guest: side, event, samples, weight, nsPerUnit, value, span, cpus, how.
 *
 * - ns (cpu-clock, task-clock): taken as they are.
 * - cycles: a cycle is a cycle on either side, since vCPUs run on the host's CPUs; both are divided by the clock rate.
 *   The rate is what the host's samples show: period / time since the sample before on the same CPU, of which the 90 % quantile, as cycles do not count while
 *   a CPU idles. (Not the guest's: its clock goes on while its vCPU is off the CPU.) With a clock that varies it is an average.
 * - samples without periods: each stands for the sampling interval, the lower quartile of the times between samples on the same CPU.
 * - any other event: not scaled, and only mergeable with the same event.
 */
export function stackScale(profiles: { host: Profile; guest: Profile }, options: MergeOptions = {}): ColumnTable {
  const scales = scaleOf(profiles, options);
  return tableOf(scaleColumns, SIDES.map((side): RowOf<typeof scaleColumns> => {
    const { raw } = profiles[side];
    const { unit, rows, nsPerUnit, how } = scales[side];
    let weight = 0, first = Infinity, last = -Infinity;
    const cpus = new Set<number>();
    for (const i of rows) {
      weight += raw.period[i] > 0 ? raw.period[i] : 1;
      if (raw.ts[i] < first) first = raw.ts[i];
      if (raw.ts[i] > last) last = raw.ts[i];
      if (raw.cpu[i] !== NO_NUMBER) cpus.add(raw.cpu[i]);
    }
    return { side, event: unit, samples: rows.length, weight, nsPerUnit, value: weight * nsPerUnit, span: last >= first ? last - first : null, cpus: cpus.size || null, how };
  }));
}

export interface Scale {
  /** What the side's weights count. */
  unit: string;
  /** Samples that are folded. */
  rows: Int32Array;
  nsPerUnit: number;
  how: string;
}

/** How both sides come to one unit. @throws OptionError when they cannot */
export function scaleOf(profiles: { host: Profile; guest: Profile }, options: MergeOptions): { host: Scale; guest: Scale; unit: string } {
  const host = taken(profiles.host, options), guest = taken(profiles.guest, options);
  const sides = { host, guest };
  const factor = (side: Side): { nsPerUnit: number; how: string } | null => {
    const { unit, rows } = sides[side];
    const given = options.nsPerUnit?.[side];
    if (given !== undefined) {
      if (!(given > 0)) throw new OptionError(`nsPerUnit: ${given} for the ${side}; it takes a number above 0`);
      return { nsPerUnit: given, how: "given by option" };
    }
    if (rows.length === 0) return { nsPerUnit: 1, how: "no samples" };
    if (unit === "ns") return { nsPerUnit: 1, how: "the event counts ns" };
    if (unit === "samples") {
      const gap = quantile(betweenSamples(profiles[side], rows, (_, ns) => ns), 0.25);
      return Number.isFinite(gap) ? { nsPerUnit: gap, how: `no periods; a sample stands for the usual time between two: ${(gap / 1e6).toPrecision(3)} ms` } : null;
    }
    if (/(^|[/_-])cycles/.test(unit)) {
      const from = host.unit === unit && host.rows.length > 0 ? "host" : side;
      const rate = quantile(betweenSamples(profiles[from], sides[from].rows, (period, ns) => period / ns), 0.9);
      return rate > 0 && Number.isFinite(rate) ? { nsPerUnit: 1 / rate, how: `${unit} at ${rate.toPrecision(3)} GHz, as the ${from}'s samples show` } : null;
    }
    return null;
  };
  const hostFactor = factor("host"), guestFactor = factor("guest");
  if (hostFactor && guestFactor) return { host: { ...host, ...hostFactor }, guest: { ...guest, ...guestFactor }, unit: "ns" };
  if (host.unit === guest.unit && !options.nsPerUnit) {
    const same = { nsPerUnit: 1, how: `both sides count ${host.unit}; not scaled to time` };
    return { host: { ...host, ...same }, guest: { ...guest, ...same }, unit: host.unit };
  }
  const [side, unit] = hostFactor ? ["guest", guest.unit] : ["host", host.unit];
  throw new OptionError(`nsPerUnit: the CPU time that one of the ${side}'s ${unit} stands for cannot be told from its samples; give nsPerUnit: { ${side}: … }, or an event that both sides have`);
}

function taken(profile: Profile, options: MergeOptions): { unit: string; rows: Int32Array } {
  const { taken, unit } = chooseEvent(profile, options.event);
  const { event, length } = profile.raw;
  const rows = new Int32Array(length);
  let n = 0;
  for (let i = 0; i < length; i++) if (taken[event.codes[i] + 1] && (!options.keep || options.keep(i))) rows[n++] = i;
  return { unit, rows: rows.slice(0, n) };
}

/** A number per sample from its period and the time since the sample before on the same CPU. */
function betweenSamples({ raw }: Profile, rows: Int32Array, of: (period: number, ns: number) => number): Float64Array {
  const before = new Map<number, number>();
  const values = new Float64Array(rows.length);
  let n = 0;
  for (const i of rows) {
    const ns = raw.ts[i] - (before.get(raw.cpu[i]) ?? NaN);
    if (ns > 0) values[n++] = of(raw.period[i], ns);
    before.set(raw.cpu[i], raw.ts[i]);
  }
  return values.slice(0, n);
}

function quantile(values: Float64Array, p: number): number {
  return values.length === 0 ? NaN : values.slice().sort()[Math.floor(p * (values.length - 1))];
}

export const countedTwiceColumns = {
  what: { type: "string", unit: null, meaning: "guest mode, guest samples, or idle." },
  side: { type: "string", unit: null, meaning: "Whose samples are counted here." },
  samples: { type: "number", unit: "samples", meaning: "How many samples." },
  value: { type: "number", unit: "ns", meaning: "Their CPU time in the merged table." },
  share: { type: "number", unit: "%", meaning: "Part of the side's CPU time." },
  note: { type: "string", unit: null, meaning: "Why the other side has this time too." },
} as const satisfies Columns;

/** Where a vCPU thread's stack ends while its guest runs. */
const guestEntry = /^(__?kvm_vcpu_run\w*|kvm_arm_vcpu_enter_exit|__guest_(enter|exit)|__kvm_call_hyp|(__)?vmx_vcpu_(run|enter_exit)|(__)?svm_vcpu_(run|enter_exit)|vcpu_enter_guest\w*|kvm_arch_vcpu_ioctl_run)(\.\w+)*$/;

/** Which samples of a host were taken while a guest ran: those that perf gives to the guest, and those of a vCPU thread at the entry to it. */
export function inGuestMode({ raw }: Profile): { isGuests: (row: number) => boolean; entersGuest: (row: number) => boolean } {
  const named = raw.comm.values.map((comm) => /^:-?\d+$|^\[guest\/\d+\]$/.test(comm));
  const enters = raw.symbol.map((symbol) => guestEntry.test(symbol));
  const leaf = (i: number) => (raw.stack[i] > 0 ? raw.frame[raw.stack[i]] : -1);
  return {
    isGuests: (i) => (leaf(i) >= 0 && raw.kind[leaf(i)] === "guest") || (raw.comm.codes[i] >= 0 && named[raw.comm.codes[i]]),
    entersGuest: (i) => leaf(i) >= 0 && enters[leaf(i)],
  };
}

/**
 * What a merged table holds twice, because host and guest both saw it: what, side, samples, value, share, note. A row with 0 says that it was looked for and not found.
 * @throws OptionError as mergeStacks does
 */
export function countedTwice(profiles: { host: Profile; guest: Profile }, options: MergeOptions = {}): ColumnTable {
  const scales = scaleOf(profiles, options);
  const sum = (side: Side, of: (row: number) => boolean) => {
    const { raw } = profiles[side];
    let samples = 0, value = 0, total = 0;
    for (const i of scales[side].rows) {
      const weight = (raw.period[i] > 0 ? raw.period[i] : 1) * scales[side].nsPerUnit;
      total += weight;
      if (!of(i)) continue;
      samples++;
      value += weight;
    }
    return { side, samples, value, share: total > 0 ? (100 * value) / total : 0 };
  };
  const guest = profiles.guest.raw;
  const { isGuests, entersGuest } = inGuestMode(profiles.host);
  const rows: RowOf<typeof countedTwiceColumns>[] = [
    { what: "guest samples", ...sum("host", isGuests), note: "the host's recording holds samples of the guest's code; the guest's own recording shows the same time" },
    { what: "guest mode", ...sum("host", (i) => !isGuests(i) && entersGuest(i)), note: "vCPU threads at the entry to the guest: the guest's recording shows what ran there" },
    { what: "idle", ...sum("guest", (i) => guest.comm.at(i) === "swapper"), note: "swapper in the guest: an idle vCPU sleeps, and the host shows its CPU as idle or at other work; excludeIdle takes it out" },
  ];
  return tableOf(scales.unit === "ns" ? countedTwiceColumns : { ...countedTwiceColumns, value: { ...countedTwiceColumns.value, unit: scales.unit } }, rows);
}
