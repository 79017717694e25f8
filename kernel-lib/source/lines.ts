import { setImmediate } from "node:timers/promises";
import { ParseError } from "../errors.js";
import { openSource, type OpenedSource, type Source } from "./bytes.js";
import { interruptible } from "./interrupt.js";
import { progressText, startProgress, type LoadProgress } from "./progress.js";
import { unpack, type UnpackOptions } from "./unpack.js";

/** What a parser says of each line. */
export const ROW = 0, CONTINUATION = 1, HEADER = 2, UNKNOWN = 3;
export type LineKind = typeof ROW | typeof CONTINUATION | typeof HEADER | typeof UNKNOWN;

/**
 * A format's parser. It is given every line once, in order, and says what the line was: the start of a
 * row, part of a row, something known that holds no data (headers, blank lines, the tool's own
 * messages), or not understood. So no line can go uncounted.
 */
export interface LineParser<T extends object> {
  /** `bytes[start, end)` is the line, without its newline and carriage return, one of which is at `bytes[end]`, always. The bytes are lent: copy what you keep. */
  line(bytes: Buffer, start: number, end: number): LineKind;
  /**
   * For speed, where a format has it: takes whole lines that it knows from `start` on, adds them to the count, and returns where the line begins that it leaves to `line`.
   */
  ahead?(bytes: Buffer, start: number, count: Accounting): number;
  /** The result, after the last line. */
  finish(): T;
}

/** How the lines of an input were spent. rows + continuation + header + notUnderstood = lines, always. */
export interface Accounting {
  /** Path, or "text", "bytes", "chunks", "stdin". */
  source: string;
  /** The format's name, such as "perf-stat". */
  format: string;
  /** Bytes of text, after decompression. */
  bytes: number;
  lines: number;
  /** Lines that begin a row (an event, a sample, a counter, a lost-events record …). */
  rows: number;
  /** Lines that are part of a row begun above, such as the frames of a stack. */
  continuation: number;
  /** Known lines without data: headings, blank lines, messages of the tool. */
  header: number;
  notUnderstood: number;
  /** The first 1000 lines that were not understood: line number from 1, text cut at 300 bytes. */
  unknown: { line: number; text: string }[];
}

export interface ParseOptions extends UnpackOptions {
  /** Name for messages; default: the path, else "text". */
  name?: string;
}

export interface LoadOptions extends ParseOptions {
  /** Say nothing while loading; default false: one line of accounting, and progress where it takes over a second. */
  quiet?: boolean;
  /** Told how far the load is, some times a second, in place of showing it; default: it is shown, after the first second. */
  progress?: (progress: LoadProgress) => void;
  /** Stops the load, which then fails with an InterruptedError; default none. In a notebook an interrupt of the cell does so, too. */
  signal?: AbortSignal;
}

/** A format: its name, how its parser is made, and how an input of this format is recognised (for error messages and the command line). */
export interface Format<T extends object, O = object> {
  name: string;
  /** How the text is made, such as "perf stat -e 'kvm:*' -a -- CMD". */
  command: string;
  parser(options: O & { name: string }): LineParser<T>;
}

/** A line longer than this is no tool's, and counts as not understood. The longest honest ones are JSON of iperf3 that somebody put into one line. */
const LONGEST_LINE = 2 ** 26;
/** Room for a held line that is given back after it. */
const LARGE = 2 ** 20;
const KEPT_UNKNOWN = 1000;
const KEPT_TEXT = 300;
const accountings = new WeakMap<object, Accounting>();

/**
 * How the lines of the input behind a parser's result were spent.
 * @throws OptionError-like message when the value did not come from a parser (tables derived from one have none).
 */
export function accounting(result: object): Accounting {
  const found = accountings.get(result);
  if (!found) throw new Error("accounting takes what a from… or load… function returned; a table derived from it by a verb has no accounting of its own");
  return found;
}

/** The accounting of a result, or null where it has none. */
export function accountingOf(result: object): Accounting | null {
  return accountings.get(result) ?? null;
}

/** Gives a result the accounting of the input that it was made from. For parsers alone. */
export function setAccounting(result: object, value: Accounting): void {
  accountings.set(result, value);
}

/** Cuts chunks of bytes into lines, hands them to a parser and counts what it says. */
class LineFeeder<T extends object> {
  /** The beginning of a line whose end has not come yet: `held[0, heldLength)`. */
  private held = Buffer.alloc(0);
  private heldLength = 0;
  private first = true;
  readonly count: Accounting;

