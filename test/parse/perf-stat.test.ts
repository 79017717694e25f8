import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, filesBelow, inChunks } from "../peer.js";

type Row = kl.RowOf<typeof import("../../kernel-lib/parse/perf-stat.js").perfStatColumns>;
const rowsOf = (table: kl.ColumnTable) => table.objects() as Row[];
const one = (line: string, options: kl.PerfStatOptions = {}) => {
  const table = kl.fromPerfStat(line, options);
  expect(kl.accounting(table).unknown).toEqual([]);
  return rowsOf(table)[0];
};
const read = (path: string) => readFileSync(`${DATA}/${path}`);
const recordings = (folder: string) => filesBelow(folder, /perf-stat[^/]*\.(txt|csv|json)$/).filter((path) => !path.includes("iperf3"));
const counts = (path: string) => Object.fromEntries(rowsOf(kl.fromPerfStat(read(path))).filter((row) => row.kind === "counter").map((row) => [row.event, row.value]));

const BLANK: Row = {
  block: 1, runs: null, ts: null, kind: "counter", cpu: null, socket: null, die: null, core: null, node: null, cpus: null, comm: null, tid: null, event: "", value: null, status: "counted",
  unit: null, cgroup: null, runtime: null, running: 100, variance: null, metric: null, metric_unit: null,
};

// perf 6.1, x86, default events with -r 3 --table
const REPEATED = `
 Performance counter stats for 'sleep 0.1' (3 runs):

              1.05 msec task-clock                       #    0.010 CPUs utilized            ( +-  5.65% )
                 1      context-switches                 #  965.393 /sec                     ( +- 33.33% )
                 0      cpu-migrations                   #    0.000 /sec                   
                75      page-faults                      #   72.404 K/sec                    ( +-  0.44% )
   <not supported>      cycles                                                      

          # Table of individual measurements:
          0.101345 (-0.000732) #
          0.103281 (+0.001204) #
          0.101605 (-0.000472) #

          # Final result:
          0.102077 +- 0.000607 seconds time elapsed  ( +-  0.59% )

`;
// perf 6.1: -I 100 with --per-socket, --per-core, -A, --per-thread; summary
const INTERVALS = `#           time socket cpus             counts unit events
     0.100221386 S0        2             201.02 msec task-clock                       #    2.010 CPUs utilized          
     0.100221386 S0        1    <not supported>      cycles                                                      
`;

