import type { Machine } from "./boards.js";
import { DOUBTFUL, MERGED, QEMU, VHOST, type Kicks } from "./kick-table.js";

/** What a back end does from its waking until it sleeps again: the kicks that it serves. */
export interface Run {
  /** Kicks for which no interrupt was raised yet. */
  waiting: number[];
  /** Kicks that woke it and have not seen it run. */
  woken: number[];
  /** Kick to which a call of tun_get_user belongs; -1 where there is none or it is open to doubt. */
  tun: number;
  /** Oldest transmit kick not served yet, which a further kick is merged into; -1 where there is none. */
  unserved: number;
}
export const newRun = (): Run => ({ waiting: [], woken: [], tun: -1, unserved: -1 });

/** A kick comes in a run: of its own, or merged into an earlier one that is not served yet. */
export function attachTo({ at: P, queue, backCode, awake }: Kicks, row: number, run: Run): void {
  const transmits = queue.data[row] % 2 === 1;
  if (!transmits) {
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
}

/** Takes a kick back out of the run that it was thought to have come in. */
export function detach({ at: P, awake }: Kicks, row: number, run: Run | null): void {
  if (run) run.waiting = run.waiting.filter((other) => other !== row);
  const earlier = P.merged.data[row];
  if (earlier >= 0) {
    P.merged.data[row] = P.why.data[row] = -1;
    if (P.why.data[earlier] === DOUBTFUL) P.why.data[earlier] = -1;
  }
  awake.data[row] = 0;
}

/** Event i: the back end calls tun_get_user in a run. */
export function tunCalled({ at: P }: Kicks, run: Run, i: number): void {
  const row = run.tun;
  run.unserved = -1;
  if (row < 0) return;
  if (P.tunCount.data[row] <= 0) {
    P.tunCount.data[row] = 0;
    P.tunFirst.data[row] = i;
    if (P.irq.data[row] >= 0) {
      // What was raised before the packet went out was for another one.
      for (const stage of [P.irq, P.irqWake, P.accepted, P.vcpuWake, P.woken, P.halt, P.resume, P.isr, P.ack]) stage.data[row] = -1;
      run.waiting.push(row);
    }
  }
  P.tunLast.data[row] = i;
  P.tunCount.data[row]++;
}

/** Event i: the interrupt of a device is raised by a thread, for the kicks of a run (its own, or one that woke it at wokenAt); adds those that it is for to served. */
export function raiseFor({ at: P, device, queue, backCode, usesTun }: Kicks, machine: Machine, run: Run, intid: number, i: number, wokenAt: number, served: number[]): void {
  if (run.waiting.length === 0) return;
  run.waiting = run.waiting.filter((row) => {
    const own = machine.intid(device.data[row] % machine.count, queue.data[row]);
    if (own !== intid && !Number.isNaN(own)) return true;
    // QEMU raises it for a packet after it passed the packet on; before that, it is for one received.
    if (backCode.data[row] === QEMU && usesTun.data[row] === 1 && P.tunCount.data[row] <= 0) return true;
    if (P.irq.data[row] >= 0) return false;
    P.irq.data[row] = i;
    P.irqWake.data[row] = wokenAt;
    served.push(row);
    return false;
  });
}
