import type { Clocks } from "../analysis/clocks.js";
import type { Profile } from "../parse/perf-script.js";
import type { Accounting } from "../source/lines.js";
import type { Trace } from "../trace.js";
import { escapeHtml, formatValue, visible } from "../format.js";

/** The few facts by which a person knows a recording again; null for values that are not one of ours. */
export function summaryOf(value: object): Record<string, string> | null {
  const facts = isTrace(value) ? traceFacts(value) : isAccounting(value) ? accountingFacts(value) : isProfile(value) ? profileFacts(value) : isClocks(value) ? clocksFacts(value) : null;
  if (!facts) return null;
  const rows = facts.map(([name, text]) => `<tr><th style="text-align:left">${escapeHtml(name)}</th><td style="text-align:left">${escapeHtml(text)}</td></tr>`);
  const width = Math.max(...facts.map(([name]) => name.length));
  return {
    "text/html": `<div class="kernel-lib-table" style="overflow-x:auto"><table><tbody>${rows.join("\n")}</tbody></table></div>`,
    "text/plain": facts.map(([name, text]) => `${name.padEnd(width)}  ${visible(text)}`).join("\n"),
  };
}

type Facts = [name: string, text: string][];
const count = (n: number) => n.toLocaleString("en-US");
const baseName = (path: string) => path.split("/").pop() || path;

function isTrace(value: any): value is Trace {
  return Array.isArray(value.eventNames) && typeof value.of === "function" && typeof value.raw?.length === "number";
}

function traceFacts(trace: Trace): Facts {
  const { raw } = trace;
  const counts = new Map<number, number>();
  for (const code of raw.event.codes) counts.set(code, (counts.get(code) ?? 0) + 1);
  const frequent = [...counts].sort((a, b) => b[1] - a[1]).map(([code, n]) => `${raw.event.values[code]} ${count(n)}`);
  const lost = trace.lost.numRows();
  return [
    ["trace", baseName(trace.source)],
    ["events", count(raw.length)],
    ["time span", raw.length > 0 ? formatValue(raw.ts[raw.length - 1] - raw.ts[0], "ns") : "none"],
    ["CPUs", trace.sides ? (trace.sides.objects() as { side: string; cpus: number }[]).map(({ side, cpus }) => `${side} ${cpus}`).join(", ") : String(trace.cpus)],
    ["event types", `${trace.eventNames.length}: ${frequent.slice(0, 8).join(", ")}${frequent.length > 8 ? ", …" : ""}`],
    ["lost", lost === 0 ? "nothing" : `events were lost at ${count(lost)} place${lost === 1 ? "" : "s"} (see .lost)`],
  ];
}

function isAccounting(value: any): value is Accounting {
  return typeof value.notUnderstood === "number" && typeof value.lines === "number" && Array.isArray(value.unknown);
}

function accountingFacts(a: Accounting): Facts {
  const facts: Facts = [
    ["source", baseName(a.source)], ["format", a.format], ["size", formatValue(a.bytes, "bytes")], ["lines", count(a.lines)],
    ["rows", count(a.rows)], ["continuation", count(a.continuation)], ["header", count(a.header)], ["not understood", count(a.notUnderstood)],
  ];
  for (const { line, text } of a.unknown.slice(0, 5)) facts.push([`line ${count(line)}`, text]);
  if (a.notUnderstood > 5) facts.push(["", `and ${count(a.notUnderstood - 5)} more (see .unknown)`]);
  return facts;
}

function isProfile(value: any): value is Profile {
  return typeof value.samples?.numRows === "function" && typeof value.frames?.numRows === "function" && typeof value.raw?.length === "number";
}

function profileFacts({ source, events, frames, stacks, lost, raw }: Profile): Facts {
  const byEvent = events.objects({ limit: 8 }) as { event: string | null; samples: number }[];
  const last = raw.length - 1;
  const span = raw.ts[last] - raw.ts[0];
  return [
    ["profile", baseName(source)],
    ["samples", count(raw.length)],
    ["time span", Number.isFinite(span) ? formatValue(span, "ns") : "no times"],
    ["events", byEvent.map(({ event, samples }) => `${event ?? "(no name)"} ${count(samples)}`).join(", ") || "none"],
    ["functions", count(frames.numRows())],
    ["stacks", `a tree of ${count(stacks.numRows())} nodes`],
    ["lost", lost.numRows() === 0 ? "nothing" : `events were lost at ${count(lost.numRows())} places (see .lost)`],
  ];
}

function isClocks(value: any): value is Clocks {
  return typeof value.aligned === "boolean" && typeof value.brokenBefore === "number" && typeof value.cpus?.numRows === "function";
}

function clocksFacts(clocks: Clocks): Facts {
  const time = (ns: number) => formatValue(ns, "ns");
  const share = (n: number) => `${count(n)} of ${count(clocks.judged)} events`;
  if (!clocks.aligned) return [["clocks", "not aligned"], ["why", clocks.why ?? ""], ["out of guest mode", `${share(clocks.brokenBefore)}, as recorded`]];
  const cpus = clocks.cpus.objects({ limit: 64 }) as { cpu: number; tid: number | null; offset: number; residual: number | null }[];
  const offset = (ns: number, residual: number | null) => `${ns < 0 ? "−" : "+"}${time(Math.abs(ns))}${residual === null ? "" : ` ± ${time(residual)}`}`;
  const ppm = (x: number) => `${(x * 1e6).toFixed(1)} ppm`;
  return [
    ["clocks", clocks.given ? "as given" : "aligned"],
    ["offset", clocks.perCpu ? "each CPU of the guest has its own" : offset(clocks.offset!, clocks.residual)],
    ...(clocks.perCpu ? cpus.map((row): [string, string] => [`  CPU ${row.cpu}`, `${offset(row.offset, row.residual)} (thread ${row.tid ?? "unknown"})`]) : []),
    ["scale", clocks.scale === 1 ? `1${clocks.scaleResidual === null ? "" : `; to ± ${ppm(clocks.scaleResidual)} it cannot be told from it`}` : `1 ${clocks.scale < 1 ? "−" : "+"} ${ppm(Math.abs(clocks.scale - 1))}${clocks.scaleResidual === null ? "" : ` ± ${ppm(clocks.scaleResidual)}`}`],
    ["orderings", `${count(clocks.pairs)} bound the offset`],
    ["out of guest mode", `${share(clocks.broken)}; as recorded ${count(clocks.brokenBefore)}`],
  ];
}
