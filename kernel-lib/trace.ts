import type { ColumnTable } from "arquero";
import { MissingEventError } from "./errors.js";
import type { Column, Columns, DictionaryColumn } from "./source/columns.js";

/**
 * A recording of kernel events. Plain data: analyses are functions beside it.
 * Events are in the order of the text, which breaks ties between equal times.
 */
export interface Trace {
  /** Path of the text that it was read from. */
  source: string;
  /** All events: ts, cpu, pid, comm, event; where the text has them side (of a merged report), flags, tgid; info where an event's columns do not say it all. */
  events: ColumnTable;
  /** Names of the events that occur, most frequent first. */
  eventNames: string[];
  /** One event's table: ts, cpu, pid, comm and its own typed columns. @throws MissingEventError when it does not occur. */
  of(event: string): ColumnTable;
  /** Where the recorder lost events: cpu, how many (null where it did not say), between which times. */
  lost: ColumnTable;
  /** How many events with columns of their own had a text that no known layout fits: their columns are null, `info` keeps the text. */
  undecoded: number;
  /** Number of CPUs that the recorder names, else 1 + the highest seen; of several files together, that of the one with most (`sides` has each). */
  cpus: number;
  /** The files of a merged report, or the traces joined: side, cpus, events; null where there is one. */
  sides: ColumnTable | null;
  /** The arrays behind the tables, for analyses that walk all events. */
  raw: TraceArrays;
}

export interface TraceArrays {
  length: number;
  /** ns since boot (or ticks of the raw clock). */
  ts: Float64Array;
  cpu: Int16Array;
  /** Thread id, as the tracer prints it. */
  pid: Int32Array;
  comm: DictionaryColumn;
  event: DictionaryColumn;
  /** Row of this event within its own table: `fields("kvm_mmio").gpa.at(slot[i])`. */
  slot: Int32Array;
  /** Which file of a merged report an event came from; null where there is one file. */
  side: DictionaryColumn | null;
  /** An event's own columns, without ts, cpu, pid, comm; null where the event does not occur. */
  fields(event: string): Record<string, Column<any>> | null;
  /** What those columns mean. */
  fieldSpecs(event: string): Columns;
}

/** Fails helpfully when a trace lacks events that an analysis needs. */
export function needEvents(trace: Trace, analysis: string, events: string[], record = "trace-cmd record -e kvm -e sched"): void {
  const missing = events.filter((event) => !trace.eventNames.includes(event));
  if (missing.length > 0) throw new MissingEventError(analysis, missing, trace.eventNames, record);
}
