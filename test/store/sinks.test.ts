import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import fc from "fast-check";
import { parquetMetadata } from "hyparquet";
import { tableFromIPC } from "@uwdata/flechette";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { openFormat, streamTable } from "../../kernel-lib/cli-tables.js";
import { partsOf } from "../../kernel-lib/source/parts.js";
import { DATA, filesBelow } from "../peer.js";
import { traces } from "./tables.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-sinks-"));
afterAll(() => rmSync(folder, { recursive: true }));
const forms = ["arrow", "parquet"] as const;

/** The table that `kernel-lib table` writes, read in parts of so many bytes; and what it said. */
async function streamed(path: string, form: "arrow" | "parquet", event: string | undefined, part: number, format: "trace-cmd" | "perf-script" = "trace-cmd"): Promise<{ table: kl.ColumnTable; bytes: Buffer; said: string[] }> {
  const pieces: Buffer[] = [], said: string[] = [];
  await streamTable(await openFormat(path, format), event, form, (line) => said.push(line), { write: async (bytes) => { pieces.push(Buffer.from(bytes)); }, part });
  const bytes = Buffer.concat(pieces);
  return { bytes, said, table: form === "arrow" ? kl.fromArrow(bytes) : await kl.fromParquet(bytes) };
}

/** That a streamed table holds what the table of the whole text does; columns that only it has are null throughout. */
function expectHolds(table: kl.ColumnTable, whole: kl.ColumnTable): void {
  expect(table.numRows()).toBe(whole.numRows());
  for (const name of table.columnNames()) {
    const after = table.array(name) as unknown[];
    const before = whole.columnNames().includes(name) ? whole.array(name) as unknown[] : null;
    const first = Array.from(after).findIndex((value, row) => value !== (before === null ? null : before[row] ?? null));
    expect(first < 0 ? "same" : { name, row: first, before: before?.[first], after: after[first] }).toBe("same");
  }
  expect(whole.columnNames().filter((name) => !table.columnNames().includes(name))).toEqual([]);
  const meanings = new Map(kl.describe(table).objects().map((row: any) => [row.column, row]));
  for (const row of kl.describe(whole).objects() as { column: string }[]) expect(meanings.get(row.column)).toEqual(row);
}

describe("traces, written while they are read", () => {
  // In turns, for the time that it takes.
  it.each([...traces(join(DATA, "capture/virtio")), ...traces(join(DATA, "capture/icount-agent-virtio"))].map((path, i) => [forms[i % 2], relative(DATA, path)] as const))("as %s: data/%s", async (form, name) => {
    const path = join(DATA, name), trace = await kl.loadTraceCmd(path, { quiet: true });
    const { table } = await streamed(path, form, undefined, 100_000);
    expectHolds(table, trace.events);
    expect(kl.accounting(table)).toEqual(kl.accounting(trace));
  });

  it.each(forms)("as %s: one event, known or not", async (form) => {
    for (const name of ["capture/icount-vhost/trace-cmd.nsec.txt.gz", "capture/icount-agent-virtio/trace-cmd-merged.txt.zst"]) {
      const path = join(DATA, name), trace = await kl.loadTraceCmd(path, { quiet: true });
      for (const event of ["kvm_mmio", "sched_switch", trace.eventNames.find((event) => !(event in kl.schema))!]) {
        const { table } = await streamed(path, form, event, 100_000);
        expectHolds(table, trace.of(event));
      }
    }
  });
});

describe("samples, written while they are read", () => {
  it.each(filesBelow(join(DATA, "capture"), /perf-script-(host|guest)[^/]*\.txt(\.gz|\.zst)?$/).map((path, i) => [forms[i % 2], relative(DATA, path)] as const))("as %s: data/%s", async (form, name) => {
    const path = join(DATA, name), profile = await kl.loadPerfScript(path, { quiet: true });
    const { table } = await streamed(path, form, undefined, 50_000, "perf-script");
    expectHolds(table, profile.samples); // the ids of stacks too
    expect(kl.accounting(table)).toEqual(kl.accounting(profile));
    const event = profile.events.get("event", 0) as string;
    expect((await streamed(path, form, event, 50_000, "perf-script")).table.numRows()).toBe(profile.events.get("samples", 0));
  });
});

function file(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}
const line = (event: string, i: number, fields = `n=${i}`) => `     a-1     [000]     ${i}.000000: ${event}: ${fields}\n`;

