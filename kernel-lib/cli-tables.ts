import { basename } from "node:path";
import { escape, type ColumnTable } from "arquero";
import { MissingEventError, OptionError } from "./errors.js";
import * as library from "./index.js";
import { formatNames, needFormat } from "./parse/detect.js";
import { allEventColumns, besideEventColumns, eventColumns } from "./parse/trace-cmd.js";
import { sampleColumns, stackIds } from "./parse/perf-script.js";
import { openSource, type OpenedSource } from "./source/bytes.js";
import { columnsOf, type Columns } from "./source/columns.js";
import { accountingLine, loadOpened, noLines, parsePart, settle, type Accounting, type Format } from "./source/lines.js";
import { partParsers, partsOf } from "./source/parts.js";
import { progressText, startProgress, type LoadProgress } from "./source/progress.js";
import { cellsOfTable } from "./store/cells.js";
import { arrowSink, parquetSink, type TableSink } from "./store/sinks.js";

export const tableForms = ["csv", "json", "arrow", "parquet"];

const HEAD = 1 << 18, ROWS_AT_ONCE = 20_000;

const isFormat = (value: unknown): value is Format<object> => typeof (value as Format<object> | null)?.parser === "function";

interface Opened { source: OpenedSource; format: Format<object> }

/** A file or standard input, in the format named, else in that which its beginning looks like. */
export async function openFormat(path: string, formatName: string | undefined): Promise<Opened> {
  if (formatName !== undefined && !(formatNames as readonly string[]).includes(formatName)) {
    throw new OptionError(`there is no format ${JSON.stringify(formatName)}; one of ${formatNames.join(", ")}`);
  }
  const opened = await openSource(path);
  const chunks = opened.chunks[Symbol.asyncIterator]();
  const head: Uint8Array[] = [];
  for (let size = 0; size < HEAD;) {
    const { value, done } = await chunks.next();
    if (done) break;
    head.push(Buffer.from(value)); // a copy: a chunk is lent until the next one
    size += value.length;
  }
  const wanted = formatName ?? needFormat(Buffer.concat(head), opened.name);
  const format = (Object.values(library) as unknown[]).filter(isFormat).find((known) => known.name === wanted)!;
  const all = (async function* () {
    yield* head.splice(0);
    yield* { [Symbol.asyncIterator]: () => chunks };
  })();
  return { source: { ...opened, chunks: all }, format };
}

type Say = (line: string) => void;

function sayUnderstood(count: Accounting, say: Say): void {
  if (count.notUnderstood > 0) say(`kernel-lib: ${accountingLine(count)}`);
}

/** Reads all of it. Says how far it is, and where lines were not understood. */
async function read({ source, format }: Opened, say: Say): Promise<object> {
  const progress = startProgress();
  try {
    const result = await loadOpened(source, format, { progress: (state: LoadProgress) => { progress.update(() => `kernel-lib: ${basename(source.name)}: ${progressText(state)}`); } });
    sayUnderstood(library.accounting(result), say);
    return result;
  } finally {
    progress.close();
  }
}

/** The table of a recording: of a trace all events or one, of a profile its samples. */
async function readTable(opened: Opened, event: string | undefined, say: Say): Promise<ColumnTable> {
  const result = await read(opened, say);
  if ("of" in result && "events" in result) {
    const trace = result as library.Trace;
    return event === undefined ? trace.events : trace.of(event);
  }
  if ("samples" in result && "stacks" in result) {
    return samplesOf(result as library.Profile, event);
  }
  if (event !== undefined) throw new OptionError("--event is for trace-cmd and perf script; this format has one table");
  return result as ColumnTable;
}

const write = async (chunk: string | Uint8Array): Promise<void> => {
  if (!process.stdout.write(chunk)) await new Promise<void>((resolve) => process.stdout.once("drain", resolve));
};

/** Writes the table of a recording to standard output; as Arrow or Parquet, traces and profiles while they are read. */
export async function writeTable(path: string, formatName: string | undefined, event: string | undefined, form: string, say: Say): Promise<void> {
  const opened = await openFormat(path, formatName);
  if ((form === "arrow" || form === "parquet") && (opened.format.name === "trace-cmd" || opened.format.name === "perf-script")) return streamTable(opened, event, form, say);
  const table = await readTable(opened, event, say);
  if (form === "arrow") return write(library.toArrow(table));
  if (form === "parquet") return write(library.toParquet(table));
  return writeText(table, form);
}

/** Makes of each part's result the rows that it adds. */
interface TableParts {
  next(result: object): ColumnTable | null;
  columns(): Columns;
  /** For Arrow: whether a column's distinct strings are few. */
  isWord(column: string): boolean;
  /** After the last part: throws where there is no table at all. */
  end(): void;
}

