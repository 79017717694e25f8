import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { QEMU_KICK } from "./kick-text.js";

type Row = Record<string, any>;
const rows = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];
const capture = (path: string): Promise<kl.Trace> => kl.loadTraceCmd(join(DATA, "capture", path), { quiet: true });
const pathsOf = (trace: kl.Trace): kl.ColumnTable => kl.kickPaths(trace, kl.virtioKicks(trace));
const sum = (list: Row[], name: string): number => list.reduce((total, row) => total + row[name], 0);

/** The pieces of each kick follow each other from its exit to its end; sums of them all are the ways, to the nanosecond. */
function expectExact(trace: kl.Trace): void {
  const kicks = rows(kl.virtioKicks(trace)).filter(({ exit, end }) => exit !== null && end !== null);
  const paths = pathsOf(trace), byKick = new Map<number, Row[]>();
  for (const row of rows(paths)) (byKick.get(row.kick) ?? byKick.set(row.kick, []).get(row.kick)!).push(row);
  expect(byKick.size).toBe(kicks.length);
  let ways = 0;
  for (const { kick, exit, end } of kicks) {
    let at = exit;
    for (const { start, dur } of byKick.get(kick)!) {
      expect(start, `kick ${kick}`).toBe(at);
      expect(dur).toBeGreaterThan(0);
      at += dur;
    }
    expect(at, `kick ${kick}`).toBe(end);
    ways += end - exit;
  }
  for (const by of ["wait", "stage"] as const) {
    const path = rows(kl.criticalPath(paths, { by }));
    expect(sum(path, "total")).toBe(ways);
    if (path.length > 0) for (const backend of new Set(path.map((row) => row.backend))) {
      const own = path.filter((row) => row.backend === backend);
      expect(sum(own, "share")).toBeCloseTo(100, 9);
      expect(sum(own, "longest")).toBe(own[0].kicks);
    }
  }
  const waits = rows(kl.kickWaits(paths));
  expect(sum(waits, "way")).toBe(ways);
  for (const { way, stage_dur, wait_dur } of waits) expect(wait_dur <= stage_dur && stage_dur <= way).toBe(true);
}

