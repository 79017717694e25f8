import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { framesOf, ZstdUnpacker } from "../../kernel-lib/source/zstd.js";
import { zstdBomb, zstdStored } from "../mutate.js";
import { DATA, inChunks } from "../peer.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-unpack-"));
afterAll(() => { rmSync(folder, { recursive: true }); });

const TEXT = Buffer.from("main;read 3\nmain;write 4\n");
const SKIPPABLE = Buffer.concat([Buffer.from([0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from("extra")]);
/** A zstd frame of nothing that asks for a window of 2^log bytes. */
const windowOf = (log: number): Buffer => Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3, 0x01, 0x00, 0x00])]);

const rows = (table: kl.ColumnTable) => table.array("stack");
async function both(bytes: Buffer, options: kl.UnpackOptions = {}): Promise<unknown[]> {
  const all = [() => Promise.resolve().then(() => kl.fromFolded(bytes, options)), () => kl.loadFolded(bytes, { quiet: true, ...options })];
  for (const n of [1, 7, 4096]) if (n > 1 || bytes.length < 1000) all.push(() => kl.loadFolded(inChunks(bytes, n), { quiet: true, ...options }));
  return await Promise.all(all.map((read) => read().then(rows, (error: Error) => `${error.name}: ${error.message}`)));
}

/** One long line, in a few kB: members of 8 MiB each, or zstd blocks of 64 KiB. */
const bombs = (size: number): Record<string, Buffer> => {
  const member = gzipSync(Buffer.alloc(2 ** 23, "x"));
  return { "bomb.gz": Buffer.concat(Array.from({ length: size / 2 ** 23 }, () => member)), "bomb.zst": zstdBomb(size, 0x78) };
};

describe("compressed input", () => {
  it.each([
    ["one gzip member", gzipSync(TEXT)],
    ["two gzip members", Buffer.concat([gzipSync(TEXT.subarray(0, 9)), gzipSync(TEXT.subarray(9))])],
    ["a gzip member and padding", Buffer.concat([gzipSync(TEXT), Buffer.alloc(700)])],
    ["one zstd frame", zstdStored(TEXT)],
    ["three zstd frames", Buffer.concat([zstdStored(TEXT.subarray(0, 9)), zstdStored(Buffer.alloc(0)), zstdStored(TEXT.subarray(9))])],
    ["zstd frames and skippable ones", Buffer.concat([zstdStored(TEXT.subarray(0, 5)), SKIPPABLE, SKIPPABLE, zstdStored(TEXT.subarray(5), 3), SKIPPABLE])],
  ])("%s is read whole", async (_, bytes) => {
    for (const found of await both(bytes)) expect(found).toEqual(["main;read", "main;write"]);
  });

  it.each([
    ["gzip cut short", gzipSync(TEXT).subarray(0, 30)],
    ["gzip with a byte changed", Buffer.from(gzipSync(TEXT)).fill(0x55, 20, 21)],
    ["gzip with text behind it", Buffer.concat([gzipSync(TEXT), Buffer.from("main;read 3\n")])],
    ["gzip with text behind its padding", Buffer.concat([gzipSync(TEXT), Buffer.alloc(9), Buffer.from("main;read 3\n")])],
    ["gzip with half a member behind it", Buffer.concat([gzipSync(TEXT), gzipSync(TEXT).subarray(0, 12)])],
    ["zstd cut short", zstdStored(TEXT).subarray(0, 20)],
    ["zstd cut in a header", zstdStored(TEXT).subarray(0, 5)],
    ["zstd with text behind it", Buffer.concat([zstdStored(TEXT), Buffer.from("main;read 3\n".repeat(3))])],
    ["zstd with half a header behind it", Buffer.concat([zstdStored(TEXT), Buffer.from([0x28, 0xb5])])],
  ])("%s is an error that says so", async (_, bytes) => {
    for (const found of await both(bytes)) expect(found).toMatch(/^ParseError: \w+: the compressed data is damaged or cut short \(.+\); make the file again$/);
  });

  it("cuts zstd into frames, without those that hold no data", async () => {
    const all = Buffer.concat([SKIPPABLE, zstdStored(TEXT, 4), SKIPPABLE, zstdStored(TEXT)]);
    for (let n = 1; n < all.length; n++) {
      const frames: string[] = [];
      for await (const frame of framesOf(inChunks(all, n), "x", () => 0)) {
        const unpacker = new ZstdUnpacker("x");
        let text = "";
        for await (const chunk of frame) for (const piece of unpacker.push(chunk)) text += Buffer.from(piece).toString();
        for (const piece of unpacker.end()) text += Buffer.from(piece).toString();
        frames.push(text);
      }
      expect(frames).toEqual([TEXT.toString(), TEXT.toString()]);
    }
  });
});

