import { SourceMap } from "node:module";
import { relative, sep } from "node:path";
import { inspect } from "node:util";
import type { Diagnostic } from "./compiler.js";

/** The source maps of one cell's conversion, as JSON: cell → ES module → CommonJS. */
export interface CellMaps {
  toModule: string | null;
  toCommonJs: string;
}

/** A cell as it ran. */
export interface RunCell {
  source: string;
  maps: CellMaps | null;
  /** Lines of the JavaScript; what is called below them is the cell itself. */
  lines: number;
}

/** What Jupyter asks of an error. */
export interface CellError {
  ename: string;
  evalue: string;
  traceback: string[];
}

/** What tslab says where it takes an interrupted cell out of its wait. */
export const INTERRUPTED = "Interrupted asynchronously";

const RED = "\x1b[31m", BOLD = "\x1b[1m", DIM = "\x1b[2m", PLAIN = "\x1b[0m";
// tslab compiles a line before the cell, and starts the code on the line of the function that it puts around.
const LINES_BEFORE = 1;
const WRAPPERS = ["(async function(exports, require) { ", "(function(exports, require) { "];

/** Where in a cell a place in its JavaScript is; null where no map leads back. Lines and columns from 1. */
function placeInCell(cell: RunCell, line: number, column: number): { line: number; column: number } | null {
  if (!cell.maps?.toModule) return null;
  const back = (json: string, l: number, c: number) => {
    const entry = new SourceMap(JSON.parse(json)).findEntry(l, c);
    return "originalLine" in entry ? { line: entry.originalLine, column: entry.originalColumn } : null;
  };
  const start = line === 1 ? WRAPPERS[1].length : 0;
  const module = back(cell.maps.toCommonJs, line - 1, Math.max(0, column - 1 - start));
  const place = module && back(cell.maps.toModule, module.line, module.column);
  if (!place || place.line < LINES_BEFORE) return null;
  return { line: place.line - LINES_BEFORE + 1, column: place.column + 1 };
}

function excerpt(source: string, line: number, column: number): string[] {
  const lines = source.split("\n");
  const width = String(Math.min(lines.length, line + 2)).length;
  const shown: string[] = [];
  for (let n = Math.max(1, line - 2); n <= Math.min(lines.length, line + 2); n++) {
    const here = n === line;
    shown.push(`${here ? `${RED}>${PLAIN}` : " "} ${DIM}${String(n).padStart(width)} |${PLAIN} ${here ? BOLD : ""}${lines[n - 1]}${here ? PLAIN : ""}`);
    if (here) shown.push(`  ${" ".repeat(width)} ${DIM}|${PLAIN} ${" ".repeat(Math.max(0, column - 1))}${RED}^${PLAIN}`);
  }
  return shown;
}

