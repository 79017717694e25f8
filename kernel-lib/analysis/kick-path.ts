import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import type { Trace } from "../trace.js";
import { boundsOf, STAGES, timesReader } from "./kick-stages.js";
import { backendStates, vcpuStates, type VcpuStatesOptions } from "./vcpu-states.js";
import { columnReader, hostSide, numbersOf } from "./walk.js";

export const kickPathsColumns = {
  kick: { type: "number", unit: null, meaning: "Index of the kick, as in virtioKicks." },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  start: { type: "number", unit: "ns", meaning: "When the piece begins, counted from the kick." },
  dur: { type: "number", unit: "ns", meaning: "How long it lasts; the pieces of a kick add up to its way, from exit to end (or ack, by option)." },
  stage: { type: "string", unit: null, meaning: "Stage of the kick, as in kickStages." },
  pid: { type: "number", unit: null, meaning: "Thread id of the one that the kick waits for: the one that the last wake-up on its way made run." },
  wait: { type: "string", unit: null, meaning: "What that thread does meanwhile, after who it is (vCPU, back end, or QEMU where that one raises the interrupt of another back end)." },
  by_comm: { type: "string", unit: null, meaning: "Name of who made it wait: the thread that had the CPU until this one got it, or that woke it from its sleep.", null: "the thread runs, the CPU was idle, or nothing tells it" },
  by_pid: { type: "number", unit: null, meaning: "Thread id of that one.", null: "as by_comm" },
} as const satisfies Columns;

// Doing of threads, in words. A thread that can run and does not waits for a CPU: an idle one, which must wake up, or a busy one, which another thread has.
const WAITS = "waits for a CPU", IDLE_CPU = "waits for an idle CPU", TAKEN = "waits for a busy CPU", ASLEEP = "asleep", WORKS = "works", EARLIER = "busy with earlier work", FURTHER = "sends further packets";
const VCPU_DOES: Record<string, string> = { guest: "in the guest", KVM: "in KVM", "user space": "in user space", halted: ASLEEP, polling: "polls", blocked: "blocked in QEMU" };

/** One thread's states: row k lasts from start[k] to start[k + 1]. */
interface Line { start: number[]; state: string[] }

interface Kick { kick: number; ts: number; pid: number; backend: string | null; backend_tid: number | null; wake: number | null; irq_wake: number | null; irq: number | null; irq_tid: number | null; vcpu_wake: number | null; isr_tid: number | null; awake: boolean; tun_first: number | null; tun_last: number | null }

export interface KickPathsOptions extends VcpuStatesOptions {
  /** Where the paths end; default "end", where the guest learns of the interrupt: as the column end of virtioKicks; one of "end", "ack" (until it has acknowledged, with the read of InterruptStatus, for which the vCPU may have to wait in QEMU). */
  until?: "end" | "ack";
}

/**
 * The critical path of each kick over wake-ups, one row per piece: which thread the kick waits for, from the exit that it caused until the guest learns that it was served, and what that
 * thread does meanwhile. From the exit to the wake it is the vCPU that kicked; then the back end; where that one wakes another to raise the interrupt, the other; from the wake of
 * the vCPU that takes the interrupt on, or where it was awake from the interrupt on, that vCPU. Kicks of which exit or end is not known have no rows.
 * @param trace the trace that the kicks are of.
 * @param kicks a table from virtioKicks, filtered as you like.
 */
