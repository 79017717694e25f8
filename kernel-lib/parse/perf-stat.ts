import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LineKind, type LoadOptions, type ParseOptions } from "../source/lines.js";

// perf stat [-x, | -j] [-I ms] [-A | --per-socket | --per-core | --per-die | --per-node | --per-thread] [-r n] -e EVENTS -a -- CMD
// Printed by tools/perf/util/stat-display.c.
//
//   "     0.100182719 S0        2             504.13 msec task-clock       #    2.000 CPUs utilized   ( +-  5.28% )  (66.67%)"
//    ts (-I)          socket  cpus          value unit  event                 metric metric_unit       variance      running
//   "CPU0,251.61,msec,task-clock,251606922,100.00,1.000,CPUs utilized"
//    cpu  value  unit event      runtime   running metric metric_unit

export const perfStatColumns = {
  block: { type: "number", unit: null, meaning: "Which report of the text this is, index from 1; repeated perf stat runs appended to one file are blocks." },
  runs: { type: "number", unit: "count", meaning: "How often -r ran the command; value is then the mean over the runs.", null: "CSV and JSON do not say" },
  ts: { type: "number", unit: "ns", meaning: "End of the interval of -I, since perf stat began to count.", null: "the value is of the whole run" },
  kind: { type: "string", unit: null, meaning: "counter, metric (a further metric of the event above), time (elapsed, user, sys), or repeat (elapsed time of one run of -r --table)." },
  cpu: { type: "number", unit: null, meaning: "CPU number, with -A.", null: "values are not per CPU" },
  socket: { type: "number", unit: null, meaning: "Socket number, with --per-socket and finer.", null: "not so divided" },
  die: { type: "number", unit: null, meaning: "Die number within the socket, with --per-die and finer.", null: "not so divided" },
  core: { type: "number", unit: null, meaning: "Core number within the die, with --per-core.", null: "not so divided" },
  node: { type: "number", unit: null, meaning: "NUMA node number, with --per-node.", null: "not so divided" },
  cpus: { type: "number", unit: "count", meaning: "CPUs that the value sums up.", null: "not per socket, die, core or node" },
  comm: { type: "string", unit: null, meaning: "Name of the thread, with --per-thread.", null: "values are not per thread" },
  tid: { type: "number", unit: null, meaning: "Thread id (pid in perf's words), with --per-thread.", null: "values are not per thread" },
  event: { type: "string", unit: null, meaning: "Event as perf names it, such as kvm:kvm_exit or cycles:u; for kind time: elapsed, user, sys." },
  value: { type: "number", unit: null, meaning: "The counter's value, in the unit of column unit; a plain number of events where that is null.", null: "not counted, not supported, or kind is metric" },
  status: { type: "string", unit: null, meaning: "counted, not counted (it never got a hardware counter, or nothing ran), or not supported." },
  unit: { type: "string", unit: null, meaning: "Unit of the value as perf prints it (msec, Joules, MiB); s for kind time.", null: "a plain count" },
  cgroup: { type: "string", unit: null, meaning: "Control group, with -G or --for-each-cgroup.", null: "not per control group" },
  runtime: { type: "number", unit: "ns", meaning: "How long the counter ran.", null: "text does not say" },
  running: { type: "number", unit: "%", meaning: "Share of the time in which the event had a hardware counter; below 100 the value is scaled up. Text prints it where it is below 100." },
  variance: { type: "number", unit: "%", meaning: "Standard deviation of the mean over the runs of -r, relative to the mean (a standard error). Text leaves it out where it is 0.", null: "one run, or text that left it out" },
  metric: { type: "number", unit: null, meaning: "Number behind #, in the words of metric_unit: a value, ratio or share.", null: "perf computed none" },
  metric_unit: { type: "string", unit: null, meaning: "What the metric is, such as CPUs utilized, /sec, insn per cycle, of all branches (then in %).", null: "perf computed none" },
} as const satisfies Columns;

type Row = { -readonly [K in keyof RowOf<typeof perfStatColumns>]: RowOf<typeof perfStatColumns>[K] };
type Place = Pick<Row, "cpu" | "socket" | "die" | "core" | "node" | "cpus" | "comm" | "tid">;

