import type { ColumnTable } from "arquero";
import { BooleanColumn, DictionaryColumn, IntBuilder, makeTable, NullableColumn, NumberBuilder, type Column, type Columns } from "../source/columns.js";
import type { Trace } from "../trace.js";
import type { Machine } from "./boards.js";
import type { Gap, Threads } from "./walk.js";

export const virtioKicksColumns = {
  kick: { type: "number", unit: null, meaning: "Index of the kick in the trace, from 0." },
  ts: { type: "number", unit: "ns", meaning: "When the guest's write to QueueNotify was handled (kvm_mmio, kvm_pio; kvm_fast_mmio is printed after it, so that the wake counts where it comes first). All stage times count from here." },
  cpu: { type: "number", unit: null, meaning: "Host cpu of the write." },
  pid: { type: "number", unit: null, meaning: "Host thread id of the vCPU that kicked." },
  vcpu: { type: "number", unit: null, meaning: "That vCPU's id.", null: "no event of the trace tells it" },
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of the device's registers; of virtio-pci its notify structure, or of legacy virtio-pci its first port." },
  via: { type: "string", unit: null, meaning: "Event that tells of the write: kvm_mmio, kvm_fast_mmio or kvm_pio." },
  queue: { type: "number", unit: null, meaning: "Queue number written, or which the address stands for. virtio-net: even ones receive, odd ones transmit.", null: "virtio-pci, and nothing tells it (virtioDevices says why)" },
  intid: { type: "number", unit: null, meaning: "Interrupt of the device: interrupt id; of virtio-pci the vector or GSI of an option, else the one raised.", null: "virtio-pci: neither is known" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "no kick of this queue woke anybody" },
  backend_tid: { type: "number", unit: null, meaning: "Thread id of the one that handles it.", null: "no kick of this queue woke anybody" },
  exit: { type: "number", unit: "ns", meaning: "kvm_exit that the write caused: 0 or less, since it comes first.", null: "it lies before the trace or in lost events" },
  wake: { type: "number", unit: "ns", meaning: "The vCPU thread wakes the back end (sched_waking).", null: "the back end was awake (awake), or the kick woke nobody" },
  sched_in: { type: "number", unit: "ns", meaning: "The back end is switched in (sched_switch).", null: "no wake, or it never was" },
  tun_first: { type: "number", unit: "ns", meaning: "First call of tun_get_user by the back end in the run that the kick began (QEMU: or came into), before it slept again.", null: "there was none (vhost sends small packets through tun_sendmsg alone), or it may be another packet's (merged kicks; vhost awake before the kick)" },
  tun_last: { type: "number", unit: "ns", meaning: "Last such call, before the back end slept or another kick's began.", null: "as tun_first" },
  tun_count: { type: "number", unit: "count", meaning: "How many such calls." },
  blocked: { type: "number", unit: "ns", meaning: "Part of the time before tun_first in which the back end was off its CPU because a vCPU thread in QEMU held a lock that it needed: it slept with the kick unserved and that thread woke it." },
  irq_wake: { type: "number", unit: "ns", meaning: "The back end wakes the thread that raises the interrupt (sched_waking): with vhost and no irqfd, QEMU's.", null: "irq is null, or the back end raised it" },
  irq: { type: "number", unit: "ns", meaning: "The device's interrupt is raised: first level-1 kvm_irq_line or vgic_update_irq_pending of its id (virtio-pci: kvm_msi_set_irq or level-1 kvm_set_irq), by the back end in this run or by a thread that it woke. One interrupt may serve all queues, so it may be for received data.", null: "this run raised none" },
  delivery: { type: "string", unit: null, meaning: "line: the guest reads InterruptStatus to learn whose the interrupt is; msi: it does not, so that isr_read and ack are null and the way ends with entry.", null: "irq is null" },
  irq_tid: { type: "number", unit: null, meaning: "Thread id of whoever raised it.", null: "as irq" },
  halt: { type: "number", unit: "ns", meaning: "The vCPU that takes the interrupt had gone to sleep (sched_switch out); below 0 where it slept before the kick.", null: "it was not asleep when the interrupt was raised" },
  vcpu_wake: { type: "number", unit: "ns", meaning: "Whoever raised the interrupt wakes that vCPU (sched_waking).", null: "it was not asleep" },
  resume: { type: "number", unit: "ns", meaning: "That vCPU's thread is switched in after the wake.", null: "it was not asleep" },
  vcpu_exit: { type: "number", unit: "ns", meaning: "That vCPU is taken out of the guest: its first kvm_exit after irq.", null: "it was not in the guest when the interrupt was raised" },
  entry: { type: "number", unit: "ns", meaning: "That vCPU's first kvm_entry after irq.", null: "the guest never read InterruptStatus, or no entry was recorded before it did; msi: nothing tells the vCPU, or it took the interrupt without leaving the guest" },
  isr_read: { type: "number", unit: "ns", meaning: "The guest reads InterruptStatus of the device (kvm_mmio): its driver handles the interrupt.", null: "irq is null, or it never did; msi" },
  isr_tid: { type: "number", unit: null, meaning: "Thread id of the vCPU that read it; msi: of the one that the interrupt is for.", null: "not known" },
  ack: { type: "number", unit: "ns", meaning: "The guest writes InterruptACK.", null: "isr_read is null, or it never did" },
  end: { type: "number", unit: "ns", meaning: "Where the way ends: isr_read; msi: entry, or irq where that vCPU stayed in the guest.", null: "not known" },
  awake: { type: "boolean", unit: null, meaning: "Whether the back end was awake when the kick came, so that there was nobody to wake." },
  merged_into: { type: "number", unit: null, meaning: "Index of the earlier kick that the same run of the back end had not served yet; all later stages are told of that one alone.", null: "the kick was not merged" },
  whole: { type: "boolean", unit: null, meaning: "Whether every stage from exit to end was seen (tun_get_user only where the queue transmits and its back end ever calls it; a vCPU that needed neither wake nor exit is whole too)." },
  why: { type: "string", unit: null, meaning: "First reason why the chain is not whole.", null: "it is" },
} as const satisfies Columns;

