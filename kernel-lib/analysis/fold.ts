import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { NO_NUMBER, type Profile } from "../parse/perf-script.js";
import { foldedColumns } from "../parse/folded.js";
import { makeTable, NumberBuilder, type Columns } from "../source/columns.js";
import { Pairs } from "../source/pairs.js";

export interface FoldOptions {
  /** Name the process "comm-pid"; default false. The pid is "?" where perf script printed the thread id alone. */
  pid?: boolean;
  /** Name the process "comm-pid/tid"; default false. */
  tid?: boolean;
  /** Mark kernel functions with "_[k]"; default false. */
  kernel?: boolean;
  /** Mark functions that a JIT compiler made with "_[j]"; default false. */
  jit?: boolean;
  /** Both marks; default false. */
  all?: boolean;
  /** Give functions without a symbol their address, "[unknown <7f12>]"; default false: "[unknown]". */
  addrs?: boolean;
  /**
   * The event whose samples are taken; default: the first of `profile.events`. One of these, with or without its modifiers
   * (`cycles` takes cycles:u and cycles:P), or "*" for all, which adds up what may be different units.
   */
  event?: string;
  /** What a sample weighs: its period, or 1; one of "period", "samples"; default "period". */
  weight?: "period" | "samples";
  /** Take a last sample that no blank line closes; default true. stackcollapse-perf.pl loses it; false makes the result equal to its. */
  unclosed?: boolean;
  /** Which samples to take, by their row in `profile.samples`; default: all. */
  keep?: (row: number) => boolean;
}

/**
 * Samples → one row per distinct stack with its weight: stack (root first, the process's name before it), value (sum of periods;
 * a sample without a period counts as 1), in byte order of the stacks. `toFolded` of it equals, to the byte, what FlameGraph's stackcollapse-perf.pl
 * prints with the options of the same names, but for the samples that the script loses: those on one line, and the last of a text that
 * lacks its closing blank line. `describe(result)` says which event was taken, in which unit.
 * @throws OptionError when the profile does not have the event
 */
export function foldStacks(profile: Profile, options: FoldOptions = {}): ColumnTable {
  const { raw } = profile;
  const { weight = "period" } = options;
  if (weight !== "period" && weight !== "samples") throw new OptionError(`weight is "period" or "samples"; this is ${JSON.stringify(weight)}`);
  const { taken, meaning, unit } = chooseEvent(profile, options.event, weight);
  const names = new ProcessNames(profile, options);

  // A pair of leaf and process name per group of samples; the texts are made once per group.
  const groups = new Pairs();
  const weights = new NumberBuilder();
  const length = raw.unclosed && options.unclosed === false ? raw.length - 1 : raw.length;
  for (let i = 0; i < length; i++) {
    if (!taken[raw.event.codes[i] + 1] || (options.keep && !options.keep(i))) continue;
    const group = groups.code(raw.stack[i], names.of(i));
    if (group === weights.length) weights.push(0);
    weights.data[group] += weight === "period" && raw.period[i] > 0 ? raw.period[i] : 1;
  }
  const textOf = stackTexts(profile, options);
  const folded = new Map<string, number>();
  for (let group = 0; group < groups.size; group++) {
    const process = names.texts[groups.second.data[group]];
    const stack = process + textOf(groups.first.data[group], process.startsWith("java"));
    folded.set(stack, (folded.get(stack) ?? 0) + weights.data[group]);
  }
  const stack = inByteOrder([...folded.keys()]);
  const columns: Columns = { ...foldedColumns, value: { type: "number", unit, meaning } };
  return makeTable(columns, { stack, value: Float64Array.from(stack, (text) => folded.get(text)!) });
}

const withoutModifiers = (event: string) => event.replace(/(?<=.):[ukhIGHpPSDWeb]{1,9}$/, "");

/** Which codes of `raw.event` (+ 1, for samples without event) to take, and what the weight then means. */
export function chooseEvent(profile: Profile, wanted: string | undefined, weight: "period" | "samples" = "period"): { taken: Uint8Array; meaning: string; unit: string } {
  const { event, length, period } = profile.raw;
  const codeOfFirst = length > 0 ? event.codes[0] : -1;
  const first = codeOfFirst < 0 ? null : event.values[codeOfFirst];
  const name = wanted ?? (first === null ? null : withoutModifiers(first));
  const taken = Uint8Array.from([null, ...event.values], (x) => Number(
    wanted === "*" || (name === null ? x === null : x !== null && (x === name || withoutModifiers(x) === name))));
  if (wanted !== undefined && wanted !== "*" && !taken.includes(1)) {
    throw new OptionError(`event: ${wanted} does not occur in ${profile.source}; it has ${event.values.join(", ") || "no samples"}`);
  }
  const present = event.values.length;
  const of = `${wanted === "*" ? "all events" : name ?? "samples"}${present > 1 ? ` (this recording has ${event.values.join(", ")})` : ""}`;
  const weighted = weight === "period" && period.some((x, i) => taken[event.codes[i] + 1] === 1 && x > 0);
  const unit = !weighted ? "samples" : name === "cpu-clock" || name === "task-clock" ? "ns" : wanted === "*" || name === null ? "events" : name;
  return { taken, unit, meaning: weighted ? `Weight of the stack: sum of the periods of its samples of ${of}.` : `Number of samples of ${of}.` };
}

