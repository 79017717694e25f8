import { randomUUID } from "node:crypto";
import { setProgressSink } from "../source/progress.js";
import { visible } from "../format.js";
import { display, kernelWriter } from "./show.js";

/**
 * In a notebook the loaders' lines go to one display per cell, which is rewritten in place: finished lines stay, the line of
 * the file being read is replaced. Elsewhere they go where they went before, the terminal.
 */
export function installProgress(): void {
  // A kernel gives each cell a writer of its own: by it we know that a new cell has begun.
  let cell: unknown = null;
  let id = "";
  let finished: string[] = [];
  const before = setProgressSink({
    show(line, final) {
      const writer = kernelWriter();
      if (!writer) return before.show(line, final);
      const update = writer === cell;
      if (!update) {
        cell = writer;
        id = randomUUID();
        finished = [];
      }
      const text = visible([...finished, line].join("\n"));
      if (final) finished.push(line);
      display({ data: { "text/plain": text }, metadata: {} }, id, update);
    },
  });
}