export function kickPaths(trace: Trace, kicks: ColumnTable, options: KickPathsOptions = {}): ColumnTable {
  const { until: where = "end" } = options;
  if (where !== "end" && where !== "ack") throw new OptionError(`until is ${JSON.stringify(where)}; it is one of "end", "ack"`);
  const lines = new Map<number, Line>();
  for (const states of [vcpuStates(trace, options), backendStates(trace, options)]) addLines(lines, states);
  const { before, waker } = causesOf(trace, lines);
  const read = columnReader(kicks), times = timesReader(kicks);
  const own = (["kick", "ts", "pid", "backend", "backend_tid", "wake", "irq_wake", "irq", "irq_tid", "vcpu_wake", "isr_tid", "awake", "tun_first", "tun_last"] as const).map((name) => [name, read(name)] as const);
  const rows: RowOf<typeof kickPathsColumns>[] = [];
  kicks.scan((row) => {
    const way = times(row!);
    if (way.exit === null || way.end === null || way[where] === null) return;
    const kick = Object.fromEntries(own.map(([name, at]) => [name, at(row!)])) as unknown as Kick;
    const bounds = [...boundsOf(way), where === "ack" ? way.ack! : Infinity], legs = legsOf(kick, way.exit, way[where]);
    let stage = 0;
    for (const { who, pid, from, to } of legs) {
      for (const { start, end, state } of stretches(lines.get(pid), kick.ts + from, kick.ts + to)) {
        const runnable = state === "runnable" || state === "stolen" || state === "preempted", asleep = state === "sleeping" || state === "halted" || state === "blocked";
        const by = runnable ? before(pid, end) : asleep ? waker(pid, end) : null;
        let at = start - kick.ts;
        while (at < end - kick.ts) {
          while (bounds[stage + 1] <= at) stage++;
          const sent = who === "back end" && kick.tun_last !== null && kick.tun_last > at ? kick.tun_last : Infinity, until = Math.min(end - kick.ts, bounds[stage + 1], sent);
          const does = runnable ? (by === null ? WAITS : by.pid === 0 ? IDLE_CPU : TAKEN)
            : state === "unknown" ? "not known"
            : who === "vCPU" ? VCPU_DOES[state] ?? state
            : state === "sleeping" ? ASLEEP
            : who === "back end" && kick.tun_first !== null && kick.awake && until <= kick.tun_first ? EARLIER
            : who === "back end" && kick.tun_first !== null && at >= kick.tun_first && until <= kick.tun_last! ? FURTHER : WORKS;
          rows.push({ kick: kick.kick, backend: kick.backend, start: at, dur: until - at, stage: STAGES[stage], pid, wait: `${who} ${does}`, by_comm: by === null || by.pid === 0 ? null : by.comm, by_pid: by === null || by.pid === 0 ? null : by.pid });
          at = until;
        }
      }
    }
  }, true);
  return tableOf(kickPathsColumns, rows);
}

/** Who carries a kick, from when to when (since the kick). */
function legsOf(kick: Kick, exit: number, end: number): { who: string; pid: number; from: number; to: number }[] {
  const legs: { who: string; pid: number; from: number; to: number }[] = [];
  let at = exit;
  const leg = (who: string, pid: number | null, to: number | null): void => {
    const until = Math.min(to ?? at, end);
    if (pid === null || until <= at) return;
    legs.push({ who, pid, from: at, to: until });
    at = until;
  };
  leg("vCPU", kick.pid, kick.wake ?? 0);
  leg("back end", kick.backend_tid, kick.irq_wake ?? kick.irq);
  const raiser = kick.irq_tid === kick.backend_tid ? "back end" : "QEMU";
  leg(raiser, kick.irq_tid, kick.irq);
  leg(raiser, kick.irq_tid, kick.vcpu_wake);
  leg("vCPU", kick.isr_tid ?? kick.pid, end);
  return legs;
}

function addLines(lines: Map<number, Line>, states: ColumnTable): void {
  const [pid, start, dur, state] = ["pid", "start", "dur", "state"].map(columnReader(states));
  let last = -1, line: Line = { start: [], state: [] }, end = 0;
  states.scan((row) => {
    const tid = pid(row!) as number;
    if (tid !== last) {
      if (last >= 0) line.start.push(end);
      lines.set(tid, (line = { start: [], state: [] }));
      last = tid;
    }
    line.start.push(start(row!) as number);
    line.state.push(state(row!) as string);
    end = (start(row!) as number) + (dur(row!) as number);
  });
  if (last >= 0) line.start.push(end);
}

