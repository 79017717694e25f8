import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { accounting, foldStacks, loadPerfScript, OptionError, ParseError, toFolded, type Profile } from "kernel-lib";
import { DATA, filesBelow, PEER } from "../peer.js";

let folder = "";
beforeAll(() => { folder = mkdtempSync(join(tmpdir(), "kernel-lib-parts-")); });
afterAll(() => { rmSync(folder, { recursive: true }); });

function fileOf(bytes: string | Uint8Array, name = "perf-script.txt"): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

/** All that a profile holds, and how its lines were spent. */
function whole(profile: Profile): unknown {
  const { samples, stacks, frames, events, lost, header, raw } = profile;
  return { tables: [samples, stacks, frames, events, lost].map((table) => table.objects()), header, comms: raw.comm.values, unclosed: raw.unclosed, count: accounting(profile) };
}

async function expectSame(path: string, ...threads: number[]): Promise<Profile> {
  const one = await loadPerfScript(path, { quiet: true });
  for (const workers of threads) expect(whole(await loadPerfScript(path, { quiet: true, workers }))).toEqual(whole(one));
  return one;
}

describe("loadPerfScript with workers", () => {
  it("of a real recording gives what one thread gives, to the last number", async () => {
    const path = fileOf(gunzipSync(readFileSync(join(DATA, "capture", "debugthreads", "perf-script-host.txt.gz"))));
    const one = await expectSame(path, 2, 5);
    const two = await loadPerfScript(path, { quiet: true, workers: 2 });
    expect(toFolded(foldStacks(two, { tid: true, kernel: true }))).toBe(toFolded(foldStacks(one, { tid: true, kernel: true })));
  });

  // perf 6.1.192 on arm64
  const SAMPLES = [
    "vhost-936   940 [000]   876.166602:    8958468   cycles: \n\tffff80000841fe50 eventfd_signal_mask+0xd0 ([kernel.kallsyms])\n\t               0 [unknown] ([unknown])\n\n",
    "CPU 0/KVM  3280 [000] K  3313.142488:   11860574   cycles: \n\t          82030 start_thread+0x2e0 (/usr/lib/aarch64-linux-gnu/libc.so.6)\n\n",
    "VM: 2467 VCPU:001 [guest/2467]  2467/2470  [001]  3313.200001:  99 cycles:P: \n\tffff800008cda268 arch_cpu_idle+0x14 ([guest.kernel.kallsyms.2122])\n\n",
    "     migration/0    15 [000]  3314.157661:           sched:sched_switch: prev_comm=migration/0 prev_pid=15 ==> next_comm=swapper/0\n\n",
    "swapper     0 [001]   3315.679416: PERF_RECORD_LOST lost 123\n\n",
    "?? nothing of perf's\n\n",
  ];

  it.each([["\n"], ["\r\n"]])("of all kinds of lines, each in a part of its own, lines ended by %j", async (end) => {
    const text = `# ========\n# hostname : a\n# cmdline : perf record\n#\n${SAMPLES.join("")}# hostname : b\n\n${[...SAMPLES].reverse().join("")}${SAMPLES[0].trimEnd()}`;
    const one = await expectSame(fileOf(text.replaceAll("\n", end)), 2, 12);
    expect(one.samples.numRows()).toBe(9);
    expect(one.lost.numRows()).toBe(2);
    expect(one.raw.unclosed).toBe(true);
    expect(accounting(one).unknown.map(({ line }) => line)).toEqual([19, 23]);
  });

  it("of what cannot be cut, one thread reads all: packed, without blank lines, empty", async () => {
    await expectSame(fileOf(gzipSync(SAMPLES.join("")), "packed.gz"), 2);
    await expectSame(fileOf(SAMPLES[3].trimEnd().concat("\n").repeat(50)), 2);
    await expectSame(fileOf(""), 2);
  });

  it("fails as one thread does, and on a number that is none", async () => {
    await expect(loadPerfScript(fileOf("a;b 1\n\nc;d 2\n\n"), { quiet: true, workers: 2 })).rejects.toThrow(/:1: this is not perf-script output: no line of 4 could be read/);
    await expect(loadPerfScript(fileOf("a;b 1\n\nc;d 2\n\n"), { quiet: true, workers: 2 })).rejects.toThrow(ParseError);
    for (const workers of [0, 1.5, NaN, 65]) await expect(loadPerfScript(fileOf(""), { workers })).rejects.toThrow(OptionError);
    await expect(loadPerfScript(join(folder, "nowhere.txt"), { workers: 2 })).rejects.toThrow(/ENOENT/);
    await expect(loadPerfScript(folder, { workers: 2 })).rejects.toThrow(/this is a folder/);
  });
});

describe.skipIf(!PEER)("loadPerfScript with workers, texts of other projects (KERNEL_LIB_PEER_DATA)", () => {
  const files = PEER ? filesBelow(join(PEER, "perf-script"), /\.txt$/) : [];
  it.each(files.map((path) => basename(path)))("%s", async (name) => {
    await expectSame(join(PEER!, "perf-script", name), 3);
  });
});
