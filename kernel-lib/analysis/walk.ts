import type { ColumnTable } from "arquero";
import type { Column } from "../source/columns.js";
import { DictionaryColumn, NullableColumn } from "../source/columns.js";
import { KernelLibError } from "../errors.js";
import type { Trace } from "../trace.js";

// What the analyses that walk all events of a trace share: events as small integers, fields as plain arrays,
// threads as dense indices, and where the recorder was blind.

/** For each code of the trace's event dictionary, what `kind` says of that name; 0 is "of no interest". */
export function kindsOf(trace: Trace, kind: (event: string) => number): Uint8Array {
  return Uint8Array.from(trace.raw.event.values, kind);
}

/** A field of an event as an array of numbers, NaN for null; null where the trace or this event lacks it. */
export function numbersOf(trace: Trace, event: string, name: string): ArrayLike<number> | null {
  const column = trace.raw.fields(event)?.[name];
  if (column === undefined) return null;
  if (column instanceof NullableColumn) return column.data;
  if (ArrayBuffer.isView(column)) return column as unknown as ArrayLike<number>;
  return Float64Array.from(column, (x) => (x === null ? NaN : Number(x)));
}

/** A field of an event as codes into a list of strings; null where the trace or this event lacks it. */
export function wordsOf(trace: Trace, event: string, name: string): DictionaryColumn | null {
  const column = trace.raw.fields(event)?.[name];
  if (column === undefined) return null;
  if (column instanceof DictionaryColumn) return column;
  const codes = new Map<string, number>();
  const list = Int32Array.from([...column as Iterable<unknown>], (x) => {
    if (x === null) return -1;
    const text = String(x), code = codes.get(text) ?? codes.size;
    codes.set(text, code);
    return code;
  });
  return new DictionaryColumn(list, [...codes.keys()]);
}

/** For a field that an analysis cannot do without. @throws KernelLibError where the trace does not give it. */
export function needed<T>(column: T | null, trace: Trace, analysis: string, field: string): T {
  if (column !== null) return column;
  throw new KernelLibError(`${analysis} needs the field ${field}, which ${trace.source} does not give; report the recording again without options that leave fields out`);
}

/** A column's values at some of its rows; -1 gives null. */
export function pick(column: Column<any> | null | undefined, rows: Int32Array): Column<any> {
  if (column instanceof DictionaryColumn) return column.take(rows);
  const data = new Float64Array(rows.length).fill(NaN);
  if (column) {
    const from = column instanceof NullableColumn ? column.data : column;
    for (let i = 0; i < rows.length; i++) {
      if (rows[i] >= 0) data[i] = ArrayBuffer.isView(from) ? (from as Float64Array)[rows[i]] : Number(column.at(rows[i]) ?? NaN);
    }
  }
  return new NullableColumn(data);
}

/** For a table, a function from a column's name to its values by row (as `table.scan` gives them); null where the table lacks the column. */
export function columnReader(table: ColumnTable): (name: string) => (row: number) => unknown {
  const names = table.columnNames();
  return (name) => {
    if (!names.includes(name)) return () => null;
    const column = table.column(name) as Column<unknown>;
    return (row) => column.at(row);
  };
}

/** The kernel gives thread ids below this (PID_MAX_LIMIT, include/linux/threads.h). A damaged text may name any number. */
const MOST_TIDS = 1 << 22;

/** Thread ids → 0, 1, 2 …, for all threads that some columns name. */
export class Threads {
  private readonly index: Int32Array;
  /** Numbers that are no thread's, and -1, which perf prints for a thread that it does not know. */
  private readonly others = new Map<number, number>();
  readonly tids: number[] = [];
  constructor(columns: (ArrayLike<number> | null)[]) {
    let max = 0;
    for (const list of columns) if (list) for (let i = 0; i < list.length; i++) if (list[i] > max) max = list[i];
    this.index = new Int32Array(Math.min(max + 1, MOST_TIDS)).fill(-1);
    for (const list of columns) {
      if (!list) continue;
      for (let i = 0; i < list.length; i++) {
        const tid = list[i];
        if (tid !== tid || this.of(tid) >= 0) continue;
        const index = this.tids.push(tid) - 1;
        if (tid >= 0 && tid < this.index.length) this.index[tid] = index;
        else this.others.set(tid, index);
      }
    }
  }
  /** A thread's index; -1 for what is no thread of the trace, and for NaN. */
  of(tid: number): number {
    if (tid >= 0 && tid < this.index.length) return this.index[tid];
    return this.others.get(tid) ?? -1;
  }
  get size(): number { return this.tids.length; }
}

/** Whether a prev_state of sched_switch means that the thread could have run on: "R", "R+", or the raw numbers of `trace-cmd report -R`. */
export function isRunnable(state: string): boolean {
  return state.startsWith("R") || /^(0x)?0*(100)?$/.test(state);
}

/** A stretch in which the recorder lost events of one CPU. */
export interface Gap {
  cpu: number;
  /** Index of the first event that may have unseen ones before it: the one after the last kept event of that CPU. */
  opens: number;
  /** Index of that CPU's first event after the gap; the trace's length where there is none. */
  closes: number;
}

/** Where the recorder was blind, in the order in which the gaps open. `side`: code of the file in a merged report, -1 for the only one. */
export function gapsOf(trace: Trace, side: number): Gap[] {
  const { cpu, length } = trace.raw;
  const sideCodes = trace.raw.side?.codes ?? null, sideName = trace.raw.side?.values[side] ?? null;
  const gaps: Gap[] = [];
  for (const lost of trace.lost.objects() as { cpu: number; from: number | null; to: number | null; position: number; side: string | null }[]) {
    if (sideName !== null && lost.side !== null && lost.side !== sideName) continue;
    const isOf = (i: number): boolean => cpu[i] === lost.cpu && (sideCodes === null || sideCodes[i] === side);
    let opens = lost.from === null ? 0 : lost.position, closes = lost.to === null ? length : lost.position;
    while (opens > 0 && !isOf(opens - 1)) opens--;
    while (closes < length && !isOf(closes)) closes++;
    gaps.push({ cpu: lost.cpu, opens, closes });
  }
  return gaps.sort((a, b) => a.opens - b.opens);
}

/** Index of the first event at or after a time, in a trace sorted by time. */
export function firstAt(ts: Float64Array, length: number, time: number): number {
  let low = 0, high = length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ts[middle] < time) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** In a report of several files together, the code of the side that ran the guests: the one with kvm_exit events. -1 where there is one file. */
export function hostSide(trace: Trace): number {
  const { side, event, length } = trace.raw;
  if (!side) return -1;
  const exit = event.values.indexOf("kvm_exit");
  for (let i = 0; i < length; i++) if (event.codes[i] === exit) return side.codes[i];
  return side.length > 0 ? side.codes[0] : -1;
}
