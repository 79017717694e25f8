import { Dictionary } from "../source/columns.js";
import { startsWith } from "./event-layout.js";
import { Recent } from "./recent.js";

//      trace.dat:  qemu-system-aar-696   [001] d....   667.657586: (+329)   kvm_exit:   <CANT FIND FIELD exit_reason>TRAP: …
//      └ side     └ comm           └ pid └ cpu └ flags └ time      └ --ts-diff └ event  └ what a tool complains of, then the info

const SPACE = 32, TAB = 9, HASH = 35, COLON = 58, LBRACKET = 91, RBRACKET = 93, LPAREN = 40, RPAREN = 41, PLUS = 43, DOT = 46, DASH = 45, SLASH = 47, ZERO = 48, NINE = 57;
const isDigit = (c: number) => c >= ZERO && c <= NINE;
const isBlank = (c: number) => c === SPACE || c === TAB;
/** ns per unit of the last of that many decimals. */
const FRACTION = [1e9, 1e8, 1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 10, 1];
// Damaged lines stay cheap: nothing below looks further than what a tool prints, however often a line seems to begin anew.
const LONGEST_FLAGS = 16, LONGEST_TGID = 12, LONGEST_DIFF = 32, MOST_PID = 0x7fffffff, MOST_SIDES = 100;
/** What `tgid` says where there is no such column, and where it reads "(-----)". */
export const NO_TGID = -2, TGID_UNKNOWN = -1;

/** What libtraceevent puts where a plugin found no field, before the text that the kernel's own format gives. */
const NOISE = [
  { text: Buffer.from("<CANT FIND FIELD "), close: 62 /* > */ },
  { text: Buffer.from("CAN'T FIND FIELD \""), close: 34 /* " */ },
  { text: Buffer.from("[FAILED TO PARSE"), close: RBRACKET },
];

const CPUS = 16, EVENTS = 256;

/** Reads a line of an event up to the event's info. What it read stands in its properties until the next line. */
export class LineReader {
  /** ns; not a plain property, which would be allocated anew for each line. */
  readonly ts = new Float64Array(1);
  cpu = 0;
  pid = 0;
  comm = 0;
  event = 0;
  /** -1 where the line names none. */
  side = -1;
  tgid = NO_TGID;
  /** Empty where there are none. */
  flagStart = 0;
  flagEnd = 0;
  /** Where the line begins, behind blanks and the side; known for lines that are no events. */
  lineStart = 0;
  /** Where the info begins, and where it goes on behind what a tool complains of. */
  info = 0;
  at = 0;
  readonly comms = new Dictionary();
  readonly events = new Dictionary();
  /** Names of the files of a merged report, from their "NAME: cpus=4" lines. */
  private readonly sides: Buffer[] = [];

  private commStart = 0;
  private commEnd = 0;
  private cpuEnd = 0;

  private readonly heads = new Recent(CPUS);
  private readonly headComm = new Int32Array(CPUS);
  private readonly headPid = new Int32Array(CPUS);
  private readonly headCpu = new Int32Array(CPUS);
  private readonly headTgid = new Int32Array(CPUS);
  private readonly headSide = new Int32Array(CPUS);
  /** Length of the last line's head. */
  private headLength = 0;

  private readonly names = new Recent(EVENTS);
  private readonly nameCode = new Int32Array(EVENTS);
  private readonly nameInfo = new Int32Array(EVENTS);

  // The last time's blanks and whole seconds: their first and last four bytes, how many bytes they are, and ns.
  private secondsFirst = 0;
  private secondsLast = 0;
  private secondsLength = 0;
  private readonly seconds = new Float64Array(1);

  get sideNames(): string[] { return this.sides.map((name) => name.toString()); }

  /** Its number; -1 where there are too many. */
  addSide(name: Buffer): number {
    const known = this.sides.findIndex((s) => s.equals(name));
    if (known >= 0 || this.sides.length === MOST_SIDES) return known;
    this.heads.forget();
    return this.sides.push(name) - 1;
  }

