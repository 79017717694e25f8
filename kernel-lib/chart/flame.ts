import type { ColumnTable } from "arquero";
import { idleRules } from "../analysis/idle.js";
import { notAttributed } from "../analysis/nest-stacks.js";
import { syscallFrame } from "../analysis/stacks.js";
import { OptionError } from "../errors.js";
import { columnsOf } from "../source/columns.js";
import { amount, changeColours, colourScale, frameColours, listed, rowsOf, themed, WIDTH, type Chart, type ChartOptions } from "./theme.js";

export interface FlameGraphOptions extends ChartOptions {
  /** Begin at these frames: stacks without any of them are left out, callers above them cut off. Default: all, from the process. One name or several. */
  under?: string | readonly string[];
  /** Frames narrower than this share of the whole, in %, are not drawn; default 0.15, more where that would be over 3000 frames. */
  minShare?: number;
  /** Height of a frame in pixels; default 16. */
  frameHeight?: number;
}

export interface DiffFlameGraphOptions extends FlameGraphOptions {
  /** Which side's weight is the width of a frame; default b; one of a, b. What the other side alone has is not drawn. */
  widthOf?: "a" | "b";
  /** What the two sides are called; default ["a", "b"]. */
  names?: readonly [string, string];
}

const MOST_FRAMES = 3000;

interface Node { name: string; label: string; kind: string; depth: number; value: number; a: number; children: Map<string, Node> }
interface Drawn { node: Node; x0: number; x1: number; parent: Node | null }

/**
 * Stacks as a flame graph: a frame's width is its weight, its callers are below it. Click a frame to zoom to it, its callers or an empty
 * place to go back; the search box marks frames whose name contains what is typed, and shows their share.
 * @param stacks stack (frames from the root, separated by semicolons), value; side where host and guest are merged. As foldStacks, mergeStacks, nestStacks and loadFolded give them.
 */
export function flameGraph(stacks: ColumnTable, options: FlameGraphOptions = {}): Chart {
  const rows = rowsOf<{ stack: string; value: number; side?: string | null }>(stacks, "flameGraph", ["stack", "value"]);
  const unit = columnsOf(stacks).value?.unit ?? "events";
  const root = grow(rows.map(({ stack, value, side }) => ({ stack, value, a: 0, side })), options.under);
  const { drawn, least, left } = layOut(root, options);
  const kinds = Object.keys(frameColours).filter((kind) => drawn.some(({ node }) => node.kind === kind));
  const values = drawn.map(({ node, x0, x1, parent }) => ({
    x0, x1, depth: node.depth, name: node.label, kind: node.kind, weight: amount(node.value, unit),
    total: percent(node.value, root.value), ofParent: parent ? percent(node.value, parent.value) : "100 %",
  }));
  const top = [...root.children.values()].sort((a, b) => b.value - a.value).slice(0, 3).map((node) => `${node.label} ${percent(node.value, root.value)}`);
  const title = options.title ?? (root.value > 0 ? `Where the CPU time goes${underWords(options.under)}${top.length > 1 || options.under === undefined ? `: ${listed(top)}` : ""}` : `No stacks${underWords(options.under)}`);
  const words = pruned(root, least, left, unit);
  return flame(title, words, values, options, {
    scale: colourScale(kinds, frameColours), field: "kind", type: "nominal",
    legend: kinds.length < 2 ? null : { values: kinds.filter((kind) => kind !== "all"), labelExpr: "{kernel: 'host kernel', user: 'host user space', guest: 'guest', idle: 'idle', vhost: 'vhost worker', QEMU: 'QEMU', process: 'other process', unattributed: 'not attributed'}[datum.label]" },
  }, [{ field: "weight", title: unit === "ns" ? "CPU time" : "weight" }, { field: "total", title: "of all" }, { field: "ofParent", title: "of its caller" }, { field: "kind" }]);
}

/**
 * Two profiles in one flame graph: a frame's width is its weight in b, its colour how that differs from a: blue is less, red is more.
 * @param diff stack, a, b, delta, as diffStacks gives them
 */
