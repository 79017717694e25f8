import type { ColumnTable } from "arquero";
import { amount, colourScale, rowsOf, runOf, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

interface Row { run?: string | null; cpu: number; offset: number; inside: number; outside: number; share: number | null }

/**
 * Share of a guest's events outside of guest mode over the offset that its clock is given, a line per CPU of the guest; a ring where the line is lowest.
 * @param scan what offsetScan gives: cpu, offset, inside, outside, share; run where there are several
 */
export function offsetChart(scan: ColumnTable, options: ChartOptions = {}): Chart {
  const rows = rowsOf<Row>(scan, "offsetChart", ["cpu", "offset", "inside", "outside", "share"]).filter(({ share }) => share !== null);
  const several = new Set(rows.map(({ run }) => run ?? null)).size > 1;
  const nameOf = (row: Row): string => (several ? `${runOf(row)}, CPU ${row.cpu}` : `CPU ${row.cpu}`);
  const names = [...new Set(rows.map(nameOf))];
  const points = rows.map((row) => ({ name: nameOf(row), offset: row.offset / 1000, share: row.share, words: amount(row.offset, "ns"), outside: `${row.outside.toLocaleString("en-US")} of ${(row.inside + row.outside).toLocaleString("en-US")}` }));
  // Of several lowest ones the middle.
  const lowest = names.flatMap((name) => {
    const own = points.filter((point) => point.name === name), least = own.reduce((a, { share }) => Math.min(a, share!), Infinity), at = own.filter(({ share }) => share === least);
    return at.slice(at.length >> 1, (at.length >> 1) + 1);
  });
  const x = { field: "offset", type: "quantitative", axis: { title: "added to the guest's times (µs)", tickCount: 10 }, scale: { nice: false, zero: false } };
  const y = { field: "share", type: "quantitative", axis: { title: "events outside of guest mode (%)" }, scale: { domain: [0, Math.max(1, ...points.map(({ share }) => share!)) * 1.05], nice: false } };
  const colour = { field: "name", type: "nominal", scale: colourScale(names, {}), legend: names.length > 0 ? { values: names } : null };
  const tooltip = [{ field: "name", title: "guest" }, { field: "words", title: "offset" }, { field: "outside", title: "outside of guest mode" }];
  return themed(options.title ?? (lowest.length > 0 ? "A guest's events can only be where its vCPU is in guest mode" : "No events to judge an offset by"), [
    lowest.length > 0 && `Lowest at ${lowest.map(({ name, words, outside }) => `${words} (${name}: ${outside})`).join(", ")}.`,
  ], {
    width: options.width ?? WIDTH, height: 230, autosize: { type: "fit-x", contains: "padding" },
    layer: [
      { data: { values: points }, mark: { type: "line", strokeWidth: 1.8 }, encoding: { x, y, color: colour, tooltip } },
      { data: { values: lowest }, mark: { type: "point", size: 110, strokeWidth: 2, filled: false }, encoding: { x, y, color: colour, tooltip } },
    ],
  });
}
