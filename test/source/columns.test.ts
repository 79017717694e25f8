import fc from "fast-check";
import { op } from "arquero";
import { describe as suite, expect, it } from "vitest";
import { describe } from "kernel-lib";
import { Dictionary, makeTable, NumberBuilder, StringBuilder, tableOf, type Columns } from "../../kernel-lib/source/columns.js";

const columns = {
  ts: { type: "number", unit: "ns", meaning: "When." },
  comm: { type: "string", unit: null, meaning: "Who.", null: "nobody" },
  wait: { type: "number", unit: "ns", meaning: "How long.", null: "it did not" },
  slept: { type: "boolean", unit: null, meaning: "Whether." },
} as const satisfies Columns;

suite("columns", () => {
  it("interns byte strings: equal strings get equal codes, others others", () => {
    fc.assert(fc.property(fc.array(fc.string({ unit: "grapheme", maxLength: 9 }), { maxLength: 300 }), (texts) => {
      const dictionary = new Dictionary();
      const codes = texts.map((text) => dictionary.internString(text));
      expect(codes.map((code) => dictionary.get(code))).toEqual(texts);
      expect(dictionary.size).toBe(new Set(texts).size);
    }));
  });

  it("keeps nulls apart from values, through Arquero's verbs", () => {
    const table = tableOf(columns, [
      { ts: 1, comm: "a", wait: null, slept: true },
      { ts: 2, comm: null, wait: 5, slept: false },
      { ts: 3, comm: "a", wait: 7, slept: true },
    ]);
    expect(table.objects()).toEqual([
      { ts: 1, comm: "a", wait: null, slept: true }, { ts: 2, comm: null, wait: 5, slept: false }, { ts: 3, comm: "a", wait: 7, slept: true },
    ]);
    expect(table.groupby("comm").rollup({ n: op.count(), wait: op.sum("wait") }).objects()).toEqual([{ comm: "a", n: 2, wait: 7 }, { comm: null, n: 1, wait: 5 }]);
    expect(table.filter((d: any) => d.slept && d.ts > 1).numRows()).toBe(1);
  });

  it("refuses columns of different lengths", () => {
    expect(() => makeTable({ ts: columns.ts, wait: columns.wait }, { ts: [1, 2], wait: [1] })).toThrow(/columns differ in length: ts 2, wait 1/);
  });

  it("grows", () => {
    const numbers = new NumberBuilder(), strings = new StringBuilder();
    for (let i = 0; i < 1000; i++) { numbers.push(i); strings.push(i % 7 ? `s${i % 7}` : null); }
    expect(Array.from(numbers.finish())).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(strings.finish().at(8)).toBe("s1");
    expect(strings.finish().at(7)).toBe(null);
  });

  it("keeps codes in an array no wider than the number of strings asks for, nulls too, and takes rows of them", () => {
    for (const [size, width] of [[1, 1], [128, 1], [129, 2], [32768, 2], [32769, 4]]) {
      const strings = new StringBuilder();
      for (let i = 0; i < size; i++) strings.push(`s${i}`);
      strings.pushNull();
      const column = strings.finish();
      expect(column.codes.BYTES_PER_ELEMENT).toBe(width);
      expect([column.at(0), column.at(size - 1), column.at(size), column.values.length]).toEqual(["s0", `s${size - 1}`, null, size]);
      expect(column.take([size - 1, -1, 0, size]).toArray()).toEqual([`s${size - 1}`, null, "s0", null]);
    }
  });

  it("describes the columns of a table, and of one derived from it", () => {
    const table = tableOf(columns, [{ ts: 1, comm: "a", wait: null, slept: true }]);
    expect(describe(table).object(2)).toEqual({ column: "wait", type: "number", unit: "ns", meaning: "How long.", null: "it did not" });
    expect(describe(table.derive({ half: (d: any) => d.ts / 2 }).select("half", "ts")).objects()).toMatchObject([{ column: "half", unit: null }, { column: "ts", unit: "ns" }]);
  });
});
