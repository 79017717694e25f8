import { OptionError } from "../errors.js";
import type { Trace } from "../trace.js";
import { numbersOf, wordsOf } from "./walk.js";

// Registers of a virtio-mmio transport (virtio 1.2, section 4.2.2), by offset from its base.
export const QUEUE_NOTIFY = 0x050, INTERRUPT_STATUS = 0x060, INTERRUPT_ACK = 0x064;
/** Registers of legacy virtio-pci (virtio 1.2, section 4.1.4.10), by offset from the first port. */
export const PORT_NOTIFY = 16, PORT_ISR = 19;

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

/** A virtio-pci device: `lspci -vv` in the guest shows its notify structure, BARs and MSI-X. */
export interface VirtioPciDevice {
  /** Guest-physical address of its notify structure; default none. One of notify and port is needed. */
  notify?: number;
  /** Bytes from one queue's notify address to the next (notify_off_multiplier × queue_notify_off); default 4, as QEMU has it; 4096 with its page-per-vq=on; 0 where all queues share one address and the value written tells. */
  multiplier?: number;
  /** How many queues it has, so that addresses beyond are no kicks; default 64. */
  queues?: number;
  /** First port of its legacy registers; default none. */
  port?: number;
  /** Guest-physical address of its interrupt status (ISR) byte, which the guest reads where it has no MSI-X; default: none read. */
  isr?: number;
  /** Interrupt vector of each queue, as kvm_msi_set_irq prints it: { 0: 37, 1: 38 }; default: whichever the back end raises. */
  vectors?: Record<number, number>;
  /** Interrupt line, as kvm_set_irq prints its gsi; default: whichever the back end raises. */
  gsi?: number;
}

/** What a write to an address kicks. */
export interface Doorbell {
  device: number;
  /** Queue; NaN where nothing tells it; -1 where the value written is the queue. */
  queue: number;
}

/** Where the devices are: first the virtio-mmio transports, then virtio-pci ones. */
export interface Machine {
  count: number;
  /** How many of them are virtio-mmio transports. */
  transports: number;
  /** Index of the transport that an address belongs to; -1 where it belongs to none. */
  transport(gpa: number): number;
  /** Address of a device's registers; of a virtio-pci device's notify structure, or its first port. */
  gpa(device: number): number;
  /** Interrupt of a queue; NaN where it is not known beforehand. */
  intid(device: number, queue: number): number;
  /** How it is known which queue an address stands for. */
  basis(device: number): string;
  /** virtio-pci: what is kicked by a write to a guest-physical address, or to a port. */
  doorbells: Map<number, Doorbell>;
  ports: Map<number, Doorbell>;
  /** virtio-pci: device whose interrupt status is read there. */
  isr: Map<number, number>;
  isrPorts: Map<number, number>;
}

export interface VirtioPlaces {
  /** Where the machine puts its virtio-mmio transports; default: QEMU's arm64 `virt` machine. */
  board?: VirtioMmioBoard;
  /** virtio-pci devices; default: those that the trace shows by kvm_fast_mmio, and by kvm_mmio and kvm_pio writes that look like QEMU's (virtioDevices says by what). */
  pci?: VirtioPciDevice[];
}

/** QEMU's virt machine: hw/arm/virt.c, VIRT_MMIO at 0x0a000000, 0x200 each, transport i on SPI 16 + i. */
const VIRT = "address and interrupt as QEMU's arm64 virt machine has them";

/** Where the devices of a trace are. @throws OptionError for addresses that cannot be. */
export function resolveMachine(trace: Trace, { board = {}, pci = [] }: VirtioPlaces): Machine {
  const { base = 0x0a000000, stride = 0x200, count = 32, intid = 48, devices } = board;
  for (const [name, value] of Object.entries({ base, stride, count, intid })) {
    if (!Number.isInteger(value) || value < 0) throw new OptionError(`board.${name} is ${String(value)}; it must be a whole number, 0 or more`);
  }
  if (stride < 0x100) throw new OptionError(`board.stride is ${stride}; a virtio-mmio transport takes at least 0x100 bytes`);
  for (const device of devices ?? []) {
    if (!Number.isInteger(device.gpa) || !Number.isInteger(device.intid)) {
      throw new OptionError(`board.devices holds ${JSON.stringify(device)}; each needs a whole number for gpa and intid`);
    }
  }
  const transports = devices?.length ?? count;
  const found: PciDevice[] = [];
  const machine: Machine = {
    count: transports, transports,
    transport: devices ? (gpa) => devices.findIndex((device) => gpa >= device.gpa && gpa < device.gpa + stride)
      : (gpa) => (gpa >= base && gpa < base + stride * count ? Math.floor((gpa - base) / stride) : -1),
    gpa: (device) => (device >= transports ? found[device - transports].gpa : devices ? devices[device].gpa : base + stride * device),
    intid: (device, queue) => (device >= transports ? found[device - transports].vectors?.[queue] ?? found[device - transports].gsi ?? NaN : devices ? devices[device].intid : intid + device),
    basis: (device) => (device >= transports ? found[device - transports].basis : Object.keys(board).length > 0 ? "option board" : VIRT),
    doorbells: new Map(), ports: new Map(), isr: new Map(), isrPorts: new Map(),
  };
  const add = (device: PciDevice): number => {
    found.push(device);
    return machine.count++;
  };
  pci.forEach((device) => addGiven(machine, device, add));
  learnDoorbells(trace, machine, add);
  learnPorts(trace, machine, add);
  return machine;
}

