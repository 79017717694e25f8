import type { ColumnTable } from "arquero";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { sliceOf } from "./guest-time.js";
import { frameOf, planOf, sum, weightOf, type HostAndGuest, type NestOptions } from "./nest-plan.js";

export interface NestWeightsOptions extends NestOptions {
  /** A row per vCPU and slice besides the sums; default false. */
  bySlice?: boolean;
}

export const nestWeightsColumns = {
  part: { type: "string", unit: null, meaning: "vCPU N; guest CPU N, for which no thread is known; vCPU not known (guest mode of a thread that is no known vCPU); other threads (of the host); all." },
  tid: { type: "number", unit: null, meaning: "Host thread id of the vCPU.", null: "part is no vCPU, or its thread is not known" },
  start: { type: "number", unit: "ns", meaning: "Where the slice begins, on the host's clock.", null: "the row is a sum over all slices" },
  host: { type: "number", unit: "ns", meaning: "Before: time of the host's samples of the thread." },
  guest: { type: "number", unit: "ns", meaning: "Before: time of the guest's samples of the vCPU, by their own weights. Plain concatenation (mergeStacks) adds both." },
  before: { type: "number", unit: "ns", meaning: "host + guest." },
  guestMode: { type: "number", unit: "ns", meaning: "Time that the thread was in guest mode, as the host knows it." },
  nested: { type: "number", unit: "ns", meaning: "What the guest's stacks have of it." },
  notAttributed: { type: "number", unit: "ns", meaning: "The rest of it: [guest mode, no guest sample] or [guest mode, vCPU not known]." },
  after: { type: "number", unit: "ns", meaning: "In the nested table: host, and guestMode where the host's samples do not hold it." },
  factor: { type: "number", unit: null, meaning: "Ratio nested / guest, by which the guest's weights were changed, on average.", null: "the guest has no samples there" },
  leftOut: { type: "number", unit: "ns", meaning: "Of guest: samples for which the host has no time in guest mode, which are left out." },
  idle: { type: "number", unit: "ns", meaning: "Of guest: idle samples of a clock, which goes on while the vCPU sleeps; left out." },
  how: { type: "string", unit: null, meaning: "What the row rests on.", null: "the row is one slice" },
} as const satisfies Columns;

/** The sums before and after nestStacks, per vCPU and in all; options as for nestStacks. Its total, after, is the host's CPU time. @throws OptionError as nestStacks does */
export function nestWeights(profiles: HostAndGuest, options: NestWeightsOptions = {}): ColumnTable {
  const plan = planOf(profiles, options);
  const { scales, lanes, time, slices } = plan, none = lanes.length;
  type Row = RowOf<typeof nestWeightsColumns>;
  const cells = slices.covered.map((_, s) => Array.from({ length: none + 2 }, (_, l): Row => ({
    part: l === none ? "vCPU not known" : l > none ? "other threads" : lanes[l].tid === null ? `guest CPU ${lanes[l].vcpu}` : frameOf(lanes[l]), tid: lanes[l]?.tid ?? null,
    start: slices.edges[s], host: 0, guest: 0, before: 0, guestMode: l <= none ? time.cells[l][s] : 0, nested: 0, notAttributed: 0, after: 0, factor: null, leftOut: 0, idle: 0, how: null,
  })));
  // What lies outside of all slices belongs to none, but to the sums.
  const outside = Array.from({ length: none + 2 }, () => ({ guest: 0, idle: 0 }));
  for (const i of scales.host.rows) {
    const l = plan.laneOf(i);
    cells[Math.max(0, sliceOf(slices, plan.host.raw.ts[i]))][l < none ? l : time.isGuestMode(i) ? none : none + 1].host += weightOf(plan.host, i) * scales.host.nsPerUnit;
  }
  if (plan.guest) {
    for (const i of scales.guest.rows) {
      const l = plan.guestLaneOf(i), s = plan.guestSlices[i], row = s < 0 ? outside[l] : cells[s][l];
      const ns = weightOf(plan.guest, i) * scales.guest.nsPerUnit;
      row.guest += ns;
      if (plan.guestNs[i] === 0) row.idle += ns;
    }
  }
  const finish = (row: Row): Row => ({ ...row, before: row.host + row.guest, factor: row.guest > 0 ? row.nested / row.guest : null });
  const sums = cells[0].map((first, l): Row => {
    const row: Row = { ...first, start: null, host: 0, guest: outside[l].guest, guestMode: 0, idle: outside[l].idle, leftOut: outside[l].guest - outside[l].idle };
    cells.forEach((slice, s) => {
      const cell = slice[l], factor = l < none ? plan.factors[l][s] : 0, busy = cell.guest - cell.idle;
      // With one part of the sum exact, the others follow: nothing is lost to rounding.
      cell.notAttributed = l < none ? plan.unattributed[l][s] : cell.guestMode;
      cell.nested = cell.guestMode - cell.notAttributed;
      cell.leftOut = factor > 0 ? 0 : busy;
      cell.after = cell.host + (time.counted ? 0 : cell.guestMode);
      for (const name of ["host", "guest", "guestMode", "nested", "notAttributed", "after", "leftOut", "idle"] as const) row[name] += cell[name];
    });
    row.how = l < none ? lanes[l].evidence : l === none ? "guest mode of no known vCPU's thread" : "all other samples of the host";
    return finish(row);
  });
  const rows = sums.filter((row, l) => l !== none || row.guestMode > 0 || row.host > 0 || row.guest > 0);
  const all: Row = { ...rows[0], part: "all", tid: null, how: `guest mode: ${time.how}; ${plan.how}` };
  for (const name of ["host", "guest", "guestMode", "nested", "notAttributed", "after", "leftOut", "idle"] as const) all[name] = sum(rows.map((row) => row[name]));
  const bySlice = options.bySlice ? cells.flat().filter((row) => row.host > 0 || row.guest > 0 || row.guestMode > 0).map(finish) : [];
  const columns: Columns = scales.unit === "ns" ? nestWeightsColumns
    : Object.fromEntries(Object.entries(nestWeightsColumns).map(([name, spec]) => [name, name !== "start" && spec.unit === "ns" ? { ...spec, unit: scales.unit } : spec]));
  return tableOf(columns, [...bySlice, ...rows, finish(all)] as unknown as RowOf<Columns>[]);
}
