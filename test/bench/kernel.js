// The kernel as a person meets it, through Jupyter: time elapsed, on a quiet machine.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { median } from "./measure.js";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const LINES = 100_000;
const CELLS = [
  "const { user, system } = process.cpuUsage(); (user + system) / 1e6", // of the kernel, from its start to its first cell
  'const exits = kl.kvmExits(await kl.loadTraceCmd("../data/capture/icount-vhost/trace-cmd.txt.gz", { quiet: true }));',
  'kl.latencyChart(exits, { span: "handling", by: "reason" })',
  'kl.latencyChart(exits, { span: "guest", by: "reason" })',
  `for (let i = 0; i < ${LINES}; i++) console.log("line", i);`,
];

/** Starts the kernel and runs the cells, as often as asked. null where no JupyterLab is set up. */
export async function measureKernel(rounds) {
  const lab = await import(new URL("../../kernel-lib/dist/kernel/lab.js", import.meta.url).href);
  if (!lab.labIsReady(ROOT)) return null;
  const drive = () => {
    const { status, stdout, stderr } = spawnSync(lab.venvPython(ROOT), [join(ROOT, "test", "kernel", "drive.py")], {
      env: lab.labEnvironment(ROOT), encoding: "utf8", maxBuffer: 1 << 28, input: JSON.stringify({ cwd: join(ROOT, "notebooks"), requests: CELLS.map((execute) => ({ execute })) }),
    });
    if (status !== 0) throw new Error(`the kernel's driver ended with ${status}: ${stderr.trim().split("\n").at(-1)}`);
    const [{ ready }, first, , chart, next, flood] = JSON.parse(stdout);
    for (const { outputs } of [chart, next]) {
      if (!outputs.some(({ data }) => data?.["image/png"])) throw new Error(`a chart's cell gave no chart: ${JSON.stringify(outputs.at(-1)).slice(0, 300)}`);
    }
    const text = flood.outputs.filter(({ type }) => type === "stream").map((output) => output.text).join("");
    // The first cell waits for the library: only then is the kernel of use.
    return { ready: ready + first.seconds, answers: ready, "CPU time of the start": Number(first.outputs.at(-1).data["text/plain"]), "first chart": chart.seconds, "next chart": next.seconds, "100,000 lines": flood.seconds, lost: LINES - text.split("\n").filter((line, i) => line === `line ${i}`).length };
  };
  drive(); // to warm up the file cache
  const all = Array.from({ length: rounds }, drive);
  return Object.fromEntries(Object.keys(all[0]).map((key) => [key, median(all.map((one) => one[key]))]));
}

/** Executes copies of the notebooks 00 to 08 one after the other. Seconds elapsed, each one's share, and what failed. */
export async function measureNotebooks(folder) {
  const lab = await import(new URL("../../kernel-lib/dist/kernel/lab.js", import.meta.url).href);
  if (!lab.labIsReady(ROOT)) return null;
  mkdirSync(join(folder, "notebooks"));
  symlinkSync(join(ROOT, "data"), join(folder, "data"));
  const names = readdirSync(join(ROOT, "notebooks")).filter((name) => /^0[0-8]-.*\.ipynb$/.test(name)).sort();
  for (const name of names) copyFileSync(join(ROOT, "notebooks", name), join(folder, "notebooks", name));
  const begin = performance.now();
  const each = {};
  const failures = await lab.executeNotebooks(lab.setUpLab(ROOT, () => {}), names.map((name) => join(folder, "notebooks", name)), (event) => {
    if (event.event === "done") each[event.path.split("/").at(-1)] = event.seconds;
  });
  return { seconds: (performance.now() - begin) / 1000, each, failed: [...failures.keys()] };
}
