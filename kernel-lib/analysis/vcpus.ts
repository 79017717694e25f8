import type { ColumnTable } from "arquero";
import { MissingEventError } from "../errors.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import type { Trace } from "../trace.js";
import { columnReader, hostSide, kindsOf, numbersOf } from "./walk.js";

export const vcpuThreadsColumns = {
  tid: { type: "number", unit: null, meaning: "Host thread id.", null: "a perf report names the guest's QEMU but not the thread ([guest/PID])" },
  pid: { type: "number", unit: null, meaning: "Process id of the QEMU that the thread belongs to or works for.", null: "nothing tells it" },
  guest: { type: "string", unit: null, meaning: "The guest: its -name, else qemu-PID.", null: "pid is null" },
  vcpu: { type: "number", unit: null, meaning: "vCPU id.", null: "no vCPU thread, or nothing tells which" },
  role: { type: "string", unit: null, meaning: "vcpu, main (QEMU's main loop), iothread, vhost (kernel worker), worker (QEMU's thread pool) or other." },
  comm: { type: "string", unit: null, meaning: "Name of the thread.", null: "only a perf report names it" },
  confirmed: { type: "number", unit: "count", meaning: "Events and list entries that say this vCPU id (for other roles: this role)." },
  contradicted: { type: "number", unit: "count", meaning: "Events and list entries that say another." },
  evidence: { type: "string", unit: null, meaning: "What the row rests on, and what speaks against it." },
} as const satisfies Columns;

export interface VcpuSources {
  /** A host trace; default none. */
  trace?: Trace;
  /** Threads of the host, from loadThreadList; default none. Rows of a section whose name holds "guest" are left out: they are the guest's own. */
  threads?: ColumnTable;
  /** Rows of perf reports or perf samples, in which guest samples appear as comm ":TID" or "[guest/PID]"; default none. */
  rows?: ColumnTable | ColumnTable[];
}

/*
 * Events that name the vCPU of the thread that prints them. A KVM thread loads, leaves and halts no vCPU but its own.
 * Not among them: vgic_update_irq_pending and kvm_irq_line, which say what is injected (and for an SPI always "VCPU: 0",
 * whichever vCPU it is routed to), and kvm_apic_accept_irq, whose apicid is the receiver's.
 */
const NAMES = ["kvm_get_timer_map", "kvm_timer_update_irq", "kvm_halt_poll_ns", "kvm_entry", "kvm_exit"];

/** vCPU id → how many events of the thread say so, by event; the thread's name; whether it entered a guest or injected interrupts. */
interface Seen { comm: string; ids: Map<number, Map<string, number>>; entries: number; injections: number }

function seenIn(trace: Trace): Map<number, Seen> {
  const { raw } = trace;
  const INJECT = NAMES.length + 1;
  const kinds = kindsOf(trace, (event) => (event === "kvm_irq_line" ? INJECT : NAMES.indexOf(event) + 1));
  const columns = NAMES.map((event) => numbersOf(trace, event, "vcpu"));
  const entering = NAMES.map((event) => event === "kvm_entry" || event === "kvm_exit");
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  // Few threads run guests, so a small list per thread of [event, id, count] is found by the last place looked at.
  interface Counted { first: number; entries: number; injections: number; counts: Map<number, Float64Array> }
  const found = new Map<number, Counted>();
  let lastTid = NaN, last: Counted | undefined;
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[raw.event.codes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    const tid = raw.pid[i];
    if (tid !== lastTid) {
      last = found.get(tid);
      if (!last) found.set(tid, (last = { first: i, entries: 0, injections: 0, counts: new Map() }));
      lastTid = tid;
    }
    if (kind === INJECT) {
      last!.injections++;
      continue;
    }
    if (entering[kind - 1]) last!.entries++;
    const id = columns[kind - 1]?.[raw.slot[i]] ?? NaN;
    if (!(id >= 0)) continue;
    let byEvent = last!.counts.get(id);
    if (!byEvent) last!.counts.set(id, byEvent = new Float64Array(NAMES.length));
    byEvent[kind - 1]++;
  }
  return new Map([...found].map(([tid, { first, entries, injections, counts }]) => [tid, {
    comm: raw.comm.at(first) ?? "", entries, injections,
    ids: new Map([...counts].map(([id, byEvent]) => [id, new Map(NAMES.flatMap((name, e) => (byEvent[e] > 0 ? [[name, byEvent[e]] as const] : [])))])),
  }]));
}

const sum = (counts: Iterable<number>): number => [...counts].reduce((a, b) => a + b, 0);

/** The vCPU of each thread of a trace whose own events name it; where they disagree, the one named most. */
export function vcpuOfThreads(trace: Trace): Map<number, number> {
  const ids = new Map<number, number>();
  for (const [tid, seen] of seenIn(trace)) {
    const best = [...seen.ids].sort((a, b) => sum(b[1].values()) - sum(a[1].values()))[0];
    if (best) ids.set(tid, best[0]);
  }
  return ids;
}

