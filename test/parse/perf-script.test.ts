import { readFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { accounting, describe as describeTable, foldStacks, fromPerfScript, loadPerfScript, ParseError, type Profile } from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, filesBelow, inChunks, PEER } from "../peer.js";

const talk = join(DATA, "talk", "perf-script-host.txt");

/** All of a profile, as plain values, to compare two. */
function whole(profile: Profile): unknown {
  return [profile.samples, profile.stacks, profile.frames, profile.events, profile.lost].map((table) => table.objects()).concat(profile.header as never);
}

/** Symbols of a sample's stack, leaf first, as the text has them. */
function stackOf({ raw }: Profile, sample: number): string[] {
  const symbols: string[] = [];
  for (let node = raw.stack[sample]; node > 0; node = raw.parent[node]) symbols.push(raw.symbol[raw.frame[node]]);
  return symbols;
}

// perf 6.1.192 on arm64, QEMU with debug-threads=on
const HOST = `CPU 0/KVM  3280 [000]  3313.142488:   11860574   cycles: 
\t          7fb168 flatview_write_continue+0xc8 (/usr/bin/qemu-system-aarch64)
\t          7fef1c address_space_rw+0x12c (/usr/bin/qemu-system-aarch64)
\t          88203c kvm_cpu_exec+0x42c (/usr/bin/qemu-system-aarch64)
\t          8830b8 kvm_vcpu_thread_fn+0xa8 (/usr/bin/qemu-system-aarch64)
\t          9b7e58 qemu_thread_start+0x98 (/usr/bin/qemu-system-aarch64)
\t           82030 start_thread+0x2e0 (/usr/lib/aarch64-linux-gnu/libc.so.6)
\t           ebf5c thread_start+0xc (/usr/lib/aarch64-linux-gnu/libc.so.6)

vhost-936   940 [000]   876.166602:    8958468   cycles: 
\tffff80000841fe50 eventfd_signal_mask+0xd0 ([kernel.kallsyms])
\tffff80000841fefc eventfd_signal+0x1c ([kernel.kallsyms])
\tffff800000f52324 vhost_add_used_and_signal_n+0x60 ([kernel.kallsyms])
\tffff800000f62ae8 vhost_tx_batch.constprop.0+0xc8 ([kernel.kallsyms])
\t               0 [unknown] ([unknown])

`;