describe("fromPerfStat on text", () => {
  it("reads the talk's counters, and they satisfy what KVM's code says of them", () => {
    const virtio = counts("talk/virtio/perf-stat.txt"), vhost = counts("talk/vhost/perf-stat.txt");
    expect(Object.keys(virtio)).toHaveLength(20);
    expect(virtio).toMatchObject({ "kvm:vgic_update_irq_pending": 3656, "kvm:kvm_wfx_arm64": 1145, "kvm:kvm_exit": 5453, "kvm:kvm_halt_poll_ns": 159 });
    expect(vhost).toMatchObject({ "kvm:vgic_update_irq_pending": 5377, "kvm:kvm_wfx_arm64": 611, "kvm:kvm_exit": 7348, "kvm:kvm_mmio": 4604 });
    for (const n of [virtio, vhost]) {
      expect(n["kvm:kvm_entry"]).toBe(n["kvm:kvm_exit"]);
      expect(n["kvm:kvm_arm_setup_debug"]).toBe(n["kvm:kvm_exit"]);
      expect(n["kvm:kvm_arm_clear_debug"]).toBe(n["kvm:kvm_exit"]);
      expect(n["kvm:kvm_arm_set_dreg32"]).toBe(2 * n["kvm:kvm_exit"]!);
      expect(n["kvm:kvm_handle_sys_reg"]).toBe(n["kvm:kvm_sys_access"]);
    }
  });

  it("reads lines as the talk shows them, without any heading", () => {
    expect(one("3656    kvm:vgic_update_irq_pending")).toEqual({ ...BLANK, event: "kvm:vgic_update_irq_pending", value: 3656 });
    expect(one("10906   kvm:kvm_arm_set_dreg32")).toMatchObject({ value: 10906 });
    expect(one("159 kvm:kvm_halt_poll_ns")).toMatchObject({ event: "kvm:kvm_halt_poll_ns", value: 159, unit: null });
  });

  it("reads a recording of perf 6.1 below libtraceevent's complaints, and one of 6.12", () => {
    const rows = rowsOf(kl.fromPerfStat(read("capture/virtio/perf-stat.txt")));
    expect(rows).toHaveLength(40);
    expect(rows[0]).toEqual({ ...BLANK, runs: 1, event: "kvm:vgic_update_irq_pending", value: 2902 });
    expect(rows[39]).toEqual({ ...BLANK, runs: 1, kind: "time", event: "elapsed", value: 1.493932688, unit: "s" });
    expect(counts("capture/newer-tools/perf-stat.txt")["kvm:kvm_exit"]).toBe(4750);
  });

  it("reads modifiers in event names", () => {
    expect(counts("capture/icount-vhost/perf-stat-instructions-run1.txt")).toEqual({
      "instructions:uH": 21395649, "instructions:kH": 665595232, "instructions:hH": 0, "instructions:uG": 4586067, "instructions:kG": 146778998, cycles: 687045207,
    });
  });

  it("reads units, metrics, repeats and their spread", () => {
    const rows = rowsOf(kl.fromPerfStat(REPEATED));
    expect(rows[0]).toEqual({ ...BLANK, runs: 3, event: "task-clock", value: 1.05, unit: "msec", variance: 5.65, metric: 0.01, metric_unit: "CPUs utilized" });
    expect(rows[2]).toMatchObject({ event: "cpu-migrations", value: 0, variance: null });
    expect(rows[4]).toMatchObject({ event: "cycles", value: null, status: "not supported", unit: null });
    expect(rows.slice(5).map(({ kind, event, value, unit, variance }) => [kind, event, value, unit, variance])).toEqual([
      ["repeat", "elapsed", 0.101345, "s", null], ["repeat", "elapsed", 0.103281, "s", null], ["repeat", "elapsed", 0.101605, "s", null], ["time", "elapsed", 0.102077, "s", 0.59],
    ]);
  });

  it("reads multiplexed counters, percentages, further metrics of one event, and old units", () => {
    const table = kl.fromPerfStat(`        29,421,379      branches:u                       #  464.318 M/sec                       (74.91%)
       152,122,134      cache-misses              #    3.15% of all cache refs    ( +-  0.50% )  (66.67%)
       260,338,209      cycles:u                         #    2.899 GHz
                                                  #    0.18  stalled cycles per insn     (74.94%)
                                                  #     15.3 %  tma_backend_bound
          3.568294      task-clock (msec)         #    1.006 CPUs utilized
   <not counted>      LLC-loads                                                     (0.00%)
              20      sched:sched_process_free                     [100.00%]
            5.45 Joules power/energy-pkg/
`);
    expect(kl.accounting(table)).toMatchObject({ lines: 9, rows: 7, continuation: 2, notUnderstood: 0 });
    expect(rowsOf(table).map(({ kind, event, value, unit, metric, metric_unit, running, variance }) => [kind, event, value, unit, metric, metric_unit, running, variance])).toEqual([
      ["counter", "branches:u", 29421379, null, 464.318, "M/sec", 74.91, null],
      ["counter", "cache-misses", 152122134, null, 3.15, "of all cache refs", 66.67, 0.5],
      ["counter", "cycles:u", 260338209, null, 2.899, "GHz", 100, null],
      ["metric", "cycles:u", null, null, 0.18, "stalled cycles per insn", 100, null],
      ["metric", "cycles:u", null, null, 15.3, "% tma_backend_bound", 100, null],
      ["counter", "task-clock", 3.568294, "msec", 1.006, "CPUs utilized", 100, null],
      ["counter", "LLC-loads", null, null, null, null, 0, null],
      ["counter", "sched:sched_process_free", 20, null, null, null, 100, null],
      ["counter", "power/energy-pkg/", 5.45, "Joules", null, null, 100, null],
    ]);
  });

  it.each([
    ["5,453", 5453], ["5.453", 5453], ["5'453", 5453], ["5’453", 5453], ["5\u202f453", 5453], ["5\u00a0453", 5453], ["1,23,45,678", 12345678], ["1.234.567", 1234567], ["7", 7], ["0", 0],
  ])("reads the count %s, as its locale groups it", (text, value) => expect(one(`         ${text}      kvm:kvm_exit`)).toMatchObject({ value, event: "kvm:kvm_exit" }));

  it.each([["1,234.56", 1234.56], ["1.234,56", 1234.56], ["1\u202f234,56", 1234.56], ["0,05", 0.05], ["3,568294", 3.568294]])("reads the scaled value %s", (text, value) =>
    expect(one(`         ${text} msec task-clock`)).toMatchObject({ value, unit: "msec", event: "task-clock" }));

  it("reads times of a German locale", () => {
    expect(one("       0,002186164 seconds time elapsed")).toMatchObject({ kind: "time", event: "elapsed", value: 0.002186164 });
    expect(one("       0.002037000 seconds user")).toMatchObject({ event: "user", value: 0.002037 });
  });

  it("reads prefixes: CPU, socket, die, core, node, thread, and the interval before them", () => {
    expect(rowsOf(kl.fromPerfStat(read("capture/virtio/perf-stat-percpu.txt"))).slice(0, 4).map(({ cpu, event, value }) => [cpu, event, value])).toEqual([
      [0, "kvm:kvm_exit", 1433], [1, "kvm:kvm_exit", 42], [2, "kvm:kvm_exit", 37], [3, "kvm:kvm_exit", 697],
    ]);
    expect(rowsOf(kl.fromPerfStat(INTERVALS))).toMatchObject([
      { ts: 100221386, socket: 0, die: null, cpus: 2, event: "task-clock", value: 201.02, unit: "msec" }, { ts: 100221386, socket: 0, cpus: 1, event: "cycles", status: "not supported" },
    ]);
    expect(one("S0-D0-C1           1                 18      context-switches                 #   71.476 /sec")).toMatchObject({ socket: 0, die: 0, core: 1, cpus: 1, value: 18 });
    expect(one("S0-D1        2    <not counted>      cycles")).toMatchObject({ socket: 0, die: 1, cpus: 2, status: "not counted" });
    expect(one("N0        2                 52      context-switches")).toMatchObject({ node: 0, cpus: 2, value: 52 });
    expect(one("CPU0          <not supported>      cycles")).toMatchObject({ cpu: 0, cpus: null, status: "not supported" });
    expect(one(" memfd:sealed-91-4953                     0.20 msec task-clock                       #    0.001 CPUs utilized")).toMatchObject({ comm: "memfd:sealed-91", tid: 4953, value: 0.2 });
    expect(one("     0.100179826 CPU1                       81      page-faults                      #  805.381 /sec")).toMatchObject({ ts: 100179826, cpu: 1, value: 81 });
    expect(one("       CPU 0/KVM-2122                     7      page-faults")).toMatchObject({ comm: "CPU 0/KVM", tid: 2122, value: 7 });
  });

  it("adds up over intervals to what was counted in them", () => {
    const rows = rowsOf(kl.fromPerfStat(read("capture/virtio/perf-stat-interval.txt")));
    expect(rows).toHaveLength(78);
    expect([...new Set(rows.map((row) => row.ts))]).toEqual([1008391616, 1929190960]);
    expect(rows.filter((row) => row.event === "kvm:kvm_exit").map((row) => row.value)).toEqual([1326, 1530]);
  });

  it("numbers reports that one file holds", () => {
    const text = read("talk/virtio/perf-stat.txt").toString();
    expect([...new Set(rowsOf(kl.fromPerfStat(text + text)).map((row) => row.block))]).toEqual([1, 2]);
  });
});

