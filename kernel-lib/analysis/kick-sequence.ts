import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import type { Trace } from "../trace.js";
import { accessesOf, KICK, resolveMachine, STATUS, type VirtioPlaces } from "./boards.js";
import { EXIT, ENTRY, FAST, GSI, kickKinds, LINE, MMIO, MSI, PIO, SWITCH, TUN, WAKING } from "./kick-fields.js";
import { lengthOf, STAGES, timesReader } from "./kick-stages.js";
import { guestCpus, threadsOfCpus } from "./guest-devices.js";
import { guestFunctions } from "./guest-functions.js";
import { vcpuOfThreads } from "./vcpus.js";
import { columnReader, firstAt, hostSide, isRunnable, numbersOf, wordsOf } from "./walk.js";

export const kickSequenceColumns = {
  lane: { type: "string", unit: null, meaning: "Thread that the row is about, by what it does and its thread id." },
  start: { type: "number", unit: "ns", meaning: "When it begins, counted from the kick." },
  end: { type: "number", unit: "ns", meaning: "When it ends, counted from the kick.", null: "it is a point in time" },
  kind: { type: "string", unit: null, meaning: "run: the thread is on a host CPU; guest: it runs the guest; halt: it sleeps; function: what the guest's CPU does, by the guest's own events; event: a point; wake: it wakes another thread." },
  label: { type: "string", unit: null, meaning: "What happens." },
  to: { type: "string", unit: null, meaning: "Lane of the thread that is woken.", null: "it is no wake" },
} as const satisfies Columns;

/** What kickSequence reads of a row of virtioKicks: `kicks.object(0)`. */
export interface KickRow {
  kick: number; ts: number; pid: number; gpa: number; intid: number | null;
  backend: string | null; backend_tid: number | null; irq_tid: number | null; isr_tid: number | null;
  exit: number | null; wake: number | null; sched_in: number | null; tun_last: number | null; irq: number | null; halt: number | null; resume: number | null;
  entry: number | null; isr_read: number | null; ack: number | null; end: number | null;
}

export interface KickSequenceOptions extends VirtioPlaces {
  /** How much to show before the kick's exit, ns; default 0. */
  before?: number;
  /** How much to show after its last stage, ns; default 0. */
  after?: number;
  /** Which host thread is which CPU of the guest: a table with cpu and tid; default: guestCpus of the trace, where it has both sides. */
  cpus?: ColumnTable;
}

/**
 * One kick, thread by thread, from the exit that it caused to the acknowledge (or the last stage that it has): what a sequence chart draws.
 * Lanes are the vCPU that kicked, the back end, whoever raised the interrupt, and the vCPU that took it. Of a trace of host and guest
 * (joinTraces) the vCPUs' lanes also have what the guest did on that CPU meanwhile.
 * @param kick a row of virtioKicks over the same trace, such as `kicks.object(0)` or one from kickAt.
 * @param options board and pci, where virtioKicks was given them; how much to show around the kick.
 */
