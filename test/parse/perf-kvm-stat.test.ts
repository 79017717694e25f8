import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, filesBelow, inChunks } from "../peer.js";

type Row = kl.RowOf<typeof import("../../kernel-lib/parse/perf-kvm-stat.js").perfKvmStatColumns>;
const rowsOf = (table: kl.ColumnTable) => table.objects() as Row[];
const read = (path: string) => readFileSync(`${DATA}/${path}`);
const recordings = (folder: string) => filesBelow(folder, /perf-kvm-stat(?!\.script)[^/]*\.txt$/).filter((path) => !/\.record\./.test(path));

// No recording of these at hand: written by hand after print_result() of perf's builtin-kvm.c, its figures consistent.
const X86 = `

Analyze events for pid(s) 127894,127895, VCPU 1:

             VM-EXIT    Samples  Samples%     Time%    Min Time    Max Time         Avg time 

                 HLT         60    60.00%    96.77%      1.00us    999.99us    200.00us ( +-   2.50% )
       EPT_MISCONFIG         30    30.00%     2.90%      2.00us     44.00us     12.00us ( +-   1.10% )
  EXTERNAL_INTERRUPT         10    10.00%     0.32%      0.90us     11.00us      4.00us ( +-   0.00% )

Total Samples:100, Total events handled time:12400.00us.


Lost events: 3

`;
const MMIO = `
Analyze events for all VMs, all VCPUs:

         MMIO Access    Samples  Samples%     Time%    Min Time    Max Time         Avg time 

           0x9fc00:W          3    75.00%    50.00%      1.00us      3.00us      2.00us ( +-   1.00% )
        0xfebf1000:R          1    25.00%    50.00%      6.00us      6.00us      6.00us ( +-   0.00% )

Total Samples:4, Total events handled time:12.00us.
`;
const OLD = `
Analyze events for all VCPUs:

      IO Port Access    Samples  Samples%     Time%         Avg time 

          0x3f8:POUT          2   100.00%   100.00%      5.25us ( +-   1.00% )

Total Samples:2, Total events handled time:10.50us.
`;

/** Samples% = n / total and Time% = n·avg / Σ n·avg, to the printed digit (averages are printed to 10 ns, which allows a last digit more). */
function expectInvariants(table: kl.ColumnTable): void {
  const rows = rowsOf(table);
  for (const block of new Set(rows.map((row) => row.block))) {
    const of = rows.filter((row) => row.block === block);
    const samples = of.reduce((sum, row) => sum + row.samples, 0), time = of.reduce((sum, row) => sum + row.samples * row.avg, 0);
    for (const row of of) {
      expect(Math.abs((100 * row.samples) / samples - row.samples_pct!)).toBeLessThanOrEqual(0.00501);
      expect(Math.abs((100 * row.samples * row.avg) / time - row.time_pct!)).toBeLessThanOrEqual(0.0101);
      if (row.total_samples !== null) expect(row.total_samples).toBe(samples);
      // each average is rounded to 10 ns
      if (row.total_time !== null) expect(Math.abs(row.total_time - time)).toBeLessThanOrEqual(5 * samples + 5);
      if (row.max !== null) expect(row.max).toBeGreaterThanOrEqual(row.avg);
    }
  }
}

