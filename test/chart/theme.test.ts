import { bundleOf, chart } from "kernel-lib";
import { describe, expect, it } from "vitest";
import { colourScale, frameColours, logDomain, logTimeAxis, modeColours, reasonColours, runColours, runScale, stageColours, themed } from "../../kernel-lib/chart/theme.js";
import { textWidth } from "../../kernel-lib/chart/text-width.js";
import { hostileNames } from "./spec.js";

const spec = { $schema: "https://vega.github.io/schema/vega-lite/v5.json", title: { text: "Seen", subtitle: ["how"] }, data: { values: [{ x: 1 }] }, mark: "point", encoding: { x: { field: "x", type: "quantitative" } } };
const of = ({ domain, range }: { domain: string[]; range: string[] }) => Object.fromEntries(domain.map((name, i) => [name, range[i]]));

describe("a chart", () => {
  it("is the specification and nothing else", () => {
    expect(Object.keys(chart(spec))).toEqual(Object.keys(spec));
    expect({ ...chart(spec) }).toEqual(spec);
    expect(JSON.parse(JSON.stringify(chart(spec)))).toEqual(spec);
  });
  it("shows itself as Vega-Lite, picture and text, without HTML", () => {
    const { data, metadata } = bundleOf(chart(spec));
    expect(Object.keys(data).sort()).toEqual(["application/vnd.vegalite.v5+json", "image/png", "text/plain"]);
    expect(data["application/vnd.vegalite.v5+json"]).toEqual(spec);
    expect(Buffer.from(data["image/png"] as string, "base64").subarray(1, 4).toString()).toBe("PNG");
    expect(data["text/plain"]).toBe("Seen\nhow");
    expect((metadata["image/png"] as { width: number }).width).toBeGreaterThan(20);
  });
  it("shows what was edited, not what was made", () => {
    const edited = chart(spec);
    edited.title = "Edited";
    expect(bundleOf(edited).data["text/plain"]).toBe("Edited");
    expect((bundleOf(edited).data["application/vnd.vegalite.v5+json"] as { title: string }).title).toBe("Edited");
  });
  it("has titles of plain text, cut into lines that fit", () => {
    const { title } = themed(`a\n\u0007b ${"long ".repeat(30)}`, [null, "one", false, ""], {});
    expect(title.text[0]).toMatch(/^a \\u0007b long/);
    expect(title.text.length).toBe(2);
    for (const line of title.text) expect(textWidth(line, 14, true)).toBeLessThanOrEqual(720);
    // A word that no line holds is cut.
    expect(themed("w".repeat(500), [], {}).title.text[0]).toMatch(/^w{50,}…$/);
    // Of about one length, so that no last word stands alone.
    const [first, second] = title.text.map((line: string) => textWidth(line, 14, true));
    expect(second / first).toBeGreaterThan(0.7);
    expect(title.subtitle).toEqual(["one"]);
  });
  it("breaks no line between a number and its unit", () => {
    for (let n = 0; n < 60; n++) {
      const { title } = themed(`${"x".repeat(n)} goes: qemu-system-aar 41.8 %, vhost-191 22.6 s, swapper 1,234 ms, iperf3 9.41 Gbit/s and <guest>iperf3 12.9 G cycles of 88 %`, [`${"y".repeat(n)} ${"24.5 % of 3.1 µs; ".repeat(12)}`], {});
      for (const line of [...title.text, ...title.subtitle] as string[]) expect(line).not.toMatch(/^(%|[GMk] |(s|ms|µs|Gbit\/s)\b)/);
    }
  });
});

describe("colours", () => {
  it("runs keep those of their mode, in any order and beside others", () => {
    for (const names of [["virtio", "vhost"], ["vhost", "virtio"], ["z", "vhost", "a", "virtio"]]) {
      expect(of(runScale(names))).toMatchObject({ virtio: runColours.virtio, vhost: runColours.vhost });
    }
    expect(of(runScale(["icount-virtio", "talk-vhost"]))).toEqual({ "icount-virtio": runColours.virtio, "talk-vhost": runColours.vhost });
  });
  it("other names get the same ones whatever the order of the rows", () => {
    expect(of(runScale(["b", "a", "c"]))).toEqual(of(runScale(["c", "b", "a"])));
  });
  it("no two names share one", () => {
    const names = ["virtio", "vhost", "icount-virtio", "icount-vhost", ...Array.from({ length: 60 }, (_, i) => `run ${i}`), ...hostileNames];
    expect(new Set(runScale(names).range).size).toBe(new Set(names).size);
    for (const colour of runScale(names).range) expect(colour).toMatch(/^#[0-9a-f]{6}$/);
    // Reasons of one meaning share a colour over architectures, but not within one chart.
    expect(reasonColours.WFx).toBe(reasonColours.HLT);
    expect(new Set(colourScale(["WFx", "HLT", "WFI"], reasonColours).range).size).toBe(3);
  });
  it("keeps the order of the names given", () => {
    expect(runScale(["vhost", "a", "virtio"]).domain).toEqual(["vhost", "a", "virtio"]);
  });
  it("are colours, and those of one legend differ", () => {
    for (const set of [runColours, modeColours, frameColours, stageColours]) {
      for (const colour of Object.values(set)) expect(colour).toMatch(/^#[0-9a-f]{6}$/);
      expect(new Set(Object.values(set)).size).toBe(Object.keys(set).length);
    }
  });
  it("dark letters can be read on every frame of a flame graph", () => {
    for (const [name, colour] of Object.entries(frameColours)) expect(contrast(colour, "#000000"), name).toBeGreaterThan(7);
  });
});

describe("axes", () => {
  it("the domain of a logarithmic scale leaves out what it cannot hold", () => {
    expect(logDomain([0, null, undefined, -3, NaN, Infinity])).toBeNull();
    expect(logDomain([13, 0, 130])).toEqual([10, 169]);
  });
  it("times say their unit at each label", () => {
    const { labelExpr, values } = logTimeAxis("time", [5, 2000]) as { labelExpr: string; values: number[] };
    expect(values).toEqual([1, 10, 100, 1000, 10000]);
    for (const unit of [" s", " ms", " µs", " ns"]) expect(labelExpr).toContain(`'${unit}'`);
  });
});

/** Contrast of two colours as WCAG 2 defines it, 1 to 21. */
function contrast(a: string, b: string): number {
  const luminance = (colour: string) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16) / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4)).reduce((sum, x, i) => sum + x * [0.2126, 0.7152, 0.0722][i], 0);
  const [light, dark] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (light + 0.05) / (dark + 0.05);
}
