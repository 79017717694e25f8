import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";

// Written, not recorded: no x86 host was at hand. The lines are as the kernel's formats print them (include/trace/events/kvm.h, arch/x86/kvm/trace.h,
// include/trace/events/sched.h, in trace-cmd's form) and in the order of its code: handle_ept_misconfig prints kvm_fast_mmio after kvm_io_bus_write has signalled the
// eventfd, emulator_pio_out prints kvm_pio before it, kvm_set_msi_irq prints kvm_msi_set_irq before the APIC accepts.
const exit = (cpu: number, tid: number, vcpu: number, us: string, reason: string): string => `       CPU ${vcpu}/KVM-${tid}  [00${cpu}]   100.${us}: kvm_exit:             vcpu ${vcpu} reason ${reason} rip 0xffffffff9c8d2a4b info1 0x0000000000000000 info2 0x0000000000000000 intr_info 0x00000000 error_code 0x00000000`;
const entry = (cpu: number, tid: number, vcpu: number, us: string): string => `       CPU ${vcpu}/KVM-${tid}  [00${cpu}]   100.${us}: kvm_entry:            vcpu ${vcpu}, rip 0xffffffff9c8d2a4e`;

/** vhost, modern virtio-pci, MSI-X; vCPU 1, which takes the interrupt, sleeps. */
const VHOST_MSI = [
  "      vhost-2090-2110  [003]   100.000000500: sched_switch:         vhost-2090:2110 [120] S ==> swapper/3:0 [120]",
  entry(1, 2102, 1, "000001000"),
  exit(1, 2102, 1, "000004000", "HLT"),
  "       CPU 1/KVM-2102  [001]   100.000006000: sched_switch:         CPU 1/KVM:2102 [120] S ==> swapper/1:0 [120]",
  exit(2, 2101, 0, "000010000", "EPT_MISCONFIG"),
  "       CPU 0/KVM-2101  [002]   100.000011500: sched_waking:         comm=vhost-2090 pid=2110 prio=120 target_cpu=003",
  "       CPU 0/KVM-2101  [002]   100.000012100: kvm_fast_mmio:        fast mmio at gpa 0xfebf3004",
  entry(2, 2101, 0, "000012700"),
  "          <idle>-0     [003]   100.000013000: sched_wakeup:         vhost-2090:2110 [120] CPU:003",
  "          <idle>-0     [003]   100.000014500: sched_switch:         swapper/3:0 [120] R ==> vhost-2090:2110 [120]",
  "      vhost-2090-2110  [003]   100.000017000: kp_tun_get_user:      (ffffffffc0a01230)",
  "      vhost-2090-2110  [003]   100.000026000: kvm_msi_set_irq:      dst 1 vec 36 (Fixed|physical|edge)",
  "      vhost-2090-2110  [003]   100.000026400: kvm_apic_accept_irq:  apicid 1 vec 36 (Fixed|edge)",
  "      vhost-2090-2110  [003]   100.000027000: sched_waking:         comm=CPU 1/KVM pid=2102 prio=120 target_cpu=001",
  "          <idle>-0     [001]   100.000028200: sched_wakeup:         CPU 1/KVM:2102 [120] CPU:001",
  "          <idle>-0     [001]   100.000029500: sched_switch:         swapper/1:0 [120] R ==> CPU 1/KVM:2102 [120]",
  "       CPU 1/KVM-2102  [001]   100.000031000: kvm_vcpu_wakeup:      wait time 25000 ns, polling valid",
  "       CPU 1/KVM-2102  [001]   100.000031500: kvm_inj_virq:         IRQ 0x24",
  entry(1, 2102, 1, "000032000"),
  "      vhost-2090-2110  [003]   100.000033000: sched_switch:         vhost-2090:2110 [120] S ==> swapper/3:0 [120]",
  exit(1, 2102, 1, "000050000", "HLT"),
].join("\n");

