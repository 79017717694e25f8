// npm run bench: how fast this machine reads these texts, beside other programs that read the same ones. See HELP.
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { measureInstall } from "./install.js";
import { makeInput, VARIED } from "./inputs.js";
import { joinCases, pythonJoins } from "./joins.js";
import { measureKernel, measureNotebooks } from "./kernel.js";
import { heldMemory, measure, median, rounds } from "./measure.js";
import { comparedParts } from "./parts.js";
import { findPeers } from "./peers.js";
import { writeReadme } from "./readme.js";
import { printedItself } from "./recorders.js";
import { makeFolded, questions } from "./texts.js";

const HELP = `npm run bench -- [OPTIONS]

  --sizes LIST      sizes of the inputs in MB; default 10,100,1000
  --large           2000 MB as well, and whether the whole gives what its parts give (needs 2 GB in the temporary folder, 8 GB of memory)
  --only LIST       of fold, trace, flame, recorders, joins, kernel, install; default all
  --who WORD        of the programs, only those whose name holds the word
  --rounds N        rounds of which the median counts, after one to warm up; default 5 (3 from 1000 MB on)
  --out PATH        where the figures go; default bench.json
  --readme          writes the table of README.md too; with --from PATH from figures that were measured before
  --tmp PATH        folder for inputs; default the system's

Programs to compare with, each skipped by name where it is not found:
  --inferno PATH    inferno-collapse-perf, inferno-flamegraph beside it; default: on PATH (cargo install inferno)
  --perl PATH       FlameGraph's stackcollapse-perf.pl; default: on PATH
  --python PATH     a Python that has pandas, polars, lisa-linux; default python3
  --node-modules P  a node_modules that has speedscope, @duckdb/node-api, nodejs-polars; default: this project's
  --trace-dat PATH  a recording of trace-cmd, for trace-cmd report itself (apt install trace-cmd)
  --perf-data PATH  a recording of perf, for perf script itself (apt install linux-perf)

${VARIED}

Rates are of processor time, all threads of a program added up, so that other work on the machine does not count (bench.json has the
time elapsed too). "cold" is the first reading in a process, start not included; "warm" is the median of rounds in one process after one to
warm up. "process" is the median of whole processes, start included; other programs are compared with ours in the same way of counting.
Memory is the peak of a process that reads the text once. This needs Linux and bash. One thread each: inferno with -n 1, polars with
POLARS_MAX_THREADS=1, DuckDB with threads 1. Programs that are slow or hold the whole text many times over are run up to 100 MB only.
The kernel's figures are time elapsed, which other work on the machine does change.
`;

const { values: option } = parseArgs({ options: {
  help: { type: "boolean" }, large: { type: "boolean" }, sizes: { type: "string", default: "10,100,1000" }, only: { type: "string", default: "fold,trace,flame,recorders,joins,kernel,install" },
  who: { type: "string", default: "" }, rounds: { type: "string" }, out: { type: "string", default: "bench.json" }, readme: { type: "boolean" }, from: { type: "string" }, tmp: { type: "string", default: tmpdir() },
  inferno: { type: "string" }, perl: { type: "string" }, python: { type: "string", default: "python3" }, "node-modules": { type: "string" }, "trace-dat": { type: "string" }, "perf-data": { type: "string" },
  // A case in a process of its own, started by this program.
  case: { type: "string" }, path: { type: "string" }, peer: { type: "string" }, inner: { type: "string" },
} });

const MIB = 2 ** 20;
const ONE_THREAD = { POLARS_MAX_THREADS: "1", OMP_NUM_THREADS: "1" };
const rate = (bytes, seconds) => (seconds ? `${(bytes / MIB / seconds).toFixed(0)} MiB/s` : "");
const mib = (bytes) => (bytes ? `${(bytes / MIB).toFixed(0)} MiB` : "?");

