import { join } from "node:path";
import { escape, from, type ColumnTable } from "arquero";
import { backendStates, loadTraceCmd, stateChart, vcpuStates, vcpuStateSummary, type Chart, type Trace } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { stateColours } from "../../kernel-lib/chart/theme.js";
import { DATA } from "../peer.js";
import { allOf, colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";

type Row = Record<string, any>;
const barsOf = (chart: Chart): Row[] => chart.vconcat[0].data.values;
const panelsOf = (chart: Chart): Row[][] => chart.vconcat.slice(1).map((panel: any) => panel.data.values);

describe("stateChart", () => {
  let traces: Trace[], states: ColumnTable;
  beforeAll(async () => {
    traces = await Promise.all(["virtio", "vhost"].map((mode) => loadTraceCmd(join(DATA, `capture/icount-${mode}/trace-cmd.nsec.txt.gz`), { quiet: true })));
    const [virtio, vhost] = traces.map((trace, i) => vcpuStates(trace).derive({ run: escape(() => ["virtio", "vhost"][i]) }));
    states = virtio.concat(vhost);
  });

  it("shows each state's share of the recording, as vcpuStateSummary has it", () => {
    const chart = stateChart(states), svg = expectSound(chart);
    const summary = vcpuStateSummary(states).objects() as Row[];
    expect(barsOf(chart).length).toBe(summary.length);
    for (const { run, vcpu, state, share } of summary) {
      const bar = barsOf(chart).find((row) => row.name === `${run}, vCPU ${vcpu}` && row.state === state)!;
      expect(bar.high - bar.low).toBeCloseTo(share, 6);
      expect(colourOf(chart, state)).toBe(stateColours[state]);
    }
    for (const word of ["virtio, vCPU 0", "vhost, vCPU 1", "share of the recording (%)", "time since the recording began (ms)", "blocked"]) expect(svg).toContain(word);
    expect(chart.title.text.join(" ")).toContain(`virtio, vCPU 0 ${summary[0].state} ${summary[0].share.toFixed(1)} %`);
  });
  it("adds states up in stretches that are full, says so, and loses no time", () => {
    for (const bins of [1, 7, 120]) {
      const chart = stateChart(states, { bins });
      expect(chart.title.subtitle.join(" ")).toContain(`in ${bins} stretches of `);
      expect(panelsOf(chart).length).toBe(4);
      for (const [i, values] of panelsOf(chart).entries()) {
        const full = new Map<number, number>(), share = new Map<string, number>();
        for (const { from: begin, state, low, high } of values) {
          expect(low).toBeCloseTo(full.get(begin) ?? 0, 6);
          full.set(begin, high);
          share.set(state, (share.get(state) ?? 0) + (high - low) / bins);
        }
        expect(full.size).toBe(bins);
        for (const top of full.values()) expect(top).toBeCloseTo(100, 6);
        for (const bar of barsOf(chart).filter(({ name }) => name === chart.vconcat[i + 1].title.text)) expect(share.get(bar.state)).toBeCloseTo(bar.high - bar.low, 6);
      }
    }
  });
  it("draws back ends, with colours of their own states", () => {
    const chart = stateChart(backendStates(traces[1]));
    expectSound(chart);
    expect(new Set(barsOf(chart).map(({ name }) => name))).toEqual(new Set(["qemu-system-aar (191)", "vhost-191 (195)"]));
    expect(colourOf(chart, "sleeping")).toBe(stateColours.halted);
    expect(new Set(["running", "runnable", "sleeping", "unknown"].map((state) => colourOf(chart, state))).size).toBe(4);
  });
  it("tells threads of one name apart, and draws what is empty", () => {
    const rows = [1, 2].map((pid) => ({ pid, vcpu: 0, start: 0, dur: 5000, state: "guest" }));
    expect(barsOf(stateChart(from(rows))).map(({ name }) => name)).toEqual(["vCPU 0, thread 1", "vCPU 0, thread 2"]);
    expectSound(stateChart(states.slice(0, 0) as ColumnTable));
    expectSound(stateChart(from(rows), { width: 500 }));
  });
  it("draws no more marks than a notebook bears", () => {
    const rows = Array.from({ length: 24 }, (_, pid) => Array.from({ length: 600 }, (_, i) => ({ pid, vcpu: pid, start: i * 1000, dur: 1000, state: Object.keys(stateColours)[i % 9] }))).flat();
    const chart = stateChart(from(rows), { bins: 500 });
    expect(allOf(chart, "values").flat().length).toBeLessThan(6000);
    expect(panelsOf(chart).flat().length).toBeLessThanOrEqual(5000);
  });
  it("refuses what is no number of stretches, and tables without the columns", () => {
    for (const bins of [0, -1, 1.5, NaN]) expect(() => stateChart(states, { bins })).toThrow(`bins is a whole number above 0; this is ${bins}`);
    expect(() => stateChart(states.select("pid", "start") as ColumnTable)).toThrow(/stateChart needs the columns pid, start, dur, state/);
  });
  it("takes hostile names as text", () => {
    expectHarmless(stateChart(from(hostileNames.map((name, i) => ({ run: name, comm: name, pid: i, start: 0, dur: 1000 + i, state: name })))));
  });
});