describe("the file", () => {
  it("has many groups of rows, each dictionary once, and the accounting of all", async () => {
    const path = join(DATA, "capture/virtio/trace-cmd-lost.txt.gz");
    const trace = await kl.loadTraceCmd(path, { quiet: true });
    expect(trace.raw.length).toBeGreaterThan(1 << 16);
    const parquet = await streamed(path, "parquet", undefined, 1 << 20), arrow = await streamed(path, "arrow", undefined, 1 << 20);
    const metadata = parquetMetadata(parquet.bytes.buffer.slice(parquet.bytes.byteOffset, parquet.bytes.byteOffset + parquet.bytes.length) as ArrayBuffer);
    expect(metadata.row_groups.length).toBeGreaterThan(1);
    expect(tableFromIPC(arrow.bytes).children[0].data.length).toBeGreaterThan(1);
    expect(kl.accounting(parquet.table).rows).toBe(kl.accounting(trace).rows);
  });

  it("of an event that is not known has the fields of its first part; what comes later stands in info", async () => {
    const path = file("unknown.txt", `cpus=1\n${line("mine", 1)}${line("other", 2)}${line("mine", 3, "m=4")}`);
    for (const form of forms) {
      const { table } = await streamed(path, form, "mine", 40);
      expect(table.objects().map((row: any) => [row.ts, row.n, row.info])).toEqual([[1e9, 1, "n=1"], [3e9, null, "m=4"]]);
    }
  });

  it("says which numbers it could not hold", async () => {
    const { table, said } = await streamed(file("large.txt", `cpus=1\n${line("kvm_mmio", 1, "mmio write len 99999999999999999999 gpa 0xa000000 val 0x1")}`), "parquet", "kvm_mmio", 1000);
    expect(table.objects()).toMatchObject([{ len: null, gpa: 0xa000000 }]);
    expect(said).toEqual([expect.stringMatching(/1 values of len are no whole numbers/)]);
  });

  it("is not begun for an event that does not occur, nor for a text that is none; nothing is left behind", async () => {
    const before = readdirSync(tmpdir()).filter((name) => name.startsWith("kernel-lib-"));
    const path = file("events.txt", `cpus=1\n${line("mine", 1)}`);
    for (const form of forms) {
      const written: Uint8Array[] = [];
      const run = async (from: string, event?: string, format?: string) => streamTable(await openFormat(from, format), event, form, () => {}, { write: async (bytes) => { written.push(bytes); } });
      await expect(run(path, "kvm_exit")).rejects.toThrow(kl.MissingEventError);
      await expect(run(file("no.txt", "what\nis\nthis\n"), undefined, "trace-cmd")).rejects.toThrow(/this is not trace-cmd output: no line of 3/);
      expect(Buffer.concat(written).length).toBeLessThan(10);
    }
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith("kernel-lib-"))).toEqual(before);
  });

  it("keeps lines apart that nobody understands, wherever they stand", async () => {
    const text = `cpus=1\n${line("mine", 1)}${"junk\n".repeat(50)}${line("mine", 2)}`;
    const { table, said } = await streamed(file("junk.txt", text), "arrow", undefined, 60);
    expect(kl.accounting(table)).toEqual({ ...kl.accounting(kl.fromTraceCmd(text)), source: join(folder, "junk.txt") });
    expect(said[0]).toMatch(/50 not understood; first not understood: line 3: junk/);
  });
});

describe("memory does not grow with the text", () => {
  it("of which one part at a time is held, and one group of rows", async () => {
    const line = Buffer.from("     a-1     [000]     1.000001: sched_wakeup: b:2 [120] CPU:000\n"), chunk = Buffer.concat(Array.from({ length: 16_000 }, () => line));
    let read = 0, given = 0, most = 0;
    const chunks = (function* () { for (; read < 40; read++) yield chunk; })();
    for await (const part of partsOf(chunks, false)) {
      given += part.length;
      most = Math.max(most, part.length, read * chunk.length - given);
    }
    expect(given).toBe(40 * chunk.length);
    expect(most).toBeLessThan(10 << 20);

    const path = file("long.txt", `cpus=1\n${chunk.toString().repeat(20)}`);
    const { bytes, table } = await streamed(path, "parquet", undefined, 1 << 20);
    const groups = parquetMetadata(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer).row_groups.map(({ num_rows }) => Number(num_rows));
    expect(table.numRows()).toBe(320_000);
    expect(Math.max(...groups)).toBeLessThan(150_000);
  });
});

describe("parts of a text", () => {
  const all = async (text: Buffer, stacks: boolean, size: number, chunk: number) => {
    const parts: Buffer[] = [];
    const chunks = Array.from({ length: Math.ceil(text.length / chunk) }, (_, i) => text.subarray(i * chunk, (i + 1) * chunk));
    for await (const part of partsOf(chunks, stacks, size)) parts.push(part);
    return parts;
  };

  it("are the text, cut where lines and stacks end", () => fc.assert(fc.asyncProperty(
    fc.array(fc.constantFrom("a 1 1.000000: e:\n", "\tff f (d)\n", "\n", "\r\n", "x", "\n\n"), { maxLength: 60 }), fc.boolean(), fc.integer({ min: 1, max: 80 }), fc.integer({ min: 1, max: 30 }),
    async (pieces, stacks, size, chunk) => {
      const text = Buffer.from(pieces.join("")), parts = await all(text, stacks, size, chunk);
      expect(Buffer.concat(parts).equals(text)).toBe(true);
      for (const part of parts.slice(0, -1)) {
        expect(part.at(-1)).toBe(10);
        if (stacks && part.includes("\n\t")) expect(/\n\r?\n$/.test(part.toString())).toBe(true);
      }
    }), { numRuns: 500 }));
});
