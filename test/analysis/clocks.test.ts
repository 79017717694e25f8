import fc from "fast-check";
import { join } from "node:path";
import * as kl from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { merged, recorded, retimed, rowsOf, type Recorded } from "./host-and-guest.js";

let virtio: Recorded, vhost: Recorded;
beforeAll(async () => { [virtio, vhost] = [await recorded("virtio"), await recorded("vhost")]; }, 60_000);
const perCpu = (clocks: kl.Clocks, column: string): number[] => rowsOf(clocks.cpus).map((row) => row[column]);

describe("alignClocks", () => {
  it("finds what trace-cmd's ptp synchronization left, CPU by CPU, with no event of the guest out of guest mode", () => {
    const clocks = kl.alignClocks(virtio.host, virtio.guest);
    expect(clocks).toMatchObject({ aligned: true, why: null, given: false, scale: 1, broken: 0 });
    // Read in the text: thread 520 has a kvm_entry at 2362.823218 and the next kvm_exit at 2362.823222. The guest's irq_handler_entry of
    // 2362.823194, whose handler's read of InterruptStatus is that exit, lies in between: 24 to 28 µs, to the rounding of both.
    const [cpu0, cpu1] = perCpu(clocks, "offset");
    expect(cpu0).toBeGreaterThanOrEqual(23_000);
    expect(cpu0).toBeLessThanOrEqual(28_000);
    expect(cpu1).toBeGreaterThan(cpu0);
    expect(cpu1).toBeLessThan(33_000);
    expect(Math.max(...perCpu(clocks, "residual"))).toBeLessThan(3000);
    expect(clocks.brokenBefore).toBeGreaterThan(1500);
    expect(clocks.pairs).toBeGreaterThan(1000);
    expect(rowsOf(clocks.cpus).map(({ cpu, tid, vcpu, how, outside }) => [cpu, tid, vcpu, how, outside])).toEqual([[0, 520, 0, "vCPU id", 0], [1, 521, 1, "vCPU id", 0]]);
    for (const row of rowsOf(clocks.cpus)) expect(row.other_inside).toBeLessThan(row.inside / 2);
  });

  it("sees that the CPUs of a guest differ: 10 µs in the vhost recording", () => {
    const clocks = kl.alignClocks(vhost.host, vhost.guest);
    expect(clocks).toMatchObject({ aligned: true, perCpu: true, broken: 0 });
    const [cpu0, cpu1] = perCpu(clocks, "offset");
    expect(cpu1 - cpu0).toBeGreaterThan(7000);
    expect(cpu1 - cpu0).toBeLessThan(13_000);
    const one = kl.alignClocks(vhost.host, vhost.guest, { perCpu: false });
    expect(one.perCpu).toBe(false);
    expect(one.broken).toBeGreaterThan(0);
  });

  it("holds to the account: every event is inside, outside, or not covered by the host", () => {
    for (const clocks of [kl.alignClocks(virtio.host, virtio.guest), kl.alignClocks(virtio.host, virtio.guest, { offset: 0 })]) {
      const sum = (name: string): number => perCpu(clocks, name).reduce((a, b) => a + b, 0);
      expect(sum("events")).toBe(virtio.guest.raw.length);
      expect(clocks.judged).toBe(sum("inside") + sum("outside"));
      expect(clocks.broken).toBe(sum("outside"));
      expect(sum("events") - clocks.judged).toBeLessThan(60); // before the host's first kvm_entry
    }
    expect(kl.alignClocks(virtio.host, virtio.guest, { offset: 0 })).toMatchObject({ aligned: true, given: true, offset: 0, residual: null, broken: kl.alignClocks(virtio.host, virtio.guest).brokenBefore });
  });

  it("gets back what a guest's clock was set off by, whatever it is, and CPU by CPU", () => {
    const known = perCpu(kl.alignClocks(virtio.host, virtio.guest, { perCpu: true }), "offset");
    fc.assert(fc.property(fc.integer({ min: -2_000_000_000, max: 5_000_000_000 }), fc.integer({ min: -300_000, max: 300_000 }), (shift, apart) => {
      const guest = kl.fromTraceCmd(retimed(virtio.guestText, (ns, cpu) => ns - shift - cpu * apart));
      const clocks = kl.alignClocks(virtio.host, guest, { perCpu: true });
      expect(clocks.aligned).toBe(true);
      rowsOf(clocks.cpus).forEach(({ offset, residual }, cpu) => expect(Math.abs(offset - shift - cpu * apart - known[cpu])).toBeLessThanOrEqual(residual + 3000));
      expect(clocks.broken).toBe(0);
    }), { numRuns: 8 });
  });

  it("tells a scale where the recording is long enough for it, and says 1 where it is not", () => {
    const middle = kl.alignClocks(virtio.host, virtio.guest).at;
    const scaled = (ppm: number): kl.Clocks => kl.alignClocks(virtio.host, kl.fromTraceCmd(retimed(virtio.guestText, (ns) => middle + (ns - middle) / (1 + ppm * 1e-6))));
    for (const ppm of [400, -300, 200]) {
      const clocks = scaled(ppm);
      expect(clocks.aligned).toBe(true);
      expect(Math.abs(clocks.scale - 1 - ppm * 1e-6)).toBeLessThanOrEqual(clocks.scaleResidual! + 5e-6);
      expect(clocks.scaleResidual).toBeLessThan(100e-6);
      expect(clocks.broken).toBeLessThan(10);
    }
    const small = scaled(10);
    expect(small.scale).toBe(1);
    expect(small.scaleResidual).toBeGreaterThan(10e-6);
  });

  it("is not led astray by a few wrong times, and counts them", () => {
    const known = kl.alignClocks(virtio.host, virtio.guest, { perCpu: true });
    let n = 0;
    const guest = kl.fromTraceCmd(retimed(virtio.guestText, (ns) => (++n % 150 === 0 ? ns + ((n * 7919) % 3000) * 1000 - 1_500_000 : ns)));
    const clocks = kl.alignClocks(virtio.host, guest, { perCpu: true });
    expect(clocks.aligned).toBe(true);
    perCpu(clocks, "offset").forEach((offset, cpu) => expect(Math.abs(offset - perCpu(known, "offset")[cpu])).toBeLessThanOrEqual(3000));
    expect(clocks.broken).toBeGreaterThan(5);
    expect(clocks.broken).toBeLessThan(60);
  });

  it("says plainly when it cannot: recordings of two moments, too few events, a guest that is never left", () => {
    for (const clocks of [kl.alignClocks(virtio.host, vhost.guest), kl.alignClocks(vhost.host, virtio.guest)]) {
      expect(clocks).toMatchObject({ aligned: false, offset: null, residual: null, scale: 1, pairs: 0 });
      expect(clocks.why).toMatch(/several offsets fit about as well|outside of guest mode|of one moment/);
      expect(perCpu(clocks, "offset")).toEqual([null, null]);
    }
    const few = kl.fromTraceCmd(virtio.guestText.split("\n").slice(0, 12).join("\n"));
    expect(kl.alignClocks(virtio.host, few).why).toMatch(/fewer than 20 events/);
    const always = kl.fromTraceCmd([1, 2, 3, 4, 5].flatMap((s) => [` vcpu-7   [000]  ${s}.000010: kvm_entry:  PC: 0xffff`, ` vcpu-7   [000]  ${s}.999990: kvm_exit:  TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff`]).join("\n"));
    const busy = kl.fromTraceCmd(Array.from({ length: 40 }, (_, i) => ` sh-1   [000]  2.${String(200_000 + 997 * i).padStart(6, "0")}: sched_waking: comm=sh pid=1 prio=120 target_cpu=000`).join("\n"));
    expect(kl.alignClocks(always, busy)).toMatchObject({ aligned: false, why: expect.stringMatching(/several offsets/) });
    const far = kl.alignClocks(virtio.host, kl.fromTraceCmd(retimed(virtio.guestText, (ns) => ns - 100e9)), { within: 1e6 });
    expect(far.aligned).toBe(false);
    expect(far.why).toMatch(/further apart than 1(\.0+)? ms.*leave out within/);
  });

  it("refuses what is no trace, and options that cannot be", async () => {
    const profile = await kl.loadPerfScript(join(DATA, "capture/icount-virtio/perf-script-host.txt.gz"), { quiet: true });
    expect(() => kl.alignClocks(profile as unknown as kl.Trace, virtio.guest)).toThrow(/needs traces; its host is none\. Samples of perf script/);
    expect(() => kl.alignClocks(virtio.guest, virtio.guest)).toThrow(kl.MissingEventError);
    expect(() => kl.alignClocks(virtio.host, virtio.guest, { offset: { 0: 5 } })).toThrow(/names no CPU 1/);
    expect(() => kl.alignClocks(virtio.host, virtio.guest, { offset: NaN })).toThrow(kl.OptionError);
    expect(() => kl.alignClocks(virtio.host, virtio.guest, { scale: 1000 })).toThrow(/scale is 1000/);
    expect(() => kl.alignClocks(virtio.host, virtio.guest, { threads: { 0: 1 } })).toThrow(/thread 1 is the guest's CPU 0, yet it enters no guest; those that do: 52/);
    expect(() => kl.alignClocks(virtio.host, virtio.guest, { within: -1 })).toThrow(/within is -1/);
  });

  it("takes threads from a person, finds them where no event names a vCPU, and shows the next best", () => {
    const swapped = kl.alignClocks(virtio.host, virtio.guest, { threads: { 0: 521, 1: 520 } });
    expect(swapped.aligned).toBe(false);
    const { raw } = virtio.host;
    const nameless: kl.Trace = { ...virtio.host, raw: { ...raw, fields: (event) => { const own = raw.fields(event); return own && Object.fromEntries(Object.entries(own).filter(([name]) => name !== "vcpu")); } } };
    const found = kl.alignClocks(nameless, virtio.guest);
    expect(rowsOf(found.cpus).map(({ tid, vcpu, how, outside }) => [tid, vcpu, how, outside])).toEqual([[520, null, "fit", 0], [521, null, "fit", 0]]);
    const given = kl.alignClocks(nameless, virtio.guest, { offset: { 0: 26_000, 1: 29_000 }, threads: { 0: 520, 1: 521 } });
    expect(rowsOf(given.cpus).map(({ how, offset, outside }) => [how, offset, outside])).toEqual([["given", 26_000, 0], ["given", 29_000, 0]]);
  });

  it("takes a merged report in both places", async () => {
    const both = await merged("vhost"), from = kl.alignClocks(vhost.host, vhost.guest);
    const clocks = kl.alignClocks(both, both);
    expect({ ...clocks, cpus: rowsOf(clocks.cpus) }).toEqual({ ...from, cpus: rowsOf(from.cpus) });
  });
});