  constructor(private readonly parser: LineParser<T>, format: string, source: string) {
    this.count = { source, format, bytes: 0, lines: 0, rows: 0, continuation: 0, header: 0, notUnderstood: 0, unknown: [] };
  }

  feed(chunk: Uint8Array): void {
    const bytes = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    this.count.bytes += bytes.length;
    let start = 0;
    if (this.heldLength > 0) {
      const newline = bytes.indexOf(10);
      this.hold(bytes, 0, newline < 0 ? bytes.length : newline);
      if (newline < 0) return;
      this.heldLine();
      start = newline + 1;
    }
    const ahead = this.parser.ahead !== undefined;
    for (;;) {
      if (ahead) start = this.parser.ahead!(bytes, start, this.count);
      const newline = bytes.indexOf(10, start);
      if (newline < 0) break;
      this.one(bytes, start, newline);
      start = newline + 1;
    }
    this.hold(bytes, start, bytes.length);
  }

  /** Keeps a copy: the chunk's memory is the caller's. Of a line that is too long, only as much as shows that it is. */
  private hold(bytes: Buffer, start: number, end: number): void {
    const length = Math.min(end - start, LONGEST_LINE + 2 - this.heldLength);
    if (this.heldLength + length >= this.held.length) {
      const more = Buffer.allocUnsafeSlow(Math.max(this.held.length * 2, this.heldLength + length + 1, 256));
      this.held.copy(more, 0, 0, this.heldLength);
      this.held = more;
    }
    bytes.copy(this.held, this.heldLength, start, start + length);
    this.heldLength += length;
  }

  private heldLine(): void {
    const length = this.heldLength;
    this.heldLength = 0;
    this.held[length] = 10; // as in a chunk, where parsers may look one byte behind the line
    this.one(this.held, 0, length);
    if (this.held.length > LARGE) this.held = Buffer.alloc(0);
  }

  private one(bytes: Buffer, start: number, end: number): void {
    const count = this.count;
    if (this.first) {
      this.first = false;
      if (bytes[start] === 0xef && bytes[start + 1] === 0xbb && bytes[start + 2] === 0xbf) start += 3;
      const a = bytes[start], b = bytes[start + 1];
      if ((a === 0xff && b === 0xfe) || (a === 0xfe && b === 0xff)) {
        throw new ParseError("the text is UTF-16; convert it first: iconv -f utf-16 -t utf-8", count.source);
      }
    }
    count.lines++;
    if (end > start && bytes[end - 1] === 13) end--;
    switch (end - start > LONGEST_LINE ? UNKNOWN : this.parser.line(bytes, start, end)) {
      case ROW: count.rows++; break;
      case CONTINUATION: count.continuation++; break;
      case HEADER: count.header++; break;
      default:
        count.notUnderstood++;
        if (count.unknown.length < KEPT_UNKNOWN) {
          count.unknown.push({ line: count.lines, text: bytes.toString("utf8", start, Math.min(end, start + KEPT_TEXT)) });
        }
    }
  }

  /** The result, after the last line. */
  end(): T {
    if (this.heldLength > 0) this.heldLine();
    return this.parser.finish();
  }

  finish(): T {
    const result = this.end();
    settle(result, this.count);
    return result;
  }
}

/** One of each format stays, as V8 drops what it compiled for a class with its last object. */
const kept = new Map<string, LineFeeder<object>>();

function newFeeder<T extends object, O extends ParseOptions>(format: Format<T, O>, options: O, name: string): LineFeeder<T> {
  const make = (source: string) => new LineFeeder(format.parser({ ...options, name: source }), format.name, source);
  if (!kept.has(format.name)) kept.set(format.name, make("text"));
  return make(name);
}

/** Gives a result its accounting. @throws ParseError where no line could be read */
export function settle(result: object, count: Accounting): void {
  if (count.notUnderstood > 0 && count.rows + count.continuation === 0) {
    const { line, text } = count.unknown[0];
    throw new ParseError(`this is not ${count.format} output: no line of ${count.lines} could be read${looksLike(count)}`, count.source, line, text.slice(0, 120));
  }
  setAccounting(result, count);
}

