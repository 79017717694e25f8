import { join } from "node:path";
import { escape, from, table, type ColumnTable } from "arquero";
import { kvmExits, latencyChart, loadTraceCmd, OptionError, type Chart } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { reasonColours, runColours } from "../../kernel-lib/chart/theme.js";
import { DATA } from "../peer.js";
import { allOf, colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";

interface Bin { run?: string; name?: string; x: number; share: number; range: string; exits: string; part: string }
const binsOf = (chart: Chart, row: number): Bin[] => chart.vconcat[row].layer[0].data.values;
const headingOf = (chart: Chart, row: number): { name: string; counts: string[] } => chart.vconcat[row].layer[2].data.values[0];

describe("latencyChart", () => {
  let exits: ColumnTable;
  beforeAll(async () => {
    const parts = await Promise.all(["virtio", "vhost"].map(async (mode) => kvmExits(await loadTraceCmd(join(DATA, `capture/icount-${mode}/trace-cmd.nsec.txt.gz`))).derive({ run: escape(() => mode) })));
    exits = parts[0].concat(parts[1]);
  });

  it("draws a row per reason, most frequent first, runs on top of each other", () => {
    const chart = latencyChart(exits), svg = expectSound(chart);
    for (const word of ["DABT_LOW", "WFx", "10 µs", "1 ms", "Time in the host per exit"]) expect(svg).toContain(word);
    const rows = chart.vconcat.map((_: unknown, i: number) => headingOf(chart, i));
    const reasons = (exits.objects() as { reason: string; run: string; handling: number | null }[]).filter(({ handling }) => handling !== null);
    for (const { name, counts } of rows) {
      expect(counts).toEqual(["virtio", "vhost"].map((run) => `${run} ${reasons.filter((exit) => exit.reason === name && exit.run === run).length.toLocaleString("en-US")}`));
    }
    const totals = rows.map(({ name }: { name: string }) => reasons.filter(({ reason }) => reason === name).length);
    expect(totals).toEqual([...totals].sort((a, b) => b - a));
    expect(colourOf(chart, "vhost")).toBe(runColours.vhost);
  });
  it("counts in bins: each holds what lies in it, shares of a run add up to 100 %", () => {
    const chart = latencyChart(exits);
    chart.vconcat.forEach((_: unknown, i: number) => {
      const { name } = headingOf(chart, i);
      for (const run of ["virtio", "vhost"]) {
        const own = (exits.objects() as { reason: string; run: string; handling: number | null }[]).filter((exit) => exit.reason === name && exit.run === run && exit.handling !== null);
        const bins = binsOf(chart, i).filter((bin) => bin.run === run);
        expect(bins.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(100, 9);
        for (const { x, exits: n } of bins) {
          const inside = own.filter(({ handling }) => handling! >= x * 1000 * (1 - 1e-9) && handling! < x * 1000 * 10 ** 0.1 * (1 - 1e-9)).length;
          expect(Number(n.replaceAll(",", "")), `${name} ${run} ${x}`).toBe(inside);
        }
      }
    });
    expect(chart.title.subtitle.join(" ")).toContain("10 bins per factor of ten");
  });
  it("says what it leaves out: nulls, rare reasons, zeros", () => {
    const missing = (exits.array("handling") as (number | null)[]).filter((x) => x === null).length;
    expect(missing).toBeGreaterThan(0);
    expect(latencyChart(exits).title.subtitle.join(" ")).toContain(`${missing} of ${exits.numRows().toLocaleString("en-US")} have no handling and are left out.`);
    const chart = latencyChart(from([..."aaabbc"].map((reason, i) => ({ reason, guest: i === 0 ? 0 : 1000 }))), { span: "guest", most: 2 });
    expect(chart.vconcat).toHaveLength(2);
    expect(chart.title.subtitle.join(" ")).toMatch(/The 2 most frequent of 3\..* 1 took less than 1 ns/);
  });
  it("colours reasons where there is one run", () => {
    const chart = latencyChart(exits.filter((d: any) => d.run === "virtio").select("reason", "guest") as ColumnTable, { span: "guest" });
    expectSound(chart);
    expect(colourOf(chart, "WFx")).toBe(reasonColours.WFx);
    expect(chart.title.text.join(" ")).toBe("Time in the guest before each exit (entry → exit) by reason");
  });
  it("has as many marks for a million rows as for a thousand", () => {
    const rows = (n: number) => ({ reason: Array.from({ length: n }, (_, i) => `r${i % 4}`), handling: Float64Array.from({ length: n }, (_, i) => 10 ** (3 + (i % 997) / 200)) });
    const size = (n: number) => JSON.stringify(latencyChart(table(rows(n)))).length;
    expect(size(1_000_000)).toBeLessThan(size(4000) * 1.2);
  });
  it("draws nothing where there is nothing", () => {
    expectSound(latencyChart(from([{ reason: "a", handling: null }])));
  });
  it("takes other columns, hostile names and refuses wrong options", () => {
    const named = from(hostileNames.map((comm, i) => ({ comm, run: hostileNames[i % 3], wait: 1000 * (i + 1) })));
    const chart = latencyChart(named, { span: "wait", by: "comm", most: 30 });
    expectHarmless(chart);
    expect(allOf(chart, "labelExpr").length).toBeGreaterThan(0);
    expect(() => latencyChart(named)).toThrow("latencyChart needs the columns reason, handling; this table has comm, run, wait");
    for (const options of [{ bins: 0 }, { bins: 2.5 }, { most: 0 }]) expect(() => latencyChart(exits, options)).toThrow(OptionError);
  });
});
