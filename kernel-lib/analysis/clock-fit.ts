import type { Trace } from "../trace.js";
import { hostSide, kindsOf } from "./walk.js";

// The arithmetic behind alignClocks. A guest executes nothing, so traces nothing, but while its vCPU is in guest mode: each of its
// events lies between a kvm_entry and the next kvm_exit of that vCPU's host thread. Which offset of the clocks makes that true?

/** When a vCPU's thread was in guest mode, on the host's clock: sorted, apart from each other. */
export interface GuestTime {
  entry: Float64Array;
  exit: Float64Array;
  /** From where to where the recording tells. */
  first: number;
  last: number;
}

/** Guest mode of each vCPU thread: from each kvm_entry to the kvm_exit that follows it on the same thread. */
export function guestTimes(host: Trace): Map<number, GuestTime> {
  const { ts, pid, length, event, side } = host.raw;
  const ENTRY = 1, EXIT = 2, hostCode = hostSide(host);
  const kinds = kindsOf(host, (name) => (name === "kvm_entry" ? ENTRY : name === "kvm_exit" ? EXIT : 0));
  const threads = new Map<number, { entry: number[]; exit: number[]; open: number; first: number; last: number }>();
  for (let i = 0; i < length; i++) {
    const kind = kinds[event.codes[i]];
    if (kind === 0 || (side !== null && side.codes[i] !== hostCode)) continue;
    let thread = threads.get(pid[i]);
    if (!thread) threads.set(pid[i], (thread = { entry: [], exit: [], open: NaN, first: ts[i], last: ts[i] }));
    thread.last = ts[i];
    if (kind === ENTRY) thread.open = ts[i];
    else if (thread.open === thread.open) {
      thread.entry.push(thread.open);
      thread.exit.push(ts[i]);
      thread.open = NaN;
    }
  }
  return new Map([...threads].map(([tid, { entry, exit, first, last }]) => [tid, { entry: Float64Array.from(entry), exit: Float64Array.from(exit), first, last }]));
}

