import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { HAS_JUPYTER, NO_JUPYTER, runCells, session, streamText, traceback, type Executed } from "./session.js";

describe.skipIf(!HAS_JUPYTER)(`the kernel, through Jupyter${NO_JUPYTER}`, () => {
  it("shows a cell's last value, numbers cells, and keeps what cells declare", async () => {
    const [a, b, c, d, e] = await runCells([
      'import * as aq from "arquero";\nconst t = aq.table({ comm: ["qemu", "vhost-936"], n: [48211, 7] });\nt',
      "const rows: number = t.numRows();\nrows * 2",
      "const nothing = 1;",
      "kl.describe(t)", // the prelude imports kl
      '"text"',
    ]);
    expect(a.outputs.map((o: any) => o.type)).toEqual(["execute_input", "execute_result"]);
    expect(a.outputs[1].execution_count).toBe(1);
    expect(a.outputs[1].data!["text/html"]).toContain(">48,211</td>");
    expect(a.outputs[1].data!["text/plain"]).toBe("comm            n\nqemu       48,211\nvhost-936       7\n2 rows");
    expect(b.outputs[1].data).toEqual({ "text/plain": "4" });
    expect(b.reply).toMatchObject({ status: "ok", execution_count: 2 });
    expect(c.outputs.map((o: any) => o.type)).toEqual(["execute_input"]);
    expect(d.outputs[1].data!["text/plain"]).toContain("made in this notebook");
    expect(e.outputs[1].data).toEqual({ "text/plain": "text" });
  });

  it("binds a variable of an earlier cell in { shorthand }", async () => {
    const [, short, nested] = await runCells(["const names = [1, 2];", "JSON.stringify({ names })", "((x) => x.names.length)({ names, ...{ other: names } })"]);
    expect(short.outputs[1].data).toEqual({ "text/plain": '{"names":[1,2]}' });
    expect(nested.outputs[1].data).toEqual({ "text/plain": "2" });
  });

  it("sends true errors, with the lines of the cells in which they arose", async () => {
    const [, , typeError, thrown, rejected, refused, claim, after] = await runCells([
      'import * as kl from "kernel-lib";',
      "interface Options { x: number }\nfunction boom(options: Options): never {\n  // a comment\n  throw new RangeError(`boom ${options.x}`);\n}",
      "const s: number = 'a';\nnope();",
      "\n\nboom({ x: 1 });",
      "const one = 1;\nawait Promise.reject(new Error('late', { cause: new TypeError('deep') }));",
      "throw 'just text'",
      "kl.check(false, 'one is more than two', '1 > 2')",
      "one + 1",
    ]) as Executed[];
    const error = ({ outputs }: Executed) => outputs.find((o) => o.type === "error")!;
    expect(error(typeError)).toMatchObject({ ename: "TypeScript", evalue: "1:7 Type 'string' is not assignable to type 'number'.\n2:1 Cannot find name 'nope'." });
    expect(traceback(error(typeError))).toContain("> 2 | nope();");
    expect(error(thrown)).toMatchObject({ ename: "RangeError", evalue: "boom 1" });
    expect(thrown.reply).toMatchObject({ status: "error", execution_count: 4, ename: "RangeError" });
    expect(traceback(error(thrown)).split("\n")).toEqual([
      "RangeError: boom 1",
      "    at boom In[2]:4:9",
      "    2 | function boom(options: Options): never {",
      "    3 |   // a comment",
      "  > 4 |   throw new RangeError(`boom ${options.x}`);",
      "      |         ^",
      "    5 | }",
      "    at In[4]:3:1",
    ]);
    expect(error(rejected)).toMatchObject({ ename: "Error", evalue: "late" });
    expect(traceback(error(rejected))).toContain("> 2 | await Promise.reject(");
    expect(traceback(error(rejected))).toContain("caused by TypeError: deep");
    expect(error(refused)).toMatchObject({ ename: "Thrown", evalue: "just text" });
    expect(error(claim)).toMatchObject({ ename: "CheckError", evalue: "does not hold: one is more than two (1 > 2)" });
    expect(claim.outputs.find((o) => o.type === "display_data")!.data!["text/plain"]).toBe("✗ one is more than two (1 > 2)");
    // Names that the failed cell had set before it failed are not declared for later cells: the cell has not run to its end.
    expect(after.reply.status).toBe("error");
  });

  it("tells of a promise that no cell awaited", async () => {
    const [cell] = await runCells(["Promise.reject(new Error('unheard'));\nawait new Promise((done) => setTimeout(done, 50));"]) as Executed[];
    expect(cell.reply.status).toBe("ok");
    expect(streamText(cell.outputs, "stderr")).toContain("A promise failed that no cell awaited");
    expect(streamText(cell.outputs, "stderr")).toContain("unheard");
  });

  it.each([20_000, 100_000])("loses nothing of %i lines, nor what comes after", async (n) => {
    const [flood, split] = await runCells([
      `for (let i = 0; i < ${n}; i++) console.log("line", i);\nkl.show("between");\nconsole.error("end");\n"last"`,
      // a character cut in two by the writer
      'const euro = Buffer.from("€"); process.stdout.write(euro.subarray(0, 1)); process.stdout.write(euro.subarray(1)); 0',
    ]) as Executed[];
    const lines = streamText(flood.outputs).split("\n");
    expect(lines.length).toBe(n + 1);
    expect(lines.findIndex((line, i) => i < n && line !== `line ${i}`)).toBe(-1);
    expect(flood.outputs.slice(-3).map((o) => o.type)).toEqual(["display_data", "stream", "execute_result"]);
    expect(flood.outputs.length).toBeLessThan(40);
    expect(streamText(split.outputs)).toBe("€");
  });

  it("shows a chart in three forms of one output, in order among the others", async () => {
    const [cell] = await runCells([`
      const spec = { $schema: "https://vega.github.io/schema/vega-lite/v5.json", title: "Exits", data: { values: [{ x: 1, y: 2 }] },
        mark: "point", encoding: { x: { field: "x", type: "quantitative" }, y: { field: "y", type: "quantitative" } } };
      console.log("before"); kl.show(spec); console.log("after");
      kl.md\`**Reading:** \${48211} exits\``]) as Executed[];
    expect(cell.outputs.map((o) => o.type)).toEqual(["execute_input", "stream", "display_data", "stream", "execute_result"]);
    const { data, metadata } = cell.outputs[2];
    expect(Object.keys(data!)).toEqual(["application/vnd.vegalite.v5+json", "image/png", "text/plain"]);
    expect(data!["application/vnd.vegalite.v5+json"].mark).toBe("point");
    expect(Buffer.from(data!["image/png"], "base64").subarray(1, 4).toString()).toBe("PNG");
    expect(metadata!["image/png"].width).toBeGreaterThan(100);
    expect(data!["text/plain"]).toBe("chart: Exits");
    expect(cell.outputs[4].data!["text/markdown"]).toBe("**Reading:** 48,211 exits");
  });

  it("is interrupted in an await and in an endless loop, and goes on", async () => {
    const [, waiting, looping, after] = await session([
      { execute: "0" }, // so that the compiler has started
      { execute: "await new Promise(() => {});", interrupt: 1 },
      { execute: "while (true) {}", interrupt: 1 },
      { execute: "1 + 1" },
    ]);
    for (const cell of [waiting, looping]) {
      expect(cell.outputs.at(-1)).toMatchObject({ type: "error", ename: "Interrupted" });
      expect(cell.seconds).toBeLessThan(10);
    }
    expect(after.outputs.at(-1).data).toEqual({ "text/plain": "2" });
  });

  it("is interrupted while its compiler still starts, and goes on with the library there", async () => {
    const [early, after] = await session([{ execute: "await new Promise(() => {});", interrupt: 0.05 }, { execute: "kl.formatValue(1234)" }]);
    expect(early.outputs.at(-1)).toMatchObject({ type: "error", ename: "Interrupted" });
    expect(after.outputs.at(-1).data).toEqual({ "text/plain": "1,234" });
  });

  it("drops the requests that were waiting when a cell failed, and no later one", async () => {
    const [together, later] = await session([{ together: ["1", "throw new Error('stop')", "2", "3"] }, { execute: "4" }]);
    expect(together.map((r: any) => r.status)).toEqual(["ok", "error", "aborted", "aborted"]);
    expect(later.reply.status).toBe("ok");
  });

  it("completes, inspects and tells whether code is whole", async () => {
    const [, completed, inspected, whole, part, info] = await session([
      { execute: "const answer = { exits: 42 };" },
      { complete: "answer.ex" }, { inspect: "answer", at: 3 }, { isComplete: "1 + 1" }, { isComplete: "function f() {" }, { info: true },
    ]);
    expect(completed).toMatchObject({ matches: ["exits"], cursor_start: 7, cursor_end: 9 });
    expect(inspected.data["text/plain"]).toContain("exits: number");
    expect(whole.status).toBe("complete");
    expect(part.status).toBe("incomplete");
    expect(info.language_info).toMatchObject({ name: "typescript", file_extension: ".ts" });
  });

  it("finds the library, with its types, from a folder that has no packages", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kernel-lib-elsewhere-"));
    try {
      const [runs, typed] = await runCells([
        'import * as kl from "kernel-lib";\nimport { table, op } from "arquero";\ntable({ x: [1, 2] }).rollup({ sum: op.sum("x") })',
        "kl.formatValue('not a number')",
      ], folder) as Executed[];
      expect(runs.outputs.at(-1)!.data!["text/plain"]).toBe("sum\n  3\n1 row");
      expect(typed.outputs.at(-1)!.evalue).toContain("Argument of type 'string' is not assignable to parameter of type 'number'");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("takes modules: Node's own, a file beside the notebook, a cell", async () => {
    const folder = mkdtempSync(join(tmpdir(), "kernel-lib-modules-"));
    try {
      writeFileSync(join(folder, "helper.ts"), "export const twice = (n: number): number => 2 * n;\n");
      const [node, file, module, used, wrong] = await runCells([
        'import { basename } from "node:path";\nimport { readFile } from "node:fs/promises";\nconst text: string = await readFile("helper.ts", "utf8");\nbasename(process.cwd()).slice(0, 18) + text.length',
        'import { twice } from "./helper";\ntwice(21)',
        "/** @module thrice */\nexport const thrice = (n: number): number => 3 * n;",
        'import { thrice } from "./thrice";\nthrice(14)',
        "/** @module faulty */\nexport const n: number = 'text';",
      ], folder) as Executed[];
      expect(node.outputs.at(-1)!.data!["text/plain"]).toBe("kernel-lib-modules51");
      for (const cell of [file, used]) expect(cell.outputs.at(-1)!.data!["text/plain"]).toBe("42");
      expect(module.outputs.map((o) => o.type)).toEqual(["execute_input"]);
      expect(streamText(wrong.outputs, "stderr")).toContain("Type 'string' is not assignable to type 'number'");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("rewrites a loader's progress in place and leaves the accounting", async () => {
    const [cell] = await runCells([
      'const bytes = Buffer.from("a;b 3\\nc 4\\n");\nawait kl.loadFolded(bytes, { name: "one" });\nawait kl.loadFolded(bytes, { name: "two" });\n0',
    ]) as Executed[];
    const [first, second] = cell.outputs.filter((o) => o.type !== "execute_input");
    expect(first.data!["text/plain"]).toBe("one: 2 lines = 2 rows; all understood");
    expect(second.type).toBe("update_display_data");
    expect(second.data!["text/plain"]).toBe("one: 2 lines = 2 rows; all understood\ntwo: 2 lines = 2 rows; all understood");
    expect(second.transient!.display_id).toBe(first.transient!.display_id);
  });
});