const NOWHERE: Place = { cpu: null, socket: null, die: null, core: null, node: null, cpus: null, comm: null, tid: null };
const BLANK: Row = {
  block: 1, runs: null, ts: null, kind: "counter", ...NOWHERE, event: "", value: null, status: "counted", unit: null, cgroup: null,
  runtime: null, running: 100, variance: null, metric: null, metric_unit: null,
};

// Digits grouped as the locale does: 5,453 (en), 5.453 (de), 5'453 (de_CH), with a narrow or plain no-break space (fr; U+FFFD where those were Latin-1).
const NUMBER = String.raw`-?\d[\d,.'’\u00a0\u202f\u2009\ufffd]*`;
const VALUE = String.raw`(${NUMBER}|<not counted>|<not supported>)`;
const PLACE = String.raw`CPU\d+|S\d+(?:-[A-Z]+\d+)*|N\d+`;
const INTERVAL = /^[ \t]*(\d+[.,]\d{9})(?=[ \t])/;
const AGGREGATE = new RegExp(String.raw`^[ \t]*(${PLACE})[ \t]+(?:(\d+)[ \t]+(?=${NUMBER}[ \t]|<not |#))?`);
const THREAD = new RegExp(String.raw`^[ \t]*(\S.*?)-(\d+)[ \t]+(?=(?:${VALUE})[ \t]+\S|#)`);
const COUNTER = new RegExp(String.raw`^[ \t]*${VALUE}([ \t]+)(\S.*)$`);
const TIME = new RegExp(String.raw`^[ \t]*(${NUMBER})(?: \+- (${NUMBER}))? seconds (time elapsed|user|sys)\b(?:[ \t]+\([ \t]*\+-[ \t]*(${NUMBER})%[ \t]*\))?[ \t]*$`);
const REPEAT = new RegExp(String.raw`^[ \t]+(${NUMBER}) \([+-]${NUMBER.slice(2)}\) #+$`);
/** What stands before the first separator of a CSV line, and then that; the second for locales with a decimal comma. */
const SEPARATED = [String.raw`\d[\d.]*`, String.raw`\d[\d.,]*`].map((number) => new RegExp(
  String.raw`^\s*(?:${number}|<not counted>|<not supported>|${PLACE}|summary|\S.*?-\d+(?=([^\w\s.-])[\d.]+\1\w*\1\w))([^\w\s.<>%#'-]|\t)`));
