import { readFileSync } from "node:fs";
import fc from "fast-check";
import { table as aqTable } from "arquero";
import { describe, expect, it } from "vitest";
import {
  ColumnTable, describe as describeColumns, excludeIdle, foldStacks, fromFolded, fromPerfReport, fromPerfScript, idleAudit, idleRules, loadPerfReport, loadPerfScript, OptionError, type IdleRule,
} from "kernel-lib";
import { CAPTURE, DATA } from "../peer.js";

const quiet = { quiet: true };
const talk = (name: string) => fromPerfReport(readFileSync(`${DATA}/talk/${name}.txt`));
const modes = ["virtio", "vhost"];
const hundredths = (table: ColumnTable, name = "overhead") => (table.objects() as Record<string, number>[]).reduce((sum, row) => sum + Math.round(row[name] * 100), 0);

describe("the talk's subtraction", () => {
  it.each(modes)("%s: the slide's own result, to the digit", (mode) => {
    const commands = talk(`${mode}/perf-kvm-report-comm`);
    const busy = excludeIdle(talk(`${mode}/perf-kvm-report-idle`), { from: commands });
    const slide = talk(`${mode}/perf-kvm-report-after-exclusion`).objects() as { comm: string }[];
    const rows = busy.objects() as { comm: string }[];
    expect(slide.length).toBeGreaterThan(2);
    for (const row of slide) expect(rows.find(({ comm }) => comm === row.comm)).toEqual(row);
    expect(rows.map((row) => row.comm)).toEqual(commands.array("comm"));
  });

  it("what the slide does not show: the idle task's rest", () => {
    const busy = (mode: string) => excludeIdle(talk(`${mode}/perf-kvm-report-idle`), { from: talk(`${mode}/perf-kvm-report-comm`) }).objects() as Record<string, unknown>[];
    expect(busy("virtio").find((row) => row.comm === "swapper")).toMatchObject({ overhead: 4.02, sys: 4.02 });
    expect(busy("vhost").find((row) => row.comm === "swapper")).toMatchObject({ overhead: 2.14, sys: 2.14 });
  });

  it.each(modes)("%s: before = after + what the audit lists, in every column", (mode) => {
    const idle = talk(`${mode}/perf-kvm-report-idle`), before = talk(`${mode}/perf-kvm-report-comm`), after = excludeIdle(idle, { from: before });
    for (const name of ["overhead", "sys", "usr", "guest_sys", "guest_usr"]) expect(hundredths(after, name)).toBe(hundredths(before, name) - hundredths(idle, name));
    expect(hundredths(idleAudit(idle))).toBe(hundredths(before) - hundredths(after));
  });

  it("the audit says which rule took what from whom", () => {
    expect(idleAudit(talk("virtio/perf-kvm-report-idle")).objects().map((row: any) => [row.verdict, row.rule, row.comm, row.symbol, row.overhead])).toEqual([
      ["idle", "wait", "swapper", "cpuidle_enter_state", 13.47], ["idle", "wait", ":1037", "cpu_do_idle", 4.97],
      ["idle", "loop", "swapper", "tick_nohz_idle_exit", 0.64], ["idle", "wait", ":1035", "cpu_do_idle", 0.53],
    ]);
  });

  it("without from, rows of idle functions go and all else stays as it was", () => {
    const functions = talk("virtio/perf-kvm-report"), busy = excludeIdle(functions);
    expect(busy.objects()).toEqual(functions.objects().filter((row: any) => !["cpuidle_enter_state", "cpu_do_idle"].includes(row.symbol)));
    expect(functions.numRows() - busy.numRows()).toBe(2);
  });
});

