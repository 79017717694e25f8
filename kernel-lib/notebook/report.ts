import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, extname, join, resolve } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { ParseError } from "../errors.js";
import { PACKAGE } from "../kernel/install.js";
import { escapeHtml } from "../format.js";

export interface ReportOptions {
  /** Title of the page; default: the first notebook's first heading. */
  title?: string;
}

interface Output {
  output_type: string;
  data?: Record<string, unknown>;
  metadata?: Record<string, { width?: number; height?: number }>;
  name?: string;
  text?: string | string[];
  ename?: string;
  evalue?: string;
  traceback?: string[];
}
interface Cell {
  cell_type: string;
  source: string | string[];
  outputs?: Output[];
  attachments?: Record<string, Record<string, string>>;
  metadata?: { tags?: string[] };
}
interface Heading { level: number; text: string; id: string }

const require = createRequire(import.meta.url);
const joined = (text: string | string[] | undefined): string => (Array.isArray(text) ? text.join("") : text ?? "");

/**
 * Makes one HTML page of executed notebooks: contents list, text, tables, charts that answer to the mouse. It carries all that it
 * needs and may reach nothing: its content security policy allows no connection and no script but its own.
 * @throws ParseError where a file is no notebook.
 */
export async function writeReport(notebooks: string[], file: string, options: ReportOptions = {}): Promise<void> {
  await writeFile(file, reportHtml(notebooks, options));
}

/** The page of `writeReport`, as text. */
export function reportHtml(notebooks: string[], options: ReportOptions = {}): string {
  const charts: object[] = [];
  const paths = notebooks.map((path) => resolve(path));
  const sections = paths.map((path) => section(path, paths, charts));
  const title = options.title ?? sections[0]?.headings[0]?.text ?? "Report";
  const modules = ["vega/build/vega.min.js", "vega-lite/build/vega-lite.min.js", "vega-embed/build/vega-embed.min.js"];
  const scripts = charts.length > 0 ? modules.map((name) => readFileSync(pathOf(name), "utf8")) : [];
  scripts.push(`{\n${readFileSync(join(PACKAGE, "notebook", "report-page.js"), "utf8")}}\n`);
  const inline = scripts.map((script) => script.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "").replace(/<(?=\/script|!--)/gi, "\\x3c"));
  const hashes = inline.map((script) => `'sha256-${createHash("sha256").update(script).digest("base64")}'`);
  const policy = `default-src 'none'; script-src ${hashes.join(" ")}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'`;
  const contents = sections.map(({ headings: [first, ...rest] }) => (first
    ? `<li>${link(first)}${rest.length > 0 ? `<ol>${rest.filter((h) => h.level === 2).map((h) => `<li>${link(h)}</li>`).join("")}</ol>` : ""}</li>` : ""));
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="kernel-lib">
<title>${escapeHtml(title)}</title>
<style>
${readFileSync(join(PACKAGE, "notebook", "report.css"), "utf8")}</style>
</head>
<body>
<nav aria-label="Contents"><strong>${escapeHtml(title)}</strong>
<ol>
${contents.join("\n")}
</ol>
<button id="code" type="button" hidden>Show code</button>
</nav>
<main>
${sections.map(({ html }) => html).join("\n")}
<footer>Made with kernel-lib from ${notebooks.length === 1 ? "one notebook" : `${notebooks.length} notebooks`}: ${notebooks.map((path) => escapeHtml(basename(path))).join(", ")}. This page needs no network.</footer>
</main>
<script type="application/json" id="charts">${JSON.stringify(charts).replace(/</g, "\\u003c")}</script>
${inline.map((script) => `<script>${script}</script>`).join("\n")}
</body>
</html>
`;
}

const link = ({ id, text }: Heading): string => `<a href="#${encodeURIComponent(id)}">${escapeHtml(text)}</a>`;

/** A file of a package, wherever the package manager put it; some packages export their main file alone. */
function pathOf(name: string): string {
  const [packageName, ...rest] = name.split("/");
  for (const folder of require.resolve.paths(packageName) ?? []) {
    if (existsSync(join(folder, name))) return join(folder, packageName, ...rest);
  }
  throw new Error(`${name} is not installed; run: npm ci`);
}

function section(path: string, paths: string[], charts: object[]): { html: string; headings: Heading[] } {
  const name = basename(path, ".ipynb");
  const cells = readCells(path);
  const headings: Heading[] = [];
  const html = cells.map((cell) => {
    const source = joined(cell.source);
    switch (cell.cell_type) {
      case "markdown": return markdown(source, { name, path, paths, headings, attachments: cell.attachments });
      case "code": return codeCell(source, cell.outputs ?? [], charts, { name, path, paths, headings: [] });
      default: return `<pre>${escapeHtml(source)}</pre>`;
    }
  });
  if (headings.length === 0) headings.push({ level: 1, text: name, id: name });
  return { html: `<section id="${escapeHtml(name)}">\n${html.join("\n")}\n</section>`, headings };
}

function readCells(path: string): Cell[] {
  let notebook: { cells?: Cell[]; nbformat?: number };
  try {
    notebook = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new ParseError("this is no notebook: not JSON; name a .ipynb file", path);
  }
  if (!Array.isArray(notebook?.cells)) throw new ParseError("this is no notebook of format 4: it has no cells; save it again with a Jupyter of today", path);
  return notebook.cells;
}

function codeCell(source: string, outputs: Output[], charts: object[], context: MarkdownContext): string {
  const code = source.trim() === "" ? "" : `<details class="code"><summary>code</summary><pre><code>${highlight(source)}</code></pre></details>`;
  return code + outputs.map((output) => `<div class="output${output.output_type === "error" ? " error" : ""}">${outputHtml(output, charts, context)}</div>`).join("\n");
}

function outputHtml(output: Output, charts: object[], context: MarkdownContext): string {
  if (output.output_type === "stream") return `<pre>${escapeHtml(stripVTControlCharacters(joined(output.text)))}</pre>`;
  if (output.output_type === "error") {
    const text = output.traceback?.length ? output.traceback.join("\n") : `${output.ename}: ${output.evalue}`;
    return `<pre>${escapeHtml(stripVTControlCharacters(text))}</pre>`;
  }
  const data = output.data ?? {};
  const text = (type: string) => joined(data[type] as string | string[]);
  const picture = (): string => {
    const { width, height } = output.metadata?.["image/png"] ?? {};
    const size = width && height ? ` width="${Number(width)}" height="${Number(height)}"` : "";
    return `<img alt="${escapeHtml(text("text/plain"))}"${size} src="data:image/png;base64,${escapeHtml(text("image/png").replace(/\s/g, ""))}">`;
  };
  const chart = data["application/vnd.vegalite.v5+json"];
  if (chart !== null && typeof chart === "object") {
    charts.push(chart);
    return `<figure class="chart" data-chart="${charts.length - 1}">${data["image/png"] ? picture() : `<p>${escapeHtml(text("text/plain"))}</p>`}</figure>`;
  }
  if (data["text/html"] !== undefined) return text("text/html");
  if (data["text/markdown"] !== undefined) return `<div class="reading">${markdown(text("text/markdown"), context)}</div>`;
  if (data["image/svg+xml"] !== undefined) return `<img alt="" src="data:image/svg+xml;base64,${Buffer.from(text("image/svg+xml")).toString("base64")}">`;
  if (data["image/png"] !== undefined) return picture();
  return `<pre class="plain">${escapeHtml(stripVTControlCharacters(text("text/plain")))}</pre>`;
}

interface MarkdownContext {
  name: string;
  path: string;
  paths: string[];
  /** Headings found are added here. */
  headings: Heading[];
  attachments?: Cell["attachments"];
}

function markdown(source: string, context: MarkdownContext): string {
  const MarkdownIt = require("markdown-it");
  // A notebook's author may write HTML (folded answers are <details>); scripts in it are stopped by the page's policy.
  const parser = MarkdownIt({ html: true, linkify: false });
  const tokens: any[] = parser.parse(source, {});
  tokens.forEach((token, i) => {
    if (token.type === "heading_open") {
      const text = String(tokens[i + 1].children.filter((t: any) => t.type === "text" || t.type === "code_inline").map((t: any) => t.content).join(""));
      const first = context.headings.length === 0;
      const level = Number(token.tag.slice(1));
      const id = first ? `${context.name}/top` : `${context.name}/${text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "")}-${context.headings.length}`;
      token.attrSet("id", id);
      context.headings.push({ level: first ? 1 : level, text, id });
    }
    for (const child of token.children ?? []) {
      if (child.type === "link_open") child.attrSet("href", linkTarget(child.attrGet("href"), context));
      if (child.type === "image") child.attrSet("src", imageTarget(child.attrGet("src"), context));
    }
  });
  return parser.renderer.render(tokens, parser.options, {});
}

/** A link to another notebook of the report becomes a link within the page. */
function linkTarget(href: string, { path, paths }: MarkdownContext): string {
  const [file, hash] = href.split("#");
  if (!file || /^[a-z]+:/i.test(file) || !file.endsWith(".ipynb")) return href;
  const target = resolve(dirname(path), decodeURIComponent(file));
  return paths.includes(target) ? `#${encodeURIComponent(basename(target, ".ipynb"))}` : hash ? `${file}#${hash}` : file;
}

