import type { ColumnTable } from "arquero";
import { MissingEventError } from "../errors.js";
import { tableOf, type Columns } from "../source/columns.js";
import type { Trace } from "../trace.js";
import { ACK, accessesOf, KICK, resolveMachine, type Machine, type VirtioPlaces } from "./boards.js";
import { hostSide, kindsOf, numbersOf, wordsOf } from "./walk.js";

export const virtioDevicesColumns = {
  guest: { type: "number", unit: null, meaning: "Process id of the guest's QEMU.", null: "no vcpus table was given, so all vCPU threads count as one guest" },
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of the device's registers; of virtio-pci its notify structure, or of legacy virtio-pci its first port." },
  queue: { type: "number", unit: null, meaning: "Queue number, as written to QueueNotify or as the address tells. virtio-net: even ones receive, odd ones transmit.", null: "nothing tells it (basis)" },
  basis: { type: "string", unit: null, meaning: "How it is known that the address is a device's, and which queue's." },
  kicks: { type: "number", unit: "count", meaning: "Notifications of this queue." },
  intid: { type: "number", unit: null, meaning: "Interrupt that the board or an option gives the device: interrupt id; of virtio-pci vector or GSI.", null: "virtio-pci, and no option says it: then it is whichever the back end raises" },
  intid_seen: { type: "number", unit: "count", meaning: "Acknowledge writes after which QEMU lowered just that interrupt, on the same thread." },
  intid_other: { type: "number", unit: "count", meaning: "Acknowledge writes after which it lowered another: above 0, the board's addresses or interrupts are not as assumed." },
  vectors: { type: "string", unit: null, meaning: "virtio-pci: the interrupts that the back end's thread raised (vectors of kvm_msi_set_irq, else GSIs of kvm_set_irq) and how often; other queues' of the same thread among them.", null: "virtio-mmio, or it raised none" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "no kick woke anybody" },
  backend_tid: { type: "number", unit: null, meaning: "Thread id of the one that handles it: the one that kicks of this queue wake most often.", null: "no kick woke anybody" },
  backend_comm: { type: "string", unit: null, meaning: "Name of that thread.", null: "no kick woke anybody" },
  woken: { type: "number", unit: "count", meaning: "Kicks that woke that thread." },
  woken_other: { type: "number", unit: "count", meaning: "Kicks that woke another thread that could be a back end." },
} as const satisfies Columns;

/** A queue of a device, as the kicks of a trace show it. */
export interface SurveyedQueue {
  guest: number | null;
  device: number;
  queue: number;
  kicks: number;
  /** Thread id → how many kicks woke it. */
  woken: Map<number, number>;
  /** Thread that handles the queue; null where no kick woke anybody. */
  tid: number | null;
  comm: string | null;
}

export interface DeviceSurvey {
  queues: Map<string, SurveyedQueue>;
  /** By guest and device: interrupt id that was lowered after an acknowledge → how often. */
  lowered: Map<string, Map<number, number>>;
  /** By thread: vector (or GSI) that it raised → how often. */
  raised: Map<number, Map<number, number>>;
  accesses: ReturnType<typeof accessesOf>;
}

export const queueKey = (guest: number | null, device: number, queue: number): string => `${guest}/${device}/${queue}`;
const deviceKey = (guest: number | null, device: number): string => `${guest}/${device}`;

const EXIT = 1, MMIO = 2, WAKING = 3, LEAVE = 4, LINE = 5, USERSPACE = 6, FAST = 7, PIO = 8, MSI = 9, GSI = 10;
const KINDS: Record<string, number> = {
  kvm_exit: EXIT, kvm_mmio: MMIO, sched_waking: WAKING, kvm_entry: LEAVE, kvm_userspace_exit: USERSPACE, kvm_irq_line: LINE,
  kvm_fast_mmio: FAST, kvm_pio: PIO, kvm_msi_set_irq: MSI, kvm_set_irq: GSI,
};

/**
 * Looks at every kick and acknowledge for what they tell of a device: which thread handles each queue, which interrupt it has.
 * A kick counts as waking a thread when its vCPU thread does so before it goes back to the guest or to QEMU, and the
 * thread can be a back end: a vhost worker, a QEMU thread by name, or a thread of the guest's process. kvm_fast_mmio is printed after
 * the write was done: there the thread woken since the exit counts.
 */
