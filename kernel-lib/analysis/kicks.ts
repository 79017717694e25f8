import type { ColumnTable } from "arquero";
import { BooleanColumn, DictionaryColumn, IntBuilder, makeTable, NullableColumn, NumberBuilder, type Column, type Columns } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { backendOf, guestsOf, INTERRUPT_ACK, INTERRUPT_STATUS, QUEUE_NOTIFY, queueKey, resolveBoard, surveyDevices, type VirtioOptions } from "./devices.js";
import { vcpuIdsOf, vcpuOfThreads } from "./vcpus.js";
import { gapsOf, hostSide, isRunnable, kindsOf, needed, numbersOf, Threads, wordsOf } from "./walk.js";

export const virtioKicksColumns = {
  kick: { type: "number", unit: null, meaning: "Index of the kick in the trace, from 0." },
  ts: { type: "number", unit: "ns", meaning: "When the guest's write to QueueNotify was handled (kvm_mmio). All stage times count from here." },
  cpu: { type: "number", unit: null, meaning: "Host cpu of the write." },
  pid: { type: "number", unit: null, meaning: "Host thread id of the vCPU that kicked." },
  vcpu: { type: "number", unit: null, meaning: "That vCPU's id.", null: "no event of the trace tells it" },
  gpa: { type: "number", unit: null, base: 16, meaning: "Guest-physical address of the device's registers." },
  queue: { type: "number", unit: null, meaning: "Queue number written. virtio-net: even ones receive, odd ones transmit." },
  intid: { type: "number", unit: null, meaning: "Interrupt id of the device." },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "no kick of this queue woke anybody" },
  backend_tid: { type: "number", unit: null, meaning: "Thread id of the one that handles it.", null: "no kick of this queue woke anybody" },
  exit: { type: "number", unit: "ns", meaning: "kvm_exit that the write caused: 0 or less, since it comes first.", null: "it lies before the trace or in lost events" },
  wake: { type: "number", unit: "ns", meaning: "The vCPU thread wakes the back end (sched_waking).", null: "the back end was awake (awake), or the kick woke nobody" },
  sched_in: { type: "number", unit: "ns", meaning: "The back end is switched in (sched_switch).", null: "no wake, or it never was" },
  tun_first: { type: "number", unit: "ns", meaning: "First call of tun_get_user by the back end in the run that the kick began (QEMU: or came into), before it slept again.", null: "there was none (vhost sends small packets through tun_sendmsg alone), or it may be another packet's (merged kicks; vhost awake before the kick)" },
  tun_last: { type: "number", unit: "ns", meaning: "Last such call, before the back end slept or another kick's began.", null: "as tun_first" },
  tun_count: { type: "number", unit: "count", meaning: "How many such calls." },
  blocked: { type: "number", unit: "ns", meaning: "Part of the time before tun_first in which the back end was off its CPU because a vCPU thread in QEMU held a lock that it needed: it slept with the kick unserved and that thread woke it." },
  irq: { type: "number", unit: "ns", meaning: "The device's interrupt is raised: first level-1 kvm_irq_line or vgic_update_irq_pending of its id, by the back end in this run or by a thread that it woke. One interrupt serves all queues, so it may be for received data.", null: "this run raised none" },
  irq_tid: { type: "number", unit: null, meaning: "Thread id of whoever raised it.", null: "as irq" },
  halt: { type: "number", unit: "ns", meaning: "The vCPU that takes the interrupt had gone to sleep (sched_switch out); below 0 where it slept before the kick.", null: "it was not asleep when the interrupt was raised" },
  vcpu_wake: { type: "number", unit: "ns", meaning: "Whoever raised the interrupt wakes that vCPU (sched_waking).", null: "it was not asleep" },
  resume: { type: "number", unit: "ns", meaning: "That vCPU's thread is switched in after the wake.", null: "it was not asleep" },
  vcpu_exit: { type: "number", unit: "ns", meaning: "That vCPU is taken out of the guest: its first kvm_exit after irq.", null: "it was not in the guest when the interrupt was raised" },
  entry: { type: "number", unit: "ns", meaning: "That vCPU's first kvm_entry after irq.", null: "the guest never read InterruptStatus, or no entry was recorded before it did" },
  isr_read: { type: "number", unit: "ns", meaning: "The guest reads InterruptStatus of the device (kvm_mmio): its driver handles the interrupt.", null: "irq is null, or it never did" },
  isr_tid: { type: "number", unit: null, meaning: "Thread id of the vCPU that read it.", null: "as isr_read" },
  ack: { type: "number", unit: "ns", meaning: "The guest writes InterruptACK.", null: "isr_read is null, or it never did" },
  awake: { type: "boolean", unit: null, meaning: "Whether the back end was awake when the kick came, so that there was nobody to wake." },
  merged_into: { type: "number", unit: null, meaning: "Index of the earlier kick that the same run of the back end had not served yet; all later stages are told of that one alone.", null: "the kick was not merged" },
  whole: { type: "boolean", unit: null, meaning: "Whether every stage from exit to isr_read was seen (tun_get_user only where the queue transmits and its back end ever calls it; a vCPU that needed neither wake nor exit is whole too)." },
  why: { type: "string", unit: null, meaning: "First reason why the chain is not whole.", null: "it is" },
} as const satisfies Columns;

