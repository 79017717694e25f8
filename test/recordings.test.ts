import { readFileSync } from "node:fs";
import { basename, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExactWhenMutated } from "./accounting.js";
import { CAPTURE, DATA, filesBelow, PEER } from "./peer.js";

type Load = (path: string, options: kl.LoadOptions) => Promise<object>;

/** Which loader a recording's file name asks for; null for files that are no recording (how it was made, raw data, other tools). */
function loaderOf(path: string): Load | null {
  const name = basename(path).replace(/\.(gz|zst)$/, "");
  if (!/\.(txt|json|csv|folded)$/.test(name) || /record\.txt$|\.stderr$|^(commands|environment|versions)\.txt$/.test(name)) return null;
  if (/iperf3.*\.(txt|json)$/.test(name)) return kl.loadIperf3;
  if (/^perf-stat.*\.(txt|csv|json)$/.test(name)) return kl.loadPerfStat;
  if (/^perf-kvm-stat(\.script)/.test(name)) return kl.loadTraceCmd;
  if (/^perf-kvm-stat.*\.txt$/.test(name)) return kl.loadPerfKvmStat;
  if (/^perf-(kvm-)?report.*\.txt$/.test(name)) return kl.loadPerfReport;
  if (/^perf-script.*\.txt$/.test(name)) return kl.loadPerfScript;
  if (/^trace-cmd.*\.(dump|stat|hist|events)\.txt$|^trace-cmd-stat\.txt$/.test(name)) return null;
  if (/^(trace-cmd|ftrace-trace).*\.txt$/.test(name)) return kl.loadTraceCmd;
  if (/^virtiostat\.txt$/.test(name)) return kl.loadVirtiostat;
  if (/^kvmexit\.txt$/.test(name)) return kl.loadKvmexit;
  return null;
}

/** The parser that works on bytes at hand, for each loader. */
const parsers = new Map<Load, (bytes: Uint8Array) => object>([
  [kl.loadIperf3, kl.fromIperf3], [kl.loadPerfStat, kl.fromPerfStat], [kl.loadPerfKvmStat, kl.fromPerfKvmStat], [kl.loadPerfReport, kl.fromPerfReport],
  [kl.loadPerfScript, kl.fromPerfScript], [kl.loadTraceCmd, kl.fromTraceCmd], [kl.loadVirtiostat, kl.fromVirtiostat], [kl.loadKvmexit, kl.fromKvmexit],
]);

async function expectWhole(path: string): Promise<void> {
  const result = await loaderOf(path)!(path, { quiet: true });
  const a = kl.accounting(result);
  expect(a.rows + a.continuation + a.header + a.notUnderstood).toBe(a.lines);
  expect(a.unknown, `lines not understood in ${path}`).toEqual([]);
  for (const table of tablesOf(result)) {
    const undescribed = kl.describe(table).objects().filter((column: any) => column.type === "" || column.meaning === "" || column.meaning === "made in this notebook");
    expect(undescribed, `columns of ${path} that nothing describes`).toEqual([]);
  }
}

/** Every table that a result holds. */
function tablesOf(result: any): kl.ColumnTable[] {
  if (result instanceof kl.ColumnTable) return [result];
  if ("eventNames" in result) return [result.events, result.lost, ...result.eventNames.map((event: string) => result.of(event))];
  return [result.samples, result.stacks, result.frames, result.events, result.lost];
}

describe("every recording loads with nothing left over", () => {
  const own = filesBelow(DATA, /./).filter(loaderOf);
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => expectWhole(`${DATA}/${path}`));
});

describe("damaged copies of every recording are accounted for to the line", () => {
  const own = filesBelow(DATA, /./).filter((path) => loaderOf(path) && !/\.zst$/.test(path));
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => {
    const load = loaderOf(path)!, parse = parsers.get(load)!;
    const bytes = readFileSync(`${DATA}/${path}`), plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
    // The first lines hold what can go wrong; JSON is one whole.
    const lines = plain.toString("latin1").split("\n");
    expectExactWhenMutated(parse, /\.json$/.test(path) ? plain : Buffer.from(lines.slice(0, 150).join("\n"), "latin1"), 12);
  });
});

describe.skipIf(!CAPTURE)("every recording of the larger set loads with nothing left over (KERNEL_LIB_CAPTURE_DATA)", () => {
  const all = CAPTURE ? filesBelow(CAPTURE, /./).filter(loaderOf) : [];
  it.each(all.map((path) => relative(CAPTURE!, path)))("%s", (path) => expectWhole(`${CAPTURE}/${path}`));
});

describe.skipIf(!PEER)("other projects' traces (KERNEL_LIB_PEER_DATA)", () => {
  it("are there", () => expect(filesBelow(PEER!, /\.txt$/).length).toBeGreaterThan(10));
});
