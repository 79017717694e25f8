import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type * as Resvg from "@resvg/resvg-js";
import type * as ResvgWasm from "@resvg/resvg-wasm";
import type * as Vega from "vega";
import type * as VegaLite from "vega-lite";
import { fontFile } from "./fonts.js";
import { textWidth } from "./text-width.js";
import { OptionError } from "../errors.js";

/** A chart drawn: as SVG, and as the PNG made of it at twice the size, for sharp print and screens. */
export interface RenderedChart {
  svg: string;
  /** null in the first moments of a program in which resvg runs as WebAssembly. */
  png: Uint8Array | null;
  /** Of the chart in CSS pixels; the PNG has twice as many. */
  width: number;
  height: number;
}

const PNG_SCALE = 2;
const require = createRequire(import.meta.url);
// Loaded with the first chart: they take longer than all the rest of the library.
const drawers = () => ({
  vega: require("vega") as typeof Vega,
  vegaLite: require("vega-lite") as typeof VegaLite,
});
// resvg leaves text out, without a word, when it has no font: these files come with the package.
const fontFiles = [fontFile("DejaVuSans.ttf"), fontFile("DejaVuSans-Bold.ttf"), fontFile("DejaVuSansMono.ttf")];

/**
 * Draws a Vega-Lite 5 spec (a chart of ours, edited or not) without a browser. Its data must be inline.
 * @throws OptionError where the spec names data by URL.
 */
export function renderChart(spec: object): RenderedChart {
  const { vega, vegaLite } = drawers();
  (vega as any).textMetrics.width = measured;
  const quiet = vega.logger(vega.Error);
  const compiled = vegaLite.compile({ ...spec } as VegaLite.TopLevelSpec, { logger: quiet as any }).spec;
  if (compiled.data?.some((data) => "url" in data && data.url !== undefined)) {
    throw new OptionError("renderChart draws inline data alone; put the rows into data.values instead of data.url");
  }
  const view = new vega.View(vega.parse(compiled), { renderer: "none", logger: quiet });
  const { svg, width, height } = drawNow(view, (vega as any).SVGStringRenderer);
  view.finalize();
  return { svg, png: toPng(svg), width, height };
}

/**
 * resvg comes as a native module for each system, which npm counts as optional; where it was left out, the same program as WebAssembly does it.
 * That takes a moment to start, so it starts when this file is loaded.
 */
let wasm: typeof ResvgWasm | null = null;
const hasNative = nativeIsThere();
if (!hasNative) startWasm().catch((error: Error) => process.emitWarning(`charts have no PNG: ${error.message}`));

function nativeIsThere(): boolean {
  const own = createRequire(require.resolve("@resvg/resvg-js"));
  const { optionalDependencies } = own("./package.json") as { optionalDependencies: Record<string, string> };
  return Object.keys(optionalDependencies).some((name) => {
    try {
      return own.resolve(name) !== "";
    } catch {
      return false;
    }
  });
}

async function startWasm(): Promise<void> {
  const loaded = require("@resvg/resvg-wasm") as typeof ResvgWasm;
  await loaded.initWasm(readFileSync(require.resolve("@resvg/resvg-wasm/index_bg.wasm")));
  wasm = loaded;
}

function toPng(svg: string): Uint8Array | null {
  const options = { fitTo: { mode: "zoom" as const, value: PNG_SCALE } };
  const families = { loadSystemFonts: false, defaultFontFamily: "DejaVu Sans", sansSerifFamily: "DejaVu Sans", monospaceFamily: "DejaVu Sans Mono" };
  if (hasNative) return new (require("@resvg/resvg-js") as typeof Resvg).Resvg(svg, { ...options, font: { fontFiles, ...families } }).render().asPng();
  if (wasm) return new wasm.Resvg(svg, { ...options, font: { fontBuffers: fontFiles.map((file) => readFileSync(file)), ...families } }).render().asPng();
  return null;
}

/** Vega asks how wide a text is, to lay out titles, legends and axes. */
function measured(item: { fontSize?: number; fontWeight?: string | number; limit?: number }, text: unknown): number {
  const lines = (Array.isArray(text) ? text : [text ?? ""]).map(String);
  const bold = item.fontWeight === "bold" || Number(item.fontWeight) >= 600;
  const widest = lines.reduce((most, line) => Math.max(most, textWidth(line, item.fontSize ?? 11, bold)), 0);
  // Vega cuts a text off at its limit.
  return (item.limit ?? 0) > 0 ? Math.min(widest, item.limit!) : widest;
}

/**
 * What `view.toSVG()` does, without its promise: a cell's `show(chart)` must have written before its next
 * statement runs. With inline data nothing in the dataflow waits, so that `run()` has finished when it returns.
 */
function drawNow(view: Vega.View, Renderer: new () => any): { svg: string; width: number; height: number } {
  view.run();
  const { _viewWidth, _viewHeight } = view as unknown as { _viewWidth: number; _viewHeight: number };
  const padding = view.padding() as { left: number; right: number; top: number; bottom: number };
  const width = Math.max(0, _viewWidth + padding.left + padding.right);
  const height = Math.max(0, _viewHeight + padding.top + padding.bottom);
  const [x, y] = view.origin();
  const renderer = new Renderer();
  renderer.initialize(null, width, height, [padding.left + x, padding.top + y], 1);
  renderer.background(view.background());
  return { svg: renderer.render((view.scenegraph() as any).root).svg(), width, height };
}