/** Index of the first number of a sorted list that is not less than x. */
export function lowerBound(list: ArrayLike<number>, x: number): number {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Stretches in which nothing is known, on the host's clock: events in them are not judged. */
export interface Blind { from: number; to: number }

/** How many events lie in guest mode, and how many outside; those that the host's recording does not cover are neither. `near` forgives that much at each edge. */
export function inside(events: ArrayLike<number>, time: GuestTime, blind: Blind[], near: number): { inside: number; outside: number } {
  let within = 0, outside = 0;
  for (let i = 0; i < events.length; i++) {
    const t = events[i];
    if (t < time.first || t > time.last) continue;
    const w = lowerBound(time.exit, t - near);
    if (w < time.exit.length && time.entry[w] <= t + near) within++;
    else if (!blind.some(({ from, to }) => t >= from && t <= to)) outside++;
  }
  return { inside: within, outside };
}

/** Width of a step of the coarse search, and how many make a block. Clocks of one guest's CPUs may differ by a block. */
const STEP = 20e3, BLOCK = 50;
/** Most steps there are, and most pairs of event and stretch of guest mode that are looked at per CPU and thread. */
const MOST_STEPS = 8e6, MOST_PAIRS = 4e7;

export interface Coarse { step: number; low: number; blocks: Float64Array }

/** For every block of offsets between low and high, the best score in it: events in guest mode less events out of it. */
export function coarseScores(events: Float64Array, time: GuestTime, low: number, high: number): Coarse {
  const step = Math.max(STEP, (high - low) / MOST_STEPS), steps = Math.ceil((high - low) / step) + 2;
  const change = new Int32Array(steps + 1);
  const every = Math.max(1, Math.ceil((events.length * time.entry.length) / MOST_PAIRS));
  const add = (from: number, to: number, n: number): void => {
    const a = Math.floor((from - low) / step), b = Math.floor((to - low) / step) + 1;
    if (b <= 0 || a >= steps) return;
    change[Math.max(0, a)] += n;
    change[Math.min(steps, b)] -= n;
  };
  for (let i = 0; i < events.length; i += every) {
    const t = events[i];
    add(time.first - t, time.last - t, -1);
    for (let w = lowerBound(time.exit, t + low); w < time.entry.length && time.entry[w] <= t + high; w++) add(time.entry[w] - t, time.exit[w] - t, 2);
  }
  const blocks = new Float64Array(Math.ceil(steps / BLOCK)).fill(-Infinity);
  let score = 0;
  for (let s = 0; s < steps; s++) {
    score += change[s];
    const b = Math.floor(s / BLOCK);
    if (score > blocks[b]) blocks[b] = score;
  }
  return { step, low, blocks: blocks.map((x) => x * every) };
}

/** From where to where the offset may lie so that most events are in guest mode; of several such stretches the one nearest to `near`. */
export function bestBand(events: ArrayLike<number>, time: GuestTime, low: number, high: number, slack: number, near: number): { low: number; high: number; score: number } | null {
  const at: number[] = [], change: number[] = [];
  for (let i = 0; i < events.length; i++) {
    const t = events[i];
    for (let w = lowerBound(time.exit, t + low - slack); w < time.entry.length && time.entry[w] <= t + high + slack; w++) {
      at.push(Math.max(low, time.entry[w] - t - slack), Math.min(high, time.exit[w] - t + slack));
      change.push(1, -1);
    }
  }
  const order = Uint32Array.from(at.keys()).sort((a, b) => at[a] - at[b] || change[b] - change[a]);
  let score = 0, best = 0, from = NaN;
  let bands: { low: number; high: number }[] = [];
  for (const k of order) {
    if (change[k] < 0 && score === best && from === from) {
      bands.push({ low: from, high: at[k] });
      from = NaN;
    }
    score += change[k];
    if (score > best) {
      best = score;
      bands = [];
      from = at[k];
    } else if (score === best && change[k] > 0) from = at[k];
  }
  if (best === 0) return null;
  const away = (band: { low: number; high: number }): number => Math.max(0, band.low - near, near - band.high);
  const band = bands.reduce((a, b) => (away(b) < away(a) ? b : a));
  return { ...band, score: best };
}

/** What one CPU's events say: at this time of the guest the offset is at least or at most so much. */
export interface Bounds { x: number[]; y: number[]; upper: boolean[] }

/** Events of a chunk that is looked at by itself, how far the offset may move from one to the next, and how fast: 500 millionths. */
const CHUNK = 64, WANDER = 100e3, FASTEST = 500e-6;

/**
 * Follows the offset from `start`, chunk by chunk and away from the chunk nearest to `begin`, and collects for each stretch of guest
 * mode what its first and last event say. A chunk is judged by where the offset was before, so that a scale does not lead astray.
 */
export function collectBounds(events: Float64Array, time: GuestTime, start: number, begin: number, at: number, slack: number): Bounds {
  const chunks = Math.max(1, Math.round(events.length / CHUNK));
  const cut = (k: number): number => Math.round((k * events.length) / chunks);
  const middle = (k: number): number => events[(cut(k) + cut(k + 1)) >> 1];
  let first = 0;
  for (let k = 1; k < chunks; k++) if (Math.abs(middle(k) - begin) < Math.abs(middle(first) - begin)) first = k;
  const bounds: Bounds = { x: [], y: [], upper: [] };
  const add = (t: number, bound: number, upper: boolean): void => {
    bounds.x.push(t - at);
    bounds.y.push(bound - t + (upper ? slack : -slack));
    bounds.upper.push(upper);
  };
  const offsets = new Float64Array(chunks);
  for (const direction of [1, -1]) {
    for (let k = direction === 1 ? first : first - 1; k >= 0 && k < chunks; k += direction) {
      const before = k - direction, before2 = k - 2 * direction;
      const known = direction === 1 ? before >= first : true;
      let expected = known ? offsets[before] : start, reach = WANDER;
      if (known) {
        // Where a line through the chunks before leads to, kept within what clocks do.
        const twice = before2 >= 0 && before2 < chunks && (direction === 1 ? before2 >= first : true);
        const speed = twice ? (offsets[before] - offsets[before2]) / (middle(before) - middle(before2) || 1) : 0;
        const moved = middle(k) - middle(before);
        expected += Math.max(-FASTEST, Math.min(FASTEST, speed)) * moved;
        reach += FASTEST * Math.abs(moved);
      }
      const part = events.subarray(cut(k), cut(k + 1));
      const band = bestBand(part, time, expected - reach, expected + reach, slack, expected);
      // Clocks wander slowly: the place in the band that is nearest to where they were.
      const offset = (offsets[k] = band === null ? expected : Math.max(band.low, Math.min(band.high, expected)));
      for (let i = 0, last = -1; i < part.length; i++) {
        const w = windowOf(time, part[i] + offset, slack);
        if (w < 0) continue;
        if (w !== last) add(part[i], time.entry[w], false);
        last = w;
        if (i + 1 === part.length || windowOf(time, part[i + 1] + offset, slack) !== w) add(part[i], time.exit[w], true);
      }
    }
  }
  return bounds;
}

function windowOf(time: GuestTime, t: number, slack: number): number {
  const w = lowerBound(time.exit, t - slack);
  return w < time.exit.length && time.entry[w] <= t + slack ? w : -1;
}

/** The offset's limits by some bounds, for a scale of 1 + e. */
export function limits({ x, y, upper }: Bounds, e: number): { low: number; high: number } {
  let low = -Infinity, high = Infinity;
  for (let i = 0; i < x.length; i++) {
    const o = y[i] - e * x[i];
    if (upper[i]) { if (o < high) high = o; } else if (o > low) low = o;
  }
  return { low, high };
}

/** The bounds without those that break whatever the offset is: the offset is where fewest break, for a scale of 1 + e. */
export function withoutBroken(bounds: Bounds, e: number): Bounds {
  const { x, y, upper } = bounds;
  const order = Uint32Array.from(x.keys()).sort((a, b) => (y[a] - e * x[a]) - (y[b] - e * x[b]) || Number(upper[a]) - Number(upper[b]));
  // Below all bounds every lower one is broken; each one passed mends a lower or breaks an upper.
  let broken = upper.reduce((n, is) => n + (is ? 0 : 1), 0), fewest = broken, place = 0;
  order.forEach((k, i) => {
    broken += upper[k] ? 1 : -1;
    if (broken < fewest) [fewest, place] = [broken, i + 1];
  });
  const kept: Bounds = { x: [], y: [], upper: [] };
  order.forEach((k, i) => {
    if (i < place === upper[k]) return;
    kept.x.push(x[k]);
    kept.y.push(y[k]);
    kept.upper.push(upper[k]);
  });
  return kept;
}

/**
 * Which scales 1 + e all bounds allow, each CPU with an offset of its own: the lines between the hull of the lower bounds and that
 * of the upper ones (the convex hull method of trace synchronization). Null where none does.
 */
export function scaleRange(cpus: Bounds[], most: number): { low: number; high: number; best: number } {
  const room = (e: number): number => cpus.reduce((least, bounds) => { const { low, high } = limits(bounds, e); return Math.min(least, high - low); }, Infinity);
  // The room between the hulls is a concave function of the slope: one highest place, and an end on each side of it.
  let a = -most, b = most;
  for (let i = 0; i < 80; i++) {
    const p = a + (b - a) / 3, q = b - (b - a) / 3;
    if (room(p) < room(q)) a = p; else b = q;
  }
  const best = (a + b) / 2;
  if (room(best) < 0) return { low: NaN, high: NaN, best };
  const edge = (out: number): number => {
    let good = best, bad = out;
    if (room(bad) >= 0) return bad;
    for (let i = 0; i < 60; i++) {
      const middle = (good + bad) / 2;
      if (room(middle) >= 0) good = middle; else bad = middle;
    }
    return good;
  };
  return { low: edge(-most), high: edge(most), best };
}