/** Names of processes as the first frame: comm, comm-pid or comm-pid/tid, with _ for blanks. */
class ProcessNames {
  readonly texts: string[] = [];
  private readonly codes = new Map<string | number, number>();
  constructor(private readonly profile: Profile, private readonly options: FoldOptions) {}

  of(sample: number): number {
    const { raw } = this.profile;
    const comm = raw.comm.codes[sample];
    const plain = !this.options.pid && !this.options.tid;
    const known = plain ? this.codes.get(comm) : undefined;
    if (known !== undefined) return known;
    const pid = raw.pid[sample] === NO_NUMBER ? "?" : raw.pid[sample], tid = raw.tid[sample] === NO_NUMBER ? "?" : raw.tid[sample];
    const name = (comm < 0 ? "" : raw.comm.values[comm]) + (plain ? "" : this.options.tid ? `-${pid}/${tid}` : `-${pid}`);
    const text = name.replaceAll(" ", "_");
    const key = plain ? comm : text;
    let code = this.codes.get(key);
    if (code === undefined) {
      code = this.texts.push(text) - 1;
      this.codes.set(key, code);
    }
    return code;
  }
}

/** The text of a node's path, each frame with a semicolon before it; texts of callers are shared. */
function stackTexts(profile: Profile, options: FoldOptions): (node: number, java: boolean) => string {
  const { parent, frame } = profile.raw;
  const ofFrame: [(string | undefined)[], (string | undefined)[]] = [[], []];
  const ofNode: [(string | undefined)[], (string | undefined)[]] = [[""], [""]];
  const pending: number[] = [];
  return (node, java) => {
    const side = java ? 1 : 0;
    const texts = ofNode[side];
    while (texts[node] === undefined) {
      pending.push(node);
      node = parent[node];
    }
    let text = texts[node]!;
    while (pending.length > 0) {
      const next = pending.pop()!;
      text = texts[next] = text + (ofFrame[side][frame[next]] ??= frameText(profile, frame[next], options, java));
    }
    return text;
  };
}

/** A frame as FlameGraph writes it, with a semicolon before each function: inlined callers in "a->b" are functions of their own. */
function frameText(profile: Profile, frame: number, options: FoldOptions, java: boolean): string {
  const { symbol, dso, addr } = profile.raw;
  const name = symbol[frame], file = dso[frame] ?? "";
  if (name.startsWith("(")) return ""; // old perfs print "(process name)" at the root
  let text = "";
  for (let func of name === "" ? [" "] : name.split("->")) {
    if (func === "") continue;
    if (func === "[unknown]") {
      const known = file === "" || file === "[unknown]" ? "unknown" : file.replace(/ \(deleted\)$/, "").replace(/^.*\//s, "");
      func = options.addrs && addr[frame] !== null ? `[${known} <${addr[frame]!.slice(2)}>]` : `[${known}]`;
    }
    func = tidy(func, java);
    if (text !== "") func += func.includes("_[i]") ? "" : "_[i]";
    else if ((options.kernel || options.all) && /^\[|vmlinux$/.test(file) && !file.includes("unknown")) func += "_[k]";
    else if ((options.jit || options.all) && /\/tmp\/perf-\d+\.map/.test(file)) func += func.includes("_[j]") ? "" : "_[j]";
    text += `;${func}`;
  }
  return text;
}

/** Function names as FlameGraph tidies them: arguments go (but not Go's receivers, `net/http.(*Client).Do`), so do quotes; Java's L goes. */
function tidy(func: string, java: boolean): string {
  func = func.replaceAll(";", ":");
  if (!/\.\(.*\)\./.test(func)) func = func.replace(/\((?!anonymous namespace\)).*/s, "");
  func = func.replace(/["']/g, "");
  return java && func.includes("/") ? func.replace(/^L/, "") : func;
}

/** Sorted as by the bytes of their UTF-8, which JavaScript's own order is not beyond U+D7FF. */
export function inByteOrder(texts: string[]): string[] {
  if (!texts.some((text) => /[\ud800-\uffff]/.test(text))) return texts.sort();
  return texts.map((text) => Buffer.from(text)).sort(Buffer.compare).map((bytes) => bytes.toString());
}
