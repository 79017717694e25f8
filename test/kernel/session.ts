import { spawn } from "node:child_process";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { labEnvironment, labIsReady, venvPython } from "../../kernel-lib/kernel/lab.js";
import { ROOT } from "../peer.js";

export const HAS_JUPYTER = labIsReady(ROOT);
/** Why kernel tests are skipped, for their names. */
export const NO_JUPYTER = HAS_JUPYTER ? "" : ` (skipped: ${process.env.KERNEL_LIB_NO_JUPYTER ?? "no virtual environment"})`;

export type Request =
  | { execute: string; interrupt?: number; how?: "signal" | "message" }
  | { complete: string; at?: number } | { inspect: string; at?: number } | { isComplete: string } | { info: true } | { together: string[] };

export interface Output {
  type: string;
  name?: string;
  text?: string;
  data?: Record<string, any>;
  metadata?: Record<string, any>;
  transient?: Record<string, any>;
  ename?: string;
  evalue?: string;
  traceback?: string[];
  execution_count?: number;
}
export interface Executed {
  reply: { status: string; execution_count?: number; ename?: string };
  outputs: Output[];
  seconds: number;
}

/** Starts the kernel through Jupyter in a folder, sends the requests one after the other, returns the answers. */
export async function session(requests: Request[], cwd = join(ROOT, "notebooks"), other: { kernel: string; path: string } | null = null): Promise<any[]> {
  const child = spawn(venvPython(ROOT), [join(ROOT, "test", "kernel", "drive.py")], {
    env: { ...labEnvironment(ROOT), ...(other ? { JUPYTER_PATH: other.path } : {}) }, stdio: ["pipe", "pipe", "pipe"],
  });
  const out: string[] = [], err: string[] = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => out.push(text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => err.push(text));
  child.stdin.end(JSON.stringify({ cwd, requests, ...(other ? { kernel: other.kernel } : {}) }));
  const code = await new Promise((resolve) => child.on("close", resolve));
  if (code !== 0) throw new Error(`the driver ended with ${String(code)}:\n${err.join("")}`);
  return JSON.parse(out.join("")).slice(1);
}

/** Executes cells and returns what each put out. */
export async function runCells(cells: string[], cwd?: string): Promise<Executed[]> {
  return await session(cells.map((execute) => ({ execute })), cwd);
}

export const streamText = (outputs: Output[], name = "stdout"): string => outputs.filter((o) => o.type === "stream" && o.name === name).map((o) => o.text).join("");
export const traceback = (output: Output): string => stripVTControlCharacters(output.traceback!.join("\n"));
