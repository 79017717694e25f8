import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { describe as describeTable, foldStacks, fromPerfScript, OptionError, toFolded } from "kernel-lib";
import { DATA, filesBelow, PEER } from "../peer.js";

const talk = fromPerfScript(readFileSync(join(DATA, "talk", "perf-script-host.txt")));
const QEMU = "_start;__libc_start_main@@GLIBC_2.34;__libc_start_call_main;main;qemu_main_loop;main_loop_wait;ppoll;el0_sync;el0_sync_handler;el0_svc;do_el0_svc;el0_svc_common.constprop.0;__arm64_sys_ppoll;do_sys_poll;eventfd_poll;__pollwait;__get_free_pages;alloc_pages_current;__alloc_pages_nodemask;get_page_from_freelist";
const VCPU = "thread_start;start_thread;qemu_thread_start;kvm_vcpu_thread_fn;kvm_cpu_exec;__GI___ioctl;work_pending;do_notify_resume;clear_rseq_cs";

const sample = (comm: string, frames: string[], head = "1 [000] 1.000001: 1 cycles:") => `${comm} ${head} \n${frames.map((frame) => `\t${frame}\n`).join("")}\n`;
const fold = (text: string, options = {}) => toFolded(foldStacks(fromPerfScript(text), options));

describe("foldStacks", () => {
  it("folds the talk's samples as stackcollapse-perf.pl does", () => {
    expect(toFolded(foldStacks(talk))).toBe(`qemu-system-aar;${QEMU} 8063588\nqemu-system-aar;${VCPU} 2762147\n`);
    const kernel = (frames: string, from: string) => frames.split(";").map((frame, i, all) => (i >= all.indexOf(from) ? `${frame}_[k]` : frame)).join(";");
    expect(toFolded(foldStacks(talk, { tid: true, kernel: true }))).toBe(
      `qemu-system-aar-?/2822;${kernel(QEMU, "el0_sync")} 8063588\nqemu-system-aar-?/2829;${kernel(VCPU, "work_pending")} 2762147\n`);
  });

  it("counts samples where these are asked for", () => {
    const text = sample("a", ["1 f (/b)"], "1 1.000001: 250000 cpu-clock:") + sample("a", ["1 f (/b)"], "1 1.000002: 250000 cpu-clock:");
    expect(foldStacks(fromPerfScript(text)).array("value")).toEqual([500000]);
    const counted = foldStacks(fromPerfScript(text), { weight: "samples" });
    expect(counted.array("value")).toEqual([2]);
    expect(describeTable(counted).objects()).toMatchObject([{}, { unit: "samples", meaning: "Number of samples of cpu-clock." }]);
    expect(() => foldStacks(talk, { weight: "time" as any })).toThrow(/weight is "period" or "samples"; this is "time"/);
  });
  it("names the event and its unit", () => {
    expect(describeTable(foldStacks(talk)).objects()).toMatchObject([{ column: "stack" }, { column: "value", unit: "cycles", meaning: expect.stringContaining("cycles") }]);
    expect(describeTable(foldStacks(fromPerfScript(sample("a", ["1 f (/b)"], "1 1.000001: 250000 cpu-clock:")))).objects()).toMatchObject([{}, { unit: "ns" }]);
    expect(describeTable(foldStacks(fromPerfScript(sample("a", ["1 f (/b)"], "1 1.000001: cycles:")))).objects()).toMatchObject([{}, { unit: "samples", meaning: "Number of samples of cycles." }]);
  });

  const two = sample("a", ["1 f (/b)"], "1 1.000001: 10 instructions:") + sample("a", ["1 f (/b)"], "1 1.000002: 3 cycles:u:") + sample("a", ["1 f (/b)"], "1 1.000003: 4 cycles:k:");
  it("takes the first event alone, and others by name, with or without modifiers", () => {
    expect(fold(two)).toBe("a;f 10\n");
    expect(fold(two, { event: "cycles" })).toBe("a;f 7\n");
    expect(fold(two, { event: "cycles:k" })).toBe("a;f 4\n");
    expect(fold(two, { event: "*" })).toBe("a;f 17\n");
    expect(describeTable(foldStacks(fromPerfScript(two))).objects()).toMatchObject([{}, { meaning: expect.stringContaining("this recording has instructions, cycles:u, cycles:k") }]);
    expect(() => fold(two, { event: "page-faults" })).toThrow(OptionError);
    expect(() => fold(two, { event: "page-faults" })).toThrow(/it has instructions, cycles:u, cycles:k/);
  });

  it("takes the samples that keep asks for", () => {
    const profile = fromPerfScript(two);
    expect(toFolded(foldStacks(profile, { event: "*", keep: (row) => profile.raw.period[row] < 10 }))).toBe("a;f 7\n");
  });

  it("keeps samples without stack, of one line, and last without closing blank line", () => {
    const text = " perf  2048 [000]  2088.157389:  sched:sched_waking: comm=migration/0 pid=15\n" + " false 39654 19115.489719:  1 sched:sched_waking:      7fa68b1f2d84 _dl_start+0x4 (/usr/lib/ld-2.31.so)\n"
      + sample("a", ["1 f (/b)"], "1 1.000001: sched:sched_waking: comm=x").trimEnd();
    expect(fold(text)).toBe("a;f 1\nfalse;_dl_start 1\nperf 1\n");
    expect(fold(text, { unclosed: false })).toBe("false;_dl_start 1\nperf 1\n");
  });

  it("puts _ for blanks in names, tidies functions and splits inlined ones, as FlameGraph does", () => {
    const text = sample("CPU 0/KVM", ["1 a->b->c (/tmp/perf-7.map)", "2 net/http.(*Client).Do+0x1 (/go)", "3 RegExp:[&<>\\\"\\'] (/tmp/perf-7539.map)", "4 operator()(int) const (/b)", "5 f;g(anonymous namespace)::h(int) (/b)", "6 (CPU 0/KVM) (/b)", "7 [unknown] (/usr/bin/qemu (deleted))", "8 [unknown] ([unknown])"]);
    expect(fold(text)).toBe("CPU_0/KVM;[unknown];[qemu];f:g(anonymous namespace)::h;operator;RegExp:[&<>\\\\];net/http.(*Client).Do;a;b_[i];c_[i] 1\n");
    expect(fold(text, { addrs: true, jit: true })).toBe("CPU_0/KVM;[unknown <8>];[qemu <7>];f:g(anonymous namespace)::h;operator;RegExp:[&<>\\\\]_[j];net/http.(*Client).Do;a_[j];b_[i];c_[i] 1\n");
    expect(fold(sample("java", ["1 Lorg/mozilla/Foo;.call(Ljava/lang/Object;)V (/tmp/perf-7.map)"]))).toBe("java;org/mozilla/Foo:.call 1\n");
    expect(fold(sample("other", ["1 Lorg/mozilla/Foo;.call (/tmp/perf-7.map)"]))).toBe("other;Lorg/mozilla/Foo:.call 1\n");
  });

  it("gives texts that are equal once, in byte order, whatever their characters", () => {
    const word = fc.array(fc.constantFrom("a", "b", ".", "-", "0", "_", "<", ":", "é", "\uff5e", "\u{1f600}"), { minLength: 1, maxLength: 3 }).map((letters) => `x${letters.join("")}`);
    const comm = fc.tuple(word, word, fc.boolean()).map(([a, b, both]) => (both ? `${a};${b}` : a));
    fc.assert(fc.property(fc.array(fc.tuple(comm, fc.array(word, { maxLength: 4 })), { minLength: 1, maxLength: 30 }), (stacks) => {
      const expected = new Map<string, number>();
      for (const [comm, frames] of stacks) {
        const text = [comm, ...frames].join(";");
        expected.set(text, (expected.get(text) ?? 0) + 1);
      }
      const lines = [...expected].map(([text, n]) => Buffer.from(`${text}\0${n}`)).sort(Buffer.compare).map((bytes) => `${bytes.toString().replace("\0", " ")}\n`);
      expect(fold(stacks.map(([comm, frames]) => sample(comm, [...frames].reverse().map((frame) => `1 ${frame} (/b)`))).join(""))).toBe(lines.join(""));
    }), { numRuns: 300, seed: 20240601 });
  });

  it("sorts by bytes", () => {
    const names = ["z", "é", "a", "\u{1f600}", "\uff5e", "B"];
    const stacks = names.map((name) => sample(name, ["1 f (/b)"])).join("");
    expect(foldStacks(fromPerfScript(stacks)).array("stack")).toEqual(["B;f", "a;f", "z;f", "é;f", "\uff5e;f", "\u{1f600};f"]);
  });
});

