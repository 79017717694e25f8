import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { desc, op, table } from "arquero";
import fc from "fast-check";
import { parquetMetadata } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { expectSame, recordings, tablesOf } from "./tables.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-parquet-"));
afterAll(() => rmSync(folder, { recursive: true }));

async function expectBack(original: kl.ColumnTable): Promise<kl.ColumnTable> {
  const back = await kl.fromParquet(kl.toParquet(original));
  expectSame(back, original);
  return back;
}

const metadataOf = (table: kl.ColumnTable) => parquetMetadata(kl.toParquet(table).slice().buffer as ArrayBuffer);
const text = "cpus=2\n a-1     [000]     1.000002: sched_wakeup: b:2 [120] CPU:001\n a-1     [001]     1.000005: sched_wakeup: c:3 [120] CPU:000\n";

describe("every table comes back from Parquet as it went", () => {
  it.each(recordings.map((path) => relative(DATA, path)))("data/%s", async (path) => {
    for (const table of await tablesOf(join(DATA, path))) await expectBack(table);
  });

  it("the tables that analyses make", async () => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-virtio/trace-cmd.nsec.txt.gz"), { quiet: true });
    const exits = kl.kvmExits(trace);
    for (const made of [exits, kl.exitSummary(exits), kl.virtioDevices(trace), kl.virtioKicks(trace)]) {
      expect(made.numRows()).toBeGreaterThan(0);
      await expectBack(made);
    }
  });

  it("what verbs made: filtered, ordered, grouped, with nulls and without rows", async () => {
    const { samples } = await kl.loadPerfScript(join(DATA, "capture/virtio/perf-script-host.txt.gz"), { quiet: true });
    const some = samples.filter((d: any) => d.cpu === 0).orderby(desc("ts"));
    expect(some.numRows()).toBeGreaterThan(0);
    expect((await kl.fromParquet(kl.toParquet(some))).objects({ limit: Infinity })).toEqual(some.objects({ limit: Infinity }));
    await expectBack(samples.groupby("comm").rollup({ n: op.count(), first: op.min("ts") }));
    const none = await kl.fromParquet(kl.toParquet(samples.filter((d: any) => d.cpu === 99)));
    expect([none.numRows(), none.columnNames()]).toEqual([0, samples.columnNames()]);
    await expectBack(table({ x: [1, null, 2.5], flag: [true, null, false], text: [null, "", "é\0\n"], none: [null, null, null], big: [2 ** 53, -0, Infinity] }));
    await expectBack(table({ small: Int8Array.of(-1, 2), words: ["a", "a"], yes: [true, false], wide: Uint32Array.of(0, 2 ** 32 - 1), nan: [NaN, null] }));
  });

  it("more rows than one group of rows holds", async () => {
    const n = 300_000;
    await expectBack(table({ x: Float64Array.from({ length: n }, (_, i) => i * 1.5), word: Array.from({ length: n }, (_, i) => (i % 7 === 0 ? null : `w${i % 1000}`)), i: Int32Array.from({ length: n }, (_, i) => -i) }));
  });

  it("any values at all", () => fc.assert(fc.asyncProperty(
    fc.array(fc.record({ n: fc.option(fc.double(), { nil: null }), s: fc.option(fc.string({ unit: "grapheme" }), { nil: null }), b: fc.option(fc.boolean(), { nil: null }), i: fc.option(fc.maxSafeInteger(), { nil: null }) }), { minLength: 1, maxLength: 40 }),
    async (rows) => { await expectBack(table({ n: rows.map((r) => r.n), s: rows.map((r) => r.s), b: rows.map((r) => r.b), i: rows.map((r) => r.i) })); },
  ), { numRuns: 100 }));
});

