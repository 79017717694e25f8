import { readFileSync } from "node:fs";
import { join } from "node:path";
import { escape, from } from "arquero";
import { bitrateChart, fromIperf3, OptionError } from "kernel-lib";
import { describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { allOf, axesOf, colourOf, dataOf, expectHarmless, expectSound, hostileNames } from "./spec.js";
import { runColours } from "../../kernel-lib/chart/theme.js";

const run = (name: string, ...path: string[]) => fromIperf3(readFileSync(join(DATA, ...path))).derive({ run: escape(() => name) });
const talk = run("virtio", "talk", "virtio", "iperf3.txt").concat(run("vhost", "talk", "vhost", "iperf3.txt"));

describe("bitrateChart", () => {
  it("draws each interval in Gbit/s and says both totals of the slide", () => {
    const chart = bitrateChart(talk);
    expectSound(chart);
    expect(chart.title.text.join(" ")).toBe("Bit rate over the whole run: virtio 1.66 Gbit/s and vhost 3.26 Gbit/s");
    const points = dataOf(chart).filter((row) => "time" in row);
    expect(points.length).toBe(20);
    expect(points[0]).toMatchObject({ run: "virtio", time: 0.5, interval: "0.00 – 1.00 s" });
    expect(points[0].rate).toBeGreaterThan(1);
    expect(dataOf(chart).filter((row) => !("time" in row)).map((row) => [row.run, row.rate])).toEqual([["virtio", 1.66], ["vhost", 3.26]]);
    expect(axesOf(chart)).toEqual(["time since the run began (s)", "bit rate (Gbit/s)"]);
    expect([colourOf(chart, "virtio"), colourOf(chart, "vhost")]).toEqual([runColours.virtio, runColours.vhost]);
  });
  it("takes the unit that fits: the emulator without icount runs at Mbit/s", () => {
    const chart = bitrateChart(run("virtio", "capture", "virtio", "iperf3.json"));
    expectSound(chart);
    expect(axesOf(chart)).toContain("bit rate (Mbit/s)");
    expect(Math.max(...dataOf(chart).map((row) => row.rate))).toBeLessThan(1000);
  });
  it("needs no run, and then no legend", () => {
    const chart = bitrateChart(fromIperf3(readFileSync(join(DATA, "talk", "virtio", "iperf3.txt"))));
    expectSound(chart);
    expect(allOf(chart, "legend").filter((legend) => legend !== null && legend.orient === undefined)).toEqual([]);
  });
  it("says so where a point stands for several intervals", () => {
    const rows = Array.from({ length: 12_000 }, (_, i) => ({ kind: "interval", start: i, end: i + 1, bitrate: 1e6 * (i % 3) }));
    const chart = bitrateChart(from(rows));
    expect(dataOf(chart).length).toBe(4000);
    expect(chart.title.subtitle.join(" ")).toContain("Each point is the mean of 3 intervals.");
    // 0, 1 and 2 Mbit/s
    expect(dataOf(chart)[7].rate).toBe(1);
  });
  it("an empty table is an empty chart; another table is an error that names the columns", () => {
    expectSound(bitrateChart(fromIperf3("")));
    expect(() => bitrateChart(from([{ x: 1 }]))).toThrow(OptionError);
    expect(() => bitrateChart(from([{ x: 1 }]))).toThrow("bitrateChart needs the columns kind, start, end, bitrate; this table has x");
  });
  it("takes a title, and names from a hostile machine", () => {
    expect(bitrateChart(talk, { title: "Twice" }).title.text).toEqual(["Twice"]);
    const rows = hostileNames.flatMap((name) => [0, 1].map((i) => ({ run: name, kind: i ? "total" : "interval", start: 0, end: 1, bitrate: 1e9 })));
    expectHarmless(bitrateChart(from(rows)));
  });
});
