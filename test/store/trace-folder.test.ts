import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { CAPTURE, DATA } from "../peer.js";
import { expectSame, expectSameTrace, traces } from "./tables.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-trace-"));
afterAll(() => rmSync(folder, { recursive: true }));
let number = 0;
const fresh = () => join(folder, `t${number++}`);

async function expectBack(trace: kl.Trace, as: "parquet" | "arrow"): Promise<kl.Trace> {
  const place = fresh();
  await kl.writeTrace(trace, place, { as });
  const back = await kl.readTrace(place);
  expectSameTrace(back, trace);
  rmSync(place, { recursive: true });
  return back;
}

/** Those analyses of a trace that it has the events for. */
function expectSameAnalyses(back: kl.Trace, original: kl.Trace): number {
  let done = 0;
  for (const analyse of [kl.kvmExits, kl.virtioKicks, kl.vcpuStates] as ((trace: kl.Trace) => kl.ColumnTable)[]) {
    let expected: kl.ColumnTable;
    try {
      expected = analyse(original);
    } catch (error) {
      expect(() => analyse(back)).toThrow((error as Error).message);
      continue;
    }
    expectSame(analyse(back), expected);
    done += expected.numRows();
  }
  return done;
}

const own = traces(DATA);

describe("every trace comes back as it went", () => {
  // In turns, for the time that it takes; the excerpt that analyses find most in goes both ways.
  it.each(own.map((path, i) => [i % 2 === 0 ? "parquet" as const : "arrow" as const, relative(DATA, path)] as const))("as %s: data/%s", async (as, path) => {
    const trace = await kl.loadTraceCmd(join(DATA, path), { quiet: true });
    expectSameAnalyses(await expectBack(trace, as), trace);
  });

  it.each(["parquet", "arrow"] as const)("as %s, and analyses find in it what they found", async (as) => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-vhost/trace-cmd.nsec.txt.gz"), { quiet: true });
    expect(expectSameAnalyses(await expectBack(trace, as), trace)).toBeGreaterThan(1000);
  });

  it.skipIf(!CAPTURE).each((CAPTURE ? traces(CAPTURE) : []).map((path) => relative(CAPTURE!, path)))("capture/%s", async (path) => {
    const trace = await kl.loadTraceCmd(join(CAPTURE!, path), { quiet: true });
    expectSameAnalyses(await expectBack(trace, "parquet"), trace);
  });

  it("events of one time, which only their place keeps in order; layouts with flags, tgid and several files", async () => {
    const text = ["a.dat: cpus=2", "b.dat: cpus=2",
      "     a.dat:  x-1     (    7) [000] d..2.     5.000001: sched_wakeup: q:2 [120] CPU:001",
      "     b.dat:  y-9     (-----) [001] .....     5.000001: my_event: position=3 trace_flags=4 flags=up ret=0x10",
      "     a.dat:  x-1     (    7) [000] d..2.     5.000001: sched_wakeup: r:3 [120] CPU:000",
      "     b.dat:  y-9     (    9) [001] .....     5.000001: my_event: position=4 other=é"].join("\n");
    const trace = kl.fromTraceCmd(text);
    expect(trace.events.columnNames()).toEqual(["ts", "cpu", "pid", "comm", "event", "side", "flags", "tgid", "info"]);
    expect([...trace.of("my_event").array("position")]).toEqual([3, 4]);
    for (const as of ["parquet", "arrow"] as const) expect((await expectBack(trace, as)).events.array("event")).toEqual(["sched_wakeup", "my_event", "sched_wakeup", "my_event"]);
  });

  it("lost events, and texts that no layout fits", async () => {
    const trace = kl.fromTraceCmd("cpus=1\n a-1 [000] 1.000001: sched_wakeup: what is this\nCPU:0 [12 EVENTS DROPPED]\n a-1 [000] 2.000001: sched_wakeup: b:2 [120] CPU:000\n");
    expect([trace.undecoded, trace.lost.numRows()]).toEqual([1, 1]);
    await expectBack(trace, "parquet");
  });
});

const line = (event: string, i: number) => ` a-1 [000] ${i}.000000: ${event}: n=${i}\n`;