describe("fromPerfKvmStat", () => {
  it("reads the talk's tables, row by row", () => {
    const rows = rowsOf(kl.fromPerfKvmStat(read("talk/virtio/perf-kvm-stat.txt")));
    expect(rows[0]).toEqual({
      block: 1, clock: null, vms: "all VMs", vcpu: null, by: "VM-EXIT", event: "DABT_LOW", samples: 4578, samples_pct: 40.12, time_pct: 26.53, min: 6600, max: 1961410, avg: 104750, stddev_pct: 1.95,
      span: "guest", total_samples: null, total_time: null, lost: 0,
    });
    expect(rows.map(({ event, samples, avg }) => [event.toUpperCase(), samples, avg])).toEqual([["DABT_LOW", 4578, 104750], ["WFX", 3546, 234700], ["SYS64", 2430, 16180], ["IRQ", 856, 533310]]);
    const vhost = rowsOf(kl.fromPerfKvmStat(read("talk/vhost/perf-kvm-stat.txt")));
    expect(vhost.map(({ event, samples, avg }) => [event.toUpperCase(), samples, avg])).toEqual([["DABT_LOW", 23050, 59700], ["IRQ", 6750, 59500], ["SYS64", 2433, 20030], ["WFX", 2318, 103550]]);
  });

  it("reads a recording of perf 6.1 with what stands under it", () => {
    const rows = rowsOf(kl.fromPerfKvmStat(read("capture/virtio/perf-kvm-stat.txt")));
    expect(rows).toHaveLength(4);
    expect(rows[1]).toMatchObject({ event: "IRQ", samples: 3151, max: 16703520, avg: 1039640, stddev_pct: 2.03, total_samples: 14713, total_time: 6379885660, lost: 0 });
    expect(rowsOf(kl.fromPerfKvmStat(read("capture/virtio/perf-kvm-stat-vcpu0.txt")))[0]).toMatchObject({ vcpu: 0, min: 0 });
    expect(kl.fromPerfKvmStat(read("capture/virtio/perf-kvm-stat-vcpu1.txt")).numRows()).toBe(0);
  });

  it("reads live tables between their terminal escapes", () => {
    const rows = rowsOf(kl.fromPerfKvmStat(read("capture/virtio/perf-kvm-stat-live.txt")));
    expect(rows).toHaveLength(16);
    expect([...new Set(rows.map((row) => `${row.block} ${row.clock} ${row.total_samples}`))]).toEqual([
      "1 06:34:44.161467 425", "2 06:34:46.159310 1758", "3 06:34:48.158605 2090", "4 06:34:50.158973 1881",
    ]);
  });

  it("reads x86, chosen processes and vCPUs, lost events", () => {
    const rows = rowsOf(kl.fromPerfKvmStat(X86));
    expect(rows).toHaveLength(3);
    expect(rows[2]).toMatchObject({ vms: "pid(s) 127894,127895", vcpu: 1, event: "EXTERNAL_INTERRUPT", samples: 10, stddev_pct: 0, span: "handling", lost: 3, total_time: 12400000 });
    expectInvariants(kl.fromPerfKvmStat(X86));
  });

  it("reads addresses, and versions without Min and Max", () => {
    const [mmio] = rowsOf(kl.fromPerfKvmStat(MMIO));
    expect(mmio).toMatchObject({ by: "MMIO Access", event: "0x9fc00:W", min: 1000, span: "handling" });
    const [port] = rowsOf(kl.fromPerfKvmStat(OLD));
    expect(port).toMatchObject({ by: "IO Port Access", event: "0x3f8:POUT", min: null, max: null, avg: 5250, vms: null, vcpu: null });
  });

  it("reads tables separated by tabs, as a slide's text has them", () => {
    const rows = rowsOf(kl.fromPerfKvmStat("Analyze events for all VMs, all VCPUs:\n\nVM-EXIT\tSamples\tSamples%\tTime%\tMin Time\tMax Time\tAvg time\nIRQ\t856\t7.50%\t25.25%\t11.16us\t2793.49us\t533.31us ( +- 3.70% )\n"));
    expect(rows).toMatchObject([{ event: "IRQ", min: 11160, stddev_pct: 3.7, span: null }]);
  });

  it("leaves nan null", () => {
    const [row] = rowsOf(kl.fromPerfKvmStat("                 WFx          1   100.00%     -nan%     46.99us   3910.22us    190.89us ( +-    -nan% )\n"));
    expect(row).toMatchObject({ time_pct: null, stddev_pct: null, block: 1, by: null });
  });
});

