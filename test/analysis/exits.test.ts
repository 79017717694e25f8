import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { QEMU_KICK } from "./kick-text.js";


type Row = Record<string, any>;
const rows = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];
const exitsOf = (text: string, options?: kl.KvmExitsOptions): Row[] => rows(kl.kvmExits(kl.fromTraceCmd(text), options));

describe("kvmExits", () => {
  it("gives both spans, and what happened in between (read off the text)", () => {
    const exits = exitsOf(QEMU_KICK);
    expect(exits.map(({ ts, reason, ret, esr_ec, handling, guest, why }) => ({ ts, reason, ret, esr_ec, handling, guest, why }))).toEqual([
      { ts: 77_741_721_952, reason: "DABT_LOW", ret: 2, esr_ec: 0x24, handling: 7072, guest: null, why: "guest: the trace begins" },
      { ts: 77_741_739_984, reason: "WFx", ret: 2, esr_ec: 1, handling: 43696, guest: 10960, why: null },
      { ts: 77_741_786_368, reason: "DABT_LOW", ret: 2, esr_ec: 0x24, handling: 18320, guest: 2688, why: null },
      { ts: 77_741_806_848, reason: "DABT_LOW", ret: 2, esr_ec: 0x24, handling: 20592, guest: 2160, why: null },
    ]);
    const [kick, halt, read, ack] = exits;
    expect(kick).toMatchObject({ cpu: 3, pid: 194, pc: "0xffff800000d00044", mmio: "write", gpa: 0xa003a50, len: 4, val: "0x1", wakes: 1, woken: "qemu-system-aar", woken_tid: 190, userspace: null, wait: null, slept: false, sleep: 0, stolen: 0 });
    // Out .741744384, woken .741765152, in again .741769520.
    expect(halt).toMatchObject({ mmio: null, gpa: null, val: null, wakes: 0, woken: null, slept: true, sleep: 20768, stolen: 4368, wait: 38160, wait_kind: "wait" });
    // "unsatisfied-read … val 0x0", and after QEMU "read … val 0x1".
    expect(read).toMatchObject({ mmio: "read", gpa: 0xa003a60, val: "0x1", userspace: expect.stringContaining("KVM_EXIT_MMIO") });
    expect(ack).toMatchObject({ mmio: "write", gpa: 0xa003a64, val: "0x1" });
  });

  it("counts a vCPU that is woken on its way to sleep as waiting, not as asleep", () => {
    const lines = QEMU_KICK.split("\n");
    const [waking] = lines.splice(lines.findIndex((line) => line.includes("77.741765152")), 1);
    lines.splice(lines.findIndex((line) => line.includes("77.741744384")), 0, waking.replace("77.741765152", "77.741744000"));
    // Out .741744384, in again .741769520, and sched_wakeup in between.
    expect(exitsOf(lines.join("\n"))[1]).toMatchObject({ reason: "WFx", slept: true, sleep: 0, stolen: 25136, handling: 43696 });
  });

  it("says that the trace ends, or an entry is missing", () => {
    const lines = QEMU_KICK.trimEnd().split("\n");
    const without = (us: string): Row[] => exitsOf(lines.filter((line) => !line.includes(`77.${us}: kvm_entry`)).join("\n"));
    expect(without("741827440").map(({ handling, why }) => [handling, why]).at(-1)).toEqual([null, "handling: the trace ends"]);
    const missing = without("741804688");
    expect(missing[2]).toMatchObject({ handling: null, sleep: null, why: "handling: no kvm_entry after" });
    expect(missing[3]).toMatchObject({ guest: null, why: "guest: no kvm_entry before" });
  });

  it("breaks spans at lost events: of threads on that CPU, and of threads on none", () => {
    const lost = (cpu: number, before: string): (string | null)[] => {
      const lines = QEMU_KICK.split("\n");
      lines.splice(lines.findIndex((line) => line.includes(before)), 0, `CPU:${cpu} [7 EVENTS DROPPED]`);
      return exitsOf(lines.join("\n")).map(({ why }) => why as string | null);
    };
    const begin = "guest: the trace begins";
    // On CPU 3, where the vCPU is in the guest before .741739984 …
    expect(lost(3, "77.741739984")).toEqual([begin, "guest: lost events", null, null]);
    // … and in the host before .741787936.
    expect(lost(3, "77.741787936")).toEqual([begin, null, "handling: lost events", null]);
    // CPU 1 is blind between .741730512 and .741750848; the vCPU goes to sleep meanwhile and could have run there.
    expect(lost(1, "77.741750848")).toEqual([begin, "handling: lost events", null, null]);
    // CPU 1 is blind between .741765152 and its next event after it, after which the vCPU is on CPU 3 all the time: until it is, it may have been on 1.
    expect(lost(1, "77.741763424")).toEqual([begin, "handling: lost events", null, null]);
    // On a CPU that the vCPU cannot have been on, since it is on CPU 3 throughout.
    expect(lost(1, "77.741728368")).toEqual([begin, null, null, null]);
  });

  it("names vCPUs by a table that is given, else by the trace's own events", () => {
    expect(exitsOf(QEMU_KICK).map(({ vcpu }) => vcpu)).toEqual([0, 0, 0, 0]);
    const vcpus = kl.vcpuThreads({ threads: kl.fromThreadList("  PID   TID COMMAND         COMMAND\n  190   194 CPU 5/KVM       qemu-system-aarch64\n") });
    expect(exitsOf(QEMU_KICK, { vcpus }).map(({ vcpu }) => vcpu)).toEqual([5, 5, 5, 5]);
  });

  it("says which events it needs", () => {
    const without = QEMU_KICK.split("\n").filter((line) => !line.includes("kvm_entry")).join("\n");
    expect(() => exitsOf(without)).toThrow(/kvmExits needs kvm_entry; this trace has .*kvm_exit.*Record it with: trace-cmd record -e kvm -e sched/);
  });

  it("gives the talk's traces", async () => {
    const exits = rows(kl.kvmExits(await kl.loadTraceCmd(join(DATA, "talk/vhost/trace-cmd.txt"), { quiet: true })));
    // An IRQ handled in 6 µs (.209666 → .209672), after the guest had run for 141 µs.
    expect(exits.map(({ reason, handling, guest }) => [reason, handling, guest])).toEqual([["DABT_LOW", 30_000, null], ["IRQ", 6_000, 141_000]]);
  });
});

