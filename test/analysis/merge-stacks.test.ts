import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { countedTwice, describe as describeTable, foldStacks, fromPerfScript, loadPerfScript, mergeStacks, OptionError, stackScale } from "kernel-lib";
import { CAPTURE, DATA } from "../peer.js";

/** Samples on one CPU, `gap` ms apart, as perf script prints them. */
function samples(comm: string, n: number, { gap = 10, period = "10000000" as string | number, event = "cycles", frames = ["ffff800008cda28c do_work+0x18 ([kernel.kallsyms])"], cpu = 0, from = 100 } = {}): string {
  let text = "";
  for (let i = 0; i < n; i++) text += `${comm} 7 [${String(cpu).padStart(3, "0")}] ${(from + (i * gap) / 1000).toFixed(6)}: ${period} ${event}: \n${frames.map((frame) => `\t${frame}\n`).join("")}\n`;
  return text;
}
const profile = (...texts: string[]) => fromPerfScript(texts.join(""));
const scale = (host: string, guest: string, options = {}) => stackScale({ host: profile(host), guest: profile(guest) }, options).objects() as any[];
const merged = (host: string, guest: string, options = {}) => mergeStacks({ host: profile(host), guest: profile(guest) }, options).objects();

describe("mergeStacks", () => {
  it("prefixes the guest's processes, and counts ns as they are (cpu-clock)", () => {
    const clock = { event: "cpu-clock", period: 10101010 };
    expect(merged(samples("qemu", 3, clock), samples("iperf3", 2, clock))).toEqual([
      { side: "host", stack: "qemu;do_work", value: 30303030 }, { side: "guest", stack: "<guest>iperf3;do_work", value: 20202020 },
    ]);
    expect(merged(samples("qemu", 1, clock), samples("iperf3", 1, clock), { prefix: "L2:", tid: true })).toMatchObject([{ stack: "qemu-?/7;do_work" }, { stack: "L2:iperf3-?/7;do_work" }]);
  });

  it("brings cycles of both sides to time by the host's clock rate", () => {
    // 2 GHz: 20 M cycles in 10 ms; the guest's CPU was away half of the time, so that its own samples would show 1 GHz
    const host = samples("qemu", 11, { period: 20e6 }), guest = samples("iperf3", 5, { period: 10e6 });
    expect(scale(host, guest)).toMatchObject([
      { side: "host", event: "cycles", samples: 11, weight: 220e6, nsPerUnit: expect.closeTo(0.5), value: expect.closeTo(110e6, -3), span: 100e6, cpus: 1, how: "cycles at 2.00 GHz, as the host's samples show" },
      { side: "guest", event: "cycles", samples: 5, weight: 50e6, nsPerUnit: expect.closeTo(0.5), span: 40e6, how: "cycles at 2.00 GHz, as the host's samples show" },
    ]);
    expect(merged(host, guest)).toEqual([{ side: "host", stack: "qemu;do_work", value: 110e6 }, { side: "guest", stack: "<guest>iperf3;do_work", value: 25e6 }]);
  });

  it("brings cycles of the host and the clock of a guest without PMU to one kind", () => {
    expect(merged(samples("qemu", 11, { period: 20e6 }), samples("iperf3", 5, { event: "cpu-clock", period: 10101010 }))).toEqual([
      { side: "host", stack: "qemu;do_work", value: 110e6 }, { side: "guest", stack: "<guest>iperf3;do_work", value: 50505050 },
    ]);
  });

  it("takes the sampling interval where there are no periods", () => {
    expect(scale(samples("qemu", 11, { period: "" }), samples("iperf3", 6, { period: "", gap: 20 }))).toMatchObject([
      { event: "samples", nsPerUnit: 10e6, value: 110e6, how: expect.stringContaining("10.0 ms") }, { event: "samples", nsPerUnit: 20e6, value: 120e6 },
    ]);
  });

  it("lets an option say the scale", () => {
    const [host, guest] = [samples("qemu", 2), samples("iperf3", 2, { event: "instructions", period: 5 })];
    expect(scale(host, guest, { nsPerUnit: { host: 0.25, guest: 100 } })).toMatchObject([{ nsPerUnit: 0.25, how: "given by option" }, { nsPerUnit: 100, value: 1000 }]);
    expect(() => scale(host, guest, { nsPerUnit: { guest: -1 } })).toThrow(/nsPerUnit: -1 for the guest/);
    expect(() => scale(host, guest)).toThrow(OptionError);
    expect(() => scale(host, guest)).toThrow(/nsPerUnit: \{ guest: … \}/);
  });

  it("leaves other events as they are where both sides have the same", () => {
    const table = mergeStacks({ host: profile(samples("qemu", 2, { event: "instructions", period: 5 })), guest: profile(samples("iperf3", 1, { event: "instructions", period: 7 })) });
    expect(table.array("value")).toEqual([10, 7]);
    expect(describeTable(table).objects().at(-1)).toMatchObject({ column: "value", unit: "instructions" });
  });

  it("merges with a side that has no samples", () => {
    expect(merged(samples("qemu", 3), "")).toHaveLength(1);
    expect(merged("", "")).toEqual([]);
  });
});

