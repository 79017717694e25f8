import { open, readFile } from "node:fs/promises";
import { brotliDecompressSync, gunzipSync } from "node:zlib";
import { tableToIPC, type Column as ArrowColumn } from "@uwdata/flechette";
import type { ColumnTable } from "arquero";
import { decompress as zstdDecompress } from "fzstd";
import { parquetMetadata, parquetScan, parquetSchema, type Compressors, type DecodedArray, type SchemaElement } from "hyparquet";
import { ByteWriter, ParquetWriter } from "hyparquet-writer";
import { ParseError } from "../errors.js";
import { BooleanColumn, describeColumns, makeTable, NullableColumn, type Column, type Columns } from "../source/columns.js";
import { setAccounting, type Accounting } from "../source/lines.js";
import { arrowColumn, arrowTable } from "./arrow.js";
import { areWhole, cellsOfTable, emptyColumn, StringCells, type Cells, type Described } from "./cells.js";
import { LIBRARY_VERSION } from "./version.js";

// Parquet, which DuckDB, pandas, polars and Spark read, through hyparquet and hyparquet-writer. Key-value metadata holds what the columns
// mean and the accounting; ARROW:schema, Arrow's own key, lets pyarrow give dictionaries and the columns' metadata back.

const COLUMNS = "kernel-lib.columns", ACCOUNTING = "kernel-lib.accounting", SOURCE = "kernel-lib.source", VERSION = "kernel-lib.version";
const ROWS_PER_GROUP = 1 << 17;
const MAGIC = "PAR1";

/**
 * A table as a Parquet file's bytes. Filtered rows are left out, and rows stand in the table's order.
 * Strings that repeat become dictionary pages; whole numbers of ns, bytes, counts and identifiers become 64-bit integers, other numbers stay
 * what they are; 64-bit addresses are strings, null is null. The columns' descriptions and the accounting travel along.
 * @throws OptionError for a column of anything but numbers, strings and booleans
 */
export function toParquet(table: ColumnTable): Uint8Array {
  const out = new ByteWriter();
  void writeGroups(table, out); // which waits for nothing, since this writer has nothing to flush
  return new Uint8Array(out.getBuffer());
}

/** Writes a table as a Parquet file (see `toParquet`), which `readParquet`, DuckDB, pandas and polars read. */
export async function writeParquet(table: ColumnTable, path: string): Promise<void> {
  const file = await open(path, "w");
  try {
    await writeGroups(table, sinkWriter(async (bytes) => { await file.writeFile(bytes); }));
  } finally {
    await file.close();
  }
}

/** A writer that hands its bytes on after each group of rows. */
export function sinkWriter(write: (bytes: Uint8Array) => Promise<void>): ByteWriter {
  const out = new ByteWriter(1 << 20);
  const flush = async () => {
    const bytes = new Uint8Array(out.buffer, 0, out.index).slice();
    out.index = 0;
    await write(bytes);
  };
  return Object.assign(out, { flush, finish: flush });
}

function writeGroups(table: ColumnTable, out: ByteWriter): Promise<void> | void {
  const { cells, described } = cellsOfTable(table);
  const kinds = [...cells].map(([name, own]) => parquetKind(name, own, described));
  const writer = parquetWriter(out, kinds.map(({ element }) => element), described, cells);
  const rows = table.numRows();
  const group = (from: number): Promise<void> | void => {
    if (from >= rows) return writer.finish();
    const to = Math.min(from + ROWS_PER_GROUP, rows);
    const more = writer.write({ columnData: [...cells].map(([name, own], i) => ({ name, ...kinds[i].slice(own, from, to) })), rowGroupSize: ROWS_PER_GROUP });
    return more ? more.then(() => group(to)) : group(to);
  };
  return group(0);
}

/** A writer of row groups, with the metadata. `like` holds the columns that ARROW:schema is to describe; their values do not matter. */
export function parquetWriter(out: ByteWriter, elements: SchemaElement[], described: Described, like: Map<string, Cells>): ParquetWriter {
  const { columns, accounting } = described;
  const none = new Map([...like].map(([name, cells]) => [name, withoutRows(cells, elements.find((element) => element.name === name)!)]));
  const schema = tableToIPC(arrowTable(none, described), { format: "stream" })!;
  return new ParquetWriter({
    writer: out,
    schema: [{ name: "root", num_children: elements.length }, ...elements],
    createdBy: `kernel-lib ${LIBRARY_VERSION}`,
    kvMetadata: [
      { key: VERSION, value: LIBRARY_VERSION },
      { key: COLUMNS, value: JSON.stringify(columns) },
      ...accountingMetadata(accounting),
      { key: "ARROW:schema", value: Buffer.from(firstMessage(schema)).toString("base64") },
    ],
  });
}

