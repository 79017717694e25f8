import { ColumnTable } from "arquero";
import { BooleanColumn, IntBuilder, NumberBuilder, StringBuilder, type Column } from "./builders.js";

export * from "./builders.js";

/** What a column holds, in words; `kl.describe(table)` shows it. One of these stands for every column of every table. */
export interface ColumnSpec {
  /** hex: a 64-bit number as the string "0x…", since a JavaScript number cannot hold it exactly. */
  type: "number" | "string" | "boolean" | "hex";
  /** ns, s, bytes, bit/s, %, count, …; null where the column is a name or a plain identifier. */
  unit: string | null;
  /** 16 for numbers that people know in hexadecimal, such as addresses; left out for the others. */
  base?: 16;
  meaning: string;
  /** When the value is null; left out where it never is. */
  null?: string;
}
export type Columns = Record<string, ColumnSpec>;

type Value<S extends ColumnSpec> = S["type"] extends "number" ? number : S["type"] extends "boolean" ? boolean : string;
/** The row type that a list of columns describes. */
export type RowOf<C extends Columns> = { -readonly [K in keyof C]: C[K] extends { null: string } ? Value<C[K]> | null : Value<C[K]> };

const specs = new WeakMap<object, Columns>();
/** By the column itself, which most of Arquero's verbs hand on as it is. */
const byColumn = new WeakMap<object, ColumnSpec>();
/** By name, the unit where all tables that have such a column agree on it; null where they do not. What it means there is not known. */
const byName = new Map<string, ColumnSpec | null>();

/** Makes columns known by name, for tables whose columns are new (joins, rollups). Done once, for all tables there are. */
export function knowNames(columns: Columns): void {
  for (const [name, spec] of Object.entries(columns)) {
    const known = byName.get(name);
    if (known === undefined) byName.set(name, { type: spec.type, unit: spec.unit, base: spec.base, meaning: "" });
    else if (known && (known.unit !== spec.unit || known.type !== spec.type || known.base !== spec.base)) byName.set(name, null);
  }
}

/** A table with its columns' descriptions attached. `data` holds one column per entry of `columns`. */
export function makeTable<C extends Columns>(columns: C, data: { [K in keyof C]: Column<any> }): ColumnTable {
  const names = Object.keys(columns);
  const lengths = new Set(names.map((name) => data[name].length));
  if (lengths.size > 1) throw new Error(`columns differ in length: ${names.map((name) => `${name} ${data[name].length}`).join(", ")}`);
  const table = new ColumnTable(Object.fromEntries(names.map((name) => [name, data[name]])) as any, names);
  specs.set(table, columns);
  for (const name of names) byColumn.set(data[name], columns[name]);
  return table;
}

/** A table from row objects, for the formats whose tables are small. */
export function tableOf<C extends Columns>(columns: C, rows: Iterable<RowOf<C>>): ColumnTable {
  const names = Object.keys(columns);
  const builders = names.map((name) => {
    const { type } = columns[name];
    return type === "number" ? new NumberBuilder() : type === "boolean" ? new IntBuilder() : new StringBuilder();
  });
  for (const row of rows) {
    names.forEach((name, i) => {
      const value = (row as Record<string, unknown>)[name];
      const builder = builders[i];
      if (builder instanceof NumberBuilder) builder.push(value === null || value === undefined ? NaN : value as number);
      else if (builder instanceof IntBuilder) builder.push(value ? 1 : 0);
      else builder.push(value === undefined ? null : value as string | null);
    });
  }
  return makeTable(columns, Object.fromEntries(names.map((name, i) => {
    const builder = builders[i];
    return [name, builder instanceof IntBuilder ? new BooleanColumn(Uint8Array.from(builder.finish())) : builder.finish()];
  })) as unknown as { [K in keyof C]: Column<any> });
}

/**
 * What is known of a table's columns. Of a table that Arquero verbs made, columns taken over from another table keep what was
 * known of them there; of new ones (of a rollup, a join) the unit is told by the name, where that has the same one in every table.
 */
export function columnsOf(table: ColumnTable): Columns {
  const own = specs.get(table);
  if (own) return own;
  const found: Columns = {}, data = table.data() as Record<string, Column<any>>;
  for (const name of table.columnNames()) {
    const spec = byColumn.get(data[name]) ?? byName.get(name);
    if (spec) found[name] = spec;
  }
  return found;
}

/** Attaches column descriptions to a table that another function made (a join, a rollup). */
export function describeColumns(table: ColumnTable, columns: Columns): ColumnTable {
  specs.set(table, columns);
  const data = table.data() as Record<string, Column<any>>;
  for (const name of table.columnNames()) if (columns[name] && typeof data[name] === "object") byColumn.set(data[name], columns[name]);
  return table;
}
