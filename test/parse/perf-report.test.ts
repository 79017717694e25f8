import { readFileSync } from "node:fs";
import { basename, relative } from "node:path";
import { describe, expect, it } from "vitest";
import { accounting, fromPerfReport, loadPerfReport, ParseError, perfReportSections } from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, filesBelow, inChunks } from "../peer.js";

const talk = (name: string) => readFileSync(`${DATA}/talk/${name}`);
const quiet = { quiet: true };

describe("talk: perf kvm report by function", () => {
  const bytes = talk("virtio/perf-kvm-report.txt");
  const table = fromPerfReport(bytes);

  it("has the slide's rows", () => {
    expect(table.columnNames()).toEqual(["event", "overhead", "sys", "usr", "guest_sys", "guest_usr", "comm", "dso", "kind", "symbol"]);
    expect(table.numRows()).toBe(14);
    expect(table.object(0)).toEqual({
      event: null, overhead: 20.11, sys: 0, usr: 0, guest_sys: 20.11, guest_usr: 0,
      comm: ":1035", dso: "[guest.kernel.kallsyms.1026]", kind: "g", symbol: "receive_buf",
    });
    expect(table.object(2)).toMatchObject({ overhead: 9.56, usr: 9.56, comm: "qemu-system-aar", dso: "qemu-system-aarch64", kind: ".", symbol: "replay_mutex_unlock" });
    expect(table.object(7)).toMatchObject({ overhead: 2, guest_usr: 2, comm: ":1035", dso: "[unknown]", kind: "u", symbol: "0x000000557d660af8" });
  });

  it("reads the same however the text is cut, and spends every line", async () => {
    expectExact(table, bytes);
    for (const n of [1, 7, 64, 4096]) expect((await loadPerfReport(inChunks(bytes, n), quiet)).objects()).toEqual(table.objects());
    expectExactWhenMutated(fromPerfReport, bytes);
  });
});

describe("rows that a grep cut loose", () => {
  it("are told by their number of percentages", () => {
    const table = fromPerfReport(talk("vhost/perf-kvm-report-idle.txt"));
    expect(table.objects()).toEqual([
      [30.01, 0, 30.01, ":1146", "cpu_do_idle"], [13.05, 13.05, 0, "swapper", "cpuidle_enter_state"],
      [6.55, 0, 6.55, ":1147", "cpu_do_idle"], [3.59, 0, 3.59, ":1149", "cpu_do_idle"],
    ].map(([overhead, sys, guest_sys, comm, symbol]) => ({ event: null, overhead, sys, usr: 0, guest_sys, guest_usr: 0, comm, symbol })));
    expect(accounting(table)).toMatchObject({ lines: 4, rows: 4, notUnderstood: 0 });
  });

  it("keep file and letter where no sed took them", () => {
    const grepped = talk("virtio/perf-kvm-report.txt").toString().split("\n").filter((line) => line.includes("idle")).join("\n");
    expect(fromPerfReport(grepped).objects().map((row) => [(row as any).overhead, (row as any).dso, (row as any).kind, (row as any).symbol])).toEqual([
      [13.47, "[kernel.kallsyms]", "k", "cpuidle_enter_state"], [4.97, "[guest.kernel.kallsyms.1026]", "g", "cpu_do_idle"],
    ]);
  });
});

// perf 6.1 on x86, perf report --stdio -g flat --no-children: two sections, call graphs below the rows.
const flat = `# To display the perf.data header info, please use --header/--header-only options.
#
#
# Total Lost Samples: 0
#
# Samples: 796  of event 'cpu-clock'
# Event count (approx.): 3999999500
#
# Overhead  Command          Shared Object         Symbol                    
# ........  ...............  ....................  ..........................
#
     7.16%  gzip             gzip                  [.] 0x000000000000d19c


# Samples: 422  of event 'context-switches'
# Event count (approx.): 18743
#
# Overhead  Command          Shared Object      Symbol            
# ........  ...............  .................  ..................
#
    30.30%  gzip             [kernel.kallsyms]  [k] schedule
           21.10%
                schedule
                exit_to_user_mode_loop
                do_syscall_64
                entry_SYSCALL_64_after_hwframe
                __GI___libc_write

    25.07%  wc               [kernel.kallsyms]  [k] schedule
           25.07%
                schedule
                anon_pipe_read
                vfs_read
                ksys_read


#
# (Tip: For tracepoint events, try: perf report -s trace_fields)
#
`;

