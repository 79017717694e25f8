// npm run bench: how fast this machine reads these texts, beside other programs that read the same ones. See HELP.
import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { cpus, tmpdir, totalmem } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";

const HELP = `npm run bench -- [OPTIONS]

  --sizes LIST    sizes of the inputs in MB; default 10,100
  --large         1000 MB as well (needs 1 GB in the temporary folder and some GB of memory)
  --only WORD     only those rows whose name holds the word
  --rounds N      rounds of which the median counts, after one to warm up; default 5 (3 from 1000 MB on)
  --inferno PATH  inferno-collapse-perf; default: that on PATH (cargo install inferno)
  --perl PATH     FlameGraph's stackcollapse-perf.pl; default $STACKCOLLAPSE_PERF, else that on PATH
  --python PATH   a Python that has pandas or polars; default python3
  --out PATH      where the figures go; default bench.json

Inputs are the recordings of data/capture, as often as the size asks for. In each copy the clock goes on, thread ids move by 1000
(97 different moves), names of threads get one of 13 endings, and user-space symbols one of 64, so that a table of strings seen before
does not hold the whole text soon. Kernel symbols stay, as there is one kernel.

Rates are of processor time, all threads of a program added up, so that other work on the machine does not count (bench.json has the
time elapsed too). "warm" is the median of rounds in one process after one to warm up. "process" is the median of whole processes, start
included; other programs are compared with ours in the same way of counting. Processor time of whole processes and peak memory of one
that reads the text once are looked up in /proc every 5 ms, so the last ms are not in them; this needs Linux. One thread each: inferno with -n 1, polars with POLARS_MAX_THREADS=1. Programs that are not installed are named.
`;

const DATA = fileURLToPath(new URL("../data/capture/", import.meta.url));
/** Of /proc/PID/stat, on every Linux that Node runs on. */
const TICKS = 100;
const LINES_PATTERN = String.raw`^\s*(.+)-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d+): (\w+):\s*(.*)$`;

// What each row reads and how. `run` is ours; `python` and `command` are others'.
const folding = "perf script → folded", tracing = "trace-cmd report → table";
const cases = [
  { task: folding, who: "kernel-lib", run: async (kl, path) => kl.foldStacks(await kl.loadPerfScript(path, { quiet: true })).numRows() },
  { task: folding, who: "inferno-collapse-perf", command: ({ inferno }, path) => inferno && [inferno, "-n", "1", path] },
  { task: folding, who: "stackcollapse-perf.pl", command: ({ perl }, path) => perl && ["perl", perl, path] },
  { task: tracing, who: "kernel-lib (fields of every event decoded)", run: async (kl, path) => {
    const trace = await kl.loadTraceCmd(path, { quiet: true });
    return trace.eventNames.reduce((rows, event) => rows + trace.of(event).numRows(), 0);
  } },
  { task: tracing, who: "pandas, regular expression (head of the line alone)", python: "pandas", program: `
    import re
    rows = re.findall(PATTERN, open(PATH, encoding="utf-8", errors="replace").read(), re.M)
    table = pandas.DataFrame(rows, columns=["comm", "pid", "cpu", "s", "us", "event", "info"])
    table = table.astype({"comm": "category", "event": "category", "pid": "int64", "cpu": "int64", "s": "int64", "us": "int64"})
    table["ts"] = table.s * 10**9 + table.us * 1000
    return len(table)` },
  { task: tracing, who: "polars, regular expression (head of the line alone)", python: "polars", program: `
    lines = polars.read_csv(PATH, has_header=False, separator="\\x01", quote_char=None, new_columns=["line"], encoding="utf8-lossy")
    table = lines.select(polars.col("line").str.extract_groups(PATTERN)).unnest("line").rename({"1": "comm", "2": "pid", "3": "cpu", "4": "s", "5": "us", "6": "event", "7": "info"})
    table = table.filter(polars.col("pid").is_not_null()).with_columns(polars.col("pid", "cpu", "s", "us").cast(polars.Int64), polars.col("comm", "event").cast(polars.Categorical))
    table = table.with_columns(ts=polars.col("s") * 10**9 + polars.col("us") * 1000)
    return table.height` },
];
const notHere = ["trace-cmd report and perf script themselves", "LISA", "speedscope", "DuckDB", "nodejs-polars", "inferno-flamegraph"];

const { values: option } = parseArgs({ options: {
  help: { type: "boolean" }, large: { type: "boolean" }, sizes: { type: "string", default: "10,100" }, only: { type: "string", default: "" }, rounds: { type: "string" },
  inferno: { type: "string" }, perl: { type: "string" }, python: { type: "string", default: "python3" }, out: { type: "string", default: "bench.json" },
  // A case in a process of its own, started by this program.
  case: { type: "string" }, path: { type: "string" }, inner: { type: "string" },
} });