export function kickSequence(trace: Trace, kick: KickRow, options: KickSequenceOptions = {}): ColumnTable {
  const { raw } = trace;
  const { ts, pid, slot } = raw;
  const kinds = kickKinds(trace), machine = resolveMachine(trace, options), { mmio, fast, pio } = accessesOf(trace, machine);
  const side = hostSide(trace);
  const prevPid = numbersOf(trace, "sched_switch", "prev_pid"), nextPid = numbersOf(trace, "sched_switch", "next_pid");
  const prevState = wordsOf(trace, "sched_switch", "prev_state");
  const wakee = numbersOf(trace, "sched_waking", "target_pid");
  const type = wordsOf(trace, "kvm_mmio", "type"), vec = numbersOf(trace, "kvm_msi_set_irq", "vec"), gsi = numbersOf(trace, "kvm_set_irq", "gsi"), gsiLevel = numbersOf(trace, "kvm_set_irq", "level");
  const num = numbersOf(trace, "kvm_irq_line", "num"), level = numbersOf(trace, "kvm_irq_line", "level");
  const reason = wordsOf(trace, "kvm_exit", "reason");

  const begin = kick.ts + (kick.exit ?? 0) - (options.before ?? 0);
  const last = [kick.ack, kick.isr_read, kick.end, kick.entry, kick.resume, kick.irq, kick.tun_last, kick.sched_in, kick.wake, 0].find((t) => t !== null)!;
  const finish = kick.ts + last + (options.after ?? 0);

  const vcpus = vcpuOfThreads(trace);
  interface Lane { name: string; vcpu: boolean; mode: "run" | "guest" | "halt" | null; since: number; label: string; seen: boolean }
  const lanes = new Map<number, Lane>();
  const lane = (tid: number | null, role: string, vcpu: boolean): void => {
    if (tid === null || lanes.has(tid)) return;
    lanes.set(tid, { name: `${role} (${tid})`, vcpu, mode: null, since: begin, label: "", seen: false });
  };
  const guest = (tid: number): string => `guest vCPU${vcpus.has(tid) ? ` ${vcpus.get(tid)}` : ""}`;
  lane(kick.pid, guest(kick.pid), true);
  lane(kick.backend_tid, kick.backend === "vhost" ? "vhost worker" : "QEMU I/O thread", false);
  lane(kick.irq_tid, "QEMU I/O thread", false);
  if (kick.isr_tid !== null) lane(kick.isr_tid, guest(kick.isr_tid), true);

  const rows: RowOf<typeof kickSequenceColumns>[] = [];
  const close = (of: Lane, now: number): void => {
    if (of.mode !== null && now > of.since) rows.push({ lane: of.name, start: of.since - kick.ts, end: now - kick.ts, kind: of.mode, label: of.label, to: null });
  };
  const turn = (of: Lane, mode: Lane["mode"], label: string, now: number, before: Lane["mode"], beforeLabel: string): void => {
    if (!of.seen) [of.mode, of.label] = [before, beforeLabel];
    of.seen = true;
    close(of, now);
    [of.mode, of.label, of.since] = [mode, label, now];
  };
  const point = (of: Lane, now: number, label: string): void => { rows.push({ lane: of.name, start: now - kick.ts, end: null, kind: "event", label, to: null }); };
  const inHost = (of: Lane): string => (of.vcpu ? "KVM" : "runs");

  const openRead = new Set<number>();
  for (let i = firstAt(ts, raw.length, begin); i < raw.length && ts[i] <= finish; i++) {
    const kind = kinds[raw.event.codes[i]];
    if (kind === 0 || (raw.side && raw.side.codes[i] !== side)) continue;
    const now = ts[i], s = slot[i], own = lanes.get(pid[i]);
    if (kind === SWITCH) {
      const out = lanes.get(prevPid?.[s] ?? -1), into = lanes.get(nextPid?.[s] ?? -1);
      if (out) {
        const asleep = !isRunnable(prevState?.at(s) ?? "S");
        turn(out, asleep && out.vcpu ? "halt" : null, "asleep", now, "run", inHost(out));
      }
      if (into) turn(into, "run", inHost(into), now, into.vcpu && kick.halt !== null && kick.ts + kick.halt <= begin ? "halt" : null, "asleep");
      continue;
    }
    if (!own) continue;
    if (kind === EXIT) {
      turn(own, "run", `exit: ${reason?.at(s) ?? "?"}`, now, "guest", "guest");
    } else if (kind === ENTRY) {
      turn(own, "guest", "guest", now, "run", "KVM");
    } else {
      if (!own.seen) turn(own, "run", inHost(own), now, "run", inHost(own));
      if (kind === WAKING) {
        const target = lanes.get(wakee?.[s] ?? -1);
        if (target) rows.push({ lane: own.name, start: now - kick.ts, end: null, kind: "wake", label: "sched_waking", to: target.name });
      } else if (kind === TUN) {
        point(own, now, "tun_get_user");
      } else if (kind === LINE) {
        if (num?.[s] === kick.intid) point(own, now, `interrupt ${kick.intid}, level ${level?.[s]}`);
      } else if (kind === MSI) {
        point(own, now, `interrupt ${vec?.[s]} (message)`);
      } else if (kind === GSI) {
        if (gsi?.[s] === kick.intid) point(own, now, `interrupt ${kick.intid}, level ${gsiLevel?.[s]}`);
      } else {
        const access = kind === MMIO ? mmio : kind === FAST ? fast : kind === PIO ? pio : null;
        if (!access || access.what[s] === 0 || machine.gpa(access.device[s]) !== kick.gpa) continue;
        if (access.what[s] === KICK) point(own, now, kind === MMIO ? "kick: QueueNotify" : kind === FAST ? "kick: kvm_fast_mmio" : "kick: kvm_pio");
        else if (access.what[s] !== STATUS) point(own, now, "InterruptACK");
        else {
          // "unsatisfied-read" and, back from QEMU, "read" are one access.
          const leaves = kind === MMIO && type?.at(s) === "unsatisfied-read";
          if (leaves) openRead.add(pid[i]);
          if (leaves || !openRead.delete(pid[i])) point(own, now, "InterruptStatus read");
        }
      }
    }
  }
  for (const of of lanes.values()) close(of, finish);
  if (raw.side) {
    const { cpuOf } = threadsOfCpus(options.cpus ?? guestCpus(trace));
    for (const [tid, of] of lanes) {
      if (!of.vcpu || !cpuOf.has(tid)) continue;
      for (const { start, end, label } of guestFunctions(trace, cpuOf.get(tid)!, begin, finish)) {
        rows.push({ lane: of.name, start: start - kick.ts, end: end === null ? null : end - kick.ts, kind: end === null ? "event" : "function", label, to: null });
      }
    }
  }
  const order = [...lanes.values()].map((of) => of.name);
  rows.sort((a, b) => order.indexOf(a.lane) - order.indexOf(b.lane) || a.start - b.start);
  return tableOf(kickSequenceColumns, rows);
}

