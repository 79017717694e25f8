import { from, type ColumnTable } from "arquero";
import { alignClocks, offsetChart, offsetScan, stackRuns, OptionError } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { recorded, rowsOf, type Recorded } from "../analysis/host-and-guest.js";
import { expectHarmless, expectSound, hostileNames } from "./spec.js";

let virtio: Recorded, scan: ColumnTable;
beforeAll(async () => {
  virtio = await recorded("virtio");
  scan = offsetScan(virtio.host, virtio.guest, { from: -50e3, to: 50e3, step: 5e3 });
}, 60_000);

describe("offsetScan", () => {
  it("counts as alignClocks does, and is lowest where it aligns", () => {
    const clocks = alignClocks(virtio.host, virtio.guest);
    expect(scan.numRows()).toBe(2 * 21);
    for (const offset of [-50e3, 0, 25e3]) {
      const given = rowsOf(alignClocks(virtio.host, virtio.guest, { offset }).cpus);
      expect(rowsOf(scan).filter((row) => row.offset === offset).map(({ inside, outside }) => [inside, outside])).toEqual(given.map(({ inside, outside }) => [inside, outside]));
    }
    for (const { cpu, offset } of rowsOf(clocks.cpus)) {
      const own = rowsOf(scan).filter((row) => row.cpu === cpu), least = own.reduce((a, b) => (b.outside < a.outside ? b : a));
      expect(least.outside).toBe(0);
      expect(Math.abs(least.offset - offset)).toBeLessThanOrEqual(5e3);
    }
    expect(() => offsetScan(virtio.host, virtio.guest, { from: 0, to: 10, step: 0 })).toThrow(OptionError);
  });
});

describe("offsetChart", () => {
  it("draws a line per CPU and a ring where it is lowest", () => {
    const chart = offsetChart(scan), svg = expectSound(chart);
    for (const word of ["CPU 0", "CPU 1", "added to the guest's times (µs)", "events outside of guest mode (%)"]) expect(svg).toContain(word);
    const [lines, rings] = chart.layer.map((layer: any) => layer.data.values);
    expect(lines.map(({ share }: any) => share)).toEqual(rowsOf(scan).map(({ share }) => share));
    expect(rings.map(({ name, share }: any) => [name, share])).toEqual([["CPU 0", 0], ["CPU 1", 0]]);
    expect(chart.title.subtitle.join(" ")).toMatch(/Lowest at 25\.0 µs \(CPU 0: 0 of/);
    expectSound(offsetChart(stackRuns({ a: scan, b: scan })));
    expectSound(offsetChart(scan.slice(0, 0)));
  });
  it("takes names for names, whatever they are", () => {
    expectHarmless(offsetChart(from(hostileNames.map((run, i) => ({ run, cpu: 0, offset: i * 1000, inside: 5, outside: i, share: i })))));
  });
});