/** In the process of one case: reads the text n times and prints how long each took and how many rows there were. */
async function runCase({ run }, path, times) {
  const kl = await import("kernel-lib");
  const seconds = [];
  let rows = 0;
  for (let i = 0; i < times; i++) {
    const begin = process.cpuUsage();
    rows = await run(kl, path);
    const { user, system } = process.cpuUsage(begin);
    seconds.push((user + system) / 1e6);
  }
  console.log(JSON.stringify({ seconds, rows }));
}

/** The same in Python. */
function pythonProgram({ python, program }, path, times) {
  return `import json, time, ${python}\nPATH, PATTERN = ${JSON.stringify(path)}, r"""${LINES_PATTERN}"""\ndef run():${program}\n`
    + `seconds = []\nfor i in range(${times}):\n    begin = time.process_time()\n    rows = run()\n    seconds.append(time.process_time() - begin)\nprint(json.dumps({"seconds": seconds, "rows": rows}))\n`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
}

/** Runs a program: seconds of processor and elapsed, peak memory, the end of what it printed and how many lines that was. */
function measure([command, ...args]) {
  return new Promise((resolve, reject) => {
    const begin = performance.now();
    let peak = 0, cpu = 0, lines = 0, printed = "", errors = "";
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, POLARS_MAX_THREADS: "1" } });
    const look = setInterval(() => {
      try {
        peak = Math.max(peak, Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "latin1"))?.[1] ?? 0) * 1024);
        const stat = readFileSync(`/proc/${child.pid}/stat`, "latin1").split(") ")[1].split(" "); // behind the name: state is field 3, utime 14, stime 15
        cpu = Math.max(cpu, (Number(stat[11]) + Number(stat[12])) / TICKS);
      } catch { /* it has ended, or this is no Linux */ }
    }, 5);
    child.stdout.on("data", (chunk) => {
      for (let i = chunk.indexOf(10); i >= 0; i = chunk.indexOf(10, i + 1)) lines++;
      printed = (printed + chunk.toString("latin1")).slice(-100_000);
    });
    child.stderr.on("data", (chunk) => { errors = (errors + chunk).slice(-2000); });
    child.on("error", (error) => { clearInterval(look); reject(error); });
    child.on("close", (code) => {
      clearInterval(look);
      if (code === 0) resolve({ elapsed: (performance.now() - begin) / 1000, seconds: cpu || null, peak: peak || null, lines, printed });
      else reject(new Error(`${command} ended with ${code}: ${errors.trim()}`));
    });
  });
}

const found = (name) => (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name)).find((path) => existsSync(path));
const said = (command, args) => {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? stdout.trim().split("\n")[0] : null;
};

