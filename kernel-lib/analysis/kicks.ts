import type { ColumnTable } from "arquero";
import { IntBuilder } from "../source/columns.js";
import { needEvents, type Trace } from "../trace.js";
import { ACK, KICK, resolveMachine, STATUS } from "./boards.js";
import { backendOf, guestsOf, needWrites, queueKey, surveyDevices, type VirtioOptions } from "./devices.js";
import { ACCEPT, ENTRY, EXIT, FAST, fastAfter, GSI, kickFields, kickKinds, LINE, MMIO, MSI, PIO, SWITCH, threadFacts, TUN, USERSPACE, VGIC, WAKEUP, WAKING } from "./kick-fields.js";
import { attachTo, detach, newRun, raiseFor, tunCalled, type Run } from "./kick-runs.js";
import { kickTable, LOST, newKicks, OWN, QEMU, settleEntries, VHOST, VIA_FAST, VIA_MMIO, VIA_PIO } from "./kick-table.js";
import { vcpuIdsOf, vcpuOfThreads } from "./vcpus.js";
import { gapsOf, hostSide, Threads } from "./walk.js";

export type VirtioKicksOptions = VirtioOptions;

// What a thread is doing, as far as is known.
const UNKNOWN = 0, RUNNING = 1, READY = 2, ASLEEP = 3;

/**
 * The way of each kick of a virtio queue, one row per notification: vCPU exit → wake of the back end (QEMU's
 * thread or a vhost worker) → back end runs → tun_get_user → interrupt raised → vCPU woken or taken out → kvm_entry →
 * guest reads InterruptStatus → acknowledges. Stages are paired by thread, wake and device, and only within one run
 * of the back end, which ends when it sleeps (but not where QEMU's thread waits for a lock of a vCPU thread): a stage that cannot be told from another packet's is null, and `why` says
 * what is missing. A kick that comes while the back end is awake wakes nobody (`awake`); one that comes before an
 * earlier kick was served is merged into it. No chain is joined across lost events, of whichever CPU.
 *
 * Kicks are writes to QueueNotify of virtio-mmio (kvm_mmio), and to notify addresses and ports of virtio-pci (kvm_fast_mmio, kvm_mmio, kvm_pio); virtioDevices
 * shows which these are and how that is known. With MSI the guest reads no register to learn of an interrupt: the way ends with the entry of the vCPU that
 * takes it (kvm_apic_accept_irq, or the one woken), or with the interrupt where that one was in the guest and stayed there.
 *
 * Needs kvm_exit, kvm_entry, sched_switch, sched_waking and one of these writes; a kprobe on tun_get_user (any name that holds it) and what raises interrupts (kvm_irq_line,
 * vgic_update_irq_pending, kvm_msi_set_irq, kvm_set_irq) fill the middle.
 * @throws MissingEventError when one of the needed events is not in the trace; OptionError for a wrong board or device.
 */
