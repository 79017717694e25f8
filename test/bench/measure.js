// How long a program takes and how much memory: its own process, or rounds inside one process.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/** Highest resident memory of a process or of the one it started, as the kernel kept it. */
function peakOf(pid) {
  const status = (id) => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${id}/status`, "latin1"))?.[1] ?? 0) * 1024;
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, "latin1").trim().split(" ")[0];
  return child ? status(child) : 0;
}

/**
 * Runs a program: seconds of processor (all its threads, as bash's `time` is told them by the kernel) and elapsed, peak memory in bytes
 * (looked up every 5 ms, so that the very last ms are not in it), the end of what it printed and how many lines that was.
 */
export function measure([command, ...args], { env = {}, cwd } = {}) {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    let peak = 0, lines = 0, size = 0, printed = "", errors = "", times = "";
    const child = spawn("bash", ["-c", 'TIMEFORMAT="%3U %3S"; { time "$@" 2>&4; } 4>&2 2>&3', "bash", command, ...args], {
      stdio: ["ignore", "pipe", "pipe", "pipe"], env: { ...process.env, LC_ALL: "C", ...env }, cwd,
    });
    const look = setInterval(() => {
      try {
        peak = Math.max(peak, peakOf(child.pid));
      } catch { /* it has ended */ }
    }, 5);
    child.stdout.on("data", (chunk) => {
      size += chunk.length;
      for (let i = chunk.indexOf(10); i >= 0; i = chunk.indexOf(10, i + 1)) lines++;
      printed = (printed + chunk.toString("latin1")).slice(-100_000);
    });
    child.stderr.on("data", (chunk) => { errors = (errors + chunk).slice(-2000); });
    child.stdio[3].on("data", (chunk) => { times += chunk; });
    child.on("error", (error) => { clearInterval(look); reject(error); });
    child.on("close", (code) => {
      clearInterval(look);
      const seconds = times.trim().split("\n").at(-1).split(" ").reduce((sum, text) => sum + Number(text), 0);
      if (code === 0) resolve({ elapsed: (performance.now() - begin) / 1000, seconds, peak: peak || null, lines, size, printed });
      else reject(new Error(`${command} ended with ${code}: ${errors.trim()}`));
    });
  });
}

/** Memory that is held now, after what nobody holds is given back. */
export function heldMemory() {
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc");
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** Reads n times and says how long each took. `run` returns { rows, … }: the rest is passed on from the last round. */
export async function rounds(run, n) {
  const seconds = [], elapsed = [];
  let result;
  for (let i = 0; i < n; i++) {
    const begin = process.cpuUsage(), start = performance.now();
    result = await run();
    const { user, system } = process.cpuUsage(begin);
    seconds.push((user + system) / 1e6);
    elapsed.push((performance.now() - start) / 1000);
  }
  return { seconds, elapsed, ...result };
}
