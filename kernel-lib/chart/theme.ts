import type { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { formatValue, visible } from "../format.js";
import { renderChart } from "./render.js";
import { textWidth } from "./text-width.js";

/**
 * A Vega-Lite 5 specification and nothing else: edit it, spread it, paste it into a Vega editor. Jupyter shows it through the
 * method Symbol.for("Jupyter.display"), which is not enumerable.
 */
export interface Chart {
  $schema: string;
  [property: string]: any;
}

/** Options that every chart takes. */
export interface ChartOptions {
  /** What the chart shows, in a sentence; default: computed from the rows. */
  title?: string;
  /** Width of the whole chart in pixels; default 740, a notebook's column. */
  width?: number;
}

export const WIDTH = 740;
/** No chart draws more marks than this: it aggregates or prunes first, and its subtitle says so. */
export const MOST_MARKS = 5000;
const FONT = "DejaVu Sans, Verdana, sans-serif";
const INK = "#222222", QUIET = "#595959", RULE = "#e3e3e3";

/** The one look of all charts. */
const config = {
  background: "#ffffff",
  font: FONT,
  padding: 6,
  title: { anchor: "start", frame: "bounds", fontSize: 14, fontWeight: "bold", color: INK, subtitleFontSize: 11, subtitleColor: QUIET, subtitlePadding: 5, offset: 12 },
  axis: {
    labelFontSize: 11, titleFontSize: 11, titleFontWeight: "normal", labelColor: INK, titleColor: QUIET, titlePadding: 8,
    gridColor: RULE, domainColor: "#8a8a8a", tickColor: "#8a8a8a", labelLimit: 200,
  },
  axisY: { domain: false, ticks: false, labelPadding: 6 },
  legend: { orient: "top", direction: "horizontal", title: null, labelFontSize: 11, labelColor: INK, symbolSize: 90, symbolType: "square", labelLimit: 200, columnPadding: 16, offset: 8 },
  header: { labelFontSize: 11, labelColor: INK, labelFontWeight: "bold", titleColor: QUIET, labelLimit: 220 },
  view: { stroke: null },
  concat: { spacing: 16 },
  line: { strokeWidth: 2 },
  text: { fontSize: 11, color: INK },
  point: { filled: true, size: 60, opacity: 1 },
};

// Colours by meaning. Taken from the sets of Okabe and Ito and of Paul Tol, which people with any common colour blindness tell apart.
// What means the same on arm64 and on x86 (a halt, a device access, an interrupt) has one colour.

/** Runs, machines and idle time. */
export const runColours: Record<string, string> = { virtio: "#d55e00", vhost: "#0072b2", host: "#882255", guest: "#009e73", idle: "#b5b5b5" };

/** Where a CPU's time goes, as perf's report splits it: the host's share red, the guest's green, kernels dark. */
export const modeColours: Record<string, string> = { sys: "#882255", usr: "#dd8fa0", "guest sys": "#00795a", "guest usr": "#8bd0b5" };

/** Frames of a flame graph; all light enough for black letters. */
export const frameColours: Record<string, string> = {
  kernel: "#f2b46b", user: "#f3de84", guest: "#8bd0b5", idle: "#d0d0d0", vhost: "#86bce0", QEMU: "#f0926a", process: "#c3bfe0", unattributed: "#b9ae9f", all: "#e4e4e4",
};

const HALT = "#88aed0", ACCESS = "#cc6677", INTERRUPT = "#c9ac3a", REGISTER = "#117733", CALL = "#332288", FAULT = "#aa4499", TIMER = "#999933", SERIOUS = "#661100", UNITS = "#44aa99";
export const reasonColours: Record<string, string> = {
  WFx: HALT, WFI: HALT, WFE: HALT, HLT: HALT, MWAIT_INSTRUCTION: HALT, PAUSE_INSTRUCTION: "#5b7f9e",
  DABT_LOW: ACCESS, EPT_MISCONFIG: ACCESS, NPF: ACCESS, IO_INSTRUCTION: "#e08e79", IOIO: "#e08e79", EPT_VIOLATION: FAULT, IABT_LOW: FAULT,
  IRQ: INTERRUPT, EXTERNAL_INTERRUPT: INTERRUPT, INTR: INTERRUPT, PENDING_INTERRUPT: "#e5d38a", INTERRUPT_WINDOW: "#e5d38a", APIC_WRITE: "#7a6a1f", APIC_ACCESS: "#7a6a1f", EOI_INDUCED: "#a08a2a",
  SYS64: REGISTER, MSR_WRITE: REGISTER, MSR: REGISTER, MSR_READ: "#6fae7f", CR_ACCESS: "#2f4f2f",
  HVC64: CALL, VMCALL: CALL, VMMCALL: CALL, SMC64: "#7a6fc0", CPUID: "#7a6fc0",
  PREEMPTION_TIMER: TIMER, FP_ASIMD: UNITS, SVE: "#8ed1c8", SERROR: SERIOUS, EXCEPTION_NMI: SERIOUS, HYP_GONE: "#000000", UNKNOWN: "#9a9a9a",
};

/** The stages of a kick, in their order: out of the guest, to the back end, through it, back to the guest. */
export const stageColours: Record<string, string> = {
  "kvm_exit → kick": "#c9b7dd", "kick → wake": "#8866aa", "wake → back end runs": "#d55e00", "back end runs → tun_get_user": "#f0a35e", "tun_get_user → interrupt": "#e9cf6b",
  "interrupt → vCPU woken or out": "#7fb58a", "vCPU woken or out → kvm_entry": "#00795a", "kvm_entry → InterruptStatus read": "#6fb1dd", "InterruptStatus read → acknowledge": "#0072b2",
  // Of a packet.
  "net_dev_start_xmit → tun_get_user": "#e8833a", "interrupt → irq_handler_entry": "#1f8f6d", "irq_handler_entry → NET_RX softirq": "#8cc4ea",
};

/** What a thread does in a sequence chart. */
export const spanColours: Record<string, string> = { "runs on the host": "#e3a7b6", "in the guest": "#8bd0b5", "asleep": "#e6e6e6", "function of the guest": "#cfe3f7" };

/** A vCPU's states over time. */
export const stateColours: Record<string, string> = {
  guest: "#8bd0b5", KVM: "#882255", "user space": "#dd8fa0", halted: "#e0e0e0", polling: "#a9a9a9", blocked: "#c9ac3a", stolen: "#222222", preempted: "#6b6b6b", unknown: "#f3de84",
};

/** Less, no difference, more; for differences and effects. */
export const changeColours = { less: "#2166ac", same: "#ececec", more: "#c2410c" };

const SPARE = ["#4477aa", "#ee8866", "#228833", "#aa3377", "#bbaa33", "#66ccee", "#774411", "#6950a1", "#99ddaa", "#ff6699", "#444444", "#aabb00"];

/**
 * A colour scale for these names: those with a meaning have their fixed colour, the others the next free ones in the
 * order of their names, so that a name keeps its colour whatever the order of the rows; no two names share one.
 * The domain keeps the order given.
 */
export function colourScale(names: Iterable<string>, meanings: Record<string, string> = {}): { domain: string[]; range: string[] } {
  const domain = [...new Set(names)];
  const fixed = (name: string): string | undefined => (Object.hasOwn(meanings, name) ? meanings[name] : undefined);
  const colours = new Map<string, string>(), used = new Set<string>();
  for (const name of domain) {
    const colour = fixed(name);
    if (colour === undefined || used.has(colour)) continue;
    colours.set(name, colour);
    used.add(colour);
  }
  const reserved = new Set([...used, ...(domain.some((name) => fixed(name)) ? Object.values(meanings) : [])]);
  let next = 0;
  for (const name of domain.filter((other) => !colours.has(other)).sort()) {
    while (reserved.has(SPARE[next] ?? "")) next++;
    colours.set(name, SPARE[next] ?? further(next - SPARE.length));
    next++;
  }
  return { domain, range: domain.map((name) => colours.get(name)!) };
}

/** Any number of colours more: turns of the golden angle, so that none comes twice. */
function further(i: number): string {
  const hue = (i * 137.508) % 360, light = (38 + ((i * 7) % 30)) / 100, strength = 0.55 * Math.min(light, 1 - light);
  // As the CSS specification turns HSL into RGB; written in hexadecimal, since resvg draws hsl() with decimals black.
  return `#${[0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (light - strength * Math.max(-1, Math.min(k - 3, 9 - k, 1)))).toString(16).padStart(2, "0");
  }).join("")}`;
}

/** A colour scale for runs. A run whose name only contains virtio or vhost ("icount-vhost") has that one's colour where it is alone in that. */
export function runScale(names: Iterable<string>): { domain: string[]; range: string[] } {
  const all = [...new Set(names)];
  const meanings: Record<string, string> = { ...runColours };
  for (const mode of ["virtio", "vhost"]) {
    const like = all.filter((name) => name.toLowerCase().includes(mode));
    if (like.length === 1) meanings[like[0]] = runColours[mode];
  }
  return colourScale(all, meanings);
}

/**
 * A specification as a chart that Jupyter shows: as Vega-Lite, as PNG (drawn when it is asked for) and as text.
 * Use it to show a specification of your own, or an edited copy of ours.
 */
export function chart(spec: object): Chart {
  const display = function display(this: object): Record<string, unknown> {
    const { png, width, height } = renderChart(this);
    (display as { metadata?: object }).metadata = { "image/png": { width: Math.round(width), height: Math.round(height) } };
    return {
      "application/vnd.vegalite.v5+json": { ...this },
      ...(png ? { "image/png": Buffer.from(png).toString("base64") } : {}),
      "text/plain": wordsOf(this),
    };
  };
  return Object.defineProperty({ ...spec } as Chart, Symbol.for("Jupyter.display"), { value: display, enumerable: false, configurable: true, writable: true });
}

function wordsOf(spec: any): string {
  const { title } = spec;
  const parts = typeof title === "object" && title !== null && !Array.isArray(title) ? [title.text, title.subtitle ?? []] : [title ?? "chart"];
  return parts.flat(2).map(String).join("\n");
}

/** What all of our specifications begin with. Titles are text: no line breaks or control characters from the input. */
export function themed(title: string, subtitle: (string | null | undefined | false)[], rest: object): Chart {
  const lines = subtitle.filter((line): line is string => !!line).flatMap((line) => wrap(plain(line), (text) => textWidth(text, 11)));
  return chart({
    $schema: "https://vega.github.io/schema/vega-lite/v5.json",
    description: plain(title),
    title: { text: balanced(plain(title), (text) => textWidth(text, 14, true)), ...(lines.length > 0 ? { subtitle: lines } : {}) },
    config,
    ...rest,
  });
}

const plain = (text: string): string => visible(text.replace(/\s+/g, " ")).trim();

/** A blank, but not that between a number and its unit. */
const BREAK = / (?!(?:%|[GMkT] |(?:s|ms|µs|ns|min|h|[kMG]i?B|[kMG]?bit\/s|events|samples|points)(?![\w/])))|(?<!\d) /;

/** Lines that fit into a notebook's column, broken at blanks; a word that is longer is cut. */
function wrap(text: string, width: (text: string) => number, room = WIDTH - 20): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(BREAK)) {
    if (line !== "" && width(`${line} ${word}`) > room) {
      lines.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
    if (width(line) > room) {
      line = line.slice(0, room);
      while (width(`${line}…`) > room) line = Array.from(line).slice(0, -1).join("");
      line += "…";
    }
  }
  return [...lines, line];
}

