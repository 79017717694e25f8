import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { colourScale, listed, modeColours, rowsOf, runOf, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface CpuChartOptions extends ChartOptions {
  /** The same report before idle exclusion, shown above; default: none. */
  before?: ColumnTable;
  /** Commands below this share in every panel, in %, are not drawn; default 0.5. */
  minShare?: number;
}

interface Row { run?: string | null; comm: string; overhead: number; sys: number | null; usr: number | null; guest_sys: number | null; guest_usr: number | null }

const MODES = { sys: "sys", usr: "usr", guest_sys: "guest sys", guest_usr: "guest usr" } as const;
const MOST_COMMANDS = 20;

/**
 * CPU use by command, split as perf's report splits it, a panel per run; with `before`, the panels before idle exclusion above those after it.
 * @param rows loadPerfReport's rows by command (perf kvm report --show-cpu-utilization -s comm), or what excludeIdle leaves of them; run where there are several
 */
export function cpuChart(rows: ColumnTable, options: CpuChartOptions = {}): Chart {
  const { minShare = 0.5 } = options;
  if (!(minShare >= 0)) throw new OptionError(`minShare is a percentage from 0; this is ${minShare}`);
  const needs = ["comm", "overhead", "sys", "usr", "guest_sys", "guest_usr"];
  const parts = [...(options.before ? [{ part: "with idle time", rows: rowsOf<Row>(options.before, "cpuChart", needs) }] : []),
    { part: options.before ? "without idle time" : "", rows: rowsOf<Row>(rows, "cpuChart", needs) }];
  const runs = [...new Set(parts.flatMap((part) => part.rows.map(runOf)))];
  const largest = new Map<string, number>();
  for (const { rows: list } of parts) for (const row of list) largest.set(row.comm, Math.max(largest.get(row.comm) ?? 0, row.overhead));
  const last = parts[parts.length - 1].rows;
  const sum = (comm: string): number => last.reduce((total, row) => total + (row.comm === comm ? row.overhead : 0), 0);
  const wanted = [...largest].filter(([, share]) => share >= minShare).map(([comm]) => comm).sort((a, b) => sum(b) - sum(a)).slice(0, MOST_COMMANDS);
  const most = Math.max(1, ...parts.flatMap((part) => part.rows.map((row) => row.overhead)));
  const longest = Math.min(150, Math.max(...wanted.map((name) => name.length * 7), 20));
  const each = Math.floor(((options.width ?? WIDTH) - runs.length * (longest + 18) - 16 * runs.length) / Math.max(1, runs.length));
  const scale = colourScale(Object.values(MODES), modeColours);

  const panel = (part: string, list: Row[], run: string, bottom: boolean): object => {
    const own = list.filter((row) => runOf(row) === run && wanted.includes(row.comm)).sort((a, b) => b.overhead - a.overhead);
    const order = [...new Set(own.map((row) => row.comm))];
    const values = own.flatMap((row) => (Object.keys(MODES) as (keyof typeof MODES)[]).flatMap((mode, i) => {
      const share = row[mode] ?? 0;
      return share > 0 ? [{ comm: row.comm, mode: MODES[mode], share, order: i, shown: `${share.toFixed(2)} %`, all: `${row.overhead.toFixed(2)} %` }] : [];
    }));
    const ends = own.map((row) => ({ comm: row.comm, end: row.overhead, all: `${row.overhead.toFixed(row.overhead < 10 ? 2 : 1)} %` }));
    const whole = list.filter((row) => runOf(row) === run).reduce((total, row) => total + row.overhead, 0);
    return {
      title: { text: `${runs.length > 1 || run !== "run" ? `${run}${part ? ", " : ""}` : ""}${part}${part || runs.length > 1 || run !== "run" ? ": " : "all commands: "}${whole.toFixed(1)} %`, fontSize: 11.5, offset: 4, frame: "group", limit: Math.max(80, each) },
      width: Math.max(80, each), height: Math.max(24, order.length * 21),
      layer: [
        {
          data: { values }, mark: { type: "bar" },
          encoding: {
            x: { field: "share", type: "quantitative", stack: "zero", scale: { domain: [0, most * 1.22], nice: false }, axis: { title: bottom ? "share of all samples (%)" : null, labels: bottom, ticks: bottom, ...(most > 80 ? { values: [0, 20, 40, 60, 80, 100] } : { tickCount: 5 }) } },
            order: { field: "order", type: "quantitative" },
            color: { field: "mode", type: "nominal", scale, legend: { values: Object.values(MODES), labelExpr: "{sys: 'host kernel (sys)', usr: 'host user (usr)', 'guest sys': 'guest kernel (guest sys)', 'guest usr': 'guest user (guest usr)'}[datum.label]" } },
            tooltip: [{ field: "comm", title: "command" }, { field: "mode" }, { field: "shown", title: "share" }, { field: "all", title: "whole row" }],
          },
        },
        { data: { values: ends }, mark: { type: "text", align: "left", dx: 4, fontSize: 10.5 }, encoding: { x: { field: "end", type: "quantitative" }, text: { field: "all" } } },
      ],
      encoding: { y: { field: "comm", type: "nominal", sort: null, scale: { domain: order }, axis: { title: null, labelLimit: 150 } } },
    };
  };
  const leader = runs.map((run) => {
    const top = last.filter((row) => runOf(row) === run).reduce<Row | null>((best, row) => (best === null || row.overhead > best.overhead ? row : best), null);
    return top ? `${runs.length > 1 || run !== "run" ? `in ${run} ` : ""}${top.comm} ${top.overhead.toFixed(1)} %` : "";
  }).filter(Boolean);
  const left = largest.size - wanted.length;
  return themed(options.title ?? `Most of the CPU time${options.before ? " that is not idle" : ""}: ${listed(leader)}`, [
    "Share of all samples of the recording, by command. Above each panel: the sum of its rows.",
    left > 0 && `${left} command${left === 1 ? "" : "s"} ${largest.size > MOST_COMMANDS && wanted.length === MOST_COMMANDS ? "not among the largest" : `below ${minShare} %`} ${left === 1 ? "is" : "are"} not drawn.`,
  ], {
    columns: Math.max(1, runs.length),
    concat: parts.flatMap(({ part, rows: list }, i) => runs.map((run) => panel(part, list, run, i === parts.length - 1))),
  });
}
