import { readFile, writeFile } from "node:fs/promises";
import {
  batchType, bool, Column as ArrowColumn, dictionary, Endianness, field, float64, int16, int32, int64, int8, Table as ArrowTable, tableFromIPC, tableToIPC, Type, uint16,
  uint32, uint8, utf8, Version,
} from "@uwdata/flechette";
import type { ColumnTable } from "arquero";
import { ParseError } from "../errors.js";
import { BooleanColumn, describeColumns, makeTable, NullableColumn, type Column, type Columns, type ColumnSpec } from "../source/columns.js";
import { setAccounting, type Accounting } from "../source/lines.js";
import { areWhole, cellsOfTable, emptyColumn, StringCells, type Cells, type Described, type Missing, type Numbers } from "./cells.js";
import { LIBRARY_VERSION } from "./version.js";

// The Arrow IPC file format ("Feather 2"), which pandas and polars read. One record batch per table.
// Column descriptions stand in each field's metadata (unit, meaning …), the accounting in the schema's.

/** Keys in the schema's metadata. */
const ACCOUNTING = "kernel-lib.accounting", SOURCE = "kernel-lib.source", VERSION = "kernel-lib.version";
/** Opens and closes a file; a stream has neither. */
const MAGIC = "ARROW1";
const magic = (bytes: Uint8Array, at: number): boolean => Buffer.from(bytes.subarray(Math.max(at, 0), at + MAGIC.length)).toString("latin1") === MAGIC;

/**
 * A table as an Arrow IPC file's bytes. Filtered rows are left out, and rows stand in the table's order.
 * Strings become dictionary columns; columns in ns become 64-bit integers where all values are whole, other numbers stay what they are;
 * null is null. The columns' descriptions and the accounting travel along.
 * @throws OptionError for a column of anything but numbers, strings and booleans
 */
export function toArrow(table: ColumnTable): Uint8Array {
  const { cells, described } = cellsOfTable(table);
  return tableToIPC(arrowTable(new Map([...cells].map(([name, own]) => [name, arrowColumn(own, described.columns[name])])), described), { format: "file" })!;
}

/** Columns, their descriptions and the accounting, as flechette takes them. */
export function arrowTable(columns: Map<string, ArrowColumn<any>>, { columns: specs, accounting }: Described): ArrowTable {
  const metadata = new Map([[VERSION, LIBRARY_VERSION]]);
  if (accounting) metadata.set(SOURCE, accounting.source).set(ACCOUNTING, JSON.stringify(accounting));
  const schema = {
    version: Version.V5, endianness: Endianness.Little, metadata,
    fields: [...columns].map(([name, column]) => field(name, column.type, true, specs[name] ? specMetadata(specs[name]) : null)),
  };
  return new ArrowTable(schema as ArrowTable["schema"], [...columns.values()]);
}

/** Writes a table as an Arrow IPC file (see `toArrow`), which `readArrow`, pandas and polars read. */
export async function writeArrow(table: ColumnTable, path: string): Promise<void> {
  await writeFile(path, toArrow(table));
}

/**
 * A table from an Arrow IPC file's or stream's bytes, with the descriptions and the accounting that `toArrow` put there. Files of other
 * programs are read too where they are not compressed: strings become dictionary columns; 64-bit integers become numbers and have to be within ±2⁵³.
 * @throws ParseError where the bytes are not Arrow, or an integer is too large
 */
export function fromArrow(bytes: Uint8Array, options: {
  /** Name for messages; default "bytes". */
  name?: string;
} = {}): ColumnTable {
  const name = options.name ?? "bytes";
  let arrow: ArrowTable;
  try {
    // flechette takes an empty input for a table, and fails on a file without its end with words that help nobody.
    if (bytes.length === 0) throw new Error("it is empty");
    if (magic(bytes, 0) && !magic(bytes, bytes.length - MAGIC.length)) throw new Error("its end is missing");
    arrow = tableFromIPC(bytes);
  } catch (error) {
    const reason = (error as Error).message;
    throw new ParseError(magic(bytes, 0) && magic(bytes, bytes.length - MAGIC.length)
      ? `cannot read this Arrow file (${reason}); write it without compression, strings as plain strings`
      : `not an Arrow file (${reason}); kernel-lib table FILE --as arrow makes one`, name);
  }
  const { schema } = arrow;
  const columns: Columns = {}, data: Record<string, Column<any>> = {};
  schema.fields.forEach((field, i) => {
    const spec = specOf(field.metadata);
    if (spec) columns[field.name] = spec;
    try {
      data[field.name] = ownColumn(arrow.getChildAt(i), spec);
    } catch (error) {
      throw new ParseError(`column ${JSON.stringify(field.name)}: ${(error as Error).message}`, name);
    }
  });
  const every = Object.fromEntries(schema.fields.map(({ name }) => [name, columns[name] ?? { type: "number", unit: null, meaning: "" }] as const));
  const table = describeColumns(makeTable(every, data), columns);
  const account = schema.metadata?.get(ACCOUNTING);
  if (account !== undefined) setAccounting(table, JSON.parse(account) as Accounting);
  return table;
}

/** Reads a table from an Arrow IPC file (see `fromArrow`). */
export async function readArrow(path: string): Promise<ColumnTable> {
  return fromArrow(await readFile(path), { name: path });
}