describe("rows", () => {
  const rows = (...cells: [comm: string, kind: string, symbol: string, overhead: number][]) => aqTable({
    comm: cells.map((c) => c[0]), kind: cells.map((c) => c[1]), symbol: cells.map((c) => c[2]), overhead: cells.map((c) => c[3]),
  });

  it("host and guest, arm64 and x86, with compilers' suffixes; not a user's function of the same name, not names with idle in them", () => {
    const input = rows(
      ["swapper", "k", "intel_idle_ibrs", 1], ["swapper", "k", "mwait_idle_with_hints.constprop.0", 2], [":697", "g", "cpu_do_idle", 3], [":9", "g", "pv_native_safe_halt", 4],
      ["swapper", "k", "acpi_idle_do_entry.isra.0.cold", 5], ["myapp", ".", "do_idle", 6], [":697", "u", "poll_idle", 7],
      ["swapper", "k", "idle_cpu", 8], [":697", "g", "pick_next_task_idle", 9], ["swapper", "k", "handle_softirqs", 10], ["swapper", "k", "arch_local_irq_enable", 11],
    );
    expect(excludeIdle(input).array("overhead")).toEqual([6, 7, 8, 9, 10, 11]);
    expect(idleAudit(input).objects().filter((row: any) => row.verdict === "kept").map((row: any) => row.symbol)).toEqual(["pick_next_task_idle", "idle_cpu"]);
  });

  it("honours a filter and an order of the input", () => {
    const input = rows(["a", "k", "cpu_do_idle", 1], ["b", "k", "schedule", 2], ["c", "k", "schedule", 3]).filter((d: any) => d.comm !== "b").orderby("symbol");
    expect(excludeIdle(input).array("comm")).toEqual(["c"]);
  });

  it("rules can be read, filtered and replaced", () => {
    const functions = talk("virtio/perf-kvm-report-idle"), from = talk("virtio/perf-kvm-report-comm");
    expect(idleRules.columnNames()).toEqual(["rule", "symbol", "arch", "under", "why"]);
    expect(new Set(idleRules.array("symbol")).size).toBe(idleRules.numRows());
    const waitOnly = excludeIdle(functions, { from, rules: idleRules.filter((d: any) => d.rule === "wait") });
    expect(waitOnly.objects().find((row: any) => row.comm === "swapper")).toMatchObject({ overhead: 4.66 });
    expect(excludeIdle(functions, { rules: [] }).objects()).toEqual(functions.objects());
    expect(excludeIdle(functions, { rules: [...idleRules.objects() as IdleRule[], { rule: "mine", symbol: "my_wait" }] }).numRows()).toBe(0);
    expect(idleAudit(functions, { rules: [{ rule: "mine", symbol: "cpu_do_idle" }] }).objects().filter((row: any) => row.rule === "mine").length).toBe(2);
  });

  it("says what does not fit", () => {
    const functions = talk("virtio/perf-kvm-report-idle"), commands = talk("virtio/perf-kvm-report-comm");
    expect(() => excludeIdle(commands)).toThrow(/needs the column symbol.*from/);
    expect(() => excludeIdle(functions, { from: talk("vhost/perf-kvm-report-comm") })).toThrow(/no row for comm = \[":1037"\].*one recording/);
    expect(() => excludeIdle(functions, { from: functions })).toThrow(/leave the option out/);
    expect(() => excludeIdle(functions.select("comm", "symbol", "overhead"), { from: commands })).toThrow(/lack sys, usr, guest_sys, guest_usr; print both/);
    expect(() => excludeIdle(functions, { from: commands.concat(commands) })).toThrow(/several rows for comm/);
    expect(() => excludeIdle(functions, { rules: [{ symbol: "x" } as IdleRule] })).toThrow(OptionError);
  });

  it("property: what goes and what stays are the whole, whatever the rules", () => {
    const functions = talk("virtio/perf-kvm-report"), symbols = functions.array("symbol") as string[];
    fc.assert(fc.property(fc.subarray(symbols), (chosen) => {
      const rules = chosen.map((symbol) => ({ rule: "some", symbol }));
      const kept = excludeIdle(functions, { rules }), gone = idleAudit(functions, { rules }).objects().filter((row: any) => row.verdict === "idle");
      expect(hundredths(kept) + gone.reduce((sum, row: any) => sum + Math.round(row.overhead * 100), 0)).toBe(hundredths(functions));
      expect(kept.numRows() + gone.reduce((sum, row: any) => sum + row.rows, 0)).toBe(functions.numRows());
    }));
  });
});

