import type { ColumnSpec } from "./source/columns.js";

// Inside the library there is one unit of each kind; here, at the edge, a person's unit is chosen.
const scales: Record<string, [name: string, size: number][]> = {
  ns: [["ns", 1], ["µs", 1e3], ["ms", 1e6], ["s", 1e9]],
  bytes: [["B", 1], ["KiB", 2 ** 10], ["MiB", 2 ** 20], ["GiB", 2 ** 30], ["TiB", 2 ** 40]],
  "bytes/s": [["B/s", 1], ["KiB/s", 2 ** 10], ["MiB/s", 2 ** 20], ["GiB/s", 2 ** 30]],
  "bit/s": [["bit/s", 1], ["kbit/s", 1e3], ["Mbit/s", 1e6], ["Gbit/s", 1e9]],
};

/** How the values of one column are written: all in the same unit, with the same number of decimals. */
export interface ColumnFormat {
  /** The unit chosen, for the heading; null where there is none to say. */
  unit: string | null;
  align: "left" | "right";
  text(value: unknown): string;
}

const isNumber = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

/** How many decimals show these numbers well: three digits of the smallest, none where all are whole, at most `most`. */
function decimalsFor(numbers: number[], most: number): number {
  let smallest = Infinity;
  for (const x of numbers) if (x !== 0) smallest = Math.min(smallest, Math.abs(x));
  if (smallest === Infinity) return 0;
  const wanted = Math.min(most, Math.max(0, 2 - Math.floor(Math.log10(smallest))));
  for (let d = 0; d < wanted; d++) {
    if (numbers.every((x) => Math.abs(x * 10 ** d - Math.round(x * 10 ** d)) < 1e-6)) return d;
  }
  return wanted;
}

function scaleFor(unit: string | null | undefined, numbers: number[]): [name: string, size: number] | null {
  const steps = unit ? scales[unit] : undefined;
  if (!steps) return null;
  const sizes = numbers.map(Math.abs).filter((x) => x > 0).sort((a, b) => a - b);
  const middle = sizes[sizes.length >> 1] ?? 0;
  return steps.findLast(([, size]) => middle >= size) ?? steps[0];
}

const writers = new Map<number, Intl.NumberFormat>();

function writer(decimals: number, useGrouping: boolean): Intl.NumberFormat {
  const key = 2 * decimals + Number(useGrouping);
  let known = writers.get(key); // making one takes longer than writing a table's column
  if (!known) writers.set(key, known = new Intl.NumberFormat("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals, useGrouping }));
  return known;
}

/** Chooses how to write a column, from what is known of it and from the values to be shown. */
export function columnFormat(name: string, spec: ColumnSpec | undefined, values: unknown[]): ColumnFormat {
  const numbers = values.filter(isNumber);
  const plain = (value: unknown) => plainText(value);
  if (values.some((value) => value !== null && value !== undefined && typeof value !== "number" && typeof value !== "bigint")
    || (numbers.length === 0 && spec?.type !== "number")) {
    return { unit: null, align: "left", text: plain };
  }
  const write = (format: Intl.NumberFormat, size: number) => (value: unknown) => isNumber(value) ? format.format(value / size) : plain(value);
  if (spec?.base === 16) return { unit: null, align: "right", text: (value) => (isNumber(value) && Number.isInteger(value) && value >= 0 ? `0x${value.toString(16)}` : plain(value)) };
  // A number with a description but without a unit is an identifier: a pid, a CPU.
  if (spec && spec.unit === null) return { unit: null, align: "right", text: write(writer(decimalsFor(numbers, 6), false), 1) };
  if (spec?.unit === "ns" && /(^|_)ts$/.test(name)) {
    const fine = numbers.some((x) => x % 1000 !== 0);
    return { unit: "s", align: "right", text: write(writer(fine ? 9 : 6, false), 1e9) };
  }
  const [unit, size] = scaleFor(spec?.unit, numbers) ?? [spec?.unit ?? null, 1];
  const scaled = numbers.map((x) => x / size);
  const largest = Math.max(0, ...scaled.map(Math.abs));
  if (unit === null && largest > 0 && (largest < 1e-4 || largest >= 1e15)) {
    return { unit, align: "right", text: (value) => isNumber(value) ? value.toPrecision(4) : plain(value) };
  }
  const decimals = decimalsFor(scaled, unit === "%" ? 2 : spec?.unit && scales[spec.unit] ? 3 : 4);
  return { unit: unit === "count" ? null : unit, align: "right", text: write(writer(decimals, true), size) };
}

/**
 * One number for a sentence: `formatValue(12345, "ns")` is "12.3 µs". Three significant digits; whole numbers without a
 * unit that scales stay whole: "48,211 rows".
 */
export function formatValue(value: number | null | undefined, unit: string | null = null): string {
  if (!isNumber(value)) return value === null || value === undefined ? "no value" : String(value);
  const [name, size] = scaleFor(unit, [value]) ?? [unit, 1];
  const x = value / size;
  const whole = size === 1 && Number.isInteger(x);
  const text = whole ? writer(0, true).format(x)
    : Math.abs(x) > 0 && Math.abs(x) < 1e-4 ? x.toPrecision(3)
      : writer(Math.abs(x) === 0 ? 0 : Math.max(0, Math.min(6, 2 - Math.floor(Math.log10(Math.abs(x))))), true).format(x);
  if (name === null || name === "count") return text;
  return name === "%" ? `${text} %` : `${text} ${name}`;
}

/** Any value as one line of text. */
export function plainText(value: unknown): string {
  switch (typeof value) {
    case "string": return value;
    case "number": case "boolean": case "bigint": return String(value);
    case "undefined": return "";
    case "object":
      if (value === null) return "";
      if (value instanceof Date) return value.toISOString();
      try {
        return JSON.stringify(ArrayBuffer.isView(value) ? Array.from(value as unknown as ArrayLike<number>) : value) ?? String(value);
      } catch {
        return String(value);
      }
    default: return String(value);
  }
}

const entities: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

/** Text that comes from a traced machine, made safe for HTML; control characters become visible. */
export function escapeHtml(text: string): string {
  return visible(text).replace(/[&<>"']/g, (c) => entities[c]);
}

/** Control characters and bidirectional overrides, which could hide or reorder what a person reads, as U+XXXX. */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
