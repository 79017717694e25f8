import type { ColumnTable } from "arquero";
import { DictionaryColumn, makeTable, NullableColumn, tableOf, type Columns, type RowOf } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { spread } from "./quantile.js";
import { vcpuIdsOf, vcpuOfThreads, vcpuThreads } from "./vcpus.js";
import { columnReader, gapsOf, hostSide, isRunnable, kindsOf, numbersOf, pick, Threads, wordsOf } from "./walk.js";

export const vcpuStatesColumns = {
  start: { type: "number", unit: "ns", meaning: "When the state begins, on the trace's clock." },
  dur: { type: "number", unit: "ns", meaning: "How long it lasts, up to the thread's next row or the end of the recording; those of a thread add up to the length of the recording." },
  pid: { type: "number", unit: null, meaning: "Host thread id of the vCPU." },
  vcpu: { type: "number", unit: null, meaning: "vCPU id, as vcpuThreads finds it.", null: "no event of the trace tells it" },
  state: { type: "string", unit: null, meaning: "guest; KVM (the host's kernel handles an exit); user space (QEMU); halted (asleep because the guest waits for an interrupt); polling (KVM waits for one without sleeping); blocked (asleep, but not in a halt); stolen (woken, waits for a CPU); preempted (another took the CPU although it could have run on); unknown (before the thread's first event, or events were lost)." },
  by_comm: { type: "string", unit: null, meaning: "Name of the thread that took the CPU; swapper where it was moved to another CPU.", null: "state is not preempted" },
  by_pid: { type: "number", unit: null, meaning: "Thread id of that one.", null: "state is not preempted" },
} as const satisfies Columns;

export const backendStatesColumns = {
  start: { type: "number", unit: "ns", meaning: "When the state begins, on the trace's clock." },
  dur: { type: "number", unit: "ns", meaning: "How long it lasts; those of a thread add up to the length of the recording." },
  pid: { type: "number", unit: null, meaning: "Host thread id." },
  comm: { type: "string", unit: null, meaning: "Name of the thread.", null: "nothing names it" },
  role: { type: "string", unit: null, meaning: "vhost, main, iothread or worker, as vcpuThreads finds it." },
  state: { type: "string", unit: null, meaning: "running, runnable (woken or preempted, waits for a CPU), sleeping, or unknown (before the thread's first event, or events were lost)." },
  cpu: { type: "number", unit: null, meaning: "Host cpu on which it runs.", null: "state is not running" },
} as const satisfies Columns;

export interface VcpuStatesOptions {
  /** Threads and vCPU ids, from vcpuThreads; default: what the trace alone tells. */
  vcpus?: ColumnTable;
}

const EXIT = 1, ENTRY = 2, USERSPACE = 3, KERNEL = 4, WAKEUP = 5, POLL_NS = 6, SWITCH = 7, WAKING = 8, WOKEN = 9;
// KERNEL: what a vCPU's thread prints of its own once it is back in KVM_RUN: the end of a read that QEMU answered, and arm64's
// loading of the timers (its counterpart on the way out comes before kvm_userspace_exit). kvm_irq_line is QEMU's call, and is not.
const KINDS: Record<string, number> = {
  kvm_exit: EXIT, kvm_entry: ENTRY, kvm_userspace_exit: USERSPACE, kvm_mmio: KERNEL, kvm_get_timer_map: KERNEL, kvm_vcpu_wakeup: WAKEUP, kvm_halt_poll_ns: POLL_NS,
  sched_switch: SWITCH, sched_waking: WAKING, sched_wakeup: WOKEN,
};

const UNKNOWN = 0, GUEST = 1, KVM = 2, USER = 3, HALTED = 4, POLLING = 5, BLOCKED = 6, STOLEN = 7, PREEMPTED = 8;
const VCPU_STATES = ["unknown", "guest", "KVM", "user space", "halted", "polling", "blocked", "stolen", "preempted"];
const BACKEND_STATES = ["unknown", "running", "runnable", "sleeping"];
const RUNNING = 1, RUNNABLE = 2, SLEEPING = 3;
const HALTS = /^(WF[xXIE]|HLT)$/;

