import type { ColumnTable } from "arquero";
import { formatValue } from "../format.js";
import { legendOf, listed, MOST_MARKS, rowsOf, runOf, runScale, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

interface Row {
  run?: string | null; test?: number | null; kind: string; stream?: string | null; direction?: string | null; side?: string | null;
  start: number | null; end: number | null; bitrate: number | null; omitted?: boolean;
}

/**
 * Bit rate over time, a line per run, and each run's own total as a dashed line.
 * @param table rows of loadIperf3 (start, end, bitrate, kind; run where there are several). Where the text has both, SUM rows stand for the streams.
 */
export function bitrateChart(table: ColumnTable, options: ChartOptions = {}): Chart {
  const rows = rowsOf<Row>(table, "bitrateChart", ["kind", "start", "end", "bitrate"]).filter((row) => row.bitrate !== null && row.start !== null && row.end !== null);
  // Several tests, directions or ends of one run are lines of their own, named so.
  const several = (field: "test" | "direction", run: string) => new Set(rows.filter((row) => runOf(row) === run).map((row) => row[field] ?? null)).size > 1;
  const split = new Map([...new Set(rows.map(runOf))].map((run) => [run, { test: several("test", run), direction: several("direction", run) }]));
  const nameOf = (row: Row): string => {
    const by = split.get(runOf(row))!;
    return [runOf(row), by.test && row.test !== null ? `test ${row.test}` : "", by.direction ? row.direction ?? "" : ""].filter(Boolean).join(", ");
  };
  const summed = new Set(rows.filter((row) => row.stream === "SUM").map((row) => `${nameOf(row)}\n${row.kind}`));
  const wanted = rows.filter((row) => !summed.has(`${nameOf(row)}\n${row.kind}`) || row.stream === "SUM");
  const perStream = new Map<string, Set<string>>();
  for (const row of wanted) perStream.set(nameOf(row), (perStream.get(nameOf(row)) ?? new Set()).add(row.stream ?? ""));
  const label = (row: Row): string => ((perStream.get(nameOf(row))?.size ?? 0) > 1 ? `${nameOf(row)}, stream ${row.stream}` : nameOf(row));

  const intervals = wanted.filter((row) => row.kind === "interval" && !row.omitted);
  const most = Math.max(0, ...wanted.map((row) => row.bitrate!));
  const [unit, size] = most >= 1e9 ? ["Gbit/s", 1e9] : most >= 1e6 ? ["Mbit/s", 1e6] : ["kbit/s", 1e3];
  const every = Math.ceil(intervals.length / MOST_MARKS);
  const points = merged(intervals, label, every).map(({ name, start, end, bitrate }) => ({
    run: name, time: (start + end) / 2, rate: bitrate / size, interval: `${start.toFixed(2)} – ${end.toFixed(2)} s`, bitrate: formatValue(bitrate, "bit/s"),
  }));
  const totals = new Map<string, Row>();
  for (const row of wanted) {
    if (row.kind !== "total") continue;
    const before = totals.get(label(row));
    if (!before || row.side === "receiver") totals.set(label(row), row);
  }
  const means = [...totals].map(([run, row]) => ({ run, rate: row.bitrate! / size, bitrate: formatValue(row.bitrate, "bit/s"), side: row.side ?? "" }));
  const names = [...new Set([...points.map(({ run }) => run), ...means.map(({ run }) => run)])];
  const scale = runScale(names);
  const title = options.title ?? (means.length > 0
    ? `Bit rate over the whole run: ${listed(means.slice(0, 4).map(({ run, bitrate }) => (names.length > 1 ? `${run} ${bitrate}` : bitrate)))}`
    : `Bit rate over time: ${listed(names)}`);
  const many = points.length > 150;
  return themed(title, [
    means.length > 0 && `Line: each interval. Dashed: the whole run, as iperf3 prints it${[...totals.values()].every((row) => row.side === "receiver") ? " (receiver)" : ""}.`,
    every > 1 && `Each point is the mean of ${every} intervals.`,
  ], {
    width: options.width ?? WIDTH, height: 240, autosize: { type: "fit-x", contains: "padding" },
    layer: [
      {
        data: { values: points },
        mark: { type: "line", point: many ? false : { size: 36 }, strokeWidth: many ? 1.2 : 2 },
        encoding: {
          x: { field: "time", type: "quantitative", axis: { title: "time since the run began (s)", grid: false, format: ",.3~f", tickCount: 10 }, scale: { nice: false, domain: [0, wanted.reduce((last, row) => Math.max(last, row.end!), 0.001)] } },
          tooltip: [{ field: "run" }, { field: "interval", title: "interval" }, { field: "bitrate", title: "bit rate" }],
        },
      },
      {
        data: { values: means },
        mark: { type: "rule", strokeDash: [5, 4], strokeWidth: 1.3 },
        encoding: { tooltip: [{ field: "run" }, { field: "bitrate", title: "whole run" }, { field: "side", title: "counted by" }] },
      },
    ],
    encoding: {
      y: { field: "rate", type: "quantitative", axis: { title: `bit rate (${unit})`, tickCount: 6 }, scale: { zero: true } },
      color: { field: "run", type: "nominal", scale, legend: names.length > 1 ? legendOf(names, options.width) : null },
    },
  });
}

/** Runs of `every` intervals of one line as one, weighted by their lengths. */
function merged(rows: Row[], label: (row: Row) => string, every: number): { name: string; start: number; end: number; bitrate: number }[] {
  const byName = new Map<string, Row[]>();
  for (const row of rows) {
    const list = byName.get(label(row));
    if (list) list.push(row);
    else byName.set(label(row), [row]);
  }
  return [...byName].flatMap(([name, list]) => {
    const out: { name: string; start: number; end: number; bitrate: number }[] = [];
    for (let i = 0; i < list.length; i += every) {
      const group = list.slice(i, i + every);
      const time = group.reduce((sum, row) => sum + row.end! - row.start!, 0);
      const bits = group.reduce((sum, row) => sum + row.bitrate! * (row.end! - row.start!), 0);
      out.push({ name, start: group[0].start!, end: group[group.length - 1].end!, bitrate: time > 0 ? bits / time : group[0].bitrate! });
    }
    return out;
  });
}
