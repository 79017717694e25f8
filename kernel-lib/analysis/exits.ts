import type { ColumnTable } from "arquero";
import { BooleanColumn, DictionaryColumn, makeTable, NullableColumn, tableOf, type Columns } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { vcpuIdsOf, vcpuOfThreads } from "./vcpus.js";
import { columnReader, gapsOf, hostSide, isRunnable, kindsOf, numbersOf, pick, Threads, wordsOf } from "./walk.js";
import { spread } from "./quantile.js";

export const kvmExitsColumns = {
  ts: { type: "number", unit: "ns", meaning: "When the vCPU left the guest (kvm_exit)." },
  cpu: { type: "number", unit: null, meaning: "Host cpu on which it happened." },
  pid: { type: "number", unit: null, meaning: "Host thread id of the vCPU." },
  vcpu: { type: "number", unit: null, meaning: "vCPU id, as vcpuThreads finds it.", null: "no event of the trace tells it" },
  reason: { type: "string", unit: null, meaning: "Why it left: on arm64 IRQ, SERROR, … or, for a trap, the name of its exception class (WFx, DABT_LOW, …); on x86 the exit reason (HLT, EPT_VIOLATION, …)." },
  ret: { type: "number", unit: null, meaning: "arm64: code of what took the vCPU out: 0 IRQ, 1 SERROR, 2 TRAP, 3 ILLEGAL.", null: "x86" },
  esr_ec: { type: "number", unit: null, base: 16, meaning: "arm64: exception class code (EC), which says something where ret is 2 alone.", null: "x86" },
  pc: { type: "hex", unit: null, meaning: "Guest program counter at the exit.", null: "not printed" },
  handling: { type: "number", unit: "ns", meaning: "From this exit to the thread's next kvm_entry: what the host needed, a halted vCPU's sleep included.", null: "the trace ends or events were lost before the entry; why says which" },
  guest: { type: "number", unit: "ns", meaning: "From the thread's previous kvm_entry to this exit: how long the guest ran.", null: "the trace begins or events were lost after the entry; why says which" },
  why: { type: "string", unit: null, meaning: "Why handling or guest is null.", null: "both spans are whole" },
  slept: { type: "boolean", unit: null, meaning: "Whether the thread slept before it entered the guest again (switched out, and not runnable)." },
  sleep: { type: "number", unit: "ns", meaning: "Part of handling in which the thread slept: from its switch-out to its waking, or to its switch-in where no sched_waking was recorded.", null: "handling is null or the trace holds no sched_switch" },
  stolen: { type: "number", unit: "ns", meaning: "Part of handling in which the thread was ready to run but another ran in its place (preempted, or woken and waiting).", null: "handling is null or the trace holds no sched_switch" },
  mmio: { type: "string", unit: null, meaning: "First device access handled in this exit: read, write, or unsatisfied-read where no value came back before the next entry.", null: "no kvm_mmio" },
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of that access.", null: "no kvm_mmio" },
  len: { type: "number", unit: "bytes", meaning: "Size of that access.", null: "no kvm_mmio" },
  val: { type: "hex", unit: null, meaning: "Value written, or read in the end.", null: "no kvm_mmio" },
  wakes: { type: "number", unit: "count", meaning: "sched_waking events on this thread before its next entry; those of an interrupt that came in between count too." },
  woken: { type: "string", unit: null, meaning: "Name of the first thread woken.", null: "none was" },
  woken_tid: { type: "number", unit: null, meaning: "Thread id of the first thread woken.", null: "none was" },
  userspace: { type: "string", unit: null, meaning: "Reason for which KVM went back to QEMU (kvm_userspace_exit).", null: "it did not" },
  wait: { type: "number", unit: "ns", meaning: "How long the vCPU was halted, as KVM measures it (kvm_vcpu_wakeup).", null: "it was not halted" },
  wait_kind: { type: "string", unit: null, meaning: "\"wait\" where the halt slept, \"poll\" where polling for it was enough.", null: "it was not halted" },
} as const satisfies Columns;

export interface KvmExitsOptions {
  /** vCPU ids by thread, from vcpuThreads; default: what the trace alone tells. */
  vcpus?: ColumnTable;
}

const EXIT = 1, ENTRY = 2, MMIO = 3, SWITCH = 4, WAKING = 5, USERSPACE = 6, WAKEUP = 7, WOKEN = 8;
const KINDS: Record<string, number> = {
  kvm_exit: EXIT, kvm_entry: ENTRY, kvm_mmio: MMIO, sched_switch: SWITCH, sched_waking: WAKING, kvm_userspace_exit: USERSPACE, kvm_vcpu_wakeup: WAKEUP, sched_wakeup: WOKEN,
};

