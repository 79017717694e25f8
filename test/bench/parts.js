// Whether a text read whole gives what its two halves give, joined.
import { createReadStream, openSync, readSync, statSync } from "node:fs";

const kernelLib = () => import("kernel-lib");

/** Where the second half begins: behind the blank line or the line's end next to the middle. */
function middle(path, separator) {
  const buffer = Buffer.alloc(1 << 20), from = Math.floor(statSync(path).size / 2);
  readSync(openSync(path, "r"), buffer, 0, buffer.length, from);
  return from + buffer.indexOf(separator) + separator.length;
}

export async function comparedParts(path, kind) {
  const kl = await kernelLib();
  const cut = middle(path, kind === "perf-script" ? "\n\n" : "\n");
  const spans = [{}, { end: cut - 1 }, { start: cut }];
  const sums = [];
  for (const span of spans) sums.push(await (kind === "perf-script" ? stacks : events)(kl, createReadStream(path, { ...span, highWaterMark: 1 << 22 })));
  const [whole, first, second] = sums;
  for (const [key, value] of second) first.set(key, (first.get(key) ?? 0) + value);
  let same = whole.size === first.size;
  for (const [key, value] of whole) if (first.get(key) !== value) same = false;
  return { same, rows: whole.size };
}

/** Weight of each stack. */
async function stacks(kl, stream) {
  const table = kl.foldStacks(await kl.loadPerfScript(stream, { quiet: true }));
  const stack = table.column("stack"), value = table.column("value");
  const sums = new Map();
  for (let i = 0; i < table.numRows(); i++) sums.set(stack.at(i), value.at(i));
  return sums;
}

/** Of each event: how many, and the sums of its whole numbers (exact below 2^53 by taking the remainder of each). */
async function events(kl, stream) {
  const trace = await kl.loadTraceCmd(stream, { quiet: true });
  const sums = new Map();
  for (const event of trace.eventNames) {
    const table = trace.of(event);
    sums.set(event, table.numRows());
    for (const name of table.columnNames()) {
      const column = table.column(name);
      let sum = 0;
      for (let i = 0; i < table.numRows(); i++) {
        const value = column.at(i);
        sum += typeof value === "number" ? value % 1_000_003 : typeof value === "string" ? value.length : value === null ? 1 : 0;
      }
      sums.set(`${event}.${name}`, sum);
    }
  }
  return sums;
}
