// What is read and by whom: one question per kind of text. `run` reads in this process, `program` in Python's, `command` is a whole program.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { requirePeer, speedscopeImporter } from "./peers.js";

const kernelLib = () => import("kernel-lib");
const HEAD = String.raw`^\s*(.+)-(\d+)\s+\[(\d+)\]\s+(\d+)\.(\d+): (\w+):\s*(.*)$`;

export const questions = [
  {
    name: "fold", title: "perf script → folded stacks", input: "perf-script",
    cases: [
      { who: "kernel-lib", async run(path) {
        const kl = await kernelLib();
        return { rows: kl.foldStacks(await kl.loadPerfScript(path, { quiet: true })).numRows() };
      } },
      { who: "kernel-lib, 2 workers", threads: true, async run(path) {
        const kl = await kernelLib();
        return { rows: kl.foldStacks(await kl.loadPerfScript(path, { quiet: true, workers: 2 })).numRows() };
      } },
      { who: "inferno-collapse-perf, 1 thread", peer: "inferno", command: (inferno, path) => [inferno, "-n", "1", path] },
      { who: "inferno-collapse-perf, 2 threads", peer: "inferno", threads: true, command: (inferno, path) => [inferno, "-n", "2", path] },
      { who: "FlameGraph's stackcollapse-perf.pl", peer: "FlameGraph", upTo: 100, command: (perl, path) => ["perl", perl, path] },
      // It makes a profile per thread to be looked at, which is more than a fold; it reads no faster for a smaller question.
      { who: "speedscope's importer", peer: "speedscope", upTo: 100, async run(path, folder) {
        const bytes = readFileSync(path);
        const { profiles } = await speedscopeImporter(folder).importProfilesFromArrayBuffer("all.linux-perf.txt", bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
        return { rows: profiles.length };
      } },
    ],
  },
  {
    name: "trace", title: "trace-cmd report → tables", input: "trace-cmd",
    cases: [
      { who: "kernel-lib, fields of every event decoded", async run(path) {
        const kl = await kernelLib();
        const trace = await kl.loadTraceCmd(path, { quiet: true });
        return { rows: trace.eventNames.reduce((rows, event) => rows + trace.of(event).numRows(), 0), keep: trace };
      } },
      { who: "pandas, regular expression, head of the line alone", peer: "pandas", upTo: 100, program: (path) => `
    import re, pandas
    rows = re.findall(r"""${HEAD}""", open(${path}, encoding="utf-8", errors="replace").read(), re.M)
    table = pandas.DataFrame(rows, columns=["comm", "pid", "cpu", "s", "us", "event", "info"])
    table = table.astype({"comm": "category", "event": "category", "pid": "int64", "cpu": "int64", "s": "int64", "us": "int64"})
    table["ts"] = table.s * 10**9 + table.us * 1000
    return len(table)` },
      { who: "polars, regular expression, head of the line alone", peer: "polars", upTo: 100, program: (path) => `
    import polars
    lines = polars.read_csv(${path}, has_header=False, separator="\\x01", quote_char=None, new_columns=["line"], encoding="utf8-lossy")
    table = lines.select(polars.col("line").str.extract_groups(r"""${HEAD}""")).unnest("line").rename({"1": "comm", "2": "pid", "3": "cpu", "4": "s", "5": "us", "6": "event", "7": "info"})
    table = table.filter(polars.col("pid").is_not_null()).with_columns(polars.col("pid", "cpu", "s", "us").cast(polars.Int64), polars.col("comm", "event").cast(polars.Categorical))
    table = table.with_columns(ts=polars.col("s") * 10**9 + polars.col("us") * 1000)
    return table.height` },
      { who: "DuckDB, regular expression, head of the line alone", peer: "DuckDB", upTo: 100, async run(path, folder) {
        const connection = await duckdb(folder);
        const groups = ["comm", "pid", "cpu", "s", "us", "event", "info"];
        await connection.run(`CREATE OR REPLACE TABLE trace AS SELECT g.comm, g.pid::BIGINT pid, g.cpu::BIGINT cpu, g.s::BIGINT * 1000000000 + g.us::BIGINT * 1000 ts, g.event, g.info
          FROM (SELECT regexp_extract(line, '${HEAD}', [${groups.map((name) => `'${name}'`).join(", ")}]) g FROM read_csv('${path}', columns = {line: 'VARCHAR'}, delim = '\x01', quote = '', escape = '', header = false))
          WHERE g.pid <> ''`);
        return { rows: Number((await (await connection.run("SELECT count(*) FROM trace")).getRows())[0][0]) };
      } },
      // Its parser looks at every line and takes the events asked for. One event alone: kvm's, whose text is not key=value, send its expressions into minutes.
      { who: "LISA's TxtTraceParser, sched_waking alone", peer: "LISA", upTo: 100, program: (path) => `
    import logging, warnings
    warnings.simplefilter("ignore")
    from lisa.trace import TxtTraceParser
    return len(TxtTraceParser.from_txt_file(path=${path}, events={"sched_waking"}).parse_event("sched_waking"))` },
    ],
  },
  {
    name: "flame", title: "folded stacks → flame graph", input: "folded",
    cases: [
      { who: "kernel-lib, the chart's spec (narrow frames left out)", async run(path) {
        const kl = await kernelLib();
        return { rows: kl.flameGraph(await kl.loadFolded(path, { quiet: true })).layer.length };
      } },
      { who: "kernel-lib, drawn: SVG and PNG", async run(path) {
        const kl = await kernelLib();
        const { renderChart } = await import(new URL("../../kernel-lib/dist/chart/render.js", import.meta.url).href);
        return { rows: (renderChart(kl.flameGraph(await kl.loadFolded(path, { quiet: true }))).svg.match(/<path/g) ?? []).length };
      } },
      { who: "inferno-flamegraph: SVG", peer: "inferno", command: (inferno, path) => [inferno.replace(/collapse-perf$/, "flamegraph"), path] },
    ],
  },
];

/** DuckDB on one thread. */
export async function duckdb(folder) {
  const { DuckDBInstance } = requirePeer(folder);
  const connection = await (await DuckDBInstance.create(":memory:", { threads: "1" })).connect();
  return connection;
}

/** The folded text of a perf script text, as the next program down the line reads it. */
export async function makeFolded(perfScript, path) {
  const kl = await kernelLib();
  const stacks = kl.foldStacks(await kl.loadPerfScript(perfScript, { quiet: true }));
  const file = openSync(path, "w");
  let size = 0;
  for (const { stack, value } of stacks.objects({ limit: Infinity })) size += writeSync(file, `${stack} ${value}\n`);
  closeSync(file);
  return size;
}
