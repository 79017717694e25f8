import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { tableOf, type Columns } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { hostSide, kindsOf, numbersOf, wordsOf } from "./walk.js";

// Registers of a virtio-mmio transport (virtio 1.2, section 4.2.2), by offset from its base.
export const QUEUE_NOTIFY = 0x050, INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064;

/** A virtio-mmio device that a board puts at an address of its own. */
export interface VirtioMmioDevice {
  /** Guest-physical address of its registers. */
  gpa: number;
  /** Interrupt id (INTID), as kvm_irq_line and vgic_update_irq_pending print it; for an SPI, 32 + its number. */
  intid: number;
}

/** Where a machine puts its virtio-mmio transports, and which interrupt each has. */
export interface VirtioMmioBoard {
  /** Guest-physical address of transport 0; default 0x0a000000. */
  base?: number;
  /** Bytes from one transport to the next; default 0x200. */
  stride?: number;
  /** How many transports there are; default 32. */
  count?: number;
  /** Interrupt id of transport 0, the others follow it; default 48, which is SPI 16. */
  intid?: number;
  /** Devices named one by one; default none. Where given, they take the place of base, stride, count and intid. */
  devices?: VirtioMmioDevice[];
}

export interface ResolvedBoard {
  /** Index of the device that an address belongs to; -1 where it belongs to none. */
  device(gpa: number): number;
  /** Address of a device's registers. */
  gpa(device: number): number;
  intid(device: number): number;
  count: number;
}

/** Fills in QEMU's arm64 `virt` machine (hw/arm/virt.c: VIRT_MMIO at 0x0a000000, 0x200 each, transport i on SPI 16 + i). */
export function resolveBoard(board: VirtioMmioBoard = {}): ResolvedBoard {
  const { base = 0x0a000000, stride = 0x200, count = 32, intid = 48, devices } = board;
  for (const [name, value] of Object.entries({ base, stride, count, intid })) {
    if (!Number.isInteger(value) || value < 0) throw new OptionError(`board.${name} is ${String(value)}; it must be a whole number, 0 or more`);
  }
  if (stride < 0x100) throw new OptionError(`board.stride is ${stride}; a virtio-mmio transport takes at least 0x100 bytes`);
  if (!devices) {
    return {
      count,
      device: (gpa) => (gpa >= base && gpa < base + stride * count ? Math.floor((gpa - base) / stride) : -1),
      gpa: (device) => base + stride * device,
      intid: (device) => intid + device,
    };
  }
  for (const device of devices) {
    if (!Number.isInteger(device.gpa) || !Number.isInteger(device.intid)) {
      throw new OptionError(`board.devices holds ${JSON.stringify(device)}; each needs a whole number for gpa and intid`);
    }
  }
  return {
    count: devices.length,
    device: (gpa) => devices.findIndex((device) => gpa >= device.gpa && gpa < device.gpa + stride),
    gpa: (device) => devices[device].gpa,
    intid: (device) => devices[device].intid,
  };
}

export const virtioDevicesColumns = {
  guest: { type: "number", unit: null, meaning: "Process id of the guest's QEMU.", null: "no vcpus table was given, so all vCPU threads count as one guest" },
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of the device's registers." },
  queue: { type: "number", unit: null, meaning: "Queue number, as written to QueueNotify. virtio-net: even ones receive, odd ones transmit." },
  kicks: { type: "number", unit: "count", meaning: "QueueNotify writes for this queue." },
  intid: { type: "number", unit: null, meaning: "Interrupt id that the board gives the device." },
  intid_seen: { type: "number", unit: "count", meaning: "Acknowledge writes after which QEMU lowered just that interrupt, on the same thread." },
  intid_other: { type: "number", unit: "count", meaning: "Acknowledge writes after which it lowered another: above 0, the board's addresses or interrupts are not as assumed." },
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
}

export const queueKey = (guest: number | null, device: number, queue: number): string => `${guest}/${device}/${queue}`;
const deviceKey = (guest: number | null, device: number): string => `${guest}/${device}`;

const EXIT = 1, MMIO = 2, WAKING = 3, LEAVE = 4, LINE = 5;
const KINDS: Record<string, number> = { kvm_exit: EXIT, kvm_mmio: MMIO, sched_waking: WAKING, kvm_entry: LEAVE, kvm_userspace_exit: LEAVE + 2, kvm_irq_line: LINE };

/**
 * Looks at every kick and acknowledge for what they tell of a device: which thread handles each queue, which interrupt it has.
 * A kick counts as waking a thread when its vCPU thread does so before it goes back to the guest or to QEMU, and the
 * thread can be a back end: a vhost worker, a QEMU thread by name, or a thread of the guest's process.
 */