export function accountingMetadata(accounting: Accounting | null): { key: string; value: string }[] {
  return accounting ? [{ key: SOURCE, value: accounting.source }, { key: ACCOUNTING, value: JSON.stringify(accounting) }] : [];
}

/** The schema's message of an Arrow stream: marker, length, that many bytes. */
const firstMessage = (stream: Uint8Array): Uint8Array => stream.subarray(0, 8 + new DataView(stream.buffer, stream.byteOffset).getInt32(4, true));

/** The file's column in Arrow's words, of the very type that it has in the file: polars holds both against each other. */
function withoutRows(cells: Cells, { type }: SchemaElement): ArrowColumn<any> {
  if (cells.kind === "string") return arrowColumn({ kind: "string", length: 0, codes: new Int32Array(0), values: [] }, undefined);
  if (cells.kind === "boolean") return arrowColumn({ kind: "boolean", length: 0, at: () => false, missing: null }, undefined);
  return arrowColumn({ kind: "number", length: 0, data: cells.data.slice(0, 0), missing: null }, type === "INT64" ? { type: "number", unit: "ns", meaning: "" } : undefined);
}

const INTEGERS = {
  Int8Array: ["INT_8", Int8Array], Uint8Array: ["UINT_8", Uint8Array], Int16Array: ["INT_16", Int16Array], Uint16Array: ["UINT_16", Uint16Array],
  Int32Array: [undefined, Int32Array], Uint32Array: ["UINT_32", Uint32Array],
} as const;

interface ParquetKind {
  element: SchemaElement;
  slice(cells: Cells, from: number, to: number): { data: DecodedArray; encoding?: "RLE_DICTIONARY" };
}

