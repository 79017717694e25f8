// npm run fuzz: damaged copies of real recordings through every parser and what comes after it, as many as there is time for. See HELP.
import { mkdirSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { excerpts } from "./excerpts.js";
import { caseOf, runCase, type Case } from "./fuzz-case.js";
import { joined, linesOf } from "./mutate.js";
import { ROOT } from "./peer.js";

const MOST_MIB = 1024;
const HELP = `npm run fuzz -- [OPTIONS]

  --cases N     how many cases; default 1000000
  --minutes M   no new cases after that; default: no such limit
  --seed S      another seed gives other cases; default 1
  --case N      that one case alone (with its seed), its failure in full
  --threads N   worker threads; default: one per CPU
  --seconds N   a case that takes longer (of processor time) hangs; default 20

A case is a piece of a recording of data/ (and of KERNEL_LIB_CAPTURE_DATA and KERNEL_LIB_PEER_DATA), damaged in a way that follows from seed
and number. It fails where there is another error than kernel-lib's own, where lines are not accounted for, where it matters how the text was cut
into chunks, where it hangs, and where it takes more memory than ${MOST_MIB} MiB. Inputs that failed are cut down and kept in fuzz-failures/.
`;
/** Cases that a worker takes at a time. */
const BATCH = 250;

interface Failure { number: number; where: string; error: string; key: string; input?: Uint8Array }
type Message = { done: number; read: number; worst: { number: number; ms: number }; rss: number } | { failure: Failure };

const where = ({ excerpt, reader }: Case): string => `${excerpt.name} as ${reader.name}`;
const keyOf = (error: unknown): string => {
  const [message, ...frames] = String((error as Error).stack ?? error).split("\n");
  const at = frames.find((frame) => !frame.includes("/test/") && !frame.includes("node:") && !/\/dist\/(examine|fuzz)/.test(frame)) ?? frames[0] ?? "";
  return `${message.replace(/\d+/g, "N")} ${at.trim()}`;
};

/** The case's failure; null where it is fine. */
async function fails(one: Case): Promise<unknown> {
  try {
    await runCase(one);
    return null;
  } catch (error) {
    return error;
  }
}

/** The same failure from fewer lines, then from fewer bytes of each; by leaving out ever smaller pieces. */
async function cutDown(one: Case, key: string): Promise<Buffer> {
  if (one.plain !== one.bytes) return one.bytes;
  let budget = 3000;
  const same = async (bytes: Buffer): Promise<boolean> => {
    if (budget-- <= 0) return false;
    const error = await fails({ ...one, bytes, plain: bytes });
    return error !== null && keyOf(error) === key;
  };
  const shrink = async <T>(all: T[], join: (part: T[]) => Buffer): Promise<T[]> => {
    for (let size = all.length >> 1; size >= 1; size >>= 1) {
      for (let at = 0; at < all.length && all.length > 1;) {
        const fewer = [...all.slice(0, at), ...all.slice(at + size)];
        if (fewer.length > 0 && await same(join(fewer))) all = fewer;
        else at += size;
      }
    }
    return all;
  };
  const lines = await shrink(linesOf(one.bytes), joined);
  for (let i = 0; i < lines.length; i++) {
    const around = (bytes: number[]): Buffer => joined([...lines.slice(0, i), Buffer.from(bytes), ...lines.slice(i + 1)]);
    lines[i] = Buffer.from(await shrink([...lines[i]], around));
  }
  return joined(lines);
}

async function work({ seed, slot, shared }: { seed: number; slot: number; shared: SharedArrayBuffer }): Promise<void> {
  const all = excerpts(), current = new Int32Array(shared), seen = new Set<string>();
  const say = (message: Message): void => { parentPort!.postMessage(message); };
  say({ done: 0, read: 0, worst: { number: -1, ms: 0 }, rss: 0 });
  for await (const { from, to } of batches()) {
    let read = 0, worst = { number: -1, ms: 0 };
    for (let number = from; number < to; number++) {
      current[slot] = number;
      const one = caseOf(all, seed, number), begin = performance.now();
      try {
        if (await runCase(one) === "read") read++;
      } catch (error) {
        const key = keyOf(error), first = !seen.has(key);
        seen.add(key);
        say({ failure: { number, where: where(one), error: String((error as Error).stack ?? error), key, ...(first ? { input: await cutDown(one, key) } : {}) } });
      }
      const ms = performance.now() - begin;
      if (ms > worst.ms) worst = { number, ms };
    }
    current[slot] = -1;
    say({ done: to - from, read, worst, rss: process.memoryUsage.rss() });
  }
}

/** What the main thread sends, one after the other. */
async function* batches(): AsyncGenerator<{ from: number; to: number }> {
  const waiting: { from: number; to: number }[] = [];
  let wake = (): void => {};
  parentPort!.on("message", (batch: { from: number; to: number }) => { waiting.push(batch); wake(); });
  for (;;) {
    while (waiting.length > 0) yield waiting.shift()!;
    await new Promise<void>((resolve) => { wake = resolve; });
  }
}

async function lead(): Promise<void> {
  const { values } = parseArgs({ options: {
    cases: { type: "string", default: "1000000" }, minutes: { type: "string" }, seed: { type: "string", default: "1" }, case: { type: "string" },
    threads: { type: "string", default: String(cpus().length) }, seconds: { type: "string", default: "20" }, help: { type: "boolean" },
  } });
  if (values.help) return void console.log(HELP);
  const seed = Number(values.seed), all = excerpts();
  if (values.case !== undefined) {
    const one = caseOf(all, seed, Number(values.case)), error = await fails(one);
    console.log(`seed ${seed} case ${values.case}: ${where(one)}, ${one.bytes.length} bytes: ${error === null ? "fine" : String((error as Error).stack)}`);
    if (error !== null) save({ number: Number(values.case), where: where(one), error: "", key: "", input: await cutDown(one, keyOf(error)) }, seed);
    process.exitCode = error === null ? 0 : 1;
    return;
  }
  const cases = Number(values.cases), until = performance.now() + Number(values.minutes ?? Infinity) * 60_000, patience = Number(values.seconds) * 1e6, threads = Number(values.threads);
  console.log(`seed ${seed}, ${cases.toLocaleString("en-US")} cases from ${all.length} pieces of recordings, ${threads} threads`);

  const current = new SharedArrayBuffer(4 * threads), at = new Int32Array(current).fill(-1);
  const failures = new Map<string, Failure & { times: number }>();
  const begin = performance.now();
  let next = 0, done = 0, read = 0, peak = 0, worst = { number: -1, ms: 0 };
  const fail = (failure: Failure): void => {
    const known = failures.get(failure.key);
    if (known) {
      known.times++;
      return;
    }
    failures.set(failure.key, { ...failure, times: 1 });
    console.log(`\nseed ${seed} case ${failure.number}: ${failure.where}\n${failure.error.split("\n").slice(0, 6).join("\n")}\n  kept in ${save(failure, seed)}`);
  };
  const tell = (): void => {
    const seconds = (performance.now() - begin) / 1000;
    console.log(`${done.toLocaleString("en-US")} cases, ${read.toLocaleString("en-US")} of them read, ${failures.size} failures; ${(done / seconds).toFixed(0)}/s, peak ${peak.toFixed(0)} MiB, slowest case ${worst.number} with ${worst.ms.toFixed(0)} ms`);
  };
  const ticking = setInterval(tell, 60_000);

  await Promise.all(Array.from({ length: threads }, (_, slot) => new Promise<void>((resolve) => {
    const start = (): void => {
      const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { seed, slot, shared: current }, resourceLimits: { maxOldGenerationSizeMb: MOST_MIB } });
      let batch = { from: next, to: next }, since = 0, last = -1, over = false;
      const again = (why: string): void => {
        if (over) return;
        over = true;
        clearInterval(watching);
        const number = at[slot];
        if (number >= 0) {
          const one = caseOf(all, seed, number);
          fail({ number, where: where(one), error: why, key: `${why.replace(/\d+/g, "N")} ${one.reader.name}`, input: one.bytes });
        }
        at[slot] = -1;
        done += Math.max(0, number - batch.from + 1);
        void worker.terminate().then(start);
      };
      // A case that goes on and on ends with its thread. Of all threads' processor time, since the machine may have other work.
      const watching = setInterval(() => {
        if (at[slot] !== last) {
          last = at[slot];
          since = process.cpuUsage().user;
        } else if (last >= 0 && process.cpuUsage().user - since > patience * threads) again(`hangs: more than ${patience / 1e6} s`);
      }, 500);
      worker.on("error", (error) => { again(String(error.stack ?? error)); });
      worker.on("message", (message: Message) => {
        if (over) return;
        if ("failure" in message) return fail(message.failure);
        done += message.done;
        read += message.read;
        if (message.worst.ms > worst.ms) worst = message.worst;
        const rss = message.rss / 2 ** 20;
        peak = Math.max(peak, rss);
        if (rss > MOST_MIB * threads) fail({ number: batch.to, where: `in or before the cases from ${batch.from}`, error: `takes ${rss.toFixed(0)} MiB`, key: "memory" });
        if (next >= cases || performance.now() > until) {
          over = true;
          clearInterval(watching);
          void worker.terminate().then(() => { resolve(); });
          return;
        }
        batch = { from: next, to: Math.min(cases, next + BATCH) };
        next = batch.to;
        worker.postMessage(batch);
      });
    };
    start();
  })));
  clearInterval(ticking);
  tell();
  for (const { number, error, times } of failures.values()) console.log(`  ${times} × as seed ${seed} case ${number}: ${error.split("\n")[0]}`);
  process.exitCode = failures.size > 0 ? 1 : 0;
}

function save({ number, input }: Failure, seed: number): string {
  if (!input) return "nothing";
  const folder = join(ROOT, "fuzz-failures"), path = join(folder, `seed-${seed}-case-${number}.txt`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, input);
  return path;
}

if (isMainThread) await lead();
else await work(workerData as Parameters<typeof work>[0]);
