import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { desc, fromArrow as arqueroFromArrow, op, table } from "arquero";
import { tableFromArrays, tableFromIPC, tableToIPC, Type } from "@uwdata/flechette";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { expectSame, recordings, tablesOf } from "./tables.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-arrow-"));
afterAll(() => rmSync(folder, { recursive: true }));

function expectBack(original: kl.ColumnTable): kl.ColumnTable {
  const back = kl.fromArrow(kl.toArrow(original));
  expectSame(back, original);
  return back;
}

describe("every table comes back from Arrow as it went", () => {
  it.each(recordings.map((path) => relative(DATA, path)))("data/%s", async (path) => {
    for (const table of await tablesOf(join(DATA, path))) expectBack(table);
  });

  it("the tables that analyses make", async () => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-virtio/trace-cmd.nsec.txt.gz"), { quiet: true });
    const exits = kl.kvmExits(trace);
    for (const made of [exits, kl.exitSummary(exits), kl.virtioDevices(trace), kl.virtioKicks(trace)]) {
      expect(made.numRows()).toBeGreaterThan(0);
      expectBack(made);
    }
    const profile = await kl.loadPerfScript(join(DATA, "capture/virtio/perf-script-host.txt.gz"), { quiet: true });
    expectBack(kl.foldStacks(profile));
    expectBack(kl.topFrames(kl.foldStacks(profile)));
  });
});

describe("what stands in the file", () => {
  const text = "cpus=2\n a-1     [000]     1.000002: sched_wakeup: b:2 [120] CPU:001\n a-1     [001]     1.000005: sched_wakeup: c:3 [120] CPU:000\n";
  const { schema, children } = tableFromIPC(kl.toArrow(kl.fromTraceCmd(text).events));
  const column = (name: string) => children[schema.fields.findIndex((field) => field.name === name)];

  it("times as 64-bit integers, strings as dictionaries, descriptions with the fields", () => {
    expect(column("ts").type).toMatchObject({ typeId: Type.Int, bitWidth: 64 });
    expect(Array.from(column("ts"))).toEqual([1_000_002_000, 1_000_005_000]);
    expect(column("comm").type.typeId).toBe(Type.Dictionary);
    expect(Object.fromEntries(schema.fields[0].metadata!)).toMatchObject({ type: "number", unit: "ns", meaning: expect.stringContaining("since boot") });
  });

  it("spans that are not whole stay fractions", () => {
    const { schema } = tableFromIPC(kl.toArrow(kl.fromPerfKvmStat("")));
    expect(schema.fields.length).toBeGreaterThan(0);
    const halves = kl.fromTraceCmd(text).events.derive({ ts: (d: any) => d.ts / 3000 });
    expect(halves.array("ts")).toEqual(kl.fromArrow(kl.toArrow(halves)).array("ts"));
  });

  it("Arquero reads it itself", () => {
    const events = kl.fromTraceCmd(text).events;
    expect(arqueroFromArrow(kl.toArrow(events)).objects()).toEqual(events.objects());
  });
});

describe("tables that verbs made", () => {
  it("filtered, ordered, grouped, with nulls and without rows", async () => {
    const samples = (await kl.loadPerfScript(join(DATA, "capture/virtio/perf-script-host.txt.gz"), { quiet: true })).samples;
    const some = samples.filter((d: any) => d.cpu === 0).orderby(desc("ts"));
    expect(some.numRows()).toBeGreaterThan(0);
    const back = kl.fromArrow(kl.toArrow(some));
    expect(back.objects({ limit: Infinity })).toEqual(some.objects({ limit: Infinity }));
    expectBack(samples.groupby("comm").rollup({ n: op.count(), first: op.min("ts") }));
    const none = kl.fromArrow(kl.toArrow(samples.filter((d: any) => d.cpu === 99)));
    expect([none.numRows(), none.columnNames()]).toEqual([0, samples.columnNames()]);
    expectBack(table({ x: [1, null, 2.5], flag: [true, null, false], text: [null, "", "é\0\n"], none: [null, null, null], big: [2 ** 53, -0, Infinity] }));
    expectBack(table({ small: Int8Array.of(-1, 2), words: ["a", "a"], yes: [true, false] }));
  });

  it("says which column it cannot hold", () => {
    expect(() => kl.toArrow(table({ when: [new Date(0)] }))).toThrow(/column "when" holds object values.*select\(not\("when"\)\)/);
    expect(() => kl.toArrow(table({ mixed: [1, "1"] }))).toThrow(/column "mixed" holds number and string values/);
  });
});

describe("files", () => {
  it("are written and read, with the accounting", async () => {
    const original = await kl.loadPerfStat(join(DATA, "talk/vhost/perf-stat.txt"), { quiet: true });
    const path = join(folder, "perf-stat.arrow");
    await kl.writeArrow(original, path);
    const back = await kl.readArrow(path);
    expect(back.objects()).toEqual(original.objects());
    expect(kl.accounting(back)).toEqual(kl.accounting(original));
  });

  it("of other programs are read: plain strings, several kinds of integers", () => {
    const other = tableToIPC(tableFromArrays({ n: BigInt64Array.of(1n, -5n), name: ["x", "y"], small: Uint16Array.of(1, 65535), at: [1.5, null] }), { format: "stream" })!;
    expect(kl.fromArrow(other).objects()).toEqual([{ n: 1, name: "x", small: 1, at: 1.5 }, { n: -5, name: "y", small: 65535, at: null }]);
  });

  it("that are none are named", () => {
    expect(() => kl.fromArrow(Buffer.from("cpus=2\n"), { name: "trace.txt" })).toThrow(/trace\.txt: not an Arrow file/);
    expect(() => kl.fromArrow(new Uint8Array(0))).toThrow(/bytes: not an Arrow file/);
    expect(() => kl.fromArrow(kl.toArrow(table({ x: [1, 2, 3] })).subarray(0, 200))).toThrow(/not an Arrow file \(its end is missing\)/);
    const huge = tableToIPC(tableFromArrays({ n: BigInt64Array.of(2n ** 60n) }), { format: "file" })!;
    expect(() => kl.fromArrow(huge)).toThrow(/column "n"/);
  });
});