// Where a thread is, as far as is known.
const NOWHERE = 0, ON_CPU = 1, ASLEEP = 2, READY = 3, OUSTED = 4;

/** One thread's way through the recording. Row k lasts from start[k] to start[k + 1]. */
interface Line {
  tid: number; vcpu: boolean;
  start: number[]; state: number[];
  /** Of a row: the sched_switch that took the CPU away (preempted), or the cpu (running); else -1. */
  extra: number[];
  place: number; cpu: number;
  /** What the thread does when it is on a CPU: UNKNOWN, GUEST, KVM or USER. */
  phase: number;
  halting: boolean; wokenOnCpu: boolean;
  /** When the guest was last left. */
  left: number;
  /** How long KVM polls in the halt under way, and in the next one: kvm_halt_poll_ns comes before the kvm_vcpu_wakeup of the halt in which the old length still held. */
  window: number; nextWindow: number;
}

/** What the threads do from the first to the last event of the host. */
function linesOf(trace: Trace, vcpuTids: Iterable<number>, otherTids: Iterable<number>): { lines: Line[]; end: number } {
  const { raw } = trace;
  const { ts, cpu, pid, slot } = raw, codes = raw.event.codes;
  const kinds = kindsOf(trace, (event) => KINDS[event] ?? 0);
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  const prevPid = numbersOf(trace, "sched_switch", "prev_pid"), nextPid = numbersOf(trace, "sched_switch", "next_pid");
  const prevState = wordsOf(trace, "sched_switch", "prev_state");
  const runnable = prevState?.values.map(isRunnable) ?? [];
  const switches = prevPid !== null && nextPid !== null && prevState !== null;
  const wakePid = numbersOf(trace, "sched_waking", "target_pid"), awakened = numbersOf(trace, "sched_wakeup", "target_pid");
  const reason = wordsOf(trace, "kvm_exit", "reason"), isHalt = reason?.values.map((word) => HALTS.test(word)) ?? [];
  const userReason = wordsOf(trace, "kvm_userspace_exit", "reason"), isUserHalt = userReason?.values.map((word) => /HLT/.test(word)) ?? [];
  const waitKind = wordsOf(trace, "kvm_vcpu_wakeup", "wait_kind"), waitNs = numbersOf(trace, "kvm_vcpu_wakeup", "ns");
  const poll = waitKind?.values.indexOf("poll") ?? -1;
  const newWindow = numbersOf(trace, "kvm_halt_poll_ns", "new"), oldWindow = numbersOf(trace, "kvm_halt_poll_ns", "old");

  let first = 0;
  if (sideCodes !== null) while (first < raw.length && sideCodes[first] !== side) first++;
  // Time never goes back here: where the text's does, the later of the two counts.
  let now = raw.length > 0 ? ts[first] : 0;

  const watched = [...[...vcpuTids].map((tid) => ({ tid, vcpu: true })), ...[...otherTids].map((tid) => ({ tid, vcpu: false }))];
  const lines: Line[] = watched.map(({ tid, vcpu }) => ({
    tid, vcpu, start: [now], state: [UNKNOWN], extra: [-1], place: NOWHERE, cpu: -1, phase: UNKNOWN, halting: false, wokenOnCpu: false, left: now, window: NaN, nextWindow: NaN,
  }));
  const threads = new Threads([lines.map(({ tid }) => tid)]);
  const lineOf = (tid: number): Line | undefined => lines[threads.of(tid)];

  const mark = (line: Line, at: number, state: number, extra = -1): void => {
    const { start, state: states, extra: extras } = line;
    let last = start.length - 1;
    if (states[last] === state && extras[last] === extra) return;
    if (start[last] >= at) {
      // What lasted no time is no row.
      if (last > 0 && states[last - 1] === state && extras[last - 1] === extra) {
        start.pop();
        states.pop();
        extras.pop();
        return;
      }
    } else start[++last] = at;
    states[last] = state;
    extras[last] = extra;
  };
  const stateOf = (line: Line): number => {
    if (!line.vcpu) return [UNKNOWN, RUNNING, SLEEPING, RUNNABLE, RUNNABLE][line.place];
    switch (line.place) {
      case ON_CPU: return line.phase;
      case ASLEEP: return line.halting ? HALTED : line.phase === UNKNOWN ? UNKNOWN : BLOCKED;
      case READY: return STOLEN;
      case OUSTED: return PREEMPTED;
      default: return UNKNOWN;
    }
  };
  const note = (line: Line, by = -1): void => mark(line, now, stateOf(line), line.place === OUSTED && line.vcpu ? by : line.place === ON_CPU && !line.vcpu ? line.cpu : -1);
  /** Events of the thread may be missing from here on. */
  const cut = (line: Line, at: number): void => {
    line.place = NOWHERE;
    line.phase = UNKNOWN;
    line.halting = line.wokenOnCpu = false;
    line.window = line.nextWindow = NaN;
    mark(line, Math.max(at, line.start[line.start.length - 1]), UNKNOWN);
  };
  /** The thread runs, though nothing said that it got a CPU again: since it left one, events are missing, as at the beginning of an overwritten buffer. */
  const missed = (line: Line): void => {
    const last = line.start.length - 1, joins = last > 0 && line.state[last - 1] === UNKNOWN;
    if (joins) line.start.length = line.state.length = line.extra.length = last;
    else [line.state[last], line.extra[last]] = [UNKNOWN, -1];
  };
  /** KVM has just said how long a halt took: gives the part before the sleep, in which it polled, its own state. */
  const halted = (line: Line, ns: number, polled: boolean): void => {
    const from = Math.max(now - ns, line.left);
    let k = line.start.length - 1;
    while (k > 0 && line.start[k] > from) k--;
    const rest = line.start.splice(k).map((start, i) => ({ start, state: line.state[k + i], extra: line.extra[k + i] }));
    line.state.length = line.extra.length = k;
    let slept = false;
    for (const { start, state, extra } of rest) {
      slept ||= state === HALTED;
      // Without sched_switch a sleep is known from this event alone.
      const becomes = state !== KVM || slept ? state : polled ? POLLING : switches ? KVM : HALTED;
      const push = (at: number, what: number): void => {
        line.start.push(at);
        line.state.push(what);
        line.extra.push(extra);
      };
      if (start < from) push(start, state);
      if (start >= from || becomes !== state) push(Math.max(start, from), becomes);
    }
  };

  const gaps = gapsOf(trace, side), openGaps: number[] = [];
  let nextGap = 0;
  for (let i = first; i < raw.length; i++) {
    if (sideCodes !== null && sideCodes[i] !== side) continue;
    while (nextGap < gaps.length && gaps[nextGap].opens <= i) {
      const gap = gaps[nextGap++];
      // The last event kept before the gap is at most the one before this; now is still its time.
      for (const line of lines) if (!switches || line.place !== ON_CPU || line.cpu === gap.cpu || line.cpu < 0) cut(line, gap.opens > first ? Math.min(now, ts[gap.opens - 1]) : now);
      if (gap.closes > i) openGaps.push(gap.closes);
    }
    for (let g = openGaps.length - 1; g >= 0; g--) if (openGaps[g] <= i) openGaps.splice(g, 1);
    if (ts[i] > now) now = ts[i];
    const kind = kinds[codes[i]], s = slot[i];

    // Whoever prints an event is on a CPU, or is just leaving it: a vCPU's thread saves the guest's timers (kvm_get_timer_map) after its sched_switch.
    const line = lineOf(pid[i]);
    const evident = kind === EXIT || kind === ENTRY || kind === USERSPACE || kind === WAKEUP;
    if (line !== undefined && (evident || line.place === ON_CPU || (!line.vcpu && line.place === NOWHERE))) {
      if (line.place !== ON_CPU) line.wokenOnCpu = false;
      if (switches && line.place > ON_CPU) missed(line);
      line.place = ON_CPU;
      line.cpu = cpu[i];
      if (line.vcpu) {
        if (kind === EXIT) {
          line.wokenOnCpu = false; // whoever leaves a guest is awake; the sched_wakeup that says so may be lost
          line.phase = KVM;
          line.halting = reason !== null && reason.codes[s] >= 0 && isHalt[reason.codes[s]];
          line.left = now;
        } else if (kind === ENTRY) {
          line.phase = GUEST;
          line.halting = false;
        } else if (kind === USERSPACE) {
          line.phase = USER;
          line.halting = userReason !== null && userReason.codes[s] >= 0 && isUserHalt[userReason.codes[s]];
        } else if (kind === POLL_NS) {
          line.phase = KVM;
          line.window = oldWindow?.[s] ?? NaN;
          line.nextWindow = newWindow?.[s] ?? NaN;
        } else if (kind === KERNEL && line.phase !== GUEST) line.phase = KVM;
        else if (kind === WAKEUP) {
          line.phase = KVM;
          note(line);
          const ns = waitNs?.[s] ?? NaN, polled = waitKind?.codes[s] === poll || line.window > 0;
          if (ns > 0 && line.left < now && (polled || !switches)) halted(line, ns, polled);
          line.halting = false;
          line.window = line.nextWindow;
        }
      }
      note(line);
    }

    if (kind === SWITCH && switches) {
      const out = lineOf(prevPid[s]), into = lineOf(nextPid[s]);
      if (out !== undefined) {
        // Woken on its way to sleep: it leaves its CPU nevertheless, and then waits to run.
        out.place = runnable[prevState.codes[s]] ? OUSTED : out.wokenOnCpu ? READY : ASLEEP;
        out.wokenOnCpu = false;
        out.cpu = cpu[i];
        // A guest is left by an exit, which was not recorded.
        if (out.phase === GUEST) out.phase = UNKNOWN;
        if (openGaps.length > 0) cut(out, now);
        else note(out, s);
      }
      if (into !== undefined) {
        into.place = ON_CPU;
        into.cpu = cpu[i];
        note(into);
      }
    } else if (kind === WAKING || (kind === WOKEN && wakePid === null)) {
      const target = lineOf((kind === WAKING ? wakePid : awakened)?.[s] ?? NaN);
      if (target?.place === ASLEEP) {
        target.place = READY;
        note(target);
      } else if (kind === WAKING && target?.place === ON_CPU && awakened !== null) target.wokenOnCpu = true;
    } else if (kind === WOKEN) {
      const target = lineOf(awakened?.[s] ?? NaN);
      if (target?.place === ON_CPU) target.wokenOnCpu = false; // it took effect before the thread left its CPU
    }
  }
  return { lines, end: now };
}