interface PciDevice { gpa: number; basis: string; vectors?: Record<number, number>; gsi?: number }

function addGiven(machine: Machine, given: VirtioPciDevice, add: (device: PciDevice) => number): void {
  const { notify, multiplier = 4, queues = 64, port, isr, vectors, gsi } = given;
  for (const [name, value] of Object.entries({ notify, multiplier, queues, port, isr, gsi })) {
    if (value !== undefined && (!Number.isInteger(value) || value < 0)) throw new OptionError(`pci holds a device whose ${name} is ${String(value)}; it must be a whole number, 0 or more`);
  }
  if (notify === undefined && port === undefined) throw new OptionError(`pci holds ${JSON.stringify(given)}; a device needs notify, the address of its notify structure, or port, its first legacy port`);
  const device = add({ gpa: notify ?? port!, basis: "option pci", vectors, gsi });
  if (notify !== undefined) {
    if (multiplier === 0) machine.doorbells.set(notify, { device, queue: -1 });
    else for (let queue = 0; queue < queues; queue++) machine.doorbells.set(notify + multiplier * queue, { device, queue });
  }
  if (port !== undefined) {
    machine.ports.set(port + PORT_NOTIFY, { device, queue: -1 });
    machine.isrPorts.set(port + PORT_ISR, device);
  }
  if (isr !== undefined) machine.isr.set(isr, device);
}

const PAGE = 0x1000, BAR = 0x4000, NOTIFY = 0x3000, BIG_BAR = 0x800000;

/**
 * QEMU's virtio-pci (hw/virtio/virtio-pci.c) has its notify structure at 0x3000 of a BAR of 0x4000 bytes, 4 bytes per queue; with
 * page-per-vq=on, a page per queue, in a BAR of 0x800000. KVM prints kvm_fast_mmio for eventfds that take any value alone, which are such addresses;
 * a kvm_mmio write is one where the value written, the number of the queue, fits the address.
 */
function learnDoorbells(trace: Trace, machine: Machine, add: (device: PciDevice) => number): void {
  const seen = new Map<number, "kvm_fast_mmio" | "kvm_mmio">();
  const fast = numbersOf(trace, "kvm_fast_mmio", "gpa");
  for (let i = 0; i < (fast?.length ?? 0); i++) if (!machine.doorbells.has(fast![i])) seen.set(fast![i], "kvm_fast_mmio");
  const gpa = numbersOf(trace, "kvm_mmio", "gpa"), len = numbersOf(trace, "kvm_mmio", "len"), type = wordsOf(trace, "kvm_mmio", "type"), val = wordsOf(trace, "kvm_mmio", "val");
  if (gpa && len && type && val) {
    const write = type.values.indexOf("write"), values = val.values.map(Number);
    for (let i = 0; i < gpa.length; i++) {
      if (len[i] !== 2 || type.codes[i] !== write || gpa[i] % BAR !== NOTIFY + 4 * values[val.codes[i]]) continue;
      if (machine.transport(gpa[i]) < 0 && !machine.doorbells.has(gpa[i]) && !seen.has(gpa[i])) seen.set(gpa[i], "kvm_mmio");
    }
  }
  // Whole pages that are no BAR's fourth are queues with a page each.
  const paged = new Set([...seen.keys()].filter((address) => address % PAGE === 0 && address % BAR !== NOTIFY).map((address) => Math.floor(address / BIG_BAR)));
  const devices = new Map<number, number>();
  for (const [address, event] of [...seen].sort((a, b) => a[0] - b[0])) {
    const perPage = address % PAGE === 0 && paged.has(Math.floor(address / BIG_BAR));
    const start = perPage ? Math.floor(address / BIG_BAR) * BIG_BAR + NOTIFY : Math.floor(address / PAGE) * PAGE;
    const queue = perPage ? (address - start) / PAGE : (address - start) / 4;
    const known = perPage || start % BAR === NOTIFY;
    if (!devices.has(start)) {
      devices.set(start, add({
        gpa: start,
        basis: `${event}; ${!known ? "the queue's number is not known, since the address is none of QEMU's" : perPage ? "queue from the address, a page each (QEMU's page-per-vq=on)" : "queue from the address, 4 bytes each (QEMU's default)"}`,
      }));
    }
    machine.doorbells.set(address, { device: devices.get(start)!, queue: known && Number.isInteger(queue) && queue >= 0 ? queue : NaN });
  }
}