/** A trace of pinned vCPU threads: what happens on each CPU in turn, printed as trace-cmd does. */
function printed(steps: { cpu: number; op: string; after: number }[], cpus: number): { text: string; cuts: Map<number, number[]>; events: { cpu: number; kind: string; ts: number; line: number }[] } {
  const inGuest = new Array<boolean>(cpus).fill(false), asleep = new Array<boolean>(cpus).fill(false);
  const lines: string[] = [], events: { cpu: number; kind: string; ts: number; line: number }[] = [], cuts = new Map<number, number[]>();
  const pending = new Set<number>();
  let ts = 1_000_000_000;
  const print = (cpu: number, comm: string, tid: number, kind: string, info: string): void => {
    if (pending.delete(cpu)) {
      lines.push(`CPU:${cpu} [3 EVENTS DROPPED]`);
      cuts.set(cpu, [...(cuts.get(cpu) ?? []), lines.length]);
    }
    lines.push(`${comm.padStart(16)}-${String(tid).padEnd(5)} [${String(cpu).padStart(3, "0")}] ${(ts / 1e9).toFixed(9).padStart(16)}: ${`${kind}:`.padEnd(22)} ${info}`);
    if (kind.startsWith("kvm")) events.push({ cpu, kind, ts, line: lines.length });
  };
  for (let cpu = 0; cpu < cpus; cpu++) {
    ts++;
    print(cpu, "<idle>", 0, "sched_switch", `swapper/${cpu}:0 [120] R ==> qemu:${100 + cpu} [120]`);
  }
  for (const { cpu, op, after } of steps) {
    ts += after;
    const tid = 100 + cpu;
    if (op === "lost") pending.add(cpu);
    else if (asleep[cpu]) {
      print(cpu, "<idle>", 0, "sched_switch", `swapper/${cpu}:0 [120] R ==> qemu:${tid} [120]`);
      asleep[cpu] = false;
    } else if (op === "sleep" && !inGuest[cpu]) {
      print(cpu, "qemu", tid, "sched_switch", `qemu:${tid} [120] S ==> swapper/${cpu}:0 [120]`);
      asleep[cpu] = true;
    } else if (inGuest[cpu]) {
      print(cpu, "qemu", tid, "kvm_exit", "IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0xffff800008cda268");
      inGuest[cpu] = false;
    } else {
      print(cpu, "qemu", tid, "kvm_entry", "PC: 0xffff800008cda268");
      inGuest[cpu] = true;
    }
  }
  return { text: lines.join("\n") + "\n", cuts, events };
}

