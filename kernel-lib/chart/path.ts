import type { ColumnTable } from "arquero";
import { formatValue } from "../format.js";
import { legendOf, listed, rowsOf, runScale, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

interface Row { run?: string | null; backend?: string | null; what: string; total: number; share: number; mean: number; n: number; longest: number; kicks: number }

/** What takes less than this share of every way is left out, and the subtitle says so. */
const LEAST = 0.05;

/**
 * What kicks waited for, or the stages that they were in: the mean time per kick, a bar per run.
 * @param path what criticalPath gives: run, backend, what, share, mean, n, longest, kicks
 */
export function pathChart(path: ColumnTable, options: ChartOptions = {}): Chart {
  const all = rowsOf<Row>(path, "pathChart", ["what", "share", "mean", "n", "longest", "kicks"]);
  const backends = (run: string): number => new Set(all.filter((row) => row.run === run).map((row) => row.backend ?? "")).size;
  const nameOf = (row: Row): string => (row.run ? (backends(row.run) > 1 ? `${row.run}, ${row.backend ?? "back end unknown"}` : row.run) : row.backend ?? "kicks");
  const shown = new Set(all.filter(({ share }) => share >= LEAST).map(({ what }) => what));
  const rows = all.filter(({ what }) => shown.has(what)).map((row) => ({
    ...row, name: nameOf(row), us: row.mean / 1000, time: formatValue(row.mean, "ns"), words: `${formatValue(row.mean, "ns")} · ${row.share >= 9.95 ? row.share.toFixed(0) : row.share.toFixed(1)} %`,
    in: `${row.n.toLocaleString("en-US")} of ${row.kicks.toLocaleString("en-US")}`, most: row.longest.toLocaleString("en-US"),
  }));
  const names = [...new Set(all.map(nameOf))], most = Math.max(1, ...rows.map(({ mean }) => mean));
  const order = [...shown].sort((a, b) => Math.max(...rows.filter(({ what }) => what === b).map(({ mean }) => mean)) - Math.max(...rows.filter(({ what }) => what === a).map(({ mean }) => mean)));
  const left = Math.min(240, Math.max(60, ...order.map((what) => what.length * 6.4))), plot = (options.width ?? WIDTH) - left - 34;
  const [unit, size] = most >= 2e6 ? ["ms", 1000] : ["µs", 1];
  const tops = names.map((name) => rows.filter((row) => row.name === name)[0]).filter((row) => row !== undefined);
  const left_out = new Set(all.map(({ what }) => what)).size - shown.size;
  const y = { field: "what", type: "nominal", sort: null, scale: { domain: order, paddingInner: 0.28 }, axis: { title: null, labelLimit: 240, grid: false } };
  const yOffset = names.length > 1 ? { yOffset: { field: "name", type: "nominal", scale: { domain: names, paddingInner: 0.1 } } } : {};
  return themed(options.title ?? (tops.length === 0 ? "No kick's path is known" : `Most of a kick's way: ${tops.map((row) => `${row.name}, ${row.what} (${row.share.toFixed(0)} %)`).join("; ")}`), [
    tops.length > 0 && `Mean per kick, over ${listed(tops.map((row) => `${row.kicks.toLocaleString("en-US")} of ${row.name}`))}, and share of their ways. All of a run's bars together are its kicks' whole ways.`,
    left_out > 0 && `${left_out} more, each under ${LEAST} % of every way, ${left_out > 1 ? "are" : "is"} left out.`,
  ], {
    vconcat: [{
      width: plot, height: Math.max(40, order.length * (names.length * 15 + 8)),
      data: { values: rows.map((row) => ({ ...row, us: row.us / size })) },
      layer: [
        {
          mark: { type: "bar" },
          encoding: {
            x: { field: "us", type: "quantitative", scale: { domain: [0, (most / 1000 / size) * 1.22], nice: false }, axis: { title: `mean time per kick (${unit})`, tickCount: 8 } },
            color: { field: "name", type: "nominal", scale: runScale(names), legend: names.length > 0 ? legendOf(names, plot) : null },
            tooltip: [{ field: "name", title: "run" }, { field: "what", title: "waits for" }, { field: "time", title: "mean per kick" }, { field: "words", title: "share" }, { field: "in", title: "in kicks" }, { field: "most", title: "longest in" }],
          },
        },
        { mark: { type: "text", align: "left", baseline: "middle", dx: 4, fontSize: 10 }, encoding: { x: { field: "us", type: "quantitative" }, text: { field: "words" } } },
      ],
      encoding: { y, ...yOffset },
    }],
  });
}
