import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { visible } from "../format.js";
import { textWidth } from "./text-width.js";
import { colourScale, legendOf, logTimeAxis, reasonColours, rowsOf, runScale, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface LatencyChartOptions extends ChartOptions {
  /** Which span, a column in ns; default handling (exit to next entry); guest is from entry to exit. Any other column in ns will do. */
  span?: string;
  /** Column that makes the rows of the chart; default reason. */
  by?: string;
  /** How many rows the chart has at most, the most frequent first; default 8. */
  most?: number;
  /** Bins per factor of ten; default 10. */
  bins?: number;
}

const WORDS: Record<string, string> = { handling: "Time in the host per exit (exit → next entry)", guest: "Time in the guest before each exit (entry → exit)" };

/**
 * How long things took: a histogram over a logarithmic axis for each reason, runs on top of each other. Heights are shares of a run's exits for
 * that reason, so that runs of different lengths compare.
 * @param exits rows of kvmExits (reason, handling, guest; run where there are several), or any table with a column of names and one of ns
 */
export function latencyChart(exits: ColumnTable, options: LatencyChartOptions = {}): Chart {
  const { span = "handling", by = "reason", most = 8, bins = 10 } = options;
  if (!(Number.isInteger(bins) && bins >= 1 && bins <= 50)) throw new OptionError(`bins is a whole number from 1 to 50; this is ${bins}`);
  if (!(Number.isInteger(most) && most >= 1 && most <= 30)) throw new OptionError(`most is a whole number from 1 to 30; this is ${most}`);
  rowsOf(exits.slice(0, 0) as ColumnTable, "latencyChart", [by, span]);
  const hasRun = exits.columnNames().includes("run") && by !== "run";

  // Straight from the columns: there may be millions of rows.
  interface Group { by: string; run: string; n: number; zero: number; counts: Map<number, number> }
  const groups = new Map<string, Map<string, Group>>();
  let nulls = 0, total = 0;
  const cleaned = new Map<unknown, string>();
  const clean = (name: unknown): string => {
    let text = cleaned.get(name);
    if (text === undefined) cleaned.set(name, (text = visible(String(name))));
    return text;
  };
  exits.scan((row, data: any) => {
    const x = data[span].at(row) as number | null;
    total++;
    if (x === null || x === undefined || x !== x || x < 0) {
      nulls++;
      return;
    }
    const name = clean(data[by].at(row) ?? "unknown"), run = hasRun ? clean(data.run.at(row) ?? "run") : "";
    let runs = groups.get(name);
    if (!runs) groups.set(name, (runs = new Map()));
    let group = runs.get(run);
    if (!group) runs.set(run, (group = { by: name, run, n: 0, zero: 0, counts: new Map() }));
    group.n++;
    if (x === 0) group.zero++;
    else {
      const bin = Math.floor(Math.log10(x) * bins + 1e-9);
      group.counts.set(bin, (group.counts.get(bin) ?? 0) + 1);
    }
  }, true);

  const size = (runs: Map<string, Group>): number => [...runs.values()].reduce((sum, { n }) => sum + n, 0);
  const ordered = [...groups.values()].sort((a, b) => size(b) - size(a));
  const shown = ordered.slice(0, most);
  const names = [...new Set(ordered.flatMap((runs) => [...runs.keys()]))];
  const runs = hasRun && names.length > 0;
  const edges = shown.flatMap((group) => [...group.values()].flatMap(({ counts }) => [...counts.keys()]));
  const least = edges.length > 0 ? edges.reduce((a, b) => Math.min(a, b)) : 3 * bins, last = edges.length > 0 ? edges.reduce((a, b) => Math.max(a, b)) : 4 * bins;
  const at = (bin: number): number => 10 ** (bin / bins) / 1000;
  const label = (runsOf: Map<string, Group>): string => [...runsOf.values()][0].by;
  const zeros = shown.reduce((sum, group) => sum + [...group.values()].reduce((n, { zero }) => n + zero, 0), 0);
  const domain: [number, number] = [at(least - 1), at(last + 2)];
  const scale = runs ? runScale(names) : colourScale(shown.map(label), by === "reason" ? reasonColours : {});
  const total_ = options.width ?? WIDTH, side = Math.min(170, Math.max(60, ...shown.map((group) => textWidth(label(group), 11, true) + 22)));
  const plot = total_ - side - 30, tall = 56;

  const panel = (group: Map<string, Group>, i: number): object => {
    const list = names.filter((name) => group.has(name)).map((name) => group.get(name)!);
    // A step per bin, down to nothing where a bin is empty.
    const values = list.flatMap(({ run, n, counts, by: name }) => Array.from({ length: last - least + 3 }, (_, k) => least - 1 + k).map((bin) => {
      const count = counts.get(bin) ?? 0;
      return { [runs ? "run" : "name"]: runs ? run : name, x: at(bin), share: (100 * count) / n, range: `${spanText(at(bin))} – ${spanText(at(bin + 1))}`, exits: count.toLocaleString("en-US"), part: `${((100 * count) / n).toFixed(1)} %` };
    }));
    const heading = [{ name: label(group), counts: list.map(({ run, n }) => `${runs && names.length > 1 ? `${run} ` : ""}${n.toLocaleString("en-US")}`) }];
    const bottom = i === shown.length - 1;
    const field = runs ? "run" : "name";
    const tip = [...(runs ? [{ field: "run" }] : []), { field: "range", title: "time" }, { field: "exits", title: "how many" }, { field: "part", title: runs ? "of the run's" : "share" }];
    return {
      width: plot, height: tall,
      layer: [
        {
          data: { values }, mark: { type: "area", interpolate: "step-after", opacity: names.length > 1 ? 0.35 : 0.75, line: { strokeWidth: 1.4, opacity: 1 }, tooltip: null },
          encoding: {
            x: { field: "x", type: "quantitative", scale: { type: "log", domain, nice: false }, axis: bottom ? logTimeAxis(span in WORDS ? "time" : span, domain) : { ...logTimeAxis("", domain), title: null, labels: false, ticks: false } },
            y: { field: "share", type: "quantitative", stack: null, axis: null },
            color: { field, type: "nominal", scale, legend: runs && names.length > 1 ? legendOf(names, plot) : null },
          },
        },
        // Wider than the steps and unseen: what the pointer meets.
        { data: { values: values.filter(({ share }) => (share as number) > 0).map((row) => ({ ...row, x2: (row.x as number) * 10 ** (1 / bins) })) }, mark: { type: "rect", opacity: 0 }, encoding: { x: { field: "x", type: "quantitative" }, x2: { field: "x2" }, y: { field: "share", type: "quantitative" }, y2: { datum: 0 }, tooltip: tip } },
        { data: { values: heading }, mark: { type: "text", align: "right", baseline: "top", x: -8, y: 10, fontWeight: "bold", fontSize: 11, limit: side - 10 }, encoding: { text: { field: "name" } } },
        { data: { values: heading }, mark: { type: "text", align: "right", baseline: "top", x: -8, y: 25, fontSize: 10, color: "#595959", limit: side }, encoding: { text: { field: "counts" } } },
      ],
    };
  };
  return themed(options.title ?? `${WORDS[span] ?? span} by ${by}`, [
    `Share of the ${by === "reason" ? "exits" : "rows"} per bin${runs && names.length > 1 ? " and run" : ""}, ${bins} bins per factor of ten; every row has its own height. Under each name: how many.`,
    ordered.length > shown.length && `The ${shown.length} most frequent of ${ordered.length}.`,
    nulls > 0 && `${nulls.toLocaleString("en-US")} of ${total.toLocaleString("en-US")} have no ${span} and are left out.`,
    zeros > 0 && `${zeros.toLocaleString("en-US")} took less than 1 ns and have no place on a logarithmic axis.`,
  ], shown.length === 0 ? { data: { values: [] }, mark: "point", width: 100, height: 20 } : { vconcat: shown.map(panel), spacing: 6, resolve: { scale: { color: "shared" } } });
}

const spanText = (us: number): string => (us >= 1e6 ? `${(us / 1e6).toPrecision(3)} s` : us >= 1e3 ? `${(us / 1e3).toPrecision(3)} ms` : us >= 1 ? `${us.toPrecision(3)} µs` : `${(us * 1e3).toPrecision(3)} ns`);
