import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { renderChart } from "kernel-lib";
import type * as Vega from "vega";
import type * as VegaLite from "vega-lite";
import { describe, expect, it } from "vitest";
import { ROOT } from "../peer.js";

// The same copies as renderChart's, which measures texts for them.
const require = createRequire(import.meta.url);
const vega = require("vega") as typeof Vega, vegaLite = require("vega-lite") as typeof VegaLite;

const values = Array.from({ length: 50 }, (_, i) => ({ x: i, y: Math.sin(i / 5) * 100, c: `k${i % 3}` }));
const x = { field: "x", type: "quantitative" }, y = { field: "y", type: "quantitative" };
const specs: [string, object][] = [
  ["a line", { width: 400, height: 200, title: "exits", mark: "line", encoding: { x, y, color: { field: "c" } } }],
  ["a layout that is fitted", { width: 600, height: 200, autosize: { type: "fit", contains: "padding" }, title: { text: "a", subtitle: "b" }, mark: "bar", encoding: { x: { field: "c" }, y: { ...y, aggregate: "mean" } } }],
  ["charts side by side", { hconcat: [{ mark: "point", params: [{ name: "p", select: "point" }], encoding: { x } }, { mark: "area", encoding: { x, y: { ...y, scale: { type: "symlog" } } } }] }],
  ["rows of densities", { transform: [{ density: "y", groupby: ["c"] }], mark: "area", encoding: { x: { field: "value", type: "quantitative" }, y: { field: "density", type: "quantitative" }, row: { field: "c" } } }],
  ["a legend outside, a background", { background: "#eee", padding: { left: 5, right: 40, top: 1, bottom: 2 }, mark: "rect", encoding: { x: { ...x, bin: true }, y: { ...y, bin: true }, color: { aggregate: "count" } } }],
];
const whole = (spec: object) => ({ $schema: "https://vega.github.io/schema/vega-lite/v5.json", data: { values }, ...spec });

describe("renderChart", () => {
  it.each(specs)("draws %s at once as Vega does in its own time", async (_, spec) => {
    const now = renderChart(whole(spec)).svg;
    const view = new vega.View(vega.parse(vegaLite.compile(whole(spec) as VegaLite.TopLevelSpec).spec), { renderer: "none" });
    const inTime = await view.toSVG();
    // Vega numbers gradients through the life of the process.
    const numbered = (svg: string) => svg.replace(/gradient_\d+/g, "gradient");
    expect(numbered(now) === numbered(inTime)).toBe(true);
  });

  it("makes the same PNG by WebAssembly where the native module was left out", () => {
    const run = (preload: string) => execFileSync(process.execPath, ["--import", `data:text/javascript,${encodeURIComponent(preload)}`, "--input-type=module", "-e", `
      const { renderChart } = await import(${JSON.stringify(pathToFileURL(join(ROOT, "kernel-lib/dist/index.js")).href)});
      const spec = { data: { values: [{}] }, mark: { type: "text", text: "WWWW µs", fontSize: 40 }, width: 300, height: 100 };
      for (let i = 0; i < 100 && !renderChart(spec).png; i++) await new Promise((resolve) => setTimeout(resolve, 50));
      process.stdout.write(Buffer.from(renderChart(spec).png).toString("base64"));`], { encoding: "utf8", cwd: ROOT });
    const native = Buffer.from(run(""), "base64");
    const wasm = Buffer.from(run('import Module from "node:module"; const find = Module._resolveFilename; Module._resolveFilename = function (name, ...rest) { if (/resvg-js-/.test(name)) throw Object.assign(new Error("left out"), { code: "MODULE_NOT_FOUND" }); return find.call(this, name, ...rest); };'), "base64");
    expect(wasm.subarray(1, 4).toString()).toBe("PNG");
    expect([wasm.readUInt32BE(16), wasm.readUInt32BE(20)]).toEqual([native.readUInt32BE(16), native.readUInt32BE(20)]);
    expect(Math.abs(wasm.length / native.length - 1)).toBeLessThan(0.2);
  });

  it("makes a PNG of twice the size, with its letters", () => {
    const spec = { data: { values: [{}] }, mark: { type: "text", text: "WWWW µs", fontSize: 40, font: "No Such Font" }, width: 300, height: 100, config: { view: { stroke: null } } };
    const png = (s: object) => {
      const bytes = Buffer.from(renderChart(s).png!);
      return { bytes, width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
    };
    const withText = png(spec), without = png({ ...spec, mark: { ...spec.mark, text: "" } });
    expect(withText.width).toBe(2 * renderChart(spec).width);
    expect(withText.bytes.length).toBeGreaterThan(2 * without.bytes.length);
  });

  it("does not change the spec, and reads no data from elsewhere", () => {
    const spec = whole(specs[0][1]);
    const before = JSON.stringify(spec);
    renderChart(spec);
    expect(JSON.stringify(spec)).toBe(before);
    expect(() => renderChart({ data: { url: "file:///etc/passwd" }, mark: "point" })).toThrow("put the rows into data.values instead of data.url");
  });
});
