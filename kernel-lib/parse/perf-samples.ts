// Lines of perf script's output → samples, frames and the tree of their stacks, as arrays. What they look like: perf-script.ts.
import { Dictionary, DictionaryColumn, IntBuilder, narrowCodes, NumberBuilder } from "../source/builders.js";
import type { RowOf } from "../source/columns.js";
import { CONTINUATION, HEADER, ROW, UNKNOWN, type Accounting, type Format, type LineKind, type LineParser } from "../source/lines.js";
import { Frames, NOT_A_FRAME, type FrameKind } from "./perf-frames.js";
import { endOfWord, Head, NO_NUMBER, skip, startsWith } from "./perf-head.js";
import type { profileLostColumns } from "./perf-script.js";
import { StackTree } from "./stack-tree.js";

export interface ProfileArrays {
  /** Number of samples. */
  length: number;
  /** ns; NaN where perf script printed no time. */
  ts: Float64Array;
  /** NO_NUMBER where there is none; the same for pid and tid. */
  cpu: Int32Array;
  pid: Int32Array;
  tid: Int32Array;
  comm: DictionaryColumn;
  event: DictionaryColumn;
  /** NaN where perf script printed no period. */
  period: Float64Array;
  /** Leaf's row in `parent`, `frame`, `depth`; 0 is the root: no stack. */
  stack: Int32Array;
  /** Tree of stacks: caller's row, -1 for the root. Rows come after their callers. */
  parent: Int32Array;
  /** Tree of stacks: index into symbol, dso, kind; -1 for the root. */
  frame: Int32Array;
  depth: Int32Array;
  symbol: string[];
  dso: (string | null)[];
  kind: FrameKind[];
  addr: (string | null)[];
  /** Whether the text ended within the last sample's stack, without the blank line that closes it. */
  unclosed: boolean;
}

/** Values of a column that most recordings lack: their rows, and numbers, which are codes of `values` where the column holds strings. */
export interface RareValues {
  rows: Int32Array;
  numbers: Int32Array;
  values: string[];
}

/** All that a text holds. Plain arrays, so that it can be handed from thread to thread. */
export interface PerfSamples {
  raw: ProfileArrays;
  srcline: (string | null)[];
  misc: RareValues;
  payload: RareValues;
  vm: RareValues;
  vcpu: RareValues;
  lost: RowOf<typeof profileLostColumns>[];
  header: Record<string, string>;
}

export const perfSamples: Format<PerfSamples> = {
  name: "perf-script",
  command: "perf script",
  parser: () => new PerfSampleParser(),
};

const TAB = 9, NEWLINE = 10, RETURN = 13, BLANK = 32, HASH = 35, PAREN = 41, COLON = 58;
const NOT_SEEN = -2;

// What perf and its libraries say on stderr, which lands in the file under `2>&1`.
const MESSAGE = new RegExp([
  String.raw`^\[ perf \w+: `, "^Warning:$", "^Processed \\d+ (events|samples)", "^Check IO/CPU overload!", "^Samples in kernel ",
  "^unwind: ", "^libtraceevent: ", "^ +\\[[\\w-]+:[\\w-]+\\] (bad op|unknown op|failed|function|could not)", "^ +(bad op token|unknown op|failed to read event print fmt)",
  "^(addr2line|cmd__addr2line) ", "continuing without symbols$", "^no symbols found in ", "^Kernel address maps ", "^Cannot load tips.txt ",
].join("|"));

class PerfSampleParser implements LineParser<PerfSamples> {
  private readonly ts = new NumberBuilder();
  private readonly cpu = new IntBuilder();
  private readonly pid = new IntBuilder();
  private readonly tid = new IntBuilder();
  private readonly comm = new IntBuilder();
  private readonly event = new IntBuilder();
  private readonly period = new NumberBuilder();
  private readonly stack = new IntBuilder();
  private readonly misc = new Rare();
  private readonly payload = new Rare();
  private readonly vm = new Rare();
  private readonly vcpu = new Rare();
  private readonly lost: PerfSamples["lost"] = [];
  private readonly header: PerfSamples["header"] = {};

  private readonly head = new Head();
  private readonly events = new Dictionary();
  private readonly tree = new StackTree();
  private readonly frames = new Frames();

  /** Each distinct frame line is understood once; the next time, its code leads to its frame. Code 0, no text, stands for the beginning of a stack. */
  private readonly lines = new Dictionary();
  private frameOfLine = new Int32Array(1024).fill(NOT_SEEN);
  /** The two lines that came last behind each line: what comes next is guessed, which costs less than to look it up. */
  private followers = new Int32Array(2048);
  private view = new DataView(new ArrayBuffer(0));
  private viewed: Uint8Array | null = null;

  /** Frames of the sample that is being read, leaf first. */
  private path = new Int32Array(128);
  private depth = 0;
  private open = false;

  constructor() {
    this.lines.internString("");
  }