export type VirtioKicksOptions = VirtioOptions;

// Codes of the backend column.
const QEMU = 0, VHOST = 1;

const EXIT = 1, ENTRY = 2, MMIO = 3, SWITCH = 4, WAKING = 5, USERSPACE = 6, TUN = 7, LINE = 8, VGIC = 9, WAKEUP = 10;
const KINDS: Record<string, number> = {
  kvm_exit: EXIT, kvm_entry: ENTRY, kvm_mmio: MMIO, sched_switch: SWITCH, sched_waking: WAKING, kvm_userspace_exit: USERSPACE, kvm_irq_line: LINE, vgic_update_irq_pending: VGIC, sched_wakeup: WAKEUP,
};

const WHYS = [
  "lost events", "the trace ends", "handled by the vCPU's own thread in QEMU", "no back end known", "merged into an earlier kick", "the back end was awake",
  "no wake of the back end", "no tun_get_user in this run", "no interrupt by this run", "InterruptStatus not read", "no kvm_exit before", "no kvm_entry before the read",
  "tun_get_user of this kick cannot be told from a merged one's",
];
const LOST = 0, END = 1, OWN = 2, NOBODY = 3, MERGED = 4, AWAKE = 5, NO_WAKE = 6, NO_TUN = 7, NO_IRQ = 8, NO_READ = 9, NO_EXIT = 10, NO_ENTRY = 11, DOUBTFUL = 12;

// What a thread is doing, as far as is known.
const UNKNOWN = 0, RUNNING = 1, READY = 2, ASLEEP = 3;

/** What a back end does from its waking until it sleeps again: the kicks that it serves. */
interface Run {
  /** Kicks for which no interrupt was raised yet. */
  waiting: number[];
  /** Kicks that woke it and have not seen it run. */
  woken: number[];
  /** Kick to which a call of tun_get_user belongs; -1 where there is none or it is open to doubt. */
  tun: number;
  /** Oldest transmit kick not served yet, which a further kick is merged into; -1 where there is none. */
  unserved: number;
}
const newRun = (): Run => ({ waiting: [], woken: [], tun: -1, unserved: -1 });

/** Positions of events, one per kick, growing; -1 stands for null. */
class Positions {
  data = new Int32Array(64).fill(-1);
  grow(length: number): void {
    if (length <= this.data.length) return;
    const more = new Int32Array(this.data.length * 2).fill(-1);
    more.set(this.data);
    this.data = more;
  }
}

/**
 * The way of each kick of a virtio-mmio queue, one row per QueueNotify write: vCPU exit → wake of the back end (QEMU's
 * thread or a vhost worker) → back end runs → tun_get_user → interrupt raised → vCPU woken or taken out → kvm_entry →
 * guest reads InterruptStatus → acknowledges. Stages are paired by thread, wake and device, and only within one run
 * of the back end, which ends when it sleeps (but not where QEMU's thread waits for a lock of a vCPU thread): a stage that cannot be told from another packet's is null, and `why` says
 * what is missing. A kick that comes while the back end is awake wakes nobody (`awake`); one that comes before an
 * earlier kick was served is merged into it. No chain is joined across lost events, of whichever CPU.
 *
 * Needs kvm_mmio, kvm_exit, kvm_entry, sched_switch and sched_waking; a kprobe on tun_get_user (any name that holds it) and kvm_irq_line fill the middle.
 * @throws MissingEventError when one of the needed events is not in the trace; OptionError for a wrong board.
 */