describe("kvmStatSpan", () => {
  it("says which span the times are, and from what it knows", () => {
    expect(kl.kvmStatSpan(kl.fromPerfKvmStat(read("talk/vhost/perf-kvm-stat.txt")))).toEqual({ span: "guest", because: expect.stringMatching(/^DABT_LOW, SYS64, WF[xX]: exit reasons of arm64, where perf counts from kvm_entry to kvm_exit$/) });
    expect(kl.kvmStatSpan(kl.fromPerfKvmStat(X86))).toEqual({ span: "handling", because: expect.stringMatching(/^HLT, EPT_MISCONFIG, EXTERNAL_INTERRUPT: exit reasons of x86/) });
    expect(kl.kvmStatSpan(kl.fromPerfKvmStat(MMIO)).because).toMatch(/^MMIO Access: a table that perf makes on x86/);
  });

  it("says null rather than guess", () => {
    const only = (event: string) => kl.fromPerfKvmStat(`  ${event}  1  100.00%  100.00%  1.00us  1.00us  1.00us ( +-   0.00% )\n`);
    expect(kl.kvmStatSpan(only("IRQ"))).toEqual({ span: null, because: "no exit reason that one architecture alone has: IRQ" });
    expect(kl.kvmStatSpan(kl.fromPerfKvmStat(read("capture/virtio/perf-kvm-stat-vcpu1.txt")))).toEqual({ span: null, because: "the table is empty" });
    expect(() => kl.kvmStatSpan(kl.fromFolded("a;b 1\n"))).toThrow(kl.OptionError);
  });

  it("gives way to the option", () => {
    expect(rowsOf(kl.fromPerfKvmStat(X86, { span: "guest" })).every((row) => row.span === "guest")).toBe(true);
    expect(() => kl.fromPerfKvmStat(X86, { span: "host" as "guest" })).toThrow(/span is one of guest, handling/);
  });
});

describe("perf kvm stat accounting and invariants", () => {
  it("does not take perf report's lines for exits", () => {
    const table = kl.fromPerfKvmStat(`${MMIO}    30.72%    30.72%     0.00%      0.00%      0.00%  swapper\n`);
    expect(kl.accounting(table)).toMatchObject({ rows: 2, continuation: 1, notUnderstood: 1 });
  });

  for (const [name, text] of [["x86", X86], ["addresses", MMIO + OLD]]) it(`is exact when ${name} is damaged`, () => expectExactWhenMutated((bytes) => kl.fromPerfKvmStat(bytes), Buffer.from(text)));
  it("is exact when live output is damaged", () => expectExactWhenMutated((bytes) => kl.fromPerfKvmStat(bytes), read("capture/virtio/perf-kvm-stat-live.txt")));

  it.each(recordings(DATA).map((path) => relative(DATA, path)))("data/%s: whole, in chunks, shares add up", async (path) => {
    const bytes = read(path);
    const whole = kl.fromPerfKvmStat(bytes);
    expectExact(whole, bytes);
    expect(kl.accounting(whole).unknown).toEqual([]);
    expectInvariants(whole);
    if (whole.numRows() > 0) expect(kl.kvmStatSpan(whole).span).toBe("guest");
    for (const n of [1, 7, 4096]) expect((await kl.loadPerfKvmStat(inChunks(bytes, n), { quiet: true })).objects()).toEqual(whole.objects());
  });
});

describe.skipIf(!CAPTURE)("perf kvm stat on the larger set (KERNEL_LIB_CAPTURE_DATA)", () => {
  it.each((CAPTURE ? recordings(CAPTURE) : []).map((path) => relative(CAPTURE!, path)))("%s", async (path) => {
    const table = await kl.loadPerfKvmStat(`${CAPTURE}/${path}`, { quiet: true });
    expectExact(table, readFileSync(`${CAPTURE}/${path}`));
    expect(kl.accounting(table).unknown).toEqual([]);
    expectInvariants(table);
  });
});
