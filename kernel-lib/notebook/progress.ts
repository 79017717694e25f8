import { randomUUID } from "node:crypto";
import { setProgressSink } from "../source/progress.js";
import { visible } from "../format.js";
import { display, kernelWriter } from "./show.js";

/**
 * In a notebook the loaders' lines go to one display per cell, which is rewritten in place: last lines of what has ended stay, those of
 * what is under way are replaced. Elsewhere they go where they went before, the terminal.
 */
export function installProgress(): void {
  // A kernel gives each cell a writer of its own: by it we know that a new cell has begun.
  let cell: unknown = null;
  let id = "";
  let ended: string[] = [];
  const underWay = new Map<object, string>();

  /** Whether a kernel is there to show it. */
  const change = (task: object, line: string | null, end: boolean): boolean => {
    const writer = kernelWriter();
    if (!writer) return false;
    const update = writer === cell;
    if (!update) {
      cell = writer;
      id = randomUUID();
      ended = [];
    }
    underWay.delete(task);
    if (!end && line !== null) underWay.set(task, line);
    if (end && line !== null) ended.push(line);
    const lines = [...ended, ...underWay.values()];
    if (update || lines.length > 0) display({ data: { "text/plain": visible(lines.join("\n")) }, metadata: {} }, id, update);
    return true;
  };
  const before = setProgressSink({
    show(task, line) { if (!change(task, line, false)) before.show(task, line); },
    end(task, line) { if (!change(task, line, true)) before.end(task, line); },
  });
}
