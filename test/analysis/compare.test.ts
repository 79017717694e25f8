import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { CAPTURE, DATA } from "../peer.js";

const rowsOf = (table: kl.ColumnTable) => table.objects() as Record<string, any>[];
const talk = (mode: string, file: string) => `${DATA}/talk/${mode}/${file}`;
const quiet = { quiet: true };

describe("studentQuantile", () => {
  // Two-sided 95 % and one-sided 99 % points from the printed tables of Student's t.
  it.each([
    [0.975, 1, 12.706], [0.975, 2, 4.303], [0.975, 3, 3.182], [0.975, 4, 2.776], [0.975, 10, 2.228], [0.975, 30, 2.042], [0.975, 120, 1.98],
    [0.99, 5, 3.365], [0.95, 8, 1.86], [0.75, 1, 1],
  ])("p %f, %i degrees of freedom: %f", (p, degrees, t) => expect(kl.studentQuantile(p, degrees)).toBeCloseTo(t, 3));

  it("is the tangent for one degree, closed for two, and the normal for very many", () => {
    for (const p of [0.6, 0.9, 0.99, 0.9999]) {
      expect(kl.studentQuantile(p, 1)).toBeCloseTo(Math.tan(Math.PI * (p - 0.5)), 6);
      expect(kl.studentQuantile(p, 2)).toBeCloseTo((2 * p - 1) * Math.sqrt(2 / (4 * p * (1 - p))), 8);
    }
    expect(kl.studentQuantile(0.975, 1e7)).toBeCloseTo(1.959964, 5);
  });

  it("is odd about the median, and takes degrees that are not whole", () => {
    expect(kl.studentQuantile(0.025, 7)).toBeCloseTo(-kl.studentQuantile(0.975, 7), 12);
    expect(kl.studentQuantile(0.5, 3)).toBeCloseTo(0, 9);
    const t = kl.studentQuantile(0.975, 2.5);
    expect(t).toBeLessThan(4.303);
    expect(t).toBeGreaterThan(3.182);
  });

  it("refuses what is no probability", () => expect(() => kl.studentQuantile(1, 3)).toThrow(kl.OptionError));
});

describe("ratioInterval", () => {
  it("agrees with the same computed by hand", () => {
    // a: 8, 10, 12: mean 10, s = 2, error 2/√3 = 1.154701; b: 19, 20, 21: mean 20, s = 1, error 1/√3 = 0.577350
    const a = kl.estimate([8, 10, 12]), b = kl.estimate([19, 20, 21]);
    expect(a).toEqual({ mean: 10, error: expect.closeTo(1.154701, 6), n: 3 });
    // relative variances 0.01333333 and 0.00083333; sum 0.01416667; degrees = 0.01416667² / (0.01333333²/2 + 0.00083333²/2) = 2.249027
    const found = kl.ratioInterval(a, b)!;
    expect(found.ratio).toBe(2);
    expect(found.degrees).toBeCloseTo(2.249027, 5);
    const half = kl.studentQuantile(0.975, 2.249027) * Math.sqrt(0.01416667);
    expect(found.low).toBeCloseTo(2 * Math.exp(-half), 5);
    expect(found.high).toBeCloseTo(2 * Math.exp(half), 5);
    // and with equal relative errors, where Welch's degrees are n_a + n_b − 2 = 4 and t is the tables' 2.776445
    const even = kl.ratioInterval(kl.estimate([9, 10, 11]), kl.estimate([18, 20, 22]))!;
    expect(even.degrees).toBeCloseTo(4, 9);
    expect(Math.log(even.high / 2)).toBeCloseTo(2.776445 * Math.sqrt(2 / 300), 5);
  });

  it("covers the true ratio about as often as it says", () => {
    let seed = 7;
    const uniform = () => ((seed = (seed * 48271) % 2147483647) / 2147483647);
    const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
    let inside = 0;
    const trials = 4000;
    for (let i = 0; i < trials; i++) {
      const draw = (mean: number) => kl.estimate(Array.from({ length: 4 }, () => mean * (1 + 0.1 * normal())));
      const found = kl.ratioInterval(draw(100), draw(150))!;
      if (found.low <= 1.5 && 1.5 <= found.high) inside++;
    }
    expect(inside / trials).toBeGreaterThan(0.935);
    expect(inside / trials).toBeLessThan(0.975);
  });

  it("knows nothing from one value or from a mean of 0", () => {
    expect(kl.ratioInterval(kl.estimate([5]), kl.estimate([5, 6]))).toBeNull();
    expect(kl.ratioInterval(kl.estimate([0, 0]), kl.estimate([5, 6]))).toBeNull();
  });

  it("is a point where repeats agree to the digit", () => {
    expect(kl.ratioInterval(kl.estimate([4, 4]), kl.estimate([6, 6]))).toMatchObject({ ratio: 1.5, low: 1.5, high: 1.5 });
  });
});

