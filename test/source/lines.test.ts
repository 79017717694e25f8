import { gzipSync } from "node:zlib";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { accounting, ParseError } from "kernel-lib";
import { unpack } from "../../kernel-lib/source/unpack.js";
import { CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN, type Format } from "../../kernel-lib/source/lines.js";
import { countLines, expectExact } from "../accounting.js";
import { inChunks } from "../peer.js";

/** A format for these tests: "r…" is a row, "+…" continues it, "#…" and blank lines are headers. */
const letters: Format<{ lines: string[] }> = {
  name: "letters",
  command: "none",
  parser: () => {
    const lines: string[] = [];
    return {
      line(bytes, start, end) {
        lines.push(bytes.toString("latin1", start, end));
        if (start === end || bytes[start] === 35) return HEADER;
        return bytes[start] === 114 ? ROW : bytes[start] === 43 ? CONTINUATION : UNKNOWN;
      },
      finish: () => ({ lines }),
    };
  },
};
const letter = fc.constantFrom(..."r+#x\n\n\r".split(""), "row", "+more", "\nr");

describe("lines", () => {
  it("cuts any bytes into the same lines, however they arrive", async () => {
    await fc.assert(fc.asyncProperty(fc.array(letter).map((l) => "r" + l.join("")), fc.integer({ min: 1, max: 9 }), async (text, n) => {
      const bytes = Buffer.from(text, "latin1");
      const whole = parseText(bytes, letters, {});
      const cut = await loadText(inChunks(bytes, n), letters, { quiet: true });
      expect(cut.lines).toEqual(whole.lines);
      expect(whole.lines.length).toBe(countLines(bytes));
      expectExact(whole, bytes);
      expectExact(cut, bytes);
    }));
  });

  it("takes off carriage returns and a byte order mark", () => {
    expect(parseText(Buffer.from("\ufeffrow\r\n+x\r\n", "utf8"), letters, {}).lines).toEqual(["row", "+x"]);
  });

  it("keeps number and text of lines that were not understood", () => {
    const a = accounting(parseText("row\nwhat\n", letters, {}));
    expect(a).toMatchObject({ lines: 2, rows: 1, notUnderstood: 1, unknown: [{ line: 2, text: "what" }] });
  });

  it("refuses a file of which nothing is understood, with its first such line", () => {
    expect(() => parseText("what\never\n", letters, { name: "a.txt" })).toThrow(ParseError);
    expect(() => parseText("what\never\n", letters, { name: "a.txt" })).toThrow(/a\.txt:1: this is not letters output: no line of 2 could be read[\s\S]*what/);
  });

  it("refuses UTF-16 and says how to convert it", () => {
    expect(() => parseText(Buffer.from("\ufeffrow\n", "utf16le"), letters, {})).toThrow(/UTF-16; convert it first: iconv/);
  });

  it("gives an empty result for empty input", () => {
    expect(accounting(parseText("", letters, {}))).toMatchObject({ lines: 0, rows: 0, notUnderstood: 0 });
  });

  it("handles a line longer than many chunks", async () => {
    const bytes = Buffer.from("r" + "o".repeat(300_000) + "\nr");
    expect((await loadText(inChunks(bytes, 1000), letters, { quiet: true })).lines.map((l) => l.length)).toEqual([300_001, 1]);
  });
});

describe("sources", () => {
  const text = Buffer.from("# head\n" + "row of text\n".repeat(5000));
  const dir = mkdtempSync(join(tmpdir(), "kernel-lib-"));

  it.each([["plain", text], ["gz", gzipSync(text)]])("reads a %s file by its first bytes, not by its name", async (_, bytes) => {
    const path = join(dir, "recording.txt");
    writeFileSync(path, bytes);
    const result = await loadText(path, letters, { quiet: true });
    expect(accounting(result)).toMatchObject({ source: path, lines: 5001, rows: 5000, header: 1 });
  });

  it("reads packed bytes and packed chunks", async () => {
    expect(Buffer.from(unpack(gzipSync(text)))).toEqual(text);
    expect((await loadText(inChunks(gzipSync(text), 3), letters, { quiet: true })).lines.length).toBe(5001);
  });

  it("says that compressed data is cut short", async () => {
    const cut = gzipSync(text).subarray(0, 60);
    expect(() => parseText(cut, letters, { name: "x.gz" })).toThrow(/x\.gz: the compressed data is damaged or cut short/);
    await expect(loadText(inChunks(cut, 7), letters, { quiet: true })).rejects.toThrow(/damaged or cut short/);
  });

  it("says that a folder is not a file", async () => {
    await expect(loadText(dir, letters, { quiet: true })).rejects.toThrow(/this is a folder/);
  });

  it("reads zstd", async () => {
    const frame = makeZstd();
    expect(Buffer.from(unpack(frame)).toString()).toBe("row\n");
    expect((await loadText(inChunks(frame, 2), letters, { quiet: true })).lines).toEqual(["row"]);
  });
});

/** A zstd frame with one raw block, by RFC 8878: magic, single-segment header, content size 4, last raw block of 4 bytes. */
function makeZstd(): Buffer {
  const content = Buffer.from("row\n");
  const block = (content.length << 3) | 1;
  return Buffer.concat([Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, content.length, block & 255, (block >> 8) & 255, block >> 16]), content]);
}