export function diffFlameGraph(diff: ColumnTable, options: DiffFlameGraphOptions = {}): Chart {
  const { widthOf: side = "b", names = ["a", "b"] } = options;
  if (side !== "a" && side !== "b") throw new OptionError(`widthOf is one of a, b; this is ${JSON.stringify(side)}`);
  const rows = rowsOf<{ stack: string; a: number; b: number }>(diff, "diffFlameGraph", ["stack", "a", "b"]);
  const unit = columnsOf(diff).b?.unit ?? "events";
  const root = grow(rows.map(({ stack, a, b }) => (side === "b" ? { stack, value: b, a } : { stack, value: a, a: b })), options.under);
  const { drawn, least, left } = layOut(root, options);
  const whole = root.value || 1, sign = side === "b" ? 1 : -1;
  const values = drawn.map(({ node, x0, x1 }) => {
    const [a, b] = side === "b" ? [node.a, node.value] : [node.value, node.a];
    return {
      x0, x1, depth: node.depth, name: node.label, change: (100 * (b - a)) / whole, a: amount(a, unit), b: amount(b, unit),
      delta: `${b > a ? "+" : b < a ? "−" : "±"}${amount(Math.abs(b - a), unit)}`, ratio: a > 0 ? `× ${(b / a).toPrecision(3)}` : "only here",
    };
  });
  // Few frames change much: a colour scale up to the largest change of a frame that is not the whole.
  const most = Math.max(0.1, ...values.filter(({ depth }) => depth > 0).map(({ change }) => Math.abs(change)));
  const change = (node: Node): number => sign * (node.value - node.a);
  const biggest = [...root.children.values()].sort((p, q) => Math.abs(change(q)) - Math.abs(change(p))).slice(0, 3)
    .map((node) => `${node.label} ${change(node) < 0 ? "−" : "+"}${amount(Math.abs(change(node)), unit)}`);
  const title = options.title ?? `${names[1]} against ${names[0]}${underWords(options.under)}: ${listed(biggest)}`;
  const unseen = [...leavesOnlyIn(root)].reduce((sum, node) => sum + node.a, 0);
  return flame(title, [
    ...pruned(root, least, left, unit, names[side === "b" ? 1 : 0]),
    unseen > 0 && `Not drawn: stacks of ${names[side === "b" ? 0 : 1]} alone, ${amount(unseen, unit)} (${percent(unseen, root.a)} of it)${sign > 0 ? "; see them with widthOf: \"a\"" : ""}.`,
  ], values, options, {
    field: "change", type: "quantitative",
    scale: { domain: [-most, 0, most], range: ["#5b9bd5", changeColours.same, "#ee7b51"] },
    legend: { type: "gradient", title: `less in ${names[1]}  ◂  change (% of all)  ▸  more`, gradientLength: 220, gradientThickness: 10, titleFontWeight: "normal", titleFontSize: 11, titleLimit: 400, values: legendTicks(most) },
  }, [{ field: "a", title: "a" }, { field: "b", title: "b" }, { field: "delta", title: "change" }, { field: "ratio", title: "ratio" }].map((tip) => ({ ...tip, title: tip.field === "a" ? names[0] : tip.field === "b" ? names[1] : tip.title })));
}

/** Five labels of a scale from −most to most, clear of its ends, where they would leave the picture. */
function legendTicks(most: number): number[] {
  const room = 0.425 * most, power = 10 ** Math.floor(Math.log10(room));
  const step = Number(([5, 2, 1].find((digit) => digit * power <= room)! * power).toPrecision(1));
  return [-2 * step, -step, 0, step, 2 * step];
}

