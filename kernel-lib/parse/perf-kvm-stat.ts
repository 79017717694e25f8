import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LineKind, type LoadOptions, type ParseOptions } from "../source/lines.js";

// perf kvm stat report [--event=vmexit|mmio|ioport] [--vcpu=N] [--key=time], perf kvm stat live
// Printed by print_result() of tools/perf/builtin-kvm.c.
//
//             DABT_LOW       8376    56.93%    25.06%     46.99us   3910.22us    190.89us ( +-   1.43% )
//             event       samples samples_pct time_pct       min         max         avg        stddev_pct
//
// Before 3.14 there are no Min and Max. MMIO and I/O port tables have the address as event: 0x9fc00:W, 0x3f8:POUT.

export const perfKvmStatColumns = {
  block: { type: "number", unit: null, meaning: "Which table of the text this is, index from 1; perf kvm stat live prints one per interval." },
  clock: { type: "string", unit: null, meaning: "Time of day that live prints above its table.", null: "a report" },
  vms: { type: "string", unit: null, meaning: "Which VMs were counted, in perf's words: all VMs, or pid(s) N.", null: "old versions do not say" },
  vcpu: { type: "number", unit: null, meaning: "Number of the vCPU that --vcpu chose. perf 6.1 on arm64 puts all into vCPU 0.", null: "all vCPUs" },
  by: { type: "string", unit: null, meaning: "What the events are, in perf's words: VM-EXIT, MMIO Access, IO Port Access, …", null: "the heading is missing" },
  event: { type: "string", unit: null, meaning: "Exit reason (by VM-EXIT), or address and direction such as 0x9fc00:W, 0x3f8:POUT." },
  samples: { type: "number", unit: "count", meaning: "How often it happened." },
  samples_pct: { type: "number", unit: "%", meaning: "Share of the samples of its table.", null: "perf printed nan" },
  time_pct: { type: "number", unit: "%", meaning: "Share of the time of its table: samples × avg over the sum of those; of which time, column span says.", null: "perf printed nan" },
  min: { type: "number", unit: "ns", meaning: "Shortest span. With --vcpu, perf 6.1 prints 0 here.", null: "perf before 3.14" },
  max: { type: "number", unit: "ns", meaning: "Longest span.", null: "perf before 3.14" },
  avg: { type: "number", unit: "ns", meaning: "Mean span." },
  stddev_pct: { type: "number", unit: "%", meaning: "Standard deviation of the mean, relative to it (a standard error, printed as +-); 0 for a single sample.", null: "not printed, or nan" },
  span: { type: "string", unit: null, meaning: "Which span the times are: guest (run time from kvm_entry to kvm_exit, as perf counts on arm64) or handling (from kvm_exit to kvm_entry, as on x86). Inferred from the exit reasons; kvmStatSpan says from which.", null: "the exit reasons do not tell the architecture" },
  total_samples: { type: "number", unit: "count", meaning: "All samples of its table, from the line under it.", null: "that line is missing" },
  total_time: { type: "number", unit: "ns", meaning: "Time of all samples of its table, from the line under it.", null: "that line is missing" },
  lost: { type: "number", unit: "count", meaning: "Lost-event records in its interval, from the line under it; 0 where perf prints none." },
} as const satisfies Columns;

type Row = { -readonly [K in keyof RowOf<typeof perfKvmStatColumns>]: RowOf<typeof perfKvmStatColumns>[K] };

/** What the times of a `perf kvm stat` table are. */
export type KvmStatSpan = "guest" | "handling";

