import { ParseError } from "../errors.js";
import { setRecogniser } from "../source/lines.js";

/** The formats that kernel-lib reads, by the names that the command line takes. */
export type FormatName = "iperf3" | "perf-stat" | "perf-kvm-stat" | "perf-report" | "perf-script" | "trace-cmd" | "virtiostat" | "kvmexit" | "folded";

export const formatNames: readonly FormatName[] = ["iperf3", "perf-stat", "perf-kvm-stat", "perf-report", "perf-script", "trace-cmd", "virtiostat", "kvmexit", "folded"];

/** A heading that one tool alone prints weighs as much as this many lines of data. */
const HEADING = 20;

// What lines of each format look like. The first that fits a line counts, so narrow ones come before wide ones.
const LOOKS: [FormatName, RegExp, number][] = [
  ["iperf3", /^.{0,40}\[ ?ID\](\[Role\])?\s+Interval\s+Transfer\s/, HEADING],
  ["iperf3", /^.{0,40}\[\s*(\d+|SUM)\](\[[RT]X-[CS]\])?\s+[\d.]+-\s*[\d.]+\s+sec\s+\S+ [KMGT]?Bytes\s/, 1],
  ["iperf3", /^.{0,40}\[\s*\d+\] local \S+ port \d+ connected to /, 1],
  ["iperf3", /^(Connecting to host \S+, port \d+|Server listening on .*|iperf3: error - .*|iperf Done\.)$/, 1],
  ["iperf3", /^\s*\{"event":\s*"(start|interval|end|error)",\s*"data"|^.{0,4000}"(bits_per_second|tcp_mss_default|num_streams)"\s*:/, HEADING],
  ["iperf3", /^\s*"version"\s*:\s*"iperf 3/, HEADING],

  ["perf-kvm-stat", /^(\x1b\[\S+)?Analyze events for (.*, )?(all VCPUs|VCPU \d+):/, HEADING],
  ["perf-kvm-stat", /\sSamples\s+Samples?%\s+Time%/, HEADING],
  ["perf-kvm-stat", /^\s*\S.*\s\d+\s+[\d.]+%\s+[\d.]+%\s+([\d.]+us\s+){1,3}\(\s*\+-/, 1],
  ["perf-kvm-stat", /^Total Samples:\d+, Total events handled time:/, 1],

  ["perf-stat", /^ Performance counter stats for /, HEADING],
  ["perf-stat", /^#\s+time\s.*counts\s+unit\s+events/, HEADING],
  ["perf-stat", /^\{.*"counter-value"\s*:/, 1],
  ["perf-stat", /^\s*[\d.,]+( \+- [\d.,]+)? seconds (time elapsed|user|sys)\b/, 1],
  ["perf-stat", /^\s*(.*?(\d|>))?([,;|:\t])[\w%]*\3[\w:/.=-]+\3([\d.]+%\3)?\d+\3\d+[.,]\d\d(\3|$)/, 1],
  ["perf-stat", /^\s*(\d+\.\d{9}\s+)?((CPU\d+|[SN]\d+(-[A-Z]+\d+)*)\s+(\d+\s+)?|\S.*-\d+\s+)?(\d[\d.,'’\u00a0\u202f]*|<not counted>|<not supported>)\s+([A-Za-z]+ )?([\w-]+:[\w:-]+|(\w+-)*(cycles|instructions|branches|faults|clock|switches|migrations|misses|loads|stores|references|frontend|backend)(:\w+)?)\s*(#.*|\(.*|\[[\d.]+%\])?$/, 0.5],

  ["virtiostat", /^\s*Driver\s+Device\s+VQ Name\s+In SGs\s+Out SGs/, HEADING],
  ["virtiostat", /^Tracing virtio devices statistics/, HEADING],
  ["virtiostat", /^\s*(b')?virtio_\w+'?\s+(b')?virtio\d+'?\s+\S+(\s+\d+){4}\s*$/, 1],

  ["kvmexit", /\bKVM_EXIT_REASON\s+COUNT\s*$/, HEADING],
  ["kvmexit", /^Display kvm exit reasons and statistics for /, HEADING],
  ["kvmexit", /^(\^C)?(\s*\d+\s+){0,2}EXIT_REASON_\w+\s+\d+\s*$/, 1],

  ["perf-report", /^# Overhead\s|^# Total Lost Samples: |^# Samples: \S+\s+of events? |^#\s+Children\s+Self\s/, HEADING],
  ["perf-report", /^\s*\d+\.\d\d%(\s+\d+\.\d\d%)*\s+\S/, 1],

  ["trace-cmd", /^\s*(\S+: +)?cpus=\d+$/, 1], // trace-cmd report --stat begins so, too
  ["trace-cmd", /^# tracer: \w|^\s*(\S+: +)?CPU:\d+ \[(.* )?EVENTS? (DROPPED|LOST)\]|^CPU \d+ is empty$|^##### CPU \d+ buffer started/, HEADING],
  ["trace-cmd", /^.*\S-\d+\s+(\(\s*[\d-]+\)\s+)?(\[\d+\](\s+[\w.]{4,6})?|\d+[A-Za-z.]{4,}\d*\S*)\s+\d+(\.\d+)?:\s/, 1],

  ["perf-script", /^(VM:\s*\d+ VCPU:\d+\s+)?\s*\S.*?\s+-?\d+(\/-?\d+)?\s+(\[\d+\]\s+)?([KMUHGgkhu]+\s+)?\d+\.\d{6,9}:\s+(\d+\s+)?\S+/, 1],
  ["perf-script", /^\s+[0-9a-f]{4,16} \S.*\(.*\)$/, 0.5],
];

const FOLDED = /^\S.* -?\d+(\.\d+)?$/;
const LINES = 500;

/**
 * Which format a text is in, by what its first 500 lines look like; null where they look like none.
 * A text in which another tool's output is mixed counts as what most of it is.
 */
export function detectFormat(text: string | Uint8Array): FormatName | null {
  const head = typeof text === "string" ? text.slice(0, 1 << 18) : Buffer.from(text.buffer, text.byteOffset, Math.min(text.byteLength, 1 << 18)).toString("utf8");
  const lines = head.split(/\r?\n/, LINES).filter((line) => line.trim() !== "");
  const score = new Map<FormatName, number>();
  let matched = 0;
  for (const line of lines) {
    const look = LOOKS.find(([, pattern]) => pattern.test(line.length > 4096 ? line.slice(0, 4096) : line));
    if (!look) continue;
    matched++;
    score.set(look[0], (score.get(look[0]) ?? 0) + look[2]);
  }
  const stacks = lines.filter((line) => FOLDED.test(line));
  if (stacks.length > 0.9 * lines.length && stacks.some((line) => line.includes(";")) && matched < 0.5 * lines.length) return "folded";
  const [best] = [...score].sort((a, b) => b[1] - a[1]);
  // A few lines that fit by chance, in a text of something else, are no answer.
  return best && (best[1] >= HEADING || matched >= 0.2 * lines.length) ? best[0] : null;
}

/**
 * Like detectFormat, but says what to do where the format is not known.
 * @throws ParseError with the first line of the text and the names of the formats
 */
export function needFormat(text: string | Uint8Array, name = "text"): FormatName {
  const found = detectFormat(text);
  if (found) return found;
  const lines = (typeof text === "string" ? text.slice(0, 4096) : Buffer.from(text.subarray(0, 4096)).toString("utf8")).split(/\r?\n/);
  const first = lines.findIndex((line) => line.trim() !== "");
  if (first < 0) throw new ParseError("there is no text here, so nothing tells the format; name it", name);
  throw new ParseError(`this looks like none of the formats ${formatNames.join(", ")}; name the format if it is one of them`, name, first + 1, lines[first].slice(0, 120));
}

setRecogniser(detectFormat);