/** A file's path as the notebook would write it; packages by their name. */
function shortPath(path: string): string {
  const plain = path.replace(/^file:\/\//, "");
  const inPackage = plain.lastIndexOf(`${sep}node_modules${sep}`);
  if (inPackage >= 0) return plain.slice(inPackage + 14);
  const library = plain.match(/[\\/]kernel-lib[\\/]dist[\\/](.*)$/);
  if (library) return `kernel-lib/${library[1]}`;
  return relative(process.cwd(), plain) || plain;
}

/** The error that a cell threw → its name, message and a traceback with lines of the cells. `cells` by number. */
export function describeError(error: unknown, cells: Map<number, RunCell>): CellError {
  if (isInterrupt(error)) return { ename: "Interrupted", evalue: "the cell was interrupted", traceback: [`${RED}Interrupted${PLAIN}: the cell was interrupted`] };
  if (!(error instanceof Error) && !(typeof error === "object" && error !== null && typeof (error as Error).stack === "string")) {
    const evalue = typeof error === "string" ? error : inspect(error, { depth: 3 });
    return { ename: "Thrown", evalue, traceback: [`${RED}Thrown${PLAIN}: ${evalue} ${DIM}(not an Error, so there is no stack)${PLAIN}`] };
  }
  const { name, message } = error as Error;
  const ename = String(name || "Error"), evalue = String(message ?? "");
  return { ename, evalue, traceback: [`${RED}${ename}${PLAIN}: ${evalue}`, ...frames(error as Error, cells), ...causes(error as Error, cells)] };
}

function causes(error: Error, cells: Map<number, RunCell>, depth = 0): string[] {
  const inner = error instanceof AggregateError ? error.errors : error.cause === undefined ? [] : [error.cause];
  if (depth > 4) return [];
  return inner.slice(0, 5).flatMap((cause) => cause instanceof Error
    ? [`${DIM}caused by${PLAIN} ${RED}${cause.name}${PLAIN}: ${cause.message}`, ...frames(cause, cells), ...causes(cause, cells, depth + 1)]
    : [`${DIM}caused by${PLAIN} ${inspect(cause)}`]);
}

function frames(error: Error, cells: Map<number, RunCell>): string[] {
  const lines = String(error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  const out: string[] = [];
  let excerpted = false;
  for (const line of lines) {
    const found = line.match(/^\s+at (?:(.*?) \()?(.+?):(\d+):(\d+)\)?$/);
    if (!found) continue;
    const [, fn, file, row, column] = found;
    if (/^node:|[\\/]tslab[\\/]dist[\\/]|^evalmachine|[\\/]kernel-lib[\\/]dist[\\/]kernel[\\/]/.test(file)) continue;
    const number = file.match(/^In\[(\d+)\]$/);
    if (!number) {
      out.push(`    at ${fn ? `${fn.replace(/^(async )?(Object|Proxy)\./, "$1")} ` : ""}${DIM}${shortPath(file)}:${row}:${column}${PLAIN}`);
      continue;
    }
    const cell = cells.get(Number(number[1]));
    if (cell && Number(row) > cell.lines) continue;
    const place = cell && placeInCell(cell, Number(row), Number(column));
    // A cell's own code stands at the top of its function, which has no name.
    const name = fn && !/^(async )?(<anonymous>|eval|Object\.<anonymous>)$/.test(fn) ? `${fn.replace(/^(async )?(Object|Proxy)\./, "$1")} ` : "";
    out.push(`    at ${name}${BOLD}In[${number[1]}]${place ? `:${place.line}:${place.column}` : ""}${PLAIN}`);
    if (place && !excerpted) {
      excerpted = true;
      out.push(...excerpt(cell!.source, place.line, place.column).map((l) => `  ${l}`));
    }
  }
  return out;
}

function isInterrupt(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (error as NodeJS.ErrnoException).code === "ERR_SCRIPT_EXECUTION_INTERRUPTED" || error.message === INTERRUPTED;
}

/** What the compiler refused → an error with the lines of the cell. */
export function describeDiagnostics(diagnostics: Diagnostic[], source: string, number: number): CellError {
  // One fault can come as a chain of messages at the same place: they belong together.
  const faults: { line: number; column: number; file?: string; messages: string[] }[] = [];
  for (const { start, messageText, fileName } of diagnostics) {
    const line = start.line + 1, column = start.character + 1;
    const last = faults.at(-1);
    if (last && last.line === line && last.column === column && last.file === fileName) last.messages.push(messageText);
    else faults.push({ line, column, file: fileName, messages: [messageText] });
  }
  const traceback = [`${RED}TypeScript${PLAIN}: the cell was not run`];
  for (const { line, column, file, messages } of faults) {
    traceback.push(`${BOLD}${file ?? `In[${number}]`}:${line}:${column}${PLAIN} ${messages[0]}`, ...messages.slice(1).map((m, i) => `${"  ".repeat(i + 1)}${m}`));
    if (!file) traceback.push(...excerpt(source, line, column).map((l) => `  ${l}`));
  }
  return { ename: "TypeScript", evalue: faults.map(({ line, column, messages }) => `${line}:${column} ${messages[0]}`).join("\n"), traceback };
}