const HEADING = /^Analyze events for (?:(all VMs|pid\(s\) [^,]*(?:,[^,]+)*?|dazed and confused on what is monitored), )?(?:all VCPUs|VCPU (\d+)):$/;
const NAMES = /^\s*(\S.*?)\s+Samples\s+Samples?%\s+Time%(?:\s+Min Time\s+Max Time)?\s+Avg time\s*$/i;
const EVENT = /^\s*(\S.*?)\s+(\d+)\s+(-?[\d.]+|-?nan)%\s+(-?[\d.]+|-?nan)%\s+(?:([\d.]+)us\s+([\d.]+)us\s+)?([\d.]+|-?nan)us(?:\s+\(\s*\+-\s*([\d.]+|-?nan)%\s*\))?\s*$/;
const TOTAL = /^Total Samples:\s*(\d+), Total events handled time:\s*([\d.]+)us\.?\s*$/;
const LOST = /^Lost events:\s*(\d+)\s*$/;
const CLOCK = /^\d\d:\d\d:\d\d\.\d{6}$/;
/** live clears the screen before each table. */
const ESCAPES = /\x1b\[[0-9;?]*[A-Za-z]/g;
const KNOWN = [
  /^\s*$/, /^#/, /^\[ perf \w+: .*\]$/, /^libtraceevent: /, /^\s+\[[\w-]+:\w+\] (bad op token|unknown op|function \w+ not defined)/,
  /^Warning:/, /^Processed \d+ events and lost \d+ (chunks|events)/, /^\S+@\S+:.*[#$] .*perf kvm\b/, /^Check IO\/CPU overload!$/,
];

/** arm64: names of kvm_arm_exception_class and of kvm's return codes (arch/arm64/include/asm/kvm_arm.h), old spellings too. */
const ARM64 = /^(WF[xXIE]|CP15_(32|64)|CP14_(MR|LS|64)|FP_ASIMD|CP10_ID|SVC(32|64)|HVC(32|64)|SMC(32|64)|SYS64|SVE|ERET|IMP_DEF|[ID]ABT_(LOW|CUR)|(PC|SP)_ALIGN|FP_EXC(32|64)|BREAKPT_(LOW|CUR)|SOFTSTP_(LOW|CUR)|WATCHPT_(LOW|CUR)|BKPT32|VECTOR32|BRK64|HYP_GONE)$/;
/** x86: names of VMX and SVM exit reasons (arch/x86/include/uapi/asm/{vmx,svm}.h), those that no other architecture has. */
const X86 = /^(EXTERNAL_INTERRUPT|EPT_(VIOLATION|MISCONFIG)|MSR_(READ|WRITE)|IO_INSTRUCTION|CPUID|HLT|PAUSE(_INSTRUCTION)?|PENDING_INTERRUPT|INTERRUPT_WINDOW|NMI_WINDOW|CR_ACCESS|DR_ACCESS|PREEMPTION_TIMER|APIC_(ACCESS|WRITE)|EOI_INDUCED|EXCEPTION_NMI|TPR_BELOW_THRESHOLD|INVLPG|RDPMC|RDTSCP?|VMCALL|VMLAUNCH|WBINVD|XSETBV|npf|hlt|io|msr|cpuid|interrupt|pause|vintr|vmmcall|(read|write)_(CR|DR)\d+|avic_\w+|invlpg|NPF|VINTR|VMMCALL)$/;

/** Which span a table's times are, and how that is known. */
export interface KvmStatSpanFound {
  /** guest: kvm_entry → kvm_exit; handling: kvm_exit → kvm_entry; null: unknown. */
  span: KvmStatSpan | null;
  /** The exit reasons, or the kind of table, that say so. */
  because: string;
}

/**
 * Which span the times of a `perf kvm stat` table are. perf starts its clock at kvm_entry and stops it at kvm_exit on arm64 (the guest
 * ran), the other way round on x86 (the host handled the exit); the report does not say, but its exit reasons tell the architecture.
 * Takes any table with a column event (and by, where there is one).
 */
export function kvmStatSpan(table: ColumnTable): KvmStatSpanFound {
  if (!table.columnNames().includes("event")) throw new OptionError(`kvmStatSpan takes a table with the column event; this has ${table.columnNames().join(", ")}`);
  const events = [...new Set(table.array("event") as string[])];
  const bys = table.columnNames().includes("by") ? [...new Set(table.array("by") as (string | null)[])] : [];
  return spanOf(events, bys);
}

function spanOf(events: string[], bys: (string | null)[]): KvmStatSpanFound {
  const arm64 = events.filter((event) => ARM64.test(event)), x86 = events.filter((event) => X86.test(event));
  if (arm64.length > 0 && x86.length === 0) return { span: "guest", because: `${arm64.join(", ")}: exit reasons of arm64, where perf counts from kvm_entry to kvm_exit` };
  if (x86.length > 0 && arm64.length === 0) return { span: "handling", because: `${x86.join(", ")}: exit reasons of x86, where perf counts from kvm_exit to kvm_entry` };
  if (arm64.length > 0) return { span: null, because: `exit reasons of two architectures: ${arm64[0]} (arm64), ${x86[0]} (x86)` };
  const io = bys.filter((by) => by !== null && /^(MMIO Access|IO Port Access)$/.test(by));
  if (io.length > 0) return { span: "handling", because: `${io.join(", ")}: a table that perf makes on x86, from the access to kvm_entry` };
  return { span: null, because: events.length === 0 ? "the table is empty" : `no exit reason that one architecture alone has: ${events.slice(0, 8).join(", ")}` };
}

export interface PerfKvmStatOptions extends ParseOptions {
  /** Which span the times are, where you know it; default: inferred from the exit reasons; one of guest, handling. */
  span?: KvmStatSpan;
}

export const perfKvmStat: Format<ColumnTable, PerfKvmStatOptions> = {
  name: "perf-kvm-stat",
  command: "perf kvm stat record -a -- CMD && perf kvm stat report",
  parser({ span }) {
    if (span !== undefined && span !== "guest" && span !== "handling") throw new OptionError(`span is one of guest, handling; this is ${JSON.stringify(span)}`);
    const rows: Row[] = [];
    let block = 0, clock: string | null = null, vms: string | null = null, vcpu: number | null = null, by: string | null = null;
    /** What stands under a table goes to all of its rows. */
    const under = (values: Partial<Row>): LineKind => {
      for (let i = rows.length - 1; i >= 0 && rows[i].block === block; i--) Object.assign(rows[i], values);
      return CONTINUATION;
    };
    const number = (text: string | undefined) => (text === undefined || text.endsWith("nan") ? null : Number(text));
    const ns = (text: string | undefined) => (text === undefined || text.endsWith("nan") ? null : Math.round(Number(text) * 1000));

    return {
      line(bytes, start, end): LineKind {
        if (end - start > 8192) return UNKNOWN; // nobody's exit reason
        const line = bytes.toString("utf8", start, end).replace(ESCAPES, "").trimEnd();
        let found: RegExpExecArray | null;
        if ((found = EVENT.exec(line)) && found[7] !== "nan") {
          rows.push({
            block: Math.max(block, 1), clock, vms, vcpu, by, event: found[1], samples: Number(found[2]), samples_pct: number(found[3]), time_pct: number(found[4]),
            min: ns(found[5]), max: ns(found[6]), avg: ns(found[7])!, stddev_pct: number(found[8]), span: null, total_samples: null, total_time: null, lost: 0,
          });
          block = Math.max(block, 1);
          return ROW;
        }
        if ((found = HEADING.exec(line))) {
          block++;
          vms = found[1] ?? null;
          vcpu = found[2] === undefined ? null : Number(found[2]);
          by = null;
          return HEADER;
        }
        if ((found = NAMES.exec(line))) {
          by = found[1];
          return HEADER;
        }
        if ((found = TOTAL.exec(line))) {
          clock = null;
          return under({ total_samples: Number(found[1]), total_time: ns(found[2]) });
        }
        if ((found = LOST.exec(line))) return under({ lost: Number(found[1]) });
        if (CLOCK.test(line)) {
          clock = line;
          return HEADER;
        }
        return KNOWN.some((known) => known.test(line)) ? HEADER : UNKNOWN;
      },
      finish(): ColumnTable {
        const known = span ?? spanOf([...new Set(rows.map((row) => row.event))], [...new Set(rows.map((row) => row.by))]).span;
        for (const row of rows) row.span = known;
        return tableOf(perfKvmStatColumns, rows);
      },
    };
  },
};

/**
 * perf kvm stat report or live → one row per exit reason (or address) of each table. Columns: `perfKvmStatColumns`.
 * Mind the column span: on arm64 the times are how long the guest ran, not what the exits cost.
 * @throws ParseError when no line is perf kvm stat output; OptionError
 */
export function fromPerfKvmStat(input: string | Uint8Array, options: PerfKvmStatOptions = {}): ColumnTable {
  return parseText(input, perfKvmStat, options);
}

/** Reads perf kvm stat output from a file, bytes or a stream. See fromPerfKvmStat. */
export function loadPerfKvmStat(source: Source, options: PerfKvmStatOptions & LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, perfKvmStat, options);
}
