import { join } from "node:path";
import { from, type ColumnTable } from "arquero";
import { compareRuns, effectsChart, loadRun, type Chart } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { expectHarmless, expectSound, hostileNames } from "./spec.js";

type Row = Record<string, any>;
const rowsOf = (chart: Chart): Row[] => chart.vconcat.flatMap((part: Row) => part.data.values);

describe("effectsChart", () => {
  let comparison: ColumnTable;
  beforeAll(async () => {
    const [virtio, vhost] = await Promise.all(["virtio", "vhost"].map((mode) => loadRun(join(DATA, `capture/icount-${mode}`), { name: mode, only: ["iperf3", "perfStat", "instructions", "kvmStat", "commands"] })));
    comparison = compareRuns(virtio, vhost);
  });

  it("draws every measure that has a ratio, group by group, with its interval and its verdict in words", () => {
    const chart = effectsChart(comparison), svg = expectSound(chart), rows = comparison.objects() as Row[];
    const drawn = rowsOf(chart);
    expect(drawn.map(({ measure }) => measure)).toEqual(rows.filter(({ ratio }) => ratio !== null).map(({ measure }) => measure));
    expect(chart.vconcat.map((part: Row) => part.title.text)).toEqual([...new Set(rows.map(({ group }) => group))]);
    for (const shown of drawn) {
      const row = rows.find(({ measure }) => measure === shown.measure)!;
      expect(shown.ratio).toBe(row.ratio);
      expect(shown.words).toContain(row.verdict);
      if (row.needed !== null) expect(shown.words).toContain(`needs ${row.needed}`);
      if (shown.cutLow === null) expect(shown.low).toBe(row.low);
      expect(shown.values).toContain(row.unit === "bit/s" ? "Gbit/s" : row.unit);
    }
    for (const word of ["bitrate to server", "exits for WFx", "better", "worse", "ratio vhost / virtio"]) expect(svg).toContain(word);
    expect(chart.title.subtitle.join(" ")).toContain("1 more row has no ratio");
  });
  it("shows the measures' names whole, and those that are too long for it with an ellipsis and a tooltip", () => {
    const name = "CPU of qemu-system-aar without idle at 100Mbit/s";
    const rows = comparison.objects().map((row: object, i) => (i === 0 ? { ...row, measure: name } : i === 1 ? { ...row, measure: name.repeat(3) } : row));
    const chart = effectsChart(from(rows)), svg = expectSound(chart);
    expect(svg.includes(`>${name}<`)).toBe(true);
    expect(/>CPU of qemu-system-aar without idle at 1[^<]*…</.test(svg)).toBe(true);
    for (const part of chart.vconcat) {
      const label = part.layer.find(({ encoding }: Row) => encoding.text?.field === "measure");
      expect(label.encoding.tooltip.map(({ field }: Row) => field)).toContain("measure");
    }
  });
  it("cuts an interval that leaves the picture, with an arrow", () => {
    const row = { ...(comparison.object(0) as Row), verdict: "too little data", needed: 12, ratio: 1.2, low: 0.0001, high: 90000 };
    const [shown] = rowsOf(effectsChart(from([row])));
    expect(shown.low).toBe(shown.cutLow);
    expect(shown.high).toBe(shown.cutHigh);
    expect(shown.low).toBeGreaterThan(0.05);
    expect(shown.interval).toBe("1.0e-4 to 9.0e+4");
  });
  it("draws a ratio of 0 as an arrow to the left", () => {
    const row = { ...(comparison.object(0) as Row), ratio: 0, low: 0, high: 0.03 };
    const chart = effectsChart(from([row, comparison.object(1)])), [shown] = rowsOf(chart);
    expect(shown).toMatchObject({ ratio: null, words: expect.stringContaining("×0 "), interval: "0 to 0.0300" });
    expect(shown.low).toBe(shown.cutLow);
    expectSound(chart);
  });
  it("draws some verdicts alone, and nothing where there is nothing", () => {
    const better = effectsChart(comparison, { verdicts: ["better"] });
    expect(new Set(rowsOf(better).map(({ verdict }) => verdict))).toEqual(new Set(["better"]));
    expectSound(better);
    expectSound(effectsChart(comparison.filter(() => false)));
    expect(() => effectsChart(comparison, { verdicts: ["good"] })).toThrow(/verdicts are some of better, worse, no difference seen, too little data; this is "good"/);
    expect(() => effectsChart(comparison.select("measure"))).toThrow(/effectsChart needs the columns group/);
  });
  it("lets no name from the input out of its quotes", () => {
    const rows = comparison.objects() as Row[];
    const hostile = hostileNames.map((name, i) => ({ ...rows[i % 3], measure: name, method: name }));
    expectHarmless(effectsChart(from(hostile)));
  });
});
