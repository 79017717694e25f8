// perf report --stdio and perf kvm report --stdio, in columns or with -t SEPARATOR.
//
//   perf kvm --host --guest report --stdio --show-cpu-utilization [--sort=comm] > perf-kvm-report.txt
//   printed by tools/perf/builtin-report.c (the lines with #) and tools/perf/ui/stdio/hist.c (the rows)
//
//   # Samples: 1K of event 'cycles'
//   # Overhead       sys       usr  guest sys  guest usr  Command          Shared Object            Symbol
//   # ........  ........  ........  .........  .........  ...............  .......................  ...................
//        3.81%     0.00%     0.00%      3.81%      0.00%  :697             [guest.kernel.kallsyms]  [g] cpu_do_idle
//
// Headings, commands, files and symbols all hold blanks, so the dotted line alone says where to cut (in bytes).
// With -t there is no dotted line, and the heading names the separator. Call graphs below a row belong to it.
// Rows that a grep cut loose from their heading are told by their number of percentages.
import type { ColumnTable } from "arquero";
import { ParseError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import {
  CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN,
  type Format, type LineKind, type LineParser, type LoadOptions, type ParseOptions,
} from "../source/lines.js";

/** Columns that a report may have. A table has those of its report, always under these names; keys that are not listed here become strings under their heading's words, such as `data_symbol`. */
export const perfReportColumns = {
  event: { type: "string", unit: null, meaning: "Event whose samples were counted, as the section's heading names it.", null: "the text has no such heading" },
  children: { type: "number", unit: "%", meaning: "Share of the event's total in this function and in what it called.", null: "another section of the report alone has the column" },
  overhead: { type: "number", unit: "%", meaning: "Share of the event's total (heading Overhead, or Self beside Children).", null: "another section of the report alone has the column" },
  sys: { type: "number", unit: "%", meaning: "The part of overhead in the host's kernel.", null: "another section of the report alone has the column" },
  usr: { type: "number", unit: "%", meaning: "The part of overhead in the host's user space.", null: "another section of the report alone has the column" },
  guest_sys: { type: "number", unit: "%", meaning: "The part of overhead in a guest's kernel.", null: "another section of the report alone has the column" },
  guest_usr: { type: "number", unit: "%", meaning: "The part of overhead in a guest's user space.", null: "another section of the report alone has the column" },
  samples: { type: "number", unit: "samples", meaning: "How many samples the row stands for (report -n).", null: "another section of the report alone has the column" },
  period: { type: "number", unit: "events", meaning: "Sum of the samples' periods (report --show-total-period).", null: "another section of the report alone has the column" },
  comm: { type: "string", unit: null, meaning: "Command: the thread's name. `:TID` is a host thread that perf cannot name, in a guest's samples a vCPU thread; `[guest/PID]` a guest of QEMU's process PID.", null: "another section of the report alone has the column" },
  pid: { type: "number", unit: null, meaning: "Process id (sort key tgid).", null: "another section of the report alone has the column" },
  tid: { type: "number", unit: null, meaning: "Thread id. perf's sort key pid, heading Pid:Command, prints it too.", null: "another section of the report alone has the column" },
  cpu: { type: "number", unit: null, meaning: "CPU that the samples were taken on.", null: "another section of the report alone has the column" },
  dso: { type: "string", unit: null, meaning: "Shared object: a file, [kernel.kallsyms], [guest.kernel.kallsyms.PID] with QEMU's process id, a [module].", null: "another section of the report alone has the column" },
  kind: { type: "string", unit: null, meaning: "Letter before the symbol: k kernel, . user, g guest kernel, u guest user, H hypervisor.", null: "the row has none (cut off by a sed, or no symbol)" },
  symbol: { type: "string", unit: null, meaning: "Function, or an address (0x…) where perf has no name for it.", null: "another section of the report alone has the column" },
  addr: { type: "hex", unit: null, meaning: "Address within the file, or in the kernel (report -v).", null: "the row has none" },
  socket: { type: "number", unit: null, meaning: "CPU socket.", null: "another section of the report alone has the column" },
} as const satisfies Columns;

export const perfReportSectionColumns = {
  event: { type: "string", unit: null, meaning: "Event of the section.", null: "the text has no such heading" },
  samples: { type: "number", unit: "samples", meaning: "How many samples perf says it has, rounded down as printed (1K is 1000).", null: "not printed" },
  event_count: { type: "number", unit: "events", meaning: "Sum of the periods: cycles, or ns for a clock.", null: "not printed" },
  lost: { type: "number", unit: "samples", meaning: "Samples that the kernel lost while recording.", null: "not printed (perf before 3.10, or rows cut out by a grep)" },
  rows: { type: "number", unit: "rows", meaning: "Rows of the table that come from this section." },
  overhead: { type: "number", unit: "%", meaning: "Sum of the rows' overhead (of a group of events: of its first one). Near 100 where the report was printed whole; less after --percent-limit or a filter.", null: "the report has no Overhead" },
} as const satisfies Columns;

/** Heading → column. */
const HEADINGS: Record<string, string> = {
  Overhead: "overhead", Self: "overhead", Children: "children",
  sys: "sys", usr: "usr", "guest sys": "guest_sys", "guest usr": "guest_usr",
  Samples: "samples", Period: "period", Command: "comm", "Shared Object": "dso", Symbol: "symbol", CPU: "cpu", Socket: "socket",
  // sort_thread in util/sort.c prints he->thread->tid under the heading Pid.
  "Pid:Command": "tid", "Tid:Command": "tid", "Tgid:Command": "pid",
  "Source:Line": "srcline", "Source File": "srcfile", "Parent symbol": "parent", "Trace output": "trace",
};
const PERCENTS = new Set(["overhead", "children", "sys", "usr", "guest_sys", "guest_usr"]);
const NUMBERS = new Set(["samples", "period", "cpu", "socket"]);
const UNITS: Record<string, number> = { "": 1, K: 1e3, M: 1e6, G: 1e9, T: 1e12 };

/** What perf and libtraceevent say on stderr, when it was written to the same file. */
const MESSAGES = [
  /^\[ perf record: .*\]$/, /^Warning:$/, /^Processed \d+ events and lost \d+ /, /^Check IO\/CPU overload!$/,
  /^libtraceevent: /, /^ {2}\[[\w-]+:\w+\] (bad op token|unknown op|function \w+ not defined|Unexpected )/,
  /^no symbols found in .*, maybe install a debug package\?$/, /^Failed to open .*, continuing without symbols$/,
];

interface Section {
  event: string | null;
  samples: number | null;
  eventCount: number | null;
  lost: number | null;
  rows: number;
  /** In hundredths of a percent, so that the sum is exact; null until a row has an overhead. */
  hundredths: number | null;
}

interface Layout {
  names: string[];
  /** First and last byte of each column; null where a separator cuts. */
  spans: [number, number][] | null;
  separator: string;
}

type Row = Record<string, number | string | null>;
const sectionTables = new WeakMap<object, ColumnTable>();

const columnName = (heading: string): string =>
  HEADINGS[heading] ?? (heading.toLowerCase().replace(/[^a-z0-9]+/g, "_").replace(/^_|_$/g, "") || "unnamed");

function layoutOf(headings: string[], spans: [number, number][] | null, separator: string): Layout | null {
  const names = headings.map(columnName);
  return new Set(names).size === names.length ? { names, spans, separator } : null;
}

/** The dotted line and the heading above it → where each column stands. */
function dottedLayout(heading: string, dots: string): Layout | null {
  const spans = [...dots.matchAll(/\.+/g)].map((run): [number, number] => [run.index!, run.index! + run[0].length]);
  if (spans.length > 0) spans[spans.length - 1][1] = Infinity;
  return layoutOf(spans.map(([from, to]) => heading.slice(from, to).trim()), spans, "");
}

/** "# Overhead;     sys;Command" → the layout of a report with -t. */
function separatedLayout(heading: string): Layout | null {
  const first = /^#\s*(Overhead|Children|sys|usr|guest sys|guest usr|Samples|Period)\s*([^\w\s:.]|\t)/.exec(heading);
  if (!first) return null;
  return layoutOf(heading.slice(1).split(first[2]).map((cell) => cell.trim()), null, first[2]);
}

/** A line → its cells, or null where it does not fit the layout. */
function cut(line: string, layout: Layout): string[] | null {
  if (!layout.spans) {
    const cells = line.split(layout.separator);
    return cells.length === layout.names.length ? cells.map((cell) => cell.trim()) : null;
  }
  const { spans } = layout;
  if (line.length < spans[spans.length - 1][0]) return null;
  const fits = spans.every(([from], i) => line.slice(i === 0 ? 0 : spans[i - 1][1], from).trim() === "");
  if (fits) return spans.map(([from, to]) => line.slice(from, to).trim());
  // A cell wider than its dots (report -w) pushes the rest of the line to the right.
  const cells = line.trim().split(/\s{2,}/);
  return cells.length === spans.length ? cells : null;
}

const PERCENT = /^(\d+(?:\.\d+)?)%$/;
const decode = (latin1: string): string => /[\x80-\xff]/.test(latin1) ? Buffer.from(latin1, "latin1").toString("utf8") : latin1;

/** Cells → a row per event of the section (--group prints several percentages in one cell), or null where a number is none. */
function rowsOf(cells: string[], names: string[], members: string[] | null): Row[] | null {
  const rows: Row[] = members ? members.map((event) => ({ event })) : [{}];
  const own: Row = {};
  for (let i = 0; i < names.length; i++) {
    const name = names[i], cell = cells[i];
    if (PERCENTS.has(name)) {
      const values = cell.split(/\s+/).map((text) => PERCENT.exec(text));
      if (values.length !== rows.length || values.some((value) => !value)) return null;
      values.forEach((value, row) => { rows[row][name] = Number(value![1]); });
    } else if (NUMBERS.has(name)) {
      const values = cell.split(/\s+/);
      if (!values.every((text) => /^-?\d+$/.test(text)) || (values.length !== 1 && values.length !== rows.length)) return null;
      rows.forEach((row, k) => { row[name] = Number(values[values.length === 1 ? 0 : k]); });
    } else if (name === "tid" || name === "pid") {
      const found = /^(-?\d+):(.*)$/.exec(cell);
      if (!found) return null;
      own[name] = Number(found[1]);
      own.comm ??= decode(found[2]);
    } else if (name === "symbol") {
      const found = /^(?:(0x[0-9a-f]+)\s+(?:(\S)\s+)?)?\[(.)\] (.*)$/.exec(cell);
      if (found?.[1]) own.addr = found[1];
      if (found) own.kind = found[3];
      own.symbol = decode(found ? found[4] : cell);
    } else own[name] = decode(cell);
  }
  for (const row of rows) Object.assign(row, own);
  return rows;
}

/** Which percentages a row without heading has, by their number. */
const LOOSE: Record<number, string[]> = {
  1: ["overhead"], 2: ["children", "overhead"], 3: ["overhead", "sys", "usr"],
  5: ["overhead", "sys", "usr", "guest_sys", "guest_usr"], 6: ["children", "overhead", "sys", "usr", "guest_sys", "guest_usr"],
};

/** `13.47%  13.47%  0.00%  0.00%  0.00%  swapper    cpuidle_enter_state`, as grep (and sed, which takes file and letter away) leaves it. */
function looseRow(line: string): Row[] | null {
  const found = /^\s*((?:\d+\.\d+%\s+)+)(\S.*)$/.exec(line);
  if (!found) return null;
  const percents = found[1].trim().split(/\s+/);
  const names = LOOSE[percents.length];
  const rest = found[2].trimEnd().split(/\s{2,}/);
  const keys = [["comm"], ["comm", "symbol"], ["comm", "dso", "symbol"]].at(rest.length - 1);
  if (!names || !keys || rest.length > 3) return null;
  return rowsOf([...percents, ...rest], [...names, ...keys], null);
}

class PerfReportParser implements LineParser<ColumnTable> {
  constructor(private readonly name: string) {}

  private readonly sections: Section[] = [];
  private readonly rows: Row[] = [];
  private readonly others: string[] = [];
  private section: Section | null = null;
  private layout: Layout | null = null;
  private members: string[] | null = null;
  private lastComment = "";
  private lost: number | null = null;

  line(bytes: Buffer, start: number, end: number): LineKind {
    const line = bytes.toString("latin1", start, end);
    if (line.trim() === "") return HEADER;
    if (line.startsWith("#")) return this.comment(line);
    const rows = this.layout ? this.row(line, this.layout) : this.headless(line);
    if (rows) {
      this.keep(rows);
      return ROW;
    }
    // Call graphs: -g graph, fractal, caller and flat indent by 11 and more, -g folded starts a line with the share.
    if (this.section && this.section.rows > 0 && (/^ {11,}\S/.test(line) || /^(\d+\.\d+%|\d+) [^\s;][^;]*;?/.test(line))) return CONTINUATION;
    return MESSAGES.some((message) => message.test(line)) ? HEADER : UNKNOWN;
  }

  private comment(line: string): LineKind {
    const dotted = /^#[ .]*\.[ .]*$/.test(line);
    if (dotted && / \/ /.test(this.lastComment)) {
      throw new ParseError("perf report --hierarchy sums rows up in rows above them, which a table would count twice; print the report without it", this.name, null, this.lastComment.trim());
    }
    const layout = dotted ? dottedLayout(this.lastComment, line) : separatedLayout(line);
    if (dotted || layout) {
      this.layout = layout;
      if (!this.section || this.section.rows > 0) this.open(null, null);
    }
    const samples = /^# Samples: +([\d.]+)([KMGT]?) +of events? '(.*)'/.exec(line);
    if (samples) {
      this.layout = null;
      this.open(decode(samples[3]), Number(samples[1]) * UNITS[samples[2]]);
      this.members = /\{ (.*) \}$/.exec(samples[3])?.[1].split(", ") ?? (samples[3].includes(", ") ? samples[3].split(", ") : null);
    }
    const count = /^# Event count \(approx\.\): (\d+)$/.exec(line);
    if (count && this.section) this.section.eventCount = Number(count[1]);
    // Printed once before all sections by older perf, before each one by newer.
    const lost = /^# Total Lost Samples: (\d+)$/.exec(line);
    if (lost) this.lost = Number(lost[1]);
    this.lastComment = line;
    return HEADER;
  }

  private open(event: string | null, samples: number | null): void {
    this.section = { event, samples, eventCount: null, lost: this.lost, rows: 0, hundredths: null };
    this.members = null;
    this.sections.push(this.section);
  }

  private row(line: string, layout: Layout): Row[] | null {
    const cells = cut(line, layout);
    return cells && rowsOf(cells, layout.names, this.members);
  }

  private headless(line: string): Row[] | null {
    if (this.lastComment !== "") return null;
    const rows = looseRow(line);
    if (rows && !this.section) this.open(null, null);
    return rows;
  }

  private keep(rows: Row[]): void {
    const section = this.section!;
    if (this.layout) for (const name of this.layout.names) if (!(name in perfReportColumns) && !this.others.includes(name)) this.others.push(name);
    for (const row of rows) {
      row.event ??= section.event;
      section.rows++;
      this.rows.push(row);
    }
    const { overhead } = rows[0];
    if (typeof overhead === "number") section.hundredths = (section.hundredths ?? 0) + Math.round(overhead * 100);
  }

  finish(): ColumnTable {
    const present = new Set(["event", ...this.rows.flatMap((row) => Object.keys(row))]);
    // An empty report keeps the columns that its heading names.
    for (const name of this.layout?.names ?? []) present.add(name);
    const columns: Columns = {};
    for (const [name, spec] of Object.entries(perfReportColumns)) if (present.has(name)) columns[name] = spec;
    for (const name of this.others) columns[name] = { type: "string", unit: null, meaning: `The report's column ${name}, as printed.`, null: "another section of the report alone has the column" };
    const table = tableOf(columns, this.rows as RowOf<Columns>[]);
    sectionTables.set(table, tableOf(perfReportSectionColumns, this.sections.map((section) => ({
      event: section.event, samples: section.samples, event_count: section.eventCount, lost: section.lost,
      rows: section.rows, overhead: section.hundredths === null ? null : section.hundredths / 100,
    }))));
    return table;
  }
}

export const perfReport: Format<ColumnTable, ParseOptions> = {
  name: "perf-report",
  command: "perf kvm --host --guest report --stdio --show-cpu-utilization",
  parser: ({ name }) => new PerfReportParser(name),
};

/**
 * `perf report --stdio` or `perf kvm report --stdio` → one row per line of the report (per event, with --group), columns as `perfReportColumns`.
 * @throws ParseError when no line can be read, or the report was printed with --hierarchy
 */
export function fromPerfReport(text: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(text, perfReport, options);
}

/** As `fromPerfReport`, from a path (plain, .gz, .zst), bytes or chunks. */
export function loadPerfReport(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, perfReport, options);
}

/**
 * What a report says of each of its event sections: event, samples, event_count, lost, rows, overhead.
 * @throws Error for a table that is not what fromPerfReport or loadPerfReport returned (one derived from it by a verb has none).
 */
export function perfReportSections(report: ColumnTable): ColumnTable {
  const sections = sectionTables.get(report);
  if (!sections) throw new Error("perfReportSections takes what fromPerfReport or loadPerfReport returned, not a table derived from it");
  return sections;
}