describe("kickPaths", () => {
  it("follows the wake-ups of a kick (read off the text)", () => {
    const pieces = rows(pathsOf(kl.fromTraceCmd(QEMU_KICK)));
    // Wake .741724752, back end in .741730512 from swapper/1, tun_get_user .741750848, interrupt .741763424, wake of the vCPU .741765152, in .741769520 from swapper/3, entry .741783680, exit .741786368, read .741787936.
    expect(pieces.map(({ start, dur, stage, pid, wait }) => [start, dur, stage, pid, wait])).toEqual([
      [-1632, 1632, "kvm_exit → kick", 194, "vCPU in KVM"],
      [0, 1168, "kick → wake", 194, "vCPU in KVM"],
      [1168, 5760, "wake → back end runs", 190, "back end not known"],
      [6928, 20336, "back end runs → tun_get_user", 190, "back end works"],
      [27264, 12576, "tun_get_user → interrupt", 190, "back end works"],
      [39840, 1728, "interrupt → vCPU woken or out", 190, "back end works"],
      [41568, 4368, "vCPU woken or out → kvm_entry", 194, "vCPU waits for an idle CPU"],
      [45936, 14160, "vCPU woken or out → kvm_entry", 194, "vCPU in KVM"],
      [60096, 2688, "kvm_entry → InterruptStatus read", 194, "vCPU in the guest"],
      [62784, 1568, "kvm_entry → InterruptStatus read", 194, "vCPU in KVM"],
    ]);
  });

  it("says who had the CPU that a thread waited for, and when QEMU must pass vhost's interrupt on (read off the text)", async () => {
    const trace = await capture("icount-vhost/trace-cmd.nsec.txt.gz");
    const pieces = rows(pathsOf(trace)).filter(({ kick }) => kick === 2);
    expect(pieces.slice(2, 8).map(({ start, dur, pid, wait, by_comm }) => [start, dur, pid, wait, by_comm])).toEqual([
      [1184, 5216, 195, "back end waits for an idle CPU", null],
      [6400, 10688, 195, "back end works", null],
      [17088, 16160, 191, "QEMU waits for a busy CPU", "qemu-system-aar"],
      [33248, 14384, 191, "QEMU works", null],
      [47632, 1728, 191, "QEMU works", null],
      [49360, 141536, 196, "vCPU waits for a busy CPU", "ssh"],
    ]);
  });

  it("tells earlier work, further packets and the rest of the back end's running apart", async () => {
    const trace = await capture("icount-virtio/trace-cmd-256M-r1.nsec.txt.gz"), kicks = kl.virtioKicks(trace);
    const pieces = rows(kl.kickPaths(trace, kicks)), at = new Map(rows(kicks).map((kick) => [kick.kick, kick]));
    const earlier = pieces.filter(({ wait }) => wait === "back end busy with earlier work"), further = pieces.filter(({ wait }) => wait === "back end sends further packets");
    expect(earlier.length).toBeGreaterThan(5);
    for (const { kick, start, dur } of earlier) expect(at.get(kick)!.awake && start >= 0 && start + dur <= at.get(kick)!.tun_first).toBe(true);
    expect(further.length).toBeGreaterThan(100);
    for (const { kick, start, dur } of further) expect(start >= at.get(kick)!.tun_first && start + dur <= at.get(kick)!.tun_last && at.get(kick)!.tun_count > 1).toBe(true);
  });

  it.each(["icount-virtio/trace-cmd.nsec.txt.gz", "icount-vhost/trace-cmd-256M-r1.nsec.txt.gz", "virtio/trace-cmd-lost.txt.gz", "vhost/trace-cmd.txt.gz", "debugthreads/trace-cmd-small.txt.gz", "icount-agent-vhost/trace-cmd-merged.txt.zst"])(
    "%s: pieces and sums are exact", async (path) => expectExact(await capture(path)));

  it("adds up exactly whatever is missing from the text", async () => {
    // Two kicks and what lies between them, of each mode, with lines dropped and events lost.
    const parts = await Promise.all(["icount-virtio", "icount-vhost"].map(async (mode) => {
      const { readFile } = await import("node:fs/promises"), { gunzipSync } = await import("node:zlib");
      const lines = gunzipSync(await readFile(join(DATA, `capture/${mode}/trace-cmd.nsec.txt.gz`))).toString().split("\n"), kick = lines.findIndex((line) => line.includes("gpa 0xa003a50"));
      return lines.slice(kick - 60, kick + 400);
    }));
    fc.assert(fc.property(fc.nat(parts.length - 1), fc.array(fc.record({ at: fc.nat(459), n: fc.integer({ min: 1, max: 6 }), gap: fc.boolean() }), { maxLength: 12 }), (part, cuts) => {
      const lines = parts[part].slice();
      for (const { at, n, gap } of cuts) lines.splice(at % lines.length, n, ...(gap ? [`CPU:${at % 4} [${n} EVENTS DROPPED]`] : []));
      const text = lines.join("\n");
      if (!["kvm_exit:", "kvm_entry:", "kvm_mmio:", "sched_waking:", "sched_switch:"].every((event) => text.includes(event))) return;
      expectExact(kl.fromTraceCmd(text));
    }), { numRuns: 60, seed: 20240601 });
  });
});

