import { basename } from "node:path";
import * as kl from "kernel-lib";

/** A format's two entrances. */
export interface Reader {
  name: string;
  /** Parses what is at hand. */
  from(input: string | Uint8Array, options?: kl.ParseOptions): object;
  /** Reads a path, bytes or chunks. */
  load(source: kl.Source, options?: kl.LoadOptions): Promise<object>;
}

export const readers = {
  iperf3: { name: "iperf3", from: kl.fromIperf3, load: kl.loadIperf3 },
  perfStat: { name: "perf-stat", from: kl.fromPerfStat, load: kl.loadPerfStat },
  perfKvmStat: { name: "perf-kvm-stat", from: kl.fromPerfKvmStat, load: kl.loadPerfKvmStat },
  perfReport: { name: "perf-report", from: kl.fromPerfReport, load: kl.loadPerfReport },
  perfScript: { name: "perf-script", from: kl.fromPerfScript, load: kl.loadPerfScript },
  traceCmd: { name: "trace-cmd", from: kl.fromTraceCmd, load: kl.loadTraceCmd },
  virtiostat: { name: "virtiostat", from: kl.fromVirtiostat, load: kl.loadVirtiostat },
  kvmexit: { name: "kvmexit", from: kl.fromKvmexit, load: kl.loadKvmexit },
  folded: { name: "folded", from: kl.fromFolded, load: kl.loadFolded },
  threads: { name: "thread-list", from: kl.fromThreadList, load: kl.loadThreadList },
  commands: { name: "commands", from: kl.fromCommands, load: kl.loadCommands },
} satisfies Record<string, Reader>;

/** What reads a recording, by its file name; null for files that are no recording (how it was made, raw data, other tools). */
export function readerOf(path: string): Reader | null {
  const name = basename(path).replace(/\.(gz|zst)$/, "");
  if (!/\.(txt|json|csv|folded)$/.test(name) || /record\.txt$|\.stderr$|^(commands|environment|versions)\.txt$/.test(name)) return null;
  if (/iperf3.*\.(txt|json)$/.test(name)) return readers.iperf3;
  if (/^perf-stat.*\.(txt|csv|json)$/.test(name)) return readers.perfStat;
  if (/^perf-kvm-stat(\.script)/.test(name)) return readers.traceCmd;
  if (/^perf-kvm-stat.*\.txt$/.test(name)) return readers.perfKvmStat;
  if (/^perf-(kvm-)?report.*\.txt$/.test(name)) return readers.perfReport;
  if (/^perf-script.*\.txt$/.test(name)) return readers.perfScript;
  if (/^trace-cmd.*\.(dump|stat|hist|events)\.txt$|^trace-cmd-stat\.txt$/.test(name)) return null;
  if (/^(trace-cmd|ftrace-trace).*\.txt$/.test(name)) return readers.traceCmd;
  if (/^virtiostat\.txt$/.test(name)) return readers.virtiostat;
  if (/^kvmexit\.txt$/.test(name)) return readers.kvmexit;
  return null;
}