/** The same, in lines of about one length, so that no last word stands alone. */
function balanced(text: string, width: (text: string) => number): string[] {
  let lines = wrap(text, width);
  for (let room = WIDTH - 40; room > WIDTH / 2; room -= 20) {
    const narrower = wrap(text, width, room);
    if (narrower.length > lines.length || narrower.some((line) => line.endsWith("…"))) break;
    lines = narrower;
  }
  return lines;
}

/**
 * A name from the input as charts can hold it. A control character makes a picture that nothing can draw; a name that every object has
 * as a property ("constructor") stops Vega where it groups by name, so that it gets an invisible letter more.
 */
export const drawable = (text: string): string => (text in Object.prototype ? `${text}\u2060` : visible(text));

/**
 * Rows of a table as objects, filter and order kept, texts made drawable.
 * @throws OptionError where it lacks one of the columns
 */
export function rowsOf<T extends object>(table: ColumnTable, asks: string, needs: string[]): T[] {
  if (typeof table?.columnNames !== "function") throw new OptionError(`${asks} takes a table; this is ${table === null ? "null" : typeof table}`);
  const missing = needs.filter((name) => !table.columnNames().includes(name));
  if (missing.length > 0) throw new OptionError(`${asks} needs the columns ${needs.join(", ")}; this table has ${table.columnNames().join(", ") || "none"}`);
  const rows = table.objects() as Record<string, unknown>[];
  for (const row of rows) for (const [name, value] of Object.entries(row)) if (typeof value === "string") row[name] = drawable(value);
  return rows as T[];
}

