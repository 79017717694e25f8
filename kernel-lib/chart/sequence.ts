import type { ColumnTable } from "arquero";
import { colourScale, rowsOf, spanColours, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";
import { textWidth } from "./text-width.js";

interface Row { lane: string; start: number; end: number | null; kind: string; label: string; to: string | null }

const BAR = 16, NESTED = 12, LEVEL = 13, HEAD = 10, GAP = 10, LETTERS = 9.5, MOST_LEVELS = 14, MOST_LABELS = 60, MOST_ROWS = 1500;
const DOES: Record<string, string> = { run: "runs on the host", guest: "in the guest", halt: "asleep", function: "function of the guest" };

/**
 * One kick as a sequence: a lane per thread, what it does as bars, what happens as points with their names, wake-ups as arrows. Time counts from the kick.
 * Drag to move along the axis, Shift and the wheel to zoom.
 * @param events lane, start, end, kind (run, guest, halt, event, wake), label, to; as kickSequence gives them
 */
export function sequenceChart(events: ColumnTable, options: ChartOptions = {}): Chart {
  const all = rowsOf<Row>(events, "sequenceChart", ["lane", "start", "end", "kind", "label", "to"]);
  const rows = all.slice(0, MOST_ROWS);
  const lanes = [...new Set(rows.flatMap(({ lane, to }) => (to === null || to === undefined ? [lane] : [lane, to])))];
  // Lanes in the order of the table; a lane that is only woken comes last.
  lanes.sort((a, b) => first(a) - first(b));
  function first(lane: string): number {
    const at = rows.findIndex((row) => row.lane === lane);
    return at < 0 ? Infinity : at;
  }
  const begin = rows.reduce((least, { start }) => Math.min(least, start), 0), finish = rows.reduce((most, { start, end }) => Math.max(most, end ?? start), 0);
  const span = Math.max(finish - begin, 1);
  const names = lanes.map((lane) => (lane.length > 26 ? `${lane.slice(0, 25)}…` : lane));
  const side = Math.max(60, ...names.map((name) => textWidth(name, 11, true))) + 12;
  const plot = (options.width ?? WIDTH) - Math.min(side, 240) - 24;

  // Names of points stand to the right of a line, above their lane's bar. From right to left, each above
  // all those whose line would go through it. The axis goes on where the last names need room.
  interface Label { ns: number; text: string; lane: string; level: number; time: string; wide: number }
  const points = rows.filter(({ kind }) => kind === "event" || kind === "wake");
  const named = lanes.flatMap((lane) => grouped(points.filter((row) => row.lane === lane).sort((a, b) => a.start - b.start), rows.filter((row) => row.lane === lane && row.end !== null).map(({ start }) => start)).map((row): Label => {
    const text = row.label.length > 44 ? `${row.label.slice(0, 43)}…` : row.label;
    return { ns: row.start, text, lane, level: 0, time: us(row.start), wide: textWidth(text, LETTERS) + 9 };
  }));
  const least = begin - span * 0.012;
  const reach = named.reduce((most, { ns, wide }) => Math.max(most, ((ns - least) * plot) / (plot - Math.min(wide, plot / 2))), (finish - least) * 1.012);
  const domain = [least / 1000, (least + reach) / 1000];
  const pixel = (ns: number): number => ((ns - least) / reach) * plot;

  const labels: Label[] = [];
  const levels = new Map<string, number>();
  for (const label of named.reverse()) {
    const ends = pixel(label.ns) + label.wide;
    label.level = labels.reduce((most, other) => (other.lane === label.lane && pixel(other.ns) < ends ? Math.max(most, other.level + 1) : most), 0);
    if (label.level >= MOST_LEVELS || labels.length >= MOST_LABELS) continue;
    labels.push(label);
    levels.set(label.lane, Math.max(levels.get(label.lane) ?? 0, label.level + 1));
  }
  const unnamed = named.length - labels.length;

  // Functions of the guest stand below the bar of their vCPU, those that are called within others below these.
  const depth = new Map<Row, number>(), depths = new Map<string, number>();
  for (const lane of lanes) {
    const open: number[] = [];
    for (const row of rows.filter((one) => one.lane === lane && one.kind === "function").sort((a, b) => a.start - b.start || b.end! - a.end!)) {
      while (open.length > 0 && open[open.length - 1] <= row.start) open.pop();
      depth.set(row, open.length);
      open.push(row.end!);
      depths.set(lane, Math.max(depths.get(lane) ?? 0, open.length));
    }
  }

  // Top of each lane's bar, in pixels from the top of the chart, and the end of what stands below it.
  const bar = new Map<string, number>(), foot = new Map<string, number>();
  let height = 6;
  for (const lane of lanes) {
    height += (levels.get(lane) ?? 0) * LEVEL + HEAD;
    bar.set(lane, height);
    height += BAR + (depths.get(lane) ?? 0) * NESTED;
    foot.set(lane, height);
    height += GAP;
  }
  const spans = rows.filter((row) => row.kind in DOES && row.end !== null).map((row) => ({
    lane: row.lane, from: row.start / 1000, to: row.end! / 1000, does: DOES[row.kind], label: row.label, ...placed(row),
    start: us(row.start), length: us(row.end! - row.start, true),
    ...inside(row),
  }));
  function placed(row: Row): { y: number; y2: number; textY: number } {
    const level = depth.get(row), top = bar.get(row.lane)! + (level === undefined ? 0 : BAR + 1 + level * NESTED), tall = level === undefined ? BAR : NESTED - 1;
    return { y: top, y2: top + tall, textY: top + tall / 2 };
  }
  /** A bar's name stands in the widest place between the events on it, where there is room for it. */
  function inside(row: Row): { inside: string; middle: number } {
    const cuts = [row.start, ...points.filter(({ lane, start, kind }) => (row.kind !== "function" || kind === "wake") && lane === row.lane && start > row.start && start < row.end!).map(({ start }) => start).sort((a, b) => a - b), row.end!];
    let at = 1;
    for (let i = 2; i < cuts.length; i++) if (cuts[i] - cuts[i - 1] > cuts[at] - cuts[at - 1]) at = i;
    return { inside: pixel(cuts[at]) - pixel(cuts[at - 1]) > textWidth(row.label, LETTERS) + 6 ? row.label : "", middle: (cuts[at] + cuts[at - 1]) / 2000 };
  }
  const marks = points.map((row) => ({ lane: row.lane, at: row.start / 1000, label: row.label, time: us(row.start), y: bar.get(row.lane)!, y2: bar.get(row.lane)! + BAR, woken: row.to ?? "" }));
  const texts = labels.map(({ ns, text, lane, level, time }) => ({ at: ns / 1000, text, lane, time, y: bar.get(lane)! - HEAD - 4 - level * LEVEL, foot: bar.get(lane)! }));
  const arrows = rows.filter((row) => row.kind === "wake" && row.to !== null && row.to !== row.lane && bar.has(row.to)).map((row) => {
    const down = bar.get(row.to!)! > bar.get(row.lane)!, tip = down ? bar.get(row.to!)! - 4 : foot.get(row.to!)! + 4;
    return { at: row.start / 1000, from: bar.get(row.lane)! + (down ? BAR : 0), to: tip, tip, angle: down ? 180 : 0, label: `${row.lane} wakes ${row.to}`, time: us(row.start) };
  });

  const x = (field: string): object => ({ field, type: "quantitative", scale: { domain, nice: false, zero: false }, axis: { title: "time since the kick (µs)", grid: true, tickCount: 8 } });
  const y = (field: string): object => ({ field, type: "quantitative", scale: { domain: [height, 0], nice: false, zero: false }, axis: null });
  const kinds = Object.values(DOES).filter((does) => spans.some((row) => row.does === does));
  const tips = [{ field: "lane", title: "thread" }, { field: "label" }, { field: "time", title: "since the kick" }];
  return themed(options.title ?? `One kick, from its exit to its end: ${us(span, true)} in ${lanes.length} thread${lanes.length === 1 ? "" : "s"}`, [
    `Bars: what each thread does${depths.size > 0 ? ", and below a vCPU's what its guest was at" : ""}. Lines: events. Arrows: who wakes whom.`,
    unnamed > 0 && `${unnamed} events have no room for their name; point at them.`,
    rows.length < all.length && `The first ${rows.length.toLocaleString("en-US")} of ${all.length.toLocaleString("en-US")} rows.`,
  ], {
    // Names of lanes stand left of the plot: Vega makes room for what overhangs in a concatenation alone, and a scale that moves clips by itself.
    vconcat: [{ width: plot, height, layer: [
      { data: { values: lanes.map((lane) => ({ y: foot.get(lane)! + GAP / 2 })) }, mark: { type: "rule", color: "#e3e3e3" }, encoding: { y: y("y") } },
      {
        params: [{ name: "view", select: { type: "interval", encodings: ["x"], zoom: "wheel![event.shiftKey]" }, bind: "scales" }],
        data: { values: spans }, mark: { type: "rect", clip: true, stroke: "#ffffff", strokeWidth: 0.5 },
        encoding: {
          x: x("from"), x2: { field: "to" }, y: y("y"), y2: { field: "y2" },
          color: { field: "does", type: "nominal", scale: colourScale(kinds, spanColours), legend: kinds.length > 0 ? { values: kinds } : null },
          tooltip: [{ field: "lane", title: "thread" }, { field: "does" }, { field: "label" }, { field: "start", title: "begins" }, { field: "length", title: "takes" }],
        },
      },
      { data: { values: spans.filter(({ inside }) => inside !== "") }, mark: { type: "text", clip: true, fontSize: LETTERS, baseline: "middle" }, encoding: { x: x("middle"), y: y("textY"), text: { field: "inside" } } },
      { data: { values: texts }, mark: { type: "rule", color: "#9a9a9a", strokeWidth: 0.8, clip: true }, encoding: { x: x("at"), y: y("foot"), y2: { field: "y" } } },
      { data: { values: marks }, mark: { type: "rule", color: "#222222", strokeWidth: 1.6, clip: true }, encoding: { x: x("at"), y: y("y"), y2: { field: "y2" }, tooltip: tips } },
      { data: { values: arrows }, mark: { type: "rule", color: "#b8470b", strokeWidth: 1.5, clip: true }, encoding: { x: x("at"), y: y("from"), y2: { field: "to" }, tooltip: [{ field: "label" }, { field: "time", title: "since the kick" }] } },
      // First in white and wider, so that the lines of arrows leave room for the letters.
      ...[{ stroke: "#ffffff", strokeWidth: 3.5 }, {}].map((look) => ({
        data: { values: texts }, mark: { type: "text", align: "left", dx: 4, baseline: "middle", fontSize: LETTERS, clip: true, ...look },
        encoding: { x: x("at"), y: y("y"), text: { field: "text" }, tooltip: [{ field: "lane", title: "thread" }, { field: "text", title: "event" }, { field: "time", title: "since the kick" }] },
      })),
      { data: { values: arrows }, mark: { type: "point", shape: "triangle-up", color: "#b8470b", size: 55, clip: true }, encoding: { x: x("at"), y: y("tip"), angle: { field: "angle", type: "quantitative", scale: null } } },
      { data: { values: lanes.map((lane, i) => ({ lane: names[i], full: lane, y: bar.get(lane)! + BAR / 2 })) }, mark: { type: "text", align: "right", x: -8, fontWeight: "bold", baseline: "middle", limit: 230, clip: false }, encoding: { y: y("y"), text: { field: "lane" }, tooltip: [{ field: "full", title: "thread" }] } },
    ] }],
  });
}

/** The same thing again and again on one bar is one name: "tun_get_user × 4". */
function grouped(rows: Row[], begins: number[]): { start: number; label: string }[] {
  const out: { start: number; label: string; base: string; n: number; last: number }[] = [];
  for (const row of rows) {
    const base = row.kind === "wake" ? `wakes ${row.to ?? "?"}` : row.label;
    const before = out[out.length - 1];
    if (before && before.base === base && !begins.some((begin) => begin > before.last && begin <= row.start)) {
      before.n++;
      before.last = row.start;
      before.label = `${base} × ${before.n}`;
    } else out.push({ start: row.start, label: base, base, n: 1, last: row.start });
  }
  return out;
}

const us = (ns: number, span = false): string => {
  const text = Math.abs(ns) >= 1e6 ? `${(ns / 1e6).toFixed(3)} ms` : `${(ns / 1000).toFixed(Math.abs(ns) < 1e4 ? 2 : 1)} µs`;
  return span || ns < 0 ? text.replace("-", "−") : `+${text}`;
};
