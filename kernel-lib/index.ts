// Every public name, in the order in which data flows.

export { ColumnTable } from "arquero";

export { KernelLibError, ParseError, MissingEventError, MissingFileError, OptionError, UnpackLimitError, InterruptedError } from "./errors.js";
export type { Source } from "./source/bytes.js";
export type { UnpackOptions } from "./source/unpack.js";
export type { LoadProgress } from "./source/progress.js";
export { accounting, type Accounting, type ParseOptions, type LoadOptions } from "./source/lines.js";
export type { CachedLoadOptions } from "./store/cache.js";
export type { ColumnSpec, Columns, RowOf, Column } from "./source/columns.js";
export { schema, describe } from "./schema.js";
export type { Trace, TraceArrays } from "./trace.js";

// Which format a text is in.
export { detectFormat, needFormat, formatNames, type FormatName } from "./parse/detect.js";

// Bit rates and counters.
export { iperf3, fromIperf3, loadIperf3, type Iperf3Options } from "./parse/iperf3.js";
export { perfStat, fromPerfStat, loadPerfStat, type PerfStatOptions } from "./parse/perf-stat.js";
export {
  perfKvmStat, fromPerfKvmStat, loadPerfKvmStat, kvmStatSpan, type PerfKvmStatOptions, type KvmStatSpan, type KvmStatSpanFound,
} from "./parse/perf-kvm-stat.js";
export {
  compareRows, compareCounts, compareBitrate, ratioInterval, shareRatioInterval, estimate, studentQuantile,
  type CompareOptions, type CompareRowsOptions, type CompareCountsOptions, type CompareBitrateOptions, type Estimate, type RatioInterval,
} from "./analysis/compare.js";

// Samples and stacks.
export { perfScript, fromPerfScript, loadPerfScript, NO_NUMBER, type PerfScriptOptions, type Profile, type ProfileArrays, type FrameKind } from "./parse/perf-script.js";
export { folded, fromFolded, loadFolded, toFolded, writeFolded } from "./parse/folded.js";
export { foldStacks, type FoldOptions } from "./analysis/fold.js";
export { mergeStacks, stackScale, countedTwice, type MergeOptions } from "./analysis/merge-stacks.js";
export { nestStacks, notAttributed } from "./analysis/nest-stacks.js";
export { nestWeights, type NestWeightsOptions } from "./analysis/nest-weights.js";
export type { HostAndGuest, NestOptions } from "./analysis/nest-plan.js";
export { nestVcpus } from "./analysis/nest-vcpus.js";
export type { GuestTimeOption } from "./analysis/guest-time.js";
export { callersOf, syscallShare, topFrames, diffStacks, syscallFrame, type DiffOptions } from "./analysis/stacks.js";

// Tables of perf report and bcc's tools.
export { perfReport, fromPerfReport, loadPerfReport, perfReportSections } from "./parse/perf-report.js";
export { virtiostat, fromVirtiostat, loadVirtiostat } from "./parse/virtiostat.js";
export { kvmexit, fromKvmexit, loadKvmexit } from "./parse/kvmexit.js";

// Events.
export { traceCmd, fromTraceCmd, loadTraceCmd } from "./parse/trace-cmd.js";

// vCPUs, exits, kicks.
export { threadList, fromThreadList, loadThreadList } from "./parse/threads.js";
export { vcpuThreads, type VcpuSources } from "./analysis/vcpus.js";
export { kvmExits, exitSummary, exitAccount, type KvmExitsOptions } from "./analysis/exits.js";
export type { VirtioMmioBoard, VirtioMmioDevice, VirtioPciDevice, VirtioPlaces } from "./analysis/boards.js";
export { virtioDevices, type VirtioOptions } from "./analysis/devices.js";
export { virtioKicks, type VirtioKicksOptions } from "./analysis/kicks.js";
export { kickStages, kickSpans } from "./analysis/kick-stages.js";
export { vcpuStates, backendStates, vcpuStateSummary, preemptions, type VcpuStatesOptions } from "./analysis/vcpu-states.js";
export { kickAccount } from "./analysis/kick-account.js";
export { kickPaths, criticalPath, kickWaits, type KickPathsOptions, type CriticalPathOptions } from "./analysis/kick-path.js";
export { kickSequence, kickAt, type KickRow, type KickAtOptions, type KickSequenceOptions } from "./analysis/kick-sequence.js";

// Host and guest on one clock.
export { alignClocks, type Clocks, type AlignOptions } from "./analysis/clocks.js";
export { joinTraces, type HostAndGuestTraces, type JoinOptions } from "./analysis/join.js";
export { guestCpus, guestDevices, type GuestDevicesOptions } from "./analysis/guest-devices.js";
export { packetPath, packetStages, type PacketPathOptions } from "./analysis/packets.js";

// What is idle, and what is left without it.
export { excludeIdle, idleAudit, idleRules, type IdleRule, type IdleOptions, type ExcludeIdleOptions } from "./analysis/idle.js";

// A folder of recordings.
export { commands, fromCommands, loadCommands } from "./parse/commands.js";
export { loadRun, loadStudy, stackRuns, type Run, type Study, type LoadRunOptions, type RecordingName } from "./study.js";

// Is it better?
export { compareRuns, verdictOf, repeatsNeeded, type CompareRunsOptions, type Verdict } from "./analysis/compare-runs.js";

// Charts.
export { chart, type Chart, type ChartOptions } from "./chart/theme.js";
export { bitrateChart } from "./chart/bitrate.js";
export { countsChart, type CountsOptions } from "./chart/counts.js";
export { exitChart, type ExitChartOptions } from "./chart/exits.js";
export { cpuChart, type CpuChartOptions } from "./chart/cpu.js";
export { flameGraph, diffFlameGraph, type FlameGraphOptions, type DiffFlameGraphOptions } from "./chart/flame.js";
export { latencyChart, type LatencyChartOptions } from "./chart/latency.js";
export { sequenceChart } from "./chart/sequence.js";
export { stageChart } from "./chart/stages.js";
export { pathChart } from "./chart/path.js";
export { effectsChart, type EffectsOptions } from "./chart/effects.js";
export { stateChart, type StateChartOptions } from "./chart/states.js";

// To danfo and back.
export { toDanfo, fromDanfo, type DanfoFrame } from "./danfo.js";

// To files of other programs and back.
export { toArrow, fromArrow, writeArrow, readArrow } from "./store/arrow.js";
export { toParquet, fromParquet, writeParquet, readParquet } from "./store/parquet.js";
export { writeTrace, readTrace, type WriteTraceOptions } from "./store/trace-folder.js";

// In the notebook.
export { show, bundleOf, type ShowOptions, type MimeBundle } from "./notebook/show.js";
export { md, type Markdown } from "./notebook/markdown.js";
export { formatValue } from "./format.js";
export { check, CheckError } from "./notebook/check.js";
export { renderChart, type RenderedChart } from "./chart/render.js";
import { installProgress } from "./notebook/progress.js";
import { installInterruption } from "./notebook/interrupt.js";
installProgress();
installInterruption();
