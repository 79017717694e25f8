import { createRequire } from "node:module";
import { ColumnTable } from "arquero";
import { KernelLibError, OptionError } from "./errors.js";
import { BooleanColumn, columnsOf, describeColumns, NumberBuilder, StringBuilder, type Column } from "./source/columns.js";

/**
 * A DataFrame of danfojs-node, as far as this library knows it. Danfo's own types are not named, so that programs
 * compile where danfo is not installed.
 */
export interface DanfoFrame {
  readonly columns: string[];
  readonly dtypes: string[];
  readonly shape: number[];
  readonly values: any;
  [member: string]: any;
}

type Danfo = { DataFrame: new (data: unknown[][], options: { columns: string[]; dtypes: string[] }) => DanfoFrame };

let danfo: Danfo | null = null;

/** Whether an optional package is there, without loading it. */
export function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}

/** Loads danfo on first use: it takes over a second, and most people do without. */
function needDanfo(): Danfo {
  if (danfo) return danfo;
  try {
    return (danfo = createRequire(import.meta.url)("danfojs-node") as Danfo);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "MODULE_NOT_FOUND") throw error;
    throw new KernelLibError("danfojs-node is not installed. In a clone of the lab: npm ci; in a project of your own: npm install danfojs-node@1.2.0, with the overrides that the lab's package.json has");
  }
}

/**
 * A table as a danfo DataFrame. Numbers become int32 (whole ones) or float32, which in danfo are names: the values stay JavaScript
 * numbers, exact as before, except in `frame.tensor`. Null stays null. Descriptions of columns stay behind.
 * danfo's grouped mean takes null for 0; drop such rows first: `frame.dropNa()`. A column named like a method of DataFrame (min, max, count …) hides that method.
 * @throws KernelLibError where danfojs-node is not installed, OptionError for a column that a DataFrame cannot hold
 */
export function toDanfo(table: ColumnTable): DanfoFrame {
  const { DataFrame } = needDanfo();
  const columns = table.columnNames();
  // Danfo makes each column a property of the frame, also over those that it works with itself.
  const empty = new DataFrame([], { columns: [], dtypes: [] });
  for (const name of columns) {
    if (name.startsWith("$") || isAccessor(empty, name)) throw new OptionError(`a DataFrame cannot have a column ${JSON.stringify(name)}, since it has a property of that name; rename it first: table.rename({ ${JSON.stringify(name)}: … })`);
  }
  const known = columnsOf(table);
  const values = columns.map((name) => table.array(name) as Iterable<unknown>).map((column) => Array.from(column, (value) => value === undefined || (typeof value === "number" && Number.isNaN(value)) ? null : value));
  const dtypes = columns.map((name, i) => dtypeOf(name, values[i], known[name]?.type));
  const rows = Array.from({ length: table.numRows() }, (_, row) => values.map((column) => column[row]));
  return new DataFrame(rows, { columns, dtypes });
}

function isAccessor(frame: object, name: string): boolean {
  for (let at: object | null = frame; at && at !== Object.prototype; at = Object.getPrototypeOf(at) as object | null) {
    const found = Object.getOwnPropertyDescriptor(at, name);
    if (found) return found.get !== undefined;
  }
  return false;
}

function dtypeOf(name: string, values: unknown[], type: string | undefined): string {
  const kinds = new Set(values.filter((value) => value !== null).map((value) => typeof value));
  if (kinds.size > 1) throw new OptionError(`column ${JSON.stringify(name)} holds ${[...kinds].join(" and ")}s; a DataFrame's column holds one kind`);
  const [kind] = kinds.size === 1 ? kinds : [type === "hex" ? "string" : type ?? "string"];
  switch (kind) {
    case "number": return values.every((value) => value === null || Number.isSafeInteger(value)) && kinds.size === 1 ? "int32" : "float32";
    case "string": return "string";
    case "boolean": return "boolean";
    default: throw new OptionError(`column ${JSON.stringify(name)} holds values of type ${kind}, which a DataFrame cannot; derive numbers or strings from it first`);
  }
}

/**
 * A danfo DataFrame as a table: numbers, strings and booleans as they are, with null for null, undefined and NaN. Row labels
 * (frame.index) stay behind.
 * @param options.like table whose columns' descriptions (units, meanings) hold for columns of the same name; default none
 * @throws OptionError for what is no DataFrame
 */
export function fromDanfo(frame: DanfoFrame, options: { like?: ColumnTable } = {}): ColumnTable {
  if (!Array.isArray(frame?.columns) || !Array.isArray(frame.dtypes) || frame["$isSeries"]) throw new OptionError("fromDanfo takes a DataFrame of danfojs-node; make one of a Series with new DataFrame({ name: series.values })");
  const names = frame.columns.map(String), rows = frame.values as unknown[][];
  const data: Record<string, Column<any>> = {};
  names.forEach((name, i) => { data[name] = columnOf(name, rows.map((row) => row[i] ?? null), frame.dtypes[i]); });
  const table = new ColumnTable(data as any, names);
  if (!options.like) return table;
  const known = columnsOf(options.like);
  return describeColumns(table, Object.fromEntries(names.filter((name) => known[name]).map((name) => [name, known[name]])));
}

/** By what the values are; dtypes only where there are none, since danfo takes strings of digits for numbers. */
function columnOf(name: string, values: unknown[], dtype: string | undefined): Column<any> {
  const there = values.filter((value) => value !== null && value === value);
  const kinds = new Set(there.map((value) => typeof value));
  if (kinds.size > 1) throw new OptionError(`column ${JSON.stringify(name)} holds ${[...kinds].join(" and ")}s; make them one kind first`);
  const kind = kinds.size === 1 ? [...kinds][0] : dtype === "string" ? "string" : dtype === "boolean" ? "boolean" : "number";
  if (kind === "number") {
    const column = new NumberBuilder();
    for (const value of values) column.push(value === null ? NaN : value as number);
    return column.finish();
  }
  if (kind === "string") {
    const column = new StringBuilder();
    for (const value of values) column.push(typeof value === "string" ? value : null);
    return column.finish();
  }
  if (kind === "boolean") {
    if (there.length === values.length) return new BooleanColumn(Uint8Array.from(values as boolean[], Number));
    return values.map((value) => (typeof value === "boolean" ? value : null)) as unknown as Column<any>;
  }
  throw new OptionError(`column ${JSON.stringify(name)} holds values of type ${kind}; make numbers or strings of them first`);
}
