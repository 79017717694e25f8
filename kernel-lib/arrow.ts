import { readFile, writeFile } from "node:fs/promises";
import {
  batchType, bool, Column as ArrowColumn, dictionary, Endianness, field, float64, int16, int32, int64, int8, Table as ArrowTable, tableFromIPC, tableToIPC, Type, uint16,
  uint32, uint8, utf8, Version,
} from "@uwdata/flechette";
import type { ColumnTable } from "arquero";
import { OptionError, ParseError } from "./errors.js";
import {
  BooleanColumn, columnsOf, describeColumns, DictionaryColumn, makeTable, NullableColumn, type Column, type Columns, type ColumnSpec,
} from "./source/columns.js";
import { accountingOf, setAccounting, type Accounting } from "./source/lines.js";

// The Arrow IPC file format ("Feather 2"), which pandas and polars read. One record batch per table.
// Column descriptions stand in each field's metadata (unit, meaning …), the accounting in the schema's.

/** Key in the schema's metadata. */
const ACCOUNTING = "kernel-lib.accounting";
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
  const known = columnsOf(table);
  const data = (table.isFiltered() || table.isOrdered() ? table.reify() : table).data() as Record<string, Column<any>>;
  const names = table.columnNames();
  const children = names.map((name) => arrowColumn(name, data[name], known[name]));
  const account = accountingOf(table);
  const schema = {
    version: Version.V5, endianness: Endianness.Little,
    fields: names.map((name, i) => field(name, children[i].type, true, known[name] ? specMetadata(known[name]) : null)),
    metadata: account ? new Map([[ACCOUNTING, JSON.stringify(account)]]) : null,
  };
  return tableToIPC(new ArrowTable(schema as ArrowTable["schema"], children), { format: "file" })!;
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

type Values = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float64Array | BigInt64Array;
type ArrowType = ReturnType<typeof field>["type"];

const NONE = new Uint8Array(0);

/** A column of one batch. `missing` tells which rows are null. */
function batch(type: ArrowType, values: Values, length: number, missing: ((row: number) => boolean) | null): ArrowColumn<any> {
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

function strings({ codes, words: all }: DictionaryColumn): ArrowColumn<any> {
  // A table that is part of another (one event's of a trace) shares that one's strings; those that it does not use stay behind.
  const used = new Int32Array(all.size).fill(-1), kept: string[] = [], own = new Int32Array(codes.length);
  for (let row = 0; row < codes.length; row++) {
    const code = codes[row];
    if (code >= 0) own[row] = used[code] < 0 ? (used[code] = kept.push(all.get(code)) - 1) : used[code];
  }
  const encoded = kept.map((value) => Buffer.from(value, "utf8"));
  const offsets = new Int32Array(kept.length + 1);
  encoded.forEach((bytes, i) => { offsets[i + 1] = offsets[i] + bytes.length; });
  const text = utf8(), type = dictionary(text, int32());
  const Text = batchType(text);
  const words = new ArrowColumn<any>([new Text({ length: kept.length, nullCount: 0, type: text, validity: NONE, offsets, values: Buffer.concat(encoded) })], text);
  const column = batch(type, own, codes.length, (row) => codes[row] < 0);
  (column.data[0] as unknown as { setDictionary(words: unknown): void }).setDictionary(words);
  return column;
}

function numbers(data: Float64Array, spec: ColumnSpec | undefined, missing: ((row: number) => boolean) | null): ArrowColumn<any> {
  if (spec?.unit === "ns" && data.every((x, row) => (Number.isSafeInteger(x) && !Object.is(x, -0)) || (missing?.(row) ?? false))) {
    return batch(int64(), BigInt64Array.from(data, (x) => (x !== x ? 0n : BigInt(x))), data.length, missing);
  }
  return batch(float64(), data, data.length, missing);
}

function bits(length: number, at: (row: number) => boolean, missing: ((row: number) => boolean) | null): ArrowColumn<any> {
  const values = new Uint8Array((length + 7) >> 3);
  for (let i = 0; i < length; i++) if (at(i)) values[i >> 3] |= 1 << (i & 7);
  return batch(bool(), values, length, missing);
}

function arrowColumn(name: string, column: Column<any>, spec: ColumnSpec | undefined): ArrowColumn<any> {
  const { length } = column;
  if (column instanceof DictionaryColumn) return strings(column);
  if (column instanceof NullableColumn) return numbers(column.data, spec, (row) => column.data[row] !== column.data[row]);
  if (column instanceof BooleanColumn) return bits(length, (row) => column.data[row] !== 0, null);
  if (column instanceof Float64Array) return numbers(column, spec, null);
  if (column instanceof Int8Array) return batch(int8(), column, length, null);
  if (column instanceof Uint8Array) return batch(uint8(), column, length, null);
  if (column instanceof Int16Array) return batch(int16(), column, length, null);
  if (column instanceof Uint16Array) return batch(uint16(), column, length, null);
  if (column instanceof Int32Array) return batch(int32(), column, length, null);
  if (column instanceof Uint32Array) return batch(uint32(), column, length, null);
  // What a verb made: a plain array, or a column of another library.
  const rows = Array.from({ length }, (_, row) => (column.at(row) ?? null) as unknown);
  const missing = (row: number) => rows[row] === null;
  const kinds = new Set(rows.filter((value) => value !== null).map((value) => typeof value));
  const [kind = spec?.type === "number" || spec?.type === "boolean" ? spec.type : "string"] = kinds;
  if (kinds.size <= 1 && kind === "number") return numbers(Float64Array.from(rows, (value) => (value === null ? NaN : value as number)), spec, missing);
  if (kinds.size <= 1 && kind === "boolean") return bits(length, (row) => rows[row] === true, missing);
  if (kinds.size <= 1 && kind === "string") {
    const words = new Map<string, number>();
    const codes = Int32Array.from(rows, (value) => {
      if (value === null) return -1;
      const code = words.get(value as string) ?? words.size;
      words.set(value as string, code);
      return code;
    });
    return strings(new DictionaryColumn(codes, [...words.keys()]));
  }
  throw new OptionError(`column ${JSON.stringify(name)} holds ${[...kinds].join(" and ")} values, and an Arrow column numbers, strings or booleans; derive one of them, or leave it out: table.select(not(${JSON.stringify(name)}))`);
}

/** An Arrow column as one of ours. */
function ownColumn(column: ArrowColumn<any>, spec: ColumnSpec | null): Column<any> {
  const { length, nullCount } = column;
  const type = column.type ?? null;
  if (type === null || length === 0) {
    if (spec?.type === "number") return new Float64Array(0);
    if (spec?.type === "boolean") return new BooleanColumn(new Uint8Array(0));
    return spec === null ? [] : new DictionaryColumn(new Int32Array(0), []);
  }
  const value = type.typeId === Type.Dictionary ? (type as { dictionary: ArrowType }).dictionary : type;
  if (value.typeId === Type.Utf8 || value.typeId === Type.LargeUtf8 || value.typeId === Type.Utf8View) {
    const words = new Map<string, number>(), codes = new Int32Array(length);
    let row = 0;
    for (const text of column as Iterable<string | null>) {
      let code = -1;
      if (text !== null) {
        code = words.get(text) ?? words.size;
        if (code === words.size) words.set(text, code);
      }
      codes[row++] = code;
    }
    return new DictionaryColumn(codes, [...words.keys()]);
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
