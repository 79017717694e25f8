import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { formatValue } from "../format.js";
import { colourScale, legendOf, listed, MOST_MARKS, rowsOf, runOf, stateColours, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface StateChartOptions extends ChartOptions {
  /** Into how many stretches of equal length the recording is cut; default 120, fewer where there are many threads. */
  bins?: number;
}

interface Row { run?: string | null; vcpu?: number | null; pid: number; comm?: string | null; start: number; dur: number; state: string }

/** With those of back ends, which are asleep and wait for a CPU in the same colours as vCPUs. */
const COLOURS: Record<string, string> = { running: "#4477aa", runnable: stateColours.stolen, sleeping: stateColours.halted, ...stateColours };
/** From the left and from the bottom up: on a CPU, asleep, waiting for one, not known. */
const ORDER = Object.keys(COLOURS);

/**
 * What each thread does over time: above, a bar of the whole recording per thread; below, the share of each state in stretches of equal length.
 * @param states what vcpuStates or backendStates gives: pid, start, dur, state; vcpu, comm, and run where there are several
 */
export function stateChart(states: ColumnTable, options: StateChartOptions = {}): Chart {
  const { bins = 120 } = options;
  if (!(Number.isInteger(bins) && bins > 0)) throw new OptionError(`bins is a whole number above 0; this is ${bins}`);
  const rows = rowsOf<Row>(states, "stateChart", ["pid", "start", "dur", "state"]);
  const runs = [...new Set(rows.map(runOf))];
  const threadOf = (row: Row): string => (typeof row.vcpu === "number" ? `vCPU ${row.vcpu}` : row.comm ? `${row.comm} (${row.pid})` : `thread ${row.pid}`);
  const twins = new Map<string, Set<number>>();
  for (const row of rows) twins.set(`${runOf(row)} ${threadOf(row)}`, (twins.get(`${runOf(row)} ${threadOf(row)}`) ?? new Set()).add(row.pid));
  const nameOf = (row: Row): string => {
    const thread = twins.get(`${runOf(row)} ${threadOf(row)}`)!.size > 1 ? `${threadOf(row)}, thread ${row.pid}` : threadOf(row);
    return runs.length > 1 || row.run ? `${runOf(row)}, ${thread}` : thread;
  };
  const lines = new Map<string, Row[]>();
  for (const row of rows) {
    const name = nameOf(row), list = lines.get(name);
    if (list) list.push(row);
    else lines.set(name, [row]);
  }
  const names = [...lines.keys()];
  const seen = new Set(rows.map(({ state }) => state));
  const order = [...ORDER.filter((state) => seen.has(state)), ...[...seen].filter((state) => !ORDER.includes(state)).sort()];
  const parts = Math.max(1, Math.min(bins, Math.floor(MOST_MARKS / Math.max(1, names.length * (order.length + 1)))));
  const bounds = new Map(runs.map((run) => {
    let from = Infinity, to = -Infinity;
    for (const row of rows) if (runOf(row) === run) [from, to] = [Math.min(from, row.start), Math.max(to, row.start + row.dur)];
    return [run, { from, to }] as const;
  }));
  const longest = Math.max(1, ...[...bounds.values()].map(({ from, to }) => to - from));
  const [unit, size] = longest >= 2e9 ? ["s", 1e9] : longest >= 2e6 ? ["ms", 1e6] : ["µs", 1e3];

  const bar: object[] = [], panels: { name: string; values: object[] }[] = [], shares: { name: string; state: string; share: number }[] = [];
  for (const [name, list] of lines) {
    const { from, to } = bounds.get(runOf(list[0]))!, step = (to - from) / parts;
    const sums = new Map(order.map((state) => [state, new Float64Array(parts)]));
    for (const { start, dur, state } of list) {
      const into = sums.get(state)!, end = start + dur;
      for (let bin = Math.min(parts - 1, Math.floor((start - from) / step)); bin < parts && from + bin * step < end; bin++) {
        into[bin] += Math.max(0, Math.min(end, from + (bin + 1) * step) - Math.max(start, from + bin * step));
      }
    }
    let low = 0;
    for (const [state, list] of sums) {
      const total = list.reduce((sum, x) => sum + x, 0), share = (100 * total) / (to - from);
      if (total === 0) continue;
      bar.push({ name, state, low, high: low + share, time: formatValue(total, "ns"), share: `${share.toFixed(2)} %` });
      shares.push({ name, state, share });
      low += share;
    }
    const values: object[] = [];
    for (let bin = 0; bin < parts; bin++) {
      let below = 0;
      for (const state of order) {
        const share = (100 * sums.get(state)![bin]) / step;
        if (!(share > 0)) continue;
        values.push({ state, from: (bin * step) / size, to: ((bin + 1) * step) / size, low: below, high: below + share, share: `${share.toFixed(2)} %`, time: formatValue(sums.get(state)![bin], "ns") });
        below += share;
      }
    }
    panels.push({ name, values });
  }
  const steps = [...bounds.values()].map(({ from, to }) => formatValue((to - from) / parts, "ns"));
  const left = Math.min(190, Math.max(50, ...names.map((name) => name.length * 6.6)));
  const plot = (options.width ?? WIDTH) - left - 34;
  const colour = { field: "state", type: "nominal", scale: colourScale(order, COLOURS), legend: order.length > 0 ? legendOf(order, plot) : null };
  const tips = [{ field: "state" }, { field: "share" }, { field: "time" }];
  const most = names.map((name) => shares.filter((row) => row.name === name).reduce((best, row) => (row.share > best.share ? row : best))).map(({ name, state, share }) => `${name} ${state} ${share.toFixed(share >= 99.95 ? 0 : 1)} %`);
  return themed(options.title ?? (names.length === 0 ? "No thread's time is known" : `Most of the time: ${listed(most.slice(0, 4))}${most.length > 4 ? " …" : ""}`), [
    names.length > 0 && `Above: shares of the whole recording. Below: over time, added up in ${parts} stretches of ${listed([...new Set(steps)])}.`,
  ], {
    vconcat: [
      {
        width: plot, height: Math.max(24, names.length * 22), data: { values: bar }, mark: { type: "bar", stroke: "#ffffff", strokeWidth: 0.4 },
        encoding: {
          y: { field: "name", type: "nominal", sort: null, scale: { domain: names, paddingInner: 0.25 }, axis: { title: null, labelLimit: 190 } },
          x: { field: "low", type: "quantitative", scale: { domain: [0, 100], nice: false }, axis: { title: "share of the recording (%)" } }, x2: { field: "high" },
          color: colour, tooltip: [{ field: "name", title: "thread" }, ...tips],
        },
      },
      ...panels.map(({ name, values }, i) => ({
        title: { text: name, fontSize: 11.5, offset: 4, anchor: "start", frame: "group" },
        width: plot, height: 72, data: { values }, mark: { type: "rect" },
        encoding: {
          x: { field: "from", type: "quantitative", scale: { domain: [0, longest / size], nice: false }, axis: { title: i === panels.length - 1 ? `time since the recording began (${unit})` : null, grid: false } }, x2: { field: "to" },
          y: { field: "low", type: "quantitative", scale: { domain: [0, 100], nice: false }, axis: { title: "%", values: [0, 50, 100] } }, y2: { field: "high" },
          color: { ...colour, legend: null }, tooltip: tips,
        },
      })),
    ],
    spacing: 14, resolve: { scale: { color: "independent" }, legend: { color: "independent" } },
  });
}