/** The same with the interrupt for vCPU 0, which is in the guest and, with posted interrupts, stays there. */
const POSTED = VHOST_MSI.replace("kvm_msi_set_irq:      dst 1", "kvm_msi_set_irq:      dst 0").replace("kvm_apic_accept_irq:  apicid 1", "kvm_apicv_accept_irq: apicid 0")
  .split("\n").filter((line) => !/000027000|000028200|000029500|000031|000032000|000050000/.test(line)).concat(exit(2, 2101, 0, "000060000", "MSR_WRITE"), entry(2, 2101, 0, "000061000")).join("\n");

/** Legacy virtio-pci by I/O port, QEMU as back end, an interrupt line. */
const LEGACY = [
  exit(2, 2101, 0, "000010000", "IO_INSTRUCTION"),
  "       CPU 0/KVM-2101  [002]   100.000010800: kvm_pio:              pio_write at 0xc050 size 2 count 1 val 0x1 ",
  "       CPU 0/KVM-2101  [002]   100.000011500: sched_waking:         comm=qemu-system-x86 pid=2090 prio=120 target_cpu=003",
  entry(2, 2101, 0, "000012500"),
  "          <idle>-0     [003]   100.000014500: sched_switch:         swapper/3:0 [120] R ==> qemu-system-x86:2090 [120]",
  "qemu-system-x86-2090  [003]   100.000020000: kp_tun_get_user:      (ffffffffc0a01230)",
  "qemu-system-x86-2090  [003]   100.000026000: kvm_set_irq:          gsi 11 level 1 source 0",
  exit(2, 2101, 0, "000027500", "EXTERNAL_INTERRUPT"),
  entry(2, 2101, 0, "000029000"),
  exit(2, 2101, 0, "000031000", "IO_INSTRUCTION"),
  "       CPU 0/KVM-2101  [002]   100.000032000: kvm_userspace_exit:   reason KVM_EXIT_IO (2)",
  "qemu-system-x86-2090  [003]   100.000033000: sched_switch:         qemu-system-x86:2090 [120] S ==> swapper/3:0 [120]",
  "       CPU 0/KVM-2101  [002]   100.000036000: kvm_pio:              pio_read at 0xc053 size 1 count 1 val 0x1 ",
  entry(2, 2101, 0, "000037000"),
].join("\n");

type Row = Record<string, any>;
const rows = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];
const kicksOf = (text: string, options?: kl.VirtioKicksOptions): Row[] => rows(kl.virtioKicks(kl.fromTraceCmd(text), options));
const devicesOf = (text: string, options?: kl.VirtioOptions): Row[] => rows(kl.virtioDevices(kl.fromTraceCmd(text), options));