export function surveyDevices(trace: Trace, machine: Machine, guestOf: (tid: number) => number | null): DeviceSurvey {
  const { raw } = trace;
  const kinds = kindsOf(trace, (event) => KINDS[event] ?? 0);
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  const accesses = accessesOf(trace, machine), { mmio, fast, pio } = accesses;
  const wakee = numbersOf(trace, "sched_waking", "target_pid"), wakeeComm = wordsOf(trace, "sched_waking", "target_comm");
  const num = numbersOf(trace, "kvm_irq_line", "num"), level = numbersOf(trace, "kvm_irq_line", "level");
  const vec = numbersOf(trace, "kvm_msi_set_irq", "vec"), gsi = numbersOf(trace, "kvm_set_irq", "gsi"), gsiLevel = numbersOf(trace, "kvm_set_irq", "level");
  const queues = new Map<string, SurveyedQueue>();
  const lowered = new Map<string, Map<number, number>>(), raised = new Map<number, Map<number, number>>();

  const comms = new Map<number, string>();
  /** By thread, the queue just kicked and the device just acknowledged, until the thread moves on; and whom it woke since its exit. */
  const kicked = new Map<number, SurveyedQueue>(), acked = new Map<number, string>(), woke = new Map<number, number[]>();
  const count = <K>(counts: Map<K, number>, key: K): void => { counts.set(key, (counts.get(key) ?? 0) + 1); };
  const within = <K>(maps: Map<K, Map<number, number>>, key: K): Map<number, number> => maps.get(key) ?? maps.set(key, new Map()).get(key)!;
  const credit = (queue: SurveyedQueue, s: number, vcpuComm: string): boolean => {
    const comm = wakeeComm?.at(s) ?? "";
    if (!canBeBackEnd(wakee![s], comm, vcpuComm, queue.guest, guestOf)) return false;
    comms.set(wakee![s], comm);
    count(queue.woken, wakee![s]);
    return true;
  };
  const kick = (tid: number, device: number, queue: number): SurveyedQueue => {
    const guest = guestOf(tid), key = queueKey(guest, device, queue);
    let found = queues.get(key);
    if (!found) queues.set(key, (found = { guest, device, queue, kicks: 0, woken: new Map(), tid: null, comm: null }));
    found.kicks++;
    return found;
  };
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[raw.event.codes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    const tid = raw.pid[i], s = raw.slot[i];
    switch (kind) {
      case MMIO: case PIO: {
        const access = kind === MMIO ? mmio : pio;
        if (!access || access.what[s] === 0) break;
        if (access.what[s] === ACK) acked.set(tid, deviceKey(guestOf(tid), access.device[s]));
        else if (access.what[s] === KICK) kicked.set(tid, kick(tid, access.device[s], access.queue[s]));
        break;
      }
      case FAST: {
        if (!fast || fast.what[s] !== KICK) break;
        const queue = kick(tid, fast.device[s], fast.queue[s]);
        for (const waking of woke.get(tid) ?? []) if (credit(queue, waking, raw.comm.at(i) ?? "")) break;
        woke.delete(tid);
        break;
      }
      case WAKING: {
        if (!wakee) break;
        const queue = kicked.get(tid);
        if (queue) {
          if (credit(queue, s, raw.comm.at(i) ?? "")) kicked.delete(tid);
        } else if (fast) {
          const list = woke.get(tid);
          if (list && list.length < 8) list.push(s);
          else if (!list) woke.set(tid, [s]);
        }
        break;
      }
      case LINE: {
        const device = acked.get(tid);
        if (device === undefined || !num || !level || level[s] !== 0) break;
        acked.delete(tid);
        count(within(lowered, device), num[s]);
        break;
      }
      case MSI: if (vec) count(within(raised, tid), vec[s]); break;
      case GSI: if (gsi && gsiLevel?.[s] === 1) count(within(raised, tid), gsi[s]); break;
      case EXIT: case LEAVE: acked.delete(tid); kicked.delete(tid); if (fast) woke.delete(tid); break;
      default: kicked.delete(tid); // back in QEMU: what it wakes there, the kick did not
    }
  }
  for (const queue of queues.values()) {
    // Of two threads woken equally often, a vhost worker: it has no other work than its queues.
    const best = [...queue.woken].sort((a, b) => b[1] - a[1] || Number(isVhost(comms.get(b[0]))) - Number(isVhost(comms.get(a[0]))))[0];
    if (best) {
      queue.tid = best[0];
      queue.comm = comms.get(best[0]) ?? null;
    }
  }
  return { queues, lowered, raised, accesses };
}

