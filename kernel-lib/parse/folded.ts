// Folded stacks: one stack per line, root first, with its weight. The lingua franca of flame graphs.
//
//   perf script | stackcollapse-perf.pl > out.folded, inferno-collapse-perf, bcc's profile -f, kernel-lib fold
//   read by flamegraph.pl, inferno-flamegraph, speedscope
//
//   qemu-system-aar;start_thread;kvm_vcpu_thread_fn;kvm_cpu_exec;__GI___ioctl;[unknown] 2762147
//   process         frames, root first; they may hold blanks                            weight, after the last blank
import { writeFile } from "node:fs/promises";
import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { makeTable, NumberBuilder, StringBuilder, type Columns } from "../source/columns.js";
import { HEADER, loadText, oneLine, parseText, ROW, UNKNOWN, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";

export const foldedColumns = {
  stack: { type: "string", unit: null, meaning: "Frames from the root to the leaf, separated by semicolons; the first is the process." },
  value: { type: "number", unit: "events", meaning: "Weight of the stack: samples, or the sum of their periods." },
} as const satisfies Columns;

const BLANK = 32;

export const folded: Format<ColumnTable> = {
  name: "folded",
  command: "perf script | stackcollapse-perf.pl",
  parser: () => {
    const stack = new StringBuilder(), value = new NumberBuilder();
    return {
      line(bytes, start, end) {
        while (end > start && bytes[end - 1] === BLANK) end--;
        if (start === end) return HEADER;
        let blank = end - 1;
        while (blank >= start && bytes[blank] !== BLANK) blank--;
        if (blank < start) return UNKNOWN;
        const number = bytes.toString("latin1", blank + 1, end);
        if (!/^-?\d+(\.\d*)?(e[+-]?\d+)?$/.test(number)) return UNKNOWN;
        stack.pushBytes(bytes, start, blank);
        value.push(Number(number));
        return ROW;
      },
      finish: () => makeTable(foldedColumns, { stack: stack.finish(), value: value.finish() }),
    };
  },
};

/** Text of folded stacks → stack, value, in the order of the text. @throws ParseError when no line of it can be read. */
export function fromFolded(text: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(text, folded, options);
}

/** File of folded stacks (plain, .gz, .zst) → stack, value. @throws ParseError when no line of it can be read. */
export async function loadFolded(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, folded, options);
}

/**
 * A table with the columns stack and value → text for flamegraph.pl and other tools, a line per row in the table's order.
 * @throws OptionError when the table lacks a column, or a value is not a number
 */
export function toFolded(stacks: ColumnTable): string {
  for (const name of ["stack", "value"]) {
    if (!stacks.columnNames().includes(name)) throw new OptionError(`toFolded needs the columns stack and value; this table has ${stacks.columnNames().join(", ")}`);
  }
  const lines: string[] = [];
  stacks.scan((row, data) => {
    const value = data!.value.at(row!) as number;
    if (!Number.isFinite(value)) throw new OptionError(`toFolded: the value of row ${row} is ${value}, not a number`);
    lines.push(`${oneLine(String(data!.stack.at(row!)))} ${value}\n`);
  }, true);
  return lines.join("");
}

/** Writes `toFolded(stacks)` to a file. @throws OptionError as toFolded does */
export async function writeFolded(stacks: ColumnTable, path: string): Promise<void> {
  await writeFile(path, toFolded(stacks));
}