  line(bytes: Buffer, start: number, end: number): LineKind {
    if (start === end) {
      this.close();
      return HEADER;
    }
    const first = bytes[start];
    if (first === TAB && this.open) return this.frameLine(bytes, start + 1, end);
    if (first === HASH && (start + 1 === end || bytes[start + 1] === BLANK)) return this.headerLine(bytes, start, end);
    // Older perfs indent frames by blanks, as they do the first lines of samples without stacks.
    const kind = first === TAB ? null : this.sampleLine(bytes, start, end);
    if (kind !== null) return kind;
    if (this.open && bytes[end - 1] === PAREN && this.frameLine(bytes, skip(bytes, start, end), end) === CONTINUATION) return CONTINUATION;
    return this.otherLine(bytes, start, end);
  }

  /** Takes the frames of a sample up to the blank line that ends them. */
  ahead(bytes: Buffer, start: number, count: Accounting): number {
    if (!this.open) return start;
    if (this.viewed !== bytes) {
      this.viewed = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    const { lines, view } = this, before = this.depth;
    let { followers, frameOfLine } = this, line = 0, at = start;
    for (; bytes[at] === TAB; ) {
      let code = followers[2 * line], end = lines.endAt(code, view, at + 1);
      if (end < 0 || bytes[end] !== NEWLINE) {
        code = followers[2 * line + 1];
        end = lines.endAt(code, view, at + 1);
        if (end < 0 || bytes[end] !== NEWLINE) {
          end = bytes.indexOf(NEWLINE, at + 1);
          if (end < 0) break;
          const textEnd = bytes[end - 1] === RETURN ? end - 1 : end;
          code = this.lineCode(bytes, at + 1, textEnd);
          ({ followers, frameOfLine } = this);
          if (frameOfLine[code] === NOT_A_FRAME) break;
        }
        followers[2 * line + 1] = followers[2 * line];
        followers[2 * line] = code;
      }
      this.push(frameOfLine[code]);
      line = code;
      at = end + 1;
    }
    count.lines += this.depth - before;
    count.continuation += this.depth - before;
    if (bytes[at] === NEWLINE) {
      this.close();
      count.lines++;
      count.header++;
      at++;
    }
    return at;
  }

  private frameLine(bytes: Buffer, start: number, end: number): LineKind {
    const frame = this.frameOf(bytes, start, end);
    if (frame === NOT_A_FRAME) return UNKNOWN;
    this.push(frame);
    return CONTINUATION;
  }

  private frameOf(bytes: Buffer, start: number, end: number): number {
    return this.frameOfLine[this.lineCode(bytes, start, end)];
  }

  /** The code of a line that may be a frame; `frameOfLine` of it is known then. */
  private lineCode(bytes: Buffer, start: number, end: number): number {
    const code = this.lines.intern(bytes, start, end);
    if (code >= this.frameOfLine.length) {
      const frames = new Int32Array(2 * code).fill(NOT_SEEN), followers = new Int32Array(4 * code);
      frames.set(this.frameOfLine);
      followers.set(this.followers);
      this.frameOfLine = frames;
      this.followers = followers;
    }
    if (this.frameOfLine[code] === NOT_SEEN) this.frameOfLine[code] = this.frames.fromBytes(bytes, start, end);
    return code;
  }

  private push(frame: number): void {
    if (this.depth === this.path.length) {
      const more = new Int32Array(this.depth * 2);
      more.set(this.path);
      this.path = more;
    }
    this.path[this.depth++] = frame;
  }

  private close(): void {
    if (!this.open) return;
    this.open = false;
    if (this.depth === 0) return;
    this.stack.data[this.stack.length - 1] = this.tree.leaf(this.path, this.depth);
    this.depth = 0;
  }

  /** The lines that are few: source lines, messages, blanks. */
  private otherLine(bytes: Buffer, start: number, end: number): LineKind {
    const text = bytes.toString("utf8", start, end);
    if (text.trim() === "") {
      this.close();
      return HEADER;
    }
    if (MESSAGE.test(text)) return HEADER;
    // -F +srcline prints "  file.c:12" below a frame, and "(inlined)" after it.
    const source = /^ {2}(\S.*(?::\d+|\[[0-9a-f]+\])(?: \(discriminator \d+\))?)( \(inlined\))?$/.exec(text);
    if (source && this.open && this.depth > 0) {
      this.path[this.depth - 1] = this.frames.withSource(this.path[this.depth - 1], source[1], source[2] !== undefined);
      return CONTINUATION;
    }
    // After the messages, since "  bad op token {" looks like a frame without dso.
    return this.open ? this.frameLine(bytes, skip(bytes, start, end), end) : UNKNOWN;
  }

  private headerLine(bytes: Buffer, start: number, end: number): LineKind {
    const pair = /^# (\S[^:]*): (.*)$/.exec(bytes.toString("utf8", start, end));
    if (pair) {
      const key = pair[1].trimEnd();
      this.header[key] = Object.hasOwn(this.header, key) ? `${this.header[key]}\n${pair[2]}` : pair[2];
    }
    return HEADER;
  }

  /** Reads the first line of a sample, or a side record; null, and nothing changed, where the line is neither. */
  private sampleLine(bytes: Buffer, start: number, end: number): LineKind | null {
    while (bytes[start] === BLANK) start++;
    while (end > start && bytes[end - 1] === BLANK) end--;
    const { head } = this;
    if (!head.read(bytes, start, end)) return null;

    // The event, then a payload or, in a sample of one line, its only frame.
    const eventStart = head.rest, eventEnd = endOfWord(bytes, eventStart, end);
    if (head.timed && startsWith(bytes, eventStart, end, "PERF_RECORD_")) return this.sideRecord(bytes.toString("utf8", eventStart, end));
    let event = -1, frame = NOT_A_FRAME, payloadStart = end;
    if (eventEnd - eventStart > 1 && bytes[eventEnd - 1] === COLON) {
      event = this.events.intern(bytes, eventStart, eventEnd - 1);
      payloadStart = skip(bytes, eventEnd, end);
      // perf prints a blank and the address in 16 columns, where a payload begins right after "event: ".
      if (payloadStart < end && endOfWord(bytes, payloadStart, end) - eventEnd === 18) frame = this.frameOf(bytes, payloadStart, end);
      if (frame !== NOT_A_FRAME) payloadStart = end;
    } else if (eventStart < end) {
      frame = this.frameOf(bytes, eventStart, end); // -F without event
      if (frame === NOT_A_FRAME) return null;
    }

    this.close();
    const row = this.stack.length;
    this.ts.push(head.ts);
    this.cpu.push(head.cpu);
    this.pid.push(head.pid);
    this.tid.push(head.tid);
    this.comm.push(head.comm);
    this.event.push(event);
    this.period.push(head.period);
    this.stack.push(0);
    if (head.miscStart < head.miscEnd) this.misc.setText(row, bytes, head.miscStart, head.miscEnd);
    if (payloadStart < end) this.payload.setText(row, bytes, payloadStart, end);
    if (head.vm !== NO_NUMBER) this.vm.set(row, head.vm);
    if (head.vcpu !== NO_NUMBER) this.vcpu.set(row, head.vcpu);
    this.open = true;
    if (frame !== NOT_A_FRAME) this.push(frame);
    return ROW;
  }

  /** What perf script --show-task-events and the like put between the samples, "PERF_RECORD_COMM exec: perf:802/802"; of these only losses hold data that we keep. */
  private sideRecord(text: string): LineKind {
    this.close();
    if (!text.startsWith("PERF_RECORD_LOST")) return HEADER;
    const { ts, cpu } = this.head, lost = / (\d+)/.exec(text);
    this.lost.push({ ts, cpu: cpu === NO_NUMBER ? null : cpu, lost: lost && Number(lost[1]) });
    return ROW;
  }

  finish(): PerfSamples {
    const unclosed = this.open && this.depth > 0;
    this.close();
    const { parent, frame } = this.tree;
    const { symbol, dso, kind, addr, srcline } = this.frames, length = this.stack.length;
    const raw: ProfileArrays = {
      length, ts: this.ts.data.subarray(0, length), period: this.period.data.subarray(0, length), cpu: this.cpu.data.subarray(0, length), pid: this.pid.data.subarray(0, length), tid: this.tid.data.subarray(0, length),
      comm: column(this.comm, this.head.comms), event: column(this.event, this.events),
      stack: this.stack.data.subarray(0, length), parent, frame, depth: depthsOf(parent), symbol, dso, kind, addr, unclosed,
    };
    return {
      raw, srcline, misc: this.misc.finish(), payload: this.payload.finish(), vm: this.vm.finish(), vcpu: this.vcpu.finish(), lost: this.lost, header: this.header,
    };
  }
}

function column(codes: IntBuilder, dictionary: Dictionary): DictionaryColumn {
  return new DictionaryColumn(narrowCodes(codes.data, codes.length, dictionary.size), dictionary.values());
}

/** How many frames are between the root and each node of a tree. */
export function depthsOf(parent: Int32Array): Int32Array {
  const depth = new Int32Array(parent.length);
  for (let node = 1; node < depth.length; node++) depth[node] = depth[parent[node]] + 1;
  return depth;
}

class Rare {
  private readonly rows = new IntBuilder();
  private readonly numbers = new IntBuilder();
  private readonly dictionary = new Dictionary();

  set(row: number, value: number): void {
    this.rows.push(row);
    this.numbers.push(value);
  }
  setText(row: number, bytes: Buffer, start: number, end: number): void {
    this.set(row, this.dictionary.intern(bytes, start, end));
  }
  finish(): RareValues {
    return { rows: this.rows.finish(), numbers: this.numbers.finish(), values: this.dictionary.values() };
  }
}