/** How a column stands in a Parquet file. Decided from all its values, so that every group of rows is alike. */
function parquetKind(name: string, cells: Cells, { columns }: Described): ParquetKind {
  const repetition_type = "OPTIONAL" as const;
  const rows = <T>(from: number, to: number, at: (row: number) => T, missing: ((row: number) => boolean) | null): (T | null)[] =>
    Array.from({ length: to - from }, (_, i) => (missing?.(from + i) ? null : at(from + i)));
  if (cells.kind === "string") {
    const repeats = cells.values.length * 2 <= cells.length;
    return {
      element: { name, type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" }, repetition_type },
      slice: (own, from, to) => {
        const { codes, values } = own as Extract<Cells, { kind: "string" }>;
        return { data: Array.from({ length: to - from }, (_, i) => (codes[from + i] < 0 ? null : values[codes[from + i]])), ...(repeats ? { encoding: "RLE_DICTIONARY" as const } : {}) };
      },
    };
  }
  if (cells.kind === "boolean") {
    return { element: { name, type: "BOOLEAN", repetition_type }, slice: (own, from, to) => ({ data: rows(from, to, (own as Extract<Cells, { kind: "boolean" }>).at, own.kind === "string" ? null : own.missing) }) };
  }
  const { data } = cells, unit = columns[name]?.unit;
  const numbers = (own: Cells) => own as Extract<Cells, { kind: "number" }>;
  if (data instanceof Float64Array) {
    const isCounted = columns[name] !== undefined && (unit === null || unit === "ns" || unit === "bytes" || unit === "count" || unit === "events" || unit === "samples");
    if (isCounted && areWhole(data, cells.missing)) {
      return { element: { name, type: "INT64", repetition_type }, slice: (own, from, to) => ({ data: rows(from, to, (row) => BigInt(numbers(own).data[row]), numbers(own).missing) }) };
    }
    return { element: { name, type: "DOUBLE", repetition_type }, slice: (own, from, to) => ({ data: rows(from, to, (row) => numbers(own).data[row], numbers(own).missing) }) };
  }
  const [converted] = INTEGERS[data.constructor.name as keyof typeof INTEGERS];
  return {
    element: { name, type: "INT32", ...(converted ? { converted_type: converted } : {}), repetition_type },
    slice: (own, from, to) => ({ data: rows(from, to, (row) => numbers(own).data[row], numbers(own).missing) }),
  };
}

const compressors: Compressors = {
  GZIP: (bytes) => gunzipSync(bytes),
  BROTLI: (bytes) => brotliDecompressSync(bytes),
  ZSTD: (bytes, length) => zstdDecompress(bytes, new Uint8Array(length)),
};

/**
 * A table from a Parquet file's bytes, with the descriptions and the accounting that `toParquet` put there. Files of other programs are
 * read too where their columns are numbers, strings and booleans, at most one per row; 64-bit integers become numbers and have to be within ±2⁵³.
 * @throws ParseError where the bytes are not Parquet, a column is a list or a structure, or an integer is too large
 */
export async function fromParquet(bytes: Uint8Array, options: {
  /** Name for messages; default "bytes". */
  name?: string;
} = {}): Promise<ColumnTable> {
  const name = options.name ?? "bytes";
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  const isWhole = bytes.length >= 12 && [0, bytes.length - 4].every((at) => Buffer.from(bytes.subarray(at, at + 4)).toString("latin1") === MAGIC);
  if (!isWhole) throw new ParseError(`not a Parquet file (${bytes.length === 0 ? "it is empty" : "its beginning or its end is missing"}); kernel-lib table FILE --as parquet makes one`, name);
  try {
    const metadata = parquetMetadata(buffer);
    const { children } = parquetSchema(metadata), rows = Number(metadata.num_rows);
    const more = (key: string) => metadata.key_value_metadata?.find((entry) => entry.key === key)?.value;
    const columns = JSON.parse(more(COLUMNS) ?? "{}") as Columns;
    const readers = new Map(children.map(({ element, children: parts }) => {
      if (parts.length > 0 || element.repetition_type === "REPEATED") throw new Error(`column ${JSON.stringify(element.name)} holds lists or structures; flatten it first`);
      return [element.name, columnReader(element, rows)] as const;
    }));
    const scan = await parquetScan({
      file: { byteLength: buffer.byteLength, slice: (start, end) => buffer.slice(start, end) }, metadata, compressors, useOffsetIndex: false,
      parsers: { timestampFromMilliseconds: (x) => Number(x) * 1e6, timestampFromMicroseconds: (x) => Number(x) * 1e3, timestampFromNanoseconds: Number },
    });
    for (const [column, reader] of readers) {
      for (const range of scan.ranges) reader.take(await scan.readColumn({ column, ...range }), range.rowStart);
    }
    const data = Object.fromEntries([...readers].map(([column, reader]) => [column, rows === 0 ? emptyColumn(columns[column]) : reader.finish()]));
    const every = Object.fromEntries([...readers.keys()].map((column) => [column, columns[column] ?? { type: "number", unit: null, meaning: "" }] as const));
    const table = describeColumns(makeTable(every, data), columns);
    const account = more(ACCOUNTING);
    if (account !== undefined) setAccounting(table, JSON.parse(account) as Accounting);
    return table;
  } catch (error) {
    throw new ParseError(`cannot read this Parquet file (${(error as Error).message})`, name);
  }
}

/** Reads a table from a Parquet file (see `fromParquet`). */
export async function readParquet(path: string): Promise<ColumnTable> {
  return fromParquet(await readFile(path), { name: path });
}

interface ColumnReader {
  take(data: DecodedArray, row: number): void;
  finish(): Column<any>;
}

/** Puts the pieces of a column, which come in any order, into one of our columns. */
function columnReader(element: SchemaElement, rows: number): ColumnReader {
  const { name, type, converted_type: converted, logical_type: logical } = element;
  const isText = type === "BYTE_ARRAY" || logical?.type === "UUID";
  const isTime = logical?.type === "TIMESTAMP" || converted === "TIMESTAMP_MICROS" || converted === "TIMESTAMP_MILLIS" || type === "INT96";
  if (isText) {
    const cells = new StringCells(new Int32Array(rows));
    return { take(data, row) { for (const text of data) cells.set(row++, text); }, finish: () => cells.finish() };
  }
  if (type === "BOOLEAN") {
    const NULL = 2, data = new Uint8Array(rows);
    return {
      take(values, row) { for (const value of values) data[row++] = value === null || value === undefined ? NULL : value ? 1 : 0; },
      finish: () => (data.includes(NULL) ? Array.from(data, (value) => (value === NULL ? null : value !== 0)) as unknown as Column<any> : new BooleanColumn(data)),
    };
  }
  const [, Narrow] = (type === "INT32" && !isTime && Object.values(INTEGERS).find(([one]) => one === converted)) || [];
  // NaN stands for null in our own columns, so one that has both is left as it is.
  const data = new Float64Array(rows);
  const missing: number[] = [];
  let nan = false;
  return {
    take(values, row) {
      for (const value of values) {
        const x = Number(value);
        if (value === null || value === undefined) { data[row] = NaN; missing.push(row); }
        else if (typeof value === "bigint" && !Number.isSafeInteger(x)) throw new Error(`column ${JSON.stringify(name)}: ${value} is beyond ±2⁵³; make it a string`);
        else if (typeof value === "object" && !isTime) throw new Error(`column ${JSON.stringify(name)} holds values of a kind that is not read; make them numbers or strings`);
        else { data[row] = x; if (x !== x) nan = true; }
        row++;
      }
    },
    finish() {
      if (missing.length === 0) return Narrow ? Narrow.from(data) : data;
      if (!nan) return new NullableColumn(data);
      const all: (number | null)[] = Array.from(data);
      for (const row of missing) all[row] = null;
      return all as unknown as Column<any>;
    },
  };
}