// Why a span is null.
const OK = 0, EDGE = 1, LOST = 2, UNPAIRED = 3;
const WHY_GUEST = ["", "guest: the trace begins", "guest: lost events", "guest: no kvm_entry before"];
const WHY_HANDLING = ["", "handling: the trace ends", "handling: lost events", "handling: no kvm_entry after"];
const WHYS = WHY_GUEST.flatMap((g) => WHY_HANDLING.map((h) => [g, h].filter((w) => w !== "").join("; ")));

// What a thread is doing as far as the scheduler's events say.
const ON_CPU = 0, ASLEEP = 1, READY = 2;

/**
 * One row per kvm_exit: why, how long the host handled it (`handling`, exit → next entry of the same thread), how long
 * the guest had run before (`guest`, previous entry → exit), and what happened in between. The two spans are not the
 * same thing: a halt's handling is mostly sleep, and `perf kvm stat` on arm64 reports what is here called guest.
 *
 * Pairs by host thread, since arm64's kvm_entry names no vCPU. No span crosses lost events: while a CPU's events are
 * missing, the spans of threads that were on that CPU or on none (they may have run there unseen) are null.
 * Needs kvm_exit and kvm_entry; kvm_mmio, kvm_userspace_exit, kvm_vcpu_wakeup, sched_switch and sched_waking fill the other columns.
 * @throws MissingEventError when kvm_exit or kvm_entry is not in the trace.
 */
