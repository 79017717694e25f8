import type { Trace } from "../trace.js";
import { firstAt, hostSide, kindsOf, numbersOf, wordsOf } from "./walk.js";

/** What a guest's CPU did, by its own events: a function with both its ends, or a point. */
export interface GuestFunction { start: number; end: number | null; label: string }

/** Events that begin and end a stretch, and what tells two of them apart. */
const PAIRS: [begin: string, end: string, by: string | null][] = [
  ["irq_handler_entry", "irq_handler_exit", "irq"], ["softirq_entry", "softirq_exit", "vec"], ["net_dev_start_xmit", "net_dev_xmit", "skbaddr"],
  ["napi_gro_receive_entry", "napi_gro_receive_exit", null], ["tasklet_entry", "tasklet_exit", "tasklet"], ["hrtimer_expire_entry", "hrtimer_expire_exit", "hrtimer"],
  ["timer_expire_entry", "timer_expire_exit", "timer"],
];
const POINTS = ["netif_receive_skb"];
/** How far back a stretch that is under way may have begun. */
const BEFORE = 20e6;

/** Functions and events of one CPU of the guest within a time, cut to it, in the order in which they begin; null for `end` is a point. */
export function guestFunctions(trace: Trace, cpu: number, begin: number, finish: number): GuestFunction[] {
  const { ts, event, slot, side, length, cpu: cpus } = trace.raw, host = hostSide(trace);
  const BEGIN = 1, END = 1 + PAIRS.length, POINT = END + PAIRS.length;
  const kinds = kindsOf(trace, (name) => {
    const p = PAIRS.findIndex(([a, b]) => a === name || b === name);
    return p >= 0 ? (PAIRS[p][0] === name ? BEGIN : END) + p : POINTS.includes(name) ? POINT + POINTS.indexOf(name) : 0;
  });
  const keys = PAIRS.flatMap(([a, b, by]) => [[a, by], [b, by]]).map(([name, by]) => (by === null ? null : wordsOf(trace, name!, by)));
  const names = {
    irq: wordsOf(trace, "irq_handler_entry", "name"), number: numbersOf(trace, "irq_handler_entry", "irq"), action: wordsOf(trace, "softirq_entry", "action"),
    dev: wordsOf(trace, "net_dev_start_xmit", "dev"), len: numbersOf(trace, "net_dev_start_xmit", "len"),
    tasklet: wordsOf(trace, "tasklet_entry", "function"), hrtimer: wordsOf(trace, "hrtimer_expire_entry", "function"), timer: wordsOf(trace, "timer_expire_entry", "function"),
  };
  const label = (p: number, s: number): string => [
    () => `irq ${names.number?.[s]} ${names.irq?.at(s) ?? ""}`, () => `softirq ${names.action?.at(s) ?? ""}`, () => `xmit ${names.dev?.at(s) ?? ""}${names.len ? ` ${names.len[s]} bytes` : ""}`,
    () => "gro_receive", () => names.tasklet?.at(s) ?? "tasklet", () => names.hrtimer?.at(s)?.replace(/\/0x.*/, "") ?? "hrtimer", () => names.timer?.at(s) ?? "timer",
  ][p]();

  const found: GuestFunction[] = [], open: { p: number; key: string | null; start: number; label: string }[] = [];
  for (let i = firstAt(ts, length, begin - BEFORE); i < length && ts[i] <= finish; i++) {
    const kind = kinds[event.codes[i]];
    if (kind === 0 || cpus[i] !== cpu || side!.codes[i] === host) continue;
    const s = slot[i], now = ts[i];
    if (kind >= POINT) {
      if (now >= begin) found.push({ start: now, end: null, label: POINTS[kind - POINT] });
    } else if (kind < END) {
      const p = kind - BEGIN;
      open.push({ p, key: keys[2 * p]?.at(s) ?? null, start: now, label: label(p, s) });
    } else {
      const p = kind - END, key = keys[2 * p + 1]?.at(s) ?? null;
      const at = open.findLastIndex((one) => one.p === p && one.key === key);
      if (at < 0) continue;
      const [done] = open.splice(at, 1);
      if (now > begin) found.push({ start: Math.max(begin, done.start), end: now, label: done.label });
    }
  }
  // What had not ended goes on beyond the end.
  for (const { start, label } of open) found.push({ start: Math.max(begin, start), end: finish, label });
  return found.sort((a, b) => a.start - b.start || (b.end ?? b.start) - (a.end ?? a.start));
}