/** A legend above the chart, in as many rows as its names need. */
export function legendOf(names: string[], width = WIDTH): object {
  const widest = Math.max(0, ...names.map((name) => Math.min(200, textWidth(name, 11))));
  const most = Math.max(1, Math.floor((width - 80) / (widest + 34)));
  return { values: names, symbolOpacity: 1, ...(names.length > most ? { columns: most } : {}) };
}

/** The name of a run in a chart. */
export const runOf = (row: { run?: string | null }): string => row.run ?? "run";

/** A weight in few letters: "16.9 s", "12.9 G cycles", "412 samples". */
export function amount(value: number, unit: string | null): string {
  if (unit === "ns" || unit === "bytes" || unit === "bit/s" || Math.abs(value) < 1e5) return formatValue(value, unit);
  const [letter, size] = Math.abs(value) >= 1e12 ? ["T", 1e12] : Math.abs(value) >= 1e9 ? ["G", 1e9] : Math.abs(value) >= 1e6 ? ["M", 1e6] : ["k", 1e3];
  return `${(value / size).toPrecision(3)} ${letter}${unit === null || unit === "count" ? "" : ` ${unit}`}`;
}

/** "a", "a and b", "a, b and c". */
export const listed = (names: string[]): string => (names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`);

/** Axis of a logarithmic scale over µs, whose labels change to ms and s where these are shorter; ticks at the powers of ten. */
export function logTimeAxis(title: string, [least, most]: [number, number]): object {
  return {
    title, values: decades(least, most), tickMinStep: 0, labelOverlap: true,
    labelExpr: "datum.value >= 1e6 ? format(datum.value / 1e6, ',') + ' s' : datum.value >= 1e3 ? format(datum.value / 1e3, ',') + ' ms' : datum.value >= 1 ? format(datum.value, ',') + ' µs' : format(datum.value * 1e3, ',') + ' ns'",
  };
}

/** Axis of a logarithmic scale over numbers: 1, 10, 100, 1k. */
export function logAxis(title: string, [least, most]: [number, number]): object {
  return { title, values: decades(least, most), labelOverlap: true, format: "~s" };
}

function decades(least: number, most: number): number[] {
  const values: number[] = [];
  for (let e = Math.floor(Math.log10(least)); e <= Math.ceil(Math.log10(most)); e++) values.push(10 ** e);
  return values.length > 2 ? values : values.flatMap((x) => [x, 2 * x, 5 * x]);
}

/** The domain of a logarithmic scale that holds these numbers, with some air; null where none is above 0. */
export function logDomain(numbers: Iterable<number | null | undefined>): [number, number] | null {
  let least = Infinity, most = -Infinity;
  for (const x of numbers) {
    if (typeof x !== "number" || !(x > 0) || x === Infinity) continue;
    least = Math.min(least, x);
    most = Math.max(most, x);
  }
  return least > most ? null : [least / 1.3, most * 1.3];
}