describe("compressed input that grows without end", () => {
  it("is stopped at 250 times its size, 256 MiB at the least, with the way out", async () => {
    for (const [name, bytes] of Object.entries(bombs(2 ** 30))) {
      expect(bytes.length).toBeLessThan(2 ** 21);
      const path = join(folder, name);
      writeFileSync(path, bytes);
      const most = Math.max(256, Math.floor((250 * bytes.length) / 2 ** 20));
      await expect(kl.loadFolded(path, { quiet: true })).rejects.toThrow(new kl.UnpackLimitError(
        `${path}: the compressed data unpacks to more than ${most} MiB, over 250 times its own size, as a file made to fill the memory does; `
        + "if it is an honest recording, load it with { maxUnpacked: Infinity } or unpack it first"));
      expect(() => kl.fromFolded(bytes, { name: "x" })).toThrow(kl.UnpackLimitError);
    }
  });

  it("is read to its end where a person says that it is honest", async () => {
    for (const bytes of Object.values(bombs(2 ** 28 + 2 ** 23))) {
      await expect(kl.loadFolded(bytes, { quiet: true })).rejects.toBeInstanceOf(kl.UnpackLimitError);
      await expect(kl.loadFolded(bytes, { quiet: true, maxUnpacked: Infinity })).rejects.toThrow("this is not folded output: no line of 1 could be read");
    }
  });

  it("is stopped where maxUnpacked says", async () => {
    for (const bytes of [gzipSync(TEXT), zstdStored(TEXT)]) {
      for (const found of await both(bytes, { maxUnpacked: 24 })) expect(found).toMatch(/^UnpackLimitError: \w+: the compressed data unpacks to more than the 0\.0 MiB of maxUnpacked/);
      for (const found of await both(bytes, { maxUnpacked: 25 })) expect(found).toEqual(["main;read", "main;write"]);
      for (const wrong of [0, -1, NaN, "1 GB" as any]) for (const found of await both(bytes, { maxUnpacked: wrong })) expect(found).toContain("OptionError: maxUnpacked takes a number of bytes above 0");
    }
  });

  it("gets no memory for a window that nobody needs", async () => {
    for (const found of await both(windowOf(31))) expect(found).toMatch(/UnpackLimitError: \w+: the zstd data needs 2048 MiB of memory to unpack, and 128 are taken; unpack it first: zstd -d --memory=2048MB/);
    const many = Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, (24 - 10) << 3]), ...Array.from({ length: 3000 }, () => Buffer.from([0x0a, 0, 0, 10]))]);
    expect(() => kl.fromFolded(many)).toThrow(/blocks that hold next to nothing/);
  });

  it("leaves every honest recording alone", async () => {
    const path = join(DATA, "capture/icount-vhost/trace-cmd-b100M-r1.nsec.txt.zst"), bytes = readFileSync(path);
    const trace = await kl.loadTraceCmd(path, { quiet: true });
    expect(kl.accounting(trace).bytes / bytes.length).toBeGreaterThan(8); // far from 250
    expect(kl.accounting(trace).notUnderstood).toBe(0);
  });
});
