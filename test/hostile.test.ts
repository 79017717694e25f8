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
