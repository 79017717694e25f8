import { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { columnsOf, tableOf, type Columns, type RowOf } from "../source/columns.js";

// Two ways of doing the same, side by side: a against b, ratio b / a, and how sure the ratio is.
//
// The interval of the ratio: each side is a mean with a standard error (over repeats; or as the tool printed it). The logarithm
// of a mean has, to first order, the standard error s / mean; the difference of two logarithms follows Student's t with the
// degrees of freedom of Welch and Satterthwaite. Taken back from the logarithm, the interval lies around b / a and is never negative.
// It holds for repeats that are independent and spread by less than about 30 % of their mean.

/** Columns of a comparison. The columns a and b carry the names that the option names gives. */
export const comparisonColumns = {
  name: { type: "string", unit: null, meaning: "What is compared: the event, exit reason, or direction of the data." },
  a: { type: "number", unit: null, meaning: "Value of the first side: the mean over its repeats.", null: "no repeat has it" },
  b: { type: "number", unit: null, meaning: "Value of the second side: the mean over its repeats.", null: "no repeat has it" },
  change: { type: "number", unit: null, meaning: "Second value minus the first.", null: "one side has no value" },
  ratio: { type: "number", unit: null, meaning: "Second value over the first: ratio above 1 means more.", null: "one side has no value, or the first is 0" },
  low: { type: "number", unit: null, meaning: "Lower end of the interval of the ratio (95 % by default).", null: "no repeats, or a mean of 0: nothing is known of the spread" },
  high: { type: "number", unit: null, meaning: "Upper end of the interval of the ratio (95 % by default).", null: "no repeats, or a mean of 0: nothing is known of the spread" },
  n_a: { type: "number", unit: "count", meaning: "Repeats (or blocks of intervals, see method) behind the first value." },
  n_b: { type: "number", unit: "count", meaning: "Repeats (or blocks of intervals, see method) behind the second value." },
  method: { type: "string", unit: null, meaning: "How the interval was computed, and what weakens it.", null: "there is no interval" },
} as const satisfies Columns;

/** One side's mean, its standard error, and the number of independent values behind both. */
export interface Estimate {
  mean: number;
  /** Standard error of the mean; null where nothing tells it. */
  error: number | null;
  n: number;
}

export interface RatioInterval { ratio: number; low: number; high: number; degrees: number }

/**
 * b.mean / a.mean with its confidence interval: Welch's t on the logarithms. Null where a side has fewer than 2 values, no standard
 * error, or a mean that is not above 0.
 * @param confidence in %, default 95
 */
export function ratioInterval(a: Estimate, b: Estimate, confidence = 95): RatioInterval | null {
  if (a.error === null || b.error === null || a.n < 2 || b.n < 2 || !(a.mean > 0) || !(b.mean > 0)) return null;
  const ratio = b.mean / a.mean;
  const va = (a.error / a.mean) ** 2, vb = (b.error / b.mean) ** 2, variance = va + vb;
  if (variance === 0) return { ratio, low: ratio, high: ratio, degrees: a.n + b.n - 2 };
  const degrees = variance ** 2 / (va ** 2 / (a.n - 1) + vb ** 2 / (b.n - 1));
  const half = studentQuantile(0.5 + confidence / 200, degrees) * Math.sqrt(variance);
  return { ratio, low: ratio * Math.exp(-half), high: ratio * Math.exp(half), degrees };
}

/** So many degrees of freedom that Student's t is the normal distribution, to six digits. */
const NORMAL = 1e6;

/**
 * The ratio of two shares, hits of samples on each side, with its confidence interval after Walter (1975): half a hit and half a sample added on both
 * sides, so that a share of 0 or of all has an interval too. Null where a side has no samples, or neither has a hit.
 * Samples count as independent of each other.
 */
export function shareRatioInterval([hitsA, a]: readonly [hits: number, samples: number], [hitsB, b]: readonly [hits: number, samples: number], confidence = 95): RatioInterval | null {
  if (!(a > 0) || !(b > 0) || hitsA + hitsB === 0) return null;
  const [ka, na, kb, nb] = [hitsA, a, hitsB, b].map((x) => x + 0.5);
  const middle = Math.log((kb / nb) / (ka / na));
  const half = studentQuantile(0.5 + confidence / 200, NORMAL) * Math.sqrt(1 / ka - 1 / na + 1 / kb - 1 / nb);
  return { ratio: hitsA > 0 ? (hitsB / b) / (hitsA / a) : Infinity, low: hitsB === 0 ? 0 : Math.exp(middle - half), high: hitsA === 0 ? Infinity : Math.exp(middle + half), degrees: NORMAL };
}

/** Mean and its standard error over independent values. */
export function estimate(values: number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((sum, x) => sum + x, 0) / n;
  const squares = values.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, error: n < 2 ? null : Math.sqrt(squares / (n - 1) / n), n };
}