describe("names of events come from the traced machine", () => {
  const hostile = ["../../etc/passwd", "..", ".hidden", "/root", "a\\b", "con", "KVM_EXIT", "kvm_exit", "x'\"`$(id)", "%2E", "é", "l".repeat(400), "l".repeat(400) + "2", "__proto__", "constructor", "nul\0l"];

  it("and never leave the folder", async () => {
    const trace = kl.fromTraceCmd(`cpus=1\n${hostile.map(line).join("")}`);
    expect(trace.eventNames).toEqual(hostile);
    const inner = join(fresh(), "a", "b");
    mkdirSync(inner, { recursive: true });
    await kl.writeTrace(trace, inner);
    expectSameTrace(await kl.readTrace(inner), trace);
    const files = readdirSync(join(inner, "events"));
    expect(files.length).toBe(hostile.length);
    expect(new Set(files.map((file) => file.toLowerCase())).size).toBe(hostile.length);
    for (const file of files) expect(file).toMatch(/^[A-Za-z0-9_%-][A-Za-z0-9_.%~-]{0,110}\.parquet$/);
    const around = (readdirSync(join(inner, "..", ".."), { recursive: true }) as string[]).filter((path) => !path.startsWith("a/b/"));
    expect(around.sort()).toEqual(["a", "a/b"]);
  });

  it("whatever they are", () => fc.assert(fc.asyncProperty(fc.uniqueArray(fc.string({ minLength: 1, maxLength: 12 }).filter((name) => /^[^\s:]+$/.test(name)), { minLength: 1, maxLength: 6 }), async (names) => {
    const trace = kl.fromTraceCmd(`cpus=1\n${names.map(line).join("")}`);
    await expectBack(trace, "arrow");
  }), { numRuns: 40 }));

  it("nor do names in a folder that somebody else made", async () => {
    const place = fresh();
    await kl.writeTrace(kl.fromTraceCmd(`cpus=1\n${line("e", 1)}`), place);
    const manifest = readFileSync(join(place, "trace.json"), "utf8");
    for (const file of ["../../x.parquet", "/x.parquet", ".x.parquet", "x", "a/b.parquet"]) {
      writeFileSync(join(place, "trace.json"), manifest.replace(`"e.parquet"`, JSON.stringify(file)));
      await expect(kl.readTrace(place)).rejects.toThrow(/trace\.json: not written by writeTrace/);
      await expect(kl.writeTrace(kl.fromTraceCmd(`cpus=1\n${line("e", 1)}`), place)).rejects.toThrow(/holds other files/);
    }
  });
});

describe("the folder", () => {
  const trace = kl.fromTraceCmd(`cpus=1\n${line("one", 1)}${line("two", 2)}${line("one", 3)}`);

  it("is made anew where it holds a trace, and left alone where it holds something else", async () => {
    const place = fresh();
    await kl.writeTrace(trace, place);
    const less = kl.fromTraceCmd(`cpus=1\n${line("three", 1)}`);
    await kl.writeTrace(less, place, { as: "arrow" });
    expectSameTrace(await kl.readTrace(place), less);
    expect(readdirSync(place, { recursive: true }).sort()).toEqual(["events", "events/three.arrow", "lost.arrow", "trace.json"]);
    const other = fresh();
    mkdirSync(other);
    writeFileSync(join(other, "precious.txt"), "x");
    await expect(kl.writeTrace(trace, other)).rejects.toThrow(kl.OptionError);
    expect(readdirSync(other)).toEqual(["precious.txt"]);
    await expect(kl.writeTrace(trace, fresh(), { as: "csv" as "arrow" })).rejects.toThrow(/as: "csv" is none of parquet, arrow/);
  });

  it("that is unfinished or whose files do not belong together is refused", async () => {
    await expect(kl.readTrace(fresh())).rejects.toThrow(kl.MissingFileError);
    const place = fresh();
    await kl.writeTrace(trace, place);
    const at = (name: string) => join(place, name), whole = readFileSync(at("trace.json"), "utf8");
    const two = readFileSync(at("events/two.parquet"));
    writeFileSync(at("events/two.parquet"), readFileSync(at("events/one.parquet")));
    await expect(kl.readTrace(place)).rejects.toThrow(/two\.parquet: holds 2 rows where trace\.json says 1/);
    writeFileSync(at("events/two.parquet"), two);
    writeFileSync(at("trace.json"), whole.replace(`"length": 3`, `"length": 4`));
    await expect(kl.readTrace(place)).rejects.toThrow(/its events are 3, and trace\.json says 4/);
    writeFileSync(at("trace.json"), whole.replace(`"length": 3`, `"length": 2`));
    await expect(kl.readTrace(place)).rejects.toThrow(/row 1 has no place of its own among the 2 events/);
    writeFileSync(at("trace.json"), whole.replace(`"version": 1`, `"version": 9`));
    await expect(kl.readTrace(place)).rejects.toThrow(/of version 9/);
    rmSync(at("trace.json"));
    await expect(kl.readTrace(place)).rejects.toThrow(/holds no trace\.json/);
    expect(existsSync(at("events/one.parquet"))).toBe(true);
  });
});
