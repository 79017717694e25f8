import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { inChunks } from "./peer.js";

// Damaged texts that once broke something, found by test/fuzz.ts and cut down.

const EXIT = " qemu-9 [001] 1.000000: kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800010a0b0b0\n";
const ENTRY = " qemu-9 [001] 1.000009: kvm_entry: PC: 0xffff800010a0b0b0\n";

describe("damaged traces", () => {
  it.each(["4294967295", "18446744073709551615", "9007199254740993"])("name thread %s, which no kernel has", (pid) => {
    const trace = kl.fromTraceCmd(
      `${EXIT} qemu-9 [001] 1.000001: kvm_mmio: mmio write len 4 gpa 0xa003e50 val 0x1\n vhost-8 [001] 1.000002: sched_waking: comm=x pid=${pid} prio=120 target_cpu=001\n`
      + ` qemu-9 [001] 1.000003: sched_switch: qemu:9 [120] S ==> swapper/1:${pid} [120]\n${ENTRY}`);
    expect(trace.of("sched_switch").get("next_pid", 0)).toBe(Number(pid));
    expect(kl.kvmExits(trace).numRows()).toBe(1);
    expect(kl.vcpuStates(trace).numRows()).toBeGreaterThan(0);
    expect(kl.virtioKicks(trace).numRows()).toBe(1);
  });

  it("are of a thread that perf does not know", () => {
    const trace = kl.fromTraceCmd(EXIT.replace("qemu-9", ":-1 -1") + " :-1 -1 [001] 1.000001: kvm_mmio: mmio write len 4 gpa 0xa003e50 val 0x1\n"
      + " vhost-8 [001] 1.000002: sched_waking: comm=x pid=7 prio=120 target_cpu=001\n vhost-8 [001] 1.000003: sched_switch: vhost:8 [120] S ==> x:7 [120]\n"
      + " :-1 -1 [001] 1.000004: kvm_mmio: mmio write len 4 gpa 0xa003e64 val 0x1\n" + ENTRY.replace("qemu-9", ":-1 -1"));
    expect(Array.from(trace.raw.pid)).toEqual([-1, -1, 8, 8, -1, -1]);
    expect(kl.kvmExits(trace).array("handling")).toEqual([9000]);
    expect(kl.virtioKicks(trace).numRows()).toBe(1);
  });

  it.each(["sched_wakeup: nobody", "sched_switch: nothing"])("have no readable %s", (text) => {
    const trace = kl.fromTraceCmd(`${EXIT} qemu-9 [001] 1.000001: ${text}\n${ENTRY}`);
    expect(trace.undecoded).toBe(1);
    expect(kl.kvmExits(trace).array("handling")).toEqual([9000]);
  });
});

describe("numbers that no column holds", () => {
  it.each(["4294967295", "2147483648", "9999999999"])("a thread %s is not another thread", (pid) => {
    const trace = kl.fromTraceCmd(`${ENTRY} qemu-${pid} [001] 1.000010: kvm_exit: IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0x1\n`);
    expect(Array.from(trace.raw.pid)).toEqual([9]);
    expect(kl.accounting(trace).unknown.map(({ line }) => line)).toEqual([2]);
    const sample = (tid: string, cpu: string) => `qemu ${tid} [${cpu}] 1.000000: 1 cycles:\n\tffff0 f+0x0 (x)\n\n`;
    const profile = kl.fromPerfScript(sample("9", "001") + sample(pid, "001") + sample(`1/${pid}`, "001") + sample("9", pid));
    expect(Array.from(profile.raw.tid)).toEqual([9]);
    expect(kl.accounting(profile).unknown.map(({ line }) => line)).toEqual([4, 5, 7, 8, 10, 11]);
  });

  it.each(["2147483647", "4294967294", "18446744073709551615"])("vCPU %s is counted as fast as vCPU 0", (vcpu) => {
    const trace = kl.fromTraceCmd(`${EXIT} qemu-9 [001] 1.000001: kvm_timer_update_irq: VCPU: ${vcpu}, IRQ 27, level 1\n${ENTRY}`);
    expect(kl.vcpuThreads(trace).get("vcpu", 0)).toBe(Number(vcpu));
  });
});

describe("chunks", () => {
  it("leave nothing of an earlier line behind a line", async () => {
    // The second line ends where the first, which was longer, has an x.
    const text = Buffer.from("a-1 [000] 1.000000: kvm_timer_save_state: CTL: 0x000001 CVAL: 0x0000000000000007 arch_timer_ctx_index: 0x00\n"
      + "a-1 [000] 1.000001: kvm_timer_restore_state: CTL: 0 CVAL: 0 arch_timer_ctx_index: 0\n");
    const whole = kl.fromTraceCmd(text);
    expect(whole.of("kvm_timer_restore_state").get("timer", 0)).toBe(0);
    for (let n = 1; n < text.length; n++) {
      const cut = await kl.loadTraceCmd(inChunks(text, n), { quiet: true });
      for (const event of whole.eventNames) expect(cut.of(event).toCSV()).toBe(whole.of(event).toCSV());
    }
  });
});