export interface KickAtOptions {
  /** Which time is compared; default "way", from kvm_exit to the end; one of "way" and the stages of kickStages. */
  stage?: string;
  /** Which kick of those ordered by that time: 0 the shortest, 0.5 the median, 0.99, 1 the longest; default 0.5. */
  quantile?: number;
}

/**
 * The kick at a percentile, for kickSequence: of the n kicks that have the time, ordered by it, the one at position quantile · (n − 1), rounded, so that it is a kick that was. Of equal ones the earlier.
 * @param kicks a table from virtioKicks over one trace, filtered as you like.
 * @throws OptionError for a stage that there is not, a quantile outside 0 to 1, kicks of several runs, or where no kick has the time.
 */
export function kickAt(kicks: ColumnTable, options: KickAtOptions = {}): KickRow {
  const { stage = "way", quantile = 0.5 } = options, index = STAGES.indexOf(stage);
  if (index < 0 && stage !== "way") throw new OptionError(`there is no stage ${JSON.stringify(stage)}; stage is one of way, ${STAGES.join(", ")}`);
  if (!(quantile >= 0 && quantile <= 1)) throw new OptionError(`quantile is ${String(quantile)}; it is a number from 0 to 1`);
  const times = timesReader(kicks), run = columnReader(kicks)("run"), runs = new Set<unknown>(), found: { row: number; length: number }[] = [];
  let position = 0;
  kicks.scan((row) => {
    const time = times(row!), length = index >= 0 ? lengthOf(time, index) : time.exit === null || time.end === null ? null : time.end - time.exit;
    runs.add(run(row!));
    if (length !== null) found.push({ row: position, length });
    position++;
  }, true);
  if (runs.size > 1) throw new OptionError(`these are kicks of the runs ${[...runs].join(", ")}; a sequence is of one trace, so filter them by run`);
  if (found.length === 0) throw new OptionError(`no kick of these has the time ${JSON.stringify(stage)}`);
  found.sort((a, b) => a.length - b.length || a.row - b.row);
  return kicks.object(found[Math.round(quantile * (found.length - 1))].row) as unknown as KickRow;
}