export function virtioKicks(trace: Trace, options: VirtioKicksOptions = {}): ColumnTable {
  needEvents(trace, "virtioKicks", ["kvm_mmio", "kvm_exit", "kvm_entry", "sched_switch", "sched_waking"]);
  const { raw } = trace;
  const { ts, pid, slot, cpu } = raw;
  const eventCodes = raw.event.codes;
  const kinds = kindsOf(trace, (event) => KINDS[event] ?? (event.includes("tun_get_user") ? TUN : 0));
  const hasWakeup = kinds.includes(WAKEUP);
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;

  const field = <T>(column: T | null, name: string): T => needed(column, trace, "virtioKicks", name);
  const prevPid = field(numbersOf(trace, "sched_switch", "prev_pid"), "prev_pid of sched_switch"), nextPid = field(numbersOf(trace, "sched_switch", "next_pid"), "next_pid of sched_switch");
  const prevState = field(wordsOf(trace, "sched_switch", "prev_state"), "prev_state of sched_switch");
  const runnable = prevState.values.map(isRunnable);
  const wakee = field(numbersOf(trace, "sched_waking", "target_pid"), "pid of sched_waking");
  const awakened = numbersOf(trace, "sched_wakeup", "target_pid") ?? [];
  const gpa = field(numbersOf(trace, "kvm_mmio", "gpa"), "gpa of kvm_mmio"), mmioType = field(wordsOf(trace, "kvm_mmio", "type"), "type of kvm_mmio");
  const mmioVal = wordsOf(trace, "kvm_mmio", "val");
  const write = mmioType.values.indexOf("write"), unsatisfied = mmioType.values.indexOf("unsatisfied-read");
  const lineNum = numbersOf(trace, "kvm_irq_line", "num"), lineLevel = numbersOf(trace, "kvm_irq_line", "level");
  const vgicNum = numbersOf(trace, "vgic_update_irq_pending", "irq"), vgicLevel = numbersOf(trace, "vgic_update_irq_pending", "level");

  const board = resolveBoard(options.board);
  const guestOf = guestsOf(options.vcpus);
  const { queues } = surveyDevices(trace, board, guestOf);
  // A device of a guest is known by one number.
  const guests = [...new Set([...queues.values()].map((queue) => queue.guest))];

  // One entry per thread.
  const threads = new Threads([pid, prevPid, nextPid, wakee]);
  const { size } = threads;
  const state = new Uint8Array(size), lastCpu = new Int16Array(size).fill(-1);
  const exitAt = new Int32Array(size).fill(-1), kickOf = new Int32Array(size).fill(-1);
  const outAt = new Int32Array(size).fill(-1), lineAt = new Int32Array(size).fill(-1), openRead = new Float64Array(size).fill(NaN);
  const isVcpu = new Uint8Array(size), injects = new Uint8Array(size), callsTun = new Uint8Array(size), inQemu = new Uint8Array(size), guestIndex = new Int16Array(size);
  const runs: (Run | null)[] = new Array<Run | null>(size).fill(null);
  const causes: (Run[] | null)[] = new Array<Run[] | null>(size).fill(null);
  const raised: (number[] | null)[] = new Array<number[] | null>(size).fill(null);
  /** A thread that is woken on its way to sleep is switched out nevertheless, and back in without another waking. */
  const wokenOnCpu = new Uint8Array(size), lateKick = new Int32Array(size).fill(-1);
  /** The run of a thread that sleeps with a kick unserved, and whether it goes on after a wait for a lock. */
  const pausedRuns: (Run | null)[] = new Array<Run | null>(size).fill(null);
  const handedOver = new Uint8Array(size);
  const resuming: (number[] | null)[] = new Array<number[] | null>(size).fill(null);
  /** Run that the kick under way was attached to. */
  const kickRun: (Run | null)[] = new Array<Run | null>(size).fill(null);
  const crossings: (IntBuilder | null)[] = new Array<IntBuilder | null>(size).fill(null);
  /** Threads that have something under way, looked through when events are lost. */
  const active = new Set<number>();

  for (const [thread, tid] of threads.tids.entries()) guestIndex[thread] = Math.max(0, guests.indexOf(guestOf(tid)));
  // Who enters guests, and who else raises interrupts, is asked of threads before they show it.
  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[eventCodes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    if (kind === EXIT || kind === ENTRY) isVcpu[threads.of(pid[i])] = 1;
    else if (kind === LINE || kind === VGIC) injects[threads.of(pid[i])] = 1;
    else if (kind === TUN) callsTun[threads.of(pid[i])] = 1;
  }
  const backEnd = new Uint8Array(size);
  for (const { tid } of queues.values()) if (tid !== null) backEnd[threads.of(tid)] = 1;

  // One entry per kick: where in the trace each stage is.
  const P = {
    at: new Positions(), exit: new Positions(), wake: new Positions(), run: new Positions(), tunFirst: new Positions(), tunLast: new Positions(), tunCount: new Positions(),
    irq: new Positions(), halt: new Positions(), vcpuWake: new Positions(), resume: new Positions(), vcpuExit: new Positions(), entry: new Positions(), isr: new Positions(), ack: new Positions(),
    merged: new Positions(), woken: new Positions(), why: new Positions(),
  };
  const all = Object.values(P);
  const backTid = new NumberBuilder(), backCode = new IntBuilder(), queueOf = new NumberBuilder(), blocked = new NumberBuilder(), deviceOf = new IntBuilder(), awake = new IntBuilder();
  const transmits = (row: number): boolean => queueOf.data[row] % 2 === 1;
  /** Whether a kick's way leads through tun_get_user. */
  const usesTun = (row: number): boolean => transmits(row) && backTid.data[row] >= 0 && callsTun[threads.of(backTid.data[row])] === 1;

  const awaitRead: { row: number; irq: number }[][] = Array.from({ length: board.count * Math.max(1, guests.length) }, () => []);
  const awaitAck: number[][] = awaitRead.map(() => []);

  /** A thread's own run, and those of the back ends that woke it. */
  const runsOf = (thread: number): Run[] => {
    const own = runs[thread], others = causes[thread] ?? [];
    return own ? [own, ...others] : others;
  };
  /** The same with one that is paused. */
  const openRunsOf = (thread: number): Run[] => {
    const paused = pausedRuns[thread];
    return paused ? [paused, ...runsOf(thread)] : runsOf(thread);
  };
  const gaps = gapsOf(trace, side);
  let nextGap = 0;
  const dark: { cpu: number; closes: number }[] = [];
  const lose = (row: number): void => { if (P.why.data[row] < 0 && P.isr.data[row] < 0) P.why.data[row] = LOST; };
  const openGap = (lostCpu: number): void => {
    for (const thread of active) {
      for (const run of openRunsOf(thread)) {
        run.waiting.forEach(lose);
        if (run.unserved >= 0) lose(run.unserved);
      }
      runs[thread] = pausedRuns[thread] = causes[thread] = raised[thread] = resuming[thread] = null;
      wokenOnCpu[thread] = handedOver[thread] = 0;
      lateKick[thread] = -1;
    }
    active.clear();
    for (const list of awaitRead) list.splice(0).forEach(({ row }) => lose(row));
    for (const list of awaitAck) list.length = 0;
    for (let thread = 0; thread < size; thread++) {
      if (kickOf[thread] >= 0) lose(kickOf[thread]);
      kickOf[thread] = -1;
      openRead[thread] = NaN;
      if (state[thread] !== RUNNING || lastCpu[thread] === lostCpu) {
        state[thread] = UNKNOWN;
        exitAt[thread] = outAt[thread] = -1;
      }
    }
  };

  let kicks = 0;
  const attach = (row: number, thread: number): void => {
    const run = (runs[thread] ??= newRun());
    active.add(thread);
    if (!transmits(row)) {
      run.waiting.push(row);
      return;
    }
    if (run.unserved >= 0) {
      P.merged.data[row] = run.unserved;
      P.why.data[row] = MERGED;
      // QEMU passes every packet to tun_get_user, oldest first. vhost may have sent the earlier kick's packet without it.
      if (backCode.data[row] === VHOST) {
        run.tun = -1;
        if (P.why.data[run.unserved] < 0) P.why.data[run.unserved] = DOUBTFUL;
      }
      return;
    }
    run.waiting.push(row);
    run.unserved = row;
    // While vhost is awake the guest adds packets without a kick, so that a call need not be for the one of this kick.
    run.tun = backCode.data[row] === VHOST && awake.data[row] === 1 ? -1 : row;
  };
  /** Takes a kick back out of the run that it was thought to have come in. */
  const detach = (row: number, run: Run | null): void => {
    if (run) run.waiting = run.waiting.filter((other) => other !== row);
    const earlier = P.merged.data[row];
    if (earlier >= 0) {
      P.merged.data[row] = P.why.data[row] = -1;
      if (P.why.data[earlier] === DOUBTFUL) P.why.data[earlier] = -1;
    }
    awake.data[row] = 0;
  };
  /** The interrupt of a device is raised by a thread, for the kicks of its run and of the runs that woke it. */
  const raise = (thread: number, intid: number, i: number): void => {
    let served: number[] | null = null;
    for (const run of runsOf(thread)) {
      if (run.waiting.length === 0) continue;
      run.waiting = run.waiting.filter((row) => {
        if (board.intid(deviceOf.data[row] % board.count) !== intid) return true;
        // QEMU raises it for a packet after it passed the packet on; before that, it is for one received.
        if (backCode.data[row] === QEMU && usesTun(row) && P.tunCount.data[row] <= 0) return true;
        if (P.irq.data[row] >= 0) return false;
        P.irq.data[row] = i;
        awaitRead[deviceOf.data[row]].push({ row, irq: i });
        (served ??= []).push(row);
        return false;
      });
    }
    if (served) raised[thread] = served;
  };

  for (let i = 0; i < raw.length; i++) {
    const kind = kinds[eventCodes[i]];
    if (kind === 0 || (sideCodes !== null && sideCodes[i] !== side)) continue;
    while (nextGap < gaps.length && gaps[nextGap].opens <= i) {
      openGap(gaps[nextGap].cpu);
      dark.push(gaps[nextGap++]);
    }
    for (let g = dark.length - 1; g >= 0; g--) {
      if (dark[g].closes > i) continue;
      // What threads did meanwhile is not known, and some may have gone to sleep elsewhere since.
      openGap(dark[g].cpu);
      dark.splice(g, 1);
    }
    const thread = threads.of(pid[i]), s = slot[i];
    if (state[thread] === UNKNOWN) {
      state[thread] = RUNNING;
      lastCpu[thread] = cpu[i];
    }
    switch (kind) {
      case EXIT: case ENTRY: {
        exitAt[thread] = kind === EXIT ? i : -1;
        inQemu[thread] = 0;
        if (kickOf[thread] >= 0) kickOf[thread] = -1;
        (crossings[thread] ??= new IntBuilder()).push(kind === EXIT ? i : -1 - i);
        state[thread] = RUNNING;
        lastCpu[thread] = cpu[i];
        break;
      }
      case USERSPACE: {
        const row = kickOf[thread];
        if (row >= 0 && P.wake.data[row] < 0 && awake.data[row] === 0 && P.why.data[row] < 0) P.why.data[row] = OWN;
        kickOf[thread] = -1;
        inQemu[thread] = 1;
        break;
      }
      case MMIO: {
        const device = board.device(gpa[s]);
        if (device < 0) break;
        const register = gpa[s] - board.gpa(device), key = guestIndex[thread] * board.count + device;
        const type = mmioType.codes[s];
        if (type === write) {
          if (register === QUEUE_NOTIFY) {
            const row = kicks++;
            for (const column of all) column.grow(kicks);
            P.at.data[row] = i;
            P.exit.data[row] = exitAt[thread];
            const queue = Number(mmioVal?.at(s) ?? 0);
            const known = queues.get(queueKey(guestOf(pid[i]), device, queue));
            const tid = known?.tid ?? null;
            queueOf.push(queue);
            deviceOf.push(key);
            blocked.push(0);
            backTid.push(tid ?? NaN);
            backCode.push(tid === null ? -1 : backendOf(known!.comm ?? "") === "vhost" ? VHOST : QEMU);
            const back = tid === null ? -1 : threads.of(tid);
            const isAwake = back >= 0 && (state[back] === RUNNING || state[back] === READY);
            awake.push(isAwake ? 1 : 0);
            if (dark.length > 0) {
              P.why.data[row] = LOST;
            } else {
              kickOf[thread] = row;
              if (isAwake) attach(row, back);
              kickRun[thread] = isAwake ? runs[back] : null;
            }
          } else if (register === INTERRUPT_ACK) {
            for (const row of awaitAck[key]) P.ack.data[row] = i;
            awaitAck[key].length = 0;
          }
        } else if (register === INTERRUPT_STATUS) {
          // A read that leaves to QEMU prints "unsatisfied-read" and later "read": the first is the moment.
          const completes = type !== unsatisfied && openRead[thread] === gpa[s];
          openRead[thread] = type === unsatisfied ? gpa[s] : NaN;
          if (completes) break;
          for (const { row, irq } of awaitRead[key].splice(0)) {
            if (P.irq.data[row] !== irq) continue;
            P.isr.data[row] = i;
            awaitAck[key].push(row);
          }
        }
        break;
      }
      case WAKING: {
        const target = threads.of(wakee[s]);
        if (target < 0) break;
        const slept = state[target] === ASLEEP;
        if (slept || state[target] === UNKNOWN) {
          const paused = slept && isVcpu[thread] === 1 && inQemu[thread] === 1 ? pausedRuns[target] : null;
          handedOver[target] = paused ? 1 : 0;
          runs[target] = paused ?? (backEnd[target] === 1 ? newRun() : null);
          pausedRuns[target] = null;
          causes[target] = null;
          active.add(target);
          state[target] = READY;
        } else if (state[target] === RUNNING && hasWakeup) {
          wokenOnCpu[target] = isVcpu[thread] === 1 && inQemu[thread] === 1 ? 2 : 1;
        }
        const row = kickOf[thread];
        if (row >= 0 && P.wake.data[row] < 0 && wakee[s] === backTid.data[row]) {
          P.wake.data[row] = i;
          if (awake.data[row] === 1 && state[target] === READY) detach(row, kickRun[thread]); // it fell asleep between the write and the wake
          if (awake.data[row] === 0) attach(row, target);
          if (state[target] === RUNNING) {
            P.run.data[row] = i; // it is about to sleep and has not left its CPU
            lateKick[target] = row;
          } else (runs[target] ??= newRun()).woken.push(row);
        }
        if (isVcpu[target] === 1) {
          const rows = raised[thread];
          if (rows) {
            raised[thread] = null;
            for (const served of rows) {
              P.vcpuWake.data[served] = i;
              P.woken.data[served] = target;
              P.halt.data[served] = slept ? outAt[target] : -1;
            }
            // A vCPU that was about to sleep and has not left its CPU is woken too, but never switched in.
            if (state[target] === READY) {
              (resuming[target] ??= []).push(...rows);
              active.add(target);
            }
          }
        } else if (injects[target] === 1 && isVcpu[thread] === 0) {
          const cause = runs[thread];
          if (cause) (causes[target] ??= []).push(cause);
        }
        break;
      }
      case WAKEUP: {
        // The waking took effect before the thread left its CPU: it does not leave it.
        const target = threads.of(awakened[s]);
        if (target >= 0 && state[target] === RUNNING) {
          wokenOnCpu[target] = 0;
          lateKick[target] = -1;
        }
        break;
      }
      case SWITCH: {
        const out = threads.of(prevPid[s]), into = threads.of(nextPid[s]);
        if (out >= 0 && prevPid[s] !== 0) {
          lastCpu[out] = cpu[i];
          const run = runs[out], unserved = run !== null && run.unserved >= 0 && backCode.data[run.unserved] === QEMU && usesTun(run.unserved);
          if (runnable[prevState.codes[s]]) {
            state[out] = READY;
          } else if (wokenOnCpu[out] > 0) {
            state[out] = READY;
            outAt[out] = i;
            const row = lateKick[out];
            if (wokenOnCpu[out] === 2 && unserved) {
              handedOver[out] = 1;
            } else {
              runs[out] = backEnd[out] === 1 ? newRun() : null;
              causes[out] = raised[out] = null;
              if (row >= 0) {
                // The kick that woke it begins the run to come.
                detach(row, run);
                attach(row, out);
                P.run.data[row] = -1;
                runs[out]!.woken.push(row);
              }
            }
          } else {
            state[out] = ASLEEP;
            outAt[out] = i;
            pausedRuns[out] = unserved ? run : null;
            runs[out] = causes[out] = raised[out] = null;
            if (!resuming[out] && !unserved) active.delete(out);
          }
          wokenOnCpu[out] = 0;
          lateKick[out] = -1;
        }
        if (into >= 0 && nextPid[s] !== 0) {
          state[into] = RUNNING;
          lastCpu[into] = cpu[i];
          const run = runs[into];
          if (handedOver[into] === 1) {
            handedOver[into] = 0;
            if (run && run.unserved >= 0 && outAt[into] >= 0) blocked.data[run.unserved] += ts[i] - ts[outAt[into]];
          }
          if (run && run.woken.length > 0) {
            for (const row of run.woken) P.run.data[row] = i;
            run.woken.length = 0;
          }
          const rows = resuming[into];
          if (rows) {
            for (const row of rows) P.resume.data[row] = i;
            resuming[into] = null;
          }
        }
        break;
      }
      case TUN: {
        const run = runs[thread];
        if (!run) break;
        const row = run.tun;
        run.unserved = -1;
        if (row < 0) break;
        if (P.tunCount.data[row] <= 0) {
          P.tunCount.data[row] = 0;
          P.tunFirst.data[row] = i;
          if (P.irq.data[row] >= 0) {
            // What was raised before the packet went out was for another one.
            P.irq.data[row] = P.vcpuWake.data[row] = P.woken.data[row] = P.halt.data[row] = P.resume.data[row] = P.isr.data[row] = P.ack.data[row] = -1;
            run.waiting.push(row);
          }
        }
        P.tunLast.data[row] = i;
        P.tunCount.data[row]++;
        break;
      }
      case LINE: {
        raised[thread] = null; // a wake that follows is for this interrupt
        lineAt[thread] = i;
        if (lineLevel?.[s] === 1) raise(thread, lineNum?.[s] ?? NaN, i);
        break;
      }
      case VGIC: {
        // kvm_irq_line is followed by this event; an irqfd prints this one alone.
        if (lineAt[thread] < 0) raised[thread] = null;
        if (vgicLevel?.[s] === 1 && (lineAt[thread] < 0 || lineNum?.[slot[lineAt[thread]]] !== vgicNum?.[s])) raise(thread, vgicNum?.[s] ?? NaN, i);
        lineAt[thread] = -1;
        break;
      }
    }
  }
  const underWay = new Set<number>();
  for (const thread of active) for (const run of openRunsOf(thread)) run.waiting.forEach((row) => underWay.add(row));
  for (const list of awaitRead) for (const { row } of list) underWay.add(row);
  for (let thread = 0; thread < size; thread++) if (kickOf[thread] >= 0) underWay.add(kickOf[thread]);

  // The vCPU that read InterruptStatus: was it in the guest when the interrupt was raised, and when did it enter next?
  for (let row = 0; row < kicks; row++) {
    const irq = P.irq.data[row], isr = P.isr.data[row];
    if (irq < 0 || isr < 0) continue;
    const reader = threads.of(pid[isr]), list = crossings[reader];
    if (!list) continue;
    let low = 0, high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1, x = list.data[middle];
      if ((x < 0 ? -1 - x : x) < irq) low = middle + 1;
      else high = middle;
    }
    const inGuest = low > 0 && list.data[low - 1] < 0;
    if (inGuest && low < list.length && list.data[low] >= 0 && list.data[low] < isr) P.vcpuExit.data[row] = list.data[low];
    for (let c = low; c < list.length && c <= low + 1; c++) {
      const x = list.data[c];
      if (x < 0 && -1 - x < isr) {
        P.entry.data[row] = -1 - x;
        break;
      }
    }
    // A wake of another vCPU, of one that was in the guest, or that came after the entry, was for something else (a lock in QEMU).
    const entered = P.entry.data[row] >= 0 ? P.entry.data[row] : isr;
    if (P.woken.data[row] >= 0 && (inGuest || P.woken.data[row] !== reader || P.vcpuWake.data[row] > entered)) P.vcpuWake.data[row] = P.halt.data[row] = P.resume.data[row] = -1;
  }

  const whole = new Uint8Array(kicks), whyCodes = new Int32Array(kicks);
  for (let row = 0; row < kicks; row++) {
    const missing = P.why.data[row] >= 0 ? P.why.data[row]
      : P.exit.data[row] < 0 ? NO_EXIT
      : backCode.data[row] < 0 ? NOBODY
      : awake.data[row] === 1 && P.wake.data[row] < 0 ? AWAKE
      : P.wake.data[row] < 0 ? (underWay.has(row) ? END : NO_WAKE)
      : P.run.data[row] < 0 ? END
      : underWay.has(row) && P.isr.data[row] < 0 ? END
      : usesTun(row) && P.tunFirst.data[row] < 0 ? NO_TUN
      : P.irq.data[row] < 0 ? NO_IRQ
      : P.isr.data[row] < 0 ? NO_READ
      : P.entry.data[row] < 0 ? NO_ENTRY
      : -1;
    whyCodes[row] = missing;
    whole[row] = missing < 0 ? 1 : 0;
  }

  const since = (positions: Positions): NullableColumn => {
    const data = new Float64Array(kicks);
    for (let row = 0; row < kicks; row++) data[row] = positions.data[row] < 0 ? NaN : ts[positions.data[row]] - ts[P.at.data[row]];
    return new NullableColumn(data);
  };
  const tidAt = (positions: Positions): NullableColumn => new NullableColumn(Float64Array.from({ length: kicks }, (_, row) => (positions.data[row] < 0 ? NaN : pid[positions.data[row]])));
  const each = (value: (row: number) => number): Float64Array => Float64Array.from({ length: kicks }, (_, row) => value(row));
  const ids = options.vcpus ? vcpuIdsOf(options.vcpus) : vcpuOfThreads(trace);
  const at = P.at.data;
  return makeTable(virtioKicksColumns, {
    kick: each((row) => row), ts: each((row) => ts[at[row]]), cpu: each((row) => cpu[at[row]]), pid: each((row) => pid[at[row]]),
    vcpu: new NullableColumn(each((row) => ids.get(pid[at[row]]) ?? NaN)),
    gpa: each((row) => board.gpa(deviceOf.data[row] % board.count)), queue: queueOf.finish(), intid: each((row) => board.intid(deviceOf.data[row] % board.count)),
    backend: new DictionaryColumn(backCode.finish(), ["qemu", "vhost"]), backend_tid: backTid.finish(),
    exit: since(P.exit), wake: since(P.wake), sched_in: since(P.run), tun_first: since(P.tunFirst), tun_last: since(P.tunLast), tun_count: each((row) => Math.max(0, P.tunCount.data[row])),
    blocked: blocked.finish(), irq: since(P.irq), irq_tid: tidAt(P.irq), halt: since(P.halt), vcpu_wake: since(P.vcpuWake), resume: since(P.resume), vcpu_exit: since(P.vcpuExit), entry: since(P.entry),
    isr_read: since(P.isr), isr_tid: tidAt(P.isr), ack: since(P.ack),
    awake: new BooleanColumn(Uint8Array.from(awake.finish())), merged_into: new NullableColumn(each((row) => (P.merged.data[row] < 0 ? NaN : P.merged.data[row]))),
    whole: new BooleanColumn(whole), why: new DictionaryColumn(whyCodes, WHYS),
  } satisfies Record<keyof typeof virtioKicksColumns, Column<any>>);
}
