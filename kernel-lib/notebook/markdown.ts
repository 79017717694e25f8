import { formatValue, visible } from "../format.js";

/** Markdown that a cell shows as its last value, or that `show` shows. */
export interface Markdown {
  readonly markdown: string;
}

/**
 * Markdown with computed values in it, for the sentence that reads a chart aloud:
 * ``kl.md`**Reading:** vhost needs ${kl.formatValue(p50, "ns")} of ${n} kicks.` ``.
 * Numbers are written with three or four digits and thousands separators, everything else is escaped, so that a
 * process's name cannot become markup.
 */
export function md(text: TemplateStringsArray, ...values: unknown[]): Markdown {
  const markdown = text.map((piece, i) => (i === 0 ? "" : written(values[i - 1])) + piece).join("");
  const result = { markdown };
  Object.defineProperty(result, Symbol.for("Jupyter.display"), { value: () => ({ "text/markdown": markdown, "text/plain": markdown }) });
  return result;
}

function written(value: unknown): string {
  if (typeof value === "number") return Number.isFinite(value) && !Number.isInteger(value) && Math.abs(value) >= 1000 ? formatValue(Math.round(value)) : formatValue(value);
  if (typeof value === "object" && value !== null && typeof (value as Markdown).markdown === "string") return (value as Markdown).markdown;
  return visible(String(value)).replace(/[\\`*_{}[\]<>()#+!|~&$-]/g, (c) => (c === "<" ? "&lt;" : c === "&" ? "&amp;" : c === "-" || c === "(" || c === ")" || c === "+" ? c : `\\${c}`)).replace(/\n/g, " ");
}