/** In the process of one case: prints what the rounds took, as JSON. */
async function runCase(name, path, peer, inner) {
  if (name === "parts") return console.log(JSON.stringify(await comparedParts(path, peer)));
  const [question, index] = name.split(":");
  if (question === "joins") return console.log(JSON.stringify(await (peer ? joinCases[index].run(peer, path, inner) : joinCases[index].run(path, join(path, ".."), inner))));
  const { run } = questions.find((one) => one.name === question).cases[index];
  await import("kernel-lib");
  const before = heldMemory();
  const { keep, ...result } = await rounds(() => run(path, peer), inner);
  const kept = keep ? heldMemory() - before : null;
  console.log(JSON.stringify({ ...result, kept, events: keep?.raw?.length ?? null }));
}

/** What starts a case that reads n times. */
function commandOf(name, one, path, peer, n, python) {
  if (one.command) return [...one.command(peer, path)];
  if (one.program) {
    return [python, "-c", `import json, time\ndef run():${one.program(JSON.stringify(path))}\nseconds, elapsed = [], []\nfor i in range(${n}):\n    begin, start = time.process_time(), time.perf_counter()\n    rows = run()\n`
      + `    seconds.append(time.process_time() - begin)\n    elapsed.append(time.perf_counter() - start)\nprint(json.dumps({"seconds": seconds, "elapsed": elapsed, "rows": rows}))\n`];
  }
  return [process.execPath, fileURLToPath(import.meta.url), "--case", name, "--path", path, "--inner", String(n), ...(peer ? ["--peer", peer] : [])];
}
/** The line of an error's text that says what went wrong. */
const firstWords = (error) => (error.message.split("\n").find((line) => /^\w*(Error|Exception)\b/.test(line)) ?? error.message).slice(0, 200);
const answer = ({ printed }) => JSON.parse(printed.trim().split("\n").at(-1));

async function measureCase(name, one, path, n, peers) {
  const command = (times) => commandOf(name, one, path, peers.paths[one.peer], times, peers.paths.Python);
  const env = one.threads ? {} : ONE_THREAD;
  const processes = [];
  for (let round = 0; round <= n; round++) processes.push(await measure(command(1), { env }));
  const whole = processes.slice(1), inside = one.command ? null : answer(await measure(command(n + 1), { env }));
  const first = one.command ? { rows: whole[0].lines } : answer(whole[0]);
  return {
    process: median(whole.map(({ seconds }) => seconds)), processElapsed: median(whole.map(({ elapsed }) => elapsed)),
    cold: inside && median([inside.seconds[0], ...processes.map((p) => answer(p).seconds[0])]), warm: inside && median(inside.seconds.slice(1)), warmElapsed: inside && median(inside.elapsed.slice(1)),
    peak: median(whole.map(({ peak }) => peak)), rows: first.rows, kept: first.kept ?? null, events: first.events ?? null,
    rounds: { process: whole.map(({ seconds }) => seconds), elapsed: whole.map(({ elapsed }) => elapsed), warm: inside?.seconds.slice(1) ?? null },
  };
}

async function askQuestion(question, size, folder, peers, results) {
  const path = join(folder, `${question.name}.txt`);
  let bytes;
  if (question.input === "folded") {
    const text = join(folder, "stacks.txt");
    makeInput("perf-script", size, text);
    bytes = await makeFolded(text, path);
    rmSync(text);
  } else bytes = makeInput(question.input, size, path);
  console.log(`\n${question.title}, ${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB${question.input === "folded" ? ` (folded from ${size} MB)` : ""}`);
  console.log(`  ${"".padEnd(52)} ${["cold", "warm", "process", "peak"].map((word) => word.padStart(11)).join(" ")} ${"rows".padStart(9)}  CPU time ÷ ours`);
  let ours = null;
  for (const [index, one] of question.cases.entries()) {
    if (one.peer && (!peers.paths[one.peer] || size > (one.upTo ?? Infinity))) continue;
    if (!one.who.includes(option.who)) continue;
    let result;
    try {
      result = await measureCase(`${question.name}:${index}`, one, path, Number(option.rounds ?? (size >= 1000 ? 3 : 5)), peers);
    } catch (error) {
      console.log(`  ${one.who.padEnd(52)} failed: ${firstWords(error)}`);
      results.push({ question: question.name, who: one.who, size, bytes, failed: error.message });
      continue;
    }
    if (!one.peer) ours ??= result;
    // In the same way of counting: libraries warm against warm, programs process against process.
    const ratio = !one.peer || !ours ? null : result.warm ? result.warm / ours.warm : result.process / ours.process;
    console.log(`  ${one.who.padEnd(52)} ${[rate(bytes, result.cold), rate(bytes, result.warm), rate(bytes, result.process), mib(result.peak)].map((text) => text.padStart(11)).join(" ")} ${String(result.rows).padStart(9)}  ${ratio ? `× ${ratio.toFixed(ratio < 1 ? 2 : 1)} (${result.warm ? "warm" : "process"})` : ""}`);
    // Threads save time elapsed, not time of processors.
    const faster = one.threads && !one.peer && ours ? ours.warmElapsed / result.warmElapsed : null;
    if (faster) console.log(`  ${"".padEnd(52)} ${faster.toFixed(2)} times as fast as one thread, in time elapsed`);
    results.push({ question: question.name, who: one.who, peer: one.peer ?? null, size, bytes, ...result, ratio, faster });
  }
  rmSync(path);
}