describe("compareCounts", () => {
  it("puts the talk's counters side by side", async () => {
    const [a, b] = await Promise.all(["virtio", "vhost"].map((mode) => kl.loadPerfStat(talk(mode, "perf-stat.txt"), quiet)));
    const table = kl.compareCounts(a, b, { names: ["virtio", "vhost"] });
    expect(table.columnNames()).toEqual(["name", "virtio", "vhost", "change", "ratio", "low", "high", "n_a", "n_b", "method"]);
    const row = rowsOf(table).find((r) => r.name === "kvm:kvm_wfx_arm64")!;
    expect(row).toEqual({ name: "kvm:kvm_wfx_arm64", virtio: 1145, vhost: 611, change: -534, ratio: 611 / 1145, low: null, high: null, n_a: 1, n_b: 1, method: null });
    expect(table.numRows()).toBe(20);
  });

  it("compares the talk's exits by number, time and mean span", async () => {
    const [a, b] = await Promise.all(["virtio", "vhost"].map((mode) => kl.loadPerfKvmStat(talk(mode, "perf-kvm-stat.txt"), quiet)));
    const find = (table: kl.ColumnTable, name: string) => rowsOf(table).find((row) => row.name === name)!;
    expect(find(kl.compareCounts(a, b), "DABT_LOW")).toMatchObject({ a: 4578, b: 23050, low: null });
    expect(find(kl.compareCounts(a, b, { value: "time" }), "IRQ")).toMatchObject({ a: 856 * 533310, b: 6750 * 59500 });
    // IRQ: 533.31 µs ± 3.70 % over 856 against 59.50 µs ± 4.89 % over 6750: ratio 0.1116, log error √(0.0370² + 0.0489²) = 0.06132
    const irq = find(kl.compareCounts(a, b, { value: "avg" }), "IRQ");
    expect(irq.ratio).toBeCloseTo(59.5 / 533.31, 12);
    expect(irq.high / irq.ratio).toBeCloseTo(Math.exp(1.961 * 0.06132), 3);
    expect(irq).toMatchObject({ n_a: 856, n_b: 6750, method: expect.stringContaining("exits of one run, not independent") });
    const units = (value: "samples" | "avg" | "time") => rowsOf(kl.describe(kl.compareCounts(a, b, { value }))).find((row) => row.column === "b")!.unit;
    expect([units("samples"), units("avg"), units("time")]).toEqual(["count", "ns", "ns"]);
  });

  it("adds up CPUs and intervals, and takes the summary where there is one", () => {
    const perCpu = kl.fromPerfStat("CPU0                     1433      kvm:kvm_exit\nCPU1                       42      kvm:kvm_exit\n");
    expect(rowsOf(kl.compareCounts(perCpu, perCpu))).toMatchObject([{ name: "kvm:kvm_exit", a: 1475, b: 1475, ratio: 1 }]);
    const intervals = kl.fromPerfStat("     1.000100000,10,,faults,5,100.00,,\n     2.000100000,20,,faults,5,100.00,,\n");
    const summed = kl.fromPerfStat("     1.000100000,10,,faults,5,100.00,,\n     2.000100000,20,,faults,5,100.00,,\n         summary,31,,faults,5,100.00,,\n");
    expect(rowsOf(kl.compareCounts(intervals, summed))).toMatchObject([{ name: "faults", a: 30, b: 31, n_a: 1, n_b: 1 }]);
  });

  it("takes reports appended to one text as repeats, and the standard error of -r where there is one table", () => {
    const report = (n: number) => `\n Performance counter stats for 'x':\n\n  ${n}      faults\n\n       0.100000000 seconds time elapsed\n\n`;
    const appended = kl.fromPerfStat(report(90) + report(110));
    expect(rowsOf(kl.compareCounts(appended, [kl.fromPerfStat(report(200)), kl.fromPerfStat(report(220))]))).toMatchObject([{ a: 100, b: 210, n_a: 2, n_b: 2, method: expect.stringContaining("repeats") }]);
    const repeated = (n: number, noise: string) => kl.fromPerfStat(`\n Performance counter stats for 'x' (5 runs):\n\n                ${n}      faults              ${noise}\n`);
    const [row] = rowsOf(kl.compareCounts(repeated(100, "( +-  3.00% )"), repeated(200, "( +-  3.00% )")));
    expect(row).toMatchObject({ a: 100, b: 200, n_a: 5, n_b: 5 });
    expect(Math.log(row.high / 2)).toBeCloseTo(2.306004 * Math.sqrt(0.0018), 5); // t with 8 degrees
    expect(rowsOf(kl.compareCounts(repeated(100, ""), repeated(200, "")))).toMatchObject([{ low: 2, high: 2 }]);
  });

  it("leaves null what was not counted, and counts an exit reason that is not listed as 0", () => {
    const stat = (line: string) => kl.fromPerfStat(line);
    expect(rowsOf(kl.compareCounts(stat("   <not counted>      cycles\n"), stat("   5      cycles\n")))).toMatchObject([{ a: null, b: 5, change: null, ratio: null }]);
    const exits = (line: string) => kl.fromPerfKvmStat(`Analyze events for all VMs, all VCPUs:\n${line}`);
    const wfx = "                 WFx        119    28.00%    16.84%     92.93us   6025.66us   1013.46us ( +-   9.37% )\n";
    const hvc = "               HVC64          2     0.08%     0.03%      2.34us     39.28us     20.81us ( +-  88.77% )\n";
    expect(rowsOf(kl.compareCounts(exits(wfx), [exits(wfx + hvc), exits(wfx)]))).toMatchObject([{ name: "WFx", ratio: 1 }, { name: "HVC64", a: 0, b: 1, n_b: 2 }]);
  });

  it("refuses what it cannot compare, in words", () => {
    const table = kl.fromPerfStat("   5      cycles\n");
    expect(() => kl.compareCounts([], table)).toThrow(/list of tables for a is empty/);
    expect(() => kl.compareCounts(table, table, { names: ["x", "x"] })).toThrow(/two different names/);
    expect(() => kl.compareCounts(table, table, { names: ["ratio", "x"] })).toThrow(/not columns of the result/);
    expect(() => kl.compareCounts(table, table, { confidence: 1.5 / 0 })).toThrow(/confidence is a percentage/);
    expect(() => kl.compareCounts(table, kl.fromFolded("a;b 1\n"))).toThrow(/takes tables of perf stat/);
    expect(() => kl.compareCounts(table, table, { value: "avg" })).toThrow(/these are tables of perf stat/);
    expect(() => kl.compareRows(table, table, { key: "event", value: "samples" })).toThrow(/column samples is not in this table/);
  });

  it("carries the names and the unit into the description", () => {
    const table = kl.fromPerfStat("   5      cycles\n");
    const described = rowsOf(kl.describe(kl.compareCounts(table, table, { names: ["old", "new"], confidence: 90 })));
    expect(described.map((row) => row.column)).toContain("new");
    expect(described.every((row) => row.meaning !== "made in this notebook")).toBe(true);
    expect(described.find((row) => row.column === "low")!.meaning).toContain("90 %");
  });
});

