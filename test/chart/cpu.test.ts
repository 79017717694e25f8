import { readFileSync } from "node:fs";
import { join } from "node:path";
import { escape, from } from "arquero";
import { cpuChart, excludeIdle, fromPerfReport } from "kernel-lib";
import { describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { allOf, colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";
import { modeColours } from "../../kernel-lib/chart/theme.js";

const report = (mode: string, file: string) => fromPerfReport(readFileSync(join(DATA, "talk", mode, file)));
const both = (of: (mode: string) => ReturnType<typeof report>) => ["virtio", "vhost"].map((mode) => of(mode).derive({ run: escape(() => mode) })).reduce((a, b) => a.concat(b));
const before = both((mode) => report(mode, "perf-kvm-report-comm.txt"));
const after = both((mode) => excludeIdle(report(mode, "perf-kvm-report-idle.txt"), { from: report(mode, "perf-kvm-report-comm.txt") }));

describe("cpuChart", () => {
  it("shows the slide's shares before and after idle exclusion, a panel per run", () => {
    const chart = cpuChart(after, { before });
    const svg = expectSound(chart);
    expect(chart.concat.map((panel: any) => panel.title.text)).toEqual([
      "virtio, with idle time: 100.0 %", "vhost, with idle time: 100.0 %", "virtio, without idle time: 80.4 %", "vhost, without idle time: 46.8 %",
    ]);
    expect(chart.title.text.join(" ")).toBe("Most of the CPU time that is not idle: in virtio :1035 30.2 % and in vhost qemu-system-aar 13.1 %");
    const ends = chart.concat[2].layer[1].data.values.map((row: any) => [row.comm, row.end]);
    expect(ends.slice(0, 4)).toEqual([[":1035", 30.19], ["qemu-system-aar", 25.31], [":1037", 13.26], ["swapper", 4.02]]);
    for (const word of ["host kernel (sys)", "guest user (guest usr)", "share of all samples (%)"]) expect(svg).toContain(word);
  });
  it("splits a bar into the four modes, each with its colour; the parts add up to the whole", () => {
    const chart = cpuChart(after, { before });
    for (const mode of ["sys", "usr", "guest sys", "guest usr"]) expect(colourOf(chart, mode)).toBe(modeColours[mode]);
    const [bars, ends] = chart.concat[0].layer.map((layer: any) => layer.data.values);
    for (const { comm, end } of ends) {
      const parts = bars.filter((bar: any) => bar.comm === comm).reduce((sum: number, bar: any) => sum + bar.share, 0);
      expect(Math.abs(parts - end), comm).toBeLessThan(0.03);
    }
  });
  it("all panels have the same scale", () => {
    const domains = allOf(cpuChart(after, { before }), "scale").filter((scale) => typeof scale.domain?.[1] === "number").map((scale) => scale.domain.join());
    expect(domains.length).toBe(4);
    expect(new Set(domains).size).toBe(1);
  });
  it("says which commands are not drawn; draws all where asked to", () => {
    expect(cpuChart(after).title.subtitle.join(" ")).toMatch(/\d+ commands below 0.5 % are not drawn\./);
    const all = cpuChart(after, { minShare: 0 });
    expectSound(all);
    expect(() => cpuChart(after, { minShare: -1 })).toThrow("minShare is a percentage from 0; this is -1");
  });
  it("one run without a name; a real recording; an empty table; another table", () => {
    const one = cpuChart(report("virtio", "perf-kvm-report-comm.txt"));
    expectSound(one);
    expect(one.concat[0].title.text).toBe("all commands: 100.0 %");
    expectSound(cpuChart(fromPerfReport(readFileSync(join(DATA, "capture", "icount-virtio", "perf-kvm-report-comm.txt")))));
    expectSound(cpuChart(report("virtio", "perf-kvm-report-comm.txt").filter(() => false)));
    expect(() => cpuChart(from([{ x: 1 }]))).toThrow("cpuChart needs the columns comm, overhead, sys, usr, guest_sys, guest_usr; this table has x");
  });
  it("takes names from a hostile machine", () => {
    const rows = hostileNames.map((comm, i) => ({ run: hostileNames[i % 2], comm, overhead: 5 + i, sys: 5, usr: i, guest_sys: 0, guest_usr: 0 }));
    expectHarmless(cpuChart(from(rows), { before: from(rows) }));
    expectHarmless(cpuChart(from(rows.map((row) => ({ ...row, run: "a" })))));
  });
});
