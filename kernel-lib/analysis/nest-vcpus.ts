import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { NO_NUMBER, type Profile } from "../parse/perf-script.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";

export const nestVcpusColumns = {
  vcpu: { type: "number", unit: null, meaning: "vCPU id, taken for the number of the guest's CPU.", null: "nothing tells which vCPU the thread is" },
  tid: { type: "number", unit: null, meaning: "Id of the host thread that runs it.", null: "the guest's CPU has samples, but no thread is known for it" },
  comm: { type: "string", unit: null, meaning: "Name under which the thread's stacks stand.", null: "tid is null" },
  samples: { type: "number", unit: "samples", meaning: "Samples that the host took of the thread, in guest mode or not." },
  evidence: { type: "string", unit: null, meaning: "What the row rests on." },
} as const satisfies Columns;

type Row = RowOf<typeof nestVcpusColumns>;
const TID_COMM = /^:(\d+)$/, CPU_COMM = /^CPU (\d+)\/KVM$/, QEMU_COMM = /^(qemu|kvm$)/;
/** Frames that none but a vCPU's thread has. */
const VCPU_FRAME = /^(kvm_vcpu_thread_fn|kvm_cpu_exec|kvm_arch_vcpu_ioctl_run)(\.\w+)*$/;

/**
 * Which host thread runs which of the guest's CPUs, as nestStacks takes it: a row per vCPU thread of the host's profile, and one per CPU of the guest that has none.
 * A thread is a vCPU's where perf gives its samples to a guest (":TID"), where it has the frames of KVM_RUN, or where QEMU named it ("CPU 0/KVM").
 * Its id is that of the name; else, where there are as many threads as CPUs of the guest (or more, with consecutive ids), its place in the order of the thread ids,
 * in which QEMU starts them.
 * @param vcpus the same from vcpuThreads, which knows more sources, or a table of your own with the columns tid and vcpu; default: what the profiles tell
 * @throws OptionError where two threads are the same vCPU
 */
export function nestVcpus(profiles: { host: Profile; guest?: Profile }, vcpus?: ColumnTable): ColumnTable {
  return tableOf(nestVcpusColumns, vcpuRows(profiles, vcpus));
}

export function vcpuRows({ host, guest }: { host: Profile; guest?: Profile }, vcpus?: ColumnTable): Row[] {
  const { samples, comms, found, qemus } = vcpusSeen(host);
  const rows: Row[] = [];
  const nameOf = (tid: number, given?: string | null) => comms.get(tid) ?? given ?? (qemus.size === 1 ? [...qemus][0] : `:${tid}`);
  const cpus = new Set<number>();
  if (guest) for (const cpu of guest.raw.cpu) if (cpu !== NO_NUMBER) cpus.add(cpu);
  if (vcpus) {
    const names = vcpus.columnNames();
    for (const name of ["tid", "vcpu"]) if (!names.includes(name)) throw new OptionError(`vcpus: needs the columns tid and vcpu, as vcpuThreads gives them; this table has ${names.join(", ")}`);
    for (const row of vcpus.objects() as { tid: number | null; vcpu: number | null; role?: string; comm?: string | null; evidence?: string }[]) {
      if (row.tid === null || (row.role !== undefined ? row.role !== "vcpu" : row.vcpu === null)) continue;
      rows.push({ vcpu: row.vcpu, tid: row.tid, comm: nameOf(row.tid, row.comm), samples: samples.get(row.tid) ?? 0, evidence: row.evidence ?? "given" });
    }
  } else for (const [tid, { vcpu, evidence }] of found) rows.push({ vcpu, tid, comm: nameOf(tid), samples: samples.get(tid) ?? 0, evidence });
  rows.sort((a, b) => a.tid! - b.tid!);
  if (rows.every((row) => row.vcpu === null) && cpus.size > 0) {
    const n = Math.max(...cpus) + 1;
    // An idle CPU of the guest may have no sample; but more threads than CPUs may also be of two guests.
    const fits = rows.length === n || (rows.length > n && rows[rows.length - 1].tid! - rows[0].tid! === rows.length - 1);
    rows.forEach((row, i) => {
      if (fits) row.vcpu = i;
      row.evidence += fits ? "; id by the order of thread ids, in which QEMU starts its vCPUs" : `; which vCPU is not known: ${rows.length} threads, ${n} CPUs of the guest; give vcpus`;
    });
  }
  for (const row of rows) {
    const twin = row.vcpu === null ? undefined : rows.find((other) => other !== row && other.vcpu === row.vcpu);
    if (twin) throw new OptionError(`vcpus: threads ${row.tid} and ${twin.tid} are both vCPU ${row.vcpu}; give vcpus with those of one guest alone`);
  }
  rows.sort((a, b) => (a.vcpu ?? Infinity) - (b.vcpu ?? Infinity) || a.tid! - b.tid!);
  for (const cpu of [...cpus].sort((a, b) => a - b)) {
    if (!rows.some((row) => row.vcpu === cpu)) rows.push({ vcpu: cpu, tid: null, comm: null, samples: 0, evidence: "the guest's profile has samples of this CPU; no thread of the host is known for it" });
  }
  return rows;
}

function vcpusSeen({ raw }: Profile): { samples: Map<number, number>; comms: Map<number, string>; found: Map<number, { vcpu: number | null; evidence: string }>; qemus: Set<string> } {
  const guests = raw.comm.values.map((comm) => TID_COMM.test(comm)), named = raw.comm.values.map((comm) => CPU_COMM.exec(comm));
  const isVcpuFrame = raw.symbol.map((symbol) => VCPU_FRAME.test(symbol));
  const running = new Uint8Array(raw.parent.length);
  for (let node = 1; node < running.length; node++) running[node] = isVcpuFrame[raw.frame[node]] ? 1 : running[raw.parent[node]];
  const samples = new Map<number, number>(), names = new Map<number, Map<number, number>>();
  const seen = new Map<number, { guest: number; running: number; vcpu: number | null }>();
  for (let i = 0; i < raw.length; i++) {
    const tid = raw.tid[i], comm = raw.comm.codes[i];
    if (tid === NO_NUMBER || comm < 0) continue;
    samples.set(tid, (samples.get(tid) ?? 0) + 1);
    if (!guests[comm]) {
      const of = names.get(tid) ?? new Map<number, number>();
      of.set(comm, (of.get(comm) ?? 0) + 1);
      names.set(tid, of);
    }
    if (!guests[comm] && !named[comm] && running[raw.stack[i]] === 0) continue;
    const thread = seen.get(tid) ?? { guest: 0, running: 0, vcpu: null };
    if (guests[comm]) thread.guest++;
    else if (running[raw.stack[i]] === 1) thread.running++;
    const name = named[comm];
    if (name) thread.vcpu = Number(name[1]);
    seen.set(tid, thread);
  }
  const comms = new Map([...names].map(([tid, of]) => [tid, raw.comm.values[[...of].sort((a, b) => b[1] - a[1])[0][0]]]));
  const found = new Map([...seen].map(([tid, { guest, running: own, vcpu }]) => [tid, {
    vcpu,
    evidence: [vcpu !== null && `named CPU ${vcpu}/KVM`, guest > 0 && `samples that perf gives to the guest: ${guest}`, own > 0 && `samples within KVM_RUN: ${own}`].filter(Boolean).join(", "),
  }]));
  return { samples, comms, found, qemus: new Set(raw.comm.values.filter((comm) => QEMU_COMM.test(comm))) };
}