async function askJoins(size, folder, peers) {
  const path = join(folder, "joins.txt"), n = 4, found = [];
  makeInput("trace-cmd", size, path);
  console.log(`\nJoins of one trace, made from ${size} MB; million rows of the trace per second (warm, loading not included)`);
  let events = 0;
  for (const [index, one] of joinCases.entries()) {
    const peer = peers.paths[one.peer];
    if (one.peer && !peer) continue;
    const command = one.python ? [peers.paths.Python, "-c", pythonJoins(folder, n)] : commandOf(`joins:${index}`, {}, one.peer ? folder : path, peer, n);
    let joined;
    try {
      joined = answer(await measure(command, { env: ONE_THREAD }));
    } catch (error) {
      console.log(`  ${one.who.padEnd(52)} failed: ${firstWords(error)}`);
      found.push({ who: one.who, failed: error.message });
      continue;
    }
    const { exits, kicks, events: read } = joined;
    events = read ?? events;
    const warm = (part) => median(part.seconds.slice(1));
    found.push({ who: one.who, events, exits: { seconds: warm(exits), rows: exits.rows, sum: exits.sum ?? null }, kicks: { seconds: warm(kicks), rows: kicks.rows } });
    console.log(`  ${one.who.padEnd(52)} exits ${(events / warm(exits) / 1e6).toFixed(1).padStart(6)} (${exits.rows} rows)   kicks ${(events / warm(kicks) / 1e6).toFixed(1).padStart(6)} (${kicks.rows} rows)   of ${events} events`);
  }
  rmSync(path);
  return found;
}

/** Ours by size: time and memory per byte of the text. */
function showGrowth(results) {
  const growth = [];
  for (const { name, title, cases } of questions.filter(({ input }) => input !== "folded")) {
    const mine = results.filter((one) => one.question === name && one.who === cases[0].who && !one.failed).sort((a, b) => a.bytes - b.bytes);
    if (mine.length < 2) continue;
    console.log(`\nGrowth, ${title}: ${mine.map((one) => `${one.size} MB: ${(one.warm / one.bytes * 1e9).toFixed(2)} ms per MB warm, peak ${(one.peak / one.bytes).toFixed(2)} of the text${one.kept ? `, ${(one.kept / one.events).toFixed(0)} bytes held per event` : ""}`).join("; ")}`);
    growth.push({ question: name, sizes: mine.map(({ size, bytes, warm, peak, kept, events }) => ({ size, msPerMB: warm / bytes * 1e9, peakOfText: peak / bytes, bytesPerEvent: kept ? kept / events : null })) });
  }
  return growth;
}