export function kvmExits(trace: Trace, options: KvmExitsOptions = {}): ColumnTable {
  needEvents(trace, "kvmExits", ["kvm_exit", "kvm_entry"]);
  const { raw } = trace;
  const { ts, cpu, pid, slot } = raw;
  const eventCodes = raw.event.codes;
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;

  const prevPid = numbersOf(trace, "sched_switch", "prev_pid"), nextPid = numbersOf(trace, "sched_switch", "next_pid");
  const prevState = wordsOf(trace, "sched_switch", "prev_state");
  const stateRunnable = prevState?.values.map(isRunnable) ?? [];
  const wakePid = numbersOf(trace, "sched_waking", "target_pid");
  const awakened = numbersOf(trace, "sched_wakeup", "target_pid");
  const mmioKind = wordsOf(trace, "kvm_mmio", "type");
  const unsatisfied = mmioKind?.values.indexOf("unsatisfied-read") ?? -1;
  const mmioGpa = numbersOf(trace, "kvm_mmio", "gpa");
  const switches = prevPid !== null && nextPid !== null && prevState !== null;
  const kinds = kindsOf(trace, (event) => (event === "sched_switch" && !switches ? 0 : KINDS[event] ?? 0));

  let count = 0;
  for (let i = 0; i < raw.length; i++) if (kinds[eventCodes[i]] === EXIT && (sideCodes === null || sideCodes[i] === side)) count++;

  // One entry per exit.
  const at = new Int32Array(count), exitSlot = new Int32Array(count);
  const handling = new Float64Array(count).fill(NaN), guest = new Float64Array(count).fill(NaN);
  const whyHandling = new Uint8Array(count), whyGuest = new Uint8Array(count);
  const slept = new Uint8Array(count), sleep = new Float64Array(count), stolen = new Float64Array(count);
  const mmioSlot = new Int32Array(count).fill(-1), valueSlot = new Int32Array(count).fill(-1);
  const wakes = new Float64Array(count), wokenSlot = new Int32Array(count).fill(-1);
  const userSlot = new Int32Array(count).fill(-1), waitSlot = new Int32Array(count).fill(-1);

  // One entry per thread.
  const threads = new Threads([pid, prevPid, nextPid]);
  const { size } = threads;
  const isVcpu = new Uint8Array(size), openRow = new Int32Array(size).fill(-1);
  const entered = new Float64Array(size).fill(NaN), whyNot = new Uint8Array(size).fill(EDGE);
  const doing = new Uint8Array(size), wokenOnCpu = new Uint8Array(size), since = new Float64Array(size), lastCpu = new Int16Array(size).fill(-1);
  const vcpuThreads: number[] = [];

  const vcpu = (thread: number): void => {
    if (isVcpu[thread] === 0) {
      isVcpu[thread] = 1;
      vcpuThreads.push(thread);
    }
  };
  /** Ends whatever span of a thread is under way: events of it may be missing. */
  const cut = (thread: number): void => {
    const row = openRow[thread];
    if (row >= 0) {
      whyHandling[row] = LOST;
      openRow[thread] = -1;
    }
    entered[thread] = NaN;
    whyNot[thread] = LOST;
  };

  const gaps = gapsOf(trace, side);
  let nextGap = 0, dark = 0;
  const openGaps: number[] = [];

  let rows = 0;
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[eventCodes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    const now = ts[i];
    while (nextGap < gaps.length && gaps[nextGap].opens <= i) {
      const gap = gaps[nextGap++];
      for (const thread of vcpuThreads) if (!switches || doing[thread] !== ON_CPU || lastCpu[thread] === gap.cpu || lastCpu[thread] < 0) cut(thread);
      if (gap.closes > i) {
        openGaps.push(gap.closes);
        dark++;
      }
    }
    if (dark > 0) {
      for (let g = openGaps.length - 1; g >= 0; g--) {
        if (openGaps[g] <= i) {
          openGaps.splice(g, 1);
          dark--;
        }
      }
    }
    const thread = threads.of(pid[i]);
    const row = openRow[thread];
    switch (kind) {
      case EXIT: {
        vcpu(thread);
        doing[thread] = ON_CPU;
        wokenOnCpu[thread] = 0; // whoever leaves a guest is awake; the sched_wakeup that says so may be lost
        lastCpu[thread] = cpu[i];
        if (row >= 0) whyHandling[row] = UNPAIRED;
        at[rows] = i;
        exitSlot[rows] = slot[i];
        if (entered[thread] === entered[thread]) guest[rows] = now - entered[thread];
        else whyGuest[rows] = whyNot[thread];
        entered[thread] = NaN;
        openRow[thread] = rows++;
        break;
      }
      case ENTRY: {
        vcpu(thread);
        doing[thread] = ON_CPU;
        lastCpu[thread] = cpu[i];
        if (row >= 0) {
          handling[row] = now - ts[at[row]];
          openRow[thread] = -1;
        }
        entered[thread] = now;
        whyNot[thread] = UNPAIRED;
        break;
      }
      case MMIO: {
        if (row < 0) break;
        const s = slot[i];
        if (mmioSlot[row] < 0) {
          mmioSlot[row] = valueSlot[row] = s;
        } else if (mmioKind !== null && mmioGpa !== null && mmioKind.codes[valueSlot[row]] === unsatisfied && mmioGpa[s] === mmioGpa[mmioSlot[row]]) {
          valueSlot[row] = s; // the value that QEMU brought for the read begun above
        }
        break;
      }
      case SWITCH: {
        const s = slot[i];
        const out = threads.of(prevPid![s]), into = threads.of(nextPid![s]);
        if (isVcpu[out] === 1) {
          const sleeps = !stateRunnable[prevState!.codes[s]], open = openRow[out];
          // Woken on its way to sleep: it leaves its CPU nevertheless, and then waits to run.
          doing[out] = sleeps && wokenOnCpu[out] === 0 ? ASLEEP : READY;
          wokenOnCpu[out] = 0;
          since[out] = now;
          lastCpu[out] = cpu[i];
          if (open >= 0 && sleeps) slept[open] = 1;
          if (dark > 0) cut(out);
        }
        if (isVcpu[into] === 1) {
          const open = openRow[into];
          if (open >= 0) {
            if (doing[into] === ASLEEP) sleep[open] += now - since[into];
            else if (doing[into] === READY) stolen[open] += now - since[into];
          }
          doing[into] = ON_CPU;
          lastCpu[into] = cpu[i];
        }
        break;
      }
      case WAKING: {
        if (row >= 0) {
          if (wakes[row]++ === 0) wokenSlot[row] = slot[i];
        }
        const target = threads.of(wakePid?.[slot[i]] ?? NaN);
        if (target >= 0 && isVcpu[target] === 1 && doing[target] === ASLEEP) {
          if (openRow[target] >= 0) sleep[openRow[target]] += now - since[target];
          doing[target] = READY;
          since[target] = now;
        } else if (target >= 0 && doing[target] === ON_CPU && awakened !== null) {
          wokenOnCpu[target] = 1;
        }
        break;
      }
      case WOKEN: {
        const target = threads.of(awakened?.[slot[i]] ?? NaN);
        if (target >= 0 && doing[target] === ON_CPU) wokenOnCpu[target] = 0; // it took effect before the thread left its CPU
        break;
      }
      case USERSPACE: if (row >= 0) userSlot[row] = slot[i]; break;
      case WAKEUP: if (row >= 0) waitSlot[row] = slot[i]; break;
    }
  }
  for (const thread of vcpuThreads) if (openRow[thread] >= 0) whyHandling[openRow[thread]] = EDGE;

  for (let row = 0; row < count; row++) {
    if (!switches || whyHandling[row] !== OK) sleep[row] = stolen[row] = NaN;
  }
  const waitKind = wordsOf(trace, "kvm_vcpu_wakeup", "wait_kind");
  if (!switches && waitKind) {
    const wait = waitKind.values.indexOf("wait");
    for (let row = 0; row < count; row++) if (waitSlot[row] >= 0 && waitKind.codes[waitSlot[row]] === wait) slept[row] = 1;
  }

  const whyCodes = new Int32Array(count);
  for (let row = 0; row < count; row++) {
    const why = whyGuest[row] * WHY_HANDLING.length + whyHandling[row];
    whyCodes[row] = why === 0 ? -1 : why;
  }
  const exitFields = raw.fields("kvm_exit") ?? {}, mmioFields = raw.fields("kvm_mmio") ?? {};
  const wakeFields = raw.fields("sched_waking") ?? {};
  const time = new Float64Array(count), onCpu = new Int32Array(count), tid = new Int32Array(count), vcpuId = new Float64Array(count);
  const ids = options.vcpus ? vcpuIdsOf(options.vcpus) : vcpuOfThreads(trace);
  for (let row = 0; row < count; row++) {
    const i = at[row];
    time[row] = ts[i];
    onCpu[row] = cpu[i];
    tid[row] = pid[i];
    vcpuId[row] = ids.get(pid[i]) ?? NaN;
  }
  return makeTable(kvmExitsColumns, {
    ts: time, cpu: onCpu, pid: tid, vcpu: new NullableColumn(vcpuId),
    reason: pick(exitFields.reason, exitSlot),
    ret: pick(exitFields.ret, exitSlot),
    esr_ec: pick(exitFields.esr_ec, exitSlot),
    pc: pick(exitFields.pc, exitSlot),
    handling: new NullableColumn(handling), guest: new NullableColumn(guest),
    why: new DictionaryColumn(whyCodes, WHYS),
    slept: new BooleanColumn(slept), sleep: new NullableColumn(sleep), stolen: new NullableColumn(stolen),
    mmio: pick(mmioKind, valueSlot), gpa: pick(mmioFields.gpa, mmioSlot), len: pick(mmioFields.len, mmioSlot), val: pick(mmioFields.val, valueSlot),
    wakes, woken: pick(wakeFields.target_comm, wokenSlot), woken_tid: pick(wakeFields.target_pid, wokenSlot),
    userspace: pick(raw.fields("kvm_userspace_exit")?.reason, userSlot),
    wait: pick(raw.fields("kvm_vcpu_wakeup")?.ns, waitSlot), wait_kind: pick(waitKind, waitSlot),
  });
}

