import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { countLines, examine } from "./examine.js";
import { excerpts } from "./excerpts.js";
import { caseOf, runCase } from "./fuzz-case.js";
import { joined, linesOf, mutate, random } from "./mutate.js";
import { readers, type Reader } from "./recording-files.js";

// A part of what `npm run fuzz` does, always the same.

const SEED = 20260101, CASES = 10_000, PARTS = 10;
const all = excerpts().filter(({ name }) => name.startsWith("data/"));

describe("damaged copies of every recording", () => {
  it("are many kinds of text for every parser", () => {
    expect(new Set(all.map(({ reader }) => reader.name)).size).toBeGreaterThanOrEqual(9);
    expect(all.length).toBeGreaterThan(500);
  });

  it.each(Array.from({ length: PARTS }, (_, part) => part))(`break nothing, and are accounted for to the line: part ${"%i"} of ${PARTS}`, async (part) => {
    let read = 0;
    for (let number = part; number < CASES; number += PARTS) {
      const one = caseOf(all, SEED, number);
      try {
        if (await runCase(one) === "read") read++;
      } catch (error) {
        throw new Error(`seed ${SEED} case ${number}, a damaged copy of ${one.excerpt.name} as ${one.reader.name}`, { cause: error });
      }
    }
    expect(read).toBeGreaterThan(CASES / PARTS / 2); // most damaged texts still tell something
  });

  it("are the same for the same seed", () => {
    for (const number of [0, 17, 4711]) expect(caseOf(all, SEED, number).bytes).toEqual(caseOf(all, SEED, number).bytes);
    const { text } = all[0], differing = Array.from({ length: 50 }, (_, seed) => mutate(text, random(seed), [text])).filter((copy) => !copy.equals(text));
    expect(differing.length).toBeGreaterThan(40);
    expect(joined(linesOf(text))).toEqual(text);
  });
});

/** What a line of such a format may hold much of. */
const FILLINGS = ["9", " ", "x", "[", "]", "(", ")", ":", ";", ",", ".", "-", "/", "=", "|", "%", "#", "\t", "\0", "\r", "\"", "{", "é", " a", "1 ", "1.", "a-1 ", "[1]", ": ", "a=1 ", "x;y ", "1,2", "(+1) ", " |", "{\"a\":1,"];
const LONG = 10_000_000, WAY = [10_000, 100_000, 1_000_000];
/** CPU seconds that a line of 1 MB may take: what takes a fiftieth of that is linear by far, and what is not would take hours for 10 MB. */
const PATIENCE = 5;

describe("a line of 10 MB", () => {
  it.each(Object.values(readers) as Reader[])("keeps $name busy no longer than its length, and is not kept whole", async (reader) => {
    const own = all.filter((one) => one.reader === reader);
    const chance = random(1), sample = own.length > 0 ? linesOf(chance.pick(own).text).filter((line) => line.length > 5) : [];
    const heads = ["", ...(sample.length > 0 ? [chance.pick(sample)] : [])].map((head) => Buffer.from(head));
    for (const head of heads) for (const filling of FILLINGS) {
      const make = (length: number): Buffer => {
        const at = head.length >> 1;
        return Buffer.concat([head.subarray(0, at), Buffer.alloc(length, filling), head.subarray(at)]);
      };
      for (const length of WAY) {
        const begin = process.cpuUsage();
        await examine(reader, make(length), make(length), { chunk: null, other: null, deep: false });
        const { user, system } = process.cpuUsage(begin);
        expect((user + system) / 1e6, `${length} × ${JSON.stringify(filling)} in ${JSON.stringify(head.toString("latin1"))}`).toBeLessThan(PATIENCE);
      }
    }
    // The whole length for one that took its way well.
    for (const filling of ["9", " ", "x;y "]) {
      const line = Buffer.alloc(LONG, filling), text = Buffer.concat([line, Buffer.from("\n"), line]);
      await examine(reader, text, text, { chunk: 1 << 16, other: null, deep: false });
      expect(countLines(text)).toBe(2);
    }
  });

  it("counts as not understood where it is longer than any tool's, whole or in pieces", async () => {
    const long = Buffer.alloc(70_000_000, "a;b 3 "), text = Buffer.concat([Buffer.from("a;b 3\n"), long, Buffer.from("\na;b 4\n")]);
    const pieces = (async function* () { for (let at = 0; at < text.length; at += 1 << 20) yield text.subarray(at, at + (1 << 20)); })();
    for (const table of [kl.fromFolded(text), await kl.loadFolded(pieces, { quiet: true })]) {
      expect(table.array("value")).toEqual([3, 4]);
      const { lines, rows, bytes, unknown } = kl.accounting(table);
      expect({ lines, rows, bytes }).toEqual({ lines: 3, rows: 2, bytes: text.length });
      expect(unknown).toEqual([{ line: 2, text: long.subarray(0, 300).toString() }]);
    }
  });
});
