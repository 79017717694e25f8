import type { ColumnTable } from "arquero";
import { formatValue } from "../format.js";
import { amount, colourScale, legendOf, listed, logDomain, logTimeAxis, rowsOf, runScale, stageColours, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

interface Row { run?: string | null; backend?: string | null; index: number; stage: string; n: number; p50: number | null; p90: number | null; p99: number | null; whole: number; mean: number | null; share: number | null }

/**
 * Where the time of kicks goes: above, the mean way of whole chains, stage after stage; below, the spread of each stage over all kicks.
 * @param stages what kickStages or packetStages gives: run, backend, index, stage, n, p50, p90, p99, whole, mean, share
 */
export function stageChart(stages: ColumnTable, options: ChartOptions = {}): Chart {
  const rows = rowsOf<Row>(stages, "stageChart", ["index", "stage", "n", "p50", "p90", "p99", "whole", "mean", "share"]);
  const nameOf = (row: Row): string => (row.run ? (new Set(rows.filter((other) => other.run === row.run).map((other) => other.backend ?? "")).size > 1 ? `${row.run}, ${row.backend ?? "back end unknown"}` : row.run) : row.backend ?? "kicks");
  const named = rows.map((row) => ({ ...row, name: nameOf(row) }));
  const names = [...new Set(named.map(({ name }) => name))];
  const order = [...new Map([...named].sort((a, b) => a.index - b.index).map(({ stage }) => [stage, true])).keys()];

  // The way: bars from 0 to the read, one after the other.
  const way = names.flatMap((name) => {
    let at = 0;
    return named.filter((row) => row.name === name && row.share !== null && row.mean !== null).sort((a, b) => a.index - b.index).map((row) => {
      const from = at;
      at += row.mean!;
      return { name, stage: row.stage, from: from / 1000, to: at / 1000, mean: formatValue(row.mean, "ns"), share: `${row.share!.toFixed(1)} %`, whole: row.whole.toLocaleString("en-US") };
    });
  });
  const ends = names.map((name) => ({ name, end: way.filter((row) => row.name === name).reduce((most, { to }) => Math.max(most, to), 0) })).filter(({ end }) => end > 0)
    .map((row) => ({ ...row, words: formatValue(row.end * 1000, "ns") }));
  const most = Math.max(1, ...ends.map(({ end }) => end));
  const [unit, size] = most >= 1000 ? ["ms", 1000] : ["µs", 1];
  const shownStages = order.filter((stage) => way.some((row) => row.stage === stage));

  const us = (x: number | null): number | null => (x === null || !(x > 0) ? null : x / 1000);
  const spread = named.filter(({ p50 }) => p50 !== null).map((row) => ({
    name: row.name, stage: row.stage, p50: us(row.p50), p90: us(row.p90), p99: us(row.p99), n: row.n.toLocaleString("en-US"),
    t50: amount(row.p50!, "ns"), t90: amount(row.p90 ?? NaN, "ns"), t99: amount(row.p99 ?? NaN, "ns"),
  }));
  const range = logDomain(spread.flatMap(({ p50, p99 }) => [p50, p99])) ?? [1, 10];
  const stagesBelow = order.filter((stage) => spread.some((row) => row.stage === stage));
  const longest = Math.min(215, Math.max(60, ...order.map((stage) => stage.length * 6.3)));
  const plot = (options.width ?? WIDTH) - longest - 30;
  const runColour = { field: "name", type: "nominal", scale: runScale(names), legend: names.length > 0 ? legendOf(names, plot) : null };
  const tips = [{ field: "name", title: "run" }, { field: "stage" }, { field: "n", title: "how many" }, { field: "t50", title: "median" }, { field: "t90", title: "90th percentile" }, { field: "t99", title: "99th percentile" }];
  const y = { field: "name", type: "nominal", sort: null, scale: { domain: names, paddingInner: 0.25, paddingOuter: 0.1 }, axis: { title: null } };
  const scaled = way.map((row) => ({ ...row, from: row.from / size, to: row.to / size }));
  return themed(options.title ?? (ends.length > 0 ? `${order[0].startsWith("kvm_exit") ? "From a kick's exit to the InterruptStatus read" : `From ${order[0].split(" → ")[0]} to ${order[order.length - 1].split(" → ")[1]}`}: ${listed(ends.map(({ name, words }) => `${name} ${words}`))}` : "No kick of these is whole"), [
    `Above: mean of the whole chains (${listed(names.map((name) => `${name} ${(named.find((row) => row.name === name)?.whole ?? 0).toLocaleString("en-US")}`))}). Below: all that have the stage; dot median, thick line to the 90th, thin to the 99th percentile.`,
  ], {
    vconcat: [
      {
        width: plot, height: Math.max(34, names.length * 34),
        layer: [
          {
            data: { values: scaled }, mark: { type: "bar", stroke: "#ffffff", strokeWidth: 0.6 },
            encoding: {
              x: { field: "from", type: "quantitative", scale: { domain: [0, (most / size) * 1.12], nice: false }, axis: { title: `time since ${order[0]?.startsWith("kvm_exit") ? "the exit" : order[0]?.split(" → ")[0] ?? "the first"} (${unit})`, tickCount: 8 } }, x2: { field: "to" },
              color: { field: "stage", type: "nominal", scale: colourScale(shownStages, stageColours), legend: shownStages.length > 0 ? { values: shownStages, columns: 2, labelLimit: 210 } : null },
              tooltip: [{ field: "name", title: "run" }, { field: "stage" }, { field: "mean" }, { field: "share", title: "share of the way" }, { field: "whole", title: "whole chains" }],
            },
          },
          { data: { values: ends.map((row) => ({ ...row, end: row.end / size })) }, mark: { type: "text", align: "left", dx: 5, fontWeight: "bold" }, encoding: { x: { field: "end", type: "quantitative" }, text: { field: "words" } } },
        ],
        encoding: { y },
      },
      {
        width: plot, height: Math.max(40, stagesBelow.length * (names.length * 12 + 10)),
        data: { values: spread },
        layer: [
          { transform: [{ filter: "isValid(datum.p50) && isValid(datum.p99)" }], mark: { type: "rule", strokeWidth: 1.2 }, encoding: { x: { field: "p50", type: "quantitative" }, x2: { field: "p99" }, color: runColour, tooltip: tips } },
          { transform: [{ filter: "isValid(datum.p50) && isValid(datum.p90)" }], mark: { type: "rule", strokeWidth: 4, opacity: 0.5 }, encoding: { x: { field: "p50", type: "quantitative" }, x2: { field: "p90" }, color: runColour, tooltip: tips } },
          {
            transform: [{ filter: "isValid(datum.p50)" }], mark: { type: "point", size: 60 },
            encoding: { x: { field: "p50", type: "quantitative", scale: { type: "log", domain: range, nice: false }, axis: logTimeAxis("time in the stage", range) }, color: runColour, tooltip: tips },
          },
        ],
        encoding: {
          y: { field: "stage", type: "nominal", sort: null, scale: { domain: stagesBelow, paddingInner: 0.2 }, axis: { title: null, labelLimit: 215, grid: false } },
          ...(names.length > 1 ? { yOffset: { field: "name", type: "nominal", scale: { domain: names, paddingInner: 0.3 } } } : {}),
        },
      },
    ],
    spacing: 22, resolve: { scale: { color: "independent" }, legend: { color: "independent" } },
  });
}
