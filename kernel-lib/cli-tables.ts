import { escape, type ColumnTable } from "arquero";
import { toArrow } from "./store/arrow.js";
import { OptionError } from "./errors.js";
import * as library from "./index.js";
import { formatNames, needFormat } from "./parse/detect.js";
import { openSource } from "./source/bytes.js";
import { accountingLine, loadOpened, type Format } from "./source/lines.js";
import { progressText, startProgress, type LoadProgress } from "./source/progress.js";

export const tableForms = ["csv", "json", "arrow"];

const HEAD = 1 << 18, ROWS_AT_ONCE = 20_000;

const isFormat = (value: unknown): value is Format<object> => typeof (value as Format<object> | null)?.parser === "function";

/** Reads a file or standard input in the format named, else in that which its beginning looks like. Says so where lines were not understood. */
async function read(path: string, formatName: string | undefined, say: (line: string) => void): Promise<object> {
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
  const name = formatName ?? needFormat(Buffer.concat(head), opened.name);
  const format = (Object.values(library) as unknown[]).filter(isFormat).find((known) => known.name === name)!;
  const all = (async function* () {
    yield* head;
    yield* { [Symbol.asyncIterator]: () => chunks };
  })();
  const progress = startProgress();
  let result: object;
  try {
    result = await loadOpened({ ...opened, chunks: all }, format, {
      progress: (state: LoadProgress) => { progress.update(() => `kernel-lib: ${opened.name}: ${progressText(state)}`); },
    });
  } finally {
    progress.close();
  }
  const count = library.accounting(result);
  if (count.notUnderstood > 0) say(`kernel-lib: ${accountingLine(count)}`);
  return result;
}

/** The table of a recording: of a trace all events or one, of a profile its samples. */
export async function readTable(path: string, formatName: string | undefined, event: string | undefined, say: (line: string) => void): Promise<ColumnTable> {
  const result = await read(path, formatName, say);
  if ("of" in result && "events" in result) {
    const trace = result as library.Trace;
    return event === undefined ? trace.events : trace.of(event);
  }
  if ("samples" in result && "stacks" in result) {
    const { samples } = result as library.Profile;
    return event === undefined ? samples : samples.filter(escape((d: { event: string }) => d.event === event));
  }
  if (event !== undefined) throw new OptionError("--event is for trace-cmd and perf script; this format has one table");
  return result as ColumnTable;
}

const write = async (chunk: string | Uint8Array): Promise<void> => {
  if (!process.stdout.write(chunk)) await new Promise<void>((resolve) => process.stdout.once("drain", resolve));
};

/** Writes a table to standard output, a piece at a time. */
export async function writeTable(table: ColumnTable, form: string): Promise<void> {
  if (form === "arrow") return write(toArrow(table));
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