describe("variants", () => {
  it("several event sections, with call graphs below the rows", () => {
    const table = fromPerfReport(flat);
    expect(table.objects().map((row: any) => [row.event, row.overhead, row.comm, row.symbol])).toEqual([
      ["cpu-clock", 7.16, "gzip", "0x000000000000d19c"], ["context-switches", 30.3, "gzip", "schedule"], ["context-switches", 25.07, "wc", "schedule"],
    ]);
    expect(perfReportSections(table).objects()).toEqual([
      { event: "cpu-clock", samples: 796, event_count: 3999999500, lost: 0, rows: 1, overhead: 7.16 },
      { event: "context-switches", samples: 422, event_count: 18743, lost: 0, rows: 2, overhead: 55.37 },
    ]);
    expect(accounting(table)).toMatchObject({ rows: 3, continuation: 11, notUnderstood: 0 });
    expectExactWhenMutated(fromPerfReport, Buffer.from(flat));
  });

  it("-g folded: chains begin at the margin", () => {
    const text = flat.replace(/ {11}21\.10%[^]*?\n\n/, "21.10% schedule;exit_to_user_mode_loop;do_syscall_64\n").replace(/ {11}25\.07%[^]*?\n\n/, "25.07% schedule;anon_pipe_read\n");
    expect(accounting(fromPerfReport(text))).toMatchObject({ rows: 3, continuation: 2, notUnderstood: 0 });
  });

  it("-t: a separator, no dotted line", () => {
    // perf 6.1, perf report --stdio -t ';' --show-cpu-utilization
    const table = fromPerfReport(`# Samples: 422  of event 'context-switches'
# Event count (approx.): 18743
#
# Overhead;     sys;     usr;Command        ;Shared Object    ;Symbol            
 30.30% ; 30.30% ; 0.00%  ;gzip           ;[kernel.kallsyms];[k] schedule
 7.45%  ; 7.45%  ; 0.00%  ;python         ;[kernel.kallsyms];[k] schedule
`);
    expect(table.object(1)).toEqual({ event: "context-switches", overhead: 7.45, sys: 7.45, usr: 0, comm: "python", dso: "[kernel.kallsyms]", kind: "k", symbol: "schedule" });
    expect(accounting(table)).toMatchObject({ rows: 2, header: 4, notUnderstood: 0 });
  });

  it("--group: one row per event of the group", () => {
    const table = fromPerfReport(`# Samples: 539  of events 'anon group { cpu-clock, context-switches }'
# Event count (approx.): 2000062818
#
#         Overhead  Command          Shared Object      Symbol                  
# ................  ...............  .................  ........................
#
    16.35%  27.70%  swapper          [kernel.kallsyms]  [k] pv_native_safe_halt
    14.82%  31.24%  ls               [kernel.kallsyms]  [k] iowrite16
`);
    expect(table.objects().map((row: any) => [row.event, row.overhead, row.comm])).toEqual([
      ["cpu-clock", 16.35, "swapper"], ["context-switches", 27.7, "swapper"], ["cpu-clock", 14.82, "ls"], ["context-switches", 31.24, "ls"],
    ]);
    expect(accounting(table)).toMatchObject({ lines: 8, rows: 2, header: 6 });
  });

  it("any sort keys, -n, --show-total-period, -v", () => {
    // The columns of perf 6.1's -n --show-total-period --sort pid,cpu,comm,dso,sym,srcline; the pid column prints thread ids.
    const table = fromPerfReport(`# Samples: 422  of event 'context-switches'
#
# Overhead       Samples        Period      Pid:Command          CPU  Shared Object      Symbol                                   Source:Line     
# ........  ............  ............  .......................  ...  .................  .......................................  ................
#
    21.15%            98          3964    12962:gzip             000  [kernel.kallsyms]  0xffffffff821f94c3 k [k] schedule        schedule+35
     2.98%             3           559       15:rcu_preempt      001  [kernel.kallsyms]  0xffffffff821f94c3 k [k] schedule        schedule+35
`);
    expect(table.objects()).toEqual([
      { event: "context-switches", overhead: 21.15, samples: 98, period: 3964, comm: "gzip", tid: 12962, cpu: 0, dso: "[kernel.kallsyms]", kind: "k", symbol: "schedule", addr: "0xffffffff821f94c3", srcline: "schedule+35" },
      { event: "context-switches", overhead: 2.98, samples: 3, period: 559, comm: "rcu_preempt", tid: 15, cpu: 1, dso: "[kernel.kallsyms]", kind: "k", symbol: "schedule", addr: "0xffffffff821f94c3", srcline: "schedule+35" },
    ]);
  });

  it("columns in any order, keys without a name of ours", () => {
    // perf report -F overhead_sys,overhead_us,overhead,sample,period,comm,parent
    const table = fromPerfReport(`#      sys       usr  Overhead       Samples        Period  Command          Parent symbol
# ........  ........  ........  ............  ............  ...............  .............
#
     4.27%    21.36%    25.63%           204    1025125500  gzip             [other]      
`);
    expect(table.object(0)).toEqual({ event: null, overhead: 25.63, sys: 4.27, usr: 21.36, samples: 204, period: 1025125500, comm: "gzip", parent: "[other]" });
  });

  it("cuts at bytes, as perf does, so a name in UTF-8 does not shift the columns", () => {
    const table = fromPerfReport("# Overhead  Command  Symbol       \n# ........  .......  .............\n#\n     1.00%  zäh ö    [k] schedule\n");
    expect(table.object(0)).toMatchObject({ comm: "zäh ö", symbol: "schedule" });
  });

  it("a row cut short, or with a number that is none, is not understood", () => {
    const text = talk("virtio/perf-kvm-report.txt").toString().replace("     0.00%      0.00%  swapper          [kernel.kallsyms]             [k] _raw", "").replace("4.97%     0.00%", "4.97%     ?.00%");
    const table = fromPerfReport(text);
    expect(accounting(table)).toMatchObject({ rows: 12, notUnderstood: 2 });
    expect(accounting(table).unknown.map((u) => u.line)).toEqual([7, 8]);
  });

  it("--hierarchy is refused with the reason", () => {
    // perf 6.1, perf report --stdio --hierarchy
    const text = "#       Overhead  Command / Shared Object / Symbol\n# ..............  ..............................\n#\n    36.56%        node           \n       27.51%        node                \n";
    expect(() => fromPerfReport(text, { name: "report.txt" })).toThrow(/report\.txt: .*without it/);
  });

  it("an empty text is an empty table, other text an error", () => {
    expect(fromPerfReport("").numRows()).toBe(0);
    expect(() => fromPerfReport("Driver Device\nvirtio_net virtio0\n")).toThrow(ParseError);
    expect(() => perfReportSections(fromPerfReport(flat).filter("d => d.overhead > 8" as any))).toThrow(/derived/);
  });
});