export function virtioKicks(trace: Trace, options: VirtioKicksOptions = {}): ColumnTable {
  needWrites(trace, "virtioKicks");
  needEvents(trace, "virtioKicks", ["kvm_exit", "kvm_entry", "sched_switch", "sched_waking"]);
  const { raw } = trace;
  const { ts, pid, slot, cpu } = raw;
  const eventCodes = raw.event.codes;
  const kinds = kickKinds(trace), hasWakeup = kinds.includes(WAKEUP);
  const side = hostSide(trace), sideCodes = raw.side?.codes ?? null;
  const { prevPid, nextPid, prevState, runnable, wakee, awakened, gpa, mmioType, unsatisfied, lineNum, lineLevel, vgicNum, vgicLevel, vec, gsi, gsiLevel, apicid, apicvId } = kickFields(trace);

  const machine = resolveMachine(trace, options);
  const guestOf = guestsOf(options.vcpus), ids = options.vcpus ? vcpuIdsOf(options.vcpus) : vcpuOfThreads(trace);
  const { queues, accesses } = surveyDevices(trace, machine, guestOf);
  // A device of a guest is known by one number.
  const guests = [...new Set([...queues.values()].map((queue) => queue.guest))];

  // One entry per thread.
  const threads = new Threads([pid, prevPid, nextPid, wakee]);
  const { size } = threads;
  const state = new Uint8Array(size), lastCpu = new Int16Array(size).fill(-1);
  const exitAt = new Int32Array(size).fill(-1), kickOf = new Int32Array(size).fill(-1);
  const outAt = new Int32Array(size).fill(-1), lineAt = new Int32Array(size).fill(-1), openRead = new Float64Array(size).fill(NaN);
  const inQemu = new Uint8Array(size), guestIndex = new Int16Array(size);
  const runs: (Run | null)[] = new Array<Run | null>(size).fill(null);
  /** Runs that woke a thread which raises interrupts, and where. */
  const causes: ({ run: Run; at: number }[] | null)[] = new Array<{ run: Run; at: number }[] | null>(size).fill(null);
  const raised: (number[] | null)[] = new Array<number[] | null>(size).fill(null);
  /** A thread that is woken on its way to sleep is switched out nevertheless, and back in without another waking. */
  const wokenOnCpu = new Uint8Array(size), lateKick = new Int32Array(size).fill(-1);
  /** The run of a thread that sleeps with a kick unserved, and whether it goes on after a wait for a lock. */
  const pausedRuns: (Run | null)[] = new Array<Run | null>(size).fill(null);
  const handedOver = new Uint8Array(size);
  const resuming: (number[] | null)[] = new Array<number[] | null>(size).fill(null);
  /** Run that the kick under way was attached to. */
  const kickRun: (Run | null)[] = new Array<Run | null>(size).fill(null);
  const fastDone = new Int32Array(size).fill(-1);
  const crossings: (IntBuilder | null)[] = new Array<IntBuilder | null>(size).fill(null);
  /** Threads that have something under way, looked through when events are lost. */
  const active = new Set<number>();

  for (const [thread, tid] of threads.tids.entries()) guestIndex[thread] = Math.max(0, guests.indexOf(guestOf(tid)));
  const { isVcpu, injects, callsTun } = threadFacts(trace, kinds, threads, side);
  const vcpuThread = new Map<string, number>();
  for (const [tid, id] of ids) if (threads.of(tid) >= 0) vcpuThread.set(`${guestOf(tid)} ${id}`, threads.of(tid));
  const backEnd = new Uint8Array(size);
  for (const { tid } of queues.values()) if (tid !== null) backEnd[threads.of(tid)] = 1;

  const rows = newKicks(), P = rows.at, { backTid, backCode, device: deviceOf, blocked, awake, usesTun } = rows;
  const positions = Object.values(P);
  const awaitRead: { row: number; irq: number }[][] = Array.from({ length: machine.count * Math.max(1, guests.length) }, () => []);
  const awaitAck: number[][] = awaitRead.map(() => []);

  /** A thread's own run, one that is paused, and those of the back ends that woke it. */
  const openRunsOf = (thread: number): Run[] => [pausedRuns[thread], runs[thread], ...(causes[thread] ?? []).map(({ run }) => run)].filter((run): run is Run => run !== null);
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
    attachTo(rows, row, (runs[thread] ??= newRun()));
    active.add(thread);
  };
  const raise = (thread: number, intid: number, i: number): void => {
    const served: number[] = [], own = runs[thread];
    if (own) raiseFor(rows, machine, own, intid, i, -1, served);
    for (const { run, at } of causes[thread] ?? []) raiseFor(rows, machine, run, intid, i, at, served);
    for (const row of served) awaitRead[deviceOf.data[row]].push({ row, irq: i });
    if (served.length > 0) raised[thread] = served;
  };

  /** A guest's notification, of which event i tells. */
  const kick = (thread: number, i: number, via: number, device: number, queue: number): number => {
    const row = kicks++;
    for (const column of positions) column.grow(kicks);
    P.at.data[row] = i;
    P.exit.data[row] = exitAt[thread];
    const known = queues.get(queueKey(guestOf(pid[i]), device, queue)), tid = known?.tid ?? null;
    rows.queue.push(queue);
    deviceOf.push(guestIndex[thread] * machine.count + device);
    blocked.push(0);
    rows.via.push(via);
    backTid.push(tid ?? NaN);
    backCode.push(tid === null ? -1 : backendOf(known!.comm ?? "") === "vhost" ? VHOST : QEMU);
    const back = tid === null ? -1 : threads.of(tid);
    usesTun.push(queue % 2 === 1 && back >= 0 ? callsTun[back] : 0);
    const isAwake = back >= 0 && (state[back] === RUNNING || state[back] === READY);
    awake.push(isAwake ? 1 : 0);
    if (dark.length > 0) P.why.data[row] = LOST;
    else {
      kickOf[thread] = row;
      if (isAwake) attach(row, back);
      kickRun[thread] = isAwake ? runs[back] : null;
    }
    return row;
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
      case MMIO: case PIO: {
        const access = (kind === MMIO ? accesses.mmio : accesses.pio)!, what = access.what[s];
        if (what === 0) break;
        const device = access.device[s], key = guestIndex[thread] * machine.count + device;
        if (what === KICK) kick(thread, i, kind === MMIO ? VIA_MMIO : VIA_PIO, device, access.queue[s]);
        else if (what === ACK) {
          for (const row of awaitAck[key]) P.ack.data[row] = i;
          awaitAck[key].length = 0;
        } else if (what === STATUS) {
          // A read that leaves to QEMU prints "unsatisfied-read" and later "read": the first is the moment.
          if (kind === MMIO) {
            const leaves = mmioType!.codes[s] === unsatisfied, completes = !leaves && openRead[thread] === gpa![s];
            openRead[thread] = leaves ? gpa![s] : NaN;
            if (completes) break;
          }
          for (const { row, irq } of awaitRead[key].splice(0)) {
            if (P.irq.data[row] !== irq) continue;
            P.isr.data[row] = i;
            awaitAck[key].push(row);
          }
        }
        break;
      }
      case FAST: {
        if (accesses.fast!.what[s] !== KICK || fastDone[thread] === i) break;
        kick(thread, i, VIA_FAST, accesses.fast!.device[s], accesses.fast!.queue[s]);
        kickOf[thread] = -1; // whom it woke, it woke before
        break;
      }
      case WAKING: {
        const target = threads.of(wakee[s]);
        if (target < 0) break;
        if (accesses.fast !== null && kickOf[thread] < 0 && exitAt[thread] >= 0 && backEnd[target] === 1) {
          const j = fastAfter(trace, kinds, accesses.fast, i, side);
          if (j >= 0) {
            fastDone[thread] = j;
            kick(thread, i, VIA_FAST, accesses.fast.device[slot[j]], accesses.fast.queue[slot[j]]);
          }
        }
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
          if (awake.data[row] === 1 && state[target] === READY) detach(rows, row, kickRun[thread]); // it fell asleep between the write and the wake
          if (awake.data[row] === 0) attach(row, target);
          if (state[target] === RUNNING) {
            P.run.data[row] = i; // it is about to sleep and has not left its CPU
            lateKick[target] = row;
          } else (runs[target] ??= newRun()).woken.push(row);
        }
        if (isVcpu[target] === 1) {
          const interrupted = raised[thread];
          if (interrupted) {
            raised[thread] = null;
            for (const served of interrupted) {
              P.vcpuWake.data[served] = i;
              P.woken.data[served] = target;
              P.halt.data[served] = slept ? outAt[target] : -1;
            }
            // A vCPU that was about to sleep and has not left its CPU is woken too, but never switched in.
            if (state[target] === READY) {
              (resuming[target] ??= []).push(...interrupted);
              active.add(target);
            }
          }
        } else if (injects[target] === 1 && isVcpu[thread] === 0) {
          const cause = runs[thread];
          if (cause) (causes[target] ??= []).push({ run: cause, at: i });
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
          const run = runs[out], unserved = run !== null && run.unserved >= 0 && backCode.data[run.unserved] === QEMU && usesTun.data[run.unserved] === 1;
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
                detach(rows, row, run);
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
          const resumed = resuming[into];
          if (resumed) {
            for (const row of resumed) P.resume.data[row] = i;
            resuming[into] = null;
          }
        }
        break;
      }
      case TUN: {
        const run = runs[thread];
        if (!run) break;
        tunCalled(rows, run, i);
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
      case GSI: {
        if (gsiLevel?.[s] !== 1) break;
        raised[thread] = null;
        raise(thread, gsi?.[s] ?? NaN, i);
        lineAt[thread] = i;
        break;
      }
      case MSI: {
        // A GSI that is routed to a message prints both; the message is what the guest gets.
        const routed = lineAt[thread] >= 0 && kinds[eventCodes[lineAt[thread]]] === GSI ? raised[thread] : null;
        for (const row of routed ?? []) P.irq.data[row] = i;
        lineAt[thread] = -1;
        if (routed) break;
        raised[thread] = null;
        raise(thread, vec?.[s] ?? NaN, i);
        break;
      }
      case ACCEPT: {
        const target = vcpuThread.get(`${guestOf(threads.tids[thread])} ${(raw.event.values[eventCodes[i]] === "kvm_apic_accept_irq" ? apicid : apicvId)?.[s]}`);
        if (target !== undefined) for (const row of raised[thread] ?? []) P.accepted.data[row] = target;
        break;
      }
    }
  }
  const underWay = new Set<number>();
  for (const thread of active) for (const run of openRunsOf(thread)) run.waiting.forEach((row) => underWay.add(row));
  for (const list of awaitRead) for (const { row } of list) underWay.add(row);
  for (let thread = 0; thread < size; thread++) if (kickOf[thread] >= 0) underWay.add(kickOf[thread]);

  const walked = { kicks: rows, count: kicks, machine, threads, crossings, underWay, gaps };
  settleEntries(walked, trace);
  return kickTable(walked, trace, ids);
}