describe("criticalPath", () => {
  it("adds up per run, and names a wrong option", async () => {
    const paths = kl.stackRuns({
      virtio: pathsOf(await capture("icount-virtio/trace-cmd.nsec.txt.gz")), vhost: pathsOf(await capture("icount-vhost/trace-cmd.nsec.txt.gz")),
    });
    const path = rows(kl.criticalPath(paths)), waits = rows(kl.kickWaits(paths));
    for (const [run, backend] of [["virtio", "qemu"], ["vhost", "vhost"]]) {
      const own = path.filter((row) => row.run === run);
      expect(new Set(own.map((row) => row.backend))).toEqual(new Set([backend]));
      expect(sum(own, "total")).toBe(sum(waits.filter((row) => row.run === run), "way"));
      expect(own.map(({ total }) => total)).toEqual(own.map(({ total }) => total).sort((a, b) => b - a));
      expect(own[0].mean).toBe(own[0].total / own[0].kicks);
    }
    // In the mode without irqfd, only vhost needs another thread of QEMU.
    expect(path.filter(({ what }) => what.startsWith("QEMU ")).every(({ run }) => run === "vhost")).toBe(true);
    expect(() => kl.criticalPath(paths, { by: "thread" as any })).toThrow('by is "thread"; it is one of "wait", "stage"');
    expect(kl.criticalPath(paths.slice(0, 0) as kl.ColumnTable).numRows()).toBe(0);
  });

  it("agrees with kickStages where all chains are whole", async () => {
    const trace = await capture("icount-virtio/trace-cmd.nsec.txt.gz"), kicks = kl.virtioKicks(trace);
    const stages = new Map(rows(kl.kickStages(kicks)).map(({ stage, mean, share }) => [stage, { mean, share }]));
    for (const { what, mean, share } of rows(kl.criticalPath(kl.kickPaths(trace, kicks), { by: "stage" }))) {
      expect(mean).toBeCloseTo(stages.get(what)!.mean, 6);
      expect(share).toBeCloseTo(stages.get(what)!.share, 9);
    }
  });
});

describe("kickAt", () => {
  it("gives the kick at a percentile, ready for the sequence chart", async () => {
    const trace = await capture("icount-virtio/trace-cmd.nsec.txt.gz"), kicks = kl.virtioKicks(trace);
    const ways = rows(kicks).map(({ end, exit }) => end - exit).sort((a, b) => a - b);
    for (const quantile of [0, 0.5, 0.99, 1]) {
      const kick = kl.kickAt(kicks, { quantile });
      expect(kick.end! - kick.exit!).toBe(ways[Math.round(quantile * (ways.length - 1))]);
      const sequence = rows(kl.kickSequence(trace, kick));
      expect(Math.min(...sequence.map(({ start }) => start))).toBe(kick.exit);
      expect(sequence.some(({ label, start }) => label === "InterruptStatus read" && start === kick.isr_read)).toBe(true);
    }
    const woken = rows(kicks).map(({ wake, sched_in }) => sched_in - wake), slowest = kl.kickAt(kicks, { stage: "wake → back end runs", quantile: 1 });
    expect(slowest.sched_in! - slowest.wake!).toBe(Math.max(...woken));
    // Filtered and ordered tables count as they are.
    const later = kicks.filter((d: any) => d.kick > 40).orderby("irq") as kl.ColumnTable;
    expect(kl.kickAt(later, { quantile: 0 }).kick).toBeGreaterThan(40);
  });
  it("leaves out kicks that lack the time, and says so where all do", () => {
    const trace = kl.fromTraceCmd(QEMU_KICK), kicks = kl.virtioKicks(trace);
    expect(kl.kickAt(kicks, { stage: "tun_get_user → interrupt" }).kick).toBe(0);
    expect(() => kl.kickAt(kicks.derive({ ack: () => null }), { stage: "InterruptStatus read → acknowledge" })).toThrow("no kick of these has the time");
    expect(() => kl.kickAt(kicks, { stage: "irq" })).toThrow(/there is no stage "irq"; stage is one of way, kvm_exit → kick, /);
    expect(() => kl.kickAt(kicks, { quantile: 99 })).toThrow("quantile is 99; it is a number from 0 to 1");
    expect(() => kl.kickAt(kl.stackRuns({ a: kicks, b: kicks }))).toThrow("kicks of the runs a, b");
  });
});
