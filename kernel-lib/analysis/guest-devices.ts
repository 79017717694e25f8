import type { ColumnTable } from "arquero";
import { MissingEventError } from "../errors.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { INTERRUPT_STATUS, QUEUE_NOTIFY, resolveMachine, type VirtioMmioBoard } from "./boards.js";
import { alignClocks, type AlignOptions } from "./clocks.js";
import { hostSide, kindsOf, needed, numbersOf, wordsOf } from "./walk.js";

// What the guest calls the devices and CPUs that the host knows by address and thread.

/** Says how to come by a trace of both sides. */
export function needSides(trace: Trace, analysis: string): void {
  if (trace.raw.side !== null) return;
  throw new MissingEventError(`${analysis}(trace)`, ["a guest's events beside the host's"], trace.eventNames, "trace-cmd record -e kvm -e sched -A GUEST -e irq -e net, and put the two together with joinTraces({ host, guest })");
}

/**
 * Which host thread is which CPU of the guest, in a trace of both: by the vCPU id that the thread's own events name, else by whose guest
 * mode holds the CPU's events; with what speaks for it and for the next best thread. packetPath and kickSequence rely on it.
 * @throws MissingEventError where the trace has one side alone, or no kvm_entry and kvm_exit.
 */
export function guestCpus(trace: Trace, options: Pick<AlignOptions, "threads"> = {}): ColumnTable {
  needSides(trace, "guestCpus");
  return alignClocks(trace, trace, { offset: 0, ...options }).cpus.select("cpu", "tid", "vcpu", "how", "events", "inside", "outside", "other_tid", "other_inside");
}

/** Guest CPU ↔ host thread, out of a table that guestCpus or alignClocks made. */
export function threadsOfCpus(cpus: ColumnTable): { tidOf: Map<number, number>; cpuOf: Map<number, number> } {
  const pairs = (cpus.objects({ limit: Infinity }) as { cpu: number; tid: number | null }[]).flatMap(({ cpu, tid }) => (tid === null ? [] : [[cpu, tid] as const]));
  return { tidOf: new Map(pairs), cpuOf: new Map(pairs.map(([cpu, tid]) => [tid, cpu])) };
}

export const guestDevicesColumns = {
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of the device's registers." },
  intid: { type: "number", unit: null, meaning: "Interrupt id of the device, as the host injects it." },
  irq: { type: "number", unit: null, meaning: "Number that the guest has for that interrupt.", null: "the guest never read the device's InterruptStatus within a handler" },
  irq_name: { type: "string", unit: null, meaning: "Name of the guest's handler.", null: "as irq" },
  irq_confirmed: { type: "number", unit: "count", meaning: "Reads of the device's InterruptStatus that the host saw while the guest's CPU was in the handler of that interrupt." },
  irq_contradicted: { type: "number", unit: "count", meaning: "Reads that it saw while the CPU was in another handler." },
  dev: { type: "string", unit: null, meaning: "Name of the guest's network interface.", null: "no kick of a transmit queue came from within a net_dev_start_xmit" },
  dev_confirmed: { type: "number", unit: "count", meaning: "Kicks of transmit queues that the host saw while the guest's CPU was between net_dev_start_xmit and net_dev_xmit of that interface." },
  dev_contradicted: { type: "number", unit: "count", meaning: "Kicks that it saw while the CPU was transmitting through another." },
} as const satisfies Columns;

export interface GuestDevicesOptions {
  /** Where the machine puts its virtio-mmio transports; default: QEMU's arm64 `virt` machine. */
  board?: VirtioMmioBoard;
  /** Which host thread is which CPU of the guest: a table with cpu and tid; default: guestCpus of the trace. */
  cpus?: ColumnTable;
}

/**
 * What the guest calls each virtio-mmio device: its interrupt and network interface, from what the guest's CPU was doing, by its own
 * events, at the moment when the host saw it touch the device. packetPath relies on it.
 * Needs kvm_mmio of the host; irq_handler_entry, irq_handler_exit, net_dev_start_xmit and net_dev_xmit of the guest, each for its part.
 * @throws MissingEventError where the trace has one side alone, or no kvm_mmio.
 */
