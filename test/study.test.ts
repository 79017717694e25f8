import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "./peer.js";

const talk = (mode: string) => join(DATA, "talk", mode);
const capture = (mode: string) => join(DATA, "capture", mode);

describe("loadRun", () => {
  it("finds a run's recordings by their names and says what is missing", async () => {
    const run = await kl.loadRun(talk("vhost"));
    expect(run.name).toBe("vhost");
    expect(run.has("trace")).toBe(true);
    expect(run.trace.of("kvm_exit").numRows()).toBe(2);
    expect(run.perfStat.filter((d: any) => d.event === "kvm:kvm_exit").array("value")).toEqual([7348]);
    expect(run.has("functions")).toBe(false);
    const missing = run.overview.filter((d: any) => d.state === "missing").array("recording");
    expect(missing).toEqual(["kvmexit", "functions", "hostProfile", "guestProfile"]);
    expect(() => run.functions).toThrow(kl.MissingFileError);
    expect(() => run.functions).toThrow(/run vhost has no functions: .*vhost holds no readable perf-kvm-report\.txt; make it with data\/record\.sh --steps perf-kvm-report GUEST DIR/);
  });

  it("loads packed files, repeats, and accounts for each", async () => {
    const run = await kl.loadRun(capture("icount-virtio"));
    expect(run.repeats.iperf3.length).toBe(3);
    expect(run.repeats.perfStat.length).toBe(3);
    expect(run.repeats.kvmStat.length).toBe(3);
    expect(run.repeats.trace.length).toBe(3);
    const rows = run.overview.objects() as Record<string, any>[];
    const trace = rows.find((row) => row.file === "trace-cmd.nsec.txt.gz")!;
    expect(trace).toMatchObject({ run: "icount-virtio", recording: "trace", state: "loaded", rows: run.trace.raw.length, lost: 0, lines: run.trace.raw.length + 1, not_understood: 0 });
    expect(trace.time_span).toBe(run.trace.raw.ts.at(-1)! - run.trace.raw.ts[0]);
    expect(rows.filter((row) => row.state === "loaded").every((row) => row.not_understood === 0)).toBe(true);
    expect(rows.find((row) => row.file === "ping-run1.txt")!.state).toBe("another file");
    expect(run.commands.filter((d: any) => d.output === "trace-cmd.nsec.txt").numRows()).toBe(1);
  });

  it("finds the two sides of one moment", async () => {
    const run = await kl.loadRun(capture("icount-agent-virtio"));
    expect([run.hostTrace.raw.length, run.guestTrace.raw.length]).toEqual([160_946, 7280]);
    expect(run.has("trace")).toBe(false);
    expect((await kl.loadRun(talk("vhost"), { only: ["hostTrace"] })).has("hostTrace")).toBe(false);
  });

  it("leaves out what it is told to, and says so when asked for it", async () => {
    const run = await kl.loadRun(capture("icount-vhost"), { only: ["perfStat"], repeats: false });
    expect(run.has("trace")).toBe(false);
    expect(run.repeats.perfStat).toEqual([]);
    expect(() => run.trace).toThrow(/trace of run icount-vhost was left out; add it to only: \["perfStat", "trace"\]/);
    await expect(kl.loadRun(capture("icount-vhost"), { only: ["traces" as any] })).rejects.toThrow(/only: "traces" is no recording; one of iperf3, /);
  });

  it("says in the overview that a file cannot be read, and loads the others", async () => {
    const dir = mkdtempSync(join(tmpdir(), "kernel-lib-run-"));
    try {
      cpSync(talk("virtio"), dir, { recursive: true });
      writeFileSync(join(dir, "perf-stat.txt"), "Killed\n");
      writeFileSync(join(dir, "virtiostat.txt"), "");
      const run = await kl.loadRun(dir, { name: "damaged" });
      const states = Object.fromEntries((run.overview.objects() as any[]).map((row) => [row.file, row]));
      expect(states["perf-stat.txt"]).toMatchObject({ state: "unreadable", rows: null });
      expect(states["perf-stat.txt"].note).toMatch(/not perf-stat output/);
      expect(states["virtiostat.txt"]).toMatchObject({ state: "empty", rows: 0, lines: 0 });
      expect(run.iperf3.numRows()).toBeGreaterThan(10);
      expect(() => run.perfStat).toThrow(kl.MissingFileError);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });

  it("says what a path that is no folder is not", async () => {
    await expect(kl.loadRun("no/such/folder")).rejects.toThrow(/no\/such\/folder is not a folder that can be read \(ENOENT\)/);
  });
});

describe("loadStudy", () => {
  it("stacks the tables of its runs", async () => {
    const study = await kl.loadStudy({ virtio: talk("virtio"), vhost: talk("vhost") });
    const exits = study.perfStat.filter((d: any) => d.event === "kvm:kvm_exit").select("run", "value").objects();
    expect(exits).toEqual([{ run: "virtio", value: 5453 }, { run: "vhost", value: 7348 }]);
    expect(study.kvmStat.numRows()).toBe(8);
    expect(kl.describe(study.kvmStat).objects().filter((row: any) => row.unit === null && row.meaning === "made in this notebook")).toEqual([]);
    expect(new Set(study.functions.array("run"))).toEqual(new Set(["virtio"])); // the slides have none for vhost
    expect(new Set(study.overview.array("run"))).toEqual(new Set(["virtio", "vhost"]));
    expect(() => study.kvmexit).toThrow(/run virtio has no kvmexit/);
    expect(() => study.run("vhots")).toThrow(/no run "vhots"; it has virtio, vhost/);
    expect(() => (study as any).trace).toThrow(/take study\.run\("virtio"\)\.trace/);
  });
});

describe("stackRuns", () => {
  it("keeps types and nulls, and fills columns that one table lacks", () => {
    const a = kl.fromFolded("a;b 3\n"), b = kl.fromFolded("c 4\n").derive({ extra: () => "x" });
    expect(kl.stackRuns({ one: a, two: b }).objects()).toEqual([{ run: "one", stack: "a;b", value: 3, extra: null }, { run: "two", stack: "c", value: 4, extra: "x" }]);
    expect(kl.stackRuns({ one: a.filter(() => false), two: a }).objects()).toEqual([{ run: "two", stack: "a;b", value: 3 }]);
  });
});
