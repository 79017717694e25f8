import { join } from "node:path";
import { from, type ColumnTable } from "arquero";
import { kickSequence, loadTraceCmd, sequenceChart, virtioKicks, type Chart, type KickRow, type Trace } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { textWidth } from "../../kernel-lib/chart/text-width.js";
import { DATA } from "../peer.js";
import { expectHarmless, expectSound, hostileNames } from "./spec.js";

type Row = Record<string, any>;
const layers = (chart: Chart, type: string): Row[] => chart.vconcat[0].layer.filter((layer: any) => layer.mark.type === type);
const spansOf = (chart: Chart): Row[] => layers(chart, "rect")[0].data.values;
const namesOf = (chart: Chart): Row[] => layers(chart, "text").find((layer) => layer.mark.stroke)!.data.values;
const arrowsOf = (chart: Chart): Row[] => layers(chart, "point")[0].data.values;
const xDomain = (chart: Chart): [number, number] => layers(chart, "rect")[0].encoding.x.scale.domain;

const kick = from([
  { lane: "guest vCPU 0 (10)", start: -2000, end: 3000, kind: "run", label: "exit: DABT_LOW", to: null },
  { lane: "guest vCPU 0 (10)", start: 0, end: null, kind: "event", label: "kick: QueueNotify", to: null },
  { lane: "guest vCPU 0 (10)", start: 500, end: null, kind: "wake", label: "sched_waking", to: "vhost worker (11)" },
  { lane: "guest vCPU 0 (10)", start: 3000, end: 90_000, kind: "guest", label: "guest", to: null },
  { lane: "vhost worker (11)", start: 8000, end: 60_000, kind: "run", label: "runs", to: null },
  ...[9000, 12_000, 15_000].map((start) => ({ lane: "vhost worker (11)", start, end: null, kind: "event", label: "tun_get_user", to: null })),
  { lane: "vhost worker (11)", start: 40_000, end: null, kind: "wake", label: "sched_waking", to: "guest vCPU 0 (10)" },
]);

/** Names of one lane must not cover each other, nor may the line up to a name cross another one. */
function expectReadable(chart: Chart): void {
  const [least, most] = xDomain(chart), pixel = (at: number) => ((at - least) / (most - least)) * chart.vconcat[0].width;
  const names = namesOf(chart).map(({ at, text, y, foot, lane }) => ({ from: pixel(at) + 4, to: pixel(at) + 4 + textWidth(text, 9.5), line: pixel(at), y, foot, lane, text }));
  for (const a of names) {
    expect(a.to, a.text).toBeLessThanOrEqual(chart.vconcat[0].width + 1);
    for (const b of names) {
      if (a === b) continue;
      if (a.y === b.y) expect(a.to <= b.from || b.to <= a.from, `${a.text} over ${b.text}`).toBe(true);
      if (a.lane === b.lane && b.y < a.y) expect(b.line > a.from && b.line < a.to, `the line of ${b.text} through ${a.text}`).toBe(false);
    }
  }
}

describe("sequenceChart", () => {
  const traces: Record<string, { trace: Trace; kicks: ColumnTable }> = {};
  beforeAll(async () => {
    for (const mode of ["virtio", "vhost"]) {
      const trace = await loadTraceCmd(join(DATA, `capture/icount-${mode}/trace-cmd.nsec.txt.gz`));
      traces[mode] = { trace, kicks: virtioKicks(trace).filter((d: any) => d.whole) as ColumnTable };
    }
  });

  it("has a lane per thread, bars in µs since the kick, points and arrows", () => {
    const chart = sequenceChart(kick), svg = expectSound(chart);
    expect(spansOf(chart).map(({ lane, from: begin, to, does }) => [lane, begin, to, does])).toEqual([
      ["guest vCPU 0 (10)", -2, 3, "runs on the host"], ["guest vCPU 0 (10)", 3, 90, "in the guest"], ["vhost worker (11)", 8, 60, "runs on the host"],
    ]);
    expect(new Set(namesOf(chart).map(({ text }) => text))).toEqual(new Set(["kick: QueueNotify", "wakes vhost worker (11)", "tun_get_user × 3", "wakes guest vCPU 0 (10)"]));
    expect(arrowsOf(chart).map(({ at, from: begin, tip }) => [at, Math.sign(tip - begin)])).toEqual([[0.5, 1], [40, -1]]);
    for (const word of ["time since the kick (µs)", "in the guest", "92.0 µs in 2 threads"]) expect(svg).toContain(word);
    expectReadable(chart);
  });
  it("names every event of real kicks where they can be read, of both modes", () => {
    for (const { trace, kicks } of Object.values(traces)) {
      for (const row of [0, Math.floor(kicks.numRows() / 2), kicks.numRows() - 1]) {
        const events = kickSequence(trace, kicks.object(row) as unknown as KickRow), chart = sequenceChart(events);
        expectSound(chart);
        expectReadable(chart);
        expect(chart.title.subtitle.join(" ")).not.toContain("no room");
        expect(spansOf(chart)).toHaveLength((events.objects() as Row[]).filter(({ end }) => end !== null).length);
      }
    }
  });
  it("says so where names have no room, and where there are too many rows", () => {
    const crowd = from(Array.from({ length: 200 }, (_, i) => ({ lane: "a", start: i * 10, end: null, kind: "event", label: `event number ${i}`, to: null })));
    const chart = sequenceChart(crowd);
    expectReadable(chart);
    expect(chart.title.subtitle.join(" ")).toContain(`${200 - namesOf(chart).length} events have no room for their name`);
    const long = sequenceChart(from(Array.from({ length: 5000 }, (_, i) => ({ lane: "a", start: i, end: i + 1, kind: "run", label: "", to: null }))));
    expect(spansOf(long)).toHaveLength(1500);
    expect(long.title.subtitle.join(" ")).toContain("The first 1,500 of 5,000 rows.");
  });
  it("draws no rows, and hostile names", () => {
    expectSound(sequenceChart(kick.slice(0, 0) as ColumnTable));
    expectHarmless(sequenceChart(from(hostileNames.flatMap((name, i) => [
      { lane: name, start: i * 1000, end: i * 1000 + 900, kind: "run", label: name, to: null },
      { lane: name, start: i * 1000, end: null, kind: "wake", label: name, to: hostileNames[(i + 1) % hostileNames.length] },
    ]))));
  });
});