describe("fromPerfScript", () => {
  it("reads the talk's two samples", () => {
    const profile = fromPerfScript(readFileSync(talk));
    expect(profile.samples.objects()).toEqual([
      { ts: 105761404072000, cpu: 5, pid: null, tid: 2822, comm: "qemu-system-aar", event: "cycles", period: 8063588, stack: 20, misc: null, vm: null, vcpu: null, payload: null },
      { ts: 105761407769000, cpu: 7, pid: null, tid: 2829, comm: "qemu-system-aar", event: "cycles", period: 2762147, stack: 29, misc: null, vm: null, vcpu: null, payload: null },
    ]);
    expect(stackOf(profile, 0).slice(0, 3)).toEqual(["get_page_from_freelist", "__alloc_pages_nodemask", "alloc_pages_current"]);
    expect(stackOf(profile, 0).slice(-3)).toEqual(["__libc_start_call_main", "__libc_start_main@@GLIBC_2.34", "_start"]);
    expect(stackOf(profile, 1)).toEqual(["clear_rseq_cs", "do_notify_resume", "work_pending", "__GI___ioctl", "kvm_cpu_exec", "kvm_vcpu_thread_fn", "qemu_thread_start", "start_thread", "thread_start"]);
    expect(profile.raw.kind[profile.raw.frame[20]]).toBe("kernel");
    expect(profile.frames.objects().find((frame: any) => frame.symbol === "kvm_cpu_exec")).toMatchObject({ dso: "/usr/bin/qemu-system-aarch64", kind: "user", addr: null });
    expect(accounting(profile)).toMatchObject({ lines: 33, rows: 2, continuation: 29, header: 2, notUnderstood: 0 });
  });

  it("takes comms with blanks and slashes whole, and stacks as a tree", () => {
    const profile = fromPerfScript(HOST);
    expect(profile.samples.select("ts", "cpu", "tid", "comm", "period").objects()).toEqual([
      { ts: 3313142488000, cpu: 0, tid: 3280, comm: "CPU 0/KVM", period: 11860574 },
      { ts: 876166602000, cpu: 0, tid: 940, comm: "vhost-936", period: 8958468 },
    ]);
    expect(profile.stacks.numRows()).toBe(1 + 7 + 5);
    expect(profile.stacks.objects({ limit: 2 })).toEqual([{ id: 0, parent: null, frame: null, depth: 0 }, { id: 1, parent: 0, frame: 6, depth: 1 }]);
    expect(profile.raw.depth[profile.raw.stack[0]]).toBe(7);
    expect(profile.frames.objects().at(-1)).toEqual({ id: 11, symbol: "[unknown]", dso: "[unknown]", kind: "unknown", addr: "0x0", srcline: null });
  });

  it("reads samples of one line: tracepoints with their payload (perf 6.1.192)", () => {
    const text = `     migration/0    15 [000]  2088.157661:           sched:sched_switch: prev_comm=migration/0 prev_pid=15 prev_prio=0 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120
 qemu-system-aar  2127 [002]  2174.213438:  kvm:vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 0
            :696   696 [001]   732.347817:  kvm:kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8
`;
    const profile = fromPerfScript(text);
    expect(profile.samples.select("ts", "cpu", "tid", "comm", "event", "payload", "stack").objects()).toEqual([
      { ts: 2088157661000, cpu: 0, tid: 15, comm: "migration/0", event: "sched:sched_switch", stack: 0, payload: "prev_comm=migration/0 prev_pid=15 prev_prio=0 prev_state=S ==> next_comm=swapper/0 next_pid=0 next_prio=120" },
      { ts: 2174213438000, cpu: 2, tid: 2127, comm: "qemu-system-aar", event: "kvm:vgic_update_irq_pending", stack: 0, payload: "VCPU: 0, IRQ 77, level: 0" },
      { ts: 732347817000, cpu: 1, tid: 696, comm: ":696", event: "kvm:kvm_exit", stack: 0, payload: "TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8" },
    ]);
    expect(profile.events.objects()).toEqual(["sched:sched_switch", "kvm:vgic_update_irq_pending", "kvm:kvm_exit"].map((event) => ({ event, samples: 1, weight: 1 })));
  });

  // As tools/perf/builtin-script.c prints them with -F +pid, +misc, --ns, +machine_pid, +vcpu, and without some fields.
  it.each([
    ["pid/tid, 9 decimals", "java 24636/25607   [003]  4794564.109216123:      10101 cycles:P: \n\n", { ts: 4794564109216123, cpu: 3, pid: 24636, tid: 25607, comm: "java", event: "cycles:P", period: 10101 }],
    ["misc letters", "qemu-system-aar  2822 [005] K      105761.404072:    8063588 cycles: \n\n", { tid: 2822, cpu: 5, misc: "K", comm: "qemu-system-aar" }],
    ["misc letters without cpu", "qemu-system-aar  2822 G     105761.404072:    8063588 cycles: \n\n", { tid: 2822, cpu: null, misc: "G" }],
    ["guest prefixes", "VM: 2467 VCPU:001 [guest/2467]  2467/2470  [001]  10.000001:  99 cycles:P: \n\n", { vm: 2467, vcpu: 1, comm: "[guest/2467]", pid: 2467, tid: 2470 }],
    ["a thread that perf does not know", ":-1    -1 [000]  10.000001:  99 cycles: \n\n", { comm: ":-1", tid: -1 }],
    ["a comm of blanks, colons and numbers", "tokio: rt 12 w  4711 [001]  10.000001:  99 cycles: \n\n", { comm: "tokio: rt 12 w", tid: 4711 }],
    ["hybrid CPUs", "cc1plus  4711 [001]  10.000001:  99 cpu_atom/cycles/Pu: \n\n", { event: "cpu_atom/cycles/Pu", period: 99 }],
    ["no period", "iperf 27409/28744 [000] 441995.133575: cpu-clock: \n\n", { period: null, event: "cpu-clock", pid: 27409 }],
    ["no time", "node-v011 31912 cpu-clock: \n\n", { ts: null, tid: 31912, comm: "node-v011", period: null }],
    ["no time, a CPU and a period", "node-v011 31912 [001]    250000 cpu-clock: \n\n", { ts: null, tid: 31912, cpu: 1, period: 250000 }],
    ["no comm", "31912 [001]  10.000001:    250000 cpu-clock: \n\n", { comm: null, tid: 31912, cpu: 1 }],
    ["no event", "dd  29776 666709.771979: \n\n", { event: null, comm: "dd", tid: 29776 }],
  ])("reads %s", (_, text, wanted) => {
    const profile = fromPerfScript(text);
    expect(profile.samples.objects()).toEqual([expect.objectContaining(wanted)]);
    expect(accounting(profile).notUnderstood).toBe(0);
  });

  // Frame lines as util/evsel_fprintf.c, JIT maps and kernels print them.
  it.each([
    ["c6d7895aac9 LazyCompile:~body_0 evalmachine.<anonymous>:1 (/tmp/perf-31912.map)", { symbol: "LazyCompile:~body_0 evalmachine.<anonymous>:1", dso: "/tmp/perf-31912.map", kind: "jit" }],
    ["53d165 regexp/syntax.(*parser).maybeConcat+0x235 (/usr/lib/go/bin/go)", { symbol: "regexp/syntax.(*parser).maybeConcat", dso: "/usr/lib/go/bin/go", kind: "user" }],
    ["7f1e2215d058 v8::internal::Invoke(bool, v8::internal::Handle<int>) const (/tmp/node-v011)", { symbol: "v8::internal::Invoke(bool, v8::internal::Handle<int>) const", dso: "/tmp/node-v011" }],
    ["401b97 main (inlined)", { symbol: "main", dso: null, kind: "inlined" }],
    ["7f00 poll+0x1 (/memfd:a b (deleted))", { symbol: "poll", dso: "/memfd:a b (deleted)", kind: "user" }],
    ["7f00 poll+0x1 (/usr/lib/libc.so.6+0x1b97)", { symbol: "poll", dso: "/usr/lib/libc.so.6" }],
    ["7d8 ipv4_conntrack_local+0x7f8f80b8 ([nf_conntrack_ipv4])", { symbol: "ipv4_conntrack_local", dso: "[nf_conntrack_ipv4]", kind: "kernel" }],
    ["3d6b4c vfs_read (/lib/modules/4.1.0-virtual/build/vmlinux)", { symbol: "vfs_read", kind: "kernel" }],
    ["ffff800008cda268 arch_cpu_idle+0x14 ([guest.kernel.kallsyms.2122])", { symbol: "arch_cpu_idle", dso: "[guest.kernel.kallsyms.2122]", kind: "guest" }],
    ["7ffd0 __vdso_clock_gettime+0x1 ([vdso])", { symbol: "__vdso_clock_gettime", kind: "user" }],
    ["7f259c0008f0 [unknown] (/opt/my app/bin (x)/tool)", { symbol: "[unknown]", dso: "/opt/my app/bin (x)/tool", addr: "0x7f259c0008f0" }],
    ["7f1e2215d058  (/lib/x86_64-linux-gnu/libc-2.15.so)", { symbol: "", dso: "/lib/x86_64-linux-gnu/libc-2.15.so", addr: "0x7f1e2215d058" }],
    ["c494db v8::internal::(anonymous namespace)::Invoke+0x12b", { symbol: "v8::internal::(anonymous namespace)::Invoke", dso: null }],
    ["401b97 main+0x1f", { symbol: "main", dso: null }],
    ["401b97", { symbol: "[unknown]", dso: null, addr: "0x401b97" }],
  ])("reads the frame %s", (line, wanted) => {
    for (const indent of ["\t", "\t           ", "            ", ""]) {
      const profile = fromPerfScript(`dd 29776 [000] 666709.771979:   10101010 cpu-clock: \n${indent}${line}\n\n`);
      expect(profile.frames.objects()).toEqual([expect.objectContaining(wanted)]);
      expect(accounting(profile)).toMatchObject({ rows: 1, continuation: 1, header: 1, notUnderstood: 0 });
    }
  });

  it("attaches the source lines of -F +srcline to their frames", () => {
    const profile = fromPerfScript("a 1 1.000001: 1 cycles: \n\t          401b97 add+0x1 (/bin/a)\n  add.c:12 (discriminator 3)\n\t          401b98 twice\n  add.c:30 (inlined)\n\t          401b99 main+0x2 (/bin/a)\n  ??:0\n\n");
    expect(profile.frames.objects().filter((frame: any) => frame.srcline !== null)).toEqual([
      expect.objectContaining({ symbol: "add", srcline: "add.c:12 (discriminator 3)", kind: "user" }),
      expect.objectContaining({ symbol: "twice", srcline: "add.c:30", kind: "inlined" }),
      expect.objectContaining({ symbol: "main", srcline: "??:0" }),
    ]);
    expect(stackOf(profile, 0)).toEqual(["add", "twice", "main"]);
    expect(accounting(profile)).toMatchObject({ rows: 1, continuation: 6, notUnderstood: 0 });
  });

  it("keeps a sample whose closing blank line is missing, and samples that follow each other without one", () => {
    const profile = fromPerfScript(HOST.trimEnd().replace("\n\n", "\n"));
    expect(profile.samples.numRows()).toBe(2);
    expect(stackOf(profile, 1)).toHaveLength(5);
    expect(profile.raw.unclosed).toBe(true);
    expect(fromPerfScript(HOST).raw.unclosed).toBe(false);
  });

  it("lists lost events and knows side records and messages", () => {
    const text = `[ perf record: Woken up 9 times to write data ]
Warning:
Processed 60 events and lost 2 chunks!

swapper     0 [001]   688.679416: PERF_RECORD_LOST lost 123
perf     802 [000]   688.679417: PERF_RECORD_COMM exec: perf:802/802
${HOST.trimEnd()}
  [kvm:kvm_sys_access] bad op token :
  bad op token {
`;
    const profile = fromPerfScript(text);
    expect(profile.lost.objects()).toEqual([{ ts: 688679416000, cpu: 1, lost: 123 }]);
    expect(accounting(profile)).toMatchObject({ rows: 3, continuation: 12, header: 8, notUnderstood: 0 });
  });

  it("counts what it does not understand, with line number and text", () => {
    const profile = fromPerfScript(HOST.replace("\n\n", "\n\tTHIS_IS_A_WEIRD_LINE\n\n\tffff80000841fe50 orphan+0x1 ([kernel.kallsyms])\n"));
    expect(accounting(profile).unknown).toEqual([
      { line: 9, text: "\tTHIS_IS_A_WEIRD_LINE" },
      { line: 11, text: "\tffff80000841fe50 orphan+0x1 ([kernel.kallsyms])" },
    ]);
    expect(profile.samples.numRows()).toBe(2);
  });

  it("gives an empty profile for no text, and an error for another format's", () => {
    const profile = fromPerfScript("");
    expect([profile.samples.numRows(), profile.stacks.numRows(), profile.events.numRows()]).toEqual([0, 1, 0]);
    expect(foldStacks(profile).numRows()).toBe(0);
    // trace-cmd report, kernel's trace file
    expect(() => fromPerfScript("       trace-cmd-2570    [000] d.h..  2688.778895: sched_stat_runtime: comm=trace-cmd pid=2570\n")).toThrow(ParseError);
    expect(() => fromPerfScript("     qemu-system-aar-2127  [002]  2174.213438: kvm_exit: TRAP: HSR_EC: 0x0024\n")).toThrow(/not perf-script output/);
  });

  it("describes every column", () => {
    const profile = fromPerfScript(HOST);
    for (const table of [profile.samples, profile.stacks, profile.frames, profile.events, profile.lost]) {
      for (const row of describeTable(table).objects() as any[]) expect(row.meaning.length).toBeGreaterThan(5);
    }
  });

  it.each([1, 7, 4096])("gives the same from chunks of %i bytes", async (n) => {
    for (const bytes of [readFileSync(talk), Buffer.from(HOST)]) {
      const profile = await loadPerfScript(inChunks(bytes, n), { quiet: true });
      expectExact(profile, bytes);
      expect(whole(profile)).toEqual(whole(fromPerfScript(bytes)));
    }
  });

  it("accounts for every line of damaged text", () => {
    expectExactWhenMutated(fromPerfScript, readFileSync(talk));
    expectExactWhenMutated(fromPerfScript, Buffer.from(HOST));
  });
});