  /** Whether `b[start, end)` is an event. */
  read(b: Buffer, view: DataView, start: number, end: number): boolean {
    if (this.recentHead(b, view, start, end)) return true;
    let from = start;
    while (from < end && isBlank(b[from])) from++;
    this.side = -1;
    if (this.sides.length > 0) from = this.afterSide(b, from, end);
    this.lineStart = from;
    if (b[from] === HASH || !this.head(b, view, from, end)) return false;
    this.comm = this.comms.intern(b, this.commStart, this.commEnd);
    this.keepHead(b, view, start);
    return true;
  }

  /** A line that begins as a recent one has that one's thread and CPU. */
  private recentHead(b: Buffer, view: DataView, start: number, end: number): boolean {
    const n = this.headLength, last = start + n - 1;
    if (n === 0 || last >= end || b[last] !== RBRACKET) return false;
    const r = b[last - 1] & (CPUS - 1);
    if (this.heads.length[r] !== n || !this.heads.matches(r, view, start, end)) return false;
    if (!this.timeAndEvent(b, view, start + n, end)) return false;
    this.comm = this.headComm[r];
    this.pid = this.headPid[r];
    this.cpu = this.headCpu[r];
    this.tgid = this.headTgid[r];
    this.side = this.headSide[r];
    return true;
  }

  private keepHead(b: Buffer, view: DataView, start: number): void {
    if (this.cpuEnd === 0) return;
    const n = this.cpuEnd - start, r = b[this.cpuEnd - 2] & (CPUS - 1);
    if (!this.heads.keep(r, view, start, n)) return;
    this.headLength = n;
    this.headComm[r] = this.comm;
    this.headPid[r] = this.pid;
    this.headCpu[r] = this.cpu;
    this.headTgid[r] = this.tgid;
    this.headSide[r] = this.side;
  }

  private head(b: Buffer, view: DataView, start: number, end: number): boolean {
    for (let i = start; i < end; i++) {
      if (b[i] !== LBRACKET || b[i - 1] !== SPACE) continue;
      const after = this.bracketedCpu(b, i, end);
      if (after > 0 && this.thread(b, start, i) && this.timeAndEvent(b, view, after, end)) {
        this.cpuEnd = after;
        return true;
      }
    }
    this.cpuEnd = 0;
    return this.latencyHead(b, view, start, end);
  }

  /** Skips `   trace-guest.dat: `, the name of the file of a merged report. */
  private afterSide(b: Buffer, i: number, end: number): number {
    for (let s = 0; s < this.sides.length; s++) {
      const name = this.sides[s], colon = i + name.length;
      if (colon >= end || b[colon] !== COLON || b.compare(name, 0, name.length, i, colon) !== 0) continue;
      this.side = s;
      i = colon + 1;
      while (i < end && isBlank(b[i])) i++;
      break;
    }
    return i;
  }

