// trace-cmd report and perf script themselves, on a recording of their own: how fast they print the text that we then read.
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { decompress } from "fzstd";
import { measure, median } from "./measure.js";

const programs = [
  { peer: "trace-cmd", file: "trace-dat", question: "trace", command: (path) => ["trace-cmd", "report", "-i", path] },
  { peer: "perf", file: "perf-data", question: "fold", command: (path) => ["perf", "script", "--force", "-i", path] },
];

/** Per recorder: what it took to print its text, and what we take to read that text; processes both. */
export async function printedItself(option, peers, folder, n, ours) {
  const found = [];
  for (const { peer, file, question, command } of programs) {
    if (!peers.paths[peer]) continue;
    let recording = option[file];
    if (recording.endsWith(".zst")) {
      recording = join(folder, "recording");
      writeFileSync(recording, decompress(readFileSync(option[file])));
    }
    const text = join(folder, `${peer}.txt`), target = openSync(text, "w");
    spawnSync(command(recording)[0], command(recording).slice(1), { stdio: ["ignore", target, "ignore"] });
    closeSync(target);
    const bytes = statSync(text).size;
    const prints = [], reads = [];
    for (let round = 0; round < n; round++) {
      prints.push((await measure(command(recording))).seconds);
      reads.push((await ours(question, 0, text, 1)).seconds);
    }
    const { warm } = await ours(question, 0, text, n + 1);
    found.push({ who: command("")[0] === "perf" ? "perf script" : "trace-cmd report", bytes, prints: median(prints), reads: median(reads), warm: median(warm.slice(1)) });
    const { who, prints: p, reads: r, warm: w } = found.at(-1);
    const rate = (seconds) => `${(bytes / 2 ** 20 / seconds).toFixed(0)} MiB/s`;
    console.log(`\n${who} itself, ${(bytes / 1e6).toFixed(0)} MB: printed at ${rate(p)}; read by kernel-lib at ${rate(r)} (process), ${rate(w)} (warm)`);
  }
  return found;
}