describe("fromPerfStat on CSV and JSON", () => {
  it("reads recordings of perf 6.1 and 6.12", () => {
    const csv = rowsOf(kl.fromPerfStat(read("capture/virtio/perf-stat.csv")));
    expect(csv).toHaveLength(39);
    expect(csv[0]).toEqual({ ...BLANK, event: "kvm:vgic_update_irq_pending", value: 5029, runtime: 8297147328 });
    const json = rowsOf(kl.fromPerfStat(read("capture/newer-tools/perf-stat.json")));
    expect(json[0]).toEqual({ ...BLANK, event: "kvm:vgic_update_irq_pending", value: 68, runtime: 16210136624 });
    expect(rowsOf(kl.fromPerfStat(read("capture/virtio/perf-stat.json")))).toHaveLength(39);
  });

  it("reads every prefix of perf 6.1, whatever the separator", () => {
    const lines = [
      ["CPU1,22,,context-switches,251633195,100.00,87.429,/sec", { cpu: 1, value: 22, event: "context-switches", runtime: 251633195, metric: 87.429, metric_unit: "/sec" }],
      ["S0,2,504.07,msec,task-clock,504072064,100.00,2.000,CPUs utilized", { socket: 0, cpus: 2, value: 504.07, unit: "msec", event: "task-clock", metric: 2, metric_unit: "CPUs utilized" }],
      ["S0-D0-C1,1,<not supported>,,cycles,0,100.00,,", { socket: 0, die: 0, core: 1, cpus: 1, value: null, status: "not supported", event: "cycles", metric: null }],
      ["N0,2,43,,context-switches,503288370,100.00,85.438,/sec", { node: 0, cpus: 2, value: 43 }],
      ["75,,page-faults,0.89%,1131339,66.67,67.841,K/sec", { value: 75, variance: 0.89, running: 66.67, metric: 67.841, metric_unit: "K/sec" }],
      ["     0.100163563,<not counted>,,cycles,0,0.00,,", { ts: 100163563, status: "not counted", running: 0 }],
      ["     0.100163563,CPU0,35,,faults,200768427,100.00,174.330,/sec", { ts: 100163563, cpu: 0, value: 35 }],
      ["     0.100163563,S0,1,35,,faults,200768427,100.00,174.330,/sec", { ts: 100163563, socket: 0, cpus: 1, value: 35 }],
      ["         summary,389,,context-switches,505880582,100.00,768.954,/sec", { ts: null, value: 389 }],
    ] as const;
    for (const separator of [",", ";", "|", "\t", ":"]) for (const [line, row] of lines) expect([separator, one(line.replaceAll(",", separator))]).toMatchObject([separator, row]);
    expect(one("kworker/1:2-events-4353;2;;context-switches;24486;100.00;81.679;K/sec")).toMatchObject({ comm: "kworker/1:2-events", tid: 4353, value: 2, event: "context-switches" });
    expect(one("tokio-rt-worker-70,3,,context-switches,498289,100.00,6.021,K/sec")).toMatchObject({ comm: "tokio-rt-worker", tid: 70, value: 3 });
  });

  it("reads events that hold the separator", () => {
    expect(one("4711,,cpu/event=0x3c,umask=0x0/,8297147328,100.00,,")).toMatchObject({ value: 4711, event: "cpu/event=0x3c,umask=0x0/", runtime: 8297147328 });
    expect(one("4711::kvm:kvm_exit:8297147328:100.00::")).toMatchObject({ value: 4711, event: "kvm:kvm_exit" });
    expect(one("4711<>msec<>task-clock<>8297147328<>100.00<><>", { separator: "<>" })).toMatchObject({ value: 4711, unit: "msec", event: "task-clock" });
    expect(() => kl.fromPerfStat("", { separator: "" })).toThrow(kl.OptionError);
  });

  it("reads rows that hold a metric alone, and decimal commas", () => {
    const rows = rowsOf(kl.fromPerfStat("260338209,,cycles,1000,100.00,2.899,GHz\n,,,,,0.18,stalled cycles per insn\n"));
    expect(rows[1]).toMatchObject({ kind: "metric", event: "cycles", value: null, metric: 0.18, metric_unit: "stalled cycles per insn" });
    expect(one("1,16;msec;task-clock;1155834;100,00;0,768;CPUs utilized")).toMatchObject({ value: 1.16, metric: 0.768, running: 100 });
  });

  it("reads JSON with every prefix, text counters, and strings or numbers for metrics", () => {
    expect(one('{"cpu" : "1", "counter-value" : "251.942830", "unit" : "msec", "event" : "task-clock", "event-runtime" : 251942830, "pcnt-running" : 100.00, "metric-value" : 1.000032, "metric-unit" : "CPUs utilized"}'))
      .toEqual({ ...BLANK, cpu: 1, value: 251.94283, unit: "msec", event: "task-clock", runtime: 251942830, metric: 1.000032, metric_unit: "CPUs utilized" });
    expect(one('{"interval" : 0.100276356, "socket" : "S0", "aggregate-number" : 2, "counter-value" : "31.000000", "unit" : "", "event" : "context-switches", "event-runtime" : 200945642, "pcnt-running" : 100.00, "metric-value" : "154.271706", "metric-unit" : "/sec"}'))
      .toMatchObject({ ts: 100276356, socket: 0, cpus: 2, value: 31, unit: null, metric: 154.271706 });
    expect(one('{"thread" : "memfd:sealed-91-4953", "counter-value" : "0.196660", "unit" : "msec", "event" : "task-clock", "event-runtime" : 196660, "pcnt-running" : 100.00}')).toMatchObject({ comm: "memfd:sealed-91", tid: 4953 });
    expect(one('{"counter-value" : "<not supported>", "unit" : "", "event" : "cycles", "variance" : 0.00, "event-runtime" : 0, "pcnt-running" : 100.00, "metric-value" : 0.000000, "metric-unit" : ""}'))
      .toMatchObject({ value: null, status: "not supported", variance: 0, metric: null, metric_unit: null });
    const more = rowsOf(kl.fromPerfStat('{"counter-value" : "1.000000", "event" : "cycles"}\n{"metric-value" : 0.5, "metric-unit" : "insn per cycle"}\n'));
    expect(more[1]).toMatchObject({ kind: "metric", event: "cycles", metric: 0.5, metric_unit: "insn per cycle" });
    expect(kl.accounting(kl.fromPerfStat('{"counter-value" : "1.000000", "event" : "cycles"}\n{"counter-value" : "1.0\n')).notUnderstood).toBe(1);
  });

  it("gives text, CSV and JSON of one run the same shape", () => {
    const events = (path: string) => rowsOf(kl.fromPerfStat(read(path))).filter((row) => row.kind === "counter").map((row) => row.event);
    expect(events("capture/virtio/perf-stat.csv")).toEqual(events("capture/virtio/perf-stat.txt"));
    expect(events("capture/virtio/perf-stat.json")).toEqual(events("capture/virtio/perf-stat.txt"));
  });
});

