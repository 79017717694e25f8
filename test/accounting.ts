import fc from "fast-check";
import { expect } from "vitest";
import { accounting, ParseError } from "kernel-lib";

/** Lines of a text as a person would count them: a last line without newline counts too. */
export function countLines(bytes: Uint8Array): number {
  let n = 0;
  for (const b of bytes) if (b === 10) n++;
  return bytes.length > 0 && bytes[bytes.length - 1] !== 10 ? n + 1 : n;
}

/** rows + continuation + header + not understood = lines of the input. */
export function expectExact(result: object, bytes: Uint8Array): void {
  const a = accounting(result);
  expect(a.lines).toBe(countLines(bytes));
  expect(a.rows + a.continuation + a.header + a.notUnderstood).toBe(a.lines);
  expect(a.bytes).toBe(bytes.length);
}

/** Holds a parser to its accounting on damaged copies of real text: lines cut, doubled, dropped, swapped, bytes changed. */
export function expectExactWhenMutated(parse: (bytes: Uint8Array) => object, bytes: Uint8Array, runs = 60): void {
  const lines = Buffer.from(bytes).toString("latin1").split("\n");
  const mutation = fc.record({
    op: fc.constantFrom("cut", "double", "drop", "swap", "byte", "join", "nul", "junk"),
    at: fc.nat(Math.max(0, lines.length - 1)), to: fc.nat(Math.max(0, lines.length - 1)), n: fc.nat(200), byte: fc.integer({ min: 0, max: 255 }),
  });
  fc.assert(fc.property(fc.array(mutation, { minLength: 1, maxLength: 8 }), (mutations) => {
    const copy = lines.slice();
    for (const { op, at, to, n, byte } of mutations) {
      const i = at % copy.length, j = to % copy.length;
      switch (op) {
        case "cut": copy[i] = copy[i].slice(0, n); break;
        case "double": copy.splice(j, 0, copy[i]); break;
        case "drop": if (copy.length > 1) copy.splice(i, 1); break;
        case "swap": [copy[i], copy[j]] = [copy[j], copy[i]]; break;
        case "byte": copy[i] = copy[i].slice(0, n) + String.fromCharCode(byte) + copy[i].slice(n + 1); break;
        case "join": if (i + 1 < copy.length) copy.splice(i, 2, copy[i] + copy[i + 1]); break;
        case "nul": copy[i] = "\0" + copy[i]; break;
        case "junk": copy.splice(i, 0, "?".repeat(n)); break;
      }
    }
    const mutated = Buffer.from(copy.join("\n"), "latin1");
    let result: object;
    try {
      result = parse(mutated);
    } catch (error) {
      if (error instanceof ParseError) return;
      throw error;
    }
    expectExact(result, mutated);
  }), { numRuns: runs, seed: 20240601 });
}