type Row = RowOf<typeof vcpuThreadsColumns>;
interface Listed { pid: number; comm: string; args: string | null }
const GUEST_COMM = /^\[guest\/(\d+)\]$/, TID_COMM = /^:(\d+)$/, GUEST_DSO = /^\[guest\.kernel\.kallsyms\.(\d+)\]$/;
const CPU_COMM = /^CPU (\d+)\/(KVM|TCG|HVF)$/;

/**
 * Which host thread is which vCPU of which guest, and which threads else work for a guest: one row per thread,
 * with the evidence. Sources, all optional, are put side by side and contradictions are shown, not resolved in silence:
 * events that name the vCPU of their own thread (kvm_get_timer_map, kvm_timer_update_irq, kvm_halt_poll_ns; x86: kvm_entry, kvm_exit);
 * QEMU's names of its threads ("CPU 0/KVM", with -name …,debug-threads=on); the kernel's name of a vhost worker (vhost-PID);
 * the list of threads, which gives each thread's process; and guest samples of perf, whose comm ":TID" is a vCPU's thread.
 * @param from a trace, or { trace, threads, rows }.
 */
export function vcpuThreads(from: Trace | VcpuSources): ColumnTable {
  const sources: VcpuSources = "raw" in from ? { trace: from } : from;
  if (!sources.trace && !sources.threads && !sources.rows) {
    throw new MissingEventError("vcpuThreads", ["a trace, a list of threads, or perf rows"], [], "trace-cmd record -e kvm -e sched; ps -eLo pid,tid,comm,args");
  }
  const seen = sources.trace ? seenIn(sources.trace) : new Map<number, Seen>();
  const comms = sources.trace ? commsOf(sources.trace) : new Map<number, string>();
  const listed = new Map<number, Listed>();
  for (const row of (sources.threads?.objects() ?? []) as { section: string | null; pid: number; tid: number; comm: string; args: string | null }[]) {
    if (row.section?.toLowerCase().includes("guest")) continue;
    listed.set(row.tid, { pid: row.pid, comm: row.comm, args: row.args });
  }
  const sampled = sampledIn(sources.rows === undefined ? [] : [sources.rows].flat());

  // Which processes are QEMUs: those that own a vCPU thread, or that a vhost worker or a guest sample is named after.
  const qemus = new Set<number>(sampled.qemus.keys());
  for (const [tid, { pid, comm, args }] of listed) {
    if (seen.get(tid)?.entries || sampled.threads.has(tid) || CPU_COMM.test(comm) || /(^|\/)(qemu-system-|qemu-kvm)/.test(args ?? "")) qemus.add(pid);
  }
  const vhosts = new Map<number, number>();
  for (const [tid, comm] of [...comms, ...[...listed].map(([tid, { comm }]) => [tid, comm] as const)]) {
    const match = /^vhost-(\d+)$/.exec(comm);
    if (!match) continue;
    vhosts.set(tid, Number(match[1]));
    qemus.add(Number(match[1]));
  }

  const tids = new Set<number>([...sampled.threads.keys(), ...vhosts.keys()]);
  for (const [tid, { entries, injections, ids }] of seen) if (entries > 0 || injections > 0 || ids.size > 0) tids.add(tid);
  for (const [tid, { pid }] of listed) if (qemus.has(pid)) tids.add(tid);

  const only = qemus.size === 1 ? [...qemus][0] : null;
  const rows: { -readonly [K in keyof Row]: Row[K] }[] = [];
  for (const tid of [...tids].sort((a, b) => a - b)) {
    const evidence: string[] = [], against: string[] = [];
    const list = listed.get(tid), events = seen.get(tid), samples = sampled.threads.get(tid);
    const comm = list?.comm ?? events?.comm ?? comms.get(tid) ?? null;
    const votes = new Map<number, number>();
    const vote = (id: number, n: number): void => { votes.set(id, (votes.get(id) ?? 0) + n); };
    for (const [id, byEvent] of events?.ids ?? []) vote(id, sum(byEvent.values()));
    const named = CPU_COMM.exec(comm ?? "");
    if (named) vote(Number(named[1]), 1);
    const vcpu = [...votes].sort((a, b) => b[1] - a[1])[0]?.[0] ?? null;
    for (const [id, byEvent] of events?.ids ?? []) {
      (id === vcpu ? evidence : against).push([...byEvent].map(([event, n]) => `${n} ${event} with vcpu ${id}`).join(", "));
    }
    if (named) (Number(named[1]) === vcpu ? evidence : against).push(`named ${comm}`);
    const isVcpu = vcpu !== null || (events?.entries ?? 0) > 0 || samples !== undefined;
    if (isVcpu && vcpu === null && events?.entries) evidence.push(`${events.entries} kvm_entry and kvm_exit`);
    if (samples) evidence.push(`${samples} rows of guest samples under :${tid}`);

    const vhost = vhosts.get(tid);
    let pid: number | null = null;
    if (vhost !== undefined) {
      pid = vhost;
      evidence.push(`named ${comm}`);
    } else if (list) {
      pid = list.pid;
      evidence.push(`thread of ${list.pid} in the list`);
    } else if (only !== null && (isVcpu || events?.injections)) {
      pid = only;
      evidence.push(`${only} is the only QEMU seen`);
    }
    let role = "other";
    let said = 0;
    if (vhost !== undefined) [role, said] = ["vhost", 1];
    else if (isVcpu) role = "vcpu";
    else if (comm?.startsWith("IO ")) [role, said] = ["iothread", 1];
    else if (comm === "worker") [role, said] = ["worker", 1];
    else if (tid === pid) {
      [role, said] = ["main", 1];
      evidence.push("first thread of the process");
    }
    if (events?.injections && !isVcpu) {
      evidence.push(`${events.injections} kvm_irq_line`);
      if (role === "other") role = "main";
      said += events.injections;
    }
    if (isVcpu && vhost !== undefined) against.push("enters a guest, which a vhost worker never does");
    const confirmed = vcpu === null ? (isVcpu ? (events?.entries ?? 0) + (samples ?? 0) : said) : votes.get(vcpu) ?? 0;
    rows.push({
      tid, pid, guest: guestName(pid, listed), vcpu: vhost === undefined ? vcpu : null, role, comm, confirmed,
      contradicted: sum(votes.values()) - (vcpu === null ? 0 : votes.get(vcpu) ?? 0),
      evidence: evidence.join("; ") + (against.length > 0 ? `; but ${against.join("; ")}` : ""),
    });
  }
  for (const [pid, n] of sampled.qemus) {
    if (rows.some((row) => row.pid === pid && row.role === "vcpu")) continue;
    rows.push({ tid: null, pid, guest: guestName(pid, listed), vcpu: null, role: "vcpu", comm: null, confirmed: n, contradicted: 0, evidence: `${n} rows of guest samples of QEMU ${pid}` });
  }
  // Two threads of one guest cannot both be its vCPU 0.
  for (const row of rows) {
    const twin = row.vcpu === null ? undefined : rows.find((other) => other !== row && other.vcpu === row.vcpu && other.pid === row.pid);
    if (twin) row.evidence += `; but thread ${twin.tid} is vcpu ${row.vcpu} too: two guests, or one that was started again`;
  }
  return tableOf(vcpuThreadsColumns, rows);
}

