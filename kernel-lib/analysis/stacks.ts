import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { foldedColumns } from "../parse/folded.js";
import { columnsOf, makeTable, tableOf, type Columns, type RowOf } from "../source/columns.js";
import { inByteOrder } from "./stack-texts.js";

/** One weighted stack, its frames root first. */
interface Stack {
  text: string;
  frames: string[];
  value: number;
}

/** The rows of a table of folded stacks, filters and order of the table kept. */
function stacksOf(table: ColumnTable, asks: string): Stack[] {
  for (const name of ["stack", "value"]) {
    if (!table.columnNames().includes(name)) throw new OptionError(`${asks} needs the columns stack and value, as foldStacks gives them; this table has ${table.columnNames().join(", ")}`);
  }
  const rows: Stack[] = [];
  table.scan((row, data) => {
    const text = String(data!.stack.at(row!));
    rows.push({ text, frames: text.split(";"), value: data!.value.at(row!) as number });
  }, true);
  return rows;
}

const unitOf = (stacks: ColumnTable) => columnsOf(stacks).value?.unit ?? foldedColumns.value.unit;
/** The same columns, weights in the unit of the stacks that they come from. */
function inUnit<C extends Columns>(columns: C, unit: string | null, ...names: (keyof C)[]): C {
  return Object.fromEntries(Object.entries(columns).map(([name, spec]) => [name, names.includes(name) ? { ...spec, unit } : spec])) as C;
}

/** A frame's function, without the marks that folding puts on it: "tun_get_user.isra.0_[k]" → "tun_get_user.isra.0". */
const unmarked = (frame: string) => frame.replace(/(_\[[kji]\])+$/, "");
/** Without what the compiler adds to the name of a function's copy: "tun_get_user.isra.0" → "tun_get_user". */
const original = (func: string) => func.replace(/(\.(isra|constprop|part|cold|llvm|lto_priv)(\.\d+)*)+$/, "");

/**
 * The frames that show that a system call is under way: arm64 (el0_svc, invoke_syscall, __arm64_sys_*), x86 (entry_SYSCALL_64, do_syscall_64, __x64_sys_*, and
 * system_call of kernels before 4.3), arm (ret_fast_syscall). A kernel thread, such as vhost's, has none.
 */
export const syscallFrame = /^(el0t?_(64_|32_)?svc(_\w+)?(\.constprop\.\d+)?|do_el0_svc(_compat)?|invoke_syscall|__(arm64|arm|x64|ia32|s390x|riscv)_(compat_)?sys_\w+|entry_SYS(CALL|ENTER)\w*|do_(fast_)?syscall_(32|64)\w*|do_int80_\w+|x64_sys_call|system_call\w*|tracesys|ret_fast_syscall|SyS_\w+|SYSC_\w+|ksys_\w+)$/;

export const callersColumns = {
  process: { type: "string", unit: null, meaning: "The stack's first frame: the process (guest processes have the prefix <guest>)." },
  caller: { type: "string", unit: null, meaning: "Function that called the one asked for.", null: "it is the outermost frame" },
  syscall: { type: "boolean", unit: null, meaning: "Whether a system-call frame lies between the process and the function." },
  via: { type: "string", unit: null, meaning: "Innermost system-call frame on the way, such as __arm64_sys_writev.", null: "there is none" },
  value: { type: "number", unit: "events", meaning: "Weight of the stacks in which the function occurs on this way." },
  share: { type: "number", unit: "%", meaning: "Part of the function's whole weight." },
  ofTotal: { type: "number", unit: "%", meaning: "Part of the weight of all stacks." },
} as const satisfies Columns;

/**
 * Who calls a function, and whether by a system call: a row per process, direct caller and system call, heaviest first.
 * Under plain virtio-net, tun_get_user is reached from QEMU through writev; under vhost-net from a kernel thread.
 * @param func name of the function; copies that the compiler made (tun_get_user.isra.0) and marks (_[k]) are taken with it
 * @returns process, caller, syscall, via, value, share, ofTotal; no rows where no stack holds the function
 */
export function callersOf(stacks: ColumnTable, func: string): ColumnTable {
  const rows = new Map<string, RowOf<typeof callersColumns>>();
  let sum = 0, total = 0;
  for (const { frames, value } of stacksOf(stacks, "callersOf")) {
    total += value;
    const names = frames.map(unmarked);
    const at = names.findIndex((name, i) => i > 0 && (name === func || original(name) === func));
    if (at < 0) continue;
    sum += value;
    const via = names.slice(1, at).findLast((name) => syscallFrame.test(name)) ?? null;
    const caller = at > 1 ? names[at - 1] : null;
    const key = `${frames[0]}\0${caller}\0${via}`;
    const row = rows.get(key) ?? { process: frames[0], caller, syscall: via !== null, via, value: 0, share: 0, ofTotal: 0 };
    row.value += value;
    rows.set(key, row);
  }
  const sorted = [...rows.values()].sort((a, b) => b.value - a.value);
  for (const row of sorted) Object.assign(row, { share: percent(row.value, sum), ofTotal: percent(row.value, total) });
  return tableOf(inUnit(callersColumns, unitOf(stacks), "value"), sorted);
}

