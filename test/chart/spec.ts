import { createRequire } from "node:module";
import { expect } from "vitest";
import { renderChart, type Chart } from "kernel-lib";

const require = createRequire(import.meta.url);
const vegaLite = require("vega-lite");

/** Names as a traced machine might have them, made to break out of wherever text is put. */
export const hostileNames = [
  "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>", "a.b[0]", "it's \"quoted\" \\", "' + datum.ratio + '", "datum.x || warn('x')",
  "[click](javascript:alert(3))", "{{name}}", "__proto__", "constructor", "toString", "\u202egnp.exe", "tab\tnew\nline", "\u001b[31mred\u0000", "", "virtio & vhost", "ä→µ 漢字",
];

/** Every object in a specification, with the path to it; what `data.values` holds is left out, it is never taken for anything but data. */
export function* partsOf(value: unknown, path = "spec"): Generator<[string, Record<string, any>]> {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield [path, value as Record<string, any>];
  for (const [key, child] of Object.entries(value)) {
    if (key === "values" && path.endsWith(".data")) continue;
    yield* partsOf(child, `${path}.${key}`);
  }
}

/** All rows that a specification holds. */
export function dataOf(chart: Chart): Record<string, any>[] {
  const rows: Record<string, any>[] = [];
  for (const [, part] of partsOf(chart)) if (Array.isArray(part.data?.values)) rows.push(...part.data.values);
  return rows;
}

/** The values of a property, wherever it stands in the specification. */
export const allOf = (chart: Chart, key: string): any[] => [...partsOf(chart)].filter(([, part]) => Object.hasOwn(part, key)).map(([, part]) => part[key]);

/** The titles of the axes. */
export const axesOf = (chart: Chart): string[] => allOf(chart, "axis").map((axis) => axis?.title).filter((title) => typeof title === "string");

/** The colour that a scale gives to a name. */
export function colourOf(chart: Chart, name: string): string | undefined {
  for (const scale of allOf(chart, "scale")) if (Array.isArray(scale?.range) && scale.domain?.includes(name)) return scale.range[scale.domain.indexOf(name)];
  return undefined;
}

/** What holds for each chart: a plain, self-contained specification that Vega-Lite takes without a word and that can be drawn. Returns the SVG. */
export function expectSound(chart: Chart): string {
  expect(chart.$schema).toBe("https://vega.github.io/schema/vega-lite/v5.json");
  expect(JSON.parse(JSON.stringify(chart))).toEqual({ ...chart });
  const said: unknown[] = [];
  const logger = { level: () => logger, error: (...text: unknown[]) => (said.push(text), logger), warn: (...text: unknown[]) => (said.push(text), logger), info: () => logger, debug: () => logger };
  vegaLite.compile(JSON.parse(JSON.stringify(chart)), { logger });
  expect(said).toEqual([]);
  for (const [path, part] of partsOf(chart)) {
    for (const key of ["url", "href", "loader", "usermeta"]) expect(Object.hasOwn(part, key), `${path}.${key}`).toBe(false);
    // Columns are our own words, so that no name from the input is taken for a path or an expression.
    if ("field" in part) expect(part.field, path).toMatch(/^[a-z_][a-z0-9_]*$/i);
  }
  const { svg, png, width, height } = renderChart(chart);
  expect(Buffer.from(png!.subarray(1, 4)).toString()).toBe("PNG");
  expect(width).toBeGreaterThan(300);
  expect(width).toBeLessThan(760);
  expect(height).toBeGreaterThan(40);
  expect(svg).not.toMatch(/<(script|img|a|foreignObject)\b|xlink:href|\bNaN\b/);
  return svg;
}

/** The same for input with hostile names: their text stands in data and titles alone, never in an expression. */
export function expectHarmless(chart: Chart): void {
  expectSound(chart);
  for (const [path, part] of partsOf(chart)) {
    for (const tip of [part.tooltip].flat()) for (const name of hostileNames.filter((text) => text.length > 3)) expect(tip?.title ?? "", path).not.toContain(name);
    for (const key of ["expr", "labelExpr", "filter", "calculate", "format", "test", "signal"]) {
      if (!Object.hasOwn(part, key)) continue;
      for (const name of hostileNames.filter((text) => text.length > 3)) expect(JSON.stringify(part[key]), `${path}.${key}`).not.toContain(JSON.stringify(name).slice(1, -1));
    }
  }
}