/** The p-quantile of Student's t distribution; degrees of freedom need not be whole. */
export function studentQuantile(p: number, degrees: number): number {
  if (!(p > 0 && p < 1) || !(degrees > 0)) throw new OptionError(`studentQuantile takes 0 < p < 1 and degrees above 0; these are ${p} and ${degrees}`);
  if (p < 0.5) return -studentQuantile(1 - p, degrees);
  const above = (t: number) => 0.5 * incompleteBeta(degrees / (degrees + t * t), degrees / 2, 0.5);
  let low = 0, high = 1;
  while (above(high) > 1 - p) high *= 2;
  for (let i = 0; i < 200 && high - low > 1e-13 * high; i++) {
    const middle = (low + high) / 2;
    if (above(middle) > 1 - p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun 26.5.8), evaluated from the front (Lentz). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const tiny = 1e-300;
  let c = 1, d = 1 / nonZero(1 - ((a + b) * x) / (a + 1)), value = d;
  for (let m = 1; m < 1000; m++) {
    for (const term of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
      d = 1 / nonZero(1 + term * d);
      c = nonZero(1 + term / c);
      value *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return (Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) * value) / a;
  function nonZero(y: number): number { return Math.abs(y) < tiny ? tiny : y; }
}

/** ln Γ(x) for x > 0: Stirling's series, after lifting x above 10. */
function logGamma(x: number): number {
  let shift = 0;
  for (; x < 10; x++) shift += Math.log(x);
  const y = 1 / (x * x);
  return (x - 0.5) * Math.log(x) - x + 0.5 * Math.log(2 * Math.PI) + (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x - shift;
}

export interface CompareOptions {
  /** Names of the two sides, which become the names of their columns; default ["a", "b"]; two different names. */
  names?: readonly [string, string];
  /** Confidence of the interval, in %; default 95; above 0 and below 100. */
  confidence?: number;
}

export interface CompareRowsOptions extends CompareOptions {
  /** Column whose values name what is compared, such as "event". */
  key: string;
  /** Column of the values; those of one key within one repeat are added up. */
  value: string;
  /** What stands for a key that one repeat lacks; default null, which leaves the repeat out; one of null, 0. */
  missing?: null | 0;
  /** Column with the standard error of each value in % of it, where a tool printed one; used where there are no repeats; default none. */
  error?: string;
  /** Column with the number of values behind each value and its standard error; needed with error. */
  n?: string;
  /** What the standard errors in the column error are over, for the column method; default "standard error printed by the tool". */
  errorOver?: string;
}

type Repeats = ColumnTable | readonly ColumnTable[];

/**
 * Two tables side by side, key by key; lists of tables are repeats. One row per key, in the order in which keys first occur.
 * Columns: `comparisonColumns`, with the two sides named by the option names.
 * @throws OptionError for columns that a table lacks, empty lists, and names that clash
 */
export function compareRows(a: Repeats, b: Repeats, options: CompareRowsOptions): ColumnTable {
  const { key, value, missing = null, error, n, errorOver = "standard error printed by the tool" } = options;
  if ((error === undefined) !== (n === undefined)) throw new OptionError("error and n go together: the standard error of a value, and the number of values behind it");
  const sides = [repeatsOf(a, "a"), repeatsOf(b, "b")].map((tables) => tables.map((table) => {
    for (const column of [key, value, error, n]) {
      if (column !== undefined && !table.columnNames().includes(column)) throw new OptionError(`the column ${column} is not in this table; it has ${table.columnNames().join(", ")}`);
    }
    const sums = new Map<string, { sum: number; known: boolean; estimate: Estimate | null; rows: number }>();
    const [keys, values] = [table.array(key), table.array(value)] as [unknown[], (number | null)[]];
    const errors = error === undefined ? null : table.array(error) as (number | null)[], counts = n === undefined ? null : table.array(n) as (number | null)[];
    for (let i = 0; i < keys.length; i++) {
      const name = String(keys[i]), x = values[i];
      const entry = sums.get(name) ?? { sum: 0, known: false, estimate: null, rows: 0 };
      sums.set(name, entry);
      if (x === null || x === undefined || Number.isNaN(x)) continue;
      entry.sum += x;
      entry.known = true;
      entry.rows++;
      const percent = errors?.[i] ?? null, count = counts?.[i] ?? null;
      entry.estimate = entry.rows === 1 && percent !== null && count !== null ? { mean: x, error: (x * percent) / 100, n: count } : null;
    }
    return sums;
  }));
  const [sample] = repeatsOf(a, "a");
  const names = new Set(sides.flat().flatMap((sums) => [...sums.keys()]));
  return comparison(options, [...names].map((name) => {
    const [left, right] = sides.map((repeats) => {
      if (repeats.length === 1) {
        const only = repeats[0].get(name);
        if (only?.estimate) return { estimate: only.estimate, method: errorOver };
      }
      const values = repeats.map((sums) => { const entry = sums.get(name); return entry ? (entry.known ? entry.sum : null) : missing; }).filter((x): x is number => x !== null);
      return { estimate: values.length === 0 ? null : estimate(values), method: "repeats" };
    });
    return { name, a: left.estimate, b: right.estimate, method: [...new Set([left.method, right.method])].join("; ") };
  }), columnsOf(sample)[value]?.unit ?? null);
}

function repeatsOf(tables: Repeats, side: string): ColumnTable[] {
  const list = Array.isArray(tables) ? [...tables as readonly ColumnTable[]] : [tables as ColumnTable];
  if (list.length === 0) throw new OptionError(`the list of tables for ${side} is empty; give one table, or one per repeat`);
  for (const table of list) if (!(table instanceof ColumnTable)) throw new OptionError(`side ${side} takes a table or a list of tables; this is ${typeof table}`);
  return list;
}

interface Pair { name: string; a: Estimate | null; b: Estimate | null; method: string }

/** Estimates of both sides → the table, its columns a and b under their names. */
function comparison({ names = ["a", "b"], confidence = 95 }: CompareOptions, pairs: Pair[], unit: string | null = null): ColumnTable {
  const [first, second] = names;
  const { a: aSpec, b: bSpec, name, change, ratio, low, high, ...others } = comparisonColumns;
  if (names.length !== 2 || first === second || [first, second].some((x) => typeof x !== "string" || x === "" || x in { name, change, ratio, low, high, ...others })) {
    throw new OptionError(`names takes two different names that are not columns of the result (${Object.keys({ name, change, ratio, low, high, ...others }).join(", ")}); this is ${JSON.stringify(names)}`);
  }
  if (!(confidence > 0 && confidence < 100)) throw new OptionError(`confidence is a percentage above 0 and below 100; this is ${confidence}`);
  const end = (spec: typeof low | typeof high) => ({ ...spec, meaning: spec.meaning.replace("95 % by default", `${confidence} %`) });
  const columns: Columns = { name, [first]: { ...aSpec, unit }, [second]: { ...bSpec, unit }, change: { ...change, unit }, ratio, low: end(low), high: end(high), ...others };
  return tableOf(columns, pairs.map((pair) => {
    const { a, b } = pair;
    const interval = a && b ? ratioInterval(a, b, confidence) : null;
    const row: Record<string, string | number | null> = {
      name: pair.name, [first]: a?.mean ?? null, [second]: b?.mean ?? null,
      change: a && b ? b.mean - a.mean : null, ratio: a && b && a.mean !== 0 ? b.mean / a.mean : null,
      low: interval?.low ?? null, high: interval?.high ?? null, n_a: a?.n ?? 0, n_b: b?.n ?? 0,
      method: interval ? `${pair.method}; Welch's t on logarithms, ${interval.degrees.toFixed(1)} degrees of freedom` : null,
    };
    return row as RowOf<typeof columns>;
  }));
}

export interface CompareCountsOptions extends CompareOptions {
  /** What of a perf kvm stat table is compared; default samples; one of samples, avg, time (samples × avg). */
  value?: "samples" | "avg" | "time";
}

/**
 * Counters of perf stat, or exits of perf kvm stat, of two sides. A table is one run; a list of tables is repeats, and so are the
 * reports that one perf stat text holds (blocks). What is per CPU, thread or interval is added up. A perf stat -r table brings the
 * standard error of its own repeats; perf kvm stat that of avg.
 */
export function compareCounts(a: Repeats, b: Repeats, options: CompareCountsOptions = {}): ColumnTable {
  const { value = "samples", ...rest } = options;
  if (!["samples", "avg", "time"].includes(value)) throw new OptionError(`value is one of samples, avg, time; this is ${JSON.stringify(value)}`);
  const [left, right] = [repeatsOf(a, "a"), repeatsOf(b, "b")];
  const has = (column: string) => [...left, ...right].every((table) => table.columnNames().includes(column));
  if (has("samples") && has("avg")) {
    const [before, after] = [left.map(kvmRun), right.map(kvmRun)];
    if (value !== "avg") return compareRows(before, after, { ...rest, key: "event", value, missing: 0 });
    return compareRows(before, after, {
      ...rest, key: "event", value, error: "stddev_pct", n: "samples",
      errorOver: "exits of one run, not independent: says nothing of the spread between runs; standard error as perf printed it",
    });
  }
  if (!has("event") || !has("value") || !has("kind")) {
    throw new OptionError(`compareCounts takes tables of perf stat (event, value, kind) or perf kvm stat (event, samples, avg); these have ${[...new Set([...left, ...right].flatMap((table) => table.columnNames()))].join(", ")}`);
  }
  if (options.value !== undefined) throw new OptionError("value chooses a column of perf kvm stat; these are tables of perf stat");
  return compareRows(left.flatMap(perfStatRuns), right.flatMap(perfStatRuns), { ...rest, key: "event", value: "value", error: "variance", n: "runs" });
}

const runColumns = {
  event: { type: "string", unit: null, meaning: "Event." },
  value: { type: "number", unit: null, meaning: "Counter value.", null: "not counted" },
  variance: { type: "number", unit: "%", meaning: "Standard error over the runs of -r.", null: "unknown" },
  runs: { type: "number", unit: "count", meaning: "Runs of -r.", null: "unknown" },
} as const satisfies Columns;

/** One table of counters per report; of a report with intervals and a summary, the summary. */
export function perfStatRuns(table: ColumnTable): ColumnTable[] {
  const rows = (table.objects() as { block: number; ts: number | null; kind: string; event: string; value: number | null; variance: number | null; runs: number | null }[])
    .filter((row) => row.kind === "counter");
  const whole = rows.some((row) => row.ts === null) ? rows.filter((row) => row.ts === null) : rows;
  return [...new Set(whole.map((row) => row.block))].map((block) => tableOf(runColumns, whole.filter((row) => row.block === block).map((row) => ({
    event: row.event, value: row.value, runs: row.runs,
    variance: row.variance ?? (row.runs !== null && row.runs > 1 && row.value !== null ? 0 : null), // text leaves "+- 0.00%" out
  }))));
}

const kvmRunColumns = {
  event: { type: "string", unit: null, meaning: "Exit reason or address." },
  samples: { type: "number", unit: "count", meaning: "Exits." },
  avg: { type: "number", unit: "ns", meaning: "Mean span." },
  time: { type: "number", unit: "ns", meaning: "Sum of the spans." },
  stddev_pct: { type: "number", unit: "%", meaning: "Standard error of avg.", null: "unknown" },
} as const satisfies Columns;

/** One row per exit reason of a perf kvm stat table; the blocks of live are added up, after which no standard error is known. */
export function kvmRun(table: ColumnTable): ColumnTable {
  const rows = table.objects() as { event: string; samples: number; avg: number; stddev_pct: number | null }[];
  return tableOf(kvmRunColumns, [...new Set(rows.map((row) => row.event))].map((event) => {
    const of = rows.filter((row) => row.event === event);
    const samples = of.reduce((sum, row) => sum + row.samples, 0), time = of.reduce((sum, row) => sum + row.samples * row.avg, 0);
    return { event, samples, time, avg: time / samples, stddev_pct: of.length === 1 ? of[0].stddev_pct : null };
  }));
}

export interface CompareBitrateOptions extends CompareOptions {
  /** Whose count is taken; default receiver (what arrived); one of sender, receiver. Where only the other side reported, that one. */
  side?: "sender" | "receiver";
}

export interface Iperf3Row {
  test: number; host: string | null; kind: string; stream: string | null; direction: string | null; side: string | null; role: string | null;
  start: number; end: number; bytes: number | null; bitrate: number | null; omitted: boolean;
}

/**
 * Bitrates of iperf3 runs of two sides, one row per direction of the data. A table is one run, or as many repeats as it holds runs;
 * a list of tables is more of them. With one run on a side, the spread is taken from its intervals in blocks, which says how much the rate
 * wavered within that run, not between runs: the method column says so.
 */
export function compareBitrate(a: Repeats, b: Repeats, options: CompareBitrateOptions = {}): ColumnTable {
  const { side = "receiver", ...rest } = options;
  if (side !== "sender" && side !== "receiver") throw new OptionError(`side is one of sender, receiver; this is ${JSON.stringify(side)}`);
  const sides = [repeatsOf(a, "a"), repeatsOf(b, "b")].map((tables) => tables.flatMap(iperf3Runs));
  const directions = directionsOf(sides.flat());
  return comparison(rest, directions.map((direction) => {
    const [left, right] = sides.map((runs) => {
      const rates = runs.map((run) => runRate(run.filter((row) => row.direction === direction), side)).filter((rate): rate is RunRate => rate !== null);
      if (rates.length === 0) return { estimate: null, method: "" };
      if (rates.length > 1) return { estimate: estimate(rates.map((rate) => rate.rate)), method: "repeats" };
      return { estimate: blocks(rates[0].rate, rates[0].intervals), method: "blocks of intervals of one run, not independent: says nothing of the spread between runs" };
    });
    return { name: direction === null ? "bitrate" : `bitrate ${direction}`, a: left.estimate, b: right.estimate, method: [...new Set([left.method, right.method])].join("; ") };
  }), "bit/s");
}

/** The rows of an iperf3 table, run by run. */
export function iperf3Runs(table: ColumnTable): Iperf3Row[][] {
  for (const column of ["test", "kind", "stream", "bitrate", "direction"]) {
    if (!table.columnNames().includes(column)) throw new OptionError(`compareBitrate takes tables of iperf3; this has no column ${column}, but ${table.columnNames().join(", ")}`);
  }
  const rows = table.objects() as Iperf3Row[];
  return [...new Set(rows.map((row) => row.test))].map((test) => rows.filter((row) => row.test === test));
}

/** The directions of the data in some runs. */
export const directionsOf = (runs: Iperf3Row[][]): (string | null)[] => [...new Set(runs.flatMap((run) => run.filter((row) => row.kind !== "error").map((row) => row.direction)))];

export interface RunRate { rate: number; intervals: Iperf3Row[] }

/** A run's bitrate of one direction: its total of all streams; where the run was broken off, that of its intervals. */
export function runRate(run: Iperf3Row[], side: string): RunRate | null {
  // With --get-server-output both ends print the same run: one end is enough.
  const rows = run.filter((row) => row.host === run[0].host && row.bitrate !== null);
  const sums = rows.filter((row) => row.stream === "SUM"), whole = sums.length > 0 ? sums : rows;
  const intervals = whole.filter((row) => row.kind === "interval" && !row.omitted && row.end > row.start);
  const totals = whole.filter((row) => row.kind === "total");
  const total = totals.find((row) => row.side === side) ?? totals.find((row) => row.side !== null) ?? totals[0];
  if (total) return { rate: total.bitrate!, intervals };
  const seconds = intervals.reduce((sum, row) => sum + row.end - row.start, 0);
  return seconds > 0 ? { rate: intervals.reduce((sum, row) => sum + 8 * row.bytes!, 0) / seconds, intervals } : null;
}

/** Standard error of one run's rate from its intervals: neighbours are alike, so √n of them make one block (batch means). */
function blocks(rate: number, intervals: Iperf3Row[]): Estimate {
  const count = Math.floor(intervals.length / Math.floor(Math.sqrt(Math.max(intervals.length, 1))));
  if (intervals.length < 4) return { mean: rate, error: null, n: 1 };
  const rates = Array.from({ length: count }, (_, i) => {
    const block = intervals.slice(Math.floor((i * intervals.length) / count), Math.floor(((i + 1) * intervals.length) / count));
    return (8 * block.reduce((sum, row) => sum + row.bytes!, 0)) / block.reduce((sum, row) => sum + row.end - row.start, 0);
  });
  return { mean: rate, error: estimate(rates).error, n: count };
}
