// The first line of a sample in perf script's output, up to its event: comm, pid and tid, CPU, misc letters, time, period. See perf-script.ts.
import { Dictionary } from "../source/builders.js";

/** Stands for "not printed" in the Int32Arrays of a profile, since -1 is a pid that perf prints. */
export const NO_NUMBER = -0x80000000;

const BLANK = 32, MINUS = 45, DOT = 46, SLASH = 47, ZERO = 48, NINE = 57, COLON = 58, OPEN = 91, CLOSE = 93;
const NOT_KEPT = -2;

/** Reads one line after the other; the fields say what the last one held. */
export class Head {
  timed = false;
  /** ns; NaN where there is no time. */
  ts = NaN;
  cpu = NO_NUMBER;
  pid = NO_NUMBER;
  tid = NO_NUMBER;
  /** Code in `comms`; -1 where there is none. */
  comm = -1;
  period = NaN;
  vm = NO_NUMBER;
  vcpu = NO_NUMBER;
  /** Misc letters; none where they end as they begin. */
  miscStart = 0;
  miscEnd = 0;
  /** Where the event begins. */
  rest = 0;
  readonly comms = new Dictionary();

  /** What stands before the time is read once per thread and CPU. Of each such text: cpu, pid, tid, comm; NOT_KEPT as comm where it holds more than these. */
  private readonly beginnings = new Dictionary();
  private kept = new Int32Array(256).fill(NOT_KEPT);

  /** False where the line is not the first of a sample. `bytes[start, end)` is the line without blanks around it. */
  read(bytes: Buffer, start: number, end: number): boolean {
    // The time is the anchor: comm may hold blanks, colons and numbers, but no "123.123456: ".
    let colon = start, timeStart = -1;
    for (; colon < end; colon++) {
      if (bytes[colon] !== COLON || (colon + 1 < end && bytes[colon + 1] !== BLANK)) continue;
      timeStart = startOfTime(bytes, start, colon);
      if (timeStart >= 0) break;
    }
    this.timed = timeStart >= 0;
    this.ts = this.period = NaN;
    this.vm = this.vcpu = NO_NUMBER;
    this.miscStart = this.miscEnd = 0;
    if (!this.timed) return this.readUntimed(bytes, start, end);

    const place = 4 * this.beginnings.intern(bytes, start, timeStart), { kept } = this;
    if (place < kept.length && kept[place + 3] !== NOT_KEPT) {
      this.cpu = kept[place];
      this.pid = kept[place + 1];
      this.tid = kept[place + 2];
      this.comm = kept[place + 3];
    } else {
      if (!this.readBeginning(bytes, start, skipBack(bytes, start, timeStart))) return false;
      if (this.vm === NO_NUMBER && this.miscStart === this.miscEnd) this.keep(place);
    }
    this.ts = time(bytes, timeStart, colon);
    const at = skip(bytes, colon + 1, end), numberEnd = endOfWord(bytes, at, end);
    this.rest = at;
    if (numberEnd < end && isNumber(bytes, at, numberEnd)) {
      this.period = number(bytes, at, numberEnd);
      this.rest = skip(bytes, numberEnd, end);
    }
    return true;
  }

  private keep(place: number): void {
    if (place >= this.kept.length) {
      const more = new Int32Array(2 * place).fill(NOT_KEPT);
      more.set(this.kept);
      this.kept = more;
    }
    this.kept[place] = this.cpu;
    this.kept[place + 1] = this.pid;
    this.kept[place + 2] = this.tid;
    this.kept[place + 3] = this.comm;
  }

  /** -F without time: the event, at the end of the line, is the anchor, and only without payload. */
  private readUntimed(bytes: Buffer, start: number, end: number): boolean {
    if (end === start || bytes[end - 1] !== COLON) return false;
    this.rest = startOfWord(bytes, start, end);
    let at = skipBack(bytes, start, this.rest);
    const word = startOfWord(bytes, start, at);
    if (isNumber(bytes, word, at)) {
      // "node 31912 cpu-clock:" has no period, "node 31912 250000 cpu-clock:" and "node 31912 [001] 250000 cpu-clock:" do
      const before = skipBack(bytes, start, word);
      if (before > start && (bytes[before - 1] === CLOSE || isNumber(bytes, startOfWord(bytes, start, before), before))) {
        this.period = number(bytes, word, at);
        at = before;
      }
    }
    return this.readBeginning(bytes, start, at);
  }

