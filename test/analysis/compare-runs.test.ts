import { join } from "node:path";
import * as kl from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { DATA } from "../peer.js";

type Row = Record<string, any>;
const capture = (path: string, options: kl.LoadRunOptions = {}) => kl.loadRun(join(DATA, "capture", path), options);
const rowsOf = (table: kl.ColumnTable): Map<string, Row> => new Map((table.objects() as Row[]).map((row) => [row.measure, row]));

/** A run that holds some of another's repeats. */
function having(run: kl.Run, name: string, repeats: Partial<Record<keyof kl.Run["repeats"], readonly unknown[]>>): kl.Run {
  return { ...Object.fromEntries(["name", "dir", "overview", "has"].map((key) => [key, run[key as "name"]])), name, get commands() { return run.commands; }, repeats: { iperf3: [], perfStat: [], instructions: [], kvmStat: [], trace: [], ...repeats }, has: (recording: kl.RecordingName) => recording === "commands" } as unknown as kl.Run;
}

describe("compareRuns", () => {
  let virtio: kl.Run, vhost: kl.Run, rows: Map<string, Row>;
  beforeAll(async () => {
    [virtio, vhost] = [await capture("icount-virtio", { name: "virtio" }), await capture("icount-vhost", { name: "vhost" })];
    rows = rowsOf(kl.compareRuns(virtio, vhost));
  });

  it("counts per megabyte that iperf3 -n moved, which stands in commands.txt", () => {
    // perf-stat-run1.txt: 1744 kvm:kvm_exit; -n 200M is 200 · 2^20 bytes
    const exits = virtio.repeats.perfStat.map((table) => table.filter((d: any) => d.event === "kvm:kvm_exit").get("value", 0) as number);
    expect(exits[0]).toBe(1744);
    expect(rows.get("exits")!.virtio).toBeCloseTo(exits.reduce((sum, x) => sum + x, 0) / 3 / 209.7152, 9);
    expect(rows.get("exits")).toMatchObject({ unit: "per MB", better: "less", n_a: 3, n_b: 3, verdict: "worse" });
    const one = kl.compareRuns(having(virtio, "x", { instructions: [virtio.repeats.instructions[0]] }), having(virtio, "y", { instructions: [virtio.repeats.instructions[0]] }));
    expect(rowsOf(one).get("host instructions, user mode")!.x).toBeCloseTo(41180663 / 209.7152, 6);
    // the traces moved 64M
    const kicks = virtio.repeats.trace.map((trace) => kl.virtioKicks(trace).numRows());
    expect(rows.get("kicks")!.virtio).toBeCloseTo(kicks.reduce((sum, x) => sum + x, 0) / 3 / 67.108864, 9);
  });
  it("says that vhost-net is better where the repeats agree, and by the same interval as compareBitrate", () => {
    const bitrate = rows.get("bitrate to server")!, same = kl.compareBitrate(virtio.repeats.iperf3, vhost.repeats.iperf3).object(0) as Row;
    expect(bitrate).toMatchObject({ verdict: "better", better: "more", ratio: same.ratio, low: same.low, high: same.high, needed: null });
    for (const measure of ["kick → tun_get_user, median", "host instructions, user mode"]) expect(rows.get(measure)!.verdict, measure).toBe("better");
    for (const measure of ["exits for WFx", "vCPU wake-ups"]) expect(rows.get(measure)!.verdict, measure).toBe("worse");
    expect(rows.get("guest instructions, kernel")!.verdict).toBe("no difference seen");
  });
  it("takes stage medians from kickStages and kickSpans, one per repeat", () => {
    const medians = vhost.repeats.trace.map((trace) => kl.kickStages(kl.virtioKicks(trace)).filter((d: any) => d.stage === "back end runs → tun_get_user" && d.backend === "vhost").get("p50", 0) as number);
    expect(rows.get("back end runs → tun_get_user, median")!.vhost).toBeCloseTo(medians.reduce((sum, x) => sum + x, 0) / 3, 6);
  });
  it("compares the processes' CPU without idle where the load is the same, and asks for repeats", () => {
    const qemu = rows.get("CPU of qemu-system-aar without idle at 100Mbit/s")!;
    expect(qemu).toMatchObject({ virtio: 0.5, vhost: 0.1, low: null, verdict: "too little data", needed: null });
    expect(qemu.method).toMatch(/record repeats/);
    expect(rows.get("CPU of vhost without idle at 100Mbit/s")).toMatchObject({ virtio: null, vhost: 0.27, ratio: null, verdict: "too little data", method: "not recorded in virtio" });
  });
  it("counts the host's CPU without idle by what iperf3 printed while it was sampled", () => {
    // perf-record.txt: "[  6]   0.00-3.00   sec  2.90 GBytes  8.31 Gbits/sec                  receiver"
    const megabytes = (2.9 * 2 ** 30) / 1e6;
    const busy = kl.foldStacks(kl.excludeIdle(virtio.hostProfile)).objects() as { stack: string; value: number }[];
    const sum = (of: typeof busy) => of.reduce((all, { value }) => all + value, 0);
    const qemu = rows.get("CPU of qemu-system-aar without idle, on the host")!;
    expect(qemu.unit).toBe("cycles per MB");
    expect(qemu.virtio * megabytes / sum(busy.filter(({ stack }) => stack.startsWith("qemu-system-aar;")))).toBeCloseTo(1, 9);
    expect(rows.get("CPU of all without idle, on the host")!.virtio * megabytes / sum(busy)).toBeCloseTo(1, 9);
    expect(qemu).toMatchObject({ verdict: "better", needed: null });
    expect(rows.get("CPU of vhost without idle, on the host")).toMatchObject({ virtio: null, verdict: "too little data", method: "not recorded in virtio" });
  });
  it("counts system calls on a packet's way by samples, and has an interval where there are none left", () => {
    const samples = (run: kl.Run) => kl.callersOf(kl.foldStacks(run.hostProfile, { weight: "samples" }), "tun_get_user").array("value")[0];
    expect(rows.get("tun_get_user inside a system call")).toMatchObject({ group: "system calls", virtio: 100, vhost: 0, ratio: 0, low: 0, verdict: "better", n_a: samples(virtio), n_b: samples(vhost) });
    expect(rows.get("tun_get_user inside a system call")!.high).toBeLessThan(0.05);
    const back = rowsOf(kl.compareRuns(vhost, virtio)).get("tun_get_user inside a system call")!;
    expect(back).toMatchObject({ ratio: null, low: null, high: null, verdict: "worse" });
  });
  it("agrees with fresh boots", async () => {
    const boots = rowsOf(kl.compareRuns(await capture("icount-ab/virtio"), await capture("icount-ab/vhost")));
    expect(boots.get("bitrate to server")!.verdict).toBe("better");
    expect(boots.get("exits to user space")!.verdict).toBe("worse");
  });
  it("ranks nothing where the repeats contradict each other, and says how many would do", async () => {
    const [a, b] = [await capture("virtio/ab"), await capture("vhost/ab")];
    const noisy = rowsOf(kl.compareRuns(a, b, { bytes: 100 * 2 ** 20, names: ["virtio", "vhost"] }));
    expect(noisy.size).toBeGreaterThan(3);
    for (const row of noisy.values()) {
      expect(row.verdict, row.measure).toBe("too little data");
      expect(row.needed, row.measure).toBeGreaterThan(20);
    }
    const unknown = rowsOf(kl.compareRuns(a, b, { names: ["virtio", "vhost"] })).get("exits")!;
    expect(unknown).toMatchObject({ virtio: null, vhost: null, ratio: null, verdict: "too little data" });
    expect(unknown.method).toMatch(/not known: commands\.txt tells neither iperf3 -n nor where its output went; give the option bytes/);
  });
  it("takes the spread within a run where there is one alone, from the seed alone, and says what that is worth", async () => {
    const [a, b] = [having(virtio, "virtio", { trace: [virtio.repeats.trace[0]] }), having(vhost, "vhost", { trace: [vhost.repeats.trace[0]] })];
    const once = kl.compareRuns(a, b), row = rowsOf(once).get("kick → tun_get_user, median")!;
    expect(row.verdict).toBe("better");
    expect(row.method).toMatch(/blocks of time of one run: says nothing of the spread between runs/);
    expect(row.needed).toBe(null);
    expect(kl.compareRuns(a, b).objects()).toEqual(once.objects());
    expect(kl.compareRuns(a, b, { seed: 2 }).objects()).not.toEqual(once.objects());
  });
  it("takes a list of runs for repeats", () => {
    const single = (run: kl.Run) => run.repeats.iperf3.map((table, i) => having(run, `${run.name}-${i}`, { iperf3: [table] }));
    const row = rowsOf(kl.compareRuns(single(virtio), single(vhost), { names: ["virtio", "vhost"] })).get("bitrate to server")!;
    expect(row).toMatchObject({ n_a: 3, n_b: 3, low: rows.get("bitrate to server")!.low, verdict: "better" });
  });
  it("says what an option must be", () => {
    expect(() => kl.compareRuns([], virtio)).toThrow(/the list of runs for a is empty/);
    expect(() => kl.compareRuns(virtio, virtio, { matters: 0 })).toThrow(/matters is a percentage above 0; this is 0/);
    expect(() => kl.compareRuns(virtio, vhost, { names: ["ratio", "x"] })).toThrow(/names takes two different names/);
    expect(() => kl.compareRuns("virtio" as any, vhost)).toThrow(/side a takes what loadRun gives/);
  });

  // The false alarms: one mode's own data against itself. At 95 % one row in twenty may claim a difference.
  it("claims no difference between repeats of one mode, however they are split", async () => {
    const counts: Record<string, number> = {};
    for (const mode of ["virtio", "vhost"]) {
      const [run, boots] = [mode === "virtio" ? virtio : vhost, await capture(`icount-ab/${mode}`)];
      const tables = { iperf3: [...run.repeats.iperf3, ...boots.repeats.iperf3], perfStat: [...run.repeats.perfStat, ...boots.repeats.perfStat] };
      // All ten ways to split six repeats into three and three.
      for (const [i, j] of [[1, 2], [1, 3], [1, 4], [1, 5], [2, 3], [2, 4], [2, 5], [3, 4], [3, 5], [4, 5]]) {
        const side = (take: number[], name: string) => having(run, name, { iperf3: take.map((n) => tables.iperf3[n]), perfStat: take.map((n) => tables.perfStat[n]) });
        const table = kl.compareRuns(side([0, i, j], "x"), side([1, 2, 3, 4, 5].filter((n) => n !== i && n !== j), "y"), { bytes: 200 * 2 ** 20 });
        expect(table.array("ratio")).not.toContain(null);
        for (const verdict of table.array("verdict") as string[]) counts[verdict] = (counts[verdict] ?? 0) + 1;
      }
    }
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0);
    expect(all).toBe(2 * 10 * 4);
    expect(((counts.better ?? 0) + (counts.worse ?? 0)) / all).toBeLessThanOrEqual(0.05);
  });
  // What differs from run to run is not in a run's own spread, so that single runs of one mode give more false alarms than one in twenty: 14 of 150 here,
  // though a claim must exclude every difference that does not matter.
  it("claims a difference between single runs of one mode in few measures, more than the confidence promises", () => {
    const verdicts: string[] = [];
    for (const run of [virtio, vhost]) {
      for (const [i, j] of [[0, 1], [0, 2], [1, 2]]) verdicts.push(...kl.compareRuns(having(run, "x", { trace: [run.repeats.trace[i]] }), having(run, "y", { trace: [run.repeats.trace[j]] })).array("verdict") as string[]);
    }
    expect(verdicts.length).toBeGreaterThan(120);
    expect(verdicts.filter((verdict) => verdict === "better" || verdict === "worse").length / verdicts.length).toBeLessThan(0.1);
  });
  it("claims none between resamples of one mode's repeats either, and finds the difference of the two modes", () => {
    let state = 7;
    const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
    const rates = (run: kl.Run) => run.repeats.iperf3.map((table) => kl.compareBitrate(table, table).get("a", 0) as number);
    const draw = (from: kl.Estimate, repeats: number) => kl.estimate(Array.from({ length: repeats }, () => from.mean + from.error! * Math.sqrt(from.n) * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random())));
    const [p, q] = [kl.estimate(rates(virtio)), kl.estimate(rates(vhost))];
    const count = (x: kl.Estimate, y: kl.Estimate, repeats = 3) => {
      const counts: Record<string, number> = {};
      for (let i = 0; i < 2000; i++) { const verdict = kl.verdictOf(kl.ratioInterval(draw(x, repeats), draw(y, repeats)), "more"); counts[verdict] = (counts[verdict] ?? 0) + 1; }
      return counts;
    };
    for (const one of [p, q]) {
      const same = count(one, one);
      expect(((same.better ?? 0) + (same.worse ?? 0)) / 2000).toBeLessThan(0.05);
      expect(same["no difference seen"]).toBeGreaterThan(10 * ((same.better ?? 0) + (same.worse ?? 0)));
    }
    // Far more often than not: seen to be alike. Three repeats of virtio are the fewest that do; two more leave no doubt.
    const alike = (repeats: number) => [p, q].map((one) => count(one, one, repeats)["no difference seen"] / 2000);
    expect(Math.min(...alike(3))).toBeGreaterThan(0.5);
    expect((alike(3)[0] + alike(3)[1]) / 2).toBeGreaterThan(0.7);
    expect(Math.min(...alike(5))).toBeGreaterThan(0.95);
    expect(count(p, q).better).toBeGreaterThan(1800);
  });
});