export function surveyDevices(trace: Trace, board: ResolvedBoard, guestOf: (tid: number) => number | null): DeviceSurvey {
  const { raw } = trace;
  const kinds = kindsOf(trace, (event) => KINDS[event] ?? 0);
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  const gpa = numbersOf(trace, "kvm_mmio", "gpa"), type = wordsOf(trace, "kvm_mmio", "type");
  const val = wordsOf(trace, "kvm_mmio", "val");
  const write = type?.values.indexOf("write") ?? -1;
  const wakee = numbersOf(trace, "sched_waking", "target_pid"), wakeeComm = wordsOf(trace, "sched_waking", "target_comm");
  const num = numbersOf(trace, "kvm_irq_line", "num"), level = numbersOf(trace, "kvm_irq_line", "level");
  const queues = new Map<string, SurveyedQueue>();
  const lowered = new Map<string, Map<number, number>>();
  if (!gpa || !type) return { queues, lowered };

  const comms = new Map<number, string>();
  /** By thread, the queue just kicked and the device just acknowledged, until the thread moves on. */
  const kicked = new Map<number, SurveyedQueue>(), acked = new Map<number, string>();
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[raw.event.codes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    const tid = raw.pid[i], s = raw.slot[i];
    switch (kind) {
      case MMIO: {
        if (type.codes[s] !== write) break;
        const device = board.device(gpa[s]);
        if (device < 0) break;
        const register = gpa[s] - board.gpa(device);
        const guest = guestOf(tid);
        if (register === INTERRUPT_ACK) acked.set(tid, deviceKey(guest, device));
        if (register !== QUEUE_NOTIFY) break;
        const queue = Number(val?.at(s) ?? 0);
        const key = queueKey(guest, device, queue);
        let found = queues.get(key);
        if (!found) queues.set(key, (found = { guest, device, queue, kicks: 0, woken: new Map(), tid: null, comm: null }));
        found.kicks++;
        kicked.set(tid, found);
        break;
      }
      case WAKING: {
        const queue = kicked.get(tid);
        if (!queue || !wakee) break;
        const comm = wakeeComm?.at(s) ?? "";
        if (!canBeBackEnd(wakee[s], comm, raw.comm.at(i) ?? "", queue.guest, guestOf)) break;
        comms.set(wakee[s], comm);
        queue.woken.set(wakee[s], (queue.woken.get(wakee[s]) ?? 0) + 1);
        kicked.delete(tid);
        break;
      }
      case LINE: {
        const device = acked.get(tid);
        if (device === undefined || !num || !level || level[s] !== 0) break;
        acked.delete(tid);
        let counts = lowered.get(device);
        if (!counts) lowered.set(device, (counts = new Map()));
        counts.set(num[s], (counts.get(num[s]) ?? 0) + 1);
        break;
      }
      case EXIT: case LEAVE: acked.delete(tid); kicked.delete(tid); break;
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
  return { queues, lowered };
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

export interface VirtioOptions {
  /** Where the machine puts its virtio-mmio transports; default: QEMU's arm64 `virt` machine. */
  board?: VirtioMmioBoard;
  /** A table from vcpuThreads, which tells guests apart; default: all vCPU threads of the trace are one guest's. */
  vcpus?: ColumnTable;
}

/**
 * The virtio-mmio queues that a trace's guests kick, with what was inferred of each and on what evidence: interrupt from the address,
 * confirmed by what QEMU lowers after an acknowledge; back end from the threads that kicks wake. virtioKicks relies on it.
 * @throws MissingEventError when kvm_mmio is not in the trace; OptionError for a wrong board.
 */
export function virtioDevices(trace: Trace, options: VirtioOptions = {}): ColumnTable {
  needEvents(trace, "virtioDevices", ["kvm_mmio"]);
  const board = resolveBoard(options.board);
  const { queues, lowered } = surveyDevices(trace, board, guestsOf(options.vcpus));
  return tableOf(virtioDevicesColumns, [...queues.values()].sort((a, b) => (a.guest ?? 0) - (b.guest ?? 0) || a.device - b.device || a.queue - b.queue).map((queue) => {
    const seen = lowered.get(deviceKey(queue.guest, queue.device)) ?? new Map<number, number>();
    const intid = board.intid(queue.device);
    const total = (counts: Map<number, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
    const woken = queue.tid === null ? 0 : queue.woken.get(queue.tid)!;
    return {
      guest: queue.guest, gpa: board.gpa(queue.device), queue: queue.queue, kicks: queue.kicks,
      intid, intid_seen: seen.get(intid) ?? 0, intid_other: total(seen) - (seen.get(intid) ?? 0),
      backend: queue.comm === null ? null : backendOf(queue.comm), backend_tid: queue.tid, backend_comm: queue.comm,
      woken, woken_other: total(queue.woken) - woken,
    };
  }));
}