describe("what stands in the file", () => {
  it("times and identifiers as 64-bit integers, strings as dictionaries, narrow integers as such", () => {
    const { schema, row_groups: [{ columns }] } = metadataOf(kl.fromTraceCmd(text).events);
    expect(schema.slice(1).map(({ name, type, converted_type }) => [name, type, converted_type])).toEqual([
      ["ts", "INT64", undefined], ["cpu", "INT32", "INT_16"], ["pid", "INT32", undefined], ["comm", "BYTE_ARRAY", "UTF8"], ["event", "BYTE_ARRAY", "UTF8"],
    ]);
    expect(columns[3].meta_data!.encodings).toContain("RLE_DICTIONARY");
  });

  it("numbers beyond 2³¹ and 64-bit addresses, exactly", async () => {
    const trace = kl.fromTraceCmd("cpus=1\n q-1 [000] 104.123456789: kvm_mmio: mmio write len 4 gpa 0xfffffffff0 val 0xffffffff12345678\n");
    const mmio = trace.of("kvm_mmio");
    const back = await expectBack(mmio);
    expect(back.objects()).toMatchObject([{ ts: 104_123_456_789, gpa: 0xfffffffff0, val: "0xffffffff12345678" }]);
    expect(metadataOf(mmio).schema.find(({ name }) => name === "gpa")!.type).toBe("INT64");
  });

  it("what columns mean, the source, the version and the accounting as key-value metadata", async () => {
    const original = await kl.loadPerfStat(join(DATA, "talk/vhost/perf-stat.txt"), { quiet: true });
    const path = join(folder, "perf-stat.parquet");
    await kl.writeParquet(original, path);
    const bytes = readFileSync(path);
    expect(Buffer.compare(bytes, kl.toParquet(original))).toBe(0);
    const { key_value_metadata: more, created_by } = parquetMetadata(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer);
    const value = (key: string) => more!.find((entry) => entry.key === key)!.value!;
    expect(created_by).toBe(`kernel-lib ${value("kernel-lib.version")}`);
    expect(value("kernel-lib.version")).toMatch(/^\d+\.\d+\.\d+$/);
    expect(value("kernel-lib.source")).toBe(join(DATA, "talk/vhost/perf-stat.txt"));
    expect(JSON.parse(value("kernel-lib.columns"))[original.columnNames()[0]].meaning).toMatch(/\w/);
    const back = await kl.readParquet(path);
    expectSame(back, original);
    expect(kl.accounting(back)).toEqual(kl.accounting(original));
  });
});

describe("files of other programs", () => {
  const other = (columnData: Parameters<typeof parquetWriteBuffer>[0]["columnData"]) => new Uint8Array(parquetWriteBuffer({ columnData }));

  it("are read", async () => {
    const bytes = other([
      { name: "n", data: [1n, -5n], type: "INT64" }, { name: "name", data: ["x", null], type: "STRING" }, { name: "f", data: [0.5, 2], type: "FLOAT" }, { name: "yes", data: [true, false], type: "BOOLEAN" },
    ]);
    expect((await kl.fromParquet(bytes)).objects()).toEqual([{ n: 1, name: "x", f: 0.5, yes: true }, { n: -5, name: null, f: 2, yes: false }]);
  });

  it("that hold what a table of numbers and strings cannot are refused, by column", async () => {
    await expect(kl.fromParquet(other([{ name: "n", data: [2n ** 60n], type: "INT64" }]), { name: "x.parquet" })).rejects.toThrow(/x\.parquet: .*column "n": 1152921504606846976 is beyond/);
    await expect(kl.fromParquet(other([{ name: "v", data: [{ a: 1 }], type: "VARIANT" }]))).rejects.toThrow(/column "v" holds lists or structures/);
  });

  it("that are none, or are cut or damaged, are named", async () => {
    const whole = kl.toParquet(table({ x: [1, 2, 3], s: ["a", "b", "a"] }));
    await expect(kl.fromParquet(Buffer.from("cpus=2\n"), { name: "trace.txt" })).rejects.toThrow(/trace\.txt: not a Parquet file/);
    await expect(kl.fromParquet(new Uint8Array(0))).rejects.toThrow(/bytes: not a Parquet file \(it is empty\)/);
    const path = join(folder, "cut.parquet");
    writeFileSync(path, whole.subarray(0, whole.length - 20));
    await expect(kl.readParquet(path)).rejects.toThrow(/cut\.parquet: not a Parquet file/);
    for (let at = 4; at < whole.length - 8; at += 3) {
      const bad = whole.slice();
      bad[at] ^= 0xff;
      await kl.fromParquet(bad).catch((error: unknown) => expect(error).toBeInstanceOf(kl.ParseError));
    }
  });

  it("says which column it cannot write", () => {
    expect(() => kl.toParquet(table({ when: [new Date(0)] }))).toThrow(/column "when" holds object values.*select\(not\("when"\)\)/);
  });
});
