import { readFileSync } from "node:fs";
import { join } from "node:path";
import { escape, from } from "arquero";
import { exitChart, exitSummary, fromPerfKvmStat, kvmExits, loadTraceCmd, OptionError } from "kernel-lib";
import { describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { allOf, colourOf, dataOf, expectHarmless, expectSound, hostileNames } from "./spec.js";
import { reasonColours, runColours } from "../../kernel-lib/chart/theme.js";

const stat = (mode: string) => fromPerfKvmStat(readFileSync(join(DATA, "talk", mode, "perf-kvm-stat.txt")));
const talk = ["virtio", "vhost"].map((mode) => stat(mode).derive({ run: escape(() => mode) })).reduce((a, b) => a.concat(b));
const barsOf = (chart: ReturnType<typeof exitChart>) => dataOf(chart).map((row) => [row.run, row.reason, row.count]);

// Made up, in the shape of perf kvm stat report: there is no recording of an x86 host. Only its exit reasons matter here.
const x86 = `             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time         Avg time

                 HLT       1024    50.00%    99.00%      3.00us  40000.00us   2000.00us ( +-   2.00% )
       EPT_MISCONFIG        512    25.00%     0.70%      4.00us    100.00us     10.00us ( +-   1.00% )
  EXTERNAL_INTERRUPT        512    25.00%     0.30%      1.00us     50.00us      5.00us ( +-   1.50% )
`;

describe("exitChart", () => {
  it("compares the slide's exits of both runs, count and time", () => {
    const chart = exitChart(talk);
    expectSound(chart);
    expect(barsOf(chart)).toEqual(expect.arrayContaining([["virtio", "DABT_LOW", 4578], ["vhost", "DABT_LOW", 23050], ["virtio", "WFx", 3546], ["vhost", "WFx", 2318]]));
    expect(chart.title.text.join(" ")).toBe("Exits by reason: virtio 11,410 and vhost 34,551");
    expect([colourOf(chart, "virtio"), colourOf(chart, "vhost")]).toEqual([runColours.virtio, runColours.vhost]);
  });
  it("says that perf's times on arm64 are the guest's, on x86 the host's", () => {
    expect(exitChart(talk).title.subtitle.join(" ")).toContain("time in the guest: entry → exit");
    const chart = exitChart(fromPerfKvmStat(x86));
    expectSound(chart);
    expect(chart.title.subtitle.join(" ")).toContain("time in the host: exit → next entry");
    expect(() => exitChart(talk, { span: "handling" })).toThrow(OptionError);
  });
  it("one run: a colour per reason, no legend", () => {
    const chart = exitChart(stat("virtio"));
    expectSound(chart);
    for (const reason of ["DABT_LOW", "WFx", "SYS64", "IRQ"]) expect(colourOf(chart, reason)).toBe(reasonColours[reason]);
    expect(allOf(chart, "legend").filter((legend) => legend !== null && legend.orient === undefined)).toEqual([]);
    expect(chart.title.text.join(" ")).toBe("11,410 exits by reason, most often DABT_LOW");
  });
  it("times are in µs for the axis and in words for a person", () => {
    const wfx = dataOf(exitChart(stat("virtio"))).find(({ reason }) => reason === "WFx")!;
    const row = (stat("virtio").objects() as any[]).find(({ event }) => event === "WFx");
    expect(wfx.middle).toBe(row.avg / 1000);
    expect(wfx.tipMiddle).toMatch(/ µs$/);
    expect(allOf(exitChart(stat("virtio")), "labelExpr").some((text) => text.includes("' µs'"))).toBe(true);
  });
  it("takes exitSummary of a trace, either span", async () => {
    const summary = exitSummary(kvmExits(await loadTraceCmd(join(DATA, "capture", "icount-virtio", "trace-cmd.nsec.txt.gz"))));
    for (const span of ["handling", "guest"] as const) {
      const chart = exitChart(summary, { span });
      expectSound(chart);
      const first = summary.object(0) as any, drawn = dataOf(chart).find(({ reason }) => reason === first.reason)!;
      expect(drawn.count).toBe(first.count);
      expect(drawn.middle).toBe(first[`${span}_p50`] === null ? null : first[`${span}_p50`] / 1000);
    }
    expect(() => exitChart(summary, { span: "both" as never })).toThrow("span is one of handling, guest; this is \"both\"");
  });
  it("an empty table, another table, more reasons than it draws", () => {
    expectSound(exitChart(fromPerfKvmStat("")));
    expect(() => exitChart(from([{ x: 1 }]))).toThrow("exitChart needs the columns event, samples, avg; this table has x");
    const many = exitChart(from(Array.from({ length: 40 }, (_, i) => ({ event: `EXIT_${i}`, samples: i + 1, avg: 1000 * (i + 1) }))));
    expectSound(many);
    expect(many.title.subtitle.join(" ")).toContain("The 24 most frequent of 40 reasons.");
    expect(dataOf(many).length).toBe(24);
  });
  it("takes names from a hostile machine", () => {
    const rows = hostileNames.flatMap((event, i) => ["a", hostileNames[0]].map((run) => ({ run, event, samples: i + 1, avg: 1000 * (i + 1), min: 500, max: 1e6 })));
    expectHarmless(exitChart(from(rows)));
    expectHarmless(exitChart(from(rows.filter(({ run }) => run === "a"))));
  });
});
