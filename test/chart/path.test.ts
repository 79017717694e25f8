import { join } from "node:path";
import { from, type ColumnTable } from "arquero";
import { criticalPath, kickPaths, loadTraceCmd, pathChart, stackRuns, virtioKicks, type Chart } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { runColours } from "../../kernel-lib/chart/theme.js";
import { DATA } from "../peer.js";
import { colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";

type Row = Record<string, any>;
const barsOf = (chart: Chart): Row[] => chart.vconcat[0].data.values;

describe("pathChart", () => {
  let path: ColumnTable;
  beforeAll(async () => {
    const of = async (mode: string): Promise<ColumnTable> => {
      const trace = await loadTraceCmd(join(DATA, `capture/icount-${mode}/trace-cmd.nsec.txt.gz`), { quiet: true });
      return kickPaths(trace, virtioKicks(trace), { until: "ack" });
    };
    path = criticalPath(stackRuns({ virtio: await of("virtio"), vhost: await of("vhost") }));
  });

  it("has a bar per run and wait, as long as the mean, with its share", () => {
    const chart = pathChart(path), svg = expectSound(chart);
    for (const row of path.objects() as Row[]) {
      const bar = barsOf(chart).find(({ name, what }) => name === row.run && what === row.what);
      if (row.share < 0.05) continue;
      expect(bar!.us).toBeCloseTo(row.mean / 1000, 6);
      expect(bar!.in).toBe(`${row.n} of ${row.kicks}`);
    }
    expect(colourOf(chart, "virtio")).toBe(runColours.virtio);
    for (const word of ["vCPU blocked in QEMU", "mean time per kick (µs)", "64 %"]) expect(svg).toContain(word);
    const first = path.objects()[0] as Row;
    expect([chart.title.text].flat().join(" ")).toContain(`${first.run}, ${first.what} (${first.share.toFixed(0)} %)`);
  });
  it("leaves out what is next to nothing, and says so", () => {
    const rows = path.objects() as Row[], small = rows.map((row, i) => (i === rows.length - 1 ? { ...row, what: "a moment", share: 0.01, mean: 3 } : row));
    const chart = pathChart(from(small));
    expect(barsOf(chart).some(({ what }) => what === "a moment")).toBe(false);
    expect(chart.title.subtitle.join(" ")).toContain("1 more, each under 0.05 % of every way, is left out.");
  });
  it("draws back ends without runs, stages, no rows, and hostile names", () => {
    expect(new Set(barsOf(pathChart(from((path.objects() as Row[]).map((row) => ({ ...row, run: null }))))).map(({ name }) => name))).toEqual(new Set(["qemu", "vhost"]));
    const none = pathChart(path.slice(0, 0) as ColumnTable);
    expectSound(none);
    expect(none.title.text).toEqual(["No kick's path is known"]);
    expectHarmless(pathChart(from(hostileNames.map((name) => ({ run: name, backend: name, what: name, total: 5000, share: 10, mean: 2000, n: 1, longest: 1, kicks: 2 })))));
  });
});
