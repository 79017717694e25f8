import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { amount, colourScale, legendOf, listed, logDomain, logTimeAxis, reasonColours, rowsOf, runOf, runScale, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface ExitChartOptions extends ChartOptions {
  /** Which times of exitSummary are shown; default handling; one of handling (exit to entry), guest (entry to exit). perf kvm stat has only one: see its column span. */
  span?: "handling" | "guest";
}

interface Row { run: string; reason: string; count: number; low: number | null; middle: number | null; high: number | null; share: number | null }

const MOST_REASONS = 24;
const SPANS = { handling: "in the host: exit → next entry", guest: "in the guest: entry → exit" };

/**
 * Exits per reason and run: left how many, right how long (mean from least to most for perf kvm stat; median up to the 99th percentile for exitSummary).
 * @param table rows of loadPerfKvmStat, or of exitSummary; run where there are several
 */
export function exitChart(table: ColumnTable, options: ExitChartOptions = {}): Chart {
  const names = table?.columnNames?.() ?? [];
  const summary = names.includes("reason");
  let span = options.span ?? "handling";
  if (!(span in SPANS)) throw new OptionError(`span is one of handling, guest; this is ${JSON.stringify(options.span)}`);
  let known = true;
  let rows: Row[];
  if (summary) {
    rows = rowsOf<any>(table, "exitChart", ["reason", "count", `${span}_p50`, `${span}_p99`]).map((row) => ({
      run: runOf(row), reason: String(row.reason), count: row.count, low: row[`${span}_p50`], middle: row[`${span}_p50`], high: row[`${span}_p99`], share: row[`${span}_share`] ?? null,
    }));
  } else {
    const read = rowsOf<any>(table, "exitChart", ["event", "samples", "avg"]);
    rows = read.map((row) => ({ run: runOf(row), reason: String(row.event), count: row.samples, low: row.min ?? null, middle: row.avg, high: row.max ?? null, share: row.time_pct ?? null }));
    const spans = new Set(read.map((row) => row.span ?? null));
    known = spans.size === 1 && !spans.has(null);
    if (known) span = [...spans][0];
    if (options.span !== undefined && known && options.span !== span) throw new OptionError(`this perf kvm stat table has the times of span ${span}; ${options.span} is in exitSummary(kvmExits(trace))`);
  }
  const runs = [...new Set(rows.map(({ run }) => run))];
  const most = new Map<string, number>();
  for (const row of rows) most.set(row.reason, Math.max(most.get(row.reason) ?? 0, row.count));
  const reasons = [...most].sort((a, b) => b[1] - a[1]).map(([reason]) => reason);
  const shown = reasons.slice(0, MOST_REASONS);
  const several = runs.length > 1;
  const colour = several
    ? { field: "run", type: "nominal", scale: runScale(runs), legend: legendOf(runs, options.width) }
    : { field: "reason", type: "nominal", scale: colourScale(shown, reasonColours), legend: null };
  const us = (x: number | null): number | null => (x === null || !(x > 0) ? null : x / 1000);
  const words = (x: number | null): string => (x === null ? "not known" : amount(x, "ns"));
  const values = rows.filter(({ reason }) => shown.includes(reason)).map((row) => ({
    run: row.run, reason: row.reason, count: row.count, exits: amount(row.count, null), low: us(row.low), middle: us(row.middle), high: us(row.high),
    tipLow: words(row.low), tipMiddle: words(row.middle), tipHigh: words(row.high), share: row.share === null ? "not known" : `${row.share.toFixed(1)} %`,
  }));
  const range = logDomain(values.flatMap(({ low, middle, high }) => [low, middle, high])) ?? [1, 10];
  const offset = several ? { yOffset: { field: "run", type: "nominal", scale: { domain: runs, paddingInner: 0.25 } } } : {};
  const tall = shown.length * (several ? runs.length * 15 + 10 : 26);
  const tips = [
    ...(several ? [{ field: "run" }] : []), { field: "reason" }, { field: "exits" },
    ...(summary ? [] : [{ field: "tipLow", title: "least" }]), { field: "tipMiddle", title: summary ? "median" : "mean" }, { field: "tipHigh", title: summary ? "99th percentile" : "most" },
    { field: "share", title: "share of the run's time" },
  ];
  const y = { field: "reason", type: "nominal", sort: null, scale: { domain: shown, paddingInner: 0.3, paddingOuter: 0.15 }, axis: { title: null, labelLimit: 170 } };
  const longest = Math.min(170, Math.max(...shown.map((name) => name.length * 7), 20));
  const each = Math.floor(((options.width ?? WIDTH) - longest - 60) / 2);
  const totals = runs.map((run) => [run, rows.filter((row) => row.run === run).reduce((sum, row) => sum + row.count, 0)] as const);
  const title = options.title ?? (several ? `Exits by reason: ${listed(totals.slice(0, 4).map(([run, n]) => `${run} ${n.toLocaleString("en-US")}`))}` : `${(totals[0]?.[1] ?? 0).toLocaleString("en-US")} exits by reason, most often ${shown[0] ?? "none"}`);
  return themed(title, [
    `Right: time ${known ? SPANS[span as keyof typeof SPANS] : "(which span is not known)"}; ${summary ? "dot: median, line: up to the 99th percentile" : "dot: mean, line: least to most"}.`,
    shown.length < reasons.length && `The ${shown.length} most frequent of ${reasons.length} reasons.`,
  ], {
    data: { values },
    hconcat: [
      {
        width: each, height: tall,
        layer: [
          { mark: { type: "bar", cornerRadiusEnd: 1 }, encoding: { color: colour, tooltip: tips } },
          { mark: { type: "text", align: "left", dx: 4, fontSize: 10.5 }, encoding: { text: { field: "exits" }, tooltip: tips } },
        ],
        encoding: { y, ...offset, x: { field: "count", type: "quantitative", axis: { title: "exits", labelExpr: "format(datum.value, '~s')", tickCount: 4 }, scale: { domain: [0, 1.18 * Math.max(1, ...most.values())], nice: false } } },
      },
      {
        width: each, height: tall,
        layer: [
          { mark: { type: "rule", strokeWidth: 3, opacity: 0.45, strokeCap: "round" }, transform: [{ filter: "isValid(datum.low) && isValid(datum.high)" }], encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" }, color: colour, tooltip: tips } },
          {
            mark: { type: "point", size: 70 },
            encoding: { x: { field: "middle", type: "quantitative", scale: { type: "log", domain: range, nice: false }, axis: logTimeAxis(known ? `time ${SPANS[span as keyof typeof SPANS]}` : "time per exit", range) }, color: colour, tooltip: tips },
          },
        ],
        encoding: { y: { ...y, axis: { title: null, labels: false, grid: false } }, ...offset },
      },
    ],
  });
}
