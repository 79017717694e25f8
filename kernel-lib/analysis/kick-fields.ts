import type { Trace } from "../trace.js";
import { isRunnable, kindsOf, needed, numbersOf, wordsOf } from "./walk.js";

// Events on the way of a kick, as small integers.
export const EXIT = 1, ENTRY = 2, MMIO = 3, SWITCH = 4, WAKING = 5, USERSPACE = 6, TUN = 7, LINE = 8, VGIC = 9, WAKEUP = 10, FAST = 11, PIO = 12, MSI = 13, GSI = 14, ACCEPT = 15;
const KINDS: Record<string, number> = {
  kvm_exit: EXIT, kvm_entry: ENTRY, kvm_mmio: MMIO, sched_switch: SWITCH, sched_waking: WAKING, kvm_userspace_exit: USERSPACE, kvm_irq_line: LINE, vgic_update_irq_pending: VGIC, sched_wakeup: WAKEUP,
  kvm_fast_mmio: FAST, kvm_pio: PIO, kvm_msi_set_irq: MSI, kvm_set_irq: GSI, kvm_apic_accept_irq: ACCEPT, kvm_apicv_accept_irq: ACCEPT,
};

/** For each code of the trace's event dictionary, which of these it is; 0 for the others. A probe on tun_get_user may have any name that holds it. */
export const kickKinds = (trace: Trace): Uint8Array => kindsOf(trace, (event) => KINDS[event] ?? (event.includes("tun_get_user") ? TUN : 0));

/** The fields that virtioKicks reads, each by the row of its event's own table. @throws KernelLibError where the trace's text leaves one out. */
export function kickFields(trace: Trace) {
  const numbers = (event: string, name: string): ArrayLike<number> => needed(numbersOf(trace, event, name), trace, "virtioKicks", `${name} of ${event}`);
  const words = (event: string, name: string) => needed(wordsOf(trace, event, name), trace, "virtioKicks", `${name} of ${event}`);
  const prevState = words("sched_switch", "prev_state"), mmioType = wordsOf(trace, "kvm_mmio", "type");
  if (trace.eventNames.includes("kvm_mmio")) {
    numbers("kvm_mmio", "gpa");
    words("kvm_mmio", "type");
  }
  return {
    prevPid: numbers("sched_switch", "prev_pid"), nextPid: numbers("sched_switch", "next_pid"), prevState, runnable: prevState.values.map(isRunnable),
    wakee: numbers("sched_waking", "target_pid"), awakened: numbersOf(trace, "sched_wakeup", "target_pid") ?? [],
    gpa: numbersOf(trace, "kvm_mmio", "gpa"), mmioType, unsatisfied: mmioType?.values.indexOf("unsatisfied-read") ?? -1,
    lineNum: numbersOf(trace, "kvm_irq_line", "num"), lineLevel: numbersOf(trace, "kvm_irq_line", "level"),
    vgicNum: numbersOf(trace, "vgic_update_irq_pending", "irq"), vgicLevel: numbersOf(trace, "vgic_update_irq_pending", "level"),
    vec: numbersOf(trace, "kvm_msi_set_irq", "vec"), gsi: numbersOf(trace, "kvm_set_irq", "gsi"), gsiLevel: numbersOf(trace, "kvm_set_irq", "level"),
    apicid: numbersOf(trace, "kvm_apic_accept_irq", "apicid"), apicvId: numbersOf(trace, "kvm_apicv_accept_irq", "apicid"),
  };
}