describe("compareBitrate", () => {
  it("compares the talk's two runs by their totals, with the spread within them", async () => {
    const [a, b] = await Promise.all(["virtio", "vhost"].map((mode) => kl.loadIperf3(talk(mode, "iperf3.txt"), quiet)));
    const [row] = rowsOf(kl.compareBitrate(a, b, { names: ["virtio", "vhost"] }));
    expect(row).toMatchObject({ name: "bitrate to server", virtio: 1.66e9, vhost: 3.26e9, n_a: 3, n_b: 3 }); // 10 intervals in blocks of 3 or 4
    expect(row.ratio).toBeCloseTo(1.96, 2);
    expect(row.low).toBeLessThan(row.ratio);
    expect(row.method).toMatch(/^blocks of intervals of one run, not independent/);
  });

  it("weights intervals in a block by their length", () => {
    const run = (bytes: number[]) => kl.fromIperf3(JSON.stringify({
      start: { connecting_to: {}, test_start: { protocol: "TCP" } },
      intervals: bytes.map((n, i) => ({ streams: [], sum: { start: i, end: i + 1, bytes: n, bits_per_second: 8 * n, sender: true } })),
      end: {},
    }));
    // No total: the rate of all intervals. Four intervals are two blocks, 8 × 15 and 8 × 35 bit/s: s = 8 × 14.142, error 8 × 10.
    const [row] = rowsOf(kl.compareBitrate(run([10, 20, 30, 40]), run([10, 20, 30, 40])));
    expect(row).toMatchObject({ a: 200, b: 200, ratio: 1, n_a: 2 });
    expect(Math.log(row.high)).toBeCloseTo(kl.studentQuantile(0.975, 2) * Math.sqrt(2) * 0.4, 9);
    expect(rowsOf(kl.compareBitrate(run([10, 20, 30]), run([10, 20, 30])))[0]).toMatchObject({ low: null, method: null, n_a: 1 });
  });

  it("keeps the directions of --bidir apart", () => {
    const text = (up: string, down: string) => kl.fromIperf3(`Connecting to host h, port 5201
[ ID][Role] Interval           Transfer     Bitrate         Retr  Cwnd
[  5][TX-C]   0.00-1.00   sec   194 MBytes  ${up} Mbits/sec    1    767 KBytes
[  7][RX-C]   0.00-1.00   sec   104 MBytes  ${down} Mbits/sec
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID][Role] Interval           Transfer     Bitrate         Retr
[  5][TX-C]   0.00-1.00   sec   194 MBytes  ${up} Mbits/sec    1             sender
[  5][TX-C]   0.00-1.00   sec   194 MBytes  ${up} Mbits/sec                  receiver
[  7][RX-C]   0.00-1.00   sec   104 MBytes  ${down} Mbits/sec    3             sender
[  7][RX-C]   0.00-1.00   sec   104 MBytes  ${down} Mbits/sec                  receiver
`);
    expect(rowsOf(kl.compareBitrate([text("100", "50"), text("120", "50")], [text("220", "25"), text("240", "25")]))).toMatchObject([
      { name: "bitrate to server", a: 110e6, b: 230e6, n_a: 2, method: expect.stringContaining("repeats") },
      { name: "bitrate to client", a: 50e6, b: 25e6, ratio: 0.5, low: 0.5, high: 0.5 },
    ]);
  });
});

