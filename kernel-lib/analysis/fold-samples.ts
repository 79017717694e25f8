import { OptionError } from "../errors.js";
import { NO_NUMBER } from "../parse/perf-head.js";
import type { ProfileArrays } from "../parse/perf-samples.js";
import { NumberBuilder } from "../source/builders.js";
import { Pairs } from "../source/pairs.js";
import { StackTexts } from "./stack-texts.js";

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

/** What of a profile is folded. */
interface Recording {
  raw: ProfileArrays;
  source: string;
}

/** Stacks in byte order with their weights, and what these are. */
export interface Folded {
  stack: string[];
  value: Float64Array;
  unit: string;
  meaning: string;
}

/** The work of `foldStacks`, without its table. */
export function foldSamples(recording: Recording, options: FoldOptions): Folded {
  const { raw } = recording, { weight = "period", keep } = options;
  if (weight !== "period" && weight !== "samples") throw new OptionError(`weight is "period" or "samples"; this is ${JSON.stringify(weight)}`);
  const { taken, meaning, unit } = chooseEvent(recording, options.event, weight);
  const names = new ProcessNames(raw, options);

  const length = raw.unclosed && options.unclosed === false ? raw.length - 1 : raw.length;
  const { groups, weights } = groupSamples(raw, length, taken, names, keep, weight === "period");
  const texts = new StackTexts(), nodesOf = stackNodes(raw, options, texts);
  for (let group = 0; group < groups.size; group++) {
    const name = names.texts[groups.second.data[group]], [process, nodes] = nodesOf(name);
    texts.add(process, nodes[groups.first.data[group]], weights.data[group]);
  }
  return { ...texts.inOrder(), unit, meaning };
}

/** A pair of leaf and process name per group of samples, and its weight. A function of its own, since what V8 compiles for the loop serves the next recording too. */
function groupSamples(
  raw: ProfileArrays, length: number, taken: Uint8Array, names: ProcessNames, keep: FoldOptions["keep"], byPeriod: boolean,
): { groups: Pairs; weights: NumberBuilder } {
  const groups = new Pairs(), weights = new NumberBuilder(), { stack, period } = raw, { codes } = raw.event;
  for (let i = 0; i < length; i++) {
    if (taken[codes[i] + 1] === 0 || (keep && !keep(i))) continue;
    const group = groups.code(stack[i], names.of(i));
    if (group === weights.length) weights.push(0);
    weights.data[group] += byPeriod && period[i] > 0 ? period[i] : 1;
  }
  return { groups, weights };
}

const withoutModifiers = (event: string) => event.replace(/(?<=.):[ukhIGHpPSDWeb]{1,9}$/, "");