async function main() {
  const only = option.only.split(",");
  const known = [...questions.map(({ name }) => name), "recorders", "joins", "kernel", "install"];
  const wrong = only.find((name) => !known.includes(name));
  if (wrong !== undefined) throw new Error(`--only takes some of ${known.join(", ")}; this is ${JSON.stringify(wrong)}`);
  const sizes = [...option.sizes.split(",").map(Number), ...(option.large ? [2000] : [])];
  if (sizes.some((size) => !(size > 0))) throw new Error(`--sizes takes numbers of megabytes with commas between, not ${JSON.stringify(option.sizes)}`);

  const peers = findPeers(option);
  const versions = { "kernel-lib": JSON.parse(readFileSync(new URL("../../kernel-lib/package.json", import.meta.url), "utf8")).version, node: process.versions.node, ...peers.versions };
  for (const name of Object.keys(versions)) if (!versions[name]) delete versions[name];
  const machine = { cores: cpus().length, cpu: cpus()[0]?.model.trim() ?? "unknown", memory: totalmem(), load: loadavg()[0] };
  const out = { date: new Date().toISOString().slice(0, 10), machine, versions, missing: peers.missing, results: [] };
  console.log(`${out.date}, ${machine.cores} cores (${machine.cpu}), ${(machine.memory / 2 ** 30).toFixed(0)} GiB, load ${machine.load.toFixed(1)}; ${Object.entries(versions).map(([name, version]) => `${name} ${version}`).join(", ")}`);

  const folder = mkdtempSync(join(option.tmp, "kernel-lib-bench-"));
  process.once("SIGINT", () => { rmSync(folder, { recursive: true, force: true }); process.exit(130); });
  try {
    for (const size of sizes) {
      for (const question of questions) {
        // A flame graph of more stacks than a person looks at says nothing; what makes it large is folded away before.
        if (only.includes(question.name) && (question.input !== "folded" || size === Math.min(100, Math.max(...sizes)))) await askQuestion(question, size, folder, peers, out.results);
      }
    }
    out.growth = showGrowth(out.results);
    if (option.large) {
      out.parts = {};
      for (const kind of ["perf-script", "trace-cmd"]) {
        const path = join(folder, "parts.txt");
        const bytes = makeInput(kind, 2000, path);
        out.parts[kind] = { bytes, ...answer(await measure(commandOf("parts", {}, path, kind, 1))) };
        console.log(`\n${kind}, ${(bytes / 1e6).toFixed(0)} MB: the whole gives ${out.parts[kind].same ? "" : "NOT "}what its two halves give (${out.parts[kind].rows} rows)`);
        rmSync(path);
      }
    }
    if (only.includes("recorders")) out.recorders = await printedItself(option, peers, folder, Number(option.rounds ?? 5), (name, index, path, n) => measure(commandOf(`${name}:${index}`, {}, path, null, n)).then((p) => ({ ...p, ...answer(p), seconds: p.seconds, warm: answer(p).seconds })));
    if (only.includes("joins")) out.joins = await askJoins(sizes.includes(1000) ? 1150 : Math.max(...sizes.filter((size) => size < 1000)), folder, peers);
    if (only.includes("kernel")) {
      out.kernel = await measureKernel(3);
      out.notebooks = await measureNotebooks(folder);
      console.log(out.kernel ? `\nKernel, seconds elapsed: ${Object.entries(out.kernel).map(([what, value]) => `${what} ${what === "lost" ? value : value.toFixed(2)}`).join(", ")}; notebooks 00 to 08 ${out.notebooks.seconds.toFixed(0)}` : "\nKernel: not measured, JupyterLab is not set up here (npm start)");
    }
    if (only.includes("install")) {
      out.install = {};
      for (const args of [["--omit=optional"], ["--omit=optional", "--omit=dev"]]) {
        out.install[args.join(" ")] = measureInstall(mkdtempSync(join(folder, "install-")), args);
        console.log(`\nnpm ci ${args.join(" ")}: ${(out.install[args.join(" ")].bytes / 1e6).toFixed(0)} MB on disk; ${Object.entries(out.install[args.join(" ")].largest).map(([name, bytes]) => `${name} ${(bytes / 1e6).toFixed(1)}`).join(", ")}`);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  for (const [name, remedy] of Object.entries(peers.missing)) console.log(`Not compared with ${name}, which was not found: ${remedy}`);
  writeFileSync(option.out, `${JSON.stringify(out, null, 1)}\n`);
  console.log(`Every round is in ${option.out} (${statSync(option.out).size} bytes).`);
  if (option.readme) writeReadme(out);
}

if (option.help) console.log(HELP);
else if (option.case !== undefined) await runCase(option.case, option.path, option.peer, Number(option.inner));
else if (option.from !== undefined) writeReadme(JSON.parse(readFileSync(option.from, "utf8")));
else await main();
