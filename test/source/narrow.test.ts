import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { NarrowBuilder } from "../../kernel-lib/source/narrow.js";

const NAMES = ["a", "b"];
const wholes = fc.oneof(fc.integer({ min: -128, max: 127 }), fc.integer({ min: -32768, max: 32767 }), fc.integer(), fc.maxSafeInteger());
/** Blocks of numbers with holes, and rows that a block leaves out. */
const blocks = (number: fc.Arbitrary<number>) => fc.array(fc.oneof(
  fc.array(fc.option(number, { nil: null }), { minLength: 1, maxLength: 700 }), fc.integer({ min: 1, max: 700 }).map((n) => new Array<null>(n).fill(null)),
), { maxLength: 12 });

function build(parts: (number | null)[][], codes: boolean): NarrowBuilder {
  const builder = new NarrowBuilder(codes);
  for (const part of parts) {
    if (part.every((x) => x === null)) builder.pad(builder.length + part.length);
    else builder.append(Float64Array.from([NaN, ...part.map((x) => x ?? NaN), 7]), 1, part.length + 1);
  }
  return builder;
}

describe("columns that grow", () => {
  it("numbers and nulls come back as they went in, whatever widths follow each other", () => {
    fc.assert(fc.property(blocks(wholes), (parts) => {
      const column = build(parts, false).numbers();
      expect([...column]).toEqual(parts.flat());
    }));
  });

  it("without nulls, the array is as narrow as its numbers allow", () => {
    for (const [most, type] of [[127, Int8Array], [-127, Int8Array], [128, Int16Array], [-128, Int16Array], [32767, Int16Array], [32768, Int32Array], [2 ** 31 - 1, Int32Array], [2 ** 31, Float64Array]] as const) {
      const column = build([[1, 2], [most], [3]], false).numbers();
      expect(column).toBeInstanceOf(type);
      expect([...column]).toEqual([1, 2, most, 3]);
    }
  });

  it("codes: -1 is null at every width", () => {
    fc.assert(fc.property(blocks(fc.nat(100_000)), (parts) => {
      const { codes } = build(parts, true).strings(NAMES);
      expect([...codes]).toEqual(parts.flat().map((code) => code ?? -1));
    }));
  });
});