/** Lines end to end as columns; rows of no length are left out. */
function spansOf(lines: Line[], end: number): { start: Float64Array; dur: Float64Array; tid: Int32Array; state: Int32Array; extra: Int32Array } {
  const start: number[] = [], dur: number[] = [], tid: number[] = [], state: number[] = [], extra: number[] = [];
  for (const line of lines) {
    for (let k = 0; k < line.start.length; k++) {
      const length = (k + 1 < line.start.length ? line.start[k + 1] : end) - line.start[k];
      if (length <= 0) continue;
      start.push(line.start[k]);
      dur.push(length);
      tid.push(line.tid);
      state.push(line.state[k]);
      extra.push(line.extra[k]);
    }
  }
  return { start: Float64Array.from(start), dur: Float64Array.from(dur), tid: Int32Array.from(tid), state: Int32Array.from(state), extra: Int32Array.from(extra) };
}

/**
 * What each vCPU's thread does from the first to the last event of the recording, without gaps: one row per stretch of one state.
 * The durations of a thread add up to the length of the recording, exactly. What is not known is a state too: a thread is "unknown" until its
 * first event, from the last event kept of a CPU that lost some until the thread's next, unless it is seen to run on another CPU, and where
 * it runs though nothing said that it got a CPU again.
 *
 * user space lasts from kvm_userspace_exit to the next event of KVM_RUN, so that the way back into the kernel counts with it where no
 * kvm_mmio or kvm_get_timer_map tells of it. polling is the part of a halt before the sleep, as kvm_vcpu_wakeup measures it, where KVM says that it
 * polls (kvm_vcpu_wakeup of kind poll, or kvm_halt_poll_ns above 0).
 * Needs kvm_exit and kvm_entry; without sched_switch nothing is blocked, stolen or preempted, and halts are those of kvm_vcpu_wakeup.
 * @throws MissingEventError when kvm_exit or kvm_entry is not in the trace.
 */
