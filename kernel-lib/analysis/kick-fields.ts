import type { Trace } from "../trace.js";
import { KICK, type Accesses } from "./boards.js";
import { isRunnable, kindsOf, needed, numbersOf, wordsOf, type Threads } from "./walk.js";

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

/** Who enters guests, who raises interrupts, and who calls tun_get_user, asked of threads before they show it. */
export function threadFacts({ raw }: Trace, kinds: Uint8Array, threads: Threads, side: number): Record<"isVcpu" | "injects" | "callsTun", Uint8Array> {
  const { size } = threads, isVcpu = new Uint8Array(size), injects = new Uint8Array(size), callsTun = new Uint8Array(size);
  const codes = raw.event.codes, sideCodes = raw.side?.codes ?? null;
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[codes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    if (kind === EXIT || kind === ENTRY) isVcpu[threads.of(raw.pid[i])] = 1;
    else if (kind === LINE || kind === VGIC || kind === MSI || kind === GSI) injects[threads.of(raw.pid[i])] = 1;
    else if (kind === TUN) callsTun[threads.of(raw.pid[i])] = 1;
  }
  return { isVcpu, injects, callsTun };
}

/** kvm_fast_mmio is printed after the write has woken somebody: the position of the one that the waking at i belongs to; -1 where there is none. */
export function fastAfter({ raw }: Trace, kinds: Uint8Array, fast: Accesses, i: number, side: number): number {
  for (let j = i + 1; j < raw.length; j++) {
    if (raw.pid[j] !== raw.pid[i] || (raw.side !== null && raw.side.codes[j] !== side)) continue;
    const kind = kinds[raw.event.codes[j]];
    if (kind === FAST) return fast.what[raw.slot[j]] === KICK ? j : -1;
    if (kind === EXIT || kind === ENTRY || kind === USERSPACE || kind === MMIO || kind === PIO || kind === SWITCH) return -1;
  }
  return -1;
}