describe.skipIf(!CAPTURE)("comparisons of recorded repeats (KERNEL_LIB_CAPTURE_DATA)", () => {
  const repeats = <T,>(load: (path: string, options: object) => Promise<T>, mode: string, file: (i: number) => string) => Promise.all([1, 2, 3].map((i) => load(`${CAPTURE}/icount-${mode}/${file(i)}`, quiet)));

  it("finds the bitrate of vhost higher, between repeats", async () => {
    const [a, b] = await Promise.all(["virtio", "vhost"].map((mode) => repeats(kl.loadIperf3, mode, (i) => `iperf3-run${i}.json`)));
    const [row] = rowsOf(kl.compareBitrate(a, b));
    expect(row.n_a).toBe(3);
    expect(row.ratio).toBeGreaterThan(1.1);
    expect(row.ratio).toBeLessThan(1.3);
    expect(row.low).toBeGreaterThan(1);
  });

  it("finds more exits and more WFx with vhost", async () => {
    const [a, b] = await Promise.all(["virtio", "vhost"].map((mode) => repeats(kl.loadPerfStat, mode, (i) => `perf-stat-run${i}.txt`)));
    const rows = rowsOf(kl.compareCounts(a, b));
    for (const event of ["kvm:kvm_exit", "kvm:kvm_wfx_arm64"]) expect(rows.find((row) => row.name === event)!.low).toBeGreaterThan(1);
  });
});
