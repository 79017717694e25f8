import { join } from "node:path";
import { expect } from "vitest";
import * as kl from "kernel-lib";
import { DATA, filesBelow } from "../peer.js";

/** That a table is the same after it went through a file: names, every value, descriptions, accounting. */
export function expectSame(back: kl.ColumnTable, original: kl.ColumnTable): void {
  expect(back.columnNames()).toEqual(original.columnNames());
  expect(back.numRows()).toBe(original.numRows());
  for (const name of original.columnNames()) {
    const before = original.array(name) as unknown[], after = back.array(name) as unknown[];
    const first = before.findIndex((value, row) => !Object.is(value ?? null, after[row]));
    expect(first < 0 ? "same" : { name, row: first, before: before[first], after: after[first] }).toBe("same");
  }
  expect(kl.describe(back).objects()).toEqual(kl.describe(original).objects());
}

const isTable = (value: unknown): value is kl.ColumnTable => value instanceof kl.ColumnTable;

const loaders: [RegExp, (path: string, options: kl.LoadOptions) => Promise<object>][] = [
  [/^iperf3.*\.(txt|json)$/, kl.loadIperf3], [/^perf-stat(-|\.)?.*\.(txt|csv|json)$/, kl.loadPerfStat], [/^perf-kvm-stat[^.]*\.txt$/, kl.loadPerfKvmStat],
  [/^perf-(kvm-)?report[^.]*\.txt$/, kl.loadPerfReport], [/^perf-script.*\.txt(\.gz)?$/, kl.loadPerfScript], [/^trace-cmd(-[a-z]+)?\.txt(\.gz)?$/, kl.loadTraceCmd],
  [/^ftrace-trace\.txt\.gz$/, kl.loadTraceCmd], [/^virtiostat\.txt$/, kl.loadVirtiostat],
];
const loaderOf = (path: string) => /iperf3\.txt$/.test(path) ? kl.loadIperf3 : loaders.find(([name]) => name.test(path.slice(path.lastIndexOf("/") + 1)))?.[1];

/** Recordings of every format. */
export const recordings: string[] = [...filesBelow(join(DATA, "talk"), /./), ...filesBelow(join(DATA, "capture", "virtio"), /./)].filter(loaderOf);

/** All tables of a recording. */
export async function tablesOf(path: string): Promise<kl.ColumnTable[]> {
  const result = await loaderOf(path)!(path, { quiet: true });
  if ("eventNames" in result) {
    const trace = result as kl.Trace;
    return [trace.events, trace.lost, ...trace.eventNames.map((event) => trace.of(event))];
  }
  return isTable(result) ? [result] : Object.values(result).filter(isTable);
}

/** That a trace is the same: every event in its order with all its columns, lost events, counts, accounting. */
export function expectSameTrace(back: kl.Trace, original: kl.Trace): void {
  expectSame(back.events, original.events);
  expect(back.eventNames).toEqual(original.eventNames);
  for (const event of original.eventNames) expectSame(back.of(event), original.of(event));
  expectSame(back.lost, original.lost);
  const { length, ts, cpu, pid, slot } = original.raw;
  expect({ ...back.raw, ts: null, cpu: null, pid: null, slot: null, comm: null, event: null, side: null, fields: null, fieldSpecs: null })
    .toEqual({ length, ts: null, cpu: null, pid: null, slot: null, comm: null, event: null, side: null, fields: null, fieldSpecs: null });
  for (const [name, array] of Object.entries({ ts, cpu, pid, slot })) {
    const after = back.raw[name as "ts"];
    expect([name, after.constructor.name, after.findIndex((x, i) => x !== array[i])]).toEqual([name, array.constructor.name, -1]);
  }
  for (const event of original.eventNames) expect(back.raw.fieldSpecs(event)).toEqual(original.raw.fieldSpecs(event));
  expect([back.source, back.cpus, back.undecoded]).toEqual([original.source, original.cpus, original.undecoded]);
  expect(kl.accounting(back)).toEqual(kl.accounting(original));
}

/** Recordings of kernel events in `folder`, in the layouts that loadTraceCmd reads. */
export const traces = (folder: string): string[] => filesBelow(folder, /(^|\/)((trace-cmd|ftrace-trace)[^/]*|perf-script-tp[^/]*|perf-kvm-stat\.script)\.txt(\.gz|\.zst)?$/)
  .filter((path) => !/record\.txt|\.stderr|iperf3|trace-cmd-stat|\.(dump|stat|hist|events)\.txt/.test(path));
