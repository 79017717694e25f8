import { appendFileSync, chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { setProgressSink } from "../../kernel-lib/source/progress.js";
import { openImage, writeImage } from "../../kernel-lib/store/image.js";
import { DATA } from "../peer.js";
import { expectSame, expectSameTrace } from "./tables.js";

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-cache-"));
afterAll(() => rmSync(folder, { recursive: true }));
const SUFFIX = ".kernel-lib-cache";
let number = 0;

/** A copy of a recording, or a text, in a folder of its own. */
function recording(from: string): string {
  const place = join(folder, `r${number++}`);
  mkdirSync(place);
  if (from.includes("\n")) {
    writeFileSync(join(place, "trace.txt"), from);
    return join(place, "trace.txt");
  }
  const path = join(place, basename(from));
  copyFileSync(join(DATA, from), path);
  return path;
}

/** What a load gave, and whether it came from the cache. */
async function load<T>(read: () => Promise<T>): Promise<{ result: T; cached: boolean }> {
  const lines: string[] = [];
  const before = setProgressSink({ show() {}, end(_, line) { if (line !== null) lines.push(line); } });
  try {
    const result = await read();
    return { result, cached: lines.some((line) => /from its cache$/.test(line)) };
  } finally {
    setProgressSink(before);
  }
}
const loadTrace = (path: string, cache: boolean | "hash" = true) => load(() => kl.loadTraceCmd(path, { cache }));
const text = (n: number) => `cpus=1\n a-1     [000]     1.00000${n}: my_event: n=${n}\n a-1     [000]     2.000000: sched_wakeup: b:2 [120] CPU:000\nCPU:0 [3 EVENTS DROPPED]\nwhat is this\n`;

async function expectServes(path: string, cached: boolean, cache: boolean | "hash" = true): Promise<void> {
  const now = await loadTrace(path, cache);
  expect(now.cached).toBe(cached);
  expectSameTrace(now.result, await kl.loadTraceCmd(path, { quiet: true }));
}

describe("the second load gives what the first gave", () => {
  it.each(["capture/icount-vhost/trace-cmd.nsec.txt.gz", "capture/icount-agent-virtio/trace-cmd-merged.txt.zst", "capture/virtio/trace-cmd-lost.txt.gz", "capture/virtio/ftrace-trace.txt.gz", "capture/vhost/trace-cmd-small.noplugins.txt.gz"])("%s", async (name) => {
    const path = recording(name);
    const plain = await kl.loadTraceCmd(path, { quiet: true });
    expect(existsSync(path + SUFFIX)).toBe(false); // opt-in
    const first = await loadTrace(path), second = await loadTrace(path);
    expect([first.cached, second.cached]).toEqual([false, true]);
    expectSameTrace(first.result, plain);
    expectSameTrace(second.result, plain);
    if (/icount-vhost/.test(name)) {
      expectSame(kl.kvmExits(second.result), kl.kvmExits(plain));
      expectSame(kl.virtioKicks(second.result), kl.virtioKicks(plain));
    }
  });

  it("of perf script, with every table and array", async () => {
    const path = recording("capture/virtio/perf-script-host.txt.gz");
    const first = await load(() => kl.loadPerfScript(path, { cache: true })), second = await load(() => kl.loadPerfScript(path, { cache: true }));
    expect([first.cached, second.cached]).toEqual([false, true]);
    const tables = ["samples", "stacks", "frames", "events", "lost"] as const;
    for (const name of tables) expectSame(second.result[name], first.result[name]);
    expect(second.result.header).toEqual(first.result.header);
    expect(Object.keys(second.result.raw)).toEqual(Object.keys(first.result.raw));
    expect(second.result.raw.stack).toEqual(first.result.raw.stack);
    expectSame(kl.foldStacks(second.result), kl.foldStacks(first.result));
    expect(kl.toFolded(kl.foldStacks(second.result))).toBe(kl.toFolded(kl.foldStacks(first.result)));
    expect(kl.accounting(second.result)).toEqual(kl.accounting(first.result));
  });

  it("of a folder, whose overview tells of recordings alone", async () => {
    const dir = join(folder, "run");
    mkdirSync(dir);
    for (const name of ["trace-cmd.nsec.txt.gz", "iperf3.json", "perf-script-host.txt.gz"]) if (existsSync(join(DATA, "capture/icount-virtio", name))) copyFileSync(join(DATA, "capture/icount-virtio", name), join(dir, name));
    const first = await kl.loadRun(dir, { cache: true });
    expect(readdirSync(dir)).toContain(`trace-cmd.nsec.txt.gz${SUFFIX}`);
    const second = await kl.loadRun(dir, { cache: true });
    expect(second.overview.objects()).toEqual(first.overview.objects());
    expectSameTrace(second.trace, first.trace);
  });

  it("under the name that this load gives it", async () => {
    const path = recording(text(1));
    await loadTrace(path);
    const named = await kl.loadTraceCmd(path, { cache: true, name: "mine", quiet: true });
    expect([named.source, kl.accounting(named).source]).toEqual(["mine", "mine"]);
  });
});

describe("what is stale is never served", () => {
  it("a file changed in place, of the same size and time of writing", async () => {
    const path = recording(text(1));
    const { atime, mtime, size } = statSync(path);
    await expectServes(path, false);
    await expectServes(path, true);
    writeFileSync(path, text(2));
    utimesSync(path, atime, mtime);
    expect([statSync(path).size, Math.round(statSync(path).mtimeMs)]).toEqual([size, mtime.getTime()]);
    await expectServes(path, false);
    await expectServes(path, true);
  });

  it("nor one that had been at rest, whose bytes are not read again while nothing touches it", async () => {
    const path = recording(text(1));
    const at = new Date(1_700_000_000_000);
    utimesSync(path, at, at);
    await loadTrace(path);
    const fresh = await identity(path);
    await new Promise((resolve) => setTimeout(resolve, 2200));
    rmSync(path + SUFFIX);
    await loadTrace(path);
    expect([fresh, typeof await identity(path)]).toEqual([null, "string"]);
    await expectServes(path, true);
    await expectServes(path, true, "hash");
    const file = await open(path, "r+");
    await file.write("7", text(1).indexOf("n=1") + 2);
    await file.close();
    utimesSync(path, at, at);
    await expectServes(path, false);
    expect([...(await loadTrace(path)).result.of("my_event").array("n")]).toEqual([7]);
  });

  it("a file that grew, was replaced, or was copied over with another's cache", async () => {
    const path = recording(text(1)), other = recording(text(3));
    await expectServes(path, false);
    appendFileSync(path, " a-1     [000]     3.000000: sched_wakeup: b:2 [120] CPU:000\n");
    await expectServes(path, false);
    rmSync(path);
    writeFileSync(path, text(4));
    await expectServes(path, false);
    copyFileSync(path + SUFFIX, other + SUFFIX);
    await expectServes(other, false);
  });

  it("content that is the same is, wherever it stands", async () => {
    const path = recording(text(1)), twin = recording(text(1));
    await loadTrace(path);
    copyFileSync(path + SUFFIX, twin + SUFFIX);
    await expectServes(twin, true);
  });

  it("what another version of the parser, or another format, read", async () => {
    const path = recording(text(1));
    await loadTrace(path);
    const image = (await openImage(path + SUFFIX))!, value = await image.value(), key = image.key as Record<string, string>;
    await image.close();
    for (const [change, cached] of [[{}, true], [{ reader: "0".repeat(64) }, false], [{ format: "perf-script" }, false], [{ hash: "0".repeat(64), identity: null }, false]] as const) {
      rmSync(path + SUFFIX);
      const file = await open(path + SUFFIX, "w");
      await writeImage(file, { ...key, ...change }, value);
      await file.close();
      await expectServes(path, cached);
    }
  });
});

/** What the cache says of the file's identity: null where the file was changed too lately to tell. */
async function identity(path: string): Promise<unknown> {
  const image = (await openImage(path + SUFFIX))!;
  await image.close();
  return (image.key as { identity: unknown }).identity;
}

describe("a cache file that is damaged is written anew", () => {
  it("cut short, anywhere", async () => {
    const path = recording(text(1));
    await loadTrace(path);
    const whole = readFileSync(path + SUFFIX);
    for (let length = 0; length < whole.length; length += 97) {
      writeFileSync(path + SUFFIX, whole.subarray(0, length));
      expect((await loadTrace(path)).cached).toBe(false);
    }
    await expectServes(path, true);
  });

  it("one byte wrong, anywhere; only half of it written; something else altogether", async () => {
    const path = recording(text(1));
    await loadTrace(path);
    const whole = readFileSync(path + SUFFIX);
    for (let at = 0; at < whole.length; at += 61) {
      const bad = Buffer.from(whole);
      bad[at] ^= 0x55;
      writeFileSync(path + SUFFIX, bad);
      const { result } = await loadTrace(path); // where only padding is wrong, it serves
      expect(result.of("my_event").objects()).toMatchObject([{ ts: 1_000_001_000, n: 1 }]);
    }
    for (const bytes of [Buffer.concat([whole.subarray(0, whole.length / 2), Buffer.alloc(whole.length - Math.floor(whole.length / 2))]), Buffer.alloc(whole.length), Buffer.from("hello\n")]) {
      writeFileSync(path + SUFFIX, bytes);
      await expectServes(path, false);
      await expectServes(path, true);
    }
  });
});

describe("writing", () => {
  it("by several at once leaves one whole cache and nothing else", async () => {
    const path = recording("capture/virtio/trace-cmd-small.txt.gz");
    const plain = await kl.loadTraceCmd(path, { quiet: true });
    const results = await Promise.all(Array.from({ length: 6 }, () => kl.loadTraceCmd(path, { cache: true, quiet: true })));
    for (const trace of results) expectSameTrace(trace, plain);
    expect(readdirSync(join(path, ".."))).toEqual([basename(path), basename(path) + SUFFIX]);
    await expectServes(path, true);
  });

  it("keeps to the recording's permissions", async () => {
    const path = recording(text(1));
    chmodSync(path, 0o600);
    await loadTrace(path);
    expect(statSync(path + SUFFIX).mode & 0o777).toBe(0o600);
  });

  it("that fails does not fail the load, and leaves nothing behind", async () => {
    const path = recording(text(1));
    mkdirSync(path + SUFFIX);
    await expectServes(path, false);
    expect(readdirSync(join(path, ".."))).toEqual(["trace.txt", `trace.txt${SUFFIX}`]);
  });

  it("needs a path, and a value that there is", async () => {
    await expect(kl.loadTraceCmd(Buffer.from(text(1)), { cache: true })).rejects.toThrow(/cache: true needs the path of a file/);
    await expect(kl.loadTraceCmd("-", { cache: true })).rejects.toThrow(kl.OptionError);
    await expect(kl.loadTraceCmd("x", { cache: "size" as "hash" })).rejects.toThrow(/cache: "size" is none of false, true, "hash"/);
  });

  it("does not happen for a text that cannot be read", async () => {
    const path = recording("nothing\nof this\n");
    await expect(kl.loadTraceCmd(path, { cache: true, quiet: true })).rejects.toThrow(kl.ParseError);
    expect(existsSync(path + SUFFIX)).toBe(false);
  });
});