/** Names of a trace's vhost workers, which need not print an event that names a vCPU. */
function commsOf(trace: Trace): Map<number, string> {
  const { comm, pid, length } = trace.raw;
  const isVhost = Uint8Array.from(comm.values, (name) => (/^vhost-\d+$/.test(name) ? 1 : 0));
  const side = hostSide(trace), sideCodes = trace.raw.side?.codes ?? null;
  const found = new Map<number, string>();
  let last = -1;
  for (let i = 0; i < length; i++) {
    if (pid[i] === last || isVhost[comm.codes[i]] === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    last = pid[i];
    found.set(last, comm.values[comm.codes[i]]);
  }
  return found;
}

/** Threads and QEMUs that the guest samples of perf name, with how many rows do. */
function sampledIn(tables: ColumnTable[]): { threads: Map<number, number>; qemus: Map<number, number> } {
  const threads = new Map<number, number>(), qemus = new Map<number, number>();
  const add = (map: Map<number, number>, key: string): void => { map.set(Number(key), (map.get(Number(key)) ?? 0) + 1); };
  for (const table of tables) {
    const names = table.columnNames();
    const get = (...wanted: string[]): ((row: number) => unknown) => columnReader(table)(wanted.find((name) => names.includes(name)) ?? "");
    const comm = get("comm", "command"), dso = get("dso", "shared_object");
    table.scan((row) => {
      const name = String(comm(row!) ?? "");
      const tid = TID_COMM.exec(name), qemu = GUEST_COMM.exec(name) ?? GUEST_DSO.exec(String(dso(row!) ?? ""));
      if (tid) add(threads, tid[1]);
      if (qemu) add(qemus, qemu[1]);
    });
  }
  return { threads, qemus };
}

function guestName(pid: number | null, listed: Map<number, Listed>): string | null {
  if (pid === null) return null;
  const args = listed.get(pid)?.args ?? [...listed.values()].find((thread) => thread.pid === pid)?.args ?? "";
  const name = / -name (?:guest=)?([^, ]+)/.exec(args);
  return name ? name[1] : `qemu-${pid}`;
}

/** Thread → vCPU id, out of a table that vcpuThreads made. */
export function vcpuIdsOf(vcpus: ColumnTable): Map<number, number> {
  const ids = new Map<number, number>();
  for (const { tid, vcpu } of vcpus.objects() as { tid: number | null; vcpu: number | null }[]) if (tid !== null && vcpu !== null) ids.set(tid, vcpu);
  return ids;
}