describe("folded stacks", () => {
  const excluded = (stack: string) => excludeIdle(fromFolded(`${stack} 1\n`)).numRows() === 0;

  it.each([
    // arm64 6.1, host; the same in the guest, merged under a prefix
    "swapper;secondary_start_kernel;cpu_startup_entry;do_idle;default_idle_call;arch_cpu_idle",
    "<guest>swapper;secondary_start_kernel;cpu_startup_entry;do_idle;default_idle_call;arch_cpu_idle",
    "swapper;cpu_startup_entry;do_idle;cpuidle_enter;cpuidle_enter_state;psci_enter_idle_state;psci_cpu_suspend_enter;__arm_smccc_smc",
    "swapper;cpu_startup_entry;do_idle;arch_local_irq_enable",
    "swapper;cpu_startup_entry;do_idle;tick_nohz_idle_exit",
    // x86 6.18 under KVM
    "swapper;start_kernel;rest_init;cpu_startup_entry;do_idle;cpuidle_enter;cpuidle_enter_state;default_enter_idle;default_idle;pv_native_safe_halt",
    "swapper;cpu_startup_entry_[k];do_idle_[k];cpuidle_enter_state_[k];intel_idle_ibrs.constprop.0_[k]",
  ])("idle: %s", (stack) => expect(excluded(stack)).toBe(true));

  it.each([
    // softirq on top of the idle loop: arm64 and x86
    "swapper;cpu_startup_entry;do_idle;default_idle_call;arch_cpu_idle;el1h_64_irq;irq_exit_rcu;handle_softirqs",
    "swapper;cpu_startup_entry;do_idle;cpuidle_enter_state;asm_sysvec_apic_timer_interrupt;__irq_exit_rcu;handle_softirqs;net_rx_action",
    // a helper called from elsewhere, the scheduler leaving idle, load balancing for idle CPUs
    "swapper;cpu_startup_entry;do_idle;schedule_idle;__schedule;arch_local_irq_enable",
    "swapper;cpu_startup_entry;do_idle;el1h_64_irq;ktime_get;sched_clock",
    "swapper;cpu_startup_entry;do_idle;nohz_run_idle_balance;_nohz_idle_balance.isra.0",
    "qemu-system-aar;el0_svc;kvm_vcpu_run;idle_cpu",
    "swapper", "cpu_do_idle", "swapper;[unknown]",
  ])("kept: %s", (stack) => expect(excluded(stack)).toBe(false));

  it("the audit shows what runs on top of the idle loop, and by how much", () => {
    const audit = idleAudit(fromFolded(
      "swapper;do_idle;arch_cpu_idle 70\nswapper;do_idle;arch_cpu_idle;el1h_64_irq;handle_softirqs 15\nswapper;do_idle;el1h_64_irq;gic_handle_irq 5\niperf3;read 10\n"));
    expect(audit.objects()).toMatchObject([
      { verdict: "idle", rule: "wait", comm: "swapper", symbol: "arch_cpu_idle", rows: 1, value: 70, overhead: 70 },
      { verdict: "kept", rule: null, comm: "swapper", symbol: "el1h_64_irq", rows: 2, value: 20, overhead: 20, why: "work on top of the idle loop: an interrupt, a softirq, the scheduler" },
    ]);
  });

  it("the audit's weights have the unit of the stacks", () => {
    const unit = (table: ColumnTable) => (describeColumns(idleAudit(table)).objects() as { column: string; unit: string }[]).find((row) => row.column === "value")!.unit;
    const profile = fromPerfScript(script.replaceAll("cycles:", "cpu-clock:"));
    expect(unit(fromFolded("swapper;do_idle 1\n"))).toBe("events");
    expect(unit(foldStacks(profile))).toBe("ns");
  });

  it("property: a partition; and no stack stays idle with work on top of it", () => {
    const frame = fc.constantFrom("do_idle", "arch_cpu_idle", "cpu_do_idle.constprop.0", "arch_local_irq_enable", "el1h_64_irq", "handle_softirqs", "schedule", "[unknown]", "a b");
    const stacks = fc.array(fc.tuple(fc.constantFrom("swapper", "<guest>swapper", "CPU 0/KVM"), fc.array(frame, { maxLength: 8 }), fc.integer({ min: 1, max: 1e9 })), { minLength: 1, maxLength: 30 });
    fc.assert(fc.property(stacks, (list) => {
      const table = fromFolded(list.map(([process, frames, value]) => `${[process, ...frames].join(";")} ${value}\n`).join(""));
      const kept = excludeIdle(table), audit = idleAudit(table).objects() as any[];
      const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
      const gone = audit.filter((row) => row.verdict === "idle");
      expect(sum(kept.array("value") as number[]) + sum(gone.map((row) => row.value))).toBe(sum(table.array("value") as number[]));
      expect(kept.numRows() + sum(gone.map((row) => row.rows))).toBe(table.numRows());
      const worked = fromFolded(list.map(([process, frames, value]) => `${[process, ...frames, "handle_softirqs"].join(";")} ${value}\n`).join(""));
      expect(excludeIdle(worked).numRows()).toBe(worked.numRows());
    }));
  });
});