  /** `[001]` at i → reads cpu; where it ends, 0 if it is something else in brackets. */
  private bracketedCpu(b: Buffer, i: number, end: number): number {
    let n = 0, j = i + 1;
    for (; j < end && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
    if (j === i + 1 || j >= end || b[j] !== RBRACKET || j - i > 5) return 0;
    this.cpu = n;
    return j + 1;
  }

  /** `comm-123`, or perf's `comm  123`, that ends at `end`, with the kernel's TGID column behind it or not. */
  private thread(b: Buffer, start: number, end: number): boolean {
    while (end > start && b[end - 1] === SPACE) end--;
    this.tgid = NO_TGID;
    if (b[end - 1] === RPAREN) { // "(  123)" or "(-----)"
      let open = end - 2, n = 0, scale = 1, digits = 0;
      for (; open > start && b[open] !== LPAREN && end - open < LONGEST_TGID; open--) if (isDigit(b[open])) { n += (b[open] - ZERO) * scale; scale *= 10; digits++; }
      if (b[open] !== LPAREN) return false;
      this.tgid = digits > 0 ? n : TGID_UNKNOWN;
      end = open;
      while (end > start && b[end - 1] === SPACE) end--;
    }
    let i = end, n = 0, scale = 1;
    while (i > start && isDigit(b[i - 1])) { n += (b[--i] - ZERO) * scale; scale *= 10; }
    if (i === end || i === start || end - i > 10 || n > MOST_PID) return false;
    this.pid = n;
    this.commStart = start;
    if (b[i - 1] === DASH && i - 1 > start && b[i - 2] !== SPACE) { this.commEnd = i - 1; return true; }
    if (b[i - 1] === DASH && b[i - 2] === SPACE) { this.pid = -n; i--; } // perf: ":-1    -1"
    if (b[i - 1] === SLASH) { // perf's pid/tid
      i--;
      while (i > start && isDigit(b[i - 1])) i--;
    }
    if (b[i - 1] !== SPACE) return false;
    while (i > start && b[i - 1] === SPACE) i--;
    this.commEnd = i;
    return this.commEnd > start;
  }

  /** trace-cmd report -l: `trace-cm-762     0d.h..   667.528273: event`, the CPU glued to the flags. */
  private latencyHead(b: Buffer, view: DataView, start: number, end: number): boolean {
    for (let colon = start; colon < end; colon++) {
      if (b[colon] !== COLON || !isDigit(b[colon - 1])) continue;
      let i = colon;
      while (i > start && (isDigit(b[i - 1]) || b[i - 1] === DOT)) i--;
      if (i === start || b[i - 1] !== SPACE) continue;
      const time = i;
      while (i > start && b[i - 1] === SPACE) i--;
      const flagsEnd = i;
      while (i > start && b[i - 1] !== SPACE) i--;
      let n = 0, j = i;
      for (; j < flagsEnd && isDigit(b[j]); j++) n = n * 10 + b[j] - ZERO;
      if (j === i || j === flagsEnd || j - i > 4 || flagsEnd - j > LONGEST_FLAGS) return false;
      this.cpu = n;
      if (!this.thread(b, start, i) || !this.timeAndEvent(b, view, time, end)) return false;
      this.flagStart = j;
      this.flagEnd = flagsEnd;
      return true;
    }
    return false;
  }

  /** Optional flags, the time, and what follows. */
  private timeAndEvent(b: Buffer, view: DataView, at: number, end: number): boolean {
    this.flagEnd = this.flagStart = 0;
    const point = at + this.secondsLength;
    if (this.secondsLength > 0 && point + 8 < end && b[point] === DOT && view.getInt32(at, true) === this.secondsFirst && view.getInt32(point - 4, true) === this.secondsLast) {
      // The same second as in the last line, and four digits at once.
      const four = view.getInt32(point + 1, true);
      if ((four & 0xf0f0f0f0) === 0x30303030 && ((four + 0x06060606) & 0xf0f0f0f0) === 0x30303030) {
        const pairs = ((four & 0x0f0f0f0f) * 10 + ((four >>> 8) & 0x0f0f0f)) & 0x00ff00ff;
        let fraction = (pairs & 0xff) * 100 + (pairs >>> 16), digits = 4, i = point + 5, c = b[i];
        for (; c >= ZERO && c <= NINE && digits < 9; c = b[++i], digits++) fraction = fraction * 10 + c - ZERO;
        if (c === COLON) {
          this.ts[0] = this.seconds[0] + fraction * FRACTION[digits];
          return this.eventAndInfo(b, view, i + 1, end);
        }
      }
    }
    let i = at;
    for (;;) {
      while (i < end && b[i] === SPACE) i++;
      const word = i;
      let whole = 0, c = b[i];
      for (; i < end && c >= ZERO && c <= NINE; c = b[++i]) whole = whole * 10 + (c - ZERO);
      if (i > word && c === DOT) {
        const length = i - at;
        let fraction = 0, digits = 0;
        for (c = b[++i]; i < end && c >= ZERO && c <= NINE && digits < 9; c = b[++i], digits++) fraction = fraction * 10 + c - ZERO;
        if (c === COLON && digits > 0) {
          this.ts[0] = whole * 1e9 + fraction * FRACTION[digits];
          if (this.flagEnd === 0 && length >= 4 && length <= 8) {
            this.secondsLength = length;
            this.secondsFirst = view.getInt32(at, true);
            this.secondsLast = view.getInt32(at + length - 4, true);
            this.seconds[0] = whole * 1e9;
          }
          return this.eventAndInfo(b, view, i + 1, end);
        }
      } else if (i > word && c === COLON) {
        this.ts[0] = whole;
        return this.eventAndInfo(b, view, i + 1, end);
      }
      // Not a time: the latency field, which stands before it.
      if (this.flagEnd > 0) return false;
      i = word;
      while (i < end && b[i] !== SPACE) i++;
      if (i === word || i > word + LONGEST_FLAGS) return false;
      this.flagStart = word;
      this.flagEnd = i;
    }
  }

  /** `(+N)` or not, the event's name, what a tool complains of. */
  private eventAndInfo(b: Buffer, view: DataView, i: number, end: number): boolean {
    while (i < end && b[i] === SPACE) i++;
    if (b[i] === LPAREN && b[i + 1] === PLUS) { // (+486)
      const stop = Math.min(end, i + LONGEST_DIFF);
      while (i < stop && b[i] !== RPAREN) i++;
      i++;
      while (i < end && b[i] === SPACE) i++;
    }
    const start = i, whole = i + 16 <= end;
    // Names differ in their first 16 characters, or share a place.
    const place = whole ? (Math.imul(view.getInt32(i + 4, true), 0x9e3779b1) ^ Math.imul(view.getInt32(i + 8, true), 0x85ebca6b) ^ Math.imul(view.getInt32(i + 12, true), 0xc2b2ae35)) >>> 24 : 0;
    if (whole && this.names.matches(place, view, i, end)) {
      this.event = this.nameCode[place];
      let info = i + this.nameInfo[place];
      while (b[info] === SPACE) info++;
      this.info = info;
      this.at = afterNoise(b, i + this.names.length[place], end);
      return true;
    }
    let name = i;
    for (; i < end; i++) {
      const c = b[i];
      if (c === COLON) {
        if (i + 1 === end || b[i + 1] === SPACE) break;
        name = i + 1; // a system's name, as perf prints it: kvm:kvm_exit
      } else if (c === SPACE) return false;
    }
    if (i >= end || i === name) return false;
    this.event = this.events.intern(b, name, i++);
    while (i < end && b[i] === SPACE) i++;
    this.info = i;
    this.at = afterNoise(b, i, end);
    if (whole && this.info < end && this.names.keep(place, view, start, this.at - start)) {
      this.nameCode[place] = this.event;
      this.nameInfo[place] = this.info - start;
    }
    return true;
  }
}

function afterNoise(bytes: Buffer, at: number, end: number): number {
  for (;;) {
    const c = bytes[at];
    if (c !== 60 && c !== 67 && c !== LBRACKET && c !== SPACE) return at; // < C [
    if (c === SPACE) {
      while (at < end && bytes[at] === SPACE) at++;
      if (at >= end) return end;
      continue;
    }
    let which = 0;
    while (which < NOISE.length && !startsWith(bytes, at, end, NOISE[which].text)) which++;
    if (which === NOISE.length) return at;
    const { text, close } = NOISE[which];
    let stop = at + text.length;
    while (stop < end && bytes[stop] !== close) stop++;
    if (stop >= end) return at;
    at = stop + 1;
  }
}