describe("countedTwice", () => {
  it("counts guest samples on the host, vCPU threads at the guest's entry, and idle guests", () => {
    const host = samples("qemu-system-aar", 8) + samples(":697", 2, { cpu: 1, frames: ["ffff800008cda268 arch_cpu_idle+0x14 ([guest.kernel.kallsyms.2122])"] })
      + samples("CPU 0/KVM", 3, { cpu: 2, frames: ["ffff8000080a1b2c __kvm_vcpu_run_vhe+0x10 ([kernel.kallsyms])", "ffff800008091b2c kvm_arch_vcpu_ioctl_run+0x10 ([kernel.kallsyms])"] })
      + samples("qemu-system-x86", 1, { cpu: 3, frames: ["ffffffffc0a01b2c vmx_vcpu_enter_exit+0x10 ([kvm_intel])", "ffffffffc0a01b2c vcpu_enter_guest.constprop.0+0x10 ([kvm])"] });
    const guest = samples("iperf3", 3) + samples("swapper", 1, { from: 200 });
    const rows = countedTwice({ host: profile(host), guest: profile(guest) }).objects() as any[];
    expect(rows.map(({ what, side, samples }) => ({ what, side, samples }))).toEqual([
      { what: "guest samples", side: "host", samples: 2 }, { what: "guest mode", side: "host", samples: 4 }, { what: "idle", side: "guest", samples: 1 },
    ]);
    expect(rows.map((row) => row.share)).toEqual([expect.closeTo(200 / 14), expect.closeTo(400 / 14), 25]);
  });

  it("finds none of the first two in the talk's excerpt", () => {
    const talk = fromPerfScript(readFileSync(join(DATA, "talk", "perf-script-host.txt")));
    expect(countedTwice({ host: talk, guest: talk }, { nsPerUnit: { host: 1, guest: 1 } }).array("samples")).toEqual([0, 0, 0]);
  });
});

describe.skipIf(!CAPTURE)("on recordings of host and guest (KERNEL_LIB_CAPTURE_DATA)", () => {
  it.each(["icount-virtio", "icount-vhost", "virtio", "vhost"])("%s: all weight is there, scaled alike, and no side has more CPU time than its CPUs", async (mode) => {
    const load = (side: string) => loadPerfScript(join(CAPTURE!, mode, `perf-script-${side}.txt.gz`), { quiet: true });
    const profiles = { host: await load("host"), guest: await load("guest") };
    const table = mergeStacks(profiles);
    const [host, guest] = stackScale(profiles).objects() as any[];
    const sum = (side: string) => (table.objects() as any[]).filter((row) => row.side === side).reduce((x, row) => x + row.value, 0);
    for (const row of [host, guest]) {
      expect(Math.abs(sum(row.side) / row.value - 1)).toBeLessThan(1e-6);
      expect(row.value).toBeLessThan(row.span * row.cpus);
      expect(row.nsPerUnit).toBe(host.nsPerUnit);
    }
    expect(table.numRows()).toBe(foldStacks(profiles.host).numRows() + foldStacks(profiles.guest).numRows());
    // an emulated CPU whose cycle counter runs at 1 GHz
    expect(host.nsPerUnit).toBeGreaterThan(0.9);
    expect(host.nsPerUnit).toBeLessThan(1.1);
  });
});