// perf 6.1 script, arm64 host (data/capture/virtio): waiting; a softirq on top of it; a process, whose last sample no blank line closes.
const script = `swapper     0 [001]   688.683333:     797038   cycles: 
\tffff800008cda28c arch_cpu_idle+0x18 ([kernel.kallsyms])
\tffff800008ce9874 default_idle_call+0x50 ([kernel.kallsyms])
\tffff8000080f8cac do_idle+0x26c ([kernel.kallsyms])
\tffff8000080f8f60 cpu_startup_entry+0x3c ([kernel.kallsyms])
\tffff8000080274c8 secondary_start_kernel+0x128 ([kernel.kallsyms])
\tffff800008cfd3ac __secondary_switched+0xb0 ([kernel.kallsyms])

swapper     0 [002]   688.967304:   26957407   cycles: 
\tffff80000809d700 handle_softirqs+0xa0 ([kernel.kallsyms])
\tffff8000080102bc __softirqentry_text_start+0x1c ([kernel.kallsyms])
\tffff800008016968 ____do_softirq+0x18 ([kernel.kallsyms])
\tffff80000801670c call_on_irq_stack+0x30 ([kernel.kallsyms])
\tffff800008016998 do_softirq_own_stack+0x24 ([kernel.kallsyms])
\tffff80000809dad4 __irq_exit_rcu+0x104 ([kernel.kallsyms])
\tffff80000809dd08 irq_exit_rcu+0x18 ([kernel.kallsyms])
\tffff800008cd8168 el1_interrupt+0x38 ([kernel.kallsyms])
\tffff800008cd971c el1h_64_irq_handler+0x18 ([kernel.kallsyms])
\tffff8000080112e8 el1h_64_irq+0x64 ([kernel.kallsyms])
\tffff800008cda28c arch_cpu_idle+0x18 ([kernel.kallsyms])
\tffff800008ce9874 default_idle_call+0x50 ([kernel.kallsyms])
\tffff8000080f8cd8 do_idle+0x298 ([kernel.kallsyms])
\tffff8000080f8f60 cpu_startup_entry+0x3c ([kernel.kallsyms])
\tffff8000080274c8 secondary_start_kernel+0x128 ([kernel.kallsyms])
\tffff800008cfd3ac __secondary_switched+0xb0 ([kernel.kallsyms])

iperf3   207 [000]   697.435781:   11799915   cycles: 
\t           ddb88 read+0x28 (/usr/lib/aarch64-linux-gnu/libc.so.6)
\t           1f1e8 Nread+0x48 (/usr/lib/aarch64-linux-gnu/libiperf.so.0.0.0)
\t           1b0a8 iperf_tcp_recv+0x28 (/usr/lib/aarch64-linux-gnu/libiperf.so.0.0.0)
\t           106a8 iperf_recv+0x58 (/usr/lib/aarch64-linux-gnu/libiperf.so.0.0.0)
\t           1a6ec iperf_run_server+0x32c (/usr/lib/aarch64-linux-gnu/libiperf.so.0.0.0)
\t            115c [unknown] (/usr/bin/iperf3)
\t             ec4 [unknown] (/usr/bin/iperf3)
\t           27744 __libc_start_call_main+0x74 (/usr/lib/aarch64-linux-gnu/libc.so.6)
\t           27818 __libc_start_main@@GLIBC_2.34+0x98 (/usr/lib/aarch64-linux-gnu/libc.so.6)
\t             fb0 [unknown] (/usr/bin/iperf3)
`;