describe.skipIf(!PEER)("foldStacks against FlameGraph and inferno (KERNEL_LIB_PEER_DATA)", () => {
  const folder = join(PEER ?? "", "perf-script");
  const files = PEER ? filesBelow(folder, /\.folded$/).map((path) => basename(path)) : [];
  it("has their results", () => expect(files.length).toBe(52));

  it.each(files)("gives %s to the byte", (name) => {
    const [, input, option] = /^(.*?)(?:\.(pid|tid|kernel|jit|all|addrs))?\.folded$/.exec(name)!;
    const profile = fromPerfScript(readFileSync(join(folder, `${input}.txt`)));
    const wanted = readFileSync(join(folder, name), "utf8");
    const options = option ? { [option]: true } : {};
    // Three of FlameGraph's inputs end without a blank line, and its results lack their last samples. inferno keeps such a sample.
    if (input.startsWith("inferno-")) expect(toFolded(foldStacks(profile, options))).toBe(wanted);
    else expect(toFolded(foldStacks(profile, { ...options, unclosed: false }))).toBe(wanted);
  });

  it("has one sample more than FlameGraph where the last is not closed", () => {
    const last = Object.fromEntries(["dd", "iperf", "numa", "funcab", "js", "java"].map((part) => {
      const name = files.find((name) => name.includes(part) && !/\.\w+\.folded/.test(name))!.replace(".folded", ".txt");
      const profile = fromPerfScript(readFileSync(join(folder, name)));
      const sum = (unclosed: boolean) => (foldStacks(profile, { unclosed }).array("value") as number[]).reduce((a, b) => a + b, 0);
      return [part, sum(true) - sum(false)];
    }));
    expect(last).toEqual({ dd: 10101010, iperf: 1, numa: 1, funcab: 0, js: 0, java: 0 });
  });
});
