// A large file of perf script's output is read by several threads, a part each. Parts end where a blank line has ended a sample's stack, so that each can be
// read without the one before it; joined in their order they are, to the last number, what one thread would have read.
import { open, type FileHandle } from "node:fs/promises";
import { Worker } from "node:worker_threads";
import { OptionError } from "../errors.js";
import { blocks, lookAt, type Source } from "../source/bytes.js";
import { accountingLine, joinAccountings, loadText, readPart, settle, type Accounting } from "../source/lines.js";
import { interruptible } from "../source/interrupt.js";
import { progressText, startProgress, type LoadProgress } from "../source/progress.js";
import type { CachedLoadOptions } from "../store/cache.js";
import { joinSamples, received, type SentSamples } from "./perf-join.js";
import { perfSamples, type PerfSamples } from "./perf-samples.js";

export interface PerfScriptOptions extends CachedLoadOptions {
  /**
   * How many threads read a file, this one among them; default 1. The result does not depend on it. Worth it from some 50 MB on; a packed file, a stream,
   * a recording without stacks, and one that a cache is asked for are read by one.
   */
  workers?: number;
}

// Where the library runs from its source, as in its tests, a thread takes what was built.
const THREAD = new URL(import.meta.url.endsWith(".ts") ? "../dist/parse/perf-thread.js" : "./perf-thread.js", import.meta.url);

/** A part of a file. */
export interface Part {
  path: string;
  name: string;
  start: number;
  end: number;
}

/** What a thread found in a part. */
export interface PartRead {
  result: PerfSamples;
  count: Accounting;
}

/** A part read, as one thread sends it to another. */
export interface SentPart {
  result: SentSamples;
  count: Accounting;
}

/** The arrays of a text, read by one thread or several. */
export async function loadPerfSamples(source: Source, options: PerfScriptOptions): Promise<PerfSamples> {
  const { workers = 1 } = options;
  if (!Number.isInteger(workers) || workers < 1 || workers > 64) throw new OptionError(`workers takes a number of threads, 1 to 64; this is ${String(workers)}`);
  if (workers === 1 || typeof source !== "string" || source === "-") return loadText(source, perfSamples, options);
  const path = source, name = options.name ?? path, { size, plain } = await lookAt(path);
  const starts = plain && size !== null ? await startsOfParts(path, size, workers) : [];
  if (starts.length < 2) return loadText(source, perfSamples, options);

  const parts = starts.map((start, i): Part => ({ path, name, start, end: starts[i + 1] ?? Infinity }));
  const progress = options.quiet || options.progress ? null : startProgress(), begin = performance.now();
  const threads: Worker[] = [];
  let bytes = 0, rows = 0, stopped = false;
  const state = (): LoadProgress => ({ read: bytes, size, bytes, rows, seconds: (performance.now() - begin) / 1000 });
  const stop = (): void => {
    stopped = true;
    for (const thread of threads) void thread.removeAllListeners("message").terminate();
  };
  const onChunk: OnChunk = (moreBytes, moreRows) => {
    if (stopped) throw new Error("stopped"); // which ends this thread's part; nobody waits for it any more
    bytes += moreBytes;
    rows += moreRows;
    options.progress?.(state());
    progress?.update(() => `${name}: ${progressText(state())}`);
  };
  const all = async function* () {
    const others = parts.slice(1).map((part) => readInThread(part, threads, onChunk));
    yield await Promise.all([readHere(parts[0], onChunk), ...others]);
  };
  try {
    let result: PerfSamples | null = null;
    for await (const reads of interruptible(all(), options.signal, () => `${name}, ${progressText(state())}`, stop)) {
      const count = joinAccountings(reads.map((read) => read.count));
      result = joinSamples(reads.map((read) => read.result));
      settle(result, count);
      progress?.done(accountingLine(count));
    }
    return result!;
  } finally {
    progress?.close();
    stop();
  }
}

/** Told of each chunk that a thread has read: so many bytes, so many rows. */
type OnChunk = (bytes: number, rows: number) => void;

export function readHere({ path, name, start, end }: Part, onChunk: OnChunk): Promise<PartRead> {
  return readPart(blocks(path, start, end), perfSamples, name, onChunk);
}

function readInThread(part: Part, threads: Worker[], onChunk: OnChunk): Promise<PartRead> {
  const thread = new Worker(THREAD, { workerData: part });
  threads.push(thread);
  return new Promise((resolve, reject) => {
    thread.on("message", (message: Parameters<OnChunk> | SentPart) => {
      if (Array.isArray(message)) onChunk(...message);
      else resolve({ ...message, result: received(message.result) });
    });
    thread.on("error", reject);
    thread.on("exit", (code) => reject(new Error(`a thread that read ${part.path} ended with ${code}`)));
  });
}

/** Where parts of about the same size begin. */
async function startsOfParts(path: string, size: number, count: number): Promise<number[]> {
  const starts = [0];
  const file = await open(path, "r");
  try {
    for (let i = 1; i < count; i++) {
      const start = await afterBlankLine(file, Math.floor((size * i) / count));
      if (start > starts[starts.length - 1] && start < size) starts.push(start);
    }
  } finally {
    await file.close();
  }
  return starts;
}

const FAR = 1 << 20;

/** Where the line behind the next blank line begins; -1 where there is none near, as in a recording without stacks. */
async function afterBlankLine(file: FileHandle, from: number): Promise<number> {
  const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(FAR), 0, FAR, from);
  const bytes = buffer.subarray(0, bytesRead);
  for (const blank of ["\n\n", "\n\r\n"]) {
    const at = bytes.indexOf(blank), next = at + blank.length;
    // Nothing that looks like the mark of an encoding, which is looked for where a text begins.
    if (at >= 0 && bytes[next] < 0x80) return from + next;
  }
  return -1;
}