function specMetadata(spec: ColumnSpec): Map<string, string> {
  return new Map(Object.entries(spec).filter(([, value]) => value !== null && value !== undefined).map(([key, value]) => [key, String(value)]));
}

function specOf(metadata: Map<string, string> | null | undefined): ColumnSpec | null {
  const type = metadata?.get("type"), meaning = metadata?.get("meaning"), when = metadata?.get("null");
  if (!metadata || meaning === undefined || (type !== "number" && type !== "string" && type !== "boolean" && type !== "hex")) return null;
  return { type, unit: metadata.get("unit") ?? null, ...(metadata.get("base") === "16" ? { base: 16 as const } : {}), meaning, ...(when === undefined ? {} : { null: when }) };
}

type Values = Numbers | BigInt64Array;
type ArrowType = ReturnType<typeof field>["type"];

const NONE = new Uint8Array(0);

/** A column of one batch. */
function batch(type: ArrowType, values: Values, length: number, missing: Missing): ArrowColumn<any> {
  let nullCount = 0, validity = NONE;
  if (missing) {
    validity = new Uint8Array((length + 7) >> 3);
    for (let i = 0; i < length; i++) {
      if (missing(i)) nullCount++;
      else validity[i >> 3] |= 1 << (i & 7);
    }
    if (nullCount === 0) validity = NONE;
  }
  const Batch = batchType(type);
  return new ArrowColumn([new Batch({ length, nullCount, type, validity, values })], type);
}

function strings(codes: Int32Array, values: readonly string[]): ArrowColumn<any> {
  const encoded = values.map((value) => Buffer.from(value, "utf8"));
  const offsets = new Int32Array(values.length + 1);
  encoded.forEach((bytes, i) => { offsets[i + 1] = offsets[i] + bytes.length; });
  const text = utf8(), type = dictionary(text, int32());
  const Text = batchType(text);
  const words = new ArrowColumn<any>([new Text({ length: values.length, nullCount: 0, type: text, validity: NONE, offsets, values: Buffer.concat(encoded) })], text);
  const missing = (row: number) => codes[row] < 0;
  const column = batch(type, codes.map((code) => Math.max(code, 0)), codes.length, missing);
  (column.data[0] as unknown as { setDictionary(words: unknown): void }).setDictionary(words);
  return column;
}

function numbers(data: Numbers, length: number, spec: ColumnSpec | undefined, missing: Missing): ArrowColumn<any> {
  if (data instanceof Float64Array && spec?.unit === "ns" && areWhole(data, missing)) {
    return batch(int64(), BigInt64Array.from(data, (x) => (x !== x ? 0n : BigInt(x))), length, missing);
  }
  const type = data instanceof Int8Array ? int8() : data instanceof Uint8Array ? uint8() : data instanceof Int16Array ? int16() : data instanceof Uint16Array ? uint16()
    : data instanceof Int32Array ? int32() : data instanceof Uint32Array ? uint32() : float64();
  return batch(type, data, length, missing);
}

function bits(length: number, at: (row: number) => boolean, missing: Missing): ArrowColumn<any> {
  const values = new Uint8Array((length + 7) >> 3);
  for (let i = 0; i < length; i++) if (at(i)) values[i >> 3] |= 1 << (i & 7);
  return batch(bool(), values, length, missing);
}

export function arrowColumn(cells: Cells, spec: ColumnSpec | undefined): ArrowColumn<any> {
  if (cells.kind === "string") return strings(cells.codes, cells.values);
  if (cells.kind === "boolean") return bits(cells.length, cells.at, cells.missing);
  return numbers(cells.data, cells.length, spec, cells.missing);
}

/** An Arrow column as one of ours. */
function ownColumn(column: ArrowColumn<any>, spec: ColumnSpec | null): Column<any> {
  const { length, nullCount } = column;
  const type = column.type ?? null;
  if (type === null || length === 0) return emptyColumn(spec);
  const value = type.typeId === Type.Dictionary ? (type as { dictionary: ArrowType }).dictionary : type;
  if (value.typeId === Type.Utf8 || value.typeId === Type.LargeUtf8 || value.typeId === Type.Utf8View) {
    const cells = new StringCells(new Int32Array(length));
    let row = 0;
    for (const text of column as Iterable<string | null>) cells.set(row++, text);
    return cells.finish();
  }
  if (type.typeId === Type.Bool) {
    return nullCount === 0 ? new BooleanColumn(Uint8Array.from(column as Iterable<any>, Number)) : column.toArray() as unknown as Column<any>;
  }
  if (type.typeId === Type.Int || type.typeId === Type.Float) {
    if (nullCount === 0) return (column.toArray() as unknown as Float64Array).slice(); // not a view of the file's bytes, which would all be kept for one column
    const data = new Float64Array(length);
    let row = 0, nan = false;
    for (const x of column as Iterable<number | null>) {
      if (x !== x) nan = true;
      data[row++] = x ?? NaN;
    }
    // NaN stands for null in our own columns, so one that has both is left as it is.
    if (!nan) return new NullableColumn(data);
  }
  return Array.from(column as Iterable<unknown>) as unknown as Column<any>;
}
