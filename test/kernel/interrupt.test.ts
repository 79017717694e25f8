import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DATA } from "../peer.js";
import { HAS_JUPYTER, NO_JUPYTER, session, type Executed } from "./session.js";

let folder = "", path = "";
const COPIES = 120;

/** A trace of about 1 GB: a real one, over and over. */
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "kernel-lib-interrupt-"));
  path = join(folder, "big.txt");
  const text = gunzipSync(readFileSync(join(DATA, "capture/icount-vhost/trace-cmd-256M-r1.nsec.txt.gz"))), file = openSync(path, "w");
  for (let n = 0; n < COPIES; n++) writeSync(file, text);
  closeSync(file);
});
afterAll(() => { rmSync(folder, { recursive: true, force: true }); });

/** Bytes of arrays that are alive, and whether the file is open, told in the kernel once its garbage is collected. */
const STATE = `
import { readdirSync, readlinkSync } from "node:fs";
require("node:v8").setFlagsFromString("--expose-gc");
const gc = require("node:vm").runInNewContext("gc");
for (let n = 0; n < 5; n++) { gc(); await new Promise((resolve) => setTimeout(resolve, 50)); }
const open = readdirSync("/proc/self/fd").filter((fd) => { try { return readlinkSync("/proc/self/fd/" + fd).endsWith("big.txt"); } catch { return false; } });
JSON.stringify({ mib: process.memoryUsage().arrayBuffers / 2 ** 20, open: open.length })`;

const result = (cell: Executed): string => cell.outputs.at(-1)!.data!["text/plain"] as string;

describe.skipIf(!HAS_JUPYTER)(`a load that is interrupted in the kernel${NO_JUPYTER}`, () => {
  it("ends at once with an error that says how far it was; its memory is free, its file closed, and the next cell works", async () => {
    const [, interrupted, state, next] = await session([
      { execute: "0" },
      { execute: `const trace = await kl.loadTraceCmd(${JSON.stringify(path)});`, interrupt: 2 },
      { execute: STATE },
      { execute: `(await kl.loadFolded(Buffer.from("a;b 3\\n"), { quiet: true })).numRows()` },
    ]) as Executed[];
    const error = interrupted.outputs.at(-1)!;
    expect(error).toMatchObject({ type: "error", ename: "InterruptedError" });
    expect(error.evalue).toMatch(/big\.txt, \d+ %, [\d,]+ of [\d,]+ MiB, [\d,]+ rows, \d+ MiB\/s, .+ left: the load was interrupted, and nothing of it is kept$/);
    expect(interrupted.seconds).toBeLessThan(15);
    // Of the progress that was shown nothing is left.
    const shown = interrupted.outputs.filter(({ type }) => /display_data/.test(type));
    expect(shown[0]?.data!["text/plain"]).toMatch(/^big\.txt: \d+ %, /);
    expect(shown.at(-1)?.data!["text/plain"]).toBe("");
    const { mib, open } = JSON.parse(result(state)) as { mib: number; open: number };
    expect(open).toBe(0);
    expect(mib).toBeLessThan(50);
    expect(result(next)).toBe("1");
  });

  it("takes all loads of the cell with it, and those whose next chunk never comes", async () => {
    const [, interrupted, next] = await session([
      { execute: "async function* silent() { yield Buffer.from('a;b 3\\n'); await new Promise(() => {}); }\nlet ended: string[] = [];" },
      { execute: "await Promise.all([1, 2, 3].map((n) => kl.loadFolded(silent(), { name: `load ${n}`, quiet: true }).catch((error) => { ended.push(error.name); throw error; })));", interrupt: 1 },
      { execute: "ended.join()" },
    ]) as Executed[];
    expect(interrupted.outputs.at(-1)).toMatchObject({ type: "error", ename: "InterruptedError", evalue: expect.stringContaining("load 1, 0 MiB, ") });
    expect(result(next)).toBe("InterruptedError,InterruptedError,InterruptedError");
  });

  it("is stopped by a message on the control channel as by a signal", async () => {
    const [, interrupted, next] = await session([
      { execute: "async function* silent() { await new Promise(() => {}); }" },
      { execute: "await kl.loadFolded(silent(), { name: 'x' });", interrupt: 1, how: "message" },
      { execute: "1 + 1" },
    ]) as Executed[];
    expect(interrupted.outputs.at(-1)).toMatchObject({ type: "error", ename: "InterruptedError" });
    expect(result(next)).toBe("2");
  });
});