// Codes of backend, via and delivery.
export const QEMU = 0, VHOST = 1;
export const VIA_MMIO = 0, VIA_FAST = 1, VIA_PIO = 2;
const LINE = 0, MSI = 1;

const WHYS = [
  "lost events", "the trace ends", "handled by the vCPU's own thread in QEMU", "no back end known", "merged into an earlier kick", "the back end was awake",
  "no wake of the back end", "no tun_get_user in this run", "no interrupt by this run", "InterruptStatus not read", "no kvm_exit before", "no kvm_entry before the read",
  "tun_get_user of this kick cannot be told from a merged one's", "no vCPU known that takes the interrupt",
];
export const LOST = 0, OWN = 2, MERGED = 4, DOUBTFUL = 12;
const END = 1, NOBODY = 3, AWAKE = 5, NO_WAKE = 6, NO_TUN = 7, NO_IRQ = 8, NO_READ = 9, NO_EXIT = 10, NO_ENTRY = 11, NO_TAKER = 13;

/** Positions of events, one per kick, growing; -1 stands for null. */
export class Positions {
  data = new Int32Array(64).fill(-1);
  grow(length: number): void {
    if (length <= this.data.length) return;
    const more = new Int32Array(this.data.length * 2).fill(-1);
    more.set(this.data);
    this.data = more;
  }
}

/** What is known of each kick: where in the trace its stages are, and what else was found. */
export function newKicks() {
  return {
    at: {
      at: new Positions(), exit: new Positions(), wake: new Positions(), run: new Positions(), tunFirst: new Positions(), tunLast: new Positions(), tunCount: new Positions(),
      irqWake: new Positions(), irq: new Positions(), halt: new Positions(), vcpuWake: new Positions(), resume: new Positions(), vcpuExit: new Positions(), entry: new Positions(), isr: new Positions(), ack: new Positions(),
      /** Earlier kick; vCPU's thread (an index) woken by the interrupt, or that accepted it; code of why. */
      merged: new Positions(), woken: new Positions(), accepted: new Positions(), why: new Positions(),
    },
    backTid: new NumberBuilder(), backCode: new IntBuilder(), queue: new NumberBuilder(), blocked: new NumberBuilder(), device: new IntBuilder(), awake: new IntBuilder(), via: new IntBuilder(),
    /** Whether the way leads through tun_get_user. */
    usesTun: new IntBuilder(),
  };
}
export type Kicks = ReturnType<typeof newKicks>;

/** What the walk over the trace leaves behind for the last steps. */
export interface Walked {
  kicks: Kicks;
  count: number;
  machine: Machine;
  threads: Threads;
  /** By thread: its exits (i) and entries (-1 - i), where it has any. */
  crossings: (IntBuilder | null)[];
  /** Kicks that are under way when the trace ends. */
  underWay: Set<number>;
  /** Where events were lost. */
  gaps: Gap[];
}