const percent = (part: number, whole: number) => (whole === 0 ? 0 : (100 * part) / whole);

export const syscallShareColumns = {
  process: { type: "string", unit: null, meaning: "The stack's first frame: the process." },
  value: { type: "number", unit: "events", meaning: "Weight of all stacks of the process." },
  syscall: { type: "number", unit: "events", meaning: "Weight of those with a system-call frame." },
  share: { type: "number", unit: "%", meaning: "Part of the process's weight that is spent in system calls." },
} as const satisfies Columns;

/** How much of each process's weight lies under system-call frames: process, value, syscall, share; heaviest process first. */
export function syscallShare(stacks: ColumnTable): ColumnTable {
  const rows = new Map<string, RowOf<typeof syscallShareColumns>>();
  for (const { frames, value } of stacksOf(stacks, "syscallShare")) {
    const row = rows.get(frames[0]) ?? { process: frames[0], value: 0, syscall: 0, share: 0 };
    row.value += value;
    if (frames.some((frame, i) => i > 0 && syscallFrame.test(unmarked(frame)))) row.syscall += value;
    rows.set(frames[0], row);
  }
  const sorted = [...rows.values()].sort((a, b) => b.value - a.value);
  for (const row of sorted) row.share = percent(row.syscall, row.value);
  return tableOf(inUnit(syscallShareColumns, unitOf(stacks), "value", "syscall"), sorted);
}

export const topFramesColumns = {
  frame: { type: "string", unit: null, meaning: "Function." },
  self: { type: "number", unit: "events", meaning: "Weight of the stacks whose leaf it is: time in the function itself." },
  total: { type: "number", unit: "events", meaning: "Weight of the stacks that hold it: time in it and in what it calls; recursion counts once." },
  selfShare: { type: "number", unit: "%", meaning: "self as part of the weight of all stacks." },
  totalShare: { type: "number", unit: "%", meaning: "total as part of the weight of all stacks." },
} as const satisfies Columns;

/** Functions by their own weight: frame, self, total, selfShare, totalShare. The process's name is not counted as a frame. */
export function topFrames(stacks: ColumnTable): ColumnTable {
  const rows = new Map<string, RowOf<typeof topFramesColumns>>();
  let sum = 0;
  for (const { frames, value } of stacksOf(stacks, "topFrames")) {
    sum += value;
    const names = frames.slice(1).map(unmarked);
    for (const frame of new Set(names)) {
      const row = rows.get(frame) ?? { frame, self: 0, total: 0, selfShare: 0, totalShare: 0 };
      row.total += value;
      if (frame === names[names.length - 1]) row.self += value;
      rows.set(frame, row);
    }
  }
  const sorted = [...rows.values()].sort((a, b) => b.self - a.self || b.total - a.total);
  for (const row of sorted) Object.assign(row, { selfShare: percent(row.self, sum), totalShare: percent(row.total, sum) });
  return tableOf(inUnit(topFramesColumns, unitOf(stacks), "self", "total"), sorted);
}

export const diffColumns = {
  stack: { type: "string", unit: null, meaning: "Frames from the root to the leaf, separated by semicolons." },
  a: { type: "number", unit: "events", meaning: "Weight in the first table; 0 where the stack is not in it. Scaled where normalize is set." },
  b: { type: "number", unit: "events", meaning: "Weight in the second table; 0 where the stack is not in it." },
  delta: { type: "number", unit: "events", meaning: "Change from a to b: b − a." },
} as const satisfies Columns;

export interface DiffOptions {
  /** Scale a so that both tables have the same total, as difffolded.pl -n does; default false. For recordings of different lengths. */
  normalize?: boolean;
}

/**
 * Two tables of stacks side by side: stack, a, b, delta, in byte order of the stacks; a stack that occurs in several rows is summed.
 * Process names that differ from run to run (`vhost-936`, `vhost-1781`) should be made equal first, since they make all their stacks differ.
 */
export function diffStacks(a: ColumnTable, b: ColumnTable, options: DiffOptions = {}): ColumnTable {
  const sums = [new Map<string, number>(), new Map<string, number>()], totals = [0, 0];
  [a, b].forEach((table, side) => {
    for (const { text, value } of stacksOf(table, "diffStacks")) {
      sums[side].set(text, (sums[side].get(text) ?? 0) + value);
      totals[side] += value;
    }
  });
  const scale = options.normalize && totals[0] > 0 ? totals[1] / totals[0] : 1;
  const stack = inByteOrder([...new Set([...sums[0].keys(), ...sums[1].keys()])]);
  const before = Float64Array.from(stack, (text) => (sums[0].get(text) ?? 0) * scale);
  const after = Float64Array.from(stack, (text) => sums[1].get(text) ?? 0);
  return makeTable(inUnit(diffColumns, unitOf(b), "a", "b", "delta"), { stack, a: before, b: after, delta: after.map((x, i) => x - before[i]) });
}