/** Which codes of `raw.event` (+ 1, for samples without event) to take, and what the weight then means. */
export function chooseEvent({ raw, source }: Recording, wanted: string | undefined, weight: "period" | "samples" = "period"): { taken: Uint8Array; meaning: string; unit: string } {
  const { event, length, period } = raw;
  const codeOfFirst = length > 0 ? event.codes[0] : -1;
  const first = codeOfFirst < 0 ? null : event.values[codeOfFirst];
  const name = wanted ?? (first === null ? null : withoutModifiers(first));
  const taken = Uint8Array.from([null, ...event.values], (x) => Number(
    wanted === "*" || (name === null ? x === null : x !== null && (x === name || withoutModifiers(x) === name))));
  if (wanted !== undefined && wanted !== "*" && !taken.includes(1)) {
    throw new OptionError(`event: ${wanted} does not occur in ${source}; it has ${event.values.join(", ") || "no samples"}`);
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
  private readonly byComm: Int32Array;
  private readonly byText = new Map<string, number>();
  constructor(private readonly raw: ProfileArrays, private readonly options: FoldOptions) {
    this.byComm = new Int32Array(raw.comm.words.size + 1).fill(-1);
  }

  of(sample: number): number {
    const { raw, options, byComm } = this, { comm } = raw, plain = !options.pid && !options.tid, code = comm.codes[sample] + 1;
    if (plain && byComm[code] >= 0) return byComm[code];
    const pid = raw.pid[sample] === NO_NUMBER ? "?" : raw.pid[sample], tid = raw.tid[sample] === NO_NUMBER ? "?" : raw.tid[sample];
    const name = (comm.at(sample) ?? "") + (plain ? "" : options.tid ? `-${pid}/${tid}` : `-${pid}`);
    const text = name.replaceAll(" ", "_");
    let number = this.byText.get(text);
    if (number === undefined) this.byText.set(text, number = this.texts.push(text) - 1);
    return plain ? byComm[code] = number : number;
  }
}

/** The number of a process's first text, and for each row of the tree of stacks the node of its text below that. */
function stackNodes(raw: ProfileArrays, options: FoldOptions, texts: StackTexts): (process: string) => [number, Int32Array] {
  const { parent, frame } = raw, known = new Map<string, [number, Int32Array]>(), fromStart = new Map<string, Int32Array>();
  const framesOf = [false, true].map((java) => {
    const found: number[][] = [];
    return (frame: number) => found[frame] ??= frameTexts(raw, frame, options, java).map((text) => texts.number(text));
  });
  return (process) => {
    let result = known.get(process);
    if (result) return result;
    const [first, ...more] = process.split(";"), java = process.startsWith("java") ? 1 : 0, start = `${java};${more.join(";")}`;
    let nodes = fromStart.get(start);
    if (!nodes) {
      nodes = new Int32Array(parent.length);
      for (const text of more) nodes[0] = texts.node(nodes[0], texts.number(text));
      for (let row = 1; row < nodes.length; row++) {
        let node = nodes[parent[row]];
        const frames = framesOf[java](frame[row]);
        for (let i = 0; i < frames.length; i++) node = texts.node(node, frames[i]);
        nodes[row] = node;
      }
      fromStart.set(start, nodes);
    }
    known.set(process, result = [texts.number(first), nodes]);
    return result;
  };
}

// Nothing in it is changed: no argument lists, quotes, semicolons, arrows, brackets of [unknown].
const AS_IT_IS = /^[^[(;"'>]+$/;

/** A frame's functions as FlameGraph writes them: inlined callers in "a->b" are functions of their own. */
function frameTexts(raw: ProfileArrays, frame: number, options: FoldOptions, java: boolean): string[] {
  const { symbol, dso, addr } = raw;
  const name = symbol[frame], file = dso[frame] ?? "";
  if (!java && !options.kernel && !options.jit && !options.all && AS_IT_IS.test(name)) return [name];
  if (name.startsWith("(")) return []; // old perfs print "(process name)" at the root
  const texts: string[] = [];
  for (let func of name === "" ? [" "] : name.split("->")) {
    if (func === "") continue;
    if (func === "[unknown]") {
      const known = file === "" || file === "[unknown]" ? "unknown" : file.replace(/ \(deleted\)$/, "").replace(/^.*\//s, "");
      func = options.addrs && addr[frame] !== null ? `[${known} <${addr[frame]!.slice(2)}>]` : `[${known}]`;
    }
    func = tidy(func, java);
    if (texts.length > 0) func += func.includes("_[i]") ? "" : "_[i]";
    else if ((options.kernel || options.all) && /^\[|vmlinux$/.test(file) && !file.includes("unknown")) func += "_[k]";
    else if ((options.jit || options.all) && /\/tmp\/perf-\d+\.map/.test(file)) func += func.includes("_[j]") ? "" : "_[j]";
    texts.push(func);
  }
  return texts;
}

/** Function names as FlameGraph tidies them: arguments go (but not Go's receivers, `net/http.(*Client).Do`), so do quotes; Java's L goes. */
function tidy(func: string, java: boolean): string {
  func = func.replaceAll(";", ":");
  if (!/\.\(.*\)\./.test(func)) func = func.replace(/\((?!anonymous namespace\)).*/s, "");
  func = func.replace(/["']/g, "");
  return java && func.includes("/") ? func.replace(/^L/, "") : func;
}
