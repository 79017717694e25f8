import type { ColumnTable } from "arquero";
import { tableOf, type Columns } from "../source/columns.js";
import { spread } from "./quantile.js";
import { columnReader } from "./walk.js";

/** The times of a kick that the stages are made of; see virtioKicks. */
export interface KickTimes {
  exit: number | null; wake: number | null; sched_in: number | null; tun_first: number | null; irq: number | null;
  vcpu_wake: number | null; vcpu_exit: number | null; entry: number | null; isr_read: number | null; ack: number | null;
  end: number | null;
}
interface Kick extends KickTimes { whole: boolean }
const TIMES = ["exit", "wake", "sched_in", "tun_first", "irq", "vcpu_wake", "vcpu_exit", "entry", "isr_read", "ack", "end"] as const;

/** The events on the way of a kick, in order. A stage is the time between two that follow each other. */
const POINTS: [name: string, at: (kick: KickTimes) => number | null][] = [
  ["kvm_exit", (k) => k.exit],
  ["kick", () => 0],
  ["wake", (k) => k.wake],
  ["back end runs", (k) => k.sched_in],
  ["tun_get_user", (k) => k.tun_first],
  ["interrupt", (k) => k.irq],
  ["vCPU woken or out", (k) => k.vcpu_wake ?? k.vcpu_exit],
  ["kvm_entry", (k) => k.entry],
  ["InterruptStatus read", (k) => k.isr_read],
  ["acknowledge", (k) => k.ack],
];
export const STAGES: string[] = POINTS.slice(1).map(([name], i) => `${POINTS[i][0]} → ${name}`);
/** The way ends when the guest reads InterruptStatus; the stage after it counts for itself. */
const ON_THE_WAY = STAGES.length - 1;

/**
 * When each event of the way came, without gaps, from kvm_exit to the end: what a chain lacks (tun_get_user where the queue receives or there is no probe, a wake of who
 * was awake, a read of InterruptStatus where there is none) takes no time, so that it goes to the next stage.
 */
export function boundsOf(kick: KickTimes): number[] {
  const bounds: number[] = [];
  for (const [i, [, at]] of POINTS.slice(0, -1).entries()) bounds.push(i === ON_THE_WAY ? kick.end! : Math.max(bounds[i - 1] ?? -Infinity, Math.min(at(kick) ?? bounds[i - 1], kick.end!)));
  return bounds;
}

/** The times of a table's kicks, by row as `table.scan` gives it. */
export function timesReader(kicks: ColumnTable): (row: number) => KickTimes {
  const read = columnReader(kicks), times = TIMES.map((name) => [name, read(name)] as const);
  return (row) => Object.fromEntries(times.map(([name, at]) => [name, at(row)])) as unknown as KickTimes;
}

export const kickStagesColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the kicks have no run column" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  index: { type: "number", unit: null, meaning: "Position of the stage on the way, an index from 0." },
  stage: { type: "string", unit: null, meaning: "From which event to which." },
  n: { type: "number", unit: "count", meaning: "Kicks of which both ends of the stage are known, whole chains or not." },
  p50: { type: "number", unit: "ns", meaning: "Median over these.", null: "n is 0" },
  p90: { type: "number", unit: "ns", meaning: "90th percentile over these.", null: "n is 0" },
  p99: { type: "number", unit: "ns", meaning: "99th percentile over these.", null: "n is 0" },
  whole: { type: "number", unit: "count", meaning: "Whole chains." },
  mean: { type: "number", unit: "ns", meaning: "Mean over the whole chains; those of the stages up to the read add up to the mean of the whole way.", null: "no chain is whole" },
  share: { type: "number", unit: "%", meaning: "Share of the stage in the way from kvm_exit to the InterruptStatus read, over the whole chains.", null: "no chain is whole, or the stage comes after the read" },
} as const satisfies Columns;

/**
 * Where the time of kicks goes, stage by stage: per run (where there is a `run` column) and back end, percentiles over all kicks that
 * have both ends of a stage, and mean and share over the whole chains. Percentiles as in exitSummary.
 * @param kicks a table from virtioKicks, filtered or stacked as you like.
 */