describe("the sums of kvmExits", () => {
  const CPUS = 3;
  const steps = (ops: string[]) => fc.array(fc.record({ cpu: fc.nat(CPUS - 1), op: fc.constantFrom(...ops), after: fc.integer({ min: 1, max: 5_000_000 }) }), { minLength: 1, maxLength: 120 });

  it("with nothing lost, handling and guest fill each thread's time from its first entry or exit to its last, exactly", () => {
    fc.assert(fc.property(steps(["go", "go", "go", "sleep"]), (list) => {
      const { text, events } = printed(list, CPUS);
      if (!events.some(({ kind }) => kind === "kvm_exit")) return;
      const exits = exitsOf(text);
      expect(exits.length).toBe(events.filter(({ kind }) => kind === "kvm_exit").length);
      for (let cpu = 0; cpu < CPUS; cpu++) {
        const own = events.filter((event) => event.cpu === cpu);
        if (own.length === 0) continue;
        let sum = 0;
        for (const exit of exits) if (exit.pid === 100 + cpu) sum += (exit.handling ?? 0) + (exit.guest ?? 0);
        // An entry after which nothing follows begins a run whose end is not known; the time up to it counts.
        expect(sum).toBe(own.at(-1)!.ts - own[0].ts);
      }
      for (const exit of exits) if (exit.handling !== null) expect(exit.sleep + exit.stolen).toBeLessThanOrEqual(exit.handling);
    }), { numRuns: 300, seed: 7 });
  });

  it("with events lost, just the spans that cross a loss on the thread's CPU are null", () => {
    fc.assert(fc.property(steps(["go", "go", "go", "lost"]), (list) => {
      const { text, cuts, events } = printed(list, CPUS);
      if (!["kvm_exit", "kvm_entry"].every((kind) => events.some((event) => event.kind === kind))) return;
      const exits = exitsOf(text);
      let row = 0;
      for (const [i, event] of events.entries()) {
        if (event.kind !== "kvm_exit") continue;
        const own = (cpu: number) => (other: { cpu: number }): boolean => other.cpu === cpu;
        const before = events.slice(0, i).findLast(own(event.cpu)), after = events.slice(i + 1).find(own(event.cpu));
        const crosses = (a: number, b: number): boolean => (cuts.get(event.cpu) ?? []).some((line) => line > a && line < b);
        expect(exits[row].guest).toBe(!before || crosses(before.line, event.line) ? null : event.ts - before.ts);
        expect(exits[row].handling).toBe(!after || crosses(event.line, after.line) ? null : after.ts - event.ts);
        row++;
      }
      expect(exits.length).toBe(row);
    }), { numRuns: 300, seed: 8 });
  });
});

describe("exitSummary", () => {
  it("counts, sums and takes percentiles per reason", () => {
    const summary = rows(kl.exitSummary(kl.kvmExits(kl.fromTraceCmd(QEMU_KICK))));
    expect(summary.map(({ reason, count, slept, handling_n, guest_n }) => [reason, count, slept, handling_n, guest_n])).toEqual([["DABT_LOW", 3, 0, 3, 2], ["WFx", 1, 1, 1, 1]]);
    const [mmio, halt] = summary;
    expect(mmio).toMatchObject({ run: null, share: 75, handling_total: 7072 + 18320 + 20592, handling_p50: 18320, guest_total: 4848, guest_p50: (2688 + 2160) / 2 });
    // Of 3 values, the 90th percentile lies 0.8 of the way from the second to the third.
    expect(mmio.handling_p90).toBeCloseTo(18320 + 0.8 * (20592 - 18320), 9);
    expect(mmio.handling_share + halt.handling_share).toBeCloseTo(100, 9);
  });

  it("keeps runs apart, and agrees with Arquero's own verbs", () => {
    const one = kl.kvmExits(kl.fromTraceCmd(QEMU_KICK)).derive({ run: () => "a" });
    const both = one.concat(one.filter((d: any) => d.reason === "WFx").derive({ run: () => "b" }));
    const summary = rows(kl.exitSummary(both));
    expect(summary.map(({ run, reason, count, share }) => [run, reason, count, share])).toEqual([["a", "DABT_LOW", 3, 75], ["a", "WFx", 1, 25], ["b", "WFx", 1, 100]]);
    const own = rows(one.groupby("reason").rollup({ p50: "op.median(d.handling)", p99: "op.quantile(d.handling, 0.99)" } as any));
    for (const { reason, p50, p99 } of own) {
      const mine = summary.find((row) => row.run === "a" && row.reason === reason)!;
      expect(mine.handling_p50).toBeCloseTo(p50, 9);
      expect(mine.handling_p99).toBeCloseTo(p99, 9);
    }
  });
});