const imageTypes: Record<string, string> = { ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".svg": "image/svg+xml", ".webp": "image/webp" };

/** Pictures come into the page: those attached to the cell and those in files beside the notebook. */
function imageTarget(src: string, { path, attachments }: MarkdownContext): string {
  const attached = src.startsWith("attachment:") ? attachments?.[decodeURIComponent(src.slice(11))] : undefined;
  if (attached) return Object.entries(attached).map(([type, data]) => `data:${type};base64,${data}`)[0] ?? "";
  if (/^[a-z]+:/i.test(src)) return src;
  const file = resolve(dirname(path), decodeURIComponent(src));
  const type = imageTypes[extname(file).toLowerCase()];
  return type && existsSync(file) ? `data:${type};base64,${readFileSync(file).toString("base64")}` : src;
}

const KEYWORDS = new Set(("as async await break case catch class const continue default do else enum export extends false finally for from function if implements import in "
  + "instanceof interface let new null of return satisfies static super switch this throw true try type typeof undefined var void while yield").split(" "));

/** TypeScript, coloured plainly: comments, strings, numbers, keywords. */
function highlight(source: string): string {
  const token = /(\/\/[^\n]*|\/\*[\s\S]*?\*\/)|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|\b(\d[\w.]*)\b|([A-Za-z_$][\w$]*)/g;
  let html = "", end = 0;
  for (const match of source.matchAll(token)) {
    const [text, comment, string, number] = match;
    const kind = comment ? "c" : string ? "s" : number ? "n" : KEYWORDS.has(text) ? "k" : null;
    html += escapeHtml(source.slice(end, match.index)) + (kind ? `<span class="${kind}">${escapeHtml(text)}</span>` : escapeHtml(text));
    end = match.index! + text.length;
  }
  return html + escapeHtml(source.slice(end));
}
