import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";

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

  it.each(["sched_wakeup: nobody", "sched_switch: nothing"])("have no readable %s", (text) => {
    const trace = kl.fromTraceCmd(`${EXIT} qemu-9 [001] 1.000001: ${text}\n${ENTRY}`);
    expect(trace.undecoded).toBe(1);
    expect(kl.kvmExits(trace).array("handling")).toEqual([9000]);
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
      const cut = await kl.loadTraceCmd([text.subarray(0, n), text.subarray(n, 150), text.subarray(150)], { quiet: true });
      for (const event of whole.eventNames) expect(cut.of(event).toCSV()).toBe(whole.of(event).toCSV());
    }
  });
});