export function vcpuStates(trace: Trace, options: VcpuStatesOptions = {}): ColumnTable {
  needEvents(trace, "vcpuStates", ["kvm_exit", "kvm_entry"]);
  const ids = options.vcpus ? vcpuIdsOf(options.vcpus) : vcpuOfThreads(trace);
  const { lines, end } = linesOf(trace, runningGuests(trace), []);
  lines.sort((a, b) => (ids.get(a.tid) ?? Infinity) - (ids.get(b.tid) ?? Infinity) || a.tid - b.tid);
  const { start, dur, tid, state, extra } = spansOf(lines, end);
  const by = trace.raw.fields("sched_switch");
  return makeTable(vcpuStatesColumns, {
    start, dur, pid: tid, vcpu: new NullableColumn(Float64Array.from(tid, (t) => ids.get(t) ?? NaN)), state: new DictionaryColumn(state, VCPU_STATES),
    by_comm: pick(by?.next_comm, extra), by_pid: pick(by?.next_pid, extra),
  });
}

/** Threads that enter or leave a guest. */
function runningGuests(trace: Trace): Set<number> {
  const { raw } = trace;
  const kinds = kindsOf(trace, (event) => (event === "kvm_exit" || event === "kvm_entry" ? 1 : 0));
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null, tids = new Set<number>();
  for (let i = 0; i < raw.length; i++) if (kinds[raw.event.codes[i]] === 1 && (sideCodes === null || sideCodes[i] === side)) tids.add(raw.pid[i]);
  return tids;
}

