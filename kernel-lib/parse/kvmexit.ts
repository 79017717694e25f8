// bcc's kvmexit, run on the host: how often vCPU threads left the guest, per reason. Intel only.
//
//   kvmexit [-p PID [-v VCPU | -a] | -t TID | -T TID,TID] [SECONDS] > kvmexit.txt
//   printed by bcc's tools/kvmexit.py
//
//   Display kvm exit reasons and statistics for all threads... Hit Ctrl-C to end.
//   PID      TID      KVM_EXIT_REASON                     COUNT
//   ^C2822     2829     EXIT_REASON_HLT                     12
//   ^C is what the terminal echoed when the run was ended; it sticks to the first row
//
// Which id columns there are depends on the options; where one id was asked for, only the first line names it.
import type { ColumnTable } from "arquero";
import { ParseError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";

export const kvmexitColumns = {
  pid: { type: "number", unit: null, meaning: "Process id of the QEMU that owns the vCPU.", null: "kvmexit ran with -t or -T" },
  tid: { type: "number", unit: null, meaning: "Thread id of the vCPU thread.", null: "the row adds up all threads of a process, or of one vCPU (-p without -a)" },
  vcpu: { type: "number", unit: null, meaning: "The vCPU that was asked for.", null: "kvmexit ran without -v" },
  exit_reason: { type: "string", unit: null, meaning: "Intel's reason for the exit, without the prefix EXIT_REASON_ that some modes print." },
  count: { type: "number", unit: "exits", meaning: "How many exits." },
  seconds: { type: "number", unit: "s", meaning: "How long kvmexit counted.", null: "until Ctrl-C" },
} as const satisfies Columns;

export const kvmexit: Format<ColumnTable, ParseOptions> = {
  name: "kvmexit",
  command: "kvmexit SECONDS",
  parser({ name }) {
    const rows: RowOf<typeof kvmexitColumns>[] = [];
    let ids: ("pid" | "tid")[] | null = null;
    let asked = { pid: null as number | null, tid: null as number | null, vcpu: null as number | null, seconds: null as number | null };
    let traceback = false, refusal: { line: number; text: string } | null = null, lines = 0;

    return {
      line(bytes, start, end) {
        lines++;
        const text = bytes.toString("utf8", start, end).trimEnd();
        if (text === "") return HEADER;
        if (/^Display kvm exit reasons and statistics for /.test(text)) {
          const number = (pattern: RegExp) => { const found = pattern.exec(text); return found ? Number(found[1]) : null; };
          asked = { pid: number(/ PID (\d+)/), tid: number(/ TID (\d+)/), vcpu: number(/ VCPU (\d+)/), seconds: number(/ after sleeping (\d+) secs/) };
          traceback = false;
          return HEADER;
        }
        const head = /^(PID +)?(TIDS? +)?KVM_EXIT_REASON +COUNT$/.exec(text);
        if (head) {
          ids = [...(head[1] ? ["pid" as const] : []), ...(head[2] ? ["tid" as const] : [])];
          traceback = false;
          return HEADER;
        }
        const cells = text.replace(/^\^C/, "").trim().split(/ +/);
        if (ids && cells.length === ids.length + 2 && /^[A-Z]\w*$/.test(cells[ids.length]) && cells.every((cell, i) => i === ids!.length || /^\d+$/.test(cell))) {
          const row = { ...asked, exit_reason: cells[ids.length].replace(/^EXIT_REASON_/, ""), count: Number(cells[ids.length + 1]) };
          ids.forEach((id, i) => { row[id] = Number(cells[i]); });
          rows.push(row);
          return ROW;
        }
        // Python's way to say why the tool stopped.
        if (/^Traceback \(most recent call last\):$/.test(text)) {
          traceback = true;
          return HEADER;
        }
        if (!traceback) return UNKNOWN;
        if (/^ +File ".*", line \d+, in /.test(text) || /^During handling of the above exception, another exception occurred:$/.test(text)) return HEADER;
        const exception = /^ *(?:\w+\.)*(?:Exception|\w+Error): (.*)$/.exec(text);
        if (exception) refusal ??= { line: lines, text: exception[1] };
        return exception || text.startsWith("    ") ? HEADER : UNKNOWN;
      },
      finish() {
        if (rows.length === 0 && refusal) {
          throw new ParseError("kvmexit stopped without a result; its message says why. On arm64 and AMD, count exits with perf kvm stat, or take kvmExits of a trace-cmd recording", name, refusal.line, refusal.text);
        }
        return tableOf(kvmexitColumns, rows);
      },
    };
  },
};

/** Text of bcc's kvmexit → one row per reason, and per thread where the text tells threads apart. @throws ParseError with kvmexit's own words where it refused to run. */
export function fromKvmexit(text: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(text, kvmexit, options);
}

/** As `fromKvmexit`, from a path (plain, .gz, .zst), bytes or chunks. */
export function loadKvmexit(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, kvmexit, options);
}
