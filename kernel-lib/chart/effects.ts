import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { amount, changeColours, drawable, listed, logDomain, rowsOf, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";
import { textWidth } from "./text-width.js";

export interface EffectsOptions extends ChartOptions {
  /** Draw only rows with one of these verdicts; default: all. */
  verdicts?: readonly string[];
}

interface Row { group: string; measure: string; unit: string; better: string; ratio: number | null; low: number | null; high: number | null; n_a: number; n_b: number; verdict: string; needed: number | null; method: string }

const VERDICTS = ["better", "worse", "no difference seen", "too little data"];
const colours: Record<string, string> = { better: changeColours.less, worse: changeColours.more, "no difference seen": "#3f3f3f", "too little data": "#767676" };
const shapes: Record<string, string> = { better: "circle", worse: "square", "no difference seen": "diamond", "too little data": "cross" };
const NOT_SIDES = new Set(["group", "measure", "unit", "better", "ratio", "low", "high", "n_a", "n_b", "verdict", "needed", "method"]);
const MOST_ROWS = 80;
/** Width of a measure's name in pixels; a longer one ends in an ellipsis, and its tooltip has it whole. */
const MOST_LABEL = 320;

/**
 * Every effect with its interval, measure by measure (a forest plot): the ratio of the second side to the first on a logarithmic axis around 1,
 * the verdict in colour, shape and words. An interval that leaves the picture ends in an arrow.
 * @param comparison what compareRuns gives: group, measure, unit, better, the two sides under their own names, ratio, low, high, n_a, n_b, verdict, needed, method
 */
export function effectsChart(comparison: ColumnTable, options: EffectsOptions = {}): Chart {
  const all = rowsOf<Row & Record<string, any>>(comparison, "effectsChart", [...NOT_SIDES]);
  const sides = comparison.columnNames().filter((name) => !NOT_SIDES.has(name));
  if (sides.length < 2) throw new OptionError(`effectsChart needs the two sides under their names, as compareRuns gives them; this table has ${comparison.columnNames().join(", ")}`);
  const unknown = options.verdicts?.find((verdict) => !VERDICTS.includes(verdict));
  if (unknown !== undefined) throw new OptionError(`verdicts are some of ${VERDICTS.join(", ")}; this is ${JSON.stringify(unknown)}`);
  const [first, second] = sides, [firstName, secondName] = sides.map(drawable);
  const wanted = all.filter(({ verdict }) => options.verdicts?.includes(verdict) ?? true);
  const known = wanted.filter(({ ratio, high }) => ratio !== null && (ratio > 0 || high !== null));
  const rows = known.slice(0, MOST_ROWS);

  // The axis holds every ratio; of the intervals, what lies within ten times of 1, so that one that says nothing does not squeeze the others.
  const near = rows.flatMap(({ low, high }) => [low, high]).filter((x) => x !== null && x < 10 && x > 0.1);
  const range = logDomain([...rows.map(({ ratio }) => ratio).filter((ratio) => ratio !== 0), ...near, 0.8, 1.25])!;
  const values = rows.map((row, i) => ({
    // Two groups may have a measure of one name.
    row: i, group: row.group, measure: row.measure, verdict: row.verdict,
    // 0 lies infinitely far to the left: an arrow.
    ratio: row.ratio === 0 ? null : row.ratio,
    low: row.low === null ? null : Math.max(row.low, range[0]), high: row.high === null ? null : Math.max(range[0], Math.min(row.high, range[1])),
    cutLow: row.low !== null && row.low < range[0] ? range[0] : null, cutHigh: row.high !== null && row.high > range[1] ? range[1] : null,
    words: `×${digits(row.ratio!)} ${row.verdict === "too little data" ? `too little data${row.needed === null ? "" : `: needs ${row.needed}`}` : row.verdict}`,
    interval: row.low === null ? "none" : `${digits(row.low)} to ${digits(row.high!)}`,
    values: `${firstName} ${valueOf(row[first], row.unit)}, ${secondName} ${valueOf(row[second], row.unit)}`,
    direction: `${row.better} is better`, n: `${row.n_a} and ${row.n_b}`, needed: row.needed === null ? "" : `${row.needed} repeats per side`, method: row.method,
  }));
  const groups = [...new Set(values.map(({ group }) => group))];
  const verdicts = VERDICTS.filter((verdict) => values.some((row) => row.verdict === verdict));
  const tips = ["group", "measure", "values", "direction", "ratio", "interval", "n", "verdict", "needed", "method"].map((field) => (field === "ratio" ? { field, format: ".3f" } : { field, ...(field === "n" ? { title: "repeats or blocks" } : {}) }));
  const scale = { domain: verdicts, range: verdicts.map((verdict) => colours[verdict]) };
  const color = { field: "verdict", type: "nominal", scale, legend: null };
  const longest = Math.min(MOST_LABEL, Math.max(40, ...values.map(({ measure }) => textWidth(measure, 11))));
  const right = Math.max(100, ...values.map(({ words }) => textWidth(words, 11))) + 14, plot = Math.max(160, (options.width ?? WIDTH) - longest - right - 34);
  const x = (axis: object | null) => ({ field: "ratio", type: "quantitative", scale: { type: "log", domain: range, nice: false }, axis });
  const ticks = ticksOf(range);
  return themed(options.title ?? headline(rows, firstName, secondName), [
    `Ratio ${secondName} / ${firstName}, logarithmic; the line is its interval. Whether more or less is better depends on the measure.`,
    rows.some(({ needed }) => needed !== null) && "Needs: repeats on each side that would show a difference that matters, if there is one.",
    known.length > rows.length && `The first ${rows.length} of ${known.length} rows.`,
    known.length < wanted.length && `${wanted.length - known.length} more ${wanted.length - known.length === 1 ? "row has" : "rows have"} no ratio (recorded on one side alone, or 0 on the first) and ${wanted.length - known.length === 1 ? "is" : "are"} not drawn.`,
  ], {
    vconcat: (groups.length > 0 ? groups : ["nothing to compare"]).map((group, g) => {
      const own = values.filter((row) => row.group === group), height = Math.max(20, own.length * 19);
      const y = { field: "row", type: "nominal", sort: null, scale: { domain: own.map(({ row }) => row) }, axis: null };
      const last = g === Math.max(0, groups.length - 1);
      return {
        title: { text: group, fontSize: 11, fontWeight: "bold", anchor: "start", offset: 4, frame: "group", dx: -(longest + 10) },
        data: { values: own }, width: plot, height,
        layer: [
          { data: { values: [{ same: 1 }] }, mark: { type: "rule", color: "#6b6b6b", strokeDash: [3, 3] }, encoding: { x: { field: "same", type: "quantitative" }, y: { value: 0 }, y2: { value: height } } },
          { mark: { type: "rule", strokeWidth: 2.5 }, transform: [{ filter: "isValid(datum.low) && isValid(datum.high)" }], encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" }, color, tooltip: tips } },
          { mark: { type: "text", text: "◂", align: "center", fontSize: 12 }, transform: [{ filter: "isValid(datum.cutLow)" }], encoding: { x: { field: "cutLow", type: "quantitative" }, color } },
          { mark: { type: "text", text: "▸", align: "center", fontSize: 12 }, transform: [{ filter: "isValid(datum.cutHigh)" }], encoding: { x: { field: "cutHigh", type: "quantitative" }, color } },
          {
            mark: { type: "point", filled: true, size: 70, opacity: 1 }, transform: [{ filter: "isValid(datum.ratio)" }],
            encoding: {
              x: x({ title: last ? `ratio ${secondName} / ${firstName}` : null, values: ticks, format: "~g", labelOverlap: true, ...(last ? {} : { labels: false, ticks: false, domain: false }) }),
              color, tooltip: tips, shape: { field: "verdict", type: "nominal", scale: { domain: verdicts, range: verdicts.map((verdict) => shapes[verdict]) }, legend: null },
            },
          },
          { mark: { type: "text", align: "right", x: -10, fontSize: 11, limit: MOST_LABEL + 10 }, encoding: { text: { field: "measure" }, tooltip: tips } },
          { mark: { type: "text", align: "left", x: plot + 10, fontSize: 11 }, encoding: { text: { field: "words" }, color, tooltip: tips } },
        ],
        encoding: { y },
      };
    }),
    spacing: 8, resolve: { scale: { x: "shared", color: "shared", shape: "shared", y: "independent" } },
  });
}

const digits = (x: number): string => (x === 0 ? "0" : x >= 1000 ? x.toExponential(1) : x >= 100 ? x.toFixed(0) : x < 0.001 ? x.toExponential(1) : x.toPrecision(3));
const valueOf = (x: number | null, unit: string): string => (x === null ? "not known" : unit === "ns" || unit === "bit/s" ? amount(x, unit) : `${Math.abs(x) >= 1e5 ? amount(x, null) : digits(x)} ${unit}`);

function ticksOf([least, most]: [number, number]): number[] {
  const steps = most / least > 1000 ? [1] : most / least > 4 ? [1, 2, 5] : [1, 1.2, 1.5, 2, 3, 5, 7, 8, 9];
  const ticks: number[] = [];
  for (let e = Math.floor(Math.log10(least)); e <= Math.ceil(Math.log10(most)); e++) for (const step of steps) ticks.push(Number((step * 10 ** e).toPrecision(2)));
  return ticks.filter((tick) => tick >= least && tick <= most);
}

function headline(rows: Row[], first: string, second: string): string {
  if (rows.length === 0) return `${second} against ${first}: nothing to compare`;
  const counts = VERDICTS.map((verdict) => [verdict, rows.filter((row) => row.verdict === verdict).length] as const).filter(([, n]) => n > 0);
  return `${second} against ${first}: ${listed(counts.map(([verdict, n]) => `${verdict} in ${n}`))} of ${rows.length} measures`;
}