export function guestDevices(trace: Trace, options: GuestDevicesOptions = {}): ColumnTable {
  needSides(trace, "guestDevices");
  needEvents(trace, "guestDevices", ["kvm_mmio"]);
  const machine = resolveMachine(trace, { board: options.board }), { cpuOf } = threadsOfCpus(options.cpus ?? guestCpus(trace));
  const { event, slot, pid, cpu, side, length } = trace.raw, host = hostSide(trace);
  const MMIO = 1, HANDLER = 2, HANDLED = 3, START = 4, DONE = 5;
  const kinds = kindsOf(trace, (name) => ({ kvm_mmio: MMIO, irq_handler_entry: HANDLER, irq_handler_exit: HANDLED, net_dev_start_xmit: START, net_dev_xmit: DONE })[name] ?? 0);
  const gpa = needed(numbersOf(trace, "kvm_mmio", "gpa"), trace, "guestDevices", "gpa of kvm_mmio"), type = needed(wordsOf(trace, "kvm_mmio", "type"), trace, "guestDevices", "type of kvm_mmio");
  const val = wordsOf(trace, "kvm_mmio", "val"), irq = numbersOf(trace, "irq_handler_entry", "irq"), irqName = wordsOf(trace, "irq_handler_entry", "name"), dev = wordsOf(trace, "net_dev_start_xmit", "dev");

  // A recording that ends within a handler says nothing of what comes later.
  const ends = new Map<number, number>(), openRead = new Set<number>();
  for (let i = 0; i < length; i++) if (side!.codes[i] !== host) ends.set(cpu[i], i);
  /** What each CPU of the guest is doing. */
  const handling = new Map<number, number>(), sending = new Map<number, string>(), names = new Map<number, string>();
  const found = new Map<number, { irqs: Map<number, number>; devs: Map<string, number> }>();
  const count = <K>(map: Map<K, number>, key: K): void => { map.set(key, (map.get(key) ?? 0) + 1); };
  for (let i = 0; i < length; i++) {
    const kind = kinds[event.codes[i]];
    if (kind === 0 || (side!.codes[i] === host) !== (kind === MMIO)) continue;
    const s = slot[i];
    if (kind === MMIO) {
      const device = machine.transport(gpa[s]), own = cpuOf.get(pid[i]);
      if (device < 0) continue;
      // "unsatisfied-read" and, back from QEMU, "read" are one access.
      const again = type.at(s) === "read" && openRead.delete(pid[i]);
      if (type.at(s) === "unsatisfied-read") openRead.add(pid[i]);
      let entry = found.get(device);
      if (!entry) found.set(device, (entry = { irqs: new Map(), devs: new Map() }));
      const register = gpa[s] - machine.gpa(device);
      if (again || own === undefined || i > (ends.get(own) ?? -1)) continue;
      const handler = handling.get(own), interface_ = sending.get(own);
      if (register === INTERRUPT_STATUS && type.at(s) !== "write" && handler !== undefined) count(entry.irqs, handler);
      else if (register === QUEUE_NOTIFY && type.at(s) === "write" && Number(val?.at(s) ?? 0) % 2 === 1 && interface_ !== undefined && handler === undefined) count(entry.devs, interface_);
    } else if (kind === HANDLER) {
      if (!irq) continue;
      handling.set(cpu[i], irq[s]);
      names.set(irq[s], irqName?.at(s) ?? "");
    } else if (kind === HANDLED) handling.delete(cpu[i]);
    else if (kind === START) sending.set(cpu[i], dev?.at(s) ?? "?");
    else sending.delete(cpu[i]);
  }
  const most = <K>(map: Map<K, number>): [K | null, number, number] => {
    const sorted = [...map].sort((a, b) => b[1] - a[1]), total = sorted.reduce((n, [, k]) => n + k, 0);
    return sorted.length === 0 ? [null, 0, 0] : [sorted[0][0], sorted[0][1], total - sorted[0][1]];
  };
  return tableOf(guestDevicesColumns, [...found].sort(([a], [b]) => a - b).map(([device, { irqs, devs }]): RowOf<typeof guestDevicesColumns> => {
    const [number, irq_confirmed, irq_contradicted] = most(irqs), [interface_, dev_confirmed, dev_contradicted] = most(devs);
    return {
      gpa: machine.gpa(device), intid: machine.intid(device, 0), irq: number, irq_name: number === null ? null : names.get(number)!, irq_confirmed, irq_contradicted,
      dev: interface_, dev_confirmed, dev_contradicted,
    };
  }));
}
