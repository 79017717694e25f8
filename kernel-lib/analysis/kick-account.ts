import type { ColumnTable } from "arquero";
import { tableOf, type Columns } from "../source/columns.js";
import { columnReader } from "./walk.js";

export const kickAccountColumns = {
  run: { type: "string", unit: null, meaning: "Name of the run.", null: "the kicks have no run column" },
  backend: { type: "string", unit: null, meaning: "Who handles the queue: qemu or vhost.", null: "not known" },
  kicks: { type: "number", unit: "count", meaning: "Rows of virtioKicks, one per notification." },
  whole: { type: "number", unit: "count", meaning: "Whole chains." },
  awake: { type: "number", unit: "count", meaning: "Kicks that found the back end awake: it was not woken for them." },
  merged: { type: "number", unit: "count", meaning: "Kicks that came before an earlier one was served, and are served with it." },
  interrupts: { type: "number", unit: "count", meaning: "Interrupts raised for kicks, each counted once." },
  shared: { type: "number", unit: "count", meaning: "Kicks whose interrupt serves an earlier one too (merged interrupts)." },
  packets: { type: "number", unit: "count", meaning: "Calls of tun_get_user that belong to kicks." },
  without_kick: { type: "number", unit: "count", meaning: "Those of them that follow the first one of a kick and are for no merged kick: the back end took the packets without being notified (notifications suppressed)." },
  why: { type: "string", unit: null, meaning: "How many chains are not whole, and why.", null: "all are whole" },
} as const satisfies Columns;

/**
 * How the kicks of each run (where there is a `run` column) and back end add up: whole, merged, with a back end that was awake, with a shared interrupt, and why chains are not whole.
 * kicks = whole + the numbers in why.
 * @param kicks a table from virtioKicks, filtered or stacked as you like.
 */
export function kickAccount(kicks: ColumnTable): ColumnTable {
  interface Account { run: string | null; backend: string | null; kicks: number; whole: number; awake: number; merged: number; raised: Set<number>; shared: number; packets: number; without_kick: number; whys: Map<string, number> }
  const accounts = new Map<string, Account>();
  const [run, backend, ts, whole, awake, merged, irq, calls, why] = ["run", "backend", "ts", "whole", "awake", "merged_into", "irq", "tun_count", "why"].map(columnReader(kicks));
  kicks.scan((row) => {
    const group = { run: run(row!) as string | null, backend: backend(row!) as string | null }, key = JSON.stringify(group);
    const account = accounts.get(key) ?? accounts.set(key, { ...group, kicks: 0, whole: 0, awake: 0, merged: 0, raised: new Set(), shared: 0, packets: 0, without_kick: 0, whys: new Map() }).get(key)!;
    account.kicks++;
    if (whole(row!) === true) account.whole++;
    if (awake(row!) === true) account.awake++;
    if (merged(row!) !== null) account.merged++;
    const raised = irq(row!) as number | null, n = calls(row!) as number, text = why(row!) as string | null;
    if (raised !== null) {
      const at = (ts(row!) as number) + raised;
      if (account.raised.has(at)) account.shared++;
      account.raised.add(at);
    }
    account.packets += n;
    account.without_kick += Math.max(0, n - 1);
    if (text !== null) account.whys.set(text, (account.whys.get(text) ?? 0) + 1);
  });
  return tableOf(kickAccountColumns, [...accounts.values()].map(({ raised, whys, ...account }) => ({
    ...account, interrupts: raised.size, without_kick: Math.max(0, account.without_kick - account.merged),
    why: whys.size === 0 ? null : [...whys].sort((a, b) => b[1] - a[1]).map(([text, n]) => `${n} × ${text}`).join(", "),
  })));
}