/** Whether the event at a position raises an interrupt that is a message, for which the guest reads no register. */
function messages({ raw }: Trace): (i: number) => boolean {
  const code = raw.event.values.indexOf("kvm_msi_set_irq");
  return (i) => i >= 0 && raw.event.codes[i] === code;
}
/** x86: a vCPU is taken out of the guest by an interrupt, or takes one without leaving it (posted interrupts); what else it leaves for is not for this one. */
const BY_INTERRUPT = /^(EXTERNAL_INTERRUPT|interrupt|INTR|IRQ)$/;

/** The vCPU that takes the interrupt: was it in the guest when it was raised, and when did it enter next? */
export function settleEntries({ kicks: { at: P }, count, threads, crossings, gaps }: Walked, trace: Trace): void {
  const { pid, slot } = trace.raw, isMessage = messages(trace), reason = trace.raw.fields("kvm_exit")?.reason;
  for (let row = 0; row < count; row++) {
    const irq = P.irq.data[row], isr = P.isr.data[row], msi = isMessage(irq);
    if (irq < 0 || (isr < 0 && !msi)) continue;
    const reader = isr >= 0 ? threads.of(pid[isr]) : P.accepted.data[row] >= 0 ? P.accepted.data[row] : P.woken.data[row], list = reader < 0 ? null : crossings[reader];
    if (!list) continue;
    if (msi) P.accepted.data[row] = reader;
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1, x = list.data[middle];
      if ((x < 0 ? -1 - x : x) < irq) low = middle + 1;
      else high = middle;
    }
    const inGuest = low > 0 && list.data[low - 1] < 0, before = isr < 0 ? Infinity : isr;
    if (inGuest && low < list.length && list.data[low] >= 0 && list.data[low] < before && (!msi || BY_INTERRUPT.test(String(reason?.at(slot[list.data[low]]))))) P.vcpuExit.data[row] = list.data[low];
    for (let c = low; c < list.length && c <= low + 1 && (!msi || !inGuest || P.vcpuExit.data[row] >= 0); c++) {
      const x = list.data[c];
      if (x < 0 && -1 - x < before) {
        P.entry.data[row] = -1 - x;
        break;
      }
    }
    // A wake of another vCPU, of one that was in the guest, or that came after the entry, was for something else (a lock in QEMU).
    const entered = P.entry.data[row] >= 0 ? P.entry.data[row] : before;
    if (P.woken.data[row] >= 0 && (inGuest || P.woken.data[row] !== reader || P.vcpuWake.data[row] > entered)) P.vcpuWake.data[row] = P.halt.data[row] = P.resume.data[row] = -1;
    if (msi && gaps.some(({ opens, closes }) => closes > irq && opens <= (P.entry.data[row] >= 0 ? P.entry.data[row] : list.data[Math.min(low, list.length - 1)]))) {
      P.entry.data[row] = P.vcpuExit.data[row] = -1;
      P.why.data[row] = LOST;
      continue;
    }
    if (msi && inGuest && P.vcpuExit.data[row] < 0) P.entry.data[row] = irq; // taken without leaving the guest: no entry, see kickTable
  }
}

