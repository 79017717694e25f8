import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ColumnTable } from "arquero";
import { MissingFileError, OptionError, ParseError } from "../errors.js";
import { columnsOf, describeColumns, DictionaryColumn, narrowCodes, NullableColumn, type Column, type Columns } from "../source/columns.js";
import { accountingOf, setAccounting, type Accounting } from "../source/lines.js";
import { traceOf, type TraceParts } from "../parse/trace-cmd.js";
import type { Trace } from "../trace.js";
import { readArrow, writeArrow } from "./arrow.js";
import { StringCells } from "./cells.js";
import { readParquet, writeParquet } from "./parquet.js";
import { LIBRARY_VERSION } from "./version.js";

// A whole trace as a folder:
//
//     trace.json                 what it was read from, which file holds which event, how its lines were spent; written last
//     events/kvm_exit.parquet    one event's table, with `position`: its place among all events, from 0
//     events/…
//     lost.parquet               where events were lost

const MANIFEST = "trace.json", EVENTS = "events", FORMAT = "kernel-lib trace", VERSION = 1;
const forms = ["parquet", "arrow"] as const;

export interface WriteTraceOptions {
  /** Format of the tables; default "parquet"; one of "parquet", "arrow". */
  as?: (typeof forms)[number];
}

/** The columns that all events share and trace.of() leaves out, by the name that they have in an event's file. */
interface Shared { position: string; flags?: string; tgid?: string }
interface Manifest {
  format: string;
  version: number;
  library: string;
  as: (typeof forms)[number];
  source: string;
  length: number;
  cpus: number;
  /** Where the trace has sides: each side's CPUs. */
  sides: { side: string; cpus: number }[] | null;
  undecoded: number;
  /** In the order of their first occurrence. */
  events: { event: string; file: string; rows: number; shared: Shared }[];
  accounting: Accounting | null;
}

const eventNumbers = ["ts", "cpu", "pid"] as const, eventStrings = ["comm", "side"] as const;
const ofEvents: readonly string[] = [...eventNumbers, ...eventStrings, "event", "flags", "tgid", "info"];
const positionSpec = { position: { type: "number", unit: null, meaning: "The event's place among all events of the trace, from 0." } } as const satisfies Columns;

/**
 * Writes a trace into a folder: a table per event, with the event's place among all events; where events were lost; and a
 * `trace.json` that says what belongs together. `readTrace` brings it back; DuckDB, pandas and polars read its tables. A trace that the folder holds is replaced.
 * @throws OptionError where the folder holds something else
 */
export async function writeTrace(trace: Trace, folder: string, options: WriteTraceOptions = {}): Promise<void> {
  const { as = "parquet" } = options;
  if (!forms.includes(as)) throw new OptionError(`as: ${JSON.stringify(as)} is none of ${forms.join(", ")}`);
  const all = trace.events, { event, slot } = trace.raw;
  const strange = all.columnNames().filter((name) => !ofEvents.includes(name));
  if (strange.length > 0) throw new OptionError(`trace.events has ${strange.join(", ")}, which a trace's folder has no place for; write that table by itself with write${as === "arrow" ? "Arrow" : "Parquet"}`);
  await clear(folder);
  await mkdir(join(folder, EVENTS), { recursive: true });
  const write = as === "arrow" ? writeArrow : writeParquet, taken = new Set<string>();
  const counts = new Float64Array(event.words.size);
  for (let i = 0; i < slot.length; i++) counts[event.codes[i]]++;
  const manifest: Manifest = {
    format: FORMAT, version: VERSION, library: LIBRARY_VERSION, as, source: trace.source, length: slot.length, cpus: trace.cpus,
    sides: trace.sides && (trace.sides.objects({ limit: Infinity }) as { side: string; cpus: number }[]).map(({ side, cpus }) => ({ side, cpus })), undecoded: trace.undecoded, events: [],
    accounting: accountingOf(trace),
  };
  for (let code = 0; code < counts.length; code++) {
    if (counts[code] === 0) continue;
    const name = event.words.get(code), file = `${fileName(name, taken)}.${as}`;
    const positions = new Int32Array(counts[code]);
    for (let i = 0; i < slot.length; i++) if (event.codes[i] === code) positions[slot[i]] = i;
    const { table, shared } = eventTable(trace.of(name), all, positions);
    await write(table, join(folder, EVENTS, file));
    manifest.events.push({ event: name, file, rows: positions.length, shared });
  }
  await write(trace.lost, join(folder, `lost.${as}`));
  const draft = join(folder, `${MANIFEST}.${process.pid}`);
  await writeFile(draft, `${JSON.stringify(manifest, null, 1)}\n`);
  await rename(draft, join(folder, MANIFEST));
}