describe("exitAccount", () => {
  it("says per thread how many exits have both spans, and why others lack one", () => {
    expect(rows(kl.exitAccount(kl.kvmExits(kl.fromTraceCmd(QEMU_KICK))))).toEqual([
      { pid: 194, vcpu: 0, exits: 4, whole: 3, handling_null: 0, guest_null: 1, why: "1 × guest: the trace begins" },
    ]);
  });
});

describe("exits of recordings", () => {
  const WHOLE = ["icount-virtio/trace-cmd.nsec.txt.gz", "icount-vhost/trace-cmd.nsec.txt.gz", "virtio/trace-cmd.txt.gz", "vhost/trace-cmd.txt.gz", "vhost/trace-cmd-rich.txt.gz", "debugthreads/trace-cmd-small.txt.gz", "debugthreads/trace-cmd-small.raw.txt.gz"];
  const LOST = ["virtio/trace-cmd-lost.txt.gz", "newer-tools/virtio/trace-cmd-lost.txt.gz"];
  const textOf = (path: string): string => gunzipSync(readFileSync(join(DATA, "capture", path))).toString("latin1");

  it.each([...WHOLE, ...LOST])("%s: as many rows as kvm_exit lines", async (path) => {
    const lines = textOf(path).split("\n").filter((line) => /: kvm_exit:/.test(line)).length;
    expect(kl.kvmExits(await kl.loadTraceCmd(join(DATA, "capture", path), { quiet: true })).numRows()).toBe(lines);
  });

  it.each(WHOLE)("%s: handling and guest fill each thread's time exactly", async (path) => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture", path), { quiet: true });
    const span = new Map<number, [first: number, last: number]>();
    for (const event of ["kvm_exit", "kvm_entry"]) {
      for (const { pid, ts } of rows(trace.of(event))) {
        const known = span.get(pid);
        span.set(pid, known ? [Math.min(known[0], ts), Math.max(known[1], ts)] : [ts, ts]);
      }
    }
    const sum = new Map<number, number>();
    for (const { pid, handling, guest } of rows(kl.kvmExits(trace))) sum.set(pid, (sum.get(pid) ?? 0) + (handling ?? 0) + (guest ?? 0));
    for (const [pid, [first, last]] of span) expect([pid, sum.get(pid) ?? 0]).toEqual([pid, last - first]);
  });

  it.each(LOST)("%s: no span crosses a loss on its CPU, and most stand", async (path) => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture", path), { quiet: true });
    const exits = rows(kl.kvmExits(trace));
    const lost = rows(trace.lost) as { cpu: number; from: number | null; to: number | null }[];
    expect(lost.length).toBeGreaterThan(3);
    const broken = exits.filter(({ why }) => why?.includes("lost events"));
    expect(broken.length).toBeGreaterThan(0);
    expect(broken.length).toBeLessThan(exits.length / 10);
    for (const { ts, cpu, handling, guest, slept } of exits) {
      // A vCPU that did not sleep stayed on its CPU from entry to exit, and mostly to the next entry.
      for (const { cpu: on, from, to } of lost) {
        if (on !== cpu || from === null || to === null) continue;
        if (guest !== null) expect(ts - guest < from && to < ts, `guest before ${ts}`).toBe(false);
        if (handling !== null && !slept) expect(ts < from && to < ts + handling, `handling of ${ts}`).toBe(false);
      }
    }
  });

  it("icount-vhost: exits by reason as grep counts them", async () => {
    const summary = rows(kl.exitSummary(kl.kvmExits(await kl.loadTraceCmd(join(DATA, "capture", "icount-vhost/trace-cmd.nsec.txt.gz"), { quiet: true }))));
    const text = textOf("icount-vhost/trace-cmd.nsec.txt.gz");
    const grep = (pattern: RegExp): number => text.match(pattern)?.length ?? 0;
    expect(Object.fromEntries(summary.map(({ reason, count }) => [reason, count]))).toEqual({
      DABT_LOW: grep(/kvm_exit:.*TRAP: HSR_EC: 0x0024 /g), WFx: grep(/kvm_exit:.*TRAP: HSR_EC: 0x0001 /g), SYS64: grep(/kvm_exit:.*TRAP: HSR_EC: 0x0018 /g), IRQ: grep(/kvm_exit:.*IRQ: HSR_EC/g),
    });
    expect(summary.reduce((n, { count }) => n + count, 0)).toBe(983);
  });
});
