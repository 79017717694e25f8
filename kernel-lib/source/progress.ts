/** Where progress goes: the terminal by default; a notebook sets its own. */
export interface ProgressSink {
  /** A line that replaces the one before; the last call for a task has `final` set. */
  show(line: string, final: boolean): void;
}

let sink: ProgressSink = {
  show(line, final) {
    if (final) process.stderr.write(process.stderr.isTTY ? `\r\x1b[K${line}\n` : `${line}\n`);
    else if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
  },
};

/** Sends progress and the loaders' accounting lines elsewhere. Returns the sink that was there before. */
export function setProgressSink(next: ProgressSink): ProgressSink {
  const before = sink;
  sink = next;
  return before;
}

export interface Progress {
  /** `done` of the total given at the start, in the same unit (bytes by default). */
  update(done: number): void;
  /** Ends the task with a last line. */
  done(line: string): void;
  /** Ends the task without one, as after an error. */
  close(): void;
}

const FIRST_MS = 1000, EVERY_MS = 250;

/** Progress of one task. Nothing is shown before a second has passed. */
export function startProgress(label: string, total: number | null, unit: "bytes" | "steps" = "bytes"): Progress {
  const begin = performance.now();
  let next = begin + FIRST_MS;
  return {
    update(done) {
      const now = performance.now();
      if (now < next) return;
      next = now + EVERY_MS;
      const seconds = (now - begin) / 1000;
      const amount = unit === "bytes" ? `${(done / 2 ** 20).toFixed(0)} MiB` : String(done);
      const of = total ? ` of ${unit === "bytes" ? `${(total / 2 ** 20).toFixed(0)} MiB` : total}` : "";
      const rate = unit === "bytes" ? `, ${(done / 2 ** 20 / seconds).toFixed(0)} MiB/s` : "";
      const left = total && done > 0 ? `, ${Math.ceil(((total - done) / done) * seconds)} s left` : "";
      sink.show(`${label}: ${amount}${of}${rate}${left}`, false);
    },
    done(line) { sink.show(line, true); },
    close() { /* nothing is held open */ },
  };
}
