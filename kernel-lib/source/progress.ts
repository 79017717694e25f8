import { visible } from "../format.js";

/** How far a load is. */
export interface LoadProgress {
  /** Bytes read so far, before decompression. */
  read: number;
  /** Bytes that there are to read, before decompression; null where nobody knows, as of standard input. */
  size: number | null;
  /** Bytes of text so far, after decompression. */
  bytes: number;
  /** Rows so far: events, samples, counters. */
  rows: number;
  /** Seconds since it began. */
  seconds: number;
}

const whole = (n: number) => n.toLocaleString("en-US", { maximumFractionDigits: 0 });
const mib = (bytes: number) => whole(bytes / 2 ** 20);

/** In words: "30 %, 312 of 1,024 MiB, 4,012,331 rows, 78 MiB/s, 9 s left". */
export function progressText({ read, size, bytes, rows, seconds }: LoadProgress): string {
  const known = size !== null && size > 0, packed = read < bytes;
  const left = known && read > 0 ? (Math.max(0, size - read) / read) * seconds : 0;
  return [
    ...(known ? [`${Math.min(100, Math.floor((100 * read) / size))} %`] : []),
    known && !packed ? `${mib(bytes)} of ${mib(size)} MiB` : `${mib(bytes)} MiB${packed ? " of text" : ""}`,
    `${whole(rows)} rows`,
    `${mib(bytes / Math.max(seconds, 1e-3))} MiB/s`,
    ...(known ? [left > 100 ? `${Math.ceil(left / 60)} min left` : `${Math.ceil(left)} s left`] : []),
  ].join(", ");
}

/** Where progress goes: the terminal by default; a notebook sets its own. A task is whatever object stands for one load. */
export interface ProgressSink {
  /** A line that replaces the task's one before. */
  show(task: object, line: string): void;
  /** The task has ended: its last line stays, or, where it is null, nothing of it. */
  end(task: object, line: string | null): void;
}

const terminal = process.stderr;
const ERASE = "\r\x1b[K";
let sink: ProgressSink = {
  show(_, line) {
    // A line that the terminal breaks into two could not be erased.
    if (terminal.isTTY) terminal.write(`${ERASE}${visible(line).slice(0, (terminal.columns || 80) - 1)}`);
  },
  end(_, line) {
    if (terminal.isTTY) terminal.write(ERASE);
    if (line !== null) terminal.write(`${visible(line)}\n`);
  },
};

/** Sends progress and the loaders' accounting lines elsewhere. Returns the sink that was there before. */
export function setProgressSink(next: ProgressSink): ProgressSink {
  const before = sink;
  sink = next;
  return before;
}

export interface Progress {
  /** Says how far it is. Nothing is shown before a second has passed. */
  update(line: () => string): void;
  /** Ends the task with a last line. */
  done(line: string): void;
  /** Ends the task without one, as after an error. */
  close(): void;
}

const FIRST_MS = 1000, EVERY_MS = 250;

/** Progress of one task. */
export function startProgress(): Progress {
  const task = {};
  let next = performance.now() + FIRST_MS, open = false;
  return {
    update(line) {
      const now = performance.now();
      if (now < next) return;
      next = now + EVERY_MS;
      open = true;
      sink.show(task, line());
    },
    done(line) {
      open = false;
      sink.end(task, line);
    },
    close() {
      if (open) sink.end(task, null);
      open = false;
    },
  };
}
