import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { columnsOf } from "../source/columns.js";
import { amount, drawable, logAxis, logDomain, logTimeAxis, rowsOf, runScale, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface CountsOptions extends ChartOptions {
  /** Order of the rows; default table; one of table (as they come), ratio (largest first), value (largest first). */
  sort?: "table" | "ratio" | "value";
  /** What the values are; default: the unit of the table's columns, "events" where it has none. "ns" and "bit/s" are known. */
  unit?: string;
}

const MOST_ROWS = 60;
const OTHERS = new Set(["name", "change", "ratio", "low", "high", "n_a", "n_b", "method"]);

/**
 * Two sides, event by event: left the values on a logarithmic axis, right the ratio of the second to the first with its interval.
 * @param comparison what compareCounts, compareBitrate or compareRows gives: name, the two sides under their own names, ratio; low and high where there are repeats
 */
export function countsChart(comparison: ColumnTable, options: CountsOptions = {}): Chart {
  const { sort = "table" } = options;
  if (!["table", "ratio", "value"].includes(sort)) throw new OptionError(`sort is one of table, ratio, value; this is ${JSON.stringify(sort)}`);
  const all = rowsOf<Record<string, any>>(comparison, "countsChart", ["name", "ratio"]);
  const sides = comparison.columnNames().filter((name) => !OTHERS.has(name) && typeof all.find((row) => row[name] !== null && row[name] !== undefined)?.[name] !== "string").slice(0, 2);
  if (sides.length < 2) throw new OptionError(`countsChart needs two columns of values, named by the option names of compareCounts; this table has ${comparison.columnNames().join(", ")}`);
  const [first, second] = sides;
  const [firstName, secondName] = sides.map(drawable);
  const unit = options.unit ?? columnsOf(comparison)[second]?.unit ?? null;
  const size = (row: Record<string, any>): number => Math.max(row[first] ?? 0, row[second] ?? 0);
  const counted = all.filter((row) => size(row) > 0);
  const kept = [...counted].sort((p, q) => size(q) - size(p)).slice(0, MOST_ROWS);
  const rows = sort === "value" ? kept : sort === "ratio" ? kept.sort((p, q) => (q.ratio ?? -1) - (p.ratio ?? -1)) : counted.filter((row) => kept.includes(row));

  const scale = runScale([firstName, secondName]);
  const scaled = (x: number | null): number | null => (x === null || !(x > 0) ? null : unit === "ns" ? x / 1000 : x);
  const order = rows.map((row) => String(row.name));
  const values = rows.map((row) => ({
    event: String(row.name), first: scaled(row[first]), second: scaled(row[second]),
    both: `${firstName} ${row[first] === null ? "not counted" : amount(row[first], unit)}, ${secondName} ${row[second] === null ? "not counted" : amount(row[second], unit)}`,
    ratio: row.ratio > 0 ? row.ratio : null, low: row.low > 0 ? row.low : null, high: row.high ?? null,
    words: row.ratio > 0 ? `×${digits(row.ratio)}` : row[first] === null || row[second] === null ? `only in ${row[first] === null ? secondName : firstName}` : `${amount(row[first], unit)} → ${amount(row[second], unit)}`,
    interval: row.low === null || row.low === undefined ? "no repeats, no interval" : `${digits(row.low)} to ${digits(row.high)} (${row.method ?? ""})`,
  }));
  const range = logDomain(values.flatMap((row) => [row.first, row.second])) ?? [1, 10];
  // 1 is always in sight, in the middle of what there is, and there is room for the number at the right.
  const ratios = logDomain([...values.flatMap(({ ratio, low, high }) => [ratio, low, high]), 0.8, 1.25])!;
  const what = unit === "ns" ? "time" : unit === null || unit === "count" ? "events" : unit;
  const y = { field: "event", type: "nominal", sort: null, scale: { domain: order }, axis: { title: null, grid: false, labelLimit: 210 } };
  // Never a name from the input as a tooltip's title: Vega-Lite puts titles into an expression, and a backslash gets out of its quotes.
  const tips = [{ field: "event" }, { field: "both", title: "values" }, { field: "words", title: "ratio" }, { field: "interval", title: "interval of the ratio" }];
  const total = options.width ?? WIDTH, longest = Math.min(210, Math.max(...order.map((name) => name.length * 6.4), 20));
  const right = 220, left = Math.max(140, total - right - longest - 62);
  const height = Math.max(60, rows.length * 19);
  // Where both stand at one place, the first shows as a ring around the second.
  const together = (row: { first: number | null; second: number | null }): boolean => Math.abs(Math.log(row.first! / row.second!)) * left < 6 * Math.log(range[1] / range[0]);
  const points = values.flatMap((row) => [{ ...row, side: firstName, x: row.first, size: together(row) ? 130 : 75 }, { ...row, side: secondName, x: row.second, size: together(row) ? 45 : 75 }]).filter(({ x }) => x !== null);
  return themed(options.title ?? headline(rows, first, second), [
    `Left: ${what} of each side, logarithmic. Right: ${second} / ${first}${rows.some((row) => row.low !== null && row.low !== undefined) ? ", with the interval where there are repeats" : ""}.`,
    rows.length < counted.length && `The ${rows.length} largest of ${counted.length} rows.`,
    counted.length < all.length && `${all.length - counted.length} more ${all.length - counted.length === 1 ? "has" : "have"} nothing on either side and ${all.length - counted.length === 1 ? "is" : "are"} not drawn.`,
  ], {
    data: { values },
    hconcat: [
      {
        width: left, height,
        layer: [
          { mark: { type: "rule", color: "#b9b9b9", strokeWidth: 2.5 }, transform: [{ filter: "isValid(datum.first) && isValid(datum.second)" }], encoding: { x: { field: "first", type: "quantitative" }, x2: { field: "second" }, tooltip: tips } },
          {
            data: { values: points }, mark: { type: "point" },
            encoding: {
              x: { field: "x", type: "quantitative", scale: { type: "log", domain: range, nice: false }, axis: unit === "ns" ? logTimeAxis("time", range) : logAxis(what, range) },
              color: { field: "side", type: "nominal", scale, legend: { values: [firstName, secondName] } }, tooltip: tips,
              size: { field: "size", type: "quantitative", scale: null, legend: null },
            },
          },
        ],
        encoding: { y },
      },
      {
        width: right, height,
        layer: [
          { data: { values: [{ same: 1 }] }, mark: { type: "rule", color: "#6b6b6b", strokeDash: [3, 3] }, encoding: { x: { field: "same", type: "quantitative" }, y: { value: 0 }, y2: { value: height } } },
          { mark: { type: "rule", strokeWidth: 2.5, color: "#8a8a8a" }, transform: [{ filter: "isValid(datum.low) && isValid(datum.high)" }], encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" }, tooltip: tips } },
          {
            mark: { type: "point", shape: "diamond", size: 60, color: "#222222" },
            encoding: {
              x: {
                field: "ratio", type: "quantitative", scale: { type: "log", domain: ratios, nice: false, range: [6, right - 62] },
                axis: { title: `ratio ${secondName} / ${firstName}`, values: ratioTicks(ratios), format: "~g", labelOverlap: true },
              },
              tooltip: tips,
            },
          },
          { mark: { type: "text", align: "right", x: right, fontSize: 11 }, encoding: { text: { field: "words" }, tooltip: tips } },
        ],
        encoding: { y: { ...y, axis: null } },
      },
    ],
    resolve: { scale: { y: "shared" } },
  });
}

const digits = (x: number): string => (x >= 100 ? x.toFixed(0) : x.toPrecision(3));

function ratioTicks([least, most]: [number, number]): number[] {
  const wide = most / least > 30;
  const ticks: number[] = [];
  for (let e = Math.floor(Math.log10(least)); e <= Math.ceil(Math.log10(most)); e++) for (const step of wide ? [1] : [1, 2, 5]) ticks.push(Number((step * 10 ** e).toPrecision(1)));
  return ticks.filter((x) => x >= least && x <= most);
}

function headline(rows: Record<string, any>[], first: string, second: string): string {
  const known = rows.filter((row) => row.ratio > 0);
  if (known.length === 0) return `${second} against ${first}`;
  const more = known.reduce((best, row) => (row.ratio > best.ratio ? row : best)), less = known.reduce((best, row) => (row.ratio < best.ratio ? row : best));
  return `${second} against ${first}: ${known.length === 1 ? `${more.name} ×${digits(more.ratio)}` : `from ${less.name} ×${digits(less.ratio)} to ${more.name} ×${digits(more.ratio)}`}`;
}
