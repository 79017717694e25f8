import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { progressText, setProgressSink } from "../../kernel-lib/source/progress.js";
import { DATA, inChunks } from "../peer.js";

const MIB = 2 ** 20;
const TEXT = Buffer.from("main;read 3\n".repeat(2000));

/** All that is said while something runs. */
function listen(): { lines: (string | null)[] } {
  const heard: { lines: (string | null)[] } = { lines: [] };
  const before = setProgressSink({ show: (_, line) => { heard.lines.push(line); }, end: (_, line) => { heard.lines.push("end", line); } });
  afterwards = () => { setProgressSink(before); };
  return heard;
}
let afterwards = (): void => {};
afterEach(() => { afterwards(); afterwards = () => {}; });

async function* slowly(bytes: Uint8Array, ms: number): AsyncGenerator<Uint8Array> {
  for await (const chunk of inChunks(bytes, bytes.length / 2)) {
    yield chunk;
    await sleep(ms);
  }
}

describe("progress", () => {
  it("says what is known of the load, in words", () => {
    const load = { read: 312 * MIB, size: 1024 * MIB, bytes: 312 * MIB, rows: 4_012_331, seconds: 4 };
    expect(progressText(load)).toBe("30 %, 312 of 1,024 MiB, 4,012,331 rows, 78 MiB/s, 10 s left");
    // Packed: the share is of what was read, the amount and the rate are of text.
    expect(progressText({ ...load, read: 20 * MIB, size: 80 * MIB })).toBe("25 %, 312 MiB of text, 4,012,331 rows, 78 MiB/s, 12 s left");
    expect(progressText({ ...load, size: null })).toBe("312 MiB, 4,012,331 rows, 78 MiB/s");
    expect(progressText({ ...load, size: 102_400 * MIB })).toContain("0 %, 312 of 102,400 MiB, 4,012,331 rows, 78 MiB/s, 22 min left");
    expect(progressText({ ...load, read: 0, bytes: 0, rows: 0, seconds: 0 })).toBe("0 %, 0 of 1,024 MiB, 0 rows, 0 MiB/s, 0 s left");
    expect(progressText({ ...load, read: 1100 * MIB, bytes: 1100 * MIB })).toContain("100 %, "); // it grew while it was read
  });

  it("is shown after a second, and gives way to the accounting", async () => {
    const heard = listen();
    await kl.loadFolded(slowly(TEXT, 1100), { name: "folder/slow.folded" });
    expect(heard.lines).toEqual(["slow.folded: 0 MiB, 2,000 rows, 0 MiB/s", "end", "slow.folded: 2,000 lines = 2,000 rows; all understood"]);
  });

  it("is not shown of what takes less, nor where it is to be quiet", async () => {
    const heard = listen();
    await kl.loadFolded(TEXT, { name: "quick" });
    await kl.loadFolded(slowly(TEXT, 1100), { quiet: true });
    expect(heard.lines).toEqual(["end", "quick: 2,000 lines = 2,000 rows; all understood"]);
  });

  it("leaves nothing behind where the load fails or is stopped", async () => {
    const heard = listen(), stop = new AbortController();
    const load = kl.loadFolded((async function* () { yield* slowly(TEXT, 1100); await sleep(60_000, null, { ref: false }); })(), { name: "slow", signal: stop.signal });
    setTimeout(() => { stop.abort(); }, 2500);
    await expect(load).rejects.toThrow(new kl.InterruptedError("slow, 0 MiB, 2,000 rows, 0 MiB/s: the load was interrupted, and nothing of it is kept"));
    expect(heard.lines.at(-1)).toBe(null);
    expect(heard.lines.at(-2)).toBe("end");
  });

  it("is told to a function instead", async () => {
    const heard = listen(), told: kl.LoadProgress[] = [], packed = gzipSync(TEXT);
    await kl.loadFolded(packed, { progress: (progress) => { told.push(progress); } });
    expect(told.at(-1)).toMatchObject({ read: packed.length, size: packed.length, bytes: TEXT.length, rows: 2000 });
    expect(heard.lines).toEqual([]);
  });
});

describe("a signal", () => {
  it("stops a load that has not begun, with its reason as the cause", async () => {
    const failure = await kl.loadFolded(TEXT, { quiet: true, signal: AbortSignal.abort("enough") }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(kl.InterruptedError);
    expect((failure as Error).cause).toBe("enough");
  });

  it("lets a load be that has ended", async () => {
    const stop = new AbortController(), table = await kl.loadFolded(TEXT, { quiet: true, signal: stop.signal });
    stop.abort();
    expect(table.numRows()).toBe(2000);
  });

  it("closes the source and takes no more of it", async () => {
    const stop = new AbortController();
    let taken = 0, closed = false;
    const source = (async function* () {
      try {
        for (;;) {
          if (++taken === 5) stop.abort();
          yield TEXT;
          await sleep(1);
        }
      } finally {
        closed = true;
      }
    })();
    await expect(kl.loadFolded(source, { quiet: true, signal: stop.signal })).rejects.toBeInstanceOf(kl.InterruptedError);
    await sleep(50);
    expect({ taken, closed }).toEqual({ taken: 5, closed: true });
  });

  it("stops a run of many files", async () => {
    await expect(kl.loadRun(join(DATA, "capture/icount-vhost"), { signal: AbortSignal.abort() })).rejects.toBeInstanceOf(kl.InterruptedError);
  });
});