describe("virtioKicks on x86 (lines written after the kernel's formats)", () => {
  it("decodes every line of them", () => {
    for (const text of [VHOST_MSI, POSTED, LEGACY]) {
      const trace = kl.fromTraceCmd(text);
      expect(kl.accounting(trace).unknown).toEqual([]);
      expect(trace.undecoded).toBe(0);
    }
  });

  it("follows kvm_fast_mmio, which comes after the wake, to the entry of the vCPU that takes the message", () => {
    const [kick, ...more] = kicksOf(VHOST_MSI);
    expect(more).toEqual([]);
    // Times from .000011500, the wake: the write is between the exit and it.
    expect(kick).toMatchObject({
      ts: 100_000_011_500, pid: 2101, vcpu: 0, gpa: 0xfebf3000, via: "kvm_fast_mmio", queue: 1, intid: 36, backend: "vhost", backend_tid: 2110, awake: false,
      exit: -1500, wake: 0, sched_in: 3000, tun_first: 5500, tun_count: 1, irq: 14500, irq_tid: 2110, irq_wake: null, delivery: "msi",
      halt: -5500, vcpu_wake: 15500, resume: 18000, vcpu_exit: null, entry: 20500, isr_tid: 2102, isr_read: null, ack: null, end: 20500, whole: true, why: null,
    });
    const stages = rows(kl.kickStages(kl.virtioKicks(kl.fromTraceCmd(VHOST_MSI))));
    expect(stages.map(({ mean }) => mean)).toEqual([1500, 0, 3000, 2500, 9000, 1000, 5000, 0, null]);
    expect(stages.slice(0, 8).reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(100, 9);
  });

  it("ends with the interrupt where the vCPU that takes it stays in the guest, and lends it no later exit", () => {
    const [kick] = kicksOf(POSTED);
    expect(kick).toMatchObject({ irq: 14500, delivery: "msi", isr_tid: 2101, vcpu_wake: null, vcpu_exit: null, entry: null, end: 14500, whole: true, why: null });
    // An exit for an external interrupt is the one.
    const [kicked] = kicksOf(POSTED.replace("MSR_WRITE", "EXTERNAL_INTERRUPT"));
    expect(kicked).toMatchObject({ vcpu_exit: 48500, entry: 49500, end: 49500, whole: true });
  });

  it("says so where nothing tells which vCPU takes the message, and joins nothing across lost events", () => {
    const [kick] = kicksOf(VHOST_MSI.split("\n").filter((line) => !/kvm_apic_accept_irq|000027000/.test(line)).join("\n"));
    expect(kick).toMatchObject({ irq: 14500, entry: null, isr_tid: null, end: null, whole: false, why: "no vCPU known that takes the interrupt" });
    const lost = VHOST_MSI.split("\n");
    lost.splice(lost.findIndex((line) => line.includes("000031500")), 0, "CPU:1 [7 EVENTS DROPPED]");
    expect(kicksOf(lost.join("\n"))[0]).toMatchObject({ irq: 14500, entry: null, end: null, whole: false, why: "lost events" });
  });

  it("follows a legacy device by port, and its interrupt line to the read of the status port", () => {
    const [kick, ...more] = kicksOf(LEGACY);
    expect(more).toEqual([]);
    expect(kick).toMatchObject({
      ts: 100_000_010_800, gpa: 0xc040, via: "kvm_pio", queue: 1, intid: 11, backend: "qemu", backend_tid: 2090, exit: -800, wake: 700, sched_in: 3700, tun_first: 9200,
      irq: 15200, irq_tid: 2090, delivery: "line", vcpu_exit: 16700, entry: 18200, isr_read: 25200, isr_tid: 2101, ack: null, end: 25200, whole: true, why: null,
    });
  });

  it("follows a kvm_mmio write to a notify address, told by the value written", () => {
    const amd = VHOST_MSI.replace("EPT_MISCONFIG", "npf").split("\n").filter((line) => !line.includes("kvm_fast_mmio"));
    amd.splice(amd.findIndex((line) => line.includes("000011500")), 0, "       CPU 0/KVM-2101  [002]   100.000011000: kvm_mmio:             mmio write len 2 gpa 0xfebf3004 val 0x1");
    expect(kicksOf(amd.join("\n"))[0]).toMatchObject({ ts: 100_000_011_000, via: "kvm_mmio", gpa: 0xfebf3000, queue: 1, wake: 500, irq: 15000, end: 21000, whole: true });
    // Another value is another device's register.
    expect(kicksOf(amd.join("\n").replace("gpa 0xfebf3004 val 0x1", "gpa 0xfebf3004 val 0x7"))).toEqual([]);
  });

  it("tells a kick that found the back end awake", () => {
    const again = VHOST_MSI.split("\n");
    const at = again.findIndex((line) => line.includes("000026000"));
    again.splice(at, 0, exit(2, 2101, 0, "000020000", "EPT_MISCONFIG"), "       CPU 0/KVM-2101  [002]   100.000020600: kvm_fast_mmio:        fast mmio at gpa 0xfebf3004", entry(2, 2101, 0, "000021000"));
    const [first, second, ...more] = kicksOf(again.join("\n"));
    expect(more).toEqual([]);
    expect(first).toMatchObject({ awake: false, tun_first: 5500, irq: 14500 });
    expect(second).toMatchObject({ ts: 100_000_020_600, exit: -600, awake: true, wake: null, tun_first: null, whole: false, why: "the back end was awake" });
  });
});

describe("virtio-pci devices", () => {
  it("shows by what the address was told, and which vectors its back end raised", () => {
    expect(devicesOf(VHOST_MSI)).toEqual([{
      guest: null, gpa: 0xfebf3000, queue: 1, basis: "kvm_fast_mmio; queue from the address, 4 bytes each (QEMU's default)", kicks: 1, intid: null, intid_seen: 0, intid_other: 0, vectors: "36 × 1",
      backend: "vhost", backend_tid: 2110, backend_comm: "vhost-2090", woken: 1, woken_other: 0,
    }]);
    expect(devicesOf(LEGACY)).toMatchObject([{ gpa: 0xc040, queue: 1, vectors: "11 × 1", backend: "qemu", backend_tid: 2090, woken: 1 }]);
    expect(devicesOf(LEGACY)[0].basis).toContain("legacy virtio-pci");
  });

  it("tells a page per queue from 4 bytes per queue, and says where it cannot", () => {
    const at = (...addresses: string[]): Row[] => devicesOf(addresses.map((gpa) => VHOST_MSI.replace("0xfebf3004", gpa)).join("\n"));
    // page-per-vq=on: a BAR of 0x800000 bytes with queues from 0x3000 on.
    expect(at("0xfe003000", "0xfe004000").map(({ gpa, queue, basis }) => [gpa, queue, basis.includes("page-per-vq=on")])).toEqual([[0xfe003000, 0, true], [0xfe003000, 1, true]]);
    // Two devices of which each was kicked at queue 0.
    expect(at("0xfebf3000", "0xfebf7000").map(({ gpa, queue }) => [gpa, queue])).toEqual([[0xfebf3000, 0], [0xfebf7000, 0]]);
    const [odd] = at("0xfebf0010");
    expect([odd.gpa, odd.queue]).toEqual([0xfebf0000, null]);
    expect(odd.basis).toContain("not known");
    // Its kick is a row nevertheless.
    expect(kicksOf(VHOST_MSI.replace("0xfebf3004", "0xfebf0010"))).toMatchObject([{ queue: null, tun_first: null, irq: 14500, end: 20500, whole: true }]);
  });

  it("takes what it is told instead", () => {
    const odd = VHOST_MSI.replace("0xfebf3004", "0xfebf0010");
    const pci = [{ notify: 0xfebf0000, multiplier: 16, vectors: { 1: 36 } }];
    expect(kicksOf(odd, { pci })[0]).toMatchObject({ gpa: 0xfebf0000, queue: 1, intid: 36, tun_first: 5500, irq: 14500, whole: true });
    expect(devicesOf(odd, { pci })).toMatchObject([{ queue: 1, basis: "option pci", intid: 36 }]);
    // Another queue's vector is not this one's interrupt.
    expect(kicksOf(odd, { pci: [{ notify: 0xfebf0000, multiplier: 16, vectors: { 1: 37 } }] })[0]).toMatchObject({ intid: 37, irq: null, whole: false, why: "no interrupt by this run" });
    expect(() => kicksOf(odd, { pci: [{ multiplier: 4 }] })).toThrow("a device needs notify");
    expect(() => kicksOf(odd, { pci: [{ notify: -1 }] })).toThrow(kl.OptionError);
  });
});

describe("kickSequence and kickPaths on x86", () => {
  it("name the kick and the message", () => {
    const trace = kl.fromTraceCmd(VHOST_MSI), sequence = rows(kl.kickSequence(trace, kl.kickAt(kl.virtioKicks(trace))));
    expect(sequence.filter(({ kind }) => kind === "event").map(({ lane, start, label }) => [lane, start, label])).toEqual([
      ["guest vCPU 0 (2101)", 600, "kick: kvm_fast_mmio"], ["vhost worker (2110)", 5500, "tun_get_user"], ["vhost worker (2110)", 14500, "interrupt 36 (message)"],
    ]);
    expect(rows(kl.kickPaths(trace, kl.virtioKicks(trace))).map(({ start, dur, pid, wait }) => [start, dur, pid, wait])).toEqual([
      [-1500, 1500, 2101, "vCPU in KVM"], [0, 3000, 2110, "back end waits for an idle CPU"], [3000, 2500, 2110, "back end works"], [5500, 9000, 2110, "back end works"], [14500, 1000, 2110, "back end works"],
      [15500, 2500, 2102, "vCPU waits for an idle CPU"], [18000, 2500, 2102, "vCPU in KVM"],
    ]);
  });
});
