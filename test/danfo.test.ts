import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { table } from "arquero";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA, ROOT } from "./peer.js";

let danfo: any = null;
try {
  danfo = createRequire(import.meta.url)("danfojs-node");
} catch { /* --omit=optional */ }

describe.skipIf(!danfo)("danfo (needs danfojs-node)", () => {
  it("takes a recording there and back: types, nulls, exact times", async () => {
    const original = await kl.loadPerfStat(join(DATA, "talk", "vhost", "perf-stat.txt"), { quiet: true });
    const frame = kl.toDanfo(original);
    expect(frame.shape).toEqual([original.numRows(), original.numCols()]);
    expect(frame.columns).toEqual(original.columnNames());
    expect(frame["value"].values).toEqual(original.array("value"));
    const back = kl.fromDanfo(frame, { like: original });
    expect(back.columnNames()).toEqual(original.columnNames());
    expect(back.objects({ limit: Infinity })).toEqual(original.objects({ limit: Infinity }));
    expect(kl.describe(back).objects()).toEqual(kl.describe(original).objects());
  });

  it("keeps what danfo itself would guess otherwise", () => {
    const original = table({
      ts: [83328209498123, 83328209498124, null], ratio: [1.5, 2, 3], hex: ["0x1", "16", null],
      flag: [true, null, false], all: [true, true, false], none: [null, null, null], text: ["", "é\n", "NaN"],
    });
    const frame = kl.toDanfo(original);
    expect(frame.dtypes).toEqual(["int32", "float32", "string", "boolean", "boolean", "string", "string"]);
    expect(kl.fromDanfo(frame).objects()).toEqual(original.objects());
  });

  it("takes empty tables, which danfo refuses in its usual form", () => {
    const original = kl.fromPerfKvmStat("");
    expect(original.numRows()).toBe(0);
    const frame = kl.toDanfo(original);
    expect(frame.shape).toEqual([0, original.numCols()]);
    const back = kl.fromDanfo(frame);
    expect(back.numRows()).toBe(0);
    expect(back.columnNames()).toEqual(original.columnNames());
    expect(kl.fromDanfo(kl.toDanfo(table({}))).numCols()).toBe(0);
    // What danfo's own verbs leave empty comes back too.
    const some = kl.toDanfo(table({ n: [1, 2], name: ["a", "b"] }));
    expect(kl.fromDanfo(some.query(some["n"].gt(5))).objects()).toEqual([]);
  });

  it("brings back what danfo's verbs made", () => {
    const frame = kl.toDanfo(table({ run: ["a", "a", "b"], dur: [1, 3, 10] }));
    const means = kl.fromDanfo(frame.groupby(["run"]).col(["dur"]).mean());
    expect(means.objects()).toEqual([{ run: "a", dur_mean: 2 }, { run: "b", dur_mean: 10 }]);
    expect(kl.fromDanfo(new danfo.DataFrame({ x: [1, undefined, NaN] })).array("x")).toEqual([1, null, null]);
  });

  it("follows a table's filter and order", () => {
    const some = table({ n: [3, 1, 2] }).filter((d: any) => d.n > 1).orderby("n");
    expect(kl.toDanfo(some).values).toEqual([[2], [3]]);
  });

  it("refuses what a DataFrame cannot hold", () => {
    expect(() => kl.toDanfo(table({ index: [1], a: [2] }))).toThrow(/cannot have a column "index".*rename it first/);
    expect(() => kl.toDanfo(table({ $data: [1] }))).toThrow(kl.OptionError);
    expect(() => kl.toDanfo(table({ a: [1, "x"] }))).toThrow(/holds number and strings/);
    expect(() => kl.toDanfo(table({ a: [new Date(0)] }))).toThrow(/values of type object/);
    expect(() => kl.toDanfo(table({ a: [1n] }))).toThrow(/values of type bigint/);
    expect(() => kl.fromDanfo([1, 2] as any)).toThrow(/takes a DataFrame/);
    expect(() => kl.fromDanfo(new danfo.Series([1, 2]))).toThrow(/takes a DataFrame/);
  });
});

const BUILT = join(ROOT, "kernel-lib", "dist", "danfo.js");

it.skipIf(!existsSync(BUILT))("says how to install danfo where it is missing (needs the built library)", () => {
  const dir = mkdtempSync(join(tmpdir(), "kernel-lib-danfo-"));
  try {
    // Node finds no danfo when its resolver is told so: a machine with --omit=optional.
    const program = `import Module from "node:module";
      const real = Module._resolveFilename;
      Module._resolveFilename = function (name, ...rest) {
        if (name === "danfojs-node") throw Object.assign(new Error("Cannot find module"), { code: "MODULE_NOT_FOUND" });
        return real.call(this, name, ...rest);
      };
      const { toDanfo } = await import(${JSON.stringify(BUILT)});
      const { table } = await import(${JSON.stringify(createRequire(join(ROOT, "kernel-lib", "package.json")).resolve("arquero"))});
      try { toDanfo(table({ a: [1] })); } catch (error) { console.log(error.message); }`;
    const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8", cwd: dir });
    expect(stderr).toBe("");
    expect(stdout).toMatch(/^danfojs-node is not installed\. .*npm install danfojs-node@1\.2\.0/);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