/** A text of about the size, from a task's recordings. Returns its true size. */
function makeInput(task, megabytes, path) {
  const texts = (task === folding ? ["virtio/perf-script-host.txt.gz", "vhost/perf-script-host.txt.gz"] : ["virtio/trace-cmd.txt.gz", "vhost/trace-cmd.txt.gz"])
    .map((name) => gunzipSync(readFileSync(DATA + name)).toString("latin1"));
  const file = openSync(path, "w");
  let size = 0;
  for (let copy = 0; size < megabytes * 1e6; copy++) {
    const shift = (copy % 97) * 1000, later = copy * 600, ending = String.fromCharCode(97 + (copy % 13)), build = copy % 64;
    const pid = (text) => (Number(text) > 0 ? String(Number(text) + shift) : text);
    const comm = (text, id) => (Number(id) > 0 ? text.slice(0, 14) + ending : text);
    const varied = task === folding
      ? texts[copy % texts.length]
        .replace(/^(\S.*?)(\s+)(\d+)( \[\d+\]\s+)(\d+)(?=\.)/gm, (_, name, gap, id, cpu, seconds) => `${comm(name, id)}${gap}${pid(id)}${cpu}${Number(seconds) + later}`)
        .replace(/^(\t\s+[0-9a-f]+ )([^[\n]\S*?)(\+0x[0-9a-f]+ \(\/)/gm, `$1$2_${build}$3`)
      : texts[copy % texts.length]
        .replace(/^(\s*)(\S.*)-(\d+)(\s+\[\d+\]\s+)(\d+)(?=\.)/gm, (_, gap, name, id, cpu, seconds) => `${gap}${comm(name, id)}-${pid(id)}${cpu}${Number(seconds) + later}`)
        .replace(/(\S+):(\d+)(?= \[\d+\])/g, (_, name, id) => `${comm(name, id)}:${pid(id)}`)
        .replace(/comm=(\S+) pid=(\d+)/g, (_, name, id) => `comm=${comm(name, id)} pid=${pid(id)}`);
    size += writeSync(file, Buffer.from(varied, "latin1"));
  }
  closeSync(file);
  return size;
}

async function measureCase(index, path, rounds, tools) {
  const one = cases[index];
  const command = (times) => one.run ? [process.execPath, fileURLToPath(import.meta.url), "--case", String(index), "--path", path, "--inner", String(times)]
    : one.python ? tools.libraries.includes(one.python) && [tools.python, "-c", pythonProgram(one, path, times)] : one.command(tools, path);
  if (!command(1)) return null;
  const processes = [];
  for (let round = 0; round <= rounds; round++) processes.push(await measure(command(1)));
  const whole = processes.slice(1), own = !one.command;
  const warm = own ? JSON.parse((await measure(command(rounds + 1))).printed).seconds.slice(1) : null;
  return {
    process: median(whole.map(({ seconds }) => seconds)), warm: warm && median(warm), peak: median(whole.map(({ peak }) => peak)),
    rows: own ? JSON.parse(whole[0].printed).rows : whole[0].lines, rounds: { process: whole.map(({ seconds }) => seconds), elapsed: whole.map(({ elapsed }) => elapsed), warm },
  };
}

async function main() {
  const tools = { inferno: option.inferno ?? found("inferno-collapse-perf"), perl: option.perl ?? process.env.STACKCOLLAPSE_PERF ?? found("stackcollapse-perf.pl"), python: option.python };
  const versions = { node: process.version, "kernel-lib": JSON.parse(readFileSync(new URL("../kernel-lib/package.json", import.meta.url), "utf8")).version };
  if (tools.inferno) { // it does not tell its version; cargo does
    const list = join(tools.inferno, "..", "..", ".crates.toml");
    versions.inferno = (existsSync(list) && /"inferno (\S+)/.exec(readFileSync(list, "utf8"))?.[1]) || "of unknown version";
  }
  versions.Python = said(tools.python, ["-c", "import platform; print(platform.python_version())"]);
  tools.libraries = ["pandas", "polars"].filter((name) => (versions[name] = said(tools.python, ["-c", `import ${name}; print(${name}.__version__)`])));
  const machine = { cores: cpus().length, cpu: cpus()[0]?.model.trim() ?? "unknown", memory: totalmem() };
  const date = new Date().toISOString().slice(0, 10);
  console.log(`${date}, ${machine.cores} cores (${machine.cpu}), ${(machine.memory / 2 ** 30).toFixed(0)} GiB; ${Object.entries(versions).filter(([, version]) => version).map(([name, version]) => `${name} ${version}`).join(", ")}`);

  const sizes = [...option.sizes.split(",").map(Number), ...(option.large ? [1000] : [])];
  if (sizes.some((size) => !(size > 0))) throw new Error(`--sizes takes numbers of megabytes with commas between, not ${JSON.stringify(option.sizes)}`);
  const folder = mkdtempSync(join(tmpdir(), "kernel-lib-bench-"));
  const results = [], missing = new Set();
  const clean = () => rmSync(folder, { recursive: true, force: true });
  process.once("SIGINT", () => { clean(); process.exit(130); });
  try {
    for (const size of sizes) {
      const rounds = Number(option.rounds ?? (size >= 1000 ? 3 : 5));
      for (const task of [folding, tracing]) {
        const taken = cases.map((one, index) => ({ one, index })).filter(({ one }) => one.task === task && `${one.task} ${one.who}`.includes(option.only));
        if (taken.length === 0) continue;
        const path = join(folder, `${task === folding ? "perf-script" : "trace-cmd"}-${size}.txt`);
        const bytes = makeInput(task, size, path);
        console.log(`\n${task}, ${(bytes / 1e6).toFixed(0)} MB`);
        console.log(`  ${"".padEnd(52)} ${"warm".padStart(11)} ${"process".padStart(11)} ${"peak".padStart(9)} ${"rows".padStart(9)}  CPU time ÷ ours`);
        let ours = null;
        for (const { one, index } of taken) {
          const result = await measureCase(index, path, rounds, tools);
          if (!result) { missing.add(one.python ?? one.who); continue; }
          if (one.run) ours = result;
          // In the same way of counting: libraries warm against warm, programs process against process.
          const ratio = one.run || !ours ? null : result.warm ? result.warm / ours.warm : result.process / ours.process;
          const rate = (seconds) => (seconds ? `${(bytes / 2 ** 20 / seconds).toFixed(0)} MiB/s` : "");
          console.log(`  ${one.who.padEnd(52)} ${rate(result.warm).padStart(11)} ${rate(result.process).padStart(11)} ${(result.peak ? `${(result.peak / 2 ** 20).toFixed(0)} MiB` : "?").padStart(9)} ${String(result.rows).padStart(9)}  ${ratio ? `× ${ratio.toFixed(1)} (${result.warm ? "warm" : "process"})` : ""}`);
          results.push({ task, who: one.who, bytes, ...result, ratio });
        }
        rmSync(path);
      }
    }
  } finally {
    clean();
  }
  if (missing.size > 0) console.log(`\nNot installed, so not compared: ${[...missing].join(", ")}.`);
  console.log(`${missing.size > 0 ? "" : "\n"}Not part of this suite yet: ${notHere.join(", ")}.`);
  writeFileSync(option.out, `${JSON.stringify({ date, machine, versions, results, missing: [...missing], notPartYet: notHere }, null, 1)}\n`);
  console.log(`Every round is in ${option.out}.`);
}

if (option.help) console.log(HELP);
else if (option.case !== undefined) await runCase(cases[Number(option.case)], option.path, Number(option.inner));
else await main();
