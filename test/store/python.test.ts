import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA, ROOT } from "../peer.js";

// pandas and polars read what kernel-lib writes, and see the same values. KERNEL_LIB_PYTHON names a Python that has them; by default python3 is asked.

const PYTHON = process.env.KERNEL_LIB_PYTHON ?? "python3";
const run = (...args: string[]) => spawnSync(PYTHON, args, { encoding: "utf8", maxBuffer: 1 << 28 });
const has = (module: string): boolean => run("-c", `import ${module}`).status === 0;
const readers = {
  pandas: { installed: has("pandas, pyarrow"), parquet: "pandas.read_parquet(path)", arrow: "pandas.read_feather(path)" },
  polars: { installed: has("polars"), parquet: "polars.read_parquet(path)", arrow: "polars.read_ipc(path)" },
};
type Reader = keyof typeof readers;

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-python-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Seen { columns: Record<string, (string | number | boolean | null)[]>; types: Record<string, string> }

/** Columns and their types as a library of Python reads them. Integers come as text, so that none is rounded on the way here. */
function seenBy(reader: Reader, form: "parquet" | "arrow", path: string): Seen {
  const program = `
import json, math, sys, ${reader}
path = sys.argv[1]
frame = ${readers[reader][form]}
def plain(x):
    if x is None or (isinstance(x, float) and math.isnan(x)) or type(x).__name__ in ("NAType", "NaTType"): return None
    if hasattr(x, "item"): x = x.item()
    return str(x) if isinstance(x, int) and not isinstance(x, bool) else x
json.dump({"columns": {c: [plain(x) for x in (frame[c].to_list() if hasattr(frame[c], "to_list") else frame[c])] for c in frame.columns}, "types": {c: str(frame[c].dtype) for c in frame.columns}}, sys.stdout)`;
  const { status, stdout, stderr } = run("-c", program, path);
  expect(stderr.split("\n").filter((line) => /Error/.test(line)).join("\n")).toBe("");
  expect(status).toBe(0);
  return JSON.parse(stdout) as Seen;
}

function expectSeen(seen: Seen, table: kl.ColumnTable): void {
  expect(Object.keys(seen.columns)).toEqual(table.columnNames());
  for (const name of table.columnNames()) {
    const ours = Array.from(table.array(name) as Iterable<unknown>, (x) => x ?? null);
    // pandas makes doubles of integers where some are missing.
    const theirs = seen.columns[name].map((x, row) => (typeof ours[row] === "number" && x !== null ? Number(x) : x));
    const first = ours.findIndex((x, row) => x !== theirs[row]);
    expect(first < 0 && theirs.length === ours.length ? "same" : { name, row: first, ours: ours[first], theirs: theirs[first] }).toBe("same");
  }
}

const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-vhost/trace-cmd.nsec.txt.gz"), { quiet: true });

describe.each(Object.keys(readers) as Reader[])("%s", (reader) => {
  describe.skipIf(!readers[reader].installed)(`(needs Python with ${reader === "pandas" ? "pandas and pyarrow" : reader}; KERNEL_LIB_PYTHON names one)`, () => {
    it.each(["parquet", "arrow"] as const)("reads events, exits with nulls and counters from %s", async (form) => {
      const write = form === "arrow" ? kl.writeArrow : kl.writeParquet;
      const counters = await kl.loadPerfStat(join(DATA, "talk/vhost/perf-stat.txt"), { quiet: true });
      for (const [name, table] of Object.entries({ mmio: trace.of("kvm_mmio"), exits: kl.kvmExits(trace), kicks: kl.virtioKicks(trace), counters })) {
        const path = join(folder, `${reader}-${name}.${form}`);
        await write(table, path);
        expectSeen(seenBy(reader, form, path), table);
      }
    });

    it.each(["parquet", "arrow"] as const)("sees ns as 64-bit integers and repeated strings as categories in %s", async (form) => {
      const path = join(folder, `${reader}-types.${form}`), table = trace.of("sched_switch");
      await (form === "arrow" ? kl.writeArrow : kl.writeParquet)(table, path);
      const { types, columns } = seenBy(reader, form, path);
      expect([types.ts, types.cpu, types.comm].map((type) => type.toLowerCase().replace(/\(.*$/s, ""))).toEqual(["int64", "int16", reader === "pandas" ? "category" : "categorical"]);
      expect(columns.ts[0]).toBe(String(table.get("ts", 0)));
    });

    it.each(["parquet", "arrow"] as const)("reads what kernel-lib table writes as %s while it reads", async (form) => {
      const path = join(folder, `${reader}-streamed.${form}`), bin = join(ROOT, "kernel-lib", "bin", "kernel-lib.js");
      const done = spawnSync("sh", ["-c", `"$0" "$1" table "$2" --as ${form} > "$3"`, process.execPath, bin, join(DATA, "capture/icount-vhost/trace-cmd.nsec.txt.gz"), path], { encoding: "utf8" });
      expect([done.status, done.stderr, existsSync(path)]).toEqual([0, "", true]);
      const seen = seenBy(reader, form, path), whole = form === "arrow" ? await kl.readArrow(path) : await kl.readParquet(path);
      expect(whole.numRows()).toBe(trace.events.numRows());
      expectSeen(seen, whole);
    });

    it("reads one event of a whole trace", async () => {
      const place = join(folder, `${reader}-trace`);
      await kl.writeTrace(trace, place);
      expectSeen(seenBy(reader, "parquet", join(place, "events", "kvm_exit.parquet")), await kl.readParquet(join(place, "events", "kvm_exit.parquet")));
    });
  });
});
