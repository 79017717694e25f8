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