/** Number of samples and sum of periods, counted apart from the parser: by a pattern for the first lines of these files alone. */
function countByPattern(text: string): { samples: number; weight: number } {
  let samples = 0, weight = 0;
  for (const line of text.split("\n")) {
    const found = /^\s*\S.*? +-?\d+(?:\/\d+)? +(?:\[\d+\] +)?(?:\d+\.\d{6}: +)?(?:(\d+) +)?[\w:-]+:(?: .*)?$/.exec(line);
    if (!found || /^\s+[0-9a-f]+ \S.*\)$/.test(line) && !/\d\.\d{6}: /.test(line)) continue;
    samples++;
    weight += Number(found[1] ?? 1);
  }
  return { samples, weight };
}

function expectCounted(path: string): Profile {
  const bytes = path.endsWith(".gz") ? gunzipSync(readFileSync(path)) : readFileSync(path);
  const profile = fromPerfScript(bytes);
  expectExact(profile, bytes);
  const { samples, weight } = countByPattern(bytes.toString("latin1"));
  expect(profile.samples.numRows()).toBe(samples);
  expect(accounting(profile).rows).toBe(samples);
  expect((profile.events.array("weight") as number[]).reduce((a, b) => a + b, 0)).toBe(weight);
  return profile;
}

describe.skipIf(!CAPTURE)("perf script of the larger set (KERNEL_LIB_CAPTURE_DATA)", () => {
  const files = CAPTURE ? filesBelow(CAPTURE, /perf-script[^/]*\.txt(\.gz)?$|\.script\.txt(\.gz)?$/) : [];
  it("is there", () => expect(files.length).toBeGreaterThan(10));
  it.each(files.map((path) => relative(CAPTURE!, path)))("%s: every line understood, samples and weights as counted apart", (path) => {
    expect(accounting(expectCounted(join(CAPTURE!, path))).unknown).toEqual([]);
  });
  it("reads one file the same in chunks, and accounts for it damaged", async () => {
    const path = files.find((path) => /icount-vhost.*guest/.test(path))!;
    const bytes = gunzipSync(readFileSync(path));
    for (const n of [97, 65536]) expect(whole(await loadPerfScript(inChunks(bytes, n), { quiet: true }))).toEqual(whole(fromPerfScript(bytes)));
    expectExactWhenMutated(fromPerfScript, bytes.subarray(0, 60_000));
  });
});