/** Makes room for a trace, where there is nothing but one. */
async function clear(folder: string): Promise<void> {
  const inside = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [] as string[];
    throw new OptionError(`${folder} is not a folder that can be read (${error.code ?? "error"})`);
  });
  if (inside.length === 0) return;
  const before = await readManifest(folder).catch(() => null);
  if (before === null) throw new OptionError(`${folder} holds other files; writeTrace takes a folder that is new, empty, or holds a trace that it wrote`);
  await rm(join(folder, MANIFEST));
  for (const { file } of before.events) await rm(join(folder, EVENTS, file), { force: true });
  await rm(join(folder, `lost.${before.as}`), { force: true });
}

/** An event's own table and, under names that it does not use itself, its rows of the columns that all events share. */
function eventTable(own: ColumnTable, all: ColumnTable, positions: Int32Array): { table: ColumnTable; shared: Shared } {
  const names = own.columnNames();
  const free = (name: string): string => (names.includes(name) ? free(`${name}_`) : name);
  const shared: Shared = { position: free("position") };
  const columns: Columns = { [shared.position]: positionSpec.position, ...columnsOf(own) }, specs = columnsOf(all);
  const data: Record<string, Column<any>> = { [shared.position]: positions, ...(own.data() as Record<string, Column<any>>) };
  for (const name of ["flags", "tgid"] as const) {
    if (!all.columnNames().includes(name)) continue;
    const column = all.data()[name] as Column<any>, inFile = (shared[name] = free(`trace_${name}`));
    data[inFile] = column instanceof DictionaryColumn ? column.take(positions) : Array.from(positions, (row) => column.at(row) as unknown) as unknown as Column<any>;
    columns[inFile] = specs[name];
  }
  return { table: describeColumns(new ColumnTable(data as any, Object.keys(data)), columns), shared };
}

