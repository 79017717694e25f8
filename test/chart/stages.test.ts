import { join } from "node:path";
import { escape, from, type ColumnTable } from "arquero";
import { kickStages, loadTraceCmd, stageChart, virtioKicks, type Chart } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { runColours, stageColours } from "../../kernel-lib/chart/theme.js";
import { DATA } from "../peer.js";
import { colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";

type Row = Record<string, any>;
const wayOf = (chart: Chart): Row[] => chart.vconcat[0].layer[0].data.values;
const spreadOf = (chart: Chart): Row[] => chart.vconcat[1].data.values;

describe("stageChart", () => {
  let stages: ColumnTable;
  beforeAll(async () => {
    const parts = await Promise.all(["virtio", "vhost"].map(async (mode) => virtioKicks(await loadTraceCmd(join(DATA, `capture/icount-${mode}/trace-cmd.nsec.txt.gz`))).derive({ run: escape(() => mode) })));
    stages = kickStages(parts[0].concat(parts[1]));
  });

  it("lays the mean stages of whole chains end to end, as long as they add up to", () => {
    const chart = stageChart(stages), svg = expectSound(chart);
    for (const run of ["virtio", "vhost"]) {
      const rows = (stages.objects() as Row[]).filter((row) => row.run === run && row.share !== null).sort((a, b) => a.index - b.index);
      const way = wayOf(chart).filter(({ name }) => name === run);
      expect(way.map(({ stage }) => stage)).toEqual(rows.map(({ stage }) => stage));
      way.forEach(({ from: begin, to }, i) => {
        expect(begin).toBe(i === 0 ? 0 : way[i - 1].to);
        expect(to - begin).toBeCloseTo(rows[i].mean / 1000, 6);
      });
      expect(chart.title.text.join(" ")).toContain(`${run} `);
      expect(colourOf(chart, run)).toBe(runColours[run as "virtio"]);
    }
    for (const word of ["tun_get_user → interrupt", "time since the exit (µs)", "time in the stage", "10 µs"]) expect(svg).toContain(word);
  });
  it("shows median, 90th and 99th percentile of each stage in µs", () => {
    const spread = spreadOf(stageChart(stages));
    for (const row of (stages.objects() as Row[]).filter(({ p50 }) => p50 !== null)) {
      const shown = spread.find(({ name, stage }) => name === row.run && stage === row.stage)!;
      for (const p of ["p50", "p90", "p99"]) expect(shown[p]).toBe(row[p] > 0 ? row[p] / 1000 : null);
    }
  });
  it("knows every stage of kickStages by colour", () => {
    for (const stage of new Set(stages.array("stage") as string[])) expect(Object.keys(stageColours)).toContain(stage);
    expect(new Set(Object.values(stageColours)).size).toBe(Object.keys(stageColours).length);
  });
  it("names back ends where there are no runs, and draws where no chain is whole", () => {
    const rows = (stages.objects() as Row[]).map(({ run, ...row }) => ({ ...row, backend: run === "vhost" ? "vhost" : "qemu" }));
    expect(new Set(spreadOf(stageChart(from(rows))).map(({ name }) => name))).toEqual(new Set(["qemu", "vhost"]));
    const broken = stageChart(from(rows.map((row) => ({ ...row, whole: 0, mean: null, share: null }))));
    expectSound(broken);
    expect(broken.title.text.join(" ")).toBe("No kick of these is whole");
    expectSound(stageChart(stages.slice(0, 0) as ColumnTable));
  });
  it("takes hostile names as text", () => {
    expectHarmless(stageChart(from(hostileNames.map((name, index) => ({ run: name, backend: name, index, stage: name, n: 5, p50: 1000, p90: 2000, p99: 3000, whole: 2, mean: 1500, share: 10 })))));
  });
});
