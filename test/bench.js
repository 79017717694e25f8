// npm run bench: how fast this machine reads the recordings of data/. Peers in the same run are still to come;
// the table says so instead of leaving them out.
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import * as kl from "kernel-lib";

const DATA = fileURLToPath(new URL("../data/capture/", import.meta.url));
const ROUNDS = 5;
const AT_LEAST = 32 * 2 ** 20;

/** The recording, repeated until it is long enough to time. */
function text(path) {
  const bytes = readFileSync(DATA + path);
  const plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
  return Buffer.concat(Array.from({ length: Math.ceil(AT_LEAST / plain.length) }, () => plain));
}

const cases = [
  ["perf script → Profile", "virtio/perf-script-host.txt.gz", (bytes) => kl.fromPerfScript(bytes)],
  ["perf script → folded", "virtio/perf-script-host.txt.gz", (bytes) => kl.foldStacks(kl.fromPerfScript(bytes))],
  ["trace-cmd report → Trace", "virtio/trace-cmd.txt.gz", (bytes) => kl.fromTraceCmd(bytes)],
];
const peers = ["inferno-collapse-perf", "stackcollapse-perf.pl", "speedscope", "trace-cmd report", "perf script", "LISA", "polars", "DuckDB"];

console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model.trim()}; median of ${ROUNDS} rounds after one to warm up, one thread\n`);
for (const [label, path, run] of cases) {
  const bytes = text(path);
  const seconds = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const begin = performance.now();
    run(bytes);
    if (round > 0) seconds.push((performance.now() - begin) / 1000);
  }
  const median = seconds.sort((a, b) => a - b)[ROUNDS >> 1];
  console.log(`${label.padEnd(26)} ${(bytes.length / 2 ** 20 / median).toFixed(0).padStart(5)} MiB/s   (${path} repeated to ${(bytes.length / 2 ** 20).toFixed(0)} MiB)`);
}
console.log(`\nNot compared yet, so no ratio is claimed: ${peers.join(", ")}.`);