describe("verdictOf", () => {
  it("compares the interval with 1 and with the factors that matter", () => {
    const cases: [number, number, "more" | "less", string][] = [
      [1.05, 1.4, "more", "better"], [1.05, 1.4, "less", "worse"], [0.5, 0.9, "less", "better"], [0.5, 0.9, "more", "worse"],
      [0.95, 1.05, "more", "no difference seen"], [1.01, 1.09, "more", "no difference seen"], [0.8, 1.05, "more", "too little data"], [0.95, 1.2, "less", "too little data"],
    ];
    for (const [low, high, better, verdict] of cases) expect(kl.verdictOf({ low, high }, better), `${low}–${high}, ${better}`).toBe(verdict);
    expect(kl.verdictOf({ low: 1.01, high: 1.09 }, "more", 1)).toBe("better");
    expect(kl.verdictOf({ low: 1.05, high: 1.4 }, "more", 10, 10)).toBe("too little data");
    expect(kl.verdictOf({ low: 1.11, high: 1.4 }, "more", 10, 10)).toBe("better");
    expect(kl.verdictOf(null, "more")).toBe("too little data");
  });
});

describe("shareRatioInterval", () => {
  it("is Walter's: by hand, 50 of 100 against 25 of 100", () => {
    // ln((25.5/100.5)/(50.5/100.5)) = -0.68330; error √(1/50.5 - 1/100.5 + 1/25.5 - 1/100.5) = 0.19778; ×1.95996 = 0.38764
    const { ratio, low, high } = kl.shareRatioInterval([50, 100], [25, 100])!;
    expect(ratio).toBe(0.5);
    expect(low).toBeCloseTo(Math.exp(-0.6833 - 0.38764), 4);
    expect(high).toBeCloseTo(Math.exp(-0.6833 + 0.38764), 4);
  });
  it("has an end where a side has no hit, and none where both have none", () => {
    expect(kl.shareRatioInterval([10, 100], [0, 100])).toMatchObject({ ratio: 0, low: 0 });
    expect(kl.shareRatioInterval([0, 100], [10, 100])).toMatchObject({ ratio: Infinity, high: Infinity });
    expect(kl.shareRatioInterval([0, 100], [0, 100])).toBe(null);
    expect(kl.shareRatioInterval([1, 2], [0, 0])).toBe(null);
  });
});

describe("repeatsNeeded", () => {
  it("is the textbook's number", () => {
    // s = 10 %, factor 1.1, 80 % power: about 2 · (1.96 + 0.84)² · 0.1² / ln(1.1)² = 17.3 by the normal distribution, one more by Student's
    const values = [0.9, 1, 1.1];
    expect(kl.repeatsNeeded([kl.estimate(values), kl.estimate(values)])).toBe(19);
    expect(kl.repeatsNeeded([kl.estimate(values)], 20)).toBeLessThan(8);
    expect(kl.repeatsNeeded([kl.estimate([1])])).toBe(null);
  });
  it("is enough: with so many, most studies see the difference", () => {
    let state = 11;
    const random = () => (state = (state * 16807) % 2147483647) / 2147483647;
    const normal = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    const n = kl.repeatsNeeded([kl.estimate([0.9, 1, 1.1])])!, draw = (mean: number) => kl.estimate(Array.from({ length: n }, () => mean * (1 + 0.1 * normal())));
    let seen = 0;
    for (let i = 0; i < 500; i++) if (kl.verdictOf(kl.ratioInterval(draw(1), draw(1.1)), "more") === "better") seen++;
    expect(seen / 500).toBeGreaterThan(0.72);
  });
});