/** The table, once all is known. */
export function kickTable(walked: Walked, trace: Trace, ids: Map<number, number>): ColumnTable {
  const { kicks: { at: P, backTid, backCode, queue, blocked, device, awake, via, usesTun }, count: kicks, machine, threads, underWay } = walked;
  const { ts, pid, cpu } = trace.raw;
  const isMessage = messages(trace), msi = (row: number): boolean => isMessage(P.irq.data[row]);
  const stayed = (row: number): boolean => P.entry.data[row] >= 0 && P.entry.data[row] === P.irq.data[row];
  const whole = new Uint8Array(kicks), whyCodes = new Int32Array(kicks);
  for (let row = 0; row < kicks; row++) {
    const missing = P.why.data[row] >= 0 ? P.why.data[row]
      : P.exit.data[row] < 0 ? NO_EXIT
      : backCode.data[row] < 0 ? NOBODY
      : awake.data[row] === 1 && P.wake.data[row] < 0 ? AWAKE
      : P.wake.data[row] < 0 ? (underWay.has(row) ? END : NO_WAKE)
      : P.run.data[row] < 0 ? END
      : underWay.has(row) && P.isr.data[row] < 0 && !msi(row) ? END
      : usesTun.data[row] === 1 && P.tunFirst.data[row] < 0 ? NO_TUN
      : P.irq.data[row] < 0 ? NO_IRQ
      : msi(row) ? (P.accepted.data[row] < 0 ? NO_TAKER : P.entry.data[row] < 0 ? END : -1)
      : P.isr.data[row] < 0 ? NO_READ
      : P.entry.data[row] < 0 ? NO_ENTRY
      : -1;
    whyCodes[row] = missing;
    whole[row] = missing < 0 ? 1 : 0;
  }

  const fill = <T extends Float64Array | Int32Array>(data: T, value: (row: number) => number): T => {
    for (let row = 0; row < kicks; row++) data[row] = value(row);
    return data;
  };
  const each = (value: (row: number) => number): Float64Array => fill(new Float64Array(kicks), value);
  const nullable = (value: (row: number) => number): NullableColumn => new NullableColumn(each(value));
  const codes = (value: (row: number) => number): Int32Array => fill(new Int32Array(kicks), value);
  const at = P.at.data;
  const since = ({ data }: Positions): NullableColumn => nullable((row) => (data[row] < 0 ? NaN : ts[data[row]] - ts[at[row]]));
  const tidAt = ({ data }: Positions): NullableColumn => nullable((row) => (data[row] < 0 ? NaN : pid[data[row]]));
  const end = (row: number): number => (P.isr.data[row] >= 0 ? P.isr.data[row] : msi(row) ? P.entry.data[row] : -1);
  return makeTable(virtioKicksColumns, {
    kick: each((row) => row), ts: each((row) => ts[at[row]]), cpu: each((row) => cpu[at[row]]), pid: each((row) => pid[at[row]]),
    vcpu: nullable((row) => ids.get(pid[at[row]]) ?? NaN),
    gpa: each((row) => machine.gpa(device.data[row] % machine.count)), via: new DictionaryColumn(via.finish(), ["kvm_mmio", "kvm_fast_mmio", "kvm_pio"]), queue: queue.finish(),
    intid: nullable((row) => {
      const known = machine.intid(device.data[row] % machine.count, queue.data[row]);
      return Number.isNaN(known) && P.irq.data[row] >= 0 ? raisedAt(trace, P.irq.data[row]) : known;
    }),
    backend: new DictionaryColumn(backCode.finish(), ["qemu", "vhost"]), backend_tid: backTid.finish(),
    exit: since(P.exit), wake: since(P.wake), sched_in: since(P.run), tun_first: since(P.tunFirst), tun_last: since(P.tunLast), tun_count: each((row) => Math.max(0, P.tunCount.data[row])),
    blocked: blocked.finish(), irq_wake: since(P.irqWake), irq: since(P.irq), delivery: new DictionaryColumn(codes((row) => (P.irq.data[row] < 0 ? -1 : msi(row) ? MSI : LINE)), ["line", "msi"]), irq_tid: tidAt(P.irq),
    halt: since(P.halt), vcpu_wake: since(P.vcpuWake), resume: since(P.resume), vcpu_exit: since(P.vcpuExit), entry: nullable((row) => (P.entry.data[row] < 0 || stayed(row) ? NaN : ts[P.entry.data[row]] - ts[at[row]])),
    isr_read: since(P.isr), isr_tid: nullable((row) => (P.isr.data[row] >= 0 ? pid[P.isr.data[row]] : msi(row) && P.accepted.data[row] >= 0 ? threads.tids[P.accepted.data[row]] : NaN)), ack: since(P.ack),
    end: nullable((row) => (end(row) < 0 ? NaN : ts[end(row)] - ts[at[row]])),
    awake: new BooleanColumn(Uint8Array.from(awake.finish())), merged_into: nullable((row) => (P.merged.data[row] < 0 ? NaN : P.merged.data[row])),
    whole: new BooleanColumn(whole), why: new DictionaryColumn(whyCodes, WHYS),
  } satisfies Record<keyof typeof virtioKicksColumns, Column<any>>);
}

/** Vector or GSI that an event raises. */
function raisedAt({ raw }: Trace, i: number): number {
  const fields = raw.fields(raw.event.at(i) ?? "");
  return Number((fields?.vec ?? fields?.gsi ?? fields?.num ?? fields?.irq)?.at(raw.slot[i]) ?? NaN);
}
