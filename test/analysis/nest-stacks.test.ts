import { join } from "node:path";
import { table } from "arquero";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describe as describeTable, excludeIdle, fromPerfScript, loadPerfScript, loadTraceCmd, mergeStacks, nestStacks, nestVcpus, nestWeights, notAttributed, OptionError, vcpuThreads, type NestOptions } from "kernel-lib";
import { CAPTURE, DATA } from "../peer.js";

interface Sample { comm: string; tid: number; cpu: number; /** ms */ at: number; /** ms */ weight: number; frames?: string[] }
const KVM_RUN = ["ffff800008cda28c kvm_arch_vcpu_ioctl_run+0x18 ([kernel.kallsyms])", "           e6bd0 kvm_cpu_exec+0x1 (/usr/bin/qemu)"];
const WORK = ["ffff800008cda28c do_work+0x18 ([kernel.kallsyms])"];

/** Samples of a clock as perf script prints them, times and weights in ms. */
function clock(samples: Sample[], event = "cpu-clock"): string {
  return [...samples].sort((a, b) => a.at - b.at)
    .map(({ comm, tid, cpu, at, weight, frames = WORK }) => `${comm} ${tid} [${String(cpu).padStart(3, "0")}] ${(at / 1000).toFixed(6)}: ${Math.round(weight * 1e6)} ${event}: \n${frames.map((frame) => `\t${frame}\n`).join("")}\n`).join("");
}
const both = (host: Sample[], guest: Sample[]) => ({ host: fromPerfScript(clock(host)), guest: fromPerfScript(clock(guest)) });
const every = (n: number, of: Omit<Sample, "at" | "weight">, { from = 0, gap = 10, weight }: { from?: number; gap?: number; weight?: number } = {}): Sample[] => Array.from({ length: n }, (_, i) => ({ ...of, at: from + i * gap, weight: weight ?? gap }));
const stacks = (profiles: Parameters<typeof nestStacks>[0], options?: NestOptions) => Object.fromEntries((nestStacks(profiles, options).objects() as any[]).map(({ stack, value }) => [stack, value]));
const weights = (profiles: Parameters<typeof nestStacks>[0], options?: NestOptions & { bySlice?: boolean }) => nestWeights(profiles, options).objects() as any[];
const total = (of: ReturnType<typeof nestStacks>) => (of.array("value") as number[]).reduce((a, b) => a + b, 0);

/** A host of one CPU at other work and one per vCPU; perf gives the samples in guest mode to the guest. */
const IDLE: Sample[] = every(30, { comm: "swapper", tid: 0, cpu: 9 });
const counting: Sample[] = [
  ...IDLE,
  ...every(20, { comm: ":11", tid: 11, cpu: 0, frames: [] }),
  ...every(10, { comm: "qemu", tid: 11, cpu: 0, frames: KVM_RUN }, { from: 200 }),
  ...every(30, { comm: ":12", tid: 12, cpu: 1, frames: [] }),
];