/** Writes the table of a trace or a profile while it is read: no more than about 8 MiB of text is held, and each distinct name and stack. */
export async function streamTable({ source, format }: Opened, event: string | undefined, form: "arrow" | "parquet", say: Say, options: {
  /** Default: to standard output. */
  write?: (bytes: Uint8Array) => Promise<void>;
  /** Bytes of text that are read at once, about. */
  part?: number;
} = {}): Promise<void> {
  const { write: to = write, part } = options;
  const parts = format.name === "perf-script" ? sampleParts(event) : traceParts(event), parserOf = partParsers(format, source.name), count = noLines(format.name, source.name);
  const progress = startProgress(), begin = performance.now();
  let sink: TableSink | null = null;
  const open = async () => (sink ??= form === "arrow" ? await arrowSink(to, parts.columns(), (column) => parts.isWord(column)) : parquetSink(to, parts.columns()));
  try {
    for await (const text of partsOf(source.chunks, format.name === "perf-script", part)) {
      const table = parts.next(parsePart(text, parserOf(), count));
      const state = { read: source.read(), size: source.size, bytes: count.bytes, rows: count.rows, seconds: (performance.now() - begin) / 1000 };
      progress.update(() => `kernel-lib: ${basename(source.name)}: ${progressText(state)}`);
      if (table === null) continue;
      const { cells } = cellsOfTable(table), into = await open();
      await into.append(Object.keys(parts.columns()).map((column) => cells.get(column) ?? null), table.numRows());
    }
    settle({}, count);
    parts.end();
    const into = await open();
    await into.finish(count);
    sayUnderstood(count, say);
    for (const [column, n] of into.leftNull) say(`kernel-lib: ${n.toLocaleString("en-US")} values of ${column} are no whole numbers within ±2⁵³, and null in the table`);
  } finally {
    progress.close();
    await (sink as TableSink | null)?.close();
  }
}

function traceParts(event: string | undefined): TableParts {
  if (event === undefined) return { next: (trace) => (trace as library.Trace).events, columns: () => allEventColumns, isWord: (name) => name !== "info", end() {} };
  const known = Object.hasOwn(eventColumns, event), { side, info } = besideEventColumns;
  let columns: Columns | null = known ? { ...eventColumns[event], side, info } : null;
  let found = false;
  const others = new Set<string>();
  return {
    next(result) {
      const trace = result as library.Trace;
      if (!trace.eventNames.includes(event)) {
        for (const name of trace.eventNames) if (others.size < MOST_NAMES) others.add(name);
        return null;
      }
      found = true;
      const table = trace.of(event);
      // Of an event that is not known, the first part tells its fields; what only later ones have stands in info.
      columns ??= { ...columnsOf(table), side, info };
      return table;
    },
    columns: () => columns!,
    isWord: (name) => columns![name].type === "string" && name !== "info" && (known || name === "comm" || name === "side"),
    end() { if (!found) throw new MissingEventError(`--event ${event}`, [event], [...others], `trace-cmd record -e ${event}`); },
  };
}
const MOST_NAMES = 1000;

function sampleParts(event: string | undefined): TableParts {
  const ids = stackIds();
  return {
    next(result) {
      const profile = result as library.Profile, samples = samplesOf(profile, event);
      const stack = ids(profile);
      return samples.assign({ stack: Int32Array.from(samples.array("stack") as ArrayLike<number>, (id) => stack[id]) } as never);
    },
    columns: () => sampleColumns,
    isWord: (name) => sampleColumns[name as keyof typeof sampleColumns].type === "string" && name !== "payload",
    end() {},
  };
}

const samplesOf = ({ samples }: library.Profile, event: string | undefined): ColumnTable =>
  (event === undefined ? samples : samples.filter(escape((d: { event: string }) => d.event === event)).reify());

async function writeText(table: ColumnTable, form: string): Promise<void> {
  const total = table.numRows();
  if (form === "csv") {
    for (let offset = 0; offset === 0 || offset < total; offset += ROWS_AT_ONCE) {
      const text = table.toCSV({ header: offset === 0, limit: ROWS_AT_ONCE, offset });
      await write(text.endsWith("\n") || text === "" ? text : `${text}\n`);
    }
    return;
  }
  await write("[");
  for (let offset = 0; offset < total; offset += ROWS_AT_ONCE) {
    const rows = table.objects({ limit: ROWS_AT_ONCE, offset });
    await write(`${offset === 0 ? "\n" : ",\n"}${rows.map((row) => JSON.stringify(row)).join(",\n")}`);
  }
  await write("\n]\n");
}
