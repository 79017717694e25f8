// ps -eLo pid,tid,comm,args      (procps, src/ps/output.c), alone or in a section of a recording's environment.txt:
//
//   == L1 threads
//     PID   TID PSR COMMAND         COMMAND
//    3275  3280   3 CPU 0/KVM       qemu-system-aarch64 -M virt,gic-version=3 -enable-kvm …
//    pid    tid psr comm            args
//
// Other columns may stand before comm (ps -eT); the heading says which is which. comm may hold blanks, so it is
// cut by the width of its heading. ps -eLf has the command line alone, of which the first word is taken for comm.
import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { makeTable, NumberBuilder, StringBuilder, type Columns } from "../source/columns.js";
import { HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";

export const threadListColumns = {
  section: { type: "string", unit: null, meaning: "Heading of the section of environment.txt that the list stands in, such as \"L1 threads\" or \"guest\".", null: "the text has no sections" },
  pid: { type: "number", unit: null, meaning: "Process id." },
  tid: { type: "number", unit: null, meaning: "Thread id; the process id for a process's first thread." },
  comm: { type: "string", unit: null, meaning: "Name of the thread, at most 15 characters." },
  args: { type: "string", unit: null, meaning: "The process's command line.", null: "the list does not hold it" },
} as const satisfies Columns;

const COMMAND = /^(COMMAND|CMD|COMM)$/;

/** Where a list's heading says that its columns are. */
interface Heading {
  /** Words before comm. */
  before: number;
  pid: number;
  tid: number;
  /** Characters of comm; null where it is the last column. */
  commWidth: number | null;
  /** Whether that last column holds the command line, as with -f, and not the thread's name. */
  full: boolean;
}

function heading(line: string): Heading | null {
  const words = [...line.matchAll(/\S+/g)];
  const names = words.map((word) => word[0]);
  const before = names.findIndex((name) => COMMAND.test(name));
  const pid = names.indexOf("PID");
  if (before < 0 || pid < 0 || pid > before) return null;
  const tid = names.findIndex((name) => name === "TID" || name === "LWP" || name === "SPID");
  const next = words[before + 1] as RegExpMatchArray | undefined;
  return { before, pid, tid: tid < 0 || tid > before ? pid : tid, commWidth: next ? next.index! - words[before].index! : null, full: names.includes("STIME") };
}

export const threadList: Format<ColumnTable, ParseOptions> = {
  name: "thread-list",
  command: "ps -eLo pid,tid,comm,args",
  parser() {
    const sections = new StringBuilder(), comms = new StringBuilder(), args = new StringBuilder();
    const pids = new NumberBuilder(), tids = new NumberBuilder();
    let section: string | null = null;
    let head: Heading | null = null;
    return {
      line(bytes, start, end) {
        const line = bytes.toString("utf8", start, end);
        if (line.trim() === "") return HEADER;
        const opens = /^== (.*\S)/.exec(line);
        if (opens) {
          section = opens[1];
          head = null;
          return HEADER;
        }
        const found = heading(line);
        if (found) {
          head = found;
          return HEADER;
        }
        // environment.txt holds other things than threads, under headings of their own.
        if (!head) return section === null ? UNKNOWN : HEADER;
        const match = new RegExp(`^\\s*((?:\\S+\\s+){${head.before - 1}}\\S+) (.*)$`).exec(line);
        if (!match) return UNKNOWN;
        const words = match[1].split(/\s+/);
        const pid = Number(words[head.pid]), tid = Number(words[head.tid]);
        if (!Number.isInteger(pid) || !Number.isInteger(tid)) return UNKNOWN;
        const text = match[2].trim();
        const comm = head.full ? text.replace(/ .*/, "").replace(/^.*\/(?=[^/]*$)/, "").replace(/^\[(.*)\]$/, "$1").slice(0, 15) : match[2].slice(0, head.commWidth ?? undefined).trim();
        if (comm === "") return UNKNOWN;
        sections.push(section);
        pids.push(pid);
        tids.push(tid);
        comms.push(comm);
        args.push(head.full ? text : head.commWidth === null ? null : match[2].slice(head.commWidth).trim());
        return ROW;
      },
      finish() {
        return makeTable(threadListColumns, { section: sections.finish(), pid: pids.finish(), tid: tids.finish(), comm: comms.finish(), args: args.finish() });
      },
    };
  },
};

/** A list of threads (`ps -eLo pid,tid,comm,args`, or an environment.txt that holds one) → one row per thread. Lines that are no threads are counted. */
export function fromThreadList(text: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(text, threadList, options);
}

/** Reads a list of threads; see `fromThreadList`. */
export function loadThreadList(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, threadList, options);
}