/** PCI's ports begin at 0x1000, and a device's are at least 32; legacy virtio-pci is notified by 2 bytes at the 16th, whose value is the queue. */
function learnPorts(trace: Trace, machine: Machine, add: (device: PciDevice) => number): void {
  const port = numbersOf(trace, "kvm_pio", "port"), len = numbersOf(trace, "kvm_pio", "len"), type = wordsOf(trace, "kvm_pio", "type");
  if (!port || !len || !type) return;
  const write = type.values.indexOf("pio_write");
  for (let i = 0; i < port.length; i++) {
    if (len[i] !== 2 || type.codes[i] !== write || port[i] < 0x1000 || port[i] % 32 !== PORT_NOTIFY || machine.ports.has(port[i])) continue;
    const first = port[i] - PORT_NOTIFY, device = add({ gpa: first, basis: "kvm_pio; a write of 2 bytes at port 16 of a PCI device, whose value is the queue (legacy virtio-pci)" });
    machine.ports.set(port[i], { device, queue: -1 });
    machine.isrPorts.set(first + PORT_ISR, device);
  }
}

/** What an access to a device's registers is. */
export const KICK = 1, STATUS = 2, ACK = 3;

/** For each row of an event's own table: what the access is (0: of no interest), of which device, and which queue it kicks (NaN: not known). */
export interface Accesses { what: Uint8Array; device: Int32Array; queue: Float64Array }

/** The accesses to devices that kvm_mmio, kvm_fast_mmio and kvm_pio tell of; null for an event that the trace lacks. */
export function accessesOf(trace: Trace, machine: Machine): { mmio: Accesses | null; fast: Accesses | null; pio: Accesses | null } {
  const make = (length: number): Accesses => ({ what: new Uint8Array(length), device: new Int32Array(length), queue: new Float64Array(length) });
  const ring = (into: Accesses, row: number, { device, queue }: Doorbell, val: number): void => {
    into.what[row] = KICK;
    into.device[row] = device;
    into.queue[row] = queue === -1 ? val : queue;
  };
  const gpa = numbersOf(trace, "kvm_mmio", "gpa"), type = wordsOf(trace, "kvm_mmio", "type"), val = wordsOf(trace, "kvm_mmio", "val");
  let mmio: Accesses | null = null;
  if (gpa && type) {
    mmio = make(gpa.length);
    const write = type.values.indexOf("write"), values = val?.values.map(Number) ?? [];
    const valueAt = (row: number): number => (val && val.codes[row] >= 0 ? values[val.codes[row]] : 0);
    const pci = machine.doorbells.size > 0 || machine.isr.size > 0;
    for (let row = 0; row < gpa.length; row++) {
      const device = machine.transport(gpa[row]), writes = type.codes[row] === write;
      if (device >= 0) {
        const register = gpa[row] - machine.gpa(device);
        mmio.what[row] = writes ? (register === QUEUE_NOTIFY ? KICK : register === INTERRUPT_ACK ? ACK : 0) : register === INTERRUPT_STATUS ? STATUS : 0;
        mmio.device[row] = device;
        mmio.queue[row] = valueAt(row);
      } else if (pci) {
        const bell = writes ? machine.doorbells.get(gpa[row]) : undefined, isr = writes ? undefined : machine.isr.get(gpa[row]);
        if (bell) ring(mmio, row, bell, valueAt(row));
        else if (isr !== undefined) [mmio.what[row], mmio.device[row]] = [STATUS, isr];
      }
    }
  }
  const fastGpa = numbersOf(trace, "kvm_fast_mmio", "gpa"), fast = fastGpa ? make(fastGpa.length) : null;
  if (fast) for (let row = 0; row < fastGpa!.length; row++) {
    const bell = machine.doorbells.get(fastGpa![row]);
    if (bell) ring(fast, row, bell, NaN);
  }
  const port = numbersOf(trace, "kvm_pio", "port"), direction = wordsOf(trace, "kvm_pio", "type"), pioVal = wordsOf(trace, "kvm_pio", "val");
  const pio = port && direction ? make(port.length) : null;
  if (pio) {
    const write = direction!.values.indexOf("pio_write");
    for (let row = 0; row < port!.length; row++) {
      const writes = direction!.codes[row] === write;
      const bell = writes ? machine.ports.get(port![row]) : undefined, isr = writes ? undefined : machine.isrPorts.get(port![row]);
      if (bell) ring(pio, row, bell, Number(pioVal?.at(row) ?? NaN));
      else if (isr !== undefined) [pio.what[row], pio.device[row]] = [STATUS, isr];
    }
  }
  return { mmio, fast, pio };
}
