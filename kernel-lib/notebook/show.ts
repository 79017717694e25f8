import { createRequire } from "node:module";
import { inspect } from "node:util";
import { ColumnTable } from "arquero";
import { columnsOf } from "../source/columns.js";
import { columnFormat, escapeHtml, visible } from "../format.js";
import { renderChart } from "../chart/render.js";
import { summaryOf } from "./summary.js";

/** One value in several forms, by MIME type; the front end takes the richest that it knows. */
export interface MimeBundle {
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
}

export interface ShowOptions {
  /** How many rows of a table are shown; default: all where there are at most 20, else the first 10. */
  rows?: number;
  /** Units of columns that this notebook made, such as { p50: "ns" }; one of ns, bytes, bit/s, %, count or any word. */
  units?: Record<string, string>;
}

const DISPLAY = Symbol.for("Jupyter.display");
const MAX_WHOLE = 20, CUT_TO = 10;
/** Where no line may break. */
const NUMBER_AND_UNIT = /(?<=\d) (?=(?:%|[µmn]?s)(?![\w/]))/g;
/** Characters of a cell in HTML, where prose may be broken into lines from LONG on, and in plain text. */
const LONGEST_CELL = 300, LONG = 20, LONGEST_TEXT = 100;

/**
 * Shows a value in the cell's output, where it stands: a table, a chart, a trace, text, anything. In the kernel-lib kernel a
 * cell's last value is shown like this by itself; plain tslab needs the call.
 */
export function show(value: unknown, options: ShowOptions = {}): void {
  display(bundleOf(value, options));
}

/** The forms in which a value is shown. What is neither a table nor a chart nor able to show itself becomes text. */
export function bundleOf(value: unknown, options: ShowOptions = {}): MimeBundle {
  if (isTable(value)) return tableBundle(value, options);
  if (typeof value === "object" && value !== null) {
    const own = (value as any)[DISPLAY];
    if (typeof own === "function") return { data: own.call(value), metadata: metadataOf(own) };
    if (value instanceof Promise) return { data: { "text/plain": "a promise: put await before it to see its value" }, metadata: {} };
    if (isVegaLite(value)) return chartBundle(value);
    const summary = summaryOf(value);
    if (summary) return { data: summary, metadata: {} };
  }
  return { data: { "text/plain": typeof value === "string" ? value : inspect(value, { depth: 4, maxArrayLength: 50, maxStringLength: 10_000 }) }, metadata: {} };
}

/** A chart's bundle. Never with text/html beside it, which JupyterLab would take in place of the chart. */
export function chartBundle(spec: object): MimeBundle {
  const { png, width, height } = renderChart(spec);
  return {
    data: {
      "application/vnd.vegalite.v5+json": { ...spec },
      ...(png ? { "image/png": Buffer.from(png).toString("base64") } : {}),
      "text/plain": `chart: ${titleOf(spec)}`,
    },
    metadata: { "image/png": { width: Math.round(width), height: Math.round(height) } },
  };
}

function titleOf(spec: any): string {
  const title = spec.title?.text ?? spec.title ?? "untitled";
  return visible(Array.isArray(title) ? title.join(" ") : String(title));
}

function metadataOf(own: { metadata?: Record<string, unknown> }): Record<string, unknown> {
  return own.metadata ?? {};
}

// By shape, not by class: the notebook may have an Arquero of its own.
function isTable(value: unknown): value is ColumnTable {
  const table = value as Partial<ColumnTable> | null;
  return value instanceof ColumnTable
    || (typeof value === "object" && table !== null && typeof table.columnNames === "function" && typeof table.numRows === "function" && typeof table.scan === "function");
}

function isVegaLite(value: object): boolean {
  const schema = (value as { $schema?: unknown }).$schema;
  return typeof schema === "string" && schema.includes("/vega-lite/v5");
}

