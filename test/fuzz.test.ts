import { describe, expect, it } from "vitest";
import { excerpts } from "./excerpts.js";
import { caseOf, runCase } from "./fuzz-case.js";

const SEED = 1, CASES = Number(process.env.N ?? 2000);

describe("damaged text", () => {
  it(`${CASES} cases`, async () => {
    const all = excerpts();
    console.log(all.length, all.reduce((n, e) => n + e.text.length, 0));
    const seen = new Map<string, string>();
    let read = 0, fail = 0;
    const t0 = process.cpuUsage().user;
    let worst: [number, string][] = [];
    for (let n = 0; n < CASES; n++) {
      const one = caseOf(all, SEED, n);
      const b = process.cpuUsage().user;
      try {
        if (await runCase(one) === "read") read++;
      } catch (error) {
        fail++;
        const key = String((error as Error).stack).split("\n").slice(0, 4).join("\n");
        if (!seen.has(key)) { seen.set(key, `${n} ${one.reader.name} ${one.excerpt.name}`); }
      }
      worst.push([(process.cpuUsage().user - b) / 1000, `${n} ${one.reader.name} ${one.excerpt.name} ${one.bytes.length}`]);
      worst.sort((a, b) => b[0] - a[0]); worst = worst.slice(0, 12);
    }
    console.log({ read, fail, cpu: (process.cpuUsage().user - t0) / 1e6 });
    console.log(worst);
    for (const [k, v] of seen) console.log(v, "\n", k, "\n");
    expect(fail).toBe(0);
  }, 600_000);
});