  /** Backwards from `at`: misc letters, [cpu], pid or pid/tid, comm. */
  private readBeginning(bytes: Buffer, start: number, at: number): boolean {
    let word = startOfWord(bytes, start, at);
    if (word < at && isMisc(bytes, word, at)) {
      this.miscStart = word;
      this.miscEnd = at;
      at = skipBack(bytes, start, word);
      word = startOfWord(bytes, start, at);
    }
    this.cpu = this.pid = this.tid = NO_NUMBER;
    if (at - word > 2 && bytes[word] === OPEN && bytes[at - 1] === CLOSE && isId(bytes, word + 1, at - 1)) {
      this.cpu = number(bytes, word + 1, at - 1);
      at = skipBack(bytes, start, word);
      word = startOfWord(bytes, start, at);
    }
    if (word < at) {
      let slash = word;
      while (slash < at && bytes[slash] !== SLASH) slash++;
      if (slash < at) {
        if (!isId(bytes, word, slash) || !isId(bytes, slash + 1, at)) return false;
        this.pid = number(bytes, word, slash);
        this.tid = number(bytes, slash + 1, at);
      } else {
        if (!isId(bytes, word, at)) return false;
        this.tid = number(bytes, word, at);
      }
      at = skipBack(bytes, start, word);
    } else if (!this.timed) {
      return false;
    }
    let commStart = start;
    if (at - start > 3 && bytes[start] === 86 && bytes[start + 1] === 77 && bytes[start + 2] === COLON) {
      const prefix = /^VM: *(\d{1,9}) +(?:VCPU:(\d{1,9}) *)?/.exec(bytes.toString("latin1", start, at));
      if (prefix) {
        commStart += prefix[0].length;
        this.vm = Number(prefix[1]);
        if (prefix[2] !== undefined) this.vcpu = Number(prefix[2]);
      }
    }
    this.comm = commStart < at ? this.comms.intern(bytes, commStart, at) : -1;
    return true;
  }
}

const isDigit = (byte: number) => byte >= ZERO && byte <= NINE;

/** Where "123.123456" or "123.123456789" begins that ends at a colon; -1 where something else does. */
function startOfTime(bytes: Buffer, start: number, colon: number): number {
  let at = colon - 1;
  while (at >= start && isDigit(bytes[at])) at--;
  const decimals = colon - 1 - at;
  if (at < start || bytes[at] !== DOT || (decimals !== 6 && decimals !== 9)) return -1;
  const dot = at--;
  while (at >= start && isDigit(bytes[at])) at--;
  return at === dot - 1 || (at >= start && bytes[at] !== BLANK) ? -1 : at + 1;
}

/** ns. Whole seconds and the fraction apart, since their sum in seconds would lose digits. */
function time(bytes: Buffer, start: number, colon: number): number {
  let seconds = 0, fraction = 0, at = start;
  for (; bytes[at] !== DOT; at++) seconds = seconds * 10 + bytes[at] - ZERO;
  const decimals = colon - at - 1;
  for (at++; at < colon; at++) fraction = fraction * 10 + bytes[at] - ZERO;
  return seconds * 1e9 + (decimals === 6 ? fraction * 1000 : fraction);
}

/** A pid or a CPU, that a column holds. Damaged text has longer ones. */
function isId(bytes: Buffer, start: number, end: number): boolean {
  return end - start < 12 && isNumber(bytes, start, end) && Math.abs(number(bytes, start, end)) < 0x80000000;
}

function isNumber(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === MINUS) start++; // perf prints -1 for a pid that it does not know
  if (start >= end) return false;
  for (let i = start; i < end; i++) if (!isDigit(bytes[i])) return false;
  return true;
}

function number(bytes: Buffer, start: number, end: number): number {
  const negative = bytes[start] === MINUS;
  let x = 0;
  for (let i = negative ? start + 1 : start; i < end; i++) x = x * 10 + bytes[i] - ZERO;
  return negative ? -x : x;
}

const MISC_LETTERS = new Set(Buffer.from("KUHGgMESp"));
function isMisc(bytes: Buffer, start: number, end: number): boolean {
  if (end - start > 6) return false;
  for (let i = start; i < end; i++) if (!MISC_LETTERS.has(bytes[i])) return false;
  return true;
}

export function skip(bytes: Buffer, at: number, end: number): number {
  while (at < end && bytes[at] === BLANK) at++;
  return at;
}
function skipBack(bytes: Buffer, start: number, at: number): number {
  while (at > start && bytes[at - 1] === BLANK) at--;
  return at;
}
function startOfWord(bytes: Buffer, start: number, at: number): number {
  while (at > start && bytes[at - 1] !== BLANK) at--;
  return at;
}
export function endOfWord(bytes: Buffer, at: number, end: number): number {
  while (at < end && bytes[at] !== BLANK) at++;
  return at;
}
export function startsWith(bytes: Buffer, start: number, end: number, word: string): boolean {
  if (end - start < word.length) return false;
  for (let i = 0; i < word.length; i++) if (bytes[start + i] !== word.charCodeAt(i)) return false;
  return true;
}