/**
 * The same for the threads that work for a guest (vhost's worker, QEMU's main loop, I/O threads and workers): running and on which CPU, waiting for one, or asleep.
 * Which threads these are, vcpuThreads tells; of the trace alone it knows those named vhost-PID and those that inject interrupts.
 * @throws MissingEventError when sched_switch is not in the trace.
 */
export function backendStates(trace: Trace, options: VcpuStatesOptions = {}): ColumnTable {
  needEvents(trace, "backendStates", ["sched_switch"]);
  const roles = new Map<number, { role: string; comm: string | null }>();
  for (const { tid, role, comm } of (options.vcpus ?? vcpuThreads(trace)).objects() as { tid: number | null; role: string; comm: string | null }[]) {
    if (tid !== null && ["vhost", "main", "iothread", "worker"].includes(role)) roles.set(tid, { role, comm });
  }
  const { lines, end } = linesOf(trace, [], roles.keys());
  const { start, dur, tid, state, extra } = spansOf(lines, end);
  const words = (of: (tid: number) => string | null): DictionaryColumn => {
    const values = [...new Set([...roles.keys()].map(of))].filter((word): word is string => word !== null);
    return new DictionaryColumn(Int32Array.from(tid, (t) => values.indexOf(of(t) ?? "")), values);
  };
  return makeTable(backendStatesColumns, {
    start, dur, pid: tid, comm: words((t) => roles.get(t)!.comm), role: words((t) => roles.get(t)!.role), state: new DictionaryColumn(state, BACKEND_STATES),
    cpu: new NullableColumn(Float64Array.from(extra, (c) => (c < 0 ? NaN : c))),
  });
}

