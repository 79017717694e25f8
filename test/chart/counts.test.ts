import { readFileSync } from "node:fs";
import { join } from "node:path";
import { from } from "arquero";
import { compareCounts, countsChart, fromPerfStat, OptionError } from "kernel-lib";
import { describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { axesOf, colourOf, dataOf, expectHarmless, expectSound, hostileNames } from "./spec.js";
import { runColours } from "../../kernel-lib/chart/theme.js";

const stat = (...path: string[]) => fromPerfStat(readFileSync(join(DATA, ...path)));
const names: [string, string] = ["virtio", "vhost"];
const talk = compareCounts(stat("talk", "virtio", "perf-stat.txt"), stat("talk", "vhost", "perf-stat.txt"), { names });
const repeats = (mode: string) => [1, 2, 3].map((i) => stat("capture", `icount-${mode}`, `perf-stat-run${i}.txt`));

describe("countsChart", () => {
  it("shows both sides of the slide's counts and their ratio", () => {
    const chart = countsChart(talk);
    const svg = expectSound(chart);
    const exit = dataOf(chart).find((row) => row.event === "kvm:kvm_exit" && row.side === undefined)!;
    const row = (talk.objects() as any[]).find(({ name }) => name === "kvm:kvm_exit");
    expect([exit.first, exit.second, exit.ratio]).toEqual([row.virtio, row.vhost, row.ratio]);
    expect(exit.words).toBe("×1.35");
    expect(svg).toContain("kvm:vgic_update_irq_pending");
    expect(chart.title.text.join(" ")).toBe("vhost against virtio: from kvm:kvm_wfx_arm64 ×0.534 to kvm:kvm_guest_fault ×2.18");
    expect([colourOf(chart, "virtio"), colourOf(chart, "vhost")]).toEqual([runColours.virtio, runColours.vhost]);
    expect(axesOf(chart)).toEqual(expect.arrayContaining(["events", "ratio vhost / virtio"]));
  });
  it("keeps the order of the table, or sorts as asked", () => {
    const order = (sort?: "table" | "ratio" | "value") => [...new Set(dataOf(countsChart(talk, sort ? { sort } : {})).map((row) => row.event).filter(Boolean))];
    const rows = (talk.objects() as any[]).filter(({ virtio, vhost }) => Math.max(virtio, vhost) > 0);
    expect(order()).toEqual(rows.map(({ name }) => name));
    expect(order("ratio")[0]).toBe("kvm:kvm_guest_fault");
    expect(order("value")[0]).toBe("kvm:kvm_arm_set_dreg32");
    expect(() => countsChart(talk, { sort: "name" as never })).toThrow("sort is one of table, ratio, value; this is \"name\"");
  });
  it("shows intervals where there are repeats, and says what is not drawn", () => {
    const compared = compareCounts(repeats("virtio"), repeats("vhost"), { names });
    const chart = countsChart(compared, { sort: "ratio" });
    expectSound(chart);
    const rows = compared.objects() as any[];
    const empty = rows.filter(({ virtio, vhost }) => !(virtio > 0) && !(vhost > 0)).length;
    expect(empty).toBeGreaterThan(1);
    expect(chart.title.subtitle.join(" ")).toContain(`${empty} more have nothing on either side and are not drawn.`);
    const entry = dataOf(chart).find(({ event }) => event === "kvm:kvm_entry")!, row = rows.find(({ name }) => name === "kvm:kvm_entry");
    expect([entry.low, entry.high]).toEqual([row.low, row.high]);
    expect(entry.low).toBeGreaterThan(0);
  });
  it("writes times as times", () => {
    const chart = countsChart(from([{ name: "handling", virtio: 1.5e6, vhost: 3e6, ratio: 2 }]), { unit: "ns" });
    expectSound(chart);
    expect(dataOf(chart)[0]).toMatchObject({ first: 1500, second: 3000, both: "virtio 1.50 ms, vhost 3.00 ms" });
  });
  it("one side without a value, none at all, another table", () => {
    const chart = countsChart(from([{ name: "a", virtio: 5, vhost: null, ratio: null }, { name: "b", virtio: 5, vhost: 6, ratio: 1.2 }]));
    expectSound(chart);
    expect(dataOf(chart)[0].words).toBe("only in virtio");
    expectSound(countsChart(talk.filter(() => false)));
    expect(() => countsChart(from([{ x: 1 }]))).toThrow(OptionError);
  });
  it("draws the largest 60 of many and says so", () => {
    const chart = countsChart(from(Array.from({ length: 200 }, (_, i) => ({ name: `event${i}`, virtio: i + 1, vhost: 2 * i + 2, ratio: 2 }))));
    expect(chart.title.subtitle.join(" ")).toContain("The 60 largest of 200 rows.");
    expect(new Set(dataOf(chart).map((row) => row.event).filter(Boolean)).size).toBe(60);
  });
  it("takes names from a hostile machine, of events and of sides", () => {
    for (const side of hostileNames.filter((name) => name !== "" && name !== "__proto__")) {
      expectHarmless(countsChart(from(hostileNames.map((name, i) => ({ name, [side]: i + 1, other: 2 * i + 2, ratio: 2 })))));
    }
  });
});
