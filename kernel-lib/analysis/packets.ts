import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { lowerBound } from "./clock-fit.js";
import type { VirtioMmioBoard } from "./boards.js";
import { virtioDevices } from "./devices.js";
import { guestCpus, guestDevices, needSides, threadsOfCpus } from "./guest-devices.js";
import { virtioKicks } from "./kicks.js";
import { pairInOrder } from "./packet-pairs.js";
import { spread } from "./quantile.js";
import { columnReader, hostSide, kindsOf, numbersOf, wordsOf } from "./walk.js";
import { kickStagesColumns } from "./kick-stages.js";

export const packetPathColumns = {
  packet: { type: "number", unit: null, meaning: "Index of the packet, from 0." },
  ts: { type: "number", unit: "ns", meaning: "When the guest gave the packet to its driver (net_dev_start_xmit), on the trace's clock. All stage times count from here." },
  cpu: { type: "number", unit: null, meaning: "Number of the guest's CPU that sent it." },
  pid: { type: "number", unit: null, meaning: "Thread id, in the guest, of the thread that ran there." },
  comm: { type: "string", unit: null, meaning: "That thread's name." },
  dev: { type: "string", unit: null, meaning: "The guest's network interface.", null: "the event does not say" },
  queue: { type: "number", unit: null, meaning: "Number of the device's transmit queue." },
  len: { type: "number", unit: "bytes", meaning: "Length of the packet.", null: "the event does not say" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  backend_tid: { type: "number", unit: null, meaning: "Host thread id of the one that handles it.", null: "not known" },
  queued: { type: "number", unit: "ns", meaning: "The stack gives it to the queueing discipline (net_dev_queue of the same packet): 0 or less.", null: "the trace has none" },
  kick: { type: "number", unit: null, meaning: "Index of the kick that went with it, as in virtioKicks.", null: "none did: the back end was at work and needed none, or the host's recording does not cover it" },
  notify: { type: "number", unit: "ns", meaning: "That kick: the write to QueueNotify is handled (kvm_mmio).", null: "as kick" },
  xmit: { type: "number", unit: "ns", meaning: "The driver is done with it (net_dev_xmit).", null: "the trace has none" },
  tun: { type: "number", unit: "ns", meaning: "The back end passes it to the host's network stack (tun_get_user).", null: "it did not (vhost sends small packets without), or it cannot be told: see why" },
  irq: { type: "number", unit: "ns", meaning: "The device's next interrupt after that is raised (level-1 kvm_irq_line). One interrupt serves all queues: it mostly tells of what was received, such as acknowledgements.", null: "tun is null, or there was none" },
  entry: { type: "number", unit: "ns", meaning: "The vCPU that takes it enters the guest: last kvm_entry between irq and handler.", null: "handler is null, or there was no entry in between" },
  handler: { type: "number", unit: "ns", meaning: "The guest's handler of that interrupt begins: next irq_handler_entry.", null: "irq is null, or there was none" },
  softirq: { type: "number", unit: "ns", meaning: "The guest begins to receive: next softirq_entry of NET_RX on the CPU that handled the interrupt.", null: "handler is null, or there was none" },
  received: { type: "number", unit: "ns", meaning: "First packet that it receives there (netif_receive_skb of the same interface).", null: "softirq is null, or it received none before the softirq ended" },
  whole: { type: "boolean", unit: null, meaning: "Whether tun, irq, handler and softirq were seen." },
  why: { type: "string", unit: null, meaning: "First reason why not.", null: "it is whole" },
} as const satisfies Columns;

export interface PacketPathOptions {
  /** Where the machine puts its virtio-mmio transports; default: QEMU's arm64 `virt` machine. */
  board?: VirtioMmioBoard;
  /** Which host thread is which CPU of the guest: a table with cpu and tid; default: guestCpus of the trace. */
  cpus?: ColumnTable;
  /** What the guest calls its devices: a table with gpa, intid, irq and dev; default: guestDevices of the trace. */
  devices?: ColumnTable;
  /** Packets up to so many bytes do not pass tun_get_user; default: inferred for vhost from lengths and numbers of calls, 0 for QEMU. */
  bypass?: number;
  /** By how much, ns, the clocks of the two sides may be off; default 100000 (100 µs). Decides only where nothing else does. */
  slack?: number;
}

interface Device { gpa: number; intid: number; irq: number | null; dev: string | null }

/**
 * The way of each packet that the guest sends, one row per net_dev_start_xmit: stack → driver → kick → net_dev_xmit → tun_get_user in the
 * back end → the device's next interrupt → the guest's handler → its network softirq → what it receives. Calls of tun_get_user are paired
 * with packets of a queue in order, since a queue is served in order; a stage that did not happen, or cannot be told, is null, and `why` says so.
 *
 * Needs a trace of both sides (joinTraces, or a merged report); net_dev_start_xmit of the guest; of the host what virtioKicks needs;
 * a kprobe on tun_get_user, kvm_irq_line, and the guest's irq and softirq events for the later stages.
 * @throws MissingEventError when one of these is not in the trace.
 */
export function packetPath(trace: Trace, options: PacketPathOptions = {}): ColumnTable {
  needSides(trace, "packetPath");
  needEvents(trace, "packetPath", ["net_dev_start_xmit"], "trace-cmd record -e kvm -e sched -e kprobes:kp_tun_get_user -A GUEST -e irq -e net");
  const { slack = 100e3, bypass } = options;
  for (const [name, value] of Object.entries({ slack, bypass: bypass ?? 0 })) if (!(value >= 0)) throw new OptionError(`${name} is ${String(value)}; it must be a number, 0 or more`);
  const cpus = options.cpus ?? guestCpus(trace), { tidOf, cpuOf } = threadsOfCpus(cpus);
  const devices = (options.devices ?? guestDevices(trace, { board: options.board, cpus })).objects({ limit: Infinity }) as Device[];
  const queues = virtioDevices(trace, { board: options.board }).objects({ limit: Infinity }) as { gpa: number; queue: number; backend: string | null; backend_tid: number | null }[];
  const events = gather(trace, tidOf);

  const packets = events.packets.map((packet): Packet => {
    const device = devices.find(({ dev }) => dev !== null && dev === packet.dev) ?? null;
    const queue = device && queues.find(({ gpa, queue }) => gpa === device.gpa && queue === packet.queue);
    return { ...packet, device, backend: queue?.backend ?? null, backend_tid: queue?.backend_tid ?? null, kick: null, notify: null, tun: null, why: null };
  });
  pairKicks(trace, packets, cpuOf, slack, options.board);

  const streams = new Map<string, Packet[]>();
  for (const packet of packets) {
    if (packet.device === null) packet.why = "no virtio device is known for this interface";
    else if (packet.backend_tid === null) packet.why = "no back end is known for this queue";
    else if (!events.hasTun) packet.why = "no probe of tun_get_user in the trace";
    else {
      const key = `${packet.device.gpa}/${packet.queue}`, stream = streams.get(key) ?? [];
      stream.push(packet);
      streams.set(key, stream);
    }
  }
  for (const stream of streams.values()) {
    const [{ backend, backend_tid }] = stream;
    const shared = [...streams.values()].some((other) => other[0] !== stream[0] && other[0].backend_tid === backend_tid);
    if (shared) for (const packet of stream) packet.why = `thread ${backend_tid} sends for several queues, whose calls of tun_get_user look alike`;
    else pairInOrder(stream, events.tuns.get(backend_tid!) ?? [], { bypass: bypass ?? (backend === "vhost" ? null : 0), slack, lost: events.lost, first: events.first, last: events.last });
  }

  return tableOf(packetPathColumns, packets.map((packet, k): RowOf<typeof packetPathColumns> => {
    const { ts, tun, device } = packet;
    const next = (list: number[] | undefined, from: number | null): number | null => (list === undefined || from === null ? null : list[lowerBound(list, from)] ?? null);
    const irq = tun === null || device === null ? null : next(events.raised.get(device.intid), tun);
    const at = irq === null || device === null || device.irq === null ? null : events.handlers.get(device.irq) ?? null;
    const h = at === null ? -1 : lowerBound(at.ts, irq!);
    const handler = at?.ts[h] ?? null, by = at?.cpu[h] ?? -1;
    const softirq = next(events.softirqs.get(by), handler), end = next(events.softirqEnds.get(by), softirq);
    const received = next(events.received.get(`${by} ${packet.dev}`), softirq);
    const entries = events.entries.get(by) ?? [], e = handler === null ? -1 : lowerBound(entries, handler) - 1;
    const entry = e >= 0 && entries[e] >= irq! ? entries[e] : null;
    const since = (time: number | null): number | null => (time === null ? null : time - ts);
    return {
      packet: k, ts, cpu: packet.cpu, pid: packet.pid, comm: packet.comm, dev: packet.dev, queue: packet.queue, len: packet.len, backend: packet.backend, backend_tid: packet.backend_tid,
      queued: since(packet.queued), kick: packet.kick, notify: since(packet.notify), xmit: since(packet.xmit), tun: since(tun), irq: since(irq), entry: since(entry), handler: since(handler),
      softirq: since(softirq), received: received !== null && (end === null || received <= end) ? received - ts : null,
      whole: softirq !== null,
      why: packet.why ?? (softirq !== null ? null : irq === null ? "no interrupt after it" : handler === null ? (device!.irq === null ? "the guest's handler of the interrupt is not known" : "no handler after the interrupt") : "no network softirq after the handler"),
    };
  }));
}

/** A packet on its way to a row; times on the trace's clock. */
export interface Packet {
  ts: number; cpu: number; pid: number; comm: string; dev: string | null; queue: number; len: number | null; queued: number | null; xmit: number | null;
  device: Device | null; backend: string | null; backend_tid: number | null; kick: number | null; notify: number | null; tun: number | null; why: string | null;
}

interface Gathered {
  packets: Omit<Packet, "device" | "backend" | "backend_tid" | "kick" | "notify" | "tun" | "why">[];
  /** By thread. */
  tuns: Map<number, number[]>;
  hasTun: boolean;
  /** By interrupt id. */
  raised: Map<number, number[]>;
  /** By the guest's number of the interrupt. */
  handlers: Map<number, { ts: number[]; cpu: number[] }>;
  /** By the guest's CPU; received by CPU and interface. */
  softirqs: Map<number, number[]>;
  softirqEnds: Map<number, number[]>;
  received: Map<string, number[]>;
  entries: Map<number, number[]>;
  /** Where the host's recorder was blind, and from where to where it recorded. */
  lost: { from: number; to: number }[];
  first: number;
  last: number;
}

const KINDS = ["net_dev_queue", "net_dev_start_xmit", "net_dev_xmit", "kvm_irq_line", "irq_handler_entry", "softirq_entry", "softirq_exit", "netif_receive_skb", "kvm_entry"];
const QUEUE = 1, START = 2, XMIT = 3, LINE = 4, HANDLER = 5, SOFTIRQ = 6, SOFTIRQ_END = 7, ENTRY = 9, TUN = 10;

/** Everything that the stages are made of, in one walk. */
function gather(trace: Trace, tidOf: Map<number, number>): Gathered {
  const { event, slot, ts, pid, cpu, comm, side, length } = trace.raw, host = hostSide(trace);
  const kinds = kindsOf(trace, (name) => (name.includes("tun_get_user") ? TUN : KINDS.indexOf(name) + 1));
  const cpuOfTid = new Map([...tidOf].map(([of, tid]) => [tid, of]));
  const own = (name: string): Record<"dev" | "skb", ReturnType<typeof wordsOf>> => ({ dev: wordsOf(trace, name, "dev"), skb: wordsOf(trace, name, "skbaddr") });
  const queue = own("net_dev_queue"), start = own("net_dev_start_xmit"), xmit = own("net_dev_xmit"), receive = own("netif_receive_skb");
  const len = numbersOf(trace, "net_dev_start_xmit", "len"), mapping = numbersOf(trace, "net_dev_start_xmit", "queue_mapping");
  const num = numbersOf(trace, "kvm_irq_line", "num"), level = numbersOf(trace, "kvm_irq_line", "level"), irq = numbersOf(trace, "irq_handler_entry", "irq");
  const vec = numbersOf(trace, "softirq_entry", "vec"), endVec = numbersOf(trace, "softirq_exit", "vec");
  const NET_RX = 3;
  const found: Gathered = {
    packets: [], tuns: new Map(), hasTun: kinds.includes(TUN), raised: new Map(), handlers: new Map(), softirqs: new Map(), softirqEnds: new Map(), received: new Map(), entries: new Map(),
    lost: (trace.lost.objects({ limit: Infinity }) as { from: number | null; to: number | null; side: string | null }[]).filter((gap) => gap.side === null || gap.side === side!.values[host])
      .map(({ from, to }) => ({ from: from ?? -Infinity, to: to ?? Infinity })),
    first: NaN, last: NaN,
  };
  const add = <K>(map: Map<K, number[]>, key: K, time: number): void => { const list = map.get(key); if (list) list.push(time); else map.set(key, [time]); };
  /** Packets that wait for their net_dev_start_xmit or net_dev_xmit, by address; one address may be used again. */
  const queued = new Map<string | null, number>(), sent = new Map<string | null, Gathered["packets"][number]>();
  for (let i = 0; i < length; i++) {
    const ofHost = side!.codes[i] === host;
    if (ofHost) {
      if (found.first !== found.first) found.first = ts[i];
      found.last = ts[i];
    }
    const kind = kinds[event.codes[i]], s = slot[i];
    if (kind === 0 || ofHost !== (kind === LINE || kind === TUN || kind === ENTRY)) continue;
    const now = ts[i];
    switch (kind) {
      case QUEUE: queued.set(queue.skb?.at(s) ?? null, now); break;
      case START: {
        const key = start.skb?.at(s) ?? null;
        const packet = {
          ts: now, cpu: cpu[i], pid: pid[i], comm: comm.at(i) ?? "", dev: start.dev?.at(s) ?? null, queue: 2 * (mapping?.[s] || 0) + 1, len: len === null || len[s] !== len[s] ? null : len[s],
          queued: key === null ? null : queued.get(key) ?? null, xmit: null,
        };
        queued.delete(key);
        sent.set(key, packet);
        found.packets.push(packet);
        break;
      }
      case XMIT: {
        const key = xmit.skb?.at(s) ?? null, packet = key === null ? undefined : sent.get(key);
        if (packet) packet.xmit = now;
        sent.delete(key);
        break;
      }
      case LINE: if (level?.[s] === 1) add(found.raised, num?.[s] ?? NaN, now); break;
      case TUN: add(found.tuns, pid[i], now); break;
      case ENTRY: { const of = cpuOfTid.get(pid[i]); if (of !== undefined) add(found.entries, of, now); break; }
      case HANDLER: {
        const number = irq?.[s] ?? NaN, list = found.handlers.get(number) ?? { ts: [], cpu: [] };
        list.ts.push(now);
        list.cpu.push(cpu[i]);
        found.handlers.set(number, list);
        break;
      }
      case SOFTIRQ: if (vec?.[s] === NET_RX) add(found.softirqs, cpu[i], now); break;
      case SOFTIRQ_END: if (endVec?.[s] === NET_RX) add(found.softirqEnds, cpu[i], now); break;
      default: add(found.received, `${cpu[i]} ${receive.dev?.at(s) ?? null}`, now);
    }
  }
  return found;
}

/** Gives each kick of a transmit queue to the packet that was between net_dev_start_xmit and net_dev_xmit on that CPU, else to the nearest. */
function pairKicks(trace: Trace, packets: Packet[], cpuOf: Map<number, number>, slack: number, board: VirtioMmioBoard | undefined): void {
  const kicks = virtioKicks(trace, { board }).objects({ limit: Infinity }) as { kick: number; ts: number; pid: number; gpa: number; queue: number }[];
  const byPlace = new Map<string, Packet[]>();
  for (const packet of packets) {
    const key = `${packet.cpu} ${packet.device?.gpa} ${packet.queue}`, list = byPlace.get(key);
    if (list) list.push(packet); else byPlace.set(key, [packet]);
  }
  for (const kick of kicks) {
    const list = byPlace.get(`${cpuOf.get(kick.pid)} ${kick.gpa} ${kick.queue}`) ?? [];
    let low = 0, high = list.length;
    while (low < high) { const middle = (low + high) >> 1; if (list[middle].ts <= kick.ts) low = middle + 1; else high = middle; }
    const away = ({ ts, xmit }: Packet): number => Math.max(0, ts - kick.ts, kick.ts - (xmit ?? ts));
    const best = [list[low - 1], list[low]].filter((packet) => packet !== undefined && packet.kick === null && away(packet) <= slack).sort((a, b) => away(a) - away(b))[0];
    if (best) [best.kick, best.notify] = [kick.kick, kick.ts];
  }
}

const POINTS = [["net_dev_start_xmit", () => 0], ["tun_get_user", "tun"], ["interrupt", "irq"], ["irq_handler_entry", "handler"], ["NET_RX softirq", "softirq"]] as const;

/**
 * Where the time of packets goes, stage by stage: per run (where there is a `run` column) and back end, percentiles over all packets
 * that have both ends of a stage; mean and share over those that are whole. The same columns as kickStages.
 * @param packets a table from packetPath, filtered or stacked as you like.
 */
export function packetStages(packets: ColumnTable): ColumnTable {
  const read = columnReader(packets), run = read("run"), backend = read("backend"), whole = read("whole");
  const times = POINTS.map(([, at]) => (typeof at === "string" ? read(at) : at) as (row: number) => number | null);
  const groups = new Map<string, { run: string | null; backend: string | null; rows: number[] }>();
  packets.scan((row) => {
    const group = { run: run(row!) as string | null, backend: backend(row!) as string | null }, key = JSON.stringify(group);
    const found = groups.get(key) ?? { ...group, rows: [] };
    found.rows.push(row!);
    groups.set(key, found);
  });
  return tableOf(kickStagesColumns, [...groups.values()].flatMap(({ rows, ...group }) => {
    const chains = rows.filter((row) => whole(row) === true), way = chains.reduce((sum, row) => sum + times[times.length - 1](row)!, 0);
    return POINTS.slice(1).map(([name], index) => {
      const lengths = (of: number[]): number[] => of.flatMap((row) => { const a = times[index](row), b = times[index + 1](row); return a === null || b === null ? [] : [b - a]; });
      const { n, p50, p90, p99 } = spread(lengths(rows)), inChains = spread(lengths(chains));
      return {
        ...group, index, stage: `${POINTS[index][0]} → ${name}`, n, p50, p90, p99, whole: chains.length,
        mean: inChains.n === 0 ? null : inChains.total / inChains.n, share: way > 0 ? (100 * inChains.total) / way : null,
      };
    });
  }));
}