/** Longer lines are nobody's counters, and would keep the expressions busy. */
const LONGEST = 8192;
const ESCAPES = /\x1b\[[0-9;?]*[A-Za-z]/g;

const KNOWN: RegExp[] = [
  /^\s*$/, /^#\s+time\s+.*events/, /^#\s+time\b/, /^# started on /, /^\s*# (Table of individual measurements|Final result):$/,
  /^Some events weren't counted\./, /^\techo [01] > \/proc\/sys\/kernel\/nmi_watchdog$/, /^\tperf stat \.\.\.$/,
  /^The events in group usually have to be from /, /^the same PMU\./, /^Events (enabled|disabled)$/, /^Warning:/, /^WARNING: /,
  // libtraceevent's complaints about formats that it cannot read go to stderr, where perf stat prints too.
  /^libtraceevent: /, /^\s+\[[\w-]+:\w+\] (bad op token|unknown op|function \w+ not defined|type=)/, /^\s*Error: expected type/,
  /^\[ perf \w+: .*\]$/, /^\S+@\S+:.*[#$] .*perf stat\b/, /^Connection to \S+ closed\.$/,
  /^\{\}$/, /^(\{"interval" : [\d.]+\})?\{"metric-value" : ""\}$/, // --metric-only -j without metrics
];

/** A number as a locale prints it: perf prints counts whole, with groups of three, and scaled values with two decimals (six before 4.16). */
function localeNumber(text: string): number {
  const separators: string[] = text.match(/[^\d-]/g) ?? [];
  const last = separators.at(-1);
  if (last === undefined) return Number(text);
  const decimals = text.length - 1 - text.lastIndexOf(last);
  const isDecimal = (last === "." || last === ",") && separators.indexOf(last) === separators.length - 1 && decimals !== 3;
  const digits = text.replace(/[^\d-]/g, "");
  return isDecimal ? Number(`${digits.slice(0, digits.length - decimals)}.${digits.slice(digits.length - decimals)}`) : Number(digits);
}

/** Times and shares always have decimals and are never grouped. */
const withDecimals = (text: string) => Number(text.replace(",", "."));

function placeOf(name: string, cpus: string | undefined): Place {
  const number = (pattern: RegExp) => { const m = pattern.exec(name); return m ? Number(m[1]) : null; };
  return {
    ...NOWHERE, cpu: number(/^CPU(\d+)$/), socket: number(/^S(\d+)/), die: number(/-D(\d+)/), core: number(/-C(\d+)/), node: number(/^N(\d+)/),
    cpus: cpus === undefined ? null : Number(cpus),
  };
}

function statusOf(value: string): Pick<Row, "value" | "status"> {
  return value.startsWith("<") ? { value: null, status: value.slice(1, -1) } : { value: localeNumber(value), status: "counted" };
}

/** "0.610 CPUs utilized", "3.15% of all branches", "15.3 %  tma_backend_bound", "nan  insn per cycle". */
function metricOf(text: string): Pick<Row, "metric" | "metric_unit"> {
  const m = /^\s*(-?[\d.,]+|-?nan|-?inf)%?\s*(.*?)\s*$/.exec(text);
  if (!m || m[2] === "") return { metric: null, metric_unit: null };
  const number = withDecimals(m[1]);
  return { metric: Number.isFinite(number) ? number : null, metric_unit: m[2].replace(/\s+/g, " ") };
}

export interface PerfStatOptions extends ParseOptions {
  /** The separator given to -x; default: the one that the lines show, where it is one character; any string. */
  separator?: string;
}

export const perfStat: Format<ColumnTable, PerfStatOptions> = {
  name: "perf-stat",
  command: "perf stat -e 'kvm:*' -a -- CMD",
  parser({ separator }) {
    if (separator !== undefined && (typeof separator !== "string" || separator === "")) throw new OptionError(`separator takes the string given to perf stat -x, such as ","; this is ${JSON.stringify(separator)}`);
    const rows: Row[] = [];
    let block = 1, runs: number | null = null, begun = false;
    let csv = separator === undefined ? null : csvPatterns(separator);

    const add = (row: Partial<Row>): LineKind => {
      begun = true;
      rows.push({ ...BLANK, block, runs, ...row });
      return row.kind === "metric" ? CONTINUATION : ROW;
    };

    function json(line: string): LineKind {
      let from: Record<string, unknown>;
      try {
        from = JSON.parse(line) as Record<string, unknown>;
      } catch {
        return UNKNOWN;
      }
      const string = (key: string): string | null => { const x = from[key]; return typeof x === "string" && x !== "" && x !== "(null)" ? x : null; };
      // counter-value is a string, metric-value a string or a number, by version
      const number = (key: string) => { const x = Number(from[key] ?? NaN); return from[key] === "" || !Number.isFinite(x) ? null : x; };
      const name = ["core", "die", "cluster", "cache", "socket", "node"].map(string).find((x) => x !== null);
      const place: Place = name ? { ...placeOf(name, undefined), cpus: number("aggregate-number") ?? number("counters") } : { ...NOWHERE };
      if (from.cpu !== undefined) place.cpu = number("cpu");
      const thread = /^(.*)-(\d+)$/.exec(string("thread") ?? "");
      if (thread) { place.comm = thread[1]; place.tid = Number(thread[2]); }
      const ts = number("interval") === null ? null : Math.round(number("interval")! * 1e9);
      const metric_unit = string("metric-unit"), metric = metric_unit === null ? null : number("metric-value");
      const event = string("event");
      if (event === null) {
        if (metric_unit === null || !rows.length) return UNKNOWN;
        return add({ ts, ...place, kind: "metric", event: rows[rows.length - 1].event, metric, metric_unit });
      }
      const value = string("counter-value");
      return add({
        ts, ...place, event, ...(value === null ? { value: number("counter-value") } : value.startsWith("<") ? statusOf(value) : { value: number("counter-value") }),
        unit: string("unit"), cgroup: string("cgroup"), runtime: number("event-runtime"), running: number("pcnt-running") ?? 100, variance: number("variance"), metric, metric_unit,
      });
    }

    function text(line: string): LineKind {
      const heading = /^ Performance counter stats for (?:.*?)(?: \((\d+) runs\))?:\s*$/.exec(line);
      if (heading) {
        if (begun) block++;
        begun = false;
        runs = heading[1] === undefined ? (/ \(\d+ runs\)/.test(line) ? null : 1) : Number(heading[1]);
        return HEADER;
      }
      const time = TIME.exec(line);
      if (time) {
        const value = withDecimals(time[1]);
        const variance = time[4] !== undefined ? withDecimals(time[4]) : time[2] !== undefined && value > 0 ? (100 * withDecimals(time[2])) / value : null;
        return add({ kind: "time", event: time[3] === "time elapsed" ? "elapsed" : time[3], value, unit: "s", variance });
      }
      const repeat = REPEAT.exec(line);
      if (repeat) return add({ kind: "repeat", event: "elapsed", value: withDecimals(repeat[1]), unit: "s" });
      if (KNOWN.some((known) => known.test(line))) return HEADER;

      let rest = line, ts: number | null = null;
      let place: Place = NOWHERE;
      const interval = INTERVAL.exec(rest);
      if (interval) {
        ts = Math.round(withDecimals(interval[1]) * 1e9);
        rest = rest.slice(interval[0].length);
        if (rest.trim() === "") return HEADER; // --metric-only without metrics
      }
      const aggregate = AGGREGATE.exec(rest), thread = aggregate || COUNTER.test(rest) ? null : THREAD.exec(rest);
      if (aggregate) {
        place = placeOf(aggregate[1], aggregate[2]);
        rest = rest.slice(aggregate[0].length);
      } else if (thread) {
        place = { ...NOWHERE, comm: thread[1], tid: Number(thread[2]) };
        rest = rest.slice(thread[0].length);
      }

      const more = /^\s*#\s+(.*?)(?:\s+\(\s*[\d.,]+%\s*\))?\s*$/.exec(rest);
      if (more) {
        const metric = metricOf(more[1]);
        return metric.metric_unit === null || rows.length === 0 ? UNKNOWN : add({ ts, ...place, kind: "metric", event: rows[rows.length - 1].event, ...metric });
      }
      const counter = COUNTER.exec(rest);
      if (!counter) return UNKNOWN;
      let words = counter[3].trimEnd(), variance: number | null = null, running = 100;
      const share = /\s*[([]\s*([\d.,]+)%\s*[)\]]$/.exec(words);
      if (share) { running = withDecimals(share[1]); words = words.slice(0, share.index); }
      const noise = /\s*\(\s*\+-\s*([\d.,]+)%\s*\)$/.exec(words);
      if (noise) { variance = withDecimals(noise[1]); words = words.slice(0, noise.index); }
      const hash = words.search(/(^|\s)# /);
      const metric = hash < 0 ? { metric: null, metric_unit: null } : metricOf(words.slice(words.indexOf("#", hash) + 1));
      if (hash >= 0) words = words.slice(0, hash).trimEnd();
      // perf before 4.16: "task-clock (msec)"
      const old = /^(\S+) \((\w+)\)$/.exec(words);
      const names = old ? [old[1]] : words.split(/\s+/);
      // A unit follows the value after one blank; where there is none, its column is blank.
      let unit: string | null = old ? old[2] : null;
      if (!old && counter[2] === " " && names.length > 1 && /^[A-Za-z%°][\w/%.]*$/.test(names[0])) unit = names.shift()!;
      const event = names.shift();
      if (event === undefined || !/[A-Za-z]/.test(event) || names.length > 1) return UNKNOWN;
      return add({ ts, ...place, event, ...statusOf(counter[1]), unit, cgroup: names[0] ?? null, running, variance, ...metric });
    }

    return {
      line(bytes, start, end): LineKind {
        if (end - start > LONGEST) return UNKNOWN;
        const line = bytes.toString("utf8", start, end).replace(ESCAPES, "");
        if (line.startsWith("{") && !KNOWN.some((known) => known.test(line))) return json(line);
        csv ??= SEPARATED.map((lead) => lead.exec(line)).flatMap((shown) => (shown ? [csvPatterns(shown[2])] : [])).find((pattern) => pattern.counter.test(line)) ?? null;
        const fields = csv?.counter.exec(line)?.groups, extra = fields ? null : csv?.metric.exec(line)?.groups;
        const common = fields ?? extra;
        if (!common) return text(line);
        const ts = common.ts === undefined ? null : Math.round(withDecimals(common.ts) * 1e9);
        const place = common.place !== undefined ? placeOf(common.place, common.cpus) : common.comm !== undefined ? { ...NOWHERE, comm: common.comm, tid: Number(common.tid) } : NOWHERE;
        const metric_unit = common.metricUnit?.trim().replace(/\s+/g, " ") || null;
        const metric = metric_unit === null || !common.metric ? null : withDecimals(common.metric);
        if (extra) return rows.length === 0 || metric_unit === null ? UNKNOWN : add({ ts, ...place, kind: "metric", event: rows[rows.length - 1].event, metric, metric_unit });
        return add({
          ts, ...place, event: fields!.event, ...statusOf(fields!.value), unit: fields!.unit || null, cgroup: fields!.cgroup ?? null,
          runtime: fields!.runtime === undefined ? null : Number(fields!.runtime), running: fields!.running === undefined ? 100 : withDecimals(fields!.running),
          variance: fields!.variance === undefined ? null : withDecimals(fields!.variance), metric, metric_unit,
        });
      },
      finish: () => tableOf(perfStatColumns, rows),
    };
  },
};

const patterns = new Map<string, { counter: RegExp; metric: RegExp }>();

/** CSV lines are not quoted, and an event may hold the separator (cpu/event=0x3c,umask=0x0/): the whole line decides. */
function csvPatterns(separator: string): { counter: RegExp; metric: RegExp } {
  const made = patterns.get(separator);
  if (made) return made;
  const s = separator.replace(/[.*+?^${}()|[\]\\\-/]/g, "\\$&");
  const field = separator.length === 1 ? `[^${s}]*` : `(?:(?!${s}).)*`;
  const before = String.raw`^\s*(?:(?<ts>\d+[.,]\d{9})${s}|summary${s})?(?:(?<place>${PLACE})${s}(?:(?<cpus>\d+)${s}(?=(?:-?[\d.,]+|<not [a-z]+>)?${s}))?|(?<comm>\S(?:(?!${s}).)*)-(?<tid>\d+)${s})?`;
  const metric = String.raw`${s}(?<metric>-?[\d.,]*|-?nan|-?inf)(?:${s}(?<metricUnit>.*))?`;
  const both = {
    counter: new RegExp(String.raw`${before}(?<value>-?\d[\d.,]*|<not counted>|<not supported>)${s}(?:(?<unit>[A-Za-z%°][\w/%.]*)?${s})`
      // Tracepoints hold a colon: where that is the separator, no control group can be told from them.
      + (separator === ":" ? String.raw`(?<event>(?=\D).+?)(?:` : String.raw`(?<event>[^\s/]*/[^/]*/[^\s${separator.length === 1 ? s : ""}]*|(?=\D)${field.replace("*", "+")})(?:(?:${s}(?<cgroup>(?=[^\d])(?!-?[\d.]+%)${field}))?`)
      + String.raw`(?:${s}(?<variance>[\d.,]+)%)?${s}(?<runtime>\d+)${s}(?<running>\d+[.,]\d+)(?:${metric})?)?$`),
    metric: new RegExp(String.raw`${before}(?:${s}){3,}(?<metric>-?[\d.]+|-?nan|-?inf)${s}(?<metricUnit>.+)$`),
  };
  patterns.set(separator, both);
  return both;
}

/**
 * perf stat output (text, -x CSV, -j JSON, with any prefix) → one row per counter value; elapsed, user and sys time are rows of kind time.
 * Columns: `perfStatColumns`. The text of --metric-only is not read: its columns have no marks.
 * @throws ParseError when no line is perf stat output; OptionError
 */
export function fromPerfStat(input: string | Uint8Array, options: PerfStatOptions = {}): ColumnTable {
  return parseText(input, perfStat, options);
}

/** Reads perf stat output from a file, bytes or a stream. See fromPerfStat. */
export function loadPerfStat(source: Source, options: PerfStatOptions & LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, perfStat, options);
}