const isVhost = (comm: string | null | undefined): boolean => /^vhost-\d+$/.test(comm ?? "");

/** Who handles a queue, by the name of the thread. */
export const backendOf = (comm: string): "vhost" | "qemu" => (isVhost(comm) ? "vhost" : "qemu");

function canBeBackEnd(tid: number, comm: string, vcpuComm: string, guest: number | null, guestOf: (tid: number) => number | null): boolean {
  if (isVhost(comm)) return guest === null || comm === `vhost-${guest}`;
  if (guest !== null && guestOf(tid) !== null) return guestOf(tid) === guest;
  return comm === vcpuComm || /^(qemu|kvm$|IO )/.test(comm);
}

/** Thread → process id of its QEMU, out of a vcpuThreads table; null for all where there is none. */
export function guestsOf(vcpus: ColumnTable | undefined): (tid: number) => number | null {
  const pids = new Map<number, number>();
  for (const { tid, pid } of (vcpus?.objects() ?? []) as { tid: number | null; pid: number | null }[]) if (tid !== null && pid !== null) pids.set(tid, pid);
  return (tid) => pids.get(tid) ?? null;
}

export interface VirtioOptions extends VirtioPlaces {
  /** A table from vcpuThreads, which tells guests apart; default: all vCPU threads of the trace are one guest's. */
  vcpus?: ColumnTable;
}

const WRITES = ["kvm_mmio", "kvm_fast_mmio", "kvm_pio"];
/** Kicks are writes to registers, of which one of three events tells. */
export function needWrites(trace: Trace, analysis: string): void {
  if (!WRITES.some((event) => trace.eventNames.includes(event))) throw new MissingEventError(analysis, ["kvm_mmio"], trace.eventNames, "trace-cmd record -e kvm -e sched");
}

/**
 * The virtio queues that a trace's guests kick, with what was inferred of each and on what evidence: interrupt from the address (virtio-mmio),
 * confirmed by what QEMU lowers after an acknowledge; queue from the address (virtio-pci); back end from the threads that kicks wake. virtioKicks relies on it.
 * @throws MissingEventError when the trace has none of kvm_mmio, kvm_fast_mmio and kvm_pio; OptionError for a wrong board or device.
 */
export function virtioDevices(trace: Trace, options: VirtioOptions = {}): ColumnTable {
  needWrites(trace, "virtioDevices");
  const machine = resolveMachine(trace, options);
  const { queues, lowered, raised } = surveyDevices(trace, machine, guestsOf(options.vcpus));
  return tableOf(virtioDevicesColumns, [...queues.values()].sort((a, b) => (a.guest ?? 0) - (b.guest ?? 0) || a.device - b.device || a.queue - b.queue).map((queue) => {
    const seen = lowered.get(deviceKey(queue.guest, queue.device)) ?? new Map<number, number>();
    const intid = machine.intid(queue.device, queue.queue);
    const total = (counts: Map<number, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
    const woken = queue.tid === null ? 0 : queue.woken.get(queue.tid)!;
    const own = queue.device >= machine.transports && queue.tid !== null ? [...raised.get(queue.tid) ?? []] : [];
    return {
      guest: queue.guest, gpa: machine.gpa(queue.device), queue: queue.queue, basis: machine.basis(queue.device), kicks: queue.kicks,
      intid, intid_seen: seen.get(intid) ?? 0, intid_other: total(seen) - (seen.get(intid) ?? 0),
      vectors: own.length === 0 ? null : own.sort((a, b) => b[1] - a[1]).map(([vector, n]) => `${vector} × ${n}`).join(", "),
      backend: queue.comm === null ? null : backendOf(queue.comm), backend_tid: queue.tid, backend_comm: queue.comm,
      woken, woken_other: total(queue.woken) - woken,
    };
  }));
}