export function kickStages(kicks: ColumnTable): ColumnTable {
  interface Group { run: string | null; backend: string | null; kicks: Kick[] }
  const groups = new Map<string, Group>();
  const read = columnReader(kicks), run = read("run"), backend = read("backend"), whole = read("whole"), times = timesReader(kicks);
  kicks.scan((row) => {
    const group = { run: run(row!) as string | null, backend: backend(row!) as string | null };
    const key = JSON.stringify(group);
    let found = groups.get(key);
    if (!found) groups.set(key, (found = { ...group, kicks: [] }));
    found.kicks.push({ ...times(row!), whole: whole(row!) === true });
  });
  return tableOf(kickStagesColumns, [...groups.values()].flatMap(({ kicks: list, ...group }) => {
    const chains = list.filter((kick) => kick.whole).map((kick) => ({ kick, bounds: boundsOf(kick) }));
    const way = chains.reduce((sum, { kick }) => sum + kick.end! - kick.exit!, 0);
    return STAGES.map((stage, index) => {
      const lengthsOf = (of: Kick[]): number[] => of.flatMap((kick) => lengthOf(kick, index) ?? []);
      const { n, p50, p90, p99 } = spread(lengthsOf(list));
      const inChains = spread(index < ON_THE_WAY ? chains.map(({ bounds }) => bounds[index + 1] - bounds[index]) : lengthsOf(chains.map(({ kick }) => kick)));
      return {
        ...group, index, stage, n, p50, p90, p99, whole: chains.length,
        mean: inChains.n === 0 ? null : inChains.total / inChains.n,
        share: index < ON_THE_WAY && way > 0 ? (100 * inChains.total) / way : null,
      };
    });
  }));
}

/** How long a stage took; null where one of its ends is not known. */
export function lengthOf(kick: KickTimes, stage: number): number | null {
  const from = POINTS[stage][1](kick), to = POINTS[stage + 1][1](kick);
  return from === null || to === null ? null : to - from;
}

/** The lengths of each stage, ns, in the order of the kicks that have both of its ends; see kickStages. */
export function stageLengths(kicks: ColumnTable): Map<string, number[]> {
  const times = timesReader(kicks);
  const lengths = new Map<string, number[]>(STAGES.map((stage) => [stage, []]));
  kicks.scan((row) => {
    const kick = times(row!);
    STAGES.forEach((stage, index) => {
      const length = lengthOf(kick, index);
      if (length !== null) lengths.get(stage)!.push(length);
    });
  }, true);
  return lengths;
}

export const kickSpansColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the kicks have no run column" },
  kick: { type: "number", unit: null, meaning: "Index of the kick, as in virtioKicks." },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  span: { type: "string", unit: null, meaning: "Which span: \"kick → InterruptStatus read\", \"kick → tun_get_user\" or \"vCPU asleep\"." },
  from: { type: "string", unit: null, meaning: "Event that begins it." },
  to: { type: "string", unit: null, meaning: "Event that ends it." },
  start_ts: { type: "number", unit: "ns", meaning: "When it begins, on the trace's clock." },
  end_ts: { type: "number", unit: "ns", meaning: "When it ends." },
  dur: { type: "number", unit: "ns", meaning: "How long it is." },
} as const satisfies Columns;

/**
 * Spans that are quoted as the latency of a kick, side by side with their end points, for they are not the same: the answer the
 * guest waits for (kick → InterruptStatus read), the back end's part (kick → first tun_get_user), and how long the vCPU that takes the interrupt slept
 * (sched_switch out → in), which is a part of the first where it went to sleep after the kick. A span that a kick lacks has no row.
 * @param kicks a table from virtioKicks.
 */
export function kickSpans(kicks: ColumnTable): ColumnTable {
  const read = columnReader(kicks);
  const run = read("run"), kick = read("kick"), backend = read("backend"), ts = read("ts");
  const spans = [
    { span: "kick → InterruptStatus read", from: "kvm_mmio write QueueNotify", to: "kvm_mmio read InterruptStatus", begin: () => 0, end: read("isr_read") },
    { span: "kick → tun_get_user", from: "kvm_mmio write QueueNotify", to: "first tun_get_user", begin: () => 0, end: read("tun_first") },
    { span: "vCPU asleep", from: "sched_switch out", to: "sched_switch in", begin: read("halt"), end: read("resume") },
  ];
  const rows: Parameters<typeof tableOf<typeof kickSpansColumns>>[1] extends Iterable<infer R> ? R[] : never = [];
  kicks.scan((row) => {
    const at = ts(row!) as number;
    for (const { span, from, to, begin, end } of spans) {
      const a = begin(row!) as number | null, b = end(row!) as number | null;
      if (a === null || b === null) continue;
      rows.push({ run: run(row!) as string | null, kick: kick(row!) as number, backend: backend(row!) as string | null, span, from, to, start_ts: at + a, end_ts: at + b, dur: b - a });
    }
  });
  return tableOf(kickSpansColumns, rows);
}
