import { InterruptedError } from "../errors.js";

/** Says of a load's way to stop that it may be needed; returns what takes that back. */
export type Interruption = (stop: () => void) => () => void;

let interruption: Interruption = () => () => {};

/** A notebook hangs itself in here, to stop the loads under way when its cell is interrupted. */
export function setInterruption(next: Interruption): void {
  interruption = next;
}

/**
 * The chunks until somebody says to stop: by the signal, or by interrupting the cell. Then it fails at once, even where the next chunk never comes.
 * `where` is asked how far the load is; `close` lets go of the source.
 */
export async function* interruptible<T>(chunks: AsyncIterable<T>, signal: AbortSignal | undefined, where: () => string, close: () => void): AsyncGenerator<T> {
  let stopped: InterruptedError | null = null;
  let fail: (error: Error) => void = () => {};
  const stop = (): void => {
    stopped ??= new InterruptedError(`${where()}: the load was interrupted, and nothing of it is kept`, { cause: signal?.reason });
    fail(stopped);
  };
  const iterator = chunks[Symbol.asyncIterator]();
  const release = interruption(stop);
  signal?.addEventListener("abort", stop);
  let done = false;
  try {
    if (signal?.aborted) stop();
    while (!done) {
      // Not Promise.race with one long promise, which would keep a reaction of every chunk.
      const next = await new Promise<IteratorResult<T>>((resolve, reject) => {
        fail = reject;
        if (stopped) reject(stopped);
        else iterator.next().then(resolve, reject);
      });
      if (next.done) done = true;
      else yield next.value;
    }
  } finally {
    release();
    signal?.removeEventListener("abort", stop);
    if (!done) {
      close();
      Promise.resolve(iterator.return?.()).catch(() => {}); // not awaited: it waits for the chunk under way
    }
  }
}