/** What a thread does from one time to another, without gaps. */
function stretches(line: Line | undefined, from: number, to: number): { start: number; end: number; state: string }[] {
  if (!line) return [{ start: from, end: to, state: "unknown" }];
  const found: { start: number; end: number; state: string }[] = [];
  let low = 0, high = line.state.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (line.start[middle + 1] <= from) low = middle + 1;
    else high = middle;
  }
  let at = from;
  for (let k = low; k < line.state.length && at < to; k++) {
    const end = Math.min(to, line.start[k + 1]);
    found.push({ start: at, end, state: line.state[k] });
    at = end;
  }
  if (at < to) found.push({ start: at, end: to, state: "unknown" });
  return found;
}

type By = { pid: number; comm: string } | null;

/** For a thread and the time at which it got a CPU, who left it (pid 0: it was idle); for the time at which it was woken, who woke it. Null where no event says so. */
function causesOf(trace: Trace, lines: Map<number, Line>): { before(pid: number, at: number): By; waker(pid: number, at: number): By } {
  const { raw } = trace, { ts, slot, pid } = raw, codes = raw.event.codes;
  const SWITCH = raw.event.values.indexOf("sched_switch"), WAKING = raw.event.values.indexOf("sched_waking");
  const next = numbersOf(trace, "sched_switch", "next_pid"), prev = numbersOf(trace, "sched_switch", "prev_pid"), comm = raw.fields("sched_switch")?.prev_comm, wakee = numbersOf(trace, "sched_waking", "target_pid");
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  const switches = new Map<number, Map<number, number>>([...lines.keys()].map((tid) => [tid, new Map()])), wakings = new Map<number, Map<number, number>>([...lines.keys()].map((tid) => [tid, new Map()]));
  for (let i = 0; i < raw.length; i++) {
    if (sideCodes !== null && sideCodes[i] !== side) continue;
    if (codes[i] === SWITCH && next) switches.get(next[slot[i]])?.set(ts[i], i);
    else if (codes[i] === WAKING && wakee) wakings.get(wakee[slot[i]])?.set(ts[i], i);
  }
  return {
    before(tid, at) {
      const i = switches.get(tid)?.get(at);
      return i === undefined ? null : { pid: prev?.[slot[i]] ?? 0, comm: String(comm?.at(slot[i]) ?? "?") };
    },
    waker(tid, at) {
      const i = wakings.get(tid)?.get(at);
      return i === undefined ? null : { pid: pid[i], comm: raw.comm.at(i) ?? "?" };
    },
  };
}

export const criticalPathColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the paths have no run column" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  what: { type: "string", unit: null, meaning: "What the kicks waited for, or the stage that they were in." },
  total: { type: "number", unit: "ns", meaning: "How long they did, all kicks together; these add up to the ways of the kicks, exactly." },
  share: { type: "number", unit: "%", meaning: "Share of that in the ways of the kicks." },
  mean: { type: "number", unit: "ns", meaning: "The same per kick, over all kicks of the run and back end." },
  n: { type: "number", unit: "count", meaning: "Kicks in which it occurs." },
  longest: { type: "number", unit: "count", meaning: "Kicks in which it takes the most time." },
  kicks: { type: "number", unit: "count", meaning: "Kicks of the run and back end whose path is known." },
} as const satisfies Columns;

export interface CriticalPathOptions {
  /** What is added up: what the kicks waited for, or the stages in which they did; default "wait"; one of "wait", "stage". */
  by?: "wait" | "stage";
}

/**
 * What kicks waited for, added up per run (where there is a `run` column) and back end; the most first.
 * @param paths a table from kickPaths, filtered or stacked as you like.
 */
