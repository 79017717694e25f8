import type { Packet } from "./packets.js";

interface PairOptions {
  /** Packets up to so many bytes do not pass tun_get_user; null: to be inferred. */
  bypass: number | null;
  slack: number;
  /** Where the host's recorder was blind, and from where to where it recorded. */
  lost: { from: number; to: number }[];
  first: number;
  last: number;
}

/**
 * Pairs the packets of a queue with the calls of tun_get_user of the thread that serves it: the oldest packet not yet passed on with
 * the next call. vhost passes on without tun_get_user what fits into a page with its headers, so its threshold is found first: the
 * length with which fewest packets and calls are left over. Lost events of the host end what was under way.
 */
export function pairInOrder(packets: Packet[], calls: number[], options: PairOptions): void {
  const lengths = [...new Set(packets.map(({ len }) => len ?? Infinity))].sort((a, b) => a - b);
  let bypass = options.bypass;
  if (bypass === null) {
    let least = Infinity;
    for (const candidate of [0, ...lengths.filter((len) => len <= MOST_BYPASS)]) {
      const { left } = match(packets, calls, candidate, options);
      if (left < least) [least, bypass] = [left, candidate];
    }
  }
  const { calls: found, why } = match(packets, calls, bypass ?? 0, options);
  packets.forEach((packet, k) => {
    packet.tun = found[k];
    packet.why = why[k];
  });
}

/** No threshold is higher: vhost copies at most a page, which has up to 64 KiB. */
const MOST_BYPASS = 65536;

/** `left`: how many packets and calls have no partner, though the recording covers them. */
function match(packets: Packet[], calls: number[], bypass: number, { slack, lost, first, last }: PairOptions): { calls: (number | null)[]; why: (string | null)[]; left: number } {
  const found = new Array<number | null>(packets.length).fill(null), why = new Array<string | null>(packets.length).fill(null);
  const waits: number[] = [];
  packets.forEach(({ ts, len }, k) => {
    if (len !== null && len <= bypass) why[k] = `small: up to ${bypass.toLocaleString("en-US")} bytes vhost sends without tun_get_user`;
    else if (ts < first - slack || ts > last) why[k] = "the host's recording does not cover it";
    else if (lost.some(({ from, to }) => ts >= from && ts <= to)) why[k] = "lost events";
    else waits.push(k);
  });
  let left = 0, next = 0, gap = 0;
  const gaps = [...lost].sort((a, b) => a.to - b.to);
  for (const call of calls) {
    // What was under way when the recorder went blind may have been passed on unseen.
    for (; gap < gaps.length && gaps[gap].to <= call; gap++) for (; next < waits.length && packets[waits[next]].ts <= gaps[gap].to; next++) why[waits[next]] = "lost events";
    const k = waits[next];
    if (k === undefined || packets[k].ts > call + slack) {
      left++;
      continue;
    }
    found[k] = call;
    next++;
  }
  for (; next < waits.length; next++) {
    why[waits[next]] = lost.some(({ to }) => to >= packets[waits[next]].ts) ? "lost events" : "no tun_get_user after it";
    left++;
  }
  return { calls: found, why, left };
}