describe.skipIf(!CAPTURE)("recorded reports (KERNEL_LIB_CAPTURE_DATA)", () => {
  const files = CAPTURE ? filesBelow(CAPTURE, /perf-(kvm-)?report.*\.txt(\.gz)?$/).filter((path) => !/record\.txt/.test(path)) : [];
  it("are there", () => expect(files.length).toBeGreaterThan(20));

  it.each(files.map((path) => relative(CAPTURE!, path)))("%s", async (name) => {
    const table = await loadPerfReport(`${CAPTURE}/${name}`, quiet);
    expect(accounting(table).notUnderstood).toBe(0);
    const whole = /perf-kvm-report(-comm|-comm-pid-cpu|-guestmount|-guestmount-guestcode)?\.txt/.test(basename(name));
    for (const section of perfReportSections(table).objects() as { overhead: number; lost: number; samples: number }[]) {
      // 250 rows, each rounded to a hundredth
      if (whole) expect(Math.abs(section.overhead - 100)).toBeLessThan(0.25);
      if (whole) expect(section).toMatchObject({ event: "cycles", lost: 0 });
    }
    for (const row of table.objects() as Record<string, number>[]) {
      if (row.sys === undefined) continue;
      expect(Math.abs(row.sys + row.usr + row.guest_sys + row.guest_usr - row.overhead)).toBeLessThan(0.021);
    }
  });

  it("rows are those of the text", async () => {
    const functions = await loadPerfReport(`${CAPTURE}/virtio/perf-kvm-report.txt`, quiet);
    expect(functions.object(0)).toEqual({ event: "cycles", overhead: 59.78, sys: 59.78, usr: 0, guest_sys: 0, guest_usr: 0, comm: "swapper", dso: "[kernel.kallsyms]", kind: "k", symbol: "arch_cpu_idle" });
    expect(perfReportSections(functions).object(0)).toMatchObject({ samples: 1000, event_count: 20146483227, rows: 232 });
    const threads = await loadPerfReport(`${CAPTURE}/virtio/perf-kvm-report-comm-pid-cpu.txt`, quiet);
    expect(threads.objects().slice(4, 6)).toMatchObject([{ overhead: 7.06, comm: ":697", tid: 697, cpu: 2 }, { overhead: 5.8, comm: "qemu-system-aar", tid: 692, cpu: 3 }]);
    const children = await loadPerfReport(`${CAPTURE}/virtio/perf-report-host-f999-children.txt`, quiet);
    expect(children.objects().slice(0, 2)).toMatchObject([{ children: 60.13, overhead: 0, symbol: "cpu_startup_entry" }, { children: 60.12, overhead: 0.02, symbol: "do_idle" }]);
    expect(accounting(children)).toMatchObject({ rows: 44, continuation: 314 });
    const blanks = await loadPerfReport(`${CAPTURE}/debugthreads/perf-report-host.txt`, quiet);
    expect(blanks.object(8)).toMatchObject({ overhead: 0.3, comm: "CPU 0/KVM", dso: "libc.so.6", symbol: "__GI___ioctl" });
  });

  it("damaged copies are accounted for", () => {
    expectExactWhenMutated(fromPerfReport, readFileSync(`${CAPTURE}/virtio/perf-report-host-f999-children.txt`));
    expectExactWhenMutated(fromPerfReport, readFileSync(`${CAPTURE}/virtio/perf-kvm-report.txt`));
  });
});