describe("nestStacks", () => {
  it("gives the guest's stacks the time that their vCPU was in guest mode, inside its thread", () => {
    const guest = [...every(12, { comm: "iperf3", tid: 5, cpu: 0 }, { gap: 25 }), ...every(3, { comm: "sshd", tid: 6, cpu: 1 }, { gap: 100 })];
    // vCPU 0: 230 ms in guest mode, since kvm_arch_vcpu_ioctl_run is at the entry to the guest; the guest counted 300
    expect(stacks(both(counting, guest))).toEqual({
      "swapper;do_work": 300e6, "qemu;vCPU 0;<guest>iperf3;do_work": 300e6, "qemu;vCPU 1;<guest>sshd;do_work": 300e6,
    });
  });

  it("scales up where the guest was recorded all the while, and not beyond its own time where it was not", () => {
    const long = every(15, { comm: "iperf3", tid: 5, cpu: 0 }, { gap: 20, weight: 10 }), short = every(10, { comm: "iperf3", tid: 5, cpu: 0 });
    expect(stacks(both(counting, long))).toMatchObject({ "qemu;vCPU 0;<guest>iperf3;do_work": 300e6 });
    expect(stacks(both(counting, short))).toMatchObject({
      "qemu;vCPU 0;<guest>iperf3;do_work": 100e6, [`qemu;vCPU 0;${notAttributed.noSample}`]: 200e6, [`qemu;vCPU 1;${notAttributed.noSample}`]: 300e6,
    });
  });

  it("finds the time in guest mode where the counter stands still in it, and gives KVM_RUN's own time back to the host", () => {
    // Each sample of thread 11 says 4 of 10 ms: 6 were the guest's. Idle CPUs count on.
    const host = [...IDLE, ...every(1, { comm: "swapper", tid: 0, cpu: 0 }), ...every(29, { comm: ":11", tid: 11, cpu: 0, frames: [] }, { from: 10, weight: 4 })];
    const guest = every(30, { comm: "iperf3", tid: 5, cpu: 0 }, { weight: 2 });
    expect(weights(both(host, guest)).at(-1)).toMatchObject({ part: "all", host: 426e6, guest: 60e6, before: 486e6, guestMode: 174e6, nested: 174e6, notAttributed: 0, after: 600e6, factor: 2.9, how: expect.stringContaining("counted 40 % of the time between samples of one vCPU thread") });
    expect(stacks(both(host, guest))).toEqual({ "swapper;do_work": 310e6, ":11;vCPU 0;[in KVM_RUN, no stack]": 116e6, ":11;vCPU 0;<guest>iperf3;do_work": 174e6 });
  });

  it("does not take what a real CPU's counter lacks in idle for the guest's, and says that the guest may be left out", () => {
    const host = [...every(30, { comm: "swapper", tid: 0, cpu: 9 }, { weight: 1 }), ...every(30, { comm: ":11", tid: 11, cpu: 0, frames: [] }, { weight: 4 })];
    const rows = weights(both(host, every(30, { comm: "iperf3", tid: 5, cpu: 0 })));
    expect(rows.at(-1)).toMatchObject({ host: 150e6, guestMode: 120e6, after: 150e6, how: expect.stringMatching(/idle CPUs count 10 % of the time at most.*counted 40 % of it: if the recording leaves guests out.*guestTime is needed/) });
  });

  it("believes the header that perf script --header prints", () => {
    const header = (attributes: string, event = "cycles") => `# event : name = ${event}, , type = 1, freq = 1, ${attributes}sample_id_all = 1\n# event : name = dummy:HG, , type = 1\n#\n`;
    const real = [...every(30, { comm: "swapper", tid: 0, cpu: 9 }, { weight: 1 }), ...every(30, { comm: ":11", tid: 11, cpu: 0, frames: [] }, { weight: 4 })], emulated = [...IDLE, ...real.slice(30)];
    const guest = fromPerfScript(clock(every(30, { comm: "iperf3", tid: 5, cpu: 0 })));
    const all = (text: string) => weights({ host: fromPerfScript(text), guest }).at(-1);
    expect(() => all(header("exclude_guest = 1, ") + clock(real, "cycles"))).toThrow(/leaves guests out.*vcpuStates\(trace\)/);
    expect(all(header("exclude_guest = 1, ") + clock(emulated, "cycles"))).toMatchObject({ guestMode: 174e6, how: expect.stringContaining("leaves guests out, as its header says") });
    expect(all(header("") + clock(emulated, "cycles"))).toMatchObject({ guestMode: 120e6, how: expect.stringContaining("counts while guests run, as its header says") });
    expect(all(header("exclude_guest = 1, ", "cpu-clock:pppH") + clock(emulated))).toMatchObject({ guestMode: 120e6, how: expect.stringContaining("a clock goes on while guests run") });
  });

  it("takes the guest time of a table of states", () => {
    const host = [...IDLE, ...every(30, { comm: "qemu", tid: 11, cpu: 0, frames: KVM_RUN }, { weight: 3 })], guest = every(30, { comm: "iperf3", tid: 5, cpu: 0 });
    const states = table({ start: [0, 100e6, 150e6, 0], dur: [100e6, 50e6, 300e6, 20e6], pid: [11, 11, 11, 99], state: ["guest", "KVM", "guest", "guest"] });
    expect(stacks(both(host, guest), { guestTime: states })).toEqual({
      "swapper;do_work": 300e6, "qemu;vCPU 0;kvm_cpu_exec;kvm_arch_vcpu_ioctl_run": 90e6, "qemu;vCPU 0;<guest>iperf3;do_work": 240e6, [notAttributed.noVcpu]: 20e6,
    });
    expect(() => stacks(both(host, guest), { guestTime: states.derive({ start: (d: any) => d.start + 1e12 }) })).toThrow(/on one clock/);
    expect(() => stacks(both(host, guest), { guestTime: table({ pid: [11] }) })).toThrow(/lacks start, dur, state/);
  });

  it("slices time where the offset of the clocks is known", () => {
    // The guest's clock is 5 s behind; it was recorded from 100 to 300 ms of the host's time, and worked twice as much from 200 on.
    const guest = [...every(10, { comm: "slow", tid: 5, cpu: 0 }, { from: 5100, weight: 2 }), ...every(11, { comm: "fast", tid: 6, cpu: 0 }, { from: 5200, weight: 4 })];
    const host = [...IDLE, ...every(31, { comm: ":11", tid: 11, cpu: 0, frames: [] })];
    const options = { offset: -5e9, slice: 100e6, guestTime: "counted" as const };
    expect(stacks(both(host, guest), options)).toEqual({
      "swapper;do_work": 300e6, ":11;vCPU 0;<guest>slow;do_work": 100e6, ":11;vCPU 0;<guest>fast;do_work": 110e6, [`:11;vCPU 0;${notAttributed.noSample}`]: 100e6,
    });
    const slices = weights(both(host, guest), { ...options, bySlice: true }).filter((row) => row.tid === 11);
    expect(slices.map(({ start, guestMode, guest, nested, notAttributed, factor }) => ({ start, guestMode, guest, nested, notAttributed, factor }))).toEqual([
      { start: 0, guestMode: 100e6, guest: 0, nested: 0, notAttributed: 100e6, factor: null },
      { start: 100e6, guestMode: 100e6, guest: 20e6, nested: 100e6, notAttributed: 0, factor: 5 },
      { start: 200e6, guestMode: 110e6, guest: 44e6, nested: 110e6, notAttributed: 0, factor: 2.5 },
      { start: null, guestMode: 310e6, guest: 64e6, nested: 210e6, notAttributed: 100e6, factor: expect.closeTo(210 / 64) },
    ]);
    expect(() => stacks(both(host, guest), { offset: 0 })).toThrow(/outside of the host's, which is at -5.1 to -5 s/);
    expect(() => stacks(both(host, guest), { offset: NaN })).toThrow(/offset: NaN/);
    expect(() => stacks(both(host, guest), { slice: 0 })).toThrow(/slice: 0/);
    expect(() => stacks(both(host, guest), { guestTime: "guess" as never })).toThrow(/guestTime: "guess"; one of/);
  });

  it("gives a sleeping guest's clock no time, and counts what it leaves out", () => {
    const host = [...IDLE, ...every(30, { comm: ":11", tid: 11, cpu: 0, frames: [] })];
    const guest = [...every(15, { comm: "swapper", tid: 0, cpu: 0, frames: ["ffff800008cda268 arch_cpu_idle+0x14 ([kernel.kallsyms])"] }), ...every(15, { comm: "iperf3", tid: 5, cpu: 0 }, { from: 150 }), ...every(3, { comm: "lost", tid: 7, cpu: 4 })];
    const vcpus = table({ tid: [11], vcpu: [0] });
    expect(stacks(both(host, guest), { vcpus })).toEqual({ "swapper;do_work": 300e6, ":11;vCPU 0;<guest>iperf3;do_work": 300e6 });
    expect(weights(both(host, guest), { vcpus })).toMatchObject([
      { part: "vCPU 0", guest: 300e6, idle: 150e6, leftOut: 0, nested: 300e6, factor: 1 }, { part: "guest CPU 4", tid: null, guest: 30e6, leftOut: 30e6, nested: 0 },
      { part: "other threads" }, { part: "all", idle: 150e6, leftOut: 30e6, after: 600e6 },
    ]);
  });

  it("nests the host's own samples of the guest where there is no other profile of it", () => {
    const host = [...IDLE, ...every(30, { comm: ":11", tid: 11, cpu: 0, frames: ["ffff800008320b50 ptep_clear_flush+0x60 ([guest.kernel.kallsyms])"] }), ...every(1, { comm: "qemu", tid: 12, cpu: 1, frames: KVM_RUN }), ...every(2, { comm: ":-1", tid: -1, cpu: 2, frames: [] })];
    const profile = { host: fromPerfScript(clock(host)) };
    expect(stacks(profile)).toEqual({
      "swapper;do_work": 300e6, "qemu;vCPU thread 11;<guest>;ptep_clear_flush": 300e6, "qemu;vCPU thread 12;kvm_cpu_exec;kvm_arch_vcpu_ioctl_run": 10e6, [notAttributed.noVcpu]: 20e6,
    });
    expect(weights(profile).at(-1)).toMatchObject({ host: 630e6, guest: 0, guestMode: 320e6, nested: 300e6, notAttributed: 20e6, after: 630e6, factor: null });
  });

  it("says what to record where the host shows no time in guest mode", () => {
    expect(() => nestStacks(both(every(3, { comm: "qemu", tid: 1, cpu: 0 }), every(3, { comm: "iperf3", tid: 5, cpu: 0 })))).toThrow(OptionError);
    expect(() => nestStacks(both(every(3, { comm: "qemu", tid: 1, cpu: 0 }), every(3, { comm: "iperf3", tid: 5, cpu: 0 })))).toThrow(/--guestmount=DIR.*perf kvm --host --guest record/);
  });

  it("keeps other events in their unit", () => {
    const text = (comm: string) => clock([...IDLE, ...every(4, { comm, tid: 11, cpu: 0 })], "instructions");
    const profiles = { host: fromPerfScript(text(":11")), guest: fromPerfScript(text("iperf3")) };
    expect(describeTable(nestStacks(profiles)).objects().at(-1)).toMatchObject({ column: "value", unit: "instructions" });
    expect(describeTable(nestWeights(profiles)).objects().find((row: any) => row.column === "guestMode")).toMatchObject({ unit: "instructions" });
    expect(() => nestStacks(profiles, { guestTime: "missing" })).toThrow(/weights in instructions/);
  });

  it("adds up to the host's CPU time, and agrees with the guest per vCPU and slice, whatever the profiles", () => {
    const at = fc.integer({ min: 0, max: 4000 }).map((x) => x / 4), weight = fc.integer({ min: 1, max: 30_000 }).map((x) => x / 1000);
    const host = fc.array(fc.record({ who: fc.integer({ min: 0, max: 6 }), cpu: fc.integer({ min: 0, max: 3 }), at, weight }), { minLength: 2, maxLength: 60 });
    const guest = fc.array(fc.record({ comm: fc.constantFrom("iperf3", "swapper", "a;b"), cpu: fc.integer({ min: 0, max: 3 }), at, weight, idle: fc.boolean() }), { maxLength: 60 });
    const kinds: Omit<Sample, "cpu" | "at" | "weight">[] = [
      { comm: "swapper", tid: 0 }, { comm: "qemu x", tid: 9 }, { comm: ":11", tid: 11, frames: [] }, { comm: "qemu x", tid: 11, frames: KVM_RUN }, { comm: "qemu x", tid: 11 }, { comm: ":12", tid: 12, frames: [] }, { comm: ":77", tid: 77, frames: [] },
    ];
    const options = fc.record({ guestTime: fc.constantFrom("counted", "missing", undefined), offset: fc.constantFrom(null, 0, 250e6, -100e6), slice: fc.constantFrom(50e6, 333e6, 1e9) });
    fc.assert(fc.property(host, guest, options, fc.boolean(), (h, g, o, withGuest) => {
      const vcpus = table({ tid: [11, 12], vcpu: [0, 1] });
      const samples = h.map(({ who, ...rest }) => ({ ...kinds[who], ...rest }));
      const made = both(samples, g.map(({ idle, ...rest }) => ({ ...rest, tid: 3, frames: idle ? ["ffff800008cda268 arch_cpu_idle+0x14 ([kernel.kallsyms])"] : WORK })));
      const profiles = withGuest ? made : { host: made.host };
      let rows: any[];
      try {
        rows = weights(profiles, { ...o, vcpus, bySlice: true } as never);
      } catch (error) {
        expect((error as Error).message).toMatch(/shows no time in guest mode|outside of the host's/);
        return;
      }
      const table_ = nestStacks(profiles, { ...o, vcpus } as never), all = rows.at(-1);
      const recorded = samples.reduce((sum, { weight }) => sum + Math.round(weight * 1e6), 0), asked = withGuest ? g.reduce((sum, { weight }) => sum + Math.round(weight * 1e6), 0) : 0;
      const counted = all.how.includes("weight of the host's samples");
      expect(all.host).toBeCloseTo(recorded, 0);
      expect(all.guest).toBeCloseTo(asked, 0);
      expect(total(table_)).toBe(Math.round(total(table_)));
      expect(Math.abs(total(table_) - (recorded + (counted ? 0 : all.guestMode)))).toBeLessThanOrEqual(1);
      const sums = rows.filter((row) => row.start === null), parts = sums.slice(0, -1);
      for (const name of ["host", "guest", "guestMode", "nested", "notAttributed", "after", "leftOut", "idle"]) {
        expect(parts.reduce((sum, row) => sum + row[name], 0)).toBeCloseTo(all[name], 0);
        if (!["guest", "leftOut", "idle"].includes(name)) expect(rows.filter((row) => row.start !== null).reduce((sum, row) => sum + row[name], 0)).toBeCloseTo(all[name], 0);
      }
      for (const row of rows) {
        expect(row.nested + row.notAttributed).toBeCloseTo(row.guestMode, 0);
        expect(Math.min(row.host, row.guest, row.guestMode, row.nested, row.notAttributed, row.leftOut + 1e-3, row.idle)).toBeGreaterThanOrEqual(0);
        // A slice within both recordings: either the guest's stacks have all of the time in guest mode, or there are none.
        if (withGuest && o.offset !== null && row.start !== null && row.factor > 0 && row.nested > 0 && row.notAttributed > 0) expect(row.factor).toBeCloseTo(1, 6);
      }
      const inParts = (part: string, of: (stack: string, side: string) => boolean) => (table_.objects() as any[]).filter((row) => row.stack.split(";")[1] === part && of(row.stack, row.side)).reduce((sum, row) => sum + row.value, 0);
      for (const row of parts.filter(({ tid }) => tid !== null)) {
        expect(Math.abs(inParts(row.part, () => true) - row.after)).toBeLessThan(50);
        expect(Math.abs(inParts(row.part, (_, side) => side === "guest") - row.nested)).toBeLessThan(50);
      }
    }), { numRuns: 300 });
  });
});

describe("nestVcpus", () => {
  it("takes ids from names, from a given table, else from the order of thread ids, and says so", () => {
    const named = fromPerfScript(clock([...every(2, { comm: "CPU 1/KVM", tid: 20, cpu: 0 }), ...every(1, { comm: "CPU 0/KVM", tid: 21, cpu: 0 })]).replaceAll("CPU 1/KVM 20", "CPU 1/KVM    20"));
    expect(nestVcpus({ host: named }).objects()).toEqual([
      { vcpu: 0, tid: 21, comm: "CPU 0/KVM", samples: 1, evidence: "named CPU 0/KVM" }, { vcpu: 1, tid: 20, comm: "CPU 1/KVM", samples: 2, evidence: "named CPU 1/KVM" },
    ]);
    const two = both(counting, every(3, { comm: "iperf3", tid: 5, cpu: 1 }));
    expect(nestVcpus(two).objects()).toMatchObject([
      { vcpu: 0, tid: 11, comm: "qemu", samples: 30, evidence: "samples that perf gives to the guest: 20, samples within KVM_RUN: 10; id by the order of thread ids, in which QEMU starts its vCPUs" }, { vcpu: 1, tid: 12, comm: "qemu" },
    ]);
    expect(nestVcpus(two, table({ tid: [11, 12], vcpu: [1, 0] })).objects()).toMatchObject([{ vcpu: 0, tid: 12, evidence: "given" }, { vcpu: 1, tid: 11 }]);
    expect(nestVcpus(both(counting, every(3, { comm: "iperf3", tid: 5, cpu: 2 }))).objects()).toMatchObject([{ vcpu: null, tid: 11, evidence: expect.stringContaining("2 threads, 3 CPUs of the guest; give vcpus") }, { vcpu: null, tid: 12 }, { vcpu: 2, tid: null }]);
    expect(() => nestVcpus(two, table({ tid: [11, 12], vcpu: [0, 0] }))).toThrow(/threads 11 and 12 are both vCPU 0/);
    expect(() => nestVcpus(two, table({ thread: [11] }))).toThrow(/needs the columns tid and vcpu/);
  });
});

describe("on recordings", () => {
  const load = (...path: string[]) => loadPerfScript(join(DATA, "capture", ...path), { quiet: true });

  it.each([["icount-virtio", 194, 195], ["icount-vhost", 196, 197]])("%s: what counters lack on the vCPUs' CPUs is guest time, and all of it adds up to the time of four CPUs", async (mode, first, second) => {
    const profiles = { host: await load(mode, "perf-script-host-guestmount.txt.gz"), guest: await load(mode, "perf-script-guest.txt.gz") };
    const rows = weights(profiles), all = rows.at(-1);
    // A trace of the same boot names them by its events.
    const traced = vcpuThreads({ trace: await loadTraceCmd(join(DATA, "capture", mode, "trace-cmd.nsec.txt.gz"), { quiet: true }), rows: profiles.host.samples });
    expect(nestVcpus(profiles).select("vcpu", "tid", "comm").objects()).toEqual(nestVcpus(profiles, traced).select("vcpu", "tid", "comm").objects());
    expect(rows.map(({ part, tid }) => ({ part, tid }))).toEqual([{ part: "vCPU 0", tid: first }, { part: "vCPU 1", tid: second }, { part: "other threads", tid: null }, { part: "all", tid: null }]);
    // Each CPU from its first to its last sample: idle, busy, or in guest mode.
    const ends = new Map<number, [number, number]>(), { ts, cpu } = profiles.host.raw;
    for (let i = 0; i < ts.length; i++) ends.set(cpu[i], [ends.get(cpu[i])?.[0] ?? ts[i], ts[i]]);
    const elapsed = [...ends.values()].reduce((sum, [from, to]) => sum + to - from, 0);
    expect(Math.abs(all.after / elapsed - 1)).toBeLessThan(0.002);
    expect(total(nestStacks(profiles))).toBe(Math.round(all.after));
    // The guest, recorded for 65 % of the time, cannot have had more time than the host gave its vCPUs.
    for (const row of rows.slice(0, 2)) expect(row).toMatchObject({ leftOut: 0, idle: 0, factor: expect.closeTo(1, 9), nested: expect.closeTo(row.guest, 0) });
    expect(all.notAttributed).toBeGreaterThan(0.2 * all.guestMode);
    // The same stacks as in the plain concatenation, but for the vCPU frame and the weights.
    const plain = (mergeStacks(profiles).objects() as any[]).filter((row) => row.side === "guest").map((row) => row.stack).sort();
    const nested = (nestStacks(profiles).objects() as any[]).filter((row) => row.side === "guest").map((row) => row.stack.split(";").slice(2).join(";"));
    expect([...new Set(nested)].sort()).toEqual(plain);
  });

  it("virtio: perf kvm counts while the guest runs, so its own samples are the guest's time", async () => {
    const host = await load("virtio", "perf-script-kvm.txt.gz");
    const rows = weights({ host });
    expect(rows.map(({ part, tid }) => ({ part, tid }))).toMatchObject([696, 697, 698, 699].map((tid) => ({ tid })).concat([{ tid: null }, { tid: null }] as never));
    expect(rows.at(-1)).toMatchObject({ notAttributed: 0, how: expect.stringContaining("counters go on while vCPU threads run") });
    expect(rows.at(-1).after).toBe(rows.at(-1).host);
    const guests = (nestStacks({ host }).objects() as any[]).filter((row) => row.side === "guest");
    expect(guests.every((row) => /^qemu-system-aar;vCPU thread 69[6-9];<guest>(;|$)/.test(row.stack))).toBe(true);
    expect(guests.reduce((sum, row) => sum + row.value, 0) / rows.at(-1).guestMode).toBeCloseTo(1, 6);
    expect(excludeIdle(nestStacks({ host })).numRows()).toBeGreaterThan(0);
  });

  it.skipIf(!CAPTURE)("the text without --guestmount is told, as its hidden samples look like guest time (KERNEL_LIB_CAPTURE_DATA)", async () => {
    const profiles = { host: await loadPerfScript(join(CAPTURE!, "virtio", "perf-script-host.txt.gz"), { quiet: true }), guest: await loadPerfScript(join(CAPTURE!, "virtio", "perf-script-guest.txt.gz"), { quiet: true }) };
    expect(weights(profiles).at(-1).how).toMatch(/hides those without --guestmount/);
  });
});