describe.skipIf(!PEER)("perf script texts of other projects (KERNEL_LIB_PEER_DATA)", () => {
  const files = PEER ? filesBelow(join(PEER, "perf-script"), /\.txt$/) : [];
  it.each(files.map((path) => basename(path)))("%s: every line accounted for, samples and weights as counted apart", (name) => {
    const profile = expectCounted(join(PEER!, "perf-script", name));
    // the two files that inferno made to be odd
    const odd = { "inferno-weird-stack-line.txt": 1, "inferno-empty-line.txt": 1 }[name] ?? 0;
    expect(accounting(profile).notUnderstood).toBe(odd);
  });
  it("keeps the header block", () => {
    const profile = fromPerfScript(readFileSync(join(PEER!, "perf-script", "speedscope-with-header.txt")));
    expect(profile.header).toMatchObject({ hostname: "e2b5bab9a538", arch: "x86_64", "perf version": "4.15.18" });
  });
  it("reads the two inferno samples that stand on one line with their stack", () => {
    const profile = fromPerfScript(readFileSync(join(PEER!, "perf-script", "inferno-single-line-stacks.txt")));
    expect([stackOf(profile, 0), stackOf(profile, 1)]).toEqual([["[unknown]"], ["_dl_start"]]);
    expect(profile.samples.array("comm")).toEqual(["false", "false"]);
  });
});
