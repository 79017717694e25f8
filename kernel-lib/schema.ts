import { ColumnTable } from "arquero";
import { columnsOf, knowNames, tableOf, type Columns } from "./source/columns.js";
import { frameColumns, profileEventColumns, profileLostColumns, sampleColumns, stackColumns } from "./parse/perf-script.js";
import { foldedColumns } from "./parse/folded.js";
import { countedTwiceColumns, mergedColumns, scaleColumns } from "./analysis/merge-stacks.js";
import { nestWeightsColumns } from "./analysis/nest-weights.js";
import { nestVcpusColumns } from "./analysis/nest-vcpus.js";
import { callersColumns, diffColumns, syscallShareColumns, topFramesColumns } from "./analysis/stacks.js";
import { iperf3Columns } from "./parse/iperf3.js";
import { perfStatColumns } from "./parse/perf-stat.js";
import { perfKvmStatColumns } from "./parse/perf-kvm-stat.js";
import { comparisonColumns } from "./analysis/compare.js";
import { runComparisonColumns } from "./analysis/compare-runs.js";
import { perfReportColumns, perfReportSectionColumns } from "./parse/perf-report.js";
import { virtiostatColumns } from "./parse/virtiostat.js";
import { kvmexitColumns } from "./parse/kvmexit.js";
import { eventColumns, lostColumns, sidesColumns, traceEventColumns } from "./parse/trace-cmd.js";
import { commandColumns } from "./parse/commands.js";
import { threadListColumns } from "./parse/threads.js";
import { vcpuThreadsColumns } from "./analysis/vcpus.js";
import { exitAccountColumns, exitSummaryColumns, kvmExitsColumns } from "./analysis/exits.js";
import { backendStatesColumns, preemptionsColumns, stateSummaryColumns, vcpuStatesColumns } from "./analysis/vcpu-states.js";
import { virtioDevicesColumns } from "./analysis/devices.js";
import { virtioKicksColumns } from "./analysis/kick-table.js";
import { kickSpansColumns, kickStagesColumns } from "./analysis/kick-stages.js";
import { kickAccountColumns } from "./analysis/kick-account.js";
import { criticalPathColumns, kickPathsColumns, kickWaitsColumns } from "./analysis/kick-path.js";
import { kickSequenceColumns } from "./analysis/kick-sequence.js";
import { clockCpusColumns } from "./analysis/clocks.js";
import { guestDevicesColumns } from "./analysis/guest-devices.js";
import { packetPathColumns } from "./analysis/packets.js";
import { idleAuditColumns, idleRuleColumns } from "./analysis/idle.js";
import { overviewColumns } from "./study.js";

/**
 * Every table that kernel-lib makes, by name, with what each column means. The descriptions stand beside
 * the code that fills the columns; this list is for people (`describe`), for displays (units) and for the
 * test that lets no column go without its unit and meaning.
 */
export const schema: Record<string, Columns> = {
  "iperf3": iperf3Columns,
  "perf stat": perfStatColumns,
  "perf kvm stat": perfKvmStatColumns,
  "comparison": comparisonColumns,
  "run comparison": runComparisonColumns,
  "perf script samples": sampleColumns,
  "perf script stacks": stackColumns,
  "perf script frames": frameColumns,
  "perf script events": profileEventColumns,
  "perf script lost": profileLostColumns,
  "folded stacks": foldedColumns,
  "merged stacks": mergedColumns,
  "stack scale": scaleColumns,
  "counted twice": countedTwiceColumns,
  "nested weights": nestWeightsColumns,
  "nested vcpus": nestVcpusColumns,
  "callers": callersColumns,
  "system-call share": syscallShareColumns,
  "top frames": topFramesColumns,
  "stack difference": diffColumns,
  "perf report": perfReportColumns,
  "perf report sections": perfReportSectionColumns,
  "virtiostat": virtiostatColumns,
  "kvmexit": kvmexitColumns,
  "trace events": traceEventColumns,
  "lost events": lostColumns,
  "trace sides": sidesColumns,
  ...eventColumns,
  "commands": commandColumns,
  "thread list": threadListColumns,
  "vcpu threads": vcpuThreadsColumns,
  "kvm exits": kvmExitsColumns,
  "exit summary": exitSummaryColumns,
  "exit account": exitAccountColumns,
  "vcpu states": vcpuStatesColumns,
  "backend states": backendStatesColumns,
  "state summary": stateSummaryColumns,
  "preemptions": preemptionsColumns,
  "virtio devices": virtioDevicesColumns,
  "virtio kicks": virtioKicksColumns,
  "kick stages": kickStagesColumns,
  "kick spans": kickSpansColumns,
  "kick account": kickAccountColumns,
  "kick paths": kickPathsColumns,
  "critical path": criticalPathColumns,
  "kick waits": kickWaitsColumns,
  "kick sequence": kickSequenceColumns,
  "clocks": clockCpusColumns,
  "guest devices": guestDevicesColumns,
  "packet path": packetPathColumns,
  "overview": overviewColumns,
  "idle rules": idleRuleColumns,
  "idle audit": idleAuditColumns,
};

for (const columns of Object.values(schema)) knowNames(columns);

const describeSchema = {
  column: { type: "string", unit: null, meaning: "Name of the column." },
  type: { type: "string", unit: null, meaning: "number, string, boolean, or hex: a 64-bit number as text." },
  unit: { type: "string", unit: null, meaning: "Unit of the values.", null: "the column is a name or an identifier" },
  meaning: { type: "string", unit: null, meaning: "What the value says." },
  null: { type: "string", unit: null, meaning: "When the value is null.", null: "it never is" },
} as const satisfies Columns;

/** What each column of a table means: name, type, unit, meaning, when it is null. Columns that a notebook derived are listed without. */
export function describe(table: ColumnTable): ColumnTable {
  const known = columnsOf(table);
  return tableOf(describeSchema, table.columnNames().map((column) => ({
    column,
    type: known[column]?.type ?? "",
    unit: known[column]?.unit ?? null,
    meaning: known[column]?.meaning || "made in this notebook",
    null: known[column]?.null ?? null,
  })));
}