/** A table as HTML and as text. */
export function tableBundle(table: ColumnTable, options: ShowOptions = {}): MimeBundle {
  const total = table.numRows();
  const limit = options.rows ?? (total <= MAX_WHOLE ? total : CUT_TO);
  const names = table.columnNames();
  const rows: number[] = [];
  if (limit > 0) table.scan((row) => { rows.push(row!); }, true, limit);
  const known = columnsOf(table);
  const columns = names.map((name) => {
    const column = table.column(name)!;
    const values = rows.map((row) => column.at(row) as unknown);
    const unit = options.units?.[name];
    const spec = unit === undefined ? known[name] : { ...(known[name] ?? { type: "number" as const, meaning: "" }), unit };
    return { name, spec, values, format: columnFormat(name, spec, values) };
  });
  const caption = rows.length < total
    ? `${count(rows.length)} of ${count(total)} rows`
    : `${count(total)} row${total === 1 ? "" : "s"}`;

  const head = columns.map(({ name, spec, format }) => {
    const tip = [spec?.meaning, spec?.null ? `null: ${spec.null}` : ""].filter(Boolean).join("\n");
    const unit = format.unit ? `<br><span style="font-weight:normal;opacity:0.65">${escapeHtml(format.unit)}</span>` : "";
    return `<th style="text-align:${format.align};vertical-align:bottom"${tip ? ` title="${escapeHtml(tip)}"` : ""}>${escapeHtml(name)}${unit}</th>`;
  }).join("");
  const body = rows.map((_, i) => `<tr>${columns.map(({ values, format }) => {
    const full = format.text(values[i]);
    const cut = full.length > LONGEST_CELL ? `${full.slice(0, LONGEST_CELL - 1)}…` : full;
    // The browser gives it all the width that there is, and no less than a few words.
    const space = cut.length > LONG && typeof values[i] === "string" && cut.includes(" ") ? `white-space:normal;min-width:${cut.length > 60 ? 14 : 9}em` : "white-space:nowrap";
    return `<td style="text-align:${format.align};${space}"${cut === full ? "" : ` title="${escapeHtml(full.slice(0, 2000))}"`}>${escapeHtml(cut).replace(NUMBER_AND_UNIT, "&nbsp;")}</td>`;
  }).join("")}</tr>`).join("\n");
  const html = `<div class="kernel-lib-table" style="overflow-x:auto"><table style="font-variant-numeric:tabular-nums"><thead><tr>${head}</tr></thead>\n`
    + `<tbody>${body}</tbody></table><div style="opacity:0.65;font-size:90%">${caption}</div></div>`;
  return { data: { "text/html": html, "text/plain": textTable(columns, caption) }, metadata: {} };
}

const count = (n: number) => n.toLocaleString("en-US");

function textTable(columns: { name: string; values: unknown[]; format: { unit: string | null; align: string; text(value: unknown): string } }[], caption: string): string {
  const cells = columns.map(({ name, values, format }) => {
    const texts = [name, ...(columns.some((c) => c.format.unit) ? [format.unit ?? ""] : []), ...values.map((value) => visible(format.text(value)).replace(/\n/g, "\\n").slice(0, LONGEST_TEXT))];
    const width = Math.max(...texts.map((text) => text.length));
    return texts.map((text) => (format.align === "right" ? text.padStart(width) : text.padEnd(width)));
  });
  const lines = (cells[0] ?? []).map((_, i) => cells.map((column) => column[i]).join("  ").trimEnd());
  return [...lines, caption].join("\n");
}

/** The writer of display messages of the kernel in which this runs (ours and plain tslab keep it at the same place); null outside. */
type Write = (content: { data: object; metadata: object; transient?: { display_id?: string } }, update: boolean) => void;

const cache = createRequire(import.meta.url).cache;
export function kernelWriter(): Write | null {
  for (const path in cache) {
    if (!/[\\/]tslab[\\/]dist[\\/]jupyter\.js$/.test(path)) continue;
    const write = cache[path]?.exports.lastWriteDisplayData as Write | null;
    if (write) return write;
  }
  return null;
}

/** Sends a bundle to the notebook; without one, its text to standard output. */
export function display(bundle: MimeBundle, id?: string, update = false): void {
  const write = kernelWriter();
  if (write) write({ ...bundle, ...(id ? { transient: { display_id: id } } : { transient: {} }) }, update);
  else if (!update) console.log(String(bundle.data["text/plain"] ?? ""));
}