/** Chunks of text from the middle of a file → a parser's result for them and how their lines were spent; the whole may still turn out not to be of the format. */
export async function readPart<T extends object>(
  chunks: AsyncIterable<Uint8Array>, format: Format<T>, name: string, onChunk: (bytes: number, rows: number) => void,
): Promise<{ result: T; count: Accounting }> {
  const feeder = newFeeder(format, {}, name);
  for await (const chunk of chunks) {
    const before = feeder.count.rows;
    feeder.feed(chunk);
    onChunk(chunk.length, feeder.count.rows - before);
  }
  return { result: feeder.end(), count: feeder.count };
}

/** The accountings of a text's parts, in their order → that of the whole. */
export function joinAccountings(counts: readonly Accounting[]): Accounting {
  const whole = { ...counts[0], unknown: counts[0].unknown.slice() };
  for (const count of counts.slice(1)) {
    for (const { line, text } of count.unknown.slice(0, KEPT_UNKNOWN - whole.unknown.length)) whole.unknown.push({ line: whole.lines + line, text });
    whole.bytes += count.bytes;
    whole.lines += count.lines;
    whole.rows += count.rows;
    whole.continuation += count.continuation;
    whole.header += count.header;
    whole.notUnderstood += count.notUnderstood;
  }
  return whole;
}

let recognise: ((text: string) => string | null) | null = null;

/** The list of formats hangs itself in here, so that an error can say what a file looks like. */
export function setRecogniser(fn: (text: string) => string | null): void {
  recognise = fn;
}

function looksLike(count: Accounting): string {
  const guess = recognise?.(count.unknown.map((u) => u.text).join("\n"));
  return guess && guess !== count.format ? `; it looks like ${guess} output` : "";
}

/** Text in one piece → a format's result. The body of every `from…` function. */
export function parseText<T extends object, O extends ParseOptions>(input: string | Uint8Array, format: Format<T, O>, options: O): T {
  const name = options.name ?? "text";
  const feeder = newFeeder(format, options, name);
  feeder.feed(typeof input === "string" ? Buffer.from(input, "utf8") : unpack(input, name, options));
  return feeder.finish();
}

/** So long are chunks taken without a turn for others: interrupts, other loads, a notebook's messages. */
const TURN_MS = 50;

/** A path, bytes or chunks → a format's result. The body of every `load…` function. `tap` sees a file's bytes as they stand on disk. */
export async function loadText<T extends object, O extends LoadOptions>(source: Source, format: Format<T, O>, options: O, tap?: (chunk: Uint8Array) => void): Promise<T> {
  return loadOpened(await openSource(source, options, tap), format, options);
}

/** The same for a source that is open. */
export async function loadOpened<T extends object, O extends LoadOptions>(opened: OpenedSource, format: Format<T, O>, options: O): Promise<T> {
  const name = options.name ?? opened.name;
  const feeder = newFeeder(format, options, name), { count } = feeder;
  const begin = performance.now();
  const state = (): LoadProgress => ({ read: opened.read(), size: opened.size, bytes: count.bytes, rows: count.rows, seconds: (performance.now() - begin) / 1000 });
  const progress = options.quiet || options.progress ? null : startProgress();
  let turn = begin;
  try {
    for await (const chunk of interruptible(opened.chunks, options.signal, () => `${name}, ${progressText(state())}`, opened.close)) {
      feeder.feed(chunk);
      progress?.update(() => `${name}: ${progressText(state())}`);
      if (performance.now() < turn + TURN_MS) continue;
      options.progress?.(state());
      await setImmediate();
      turn = performance.now();
    }
    options.progress?.(state());
    const result = feeder.finish();
    progress?.done(accountingLine(count));
    return result;
  } finally {
    progress?.close();
  }
}

/** A text on one line, where a line break would end a row. */
export const oneLine = (text: string): string => text.replace(/[\r\n]+/g, " ");

/** One line for people: "trace-cmd.txt: 43,738 lines = 43,737 rows + 1 header; all understood". */
export function accountingLine(count: Accounting): string {
  const n = (x: number) => x.toLocaleString("en-US");
  const parts = [`${n(count.rows)} rows`];
  if (count.continuation > 0) parts.push(`${n(count.continuation)} continuation`);
  if (count.header > 0) parts.push(`${n(count.header)} header`);
  if (count.notUnderstood > 0) parts.push(`${n(count.notUnderstood)} not understood`);
  const verdict = count.notUnderstood === 0 ? "all understood"
    : `first not understood: line ${n(count.unknown[0].line)}: ${count.unknown[0].text.slice(0, 80)}`;
  const base = count.source.split("/").pop() ?? count.source;
  return `${base}: ${n(count.lines)} lines = ${parts.join(" + ")}; ${verdict}`;
}