describe("perf stat accounting", () => {
  it("does not take iperf3's lines, or a number in a sentence, for counters", () => {
    const table = kl.fromPerfStat("   5      cycles\n[  5]   0.00-1.00   sec  98.9 MBytes   823 Mbits/sec    0   4.50 MBytes\n12 monkeys went to town today\n");
    expect(kl.accounting(table)).toMatchObject({ rows: 1, notUnderstood: 2 });
  });

  it.each(["capture/virtio/perf-stat.csv", "capture/newer-tools/perf-stat.json", "capture/virtio/perf-stat-percpu.txt", "capture/virtio/perf-stat-interval.txt"])("is exact when %s is damaged", (path) =>
    expectExactWhenMutated((bytes) => kl.fromPerfStat(bytes), read(path)));
  it("is exact when repeats are damaged", () => expectExactWhenMutated((bytes) => kl.fromPerfStat(bytes), Buffer.from(REPEATED + INTERVALS)));

  it.each(recordings(DATA).map((path) => relative(DATA, path)))("data/%s: whole, in chunks", async (path) => {
    const bytes = read(path);
    const whole = kl.fromPerfStat(bytes);
    expectExact(whole, bytes);
    expect(kl.accounting(whole).unknown).toEqual([]);
    expect(whole.numRows()).toBeGreaterThan(0);
    for (const n of [1, 7, 4096]) expect((await kl.loadPerfStat(inChunks(bytes, n), { quiet: true })).objects()).toEqual(whole.objects());
  });
});

describe.skipIf(!CAPTURE)("perf stat on the larger set (KERNEL_LIB_CAPTURE_DATA)", () => {
  it.each((CAPTURE ? recordings(CAPTURE) : []).map((path) => relative(CAPTURE!, path)))("%s", async (path) => {
    const table = await kl.loadPerfStat(`${CAPTURE}/${path}`, { quiet: true });
    expectExact(table, readFileSync(`${CAPTURE}/${path}`));
    expect(kl.accounting(table).unknown).toEqual([]);
    expect(table.numRows()).toBeGreaterThan(0);
  });
});