describe("profiles", () => {
  it("samples that end in idle go; events and arrays follow", () => {
    const profile = fromPerfScript(script), busy = excludeIdle(profile);
    expect(busy.samples.objects().map((row: any) => [row.comm, row.ts, row.period])).toEqual([["swapper", 688967304000, 26957407], ["iperf3", 697435781000, 11799915]]);
    expect(busy.raw.length).toBe(2);
    expect(busy.events.objects()).toEqual([{ event: "cycles", samples: 2, weight: 38757322 }]);
    expect([profile.raw.unclosed, busy.raw.unclosed]).toEqual([true, true]);
    expect(profile.samples.numRows()).toBe(3);
    expect(idleAudit(profile).objects()).toMatchObject([
      { event: "cycles", verdict: "idle", rule: "wait", comm: "swapper", symbol: "arch_cpu_idle", rows: 1, value: 797038 },
      { event: "cycles", verdict: "kept", comm: "swapper", symbol: "el1h_64_irq", rows: 1, value: 26957407 },
    ]);
  });

  it("keeps a user's function of an idle function's name", () => {
    expect(excludeIdle(fromPerfScript(script.replace("read+0x28", "do_idle+0x28"))).raw.length).toBe(2);
  });

  it("from is for reports", () => expect(() => excludeIdle(fromPerfScript(script), { from: talk("virtio/perf-kvm-report-comm") })).toThrow(OptionError));
});

describe.skipIf(!CAPTURE)("recordings (KERNEL_LIB_CAPTURE_DATA)", () => {
  it.each(["virtio", "vhost", "icount-virtio", "icount-vhost"])("%s: functions, commands and stacks agree with themselves", async (mode) => {
    const functions = await loadPerfReport(`${CAPTURE}/${mode}/perf-kvm-report.txt`, quiet), commands = await loadPerfReport(`${CAPTURE}/${mode}/perf-kvm-report-comm.txt`, quiet);
    const busy = excludeIdle(functions), left = excludeIdle(functions, { from: commands }), audit = idleAudit(functions).objects() as any[];
    const idle = audit.filter((row) => row.verdict === "idle");
    expect(hundredths(busy) + idle.reduce((sum, row) => sum + Math.round(row.overhead * 100), 0)).toBe(hundredths(functions));
    expect(hundredths(commands) - hundredths(left)).toBe(hundredths(functions) - hundredths(busy));
    expect(idle.some((row) => row.comm.startsWith(":"))).toBe(true);
    for (const side of ["host", "guest"]) {
      const profile = await loadPerfScript(`${CAPTURE}/${mode}/perf-script-${side}.txt.gz`, quiet);
      const kept = excludeIdle(profile);
      expect(foldStacks(kept).objects()).toEqual(excludeIdle(foldStacks(profile)).objects());
      expect(kept.raw.length).toBeLessThan(profile.raw.length);
      const rows = idleAudit(profile).objects() as any[];
      expect(rows.filter((row) => row.verdict === "idle").reduce((sum, row) => sum + row.rows, 0)).toBe(profile.raw.length - kept.raw.length);
    }
  });

  it("a guest's network work runs in softirqs on top of its idle task: leaving out swapper would lose it", async () => {
    const guest = await loadPerfScript(`${CAPTURE}/virtio/perf-script-guest.txt.gz`, quiet);
    const rows = idleAudit(guest).objects() as any[];
    expect(rows.find((row) => row.verdict === "kept" && row.symbol === "el1h_64_irq")).toMatchObject({ comm: "swapper", rows: 305 });
    expect(rows.find((row) => row.verdict === "idle" && row.symbol === "arch_cpu_idle")).toMatchObject({ rows: 103 });
  });
});