export const stateSummaryColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the states have no run column" },
  vcpu: { type: "number", unit: null, meaning: "vCPU id.", null: "not known, or no vCPU's thread" },
  pid: { type: "number", unit: null, meaning: "Host thread id." },
  state: { type: "string", unit: null, meaning: "See vcpuStates, for back ends backendStates." },
  total: { type: "number", unit: "ns", meaning: "How long the thread was in the state." },
  share: { type: "number", unit: "%", meaning: "Share of that in the length of the recording." },
  count: { type: "number", unit: "count", meaning: "Stretches of the state." },
  p50: { type: "number", unit: "ns", meaning: "Median length of them." },
  p99: { type: "number", unit: "ns", meaning: "99th percentile of them." },
} as const satisfies Columns;

/**
 * How long each thread was in each state, per run where there is a `run` column; the longest first. Percentiles as in exitSummary.
 * @param states a table from vcpuStates or backendStates, filtered or stacked as you like.
 */
export function vcpuStateSummary(states: ColumnTable): ColumnTable {
  interface Group { run: string | null; vcpu: number | null; pid: number; spans: Map<string, number[]> }
  const groups = new Map<string, Group>();
  const [run, vcpu, pid, state, dur] = ["run", "vcpu", "pid", "state", "dur"].map(columnReader(states));
  states.scan((row) => {
    const r = run(row!) as string | null, tid = pid(row!) as number, key = `${tid} ${r ?? ""}`;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { run: r, vcpu: vcpu(row!) as number | null, pid: tid, spans: new Map() }));
    const name = state(row!) as string, list = group.spans.get(name);
    if (list) list.push(dur(row!) as number);
    else group.spans.set(name, [dur(row!) as number]);
  });
  return tableOf(stateSummaryColumns, [...groups.values()].flatMap(({ spans, ...thread }) => {
    const rows = [...spans].map(([name, list]) => ({ name, ...spread(list) })).sort((a, b) => b.total - a.total);
    const whole = rows.reduce((sum, { total }) => sum + total, 0);
    return rows.map(({ name, n, total, p50, p99 }) => ({ ...thread, state: name, total, share: (100 * total) / whole, count: n, p50: p50!, p99: p99! }));
  }));
}

export const preemptionsColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the states have no run column" },
  vcpu: { type: "number", unit: null, meaning: "vCPU that was preempted.", null: "not known" },
  pid: { type: "number", unit: null, meaning: "Its host thread id." },
  by_comm: { type: "string", unit: null, meaning: "Name of the thread that took its CPU; swapper where the vCPU was moved to another." },
  by_pid: { type: "number", unit: null, meaning: "Thread id of that one." },
  count: { type: "number", unit: "count", meaning: "How often." },
  total: { type: "number", unit: "ns", meaning: "From then until the vCPU's thread ran again, whoever ran in between." },
} as const satisfies Columns;

/**
 * Who took the CPU from a vCPU that could have run on, how often and for how long; the longest first.
 * @param states a table from vcpuStates, filtered or stacked as you like.
 */
export function preemptions(states: ColumnTable): ColumnTable {
  const rows = new Map<string, RowOf<typeof preemptionsColumns>>();
  const [run, vcpu, pid, state, dur, comm, by] = ["run", "vcpu", "pid", "state", "dur", "by_comm", "by_pid"].map(columnReader(states));
  states.scan((index) => {
    if (state(index!) !== "preempted") return;
    const row = {
      run: run(index!) as string | null, vcpu: vcpu(index!) as number | null, pid: pid(index!) as number,
      by_comm: comm(index!) as string, by_pid: by(index!) as number, count: 0, total: 0,
    };
    const key = JSON.stringify([row.run, row.pid, row.by_comm, row.by_pid]), found = rows.get(key) ?? row;
    found.count++;
    found.total += dur(index!) as number;
    rows.set(key, found);
  });
  return tableOf(preemptionsColumns, [...rows.values()].sort((a, b) => b.total - a.total));
}