/** A file name that stands for an event's name, which the traced machine chose: letters, digits, _, - and dots within; none twice, whatever the case. */
function fileName(event: string, taken: Set<string>): string {
  const plain = event.replace(/[^A-Za-z0-9_.-]|^\./g, (c) => [...Buffer.from(c, "utf8")].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, "0")}`).join("")).slice(0, 100);
  let name = plain;
  for (let n = 2; taken.has(name.toLowerCase()); n++) name = `${plain}~${n}`;
  taken.add(name.toLowerCase());
  return name;
}
const isFileName = (file: unknown): file is string => typeof file === "string" && /^[A-Za-z0-9_%-][A-Za-z0-9_.%~-]*\.(parquet|arrow)$/.test(file);

async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, MANIFEST);
  let manifest: Manifest;
  try {
    manifest = JSON.parse(await readFile(path, "utf8")) as Manifest;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== undefined) throw new MissingFileError(`${folder} holds no ${MANIFEST}, so it is no trace that writeTrace finished`);
    throw new ParseError(`not written by writeTrace (${(error as Error).message})`, path);
  }
  const sound = manifest?.format === FORMAT && forms.includes(manifest.as) && Array.isArray(manifest.events) && Number.isSafeInteger(manifest.length)
    && (manifest.sides === null || (Array.isArray(manifest.sides) && manifest.sides.every((one) => typeof one?.side === "string" && Number.isSafeInteger(one.cpus))))
    && manifest.events.every((one) => typeof one?.event === "string" && isFileName(one.file) && Number.isSafeInteger(one.rows) && typeof one.shared?.position === "string");
  if (!sound) throw new ParseError("not written by writeTrace", path);
  if (manifest.version !== VERSION) throw new ParseError(`of version ${manifest.version}, which this kernel-lib does not read; write the trace again`, path);
  return manifest;
}

/**
 * Reads a trace that `writeTrace` wrote. Its events are in the order that they had, and analyses of it give the same.
 * @throws MissingFileError where the folder holds no finished trace; ParseError where its files do not belong together
 */
export async function readTrace(folder: string): Promise<Trace> {
  const { as, events, length, ...manifest } = await readManifest(folder);
  const read = as === "arrow" ? readArrow : readParquet;
  const damaged = (file: string, what: string) => new ParseError(`${what}; write the trace again`, join(folder, EVENTS, file));
  const ts = new Float64Array(length), cpu = new Int16Array(length), pid = new Int32Array(length), slot = new Int32Array(length), code = new Int32Array(length).fill(-1);
  const texts = { comm: gathered(length), side: gathered(length), flags: gathered(length) }, tgid = new Float64Array(length).fill(NaN);
  const own: TraceParts["own"] = [];
  let sides = false, flags = false, tgids = false;
  for (const [index, { file, rows, shared }] of events.entries()) {
    const table = await read(join(folder, EVENTS, file)), data = table.data() as Record<string, Column<any>>, specs = columnsOf(table);
    if (table.numRows() !== rows) throw damaged(file, `holds ${table.numRows()} rows where ${MANIFEST} says ${rows}`);
    const needed = [shared.position, ...eventNumbers, "comm", ...(shared.flags ? [shared.flags] : []), ...(shared.tgid ? [shared.tgid] : [])].filter((name) => !data[name]);
    if (needed.length > 0) throw damaged(file, `lacks the column ${needed.join(", ")}`);
    const positions = data[shared.position];
    for (let row = 0; row < rows; row++) {
      const at = positions.at(row) as number;
      if (!(at >= 0 && at < length) || code[at] !== -1) throw damaged(file, `row ${row} has no place of its own among the ${length} events`);
      code[at] = index;
      slot[at] = row;
      ts[at] = data.ts.at(row) as number;
      cpu[at] = data.cpu.at(row) as number;
      pid[at] = data.pid.at(row) as number;
      if (shared.tgid) tgid[at] = (data[shared.tgid].at(row) as number | null) ?? NaN;
    }
    texts.comm.take(data.comm, positions);
    if (data.side) { sides = true; texts.side.take(data.side, positions); }
    if (shared.flags) { flags = true; texts.flags.take(data[shared.flags], positions); }
    if (shared.tgid) tgids = true;
    const taken = new Set<string>([...eventNumbers, ...eventStrings, "info", ...Object.values(shared) as string[]]);
    const names = table.columnNames().filter((name) => !taken.has(name));
    own.push({ count: rows, known: true, fields: {
      columns: Object.fromEntries(names.map((name) => [name, data[name]])), specs: Object.fromEntries(names.filter((name) => specs[name]).map((name) => [name, specs[name]])),
      info: (data.info as DictionaryColumn | undefined) ?? null,
    } });
  }
  if (code.includes(-1)) throw new ParseError(`its events are ${length - code.reduce((n, c) => n + (c < 0 ? 1 : 0), 0)}, and ${MANIFEST} says ${length}; write the trace again`, folder);
  const trace = traceOf({
    source: manifest.source, length, ts, cpu, pid, slot, comm: texts.comm.finish(), event: new DictionaryColumn(narrowCodes(code, length, events.length), events.map(({ event }) => event)),
    side: sides ? texts.side.finish() : null, flags: flags ? texts.flags.finish() : null, tgid: tgids ? (tgid.some((x) => x !== x) ? new NullableColumn(tgid) : tgid) : null,
    own, undecoded: manifest.undecoded, lost: await read(join(folder, `lost.${as}`)), cpus: manifest.cpus,
    sides: manifest.sides,
  });
  if (manifest.accounting) setAccounting(trace, manifest.accounting);
  return trace;
}

/** A column of strings whose rows come from several columns. */
function gathered(length: number): { take(from: Column<string | null>, positions: Column<number>): void; finish(): DictionaryColumn } {
  const cells = new StringCells(new Int32Array(length).fill(-1));
  return {
    take(from, positions) { for (let row = 0; row < positions.length; row++) cells.set(positions.at(row), from.at(row)); },
    finish: () => cells.finish(),
  };
}