export const exitSummaryColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the exits have no run column" },
  reason: { type: "string", unit: null, meaning: "Why the vCPU left the guest; see kvmExits." },
  count: { type: "number", unit: "count", meaning: "Exits for this reason." },
  share: { type: "number", unit: "%", meaning: "Share of them in all exits of the run." },
  slept: { type: "number", unit: "count", meaning: "Exits in which the vCPU's thread slept before it went back." },
  handling_n: { type: "number", unit: "count", meaning: "Exits whose handling is known; the figures for handling are of these." },
  handling_total: { type: "number", unit: "ns", meaning: "Sum of handling (exit to next entry, sleep included)." },
  handling_share: { type: "number", unit: "%", meaning: "Share of that in the sum over all reasons of the run.", null: "that sum is 0" },
  handling_p50: { type: "number", unit: "ns", meaning: "Median of handling.", null: "none is known" },
  handling_p90: { type: "number", unit: "ns", meaning: "90th percentile of handling.", null: "none is known" },
  handling_p99: { type: "number", unit: "ns", meaning: "99th percentile of handling.", null: "none is known" },
  guest_n: { type: "number", unit: "count", meaning: "Exits for which the guest's run before them is known; the figures for guest are of these." },
  guest_total: { type: "number", unit: "ns", meaning: "Sum of guest (previous entry to exit)." },
  guest_share: { type: "number", unit: "%", meaning: "Share of that in the sum over all reasons of the run.", null: "that sum is 0" },
  guest_p50: { type: "number", unit: "ns", meaning: "Median of guest.", null: "none is known" },
  guest_p90: { type: "number", unit: "ns", meaning: "90th percentile of guest.", null: "none is known" },
  guest_p99: { type: "number", unit: "ns", meaning: "99th percentile of guest.", null: "none is known" },
} as const satisfies Columns;

