import { describe, expect, it } from "vitest";
import { join } from "node:path";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";

type Row = Record<string, any>;
const rows = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];
const recording = (path: string): string => join(DATA, "capture", path);
const quiet = { quiet: true };

// Cut from trace-cmd 3.1.6 report of an arm64 host, kernel 6.1.
const EVENTS = ` qemu-system-aar-194   [003]    77.741739984: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff800008cda268
 qemu-system-aar-194   [003]    77.741772000: kvm_get_timer_map:    VCPU: 0, dv: 1, dp: 0, ep: -1
 qemu-system-aar-194   [003]    77.741772832: kvm_timer_update_irq: VCPU: 0, IRQ 27, level 0
 qemu-system-aar-194   [003]    77.741779296: kvm_halt_poll_ns:     vcpu 0: halt_poll_ns 10000 (grow 0)
 qemu-system-aar-195   [000]    77.742431040: kvm_timer_update_irq: VCPU: 1, IRQ 27, level 0
 qemu-system-aar-190   [001]    77.742832208: kvm_irq_line:         Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 1
 qemu-system-aar-190   [001]    77.742832880: vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 1
`;

describe("vcpuThreads", () => {
  it("learns vCPUs from events of the same thread, and not from those that say what is injected", () => {
    expect(rows(kl.vcpuThreads(kl.fromTraceCmd(EVENTS)))).toEqual([
      { tid: 190, pid: null, guest: null, vcpu: null, role: "main", comm: "qemu-system-aar", confirmed: 1, contradicted: 0, evidence: "1 kvm_irq_line" },
      { tid: 194, pid: null, guest: null, vcpu: 0, role: "vcpu", comm: "qemu-system-aar", confirmed: 3, contradicted: 0,
        evidence: "1 kvm_get_timer_map with vcpu 0, 1 kvm_timer_update_irq with vcpu 0, 1 kvm_halt_poll_ns with vcpu 0" },
      { tid: 195, pid: null, guest: null, vcpu: 1, role: "vcpu", comm: "qemu-system-aar", confirmed: 1, contradicted: 0, evidence: "1 kvm_timer_update_irq with vcpu 1" },
    ]);
  });

  it("shows contradictions: within a thread's events, and against its name", () => {
    const odd = EVENTS.replace("kvm_halt_poll_ns:     vcpu 0", "kvm_halt_poll_ns:     vcpu 1");
    const threads = kl.fromThreadList("  PID   TID COMMAND         COMMAND\n  190   194 CPU 3/KVM       qemu-system-aarch64 -name vm1,debug-threads=on\n");
    const thread = rows(kl.vcpuThreads({ trace: kl.fromTraceCmd(odd), threads })).find(({ tid }) => tid === 194);
    expect(thread).toMatchObject({ pid: 190, guest: "vm1", vcpu: 0, comm: "CPU 3/KVM", confirmed: 2, contradicted: 2 });
    expect(thread!.evidence).toMatch(/1 kvm_get_timer_map with vcpu 0, 1 kvm_timer_update_irq with vcpu 0; thread of 190 in the list; but 1 kvm_halt_poll_ns with vcpu 1; named CPU 3\/KVM/);
  });

  it("shows two threads that are the same vCPU", () => {
    const twins = rows(kl.vcpuThreads(kl.fromTraceCmd(EVENTS.replace("VCPU: 1", "VCPU: 0"))));
    expect(twins.filter(({ vcpu }) => vcpu === 0).map(({ evidence }) => evidence.replace(/.*; but/, "but"))).toEqual([
      "but thread 195 is vcpu 0 too: two guests, or one that was started again", "but thread 194 is vcpu 0 too: two guests, or one that was started again",
    ]);
  });

  it("joins the trace, the list of threads and a perf report's :TID rows", async () => {
    const trace = await kl.loadTraceCmd(recording("virtio/trace-cmd.txt.gz"), quiet);
    const threads = await kl.loadThreadList(recording("virtio/environment.txt"), quiet);
    const report = await kl.loadPerfReport(recording("virtio/perf-kvm-report.txt"), quiet);
    const table = rows(kl.vcpuThreads({ trace, threads, rows: report }));
    expect(table.filter(({ role }) => role === "vcpu").map(({ tid, pid, guest, vcpu, contradicted }) => [tid, pid, guest, vcpu, contradicted])).toEqual([
      [696, 692, "qemu-692", 0, 0], [697, 692, "qemu-692", 1, 0], [698, 692, "qemu-692", 2, 0], [699, 692, "qemu-692", 3, 0],
    ]);
    expect(table.find(({ tid }) => tid === 692)).toMatchObject({ role: "main", vcpu: null });
    expect(table.find(({ tid }) => tid === 697)!.evidence).toMatch(/563 kvm_get_timer_map with vcpu 1.*rows of guest samples under :697/);
  });

  it("knows vhost workers and QEMU's named threads", async () => {
    const trace = await kl.loadTraceCmd(recording("debugthreads/trace-cmd-small.txt.gz"), quiet);
    const threads = await kl.loadThreadList(recording("debugthreads/environment.txt"), quiet);
    const table = rows(kl.vcpuThreads({ trace, threads }));
    expect(table.map(({ tid, pid, vcpu, role, comm }) => [tid, pid, vcpu, role, comm])).toEqual([
      [3275, 3275, null, "main", "qemu-system-aar"], [3278, 3275, null, "other", "qemu-system-aar"], [3279, 3275, null, "vhost", "vhost-3275"],
      [3280, 3275, 0, "vcpu", "CPU 0/KVM"], [3281, 3275, 1, "vcpu", "CPU 1/KVM"], [3282, 3275, 2, "vcpu", "CPU 2/KVM"], [3283, 3275, 3, "vcpu", "CPU 3/KVM"],
      [3296, 3275, null, "worker", "worker"], [3309, 3275, null, "worker", "worker"], [3310, 3275, null, "worker", "worker"],
    ]);
    // The names alone are enough.
    expect(rows(kl.vcpuThreads({ threads })).filter(({ role }) => role === "vcpu").map(({ tid, vcpu, evidence }) => [tid, vcpu, evidence])[0]).toEqual([3280, 0, "named CPU 0/KVM; thread of 3275 in the list"]);
  });

  it("takes a QEMU that only a report names ([guest/PID])", async () => {
    const report = await kl.loadPerfReport(recording("virtio/perf-kvm-report-guestmount-guestcode.txt"), quiet);
    expect(rows(kl.vcpuThreads({ rows: report })).filter(({ pid }) => pid === 2467)).toMatchObject([{ tid: null, guest: "qemu-2467", role: "vcpu", vcpu: null }]);
  });

  it("says what it needs when it is given nothing", () => {
    expect(() => kl.vcpuThreads({})).toThrow(/vcpuThreads needs a trace, a list of threads, or perf rows/);
  });
});
