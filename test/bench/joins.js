// Joins in a large trace: our analyses, and the plain part of the same question elsewhere: of all events those of two kinds, the one asof
// joined to the other. All have the events in memory before; reading them is not in the times.
import { join } from "node:path";
import { rounds } from "./measure.js";
import { requirePeer } from "./peers.js";
import { duckdb } from "./texts.js";

/** Loads the text, leaves all events as Parquet for the others, and times our analyses. */
async function ours(path, folder, n) {
  const kl = await import("kernel-lib");
  const { table } = await import("arquero");
  const trace = await kl.loadTraceCmd(path, { quiet: true });
  const { length, ts, pid, event } = trace.raw;
  const kicked = new Set(kl.virtioKicks(trace).array("ts"));
  const kinds = Array.from({ length }, (_, i) => {
    const name = event.at(i);
    return name === "kvm_mmio" && kicked.has(ts[i]) ? "kick" : name.endsWith("tun_get_user") ? "tun_get_user" : name;
  });
  await kl.writeParquet(table({ ts: ts.subarray(0, length), pid: pid.subarray(0, length), event: kinds }), join(folder, "events.parquet"));
  const exits = await rounds(() => ({ rows: kl.kvmExits(trace).numRows() }), n);
  const kicks = await rounds(() => ({ rows: kl.virtioKicks(trace).numRows() }), n);
  return { events: length, exits, kicks };
}

const questions = { exits: ["kvm_exit", "kvm_entry", "pid"], kicks: ["kick", "tun_get_user", null] };

async function inDuckdb(module, folder, n) {
  const connection = await duckdb(module);
  const file = `'${join(folder, "events.parquet")}'`;
  await connection.run(`CREATE TYPE kind AS ENUM (SELECT DISTINCT event FROM ${file})`);
  await connection.run(`CREATE TABLE events AS SELECT ts, pid, CAST(event AS kind) AS event FROM ${file}`);
  const time = ([left, right, by]) => rounds(async () => {
    const result = await connection.run(`SELECT count(*), sum(r.ts - l.ts) FROM (SELECT * FROM events WHERE event = '${left}') l
      ASOF LEFT JOIN (SELECT * FROM events WHERE event = '${right}') r ON ${by ? `l.${by} = r.${by} AND ` : ""}r.ts >= l.ts`);
    return { rows: Number((await result.getRows())[0][0]) };
  }, n);
  return { exits: await time(questions.exits), kicks: await time(questions.kicks) };
}

async function inNodePolars(module, folder, n) {
  const pl = requirePeer(module);
  const events = pl.readParquet(join(folder, "events.parquet")).withColumn(pl.col("event").cast(pl.Categorical)).sort("ts");
  const of = (name) => events.filter(pl.col("event").eq(pl.lit(name)));
  const time = ([left, right, by]) => rounds(() => {
    const joined = of(left).joinAsof(of(right).withColumn(pl.col("ts").alias("then")), { on: "ts", strategy: "forward", ...(by ? { by } : {}) });
    return { rows: joined.height, sum: joined.select(pl.col("then").minus(pl.col("ts")).sum()).row(0)[0] };
  }, n);
  return { exits: await time(questions.exits), kicks: await time(questions.kicks) };
}

export const pythonJoins = (folder, n) => `
import json, time, polars
events = polars.read_parquet(${JSON.stringify(`${folder}/events.parquet`)}).with_columns(polars.col("event").cast(polars.Categorical)).sort("ts")
def timed(left, right, by):
    seconds, elapsed = [], []
    for i in range(${n}):
        begin, start = time.process_time(), time.perf_counter()
        later = events.filter(polars.col("event") == right).with_columns(then=polars.col("ts"))
        table = events.filter(polars.col("event") == left).join_asof(later, on="ts", by=by, strategy="forward")
        rows, total = table.height, (table["then"] - table["ts"]).sum()
        seconds.append(time.process_time() - begin)
        elapsed.append(time.perf_counter() - start)
    return {"seconds": seconds, "elapsed": elapsed, "rows": rows, "sum": total}
print(json.dumps({"exits": timed("kvm_exit", "kvm_entry", "pid"), "kicks": timed("kick", "tun_get_user", None)}))
`;

export const joinCases = [
  { who: "kernel-lib", run: ours },
  { who: "DuckDB", peer: "DuckDB", run: inDuckdb },
  { who: "nodejs-polars", peer: "nodejs-polars", run: inNodePolars },
  { who: "polars", peer: "polars", python: true },
];