/** Frames and their layout as a specification. All text from the input is in the data; expressions read it as data. */
function flame(title: string, subtitle: (string | false)[], values: { depth: number }[], options: FlameGraphOptions, color: object, tips: object[]): Chart {
  const width = options.width ?? WIDTH, high = options.frameHeight ?? 16;
  const levels = values.reduce((most, { depth }) => Math.max(most, depth + 1), 1);
  const from = "(isValid(zoom.x0) ? zoom.x0[0] : 0)", to = "(isValid(zoom.x1) ? zoom.x1[0] : 1)";
  const found = "search !== '' && indexof(lower(datum.name), lower(search)) >= 0";
  const x = { field: "x0", type: "quantitative", axis: null, scale: { domainMin: { expr: from }, domainMax: { expr: to }, nice: false, zero: false } };
  const y = (band: object) => ({ ...band, type: "quantitative", axis: null, scale: { domain: [0, levels], nice: false, zero: false } });
  const seen = `((min(datum.x1, ${to}) - max(datum.x0, ${from})) / (${to} - ${from}) * width)`;
  return themed(title, subtitle, {
    width, height: levels * high, autosize: { type: "pad" },
    params: [{ name: "search", value: "", bind: { input: "search", name: "Search ", placeholder: "function or process", autocomplete: "off" } }],
    data: { name: "frames", values },
    layer: [
      {
        params: [{ name: "zoom", select: { type: "point", fields: ["x0", "x1"], on: "click", toggle: "false", clear: "dblclick" } }],
        transform: [{ filter: `datum.x1 > ${from} && datum.x0 < ${to}` }],
        mark: { type: "rect", clip: true, stroke: "#ffffff", strokeWidth: 0.7, cursor: "pointer" },
        encoding: {
          x, x2: { field: "x1" },
          y: y({ field: "depth" }), y2: { field: "upper" },
          color: { ...color, condition: { test: found, value: "#c800c8" } },
          tooltip: [{ field: "name", title: "frame" }, ...tips],
        },
      },
      {
        transform: [
          { filter: `datum.x1 > ${from} && datum.x0 < ${to} && ${seen} > 32` },
          { calculate: `max(datum.x0, ${from})`, as: "begin" },
          { calculate: "datum.depth + 0.5", as: "middle" },
          // DejaVu's letters are 6.3 px wide on average at this size.
          { calculate: `floor((${seen} - 6) / 6.3)`, as: "letters" },
          { calculate: "length(datum.name) <= datum.letters ? datum.name : slice(datum.name, 0, datum.letters - 1) + '…'", as: "shown" },
        ],
        mark: { type: "text", align: "left", baseline: "middle", dx: 4, fontSize: 10.5, clip: true, cursor: "pointer" },
        encoding: {
          x: { ...x, field: "begin" }, y: y({ field: "middle" }), text: { field: "shown" },
          color: { value: "#1a1a1a", condition: { test: found, value: "#ffffff" } },
          tooltip: [{ field: "name", title: "frame" }, ...tips],
        },
      },
      {
        // The share of what was found: frames in frames count once. They nest, so in the order of their begins each adds what reaches beyond all before it.
        transform: [
          { calculate: `${found} ? 1 : 0`, as: "hit" },
          { calculate: "datum.hit * datum.x1", as: "end" },
          // Vega takes window frames by their absolute value, so "all before" is the row before's "all up to here".
          { window: [{ op: "max", field: "end", as: "upTo" }], frame: [null, 0], sort: [{ field: "x0", order: "ascending" }, { field: "depth", order: "ascending" }] },
          { window: [{ op: "lag", field: "upTo", as: "reached" }], sort: [{ field: "x0", order: "ascending" }, { field: "depth", order: "ascending" }] },
          { calculate: "datum.hit * max(0, datum.x1 - max(datum.x0, isValid(datum.reached) ? datum.reached : 0))", as: "adds" },
          { aggregate: [{ op: "sum", field: "adds", as: "found" }, { op: "sum", field: "hit", as: "frames" }] },
          { calculate: "search === '' ? '' : 'found: ' + format(datum.frames, ',') + ' frames, ' + format(datum.found, '.1%')", as: "words" },
        ],
        mark: { type: "text", align: "right", baseline: "bottom", x: width, y: -3, fontSize: 11, fontWeight: "bold", color: "#a000a0" },
        encoding: { text: { field: "words" } },
      },
    ],
    transform: [{ calculate: "datum.depth + 1", as: "upper" }],
  });
}

/** The tree of all stacks under one root frame "all". */
function grow(stacks: { stack: string; value: number; a: number; side?: string | null }[], under?: string | readonly string[]): Node {
  const wanted = under === undefined ? null : new Set(typeof under === "string" ? [under] : under);
  const root: Node = { name: "all", label: "all", kind: "all", depth: 0, value: 0, a: 0, children: new Map() };
  for (const { stack, value, a, side } of stacks) {
    let frames = stack.split(";"), kinds = kindsOf(frames, side === "guest");
    if (wanted) {
      const at = frames.findIndex((frame) => wanted.has(frame) || wanted.has(unmarked(frame)));
      if (at < 0) continue;
      frames = frames.slice(at);
      kinds = kinds.slice(at);
    }
    let node = root;
    node.value += value;
    node.a += a;
    frames.forEach((name, i) => {
      // The same function in the kernel and in the guest are two.
      const key = `${kinds[i]} ${name}`;
      let child = node.children.get(key);
      if (!child) node.children.set(key, (child = { name, label: unmarked(name), kind: kinds[i], depth: i + 1, value: 0, a: 0, children: new Map() }));
      child.value += value;
      child.a += a;
      node = child;
    });
  }
  return root;
}