/**
 * Exits per reason, and per run where the table has a `run` column: counts, and sum, median, 90th and 99th percentile
 * of both spans, most frequent first. Percentiles are exact, by the definition of quantileSorted (Arquero's op.quantile).
 * `perf kvm stat` on arm64 prints what is here guest; on x86, handling.
 * @param exits a table from kvmExits, filtered or stacked as you like.
 */
export function exitSummary(exits: ColumnTable): ColumnTable {
  interface Group { run: string | null; reason: string; count: number; slept: number; handling: number[]; guest: number[] }
  const groups = new Map<string, Group>();
  const [run, reason, slept, handling, guest] = ["run", "reason", "slept", "handling", "guest"].map(columnReader(exits));
  exits.scan((index) => {
    const r = run(index!) as string | null, why = String(reason(index!));
    const key = `${r ?? ""}\0${why}`;
    let group = groups.get(key);
    if (!group) groups.set(key, (group = { run: r, reason: why, count: 0, slept: 0, handling: [], guest: [] }));
    group.count++;
    if (slept(index!)) group.slept++;
    const h = handling(index!) as number | null, g = guest(index!) as number | null;
    if (h !== null) group.handling.push(h);
    if (g !== null) group.guest.push(g);
  });
  const rows = [...groups.values()].map((group) => ({ ...group, h: spread(group.handling), g: spread(group.guest) }));
  const runs = new Map<string | null, { count: number; handling: number; guest: number }>();
  for (const { run: r, count, h, g } of rows) {
    const all = runs.get(r) ?? { count: 0, handling: 0, guest: 0 };
    runs.set(r, { count: all.count + count, handling: all.handling + h.total, guest: all.guest + g.total });
  }
  const order = [...runs.keys()];
  rows.sort((a, b) => order.indexOf(a.run) - order.indexOf(b.run) || b.count - a.count);
  const share = (part: number, all: number): number | null => (all > 0 ? (100 * part) / all : null);
  return tableOf(exitSummaryColumns, rows.map(({ run: r, reason: why, count, slept: s, h, g }) => {
    const all = runs.get(r)!;
    return {
      run: r, reason: why, count, share: (100 * count) / all.count, slept: s,
      handling_n: h.n, handling_total: h.total, handling_share: share(h.total, all.handling), handling_p50: h.p50, handling_p90: h.p90, handling_p99: h.p99,
      guest_n: g.n, guest_total: g.total, guest_share: share(g.total, all.guest), guest_p50: g.p50, guest_p90: g.p90, guest_p99: g.p99,
    };
  }));
}

export const exitAccountColumns = {
  pid: { type: "number", unit: null, meaning: "Host thread id of the vCPU." },
  vcpu: { type: "number", unit: null, meaning: "vCPU id.", null: "no event of the trace tells it" },
  exits: { type: "number", unit: "count", meaning: "kvm_exit events of the thread, each of which is a row of kvmExits." },
  whole: { type: "number", unit: "count", meaning: "Rows with both spans." },
  handling_null: { type: "number", unit: "count", meaning: "Rows whose handling is null." },
  guest_null: { type: "number", unit: "count", meaning: "Rows whose guest is null." },
  why: { type: "string", unit: null, meaning: "How many rows lack a span, and why.", null: "all are whole" },
} as const satisfies Columns;

/** Per vCPU thread: how many exits have both spans, how many lack one, and why. */
export function exitAccount(exits: ColumnTable): ColumnTable {
  interface Account { pid: number; vcpu: number | null; exits: number; whole: number; handling_null: number; guest_null: number; whys: Map<string, number> }
  const accounts = new Map<number, Account>();
  const [pid, vcpu, handling, guest, why] = ["pid", "vcpu", "handling", "guest", "why"].map(columnReader(exits));
  exits.scan((index) => {
    const tid = pid(index!) as number;
    let account = accounts.get(tid);
    if (!account) accounts.set(tid, (account = { pid: tid, vcpu: vcpu(index!) as number | null, exits: 0, whole: 0, handling_null: 0, guest_null: 0, whys: new Map() }));
    account.exits++;
    const h = handling(index!) === null, g = guest(index!) === null;
    if (h) account.handling_null++;
    if (g) account.guest_null++;
    if (!h && !g) account.whole++;
    const text = why(index!) as string | null;
    if (text !== null) account.whys.set(text, (account.whys.get(text) ?? 0) + 1);
  });
  return tableOf(exitAccountColumns, [...accounts.values()].sort((a, b) => a.pid - b.pid).map(({ whys, ...account }) => ({
    ...account, why: whys.size === 0 ? null : [...whys].map(([text, n]) => `${n} × ${text}`).join(", "),
  })));
}
