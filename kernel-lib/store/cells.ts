import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { BooleanColumn, columnsOf, DictionaryColumn, narrowCodes, NullableColumn, type Column, type Columns, type ColumnSpec } from "../source/columns.js";
import { accountingOf, type Accounting } from "../source/lines.js";

// What a file format has to hold of a column, whatever made it: strings by codes, numbers, or booleans; and which rows are null.

export type Numbers = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float64Array;
/** Tells which rows are null; null itself where none is. */
export type Missing = ((row: number) => boolean) | null;
export type Cells =
  /** Each value occurs at least once; -1 stands for null. */
  | { kind: "string"; length: number; codes: Int32Array; values: readonly string[] }
  | { kind: "number"; length: number; data: Numbers; missing: Missing }
  | { kind: "boolean"; length: number; at: (row: number) => boolean; missing: Missing };

/** What travels with a table besides its values. */
export interface Described {
  columns: Columns;
  accounting: Accounting | null;
}

/** A table's columns as cells, in order; rows that are filtered out left out. @throws OptionError for a column of anything but numbers, strings and booleans */
export function cellsOfTable(table: ColumnTable): { cells: Map<string, Cells>; described: Described } {
  const columns = columnsOf(table);
  const data = (table.isFiltered() || table.isOrdered() ? table.reify() : table).data() as Record<string, Column<any>>;
  return {
    cells: new Map(table.columnNames().map((name) => [name, cellsOf(name, data[name], columns[name])])),
    described: { columns: Object.fromEntries(table.columnNames().filter((name) => columns[name]).map((name) => [name, columns[name]])), accounting: accountingOf(table) },
  };
}

function cellsOf(name: string, column: Column<any>, spec: ColumnSpec | undefined): Cells {
  const { length } = column;
  if (column instanceof DictionaryColumn) return strings(column);
  if (column instanceof NullableColumn) return { kind: "number", length, data: column.data, missing: (row) => column.data[row] !== column.data[row] };
  if (column instanceof BooleanColumn) return { kind: "boolean", length, at: (row) => column.data[row] !== 0, missing: null };
  if (column instanceof Float64Array || column instanceof Int8Array || column instanceof Uint8Array || column instanceof Int16Array || column instanceof Uint16Array
    || column instanceof Int32Array || column instanceof Uint32Array) return { kind: "number", length, data: column, missing: null };
  // What a verb made: a plain array, or a column of another library.
  const rows = Array.from({ length }, (_, row) => (column.at(row) ?? null) as unknown);
  const missing = rows.includes(null) ? (row: number) => rows[row] === null : null;
  const kinds = new Set(rows.filter((value) => value !== null).map((value) => typeof value));
  const [kind = spec?.type === "number" || spec?.type === "boolean" ? spec.type : "string"] = kinds;
  if (kinds.size <= 1 && kind === "number") return { kind, length, data: Float64Array.from(rows, (value) => (value === null ? NaN : value as number)), missing };
  if (kinds.size <= 1 && kind === "boolean") return { kind, length, at: (row) => rows[row] === true, missing };
  if (kinds.size <= 1 && kind === "string") {
    const words = new Map<string, number>();
    const codes = Int32Array.from(rows, (value) => {
      if (value === null) return -1;
      const code = words.get(value as string) ?? words.size;
      words.set(value as string, code);
      return code;
    });
    return { kind, length, codes, values: [...words.keys()] };
  }
  throw new OptionError(`column ${JSON.stringify(name)} holds ${[...kinds].join(" and ")} values, and a file's column numbers, strings or booleans; derive one of them, or leave it out: table.select(not(${JSON.stringify(name)}))`);
}

/** A table that is part of another (one event's of a trace) shares that one's strings; those that it does not use stay behind. */
function strings({ codes, words }: DictionaryColumn): Cells {
  const used = new Int32Array(words.size).fill(-1), kept: string[] = [], own = new Int32Array(codes.length);
  for (let row = 0; row < codes.length; row++) {
    const code = codes[row];
    own[row] = code < 0 ? -1 : used[code] < 0 ? (used[code] = kept.push(words.get(code)) - 1) : used[code];
  }
  return { kind: "string", length: codes.length, codes: own, values: kept };
}

/** Whether all numbers are integers that a 64-bit integer holds and gives back as they were; null where a row is missing. */
export function areWhole(data: Numbers, missing: Missing): boolean {
  return !(data instanceof Float64Array) || data.every((x, row) => (Number.isSafeInteger(x) && !Object.is(x, -0)) || (missing?.(row) ?? false));
}

/** Strings that were read, each distinct one stored once. */
export class StringCells {
  private readonly words = new Map<string, number>();
  constructor(private readonly codes: Int32Array) {}
  set(row: number, text: string | null | undefined): void {
    if (text === null || text === undefined) { this.codes[row] = -1; return; }
    let code = this.words.get(text);
    if (code === undefined) this.words.set(text, (code = this.words.size));
    this.codes[row] = code;
  }
  finish(): DictionaryColumn { return new DictionaryColumn(narrowCodes(this.codes, this.codes.length, this.words.size), [...this.words.keys()]); }
}

/** A column without rows, of the kind that its description names. */
export function emptyColumn(spec: ColumnSpec | null | undefined): Column<any> {
  if (spec?.type === "number") return new Float64Array(0);
  if (spec?.type === "boolean") return new BooleanColumn(new Uint8Array(0));
  return spec ? new DictionaryColumn(new Int32Array(0), []) : [];
}
