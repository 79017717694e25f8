import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";

// commands.txt, which data/record.sh writes beside its recordings: each command as typed, what became of it, remarks.
//
//   root@host:~# perf stat -e 'kvm:*' -a -- ssh guest iperf3 -c 172.16.10.1 -n 200M > perf-stat-run1.iperf3.txt 2> perf-stat-run1.txt
//       (rc=0, 1 s)
//   ## perf-stat.txt is perf-stat-run1.txt

export const commandColumns = {
  where: { type: "string", unit: null, meaning: "Prompt: user and machine." },
  command: { type: "string", unit: null, meaning: "The command as typed." },
  exit: { type: "number", unit: null, meaning: "Exit status code.", null: "not recorded" },
  seconds: { type: "number", unit: "s", meaning: "How long it took.", null: "not recorded" },
  output: { type: "string", unit: null, meaning: "Last file that its output was sent to.", null: "none" },
} as const satisfies Columns;

export const commands: Format<ColumnTable, ParseOptions> = {
  name: "commands",
  command: "data/record.sh GUEST DIR",
  parser() {
    const rows: { -readonly [K in keyof RowOf<typeof commandColumns>]: RowOf<typeof commandColumns>[K] }[] = [];
    return {
      line(bytes, start, end) {
        const line = bytes.toString("utf8", start, end);
        if (line.trim() === "" || /^\s*#/.test(line)) return HEADER;
        const typed = /^(\S+@\S+?):\S*[#$] (.*)$/.exec(line);
        if (typed) {
          const output = [...typed[2].matchAll(/(?:^|[^&\d>])\d?>>?\s*([\w./-]+)/g)].map((m) => m[1]).filter((file) => file !== "/dev/null").at(-1) ?? null;
          rows.push({ where: typed[1], command: typed[2], exit: null, seconds: null, output });
          return ROW;
        }
        const last = rows.at(-1);
        const end1 = /^\s+\(rc=(-?\d+)(?:, ([\d.]+) s)?\)$/.exec(line);
        if (end1 && last) {
          last.exit = Number(end1[1]);
          last.seconds = end1[2] === undefined ? null : Number(end1[2]);
          return CONTINUATION;
        }
        if (last && (last.command.endsWith("\\") || /^\s/.test(line))) { // a command over several lines, or a remark under it
          if (last.command.endsWith("\\")) last.command += `\n${line}`;
          return CONTINUATION;
        }
        return UNKNOWN;
      },
      finish: () => tableOf(commandColumns, rows),
    };
  },
};

/** Text of a commands.txt → one row per command. */
export function fromCommands(input: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(input, commands, options);
}

/** The same from a file. */
export function loadCommands(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, commands, options);
}