export function criticalPath(paths: ColumnTable, options: CriticalPathOptions = {}): ColumnTable {
  const { by = "wait" } = options;
  if (by !== "wait" && by !== "stage") throw new OptionError(`by is ${JSON.stringify(by)}; it is one of "wait", "stage"`);
  interface Group { run: string | null; backend: string | null; kicks: Map<number, Map<string, number>> }
  const groups = new Map<string, Group>();
  for (const { run, backend, kick, pieces } of kicksOf(paths, by)) {
    const key = JSON.stringify([run, backend]), group = groups.get(key) ?? groups.set(key, { run, backend, kicks: new Map() }).get(key)!;
    group.kicks.set(kick, pieces);
  }
  return tableOf(criticalPathColumns, [...groups.values()].flatMap(({ run, backend, kicks }) => {
    const sums = new Map<string, { total: number; n: number; longest: number }>();
    let way = 0;
    for (const pieces of kicks.values()) {
      for (const [what, dur] of pieces) {
        const sum = sums.get(what) ?? sums.set(what, { total: 0, n: 0, longest: 0 }).get(what)!;
        sum.total += dur;
        sum.n++;
        way += dur;
      }
      sums.get(most(pieces))!.longest++;
    }
    return [...sums].sort((a, b) => b[1].total - a[1].total).map(([what, { total, n, longest }]) => ({ run, backend, what, total, share: (100 * total) / way, mean: total / kicks.size, n, longest, kicks: kicks.size }));
  }));
}

export const kickWaitsColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the paths have no run column" },
  kick: { type: "number", unit: null, meaning: "Index of the kick, as in virtioKicks." },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  way: { type: "number", unit: "ns", meaning: "From its exit to its end." },
  stage: { type: "string", unit: null, meaning: "Its longest stage." },
  stage_dur: { type: "number", unit: "ns", meaning: "How long that stage took." },
  wait: { type: "string", unit: null, meaning: "What it waited for most in that stage." },
  wait_dur: { type: "number", unit: "ns", meaning: "How long it did." },
} as const satisfies Columns;

/**
 * Per kick, its longest stage and what it waited for there.
 * @param paths a table from kickPaths, filtered or stacked as you like.
 */
export function kickWaits(paths: ColumnTable): ColumnTable {
  const inStage = kicksOf(paths, "stage");
  const stageOf = new Map(inStage.map(({ run, kick, pieces }) => [JSON.stringify([run, kick]), most(pieces)]));
  const within = kicksOf(paths, "wait", (run, kick, stage) => stageOf.get(JSON.stringify([run, kick])) === stage);
  return tableOf(kickWaitsColumns, inStage.map(({ run, backend, kick, pieces }, i) => {
    const stage = most(pieces), waits = within[i].pieces, wait = most(waits);
    return { run, kick, backend, way: [...pieces.values()].reduce((a, b) => a + b, 0), stage, stage_dur: pieces.get(stage)!, wait, wait_dur: waits.get(wait)! };
  }));
}

/** The name that has the most time; the first of equals. */
const most = (pieces: Map<string, number>): string => [...pieces].reduce((best, piece) => (piece[1] > best[1] ? piece : best))[0];

/** Per kick, its time by one of the columns. */
function kicksOf(paths: ColumnTable, by: "wait" | "stage", takes: (run: string | null, kick: number, stage: string) => boolean = () => true): { run: string | null; backend: string | null; kick: number; pieces: Map<string, number> }[] {
  const [run, backend, kick, name, dur, stage] = ["run", "backend", "kick", by, "dur", "stage"].map(columnReader(paths));
  const found = new Map<string, { run: string | null; backend: string | null; kick: number; pieces: Map<string, number> }>();
  paths.scan((row) => {
    const own = { run: run(row!) as string | null, backend: backend(row!) as string | null, kick: kick(row!) as number };
    if (!takes(own.run, own.kick, stage(row!) as string)) return;
    const key = JSON.stringify([own.run, own.kick]), entry = found.get(key) ?? found.set(key, { ...own, pieces: new Map() }).get(key)!;
    const what = name(row!) as string;
    entry.pieces.set(what, (entry.pieces.get(what) ?? 0) + (dur(row!) as number));
  }, true);
  return [...found.values()];
}
