import { readFileSync } from "node:fs";
import { basename, relative } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { unpack } from "../../kernel-lib/source/unpack.js";
import { CAPTURE, DATA, filesBelow, PEER } from "../peer.js";

/** What a recording's name says it is; null: none of our formats; undefined: the name does not say. */
function named(path: string): kl.FormatName | null | undefined {
  const name = basename(path).replace(/\.(gz|zst)$/, "");
  if (!/\.(txt|json|csv|folded)$/.test(name)) return undefined;
  if (/^(commands|environment|versions)\.txt$/.test(name)) return null;
  if (/\.(dump|stat|events)\.txt$|^trace-cmd-stat\.txt$|^ping|^perf-(probe|data-header)/.test(name)) return null;
  if (/record/.test(name)) return undefined; // a tool's messages around another's output
  if (/iperf3/.test(name)) return "iperf3";
  if (/^perf-stat/.test(name)) return "perf-stat";
  if (/^perf-kvm-stat\.script/.test(name)) return "perf-script";
  if (/^perf-kvm-stat/.test(name)) return "perf-kvm-stat";
  if (/^perf-(kvm-)?report(?!-after)/.test(name)) return "perf-report";
  if (/^perf-script/.test(name)) return "perf-script";
  if (/^virtiostat/.test(name)) return "virtiostat";
  if (/^(trace-cmd|ftrace-trace)/.test(name) && !/hist/.test(name)) return "trace-cmd";
  if (/\.folded$/.test(name)) return "folded";
  return undefined;
}

const load = (path: string) => unpack(readFileSync(path), path);
const isEmpty = (bytes: Uint8Array) => bytes.length === 0;

function check(path: string): void {
  const bytes = load(path);
  expect(kl.detectFormat(bytes)).toBe(isEmpty(bytes) ? null : named(path));
}

describe("detectFormat", () => {
  const own = filesBelow(DATA, /./).filter((path) => named(path) !== undefined);
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => check(`${DATA}/${path}`));

  it("tells one line of each", () => {
    const lines: [kl.FormatName, string][] = [
      ["iperf3", "[  5]   0.00-1.00   sec   175 MBytes  1.47 Gbits/sec    0   1.53 MBytes"],
      ["iperf3", '{"event":"interval","data":{"streams":[],"sum":{"start":0,"end":1,"bits_per_second":1}}}'],
      ["perf-stat", "3656    kvm:vgic_update_irq_pending"],
      ["perf-stat", "CPU0;251.61;msec;task-clock;251614819;100.00;0.999;CPUs utilized"],
      ["perf-kvm-stat", "                 IRQ        856     7.50%    25.25%     11.16us   2793.49us    533.31us ( +-   3.70% )"],
      ["perf-report", "    30.72%    30.72%     0.00%      0.00%      0.00%  swapper"],
      ["perf-script", "qemu-system-aar  2822 [005] 105761.404072:    8063588 cycles: "],
      ["trace-cmd", "       trace-cmd-2461  [000]    34.896920: sched_stat_runtime:   comm=trace-cmd pid=2461 runtime=7778999 [ns]"],
      ["trace-cmd", "          chrome-2804  [003] d..3  1136.097350: sched_switch: prev_comm=chrome prev_pid=2804"],
      ["virtiostat", "b'virtio_net' b'virtio0' b'input.0'   8161      0      12733952           0"],
      ["kvmexit", "^C1273551  1273568  EXIT_REASON_HLT                     12"],
      ["folded", "qemu-system-aar;start_thread;kvm_vcpu_thread_fn;[unknown] 2762147"],
    ];
    for (const [format, line] of lines) expect([line, kl.detectFormat(line)]).toEqual([line, format]);
  });

  it("says null to text of another kind", () => {
    for (const text of ["", "\n\n", "hello world\nthis is a letter, of 3 lines\n", "a,b,c\n1,2,3\n", "{}\n", '{"name": "x", "version": "1.0.0"}\n', "\0\x01\x02\xff\n"]) expect(kl.detectFormat(text)).toBeNull();
    expect(kl.detectFormat(new Uint8Array([0xff, 0xfe, 0, 1, 2]))).toBeNull();
  });

  it("helps where the wrong parser is asked", () => {
    const folded = "a;b 1\na;c 2\n", report = readFileSync(`${DATA}/talk/virtio/perf-kvm-stat.txt`, "utf8");
    expect(() => kl.fromPerfStat(folded)).toThrow(/this is not perf-stat output: no line of 2 could be read; it looks like folded output/);
    expect(() => kl.fromIperf3(report.replace(/^\s*\n/gm, ""))).toThrow(/it looks like perf-kvm-stat output/);
  });
});

describe("needFormat", () => {
  it("names the formats and the first line where it knows none", () => {
    expect(kl.needFormat("a;b 1\n")).toBe("folded");
    expect(() => kl.needFormat("\nhello world\n", "x.txt")).toThrow(/x\.txt:2: this looks like none of the formats iperf3, perf-stat.*\n.*hello world/);
    expect(() => kl.needFormat(" \n", "x.txt")).toThrow(/there is no text here/);
  });
});

describe.skipIf(!CAPTURE)("detectFormat on every text of the larger set (KERNEL_LIB_CAPTURE_DATA)", () => {
  const all = CAPTURE ? filesBelow(CAPTURE, /./).filter((path) => named(path) !== undefined && basename(path) !== "kvmexit.txt") : [];
  it.each(all.map((path) => relative(CAPTURE!, path)))("%s", (path) => check(`${CAPTURE}/${path}`));
});

describe.skipIf(!PEER)("detectFormat on other projects' texts (KERNEL_LIB_PEER_DATA)", () => {
  const expected = (path: string): kl.FormatName | null => (/\.folded$/.test(path) ? "folded" : /perf-script/.test(path) ? "perf-script" : /kvmexit/.test(path) ? "kvmexit" : /virtiostat/.test(path) ? "virtiostat" : "trace-cmd");
  const all = PEER ? filesBelow(PEER, /\.(txt|folded)$/) : [];
  it.each(all.map((path) => relative(PEER!, path)))("%s", (path) => {
    const bytes = load(`${PEER}/${path}`);
    expect(kl.detectFormat(bytes)).toBe(isEmpty(bytes) ? null : expected(path));
  });
});