/** Without the marks of --kernel and --jit. */
const unmarked = (frame: string): string => frame.replace(/(_\[[kji]\])+$/, "");
const KERNEL_THREAD = /^(swapper|vhost-\d+|kworker\/|ksoftirqd\/|migration\/|rcu_|kthreadd|kswapd|jbd2\/|irq\/|idle_inject\/|cpuhp\/|khugepaged|kcompactd)/;
const ENTRY = /^(el[01]t?_?(64|32|h|t)?_?(irq|sync|fiq|error|da|ia|dbg|undef|svc|interrupt)\w*|asm_\w+|ret_from_\w+|vectors|__irq_svc|__irq_usr|irq_entries_start|page_fault|common_interrupt|secondary_startup\w*|__secondary_switched|secondary_start_kernel|start_kernel)(\.|$)/;
const IDLE = new Set((idleRules.objects() as { symbol: string; under: boolean }[]).filter(({ under }) => !under).map(({ symbol }) => symbol));
const UNATTRIBUTED = new Set<string>(Object.values(notAttributed));
/** The frame that nestStacks puts below the process of a vCPU's thread. */
const VCPU = /^vCPU (thread )?\d+$/;
const original = (frame: string): string => frame.replace(/(\.(constprop|isra|part|cold)(\.\d+)*)+$/, "");

/** What kind each frame of a stack is. A frame is the kernel's where folding marked it so, or from the first frame on by which one enters the kernel. */
function kindsOf(frames: string[], guestSide: boolean): string[] {
  const process = frames[0];
  // In a vCPU thread's stack the guest begins at its process.
  const inside = frames.findIndex((frame) => frame.startsWith("<guest>"));
  const guestFrom = inside >= 0 ? inside : guestSide || /^\[guest\/\d+\]|^:\d+$/.test(process) ? 0 : Infinity;
  const marked = frames.some((frame) => frame.endsWith("_[k]"));
  let kernel = KERNEL_THREAD.test(process);
  return frames.map((frame, i) => {
    if (UNATTRIBUTED.has(frame)) return "unattributed";
    if (i === 0) return guestFrom === 0 ? "guest" : /^vhost-/.test(process) ? "vhost" : /^(qemu|kvm\b|CPU \d+\/KVM)/.test(process) ? "QEMU" : "process";
    const name = unmarked(frame);
    if (IDLE.has(original(name))) return "idle";
    if (i >= guestFrom) return "guest";
    if (i === 1 && VCPU.test(frame)) return "QEMU";
    if (frame.startsWith("[in KVM_RUN")) return "kernel";
    if (!marked && (syscallFrame.test(name) || ENTRY.test(name))) kernel = true;
    return kernel || (marked && frame.endsWith("_[k]")) ? "kernel" : "user";
  });
}

/** Where each frame that is wide enough stands, callers before callees, siblings by name so that two graphs can be compared. */
function layOut(root: Node, { minShare = 0.15 }: FlameGraphOptions): { drawn: Drawn[]; least: number; left: number } {
  if (!(minShare >= 0 && minShare < 100)) throw new OptionError(`minShare is a percentage from 0 to below 100; this is ${minShare}`);
  const sizes: number[] = [];
  let all = 0;
  const measure = (node: Node): void => {
    all++;
    sizes.push(node.value);
    node.children.forEach(measure);
  };
  measure(root);
  let least = (root.value * minShare) / 100;
  const enough = sizes.filter((size) => size >= least && size > 0).sort((a, b) => b - a);
  if (enough.length > MOST_FRAMES) least = enough[MOST_FRAMES - 1] * (1 + 1e-9);
  const drawn: Drawn[] = [], whole = root.value || 1;
  const place = (node: Node, parent: Node | null, at: number): void => {
    drawn.push({ node, parent, x0: rounded(at / whole), x1: parent ? rounded((at + node.value) / whole) : 1 });
    for (const child of [...node.children.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))) {
      if (child.value >= least && child.value > 0) place(child, node, at);
      at += child.value;
    }
  };
  place(root, null, 0);
  return { drawn, least, left: root.value > 0 ? all - drawn.length : 0 };
}
const rounded = (x: number): number => Math.round(x * 1e7) / 1e7;

function pruned(root: Node, least: number, left: number, unit: string, of?: string): string[] {
  return [
    `${of ? `Width: ${of}` : `Width: ${unit === "ns" ? "CPU time" : unit}`}, ${amount(root.value, unit)} in all. Click a frame to zoom, "all" to go back.${
      left > 0 ? ` ${left.toLocaleString("en-US")} frames narrower than ${Number(((100 * least) / root.value).toPrecision(2))} % are not drawn.` : ""}`,
  ];
}

function* leavesOnlyIn(node: Node): Generator<Node> {
  if (node.value === 0 && node.a > 0) yield node;
  else for (const child of node.children.values()) yield* leavesOnlyIn(child);
}

const percent = (part: number, whole: number): string => `${whole > 0 ? ((100 * part) / whole).toFixed(part / whole < 0.0995 ? 2 : 1) : 0} %`;
const underWords = (under?: string | readonly string[]): string => (under === undefined ? "" : ` under ${listed([...new Set(typeof under === "string" ? [under] : under)].slice(0, 4))}`);
