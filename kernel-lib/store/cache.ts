import { createHash, randomBytes } from "node:crypto";
import { createReadStream, readdirSync, readFileSync, type BigIntStats } from "node:fs";
import { open, rename, stat, unlink } from "node:fs/promises";
import { OptionError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { accounting, accountingLine, loadText, setAccounting, type Accounting, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";
import { startProgress } from "../source/progress.js";
import { openImage, writeImage, type Image } from "./image.js";
import { LIBRARY_VERSION } from "./version.js";

// What a recording was read into, kept in a file beside it: FILE.kernel-lib-cache. It stands for the very bytes that were read (SHA-256) and the
// very parser that read them (a hash of its code), else it is made anew.

export interface CachedLoadOptions extends LoadOptions {
  /**
   * Keep what was read in a file beside the recording, and take it from there the next time; default false; one of false, true, "hash".
   * The recording's content decides whether that file still stands for it. With true, content is taken as unchanged, without reading it all,
   * where the file system says that nothing has touched the file since: same inode, size, time of writing and time of change, which no program can set
   * back. "hash" reads all of it every time, for file systems that cannot be trusted so far.
   */
  cache?: boolean | "hash";
}

export const CACHE_SUFFIX = ".kernel-lib-cache";

/** How a format's result is taken apart into what an image can hold, and put together again. */
export interface Kept<T extends object> {
  apart(result: T): unknown;
  together(parts: any, source: string): T;
}

/** Times of change are as fine as the kernel's ticks: what was read earlier than this after its file's last change may have changed again unseen. */
const AT_REST_NS = 2_000_000_000n;

type Json = Image["key"];
interface Key {
  reader: string;
  format: string;
  hash: string;
  /** Of the file that was read, where it was at rest; else null. */
  identity: string | null;
}

const identityOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string => [dev, ino, size, mtimeNs, ctimeNs].join(" ");

/** As loadText, but by way of the cache where the options ask for it. */
export async function loadCached<T extends object>(source: Source, format: Format<T, ParseOptions>, kept: Kept<T>, options: CachedLoadOptions): Promise<T> {
  const { cache = false, ...rest } = options;
  if (cache !== false && cache !== true && cache !== "hash") throw new OptionError(`cache: ${JSON.stringify(cache)} is none of false, true, "hash"`);
  if (cache === false) return loadText(source, format, rest);
  if (typeof source !== "string" || source === "-") throw new OptionError("cache: true needs the path of a file, beside which the cache can stand");
  const place = source + CACHE_SUFFIX, reader = readerVersion();
  if (reader === null) return loadText(source, format, rest);
  const found = await fromCache(source, place, { reader, format: format.name }, kept, cache === "hash", rest);
  if (found) return found;

  const hash = createHash("sha256"), begin = BigInt(Date.now()) * 1_000_000n;
  const before = await stat(source, { bigint: true });
  const result = await loadText(source, format, rest, (chunk) => { hash.update(chunk); });
  const after = await stat(source, { bigint: true });
  // The hash is that of the bytes that were read, whatever happened to the file meanwhile.
  const isAtRest = identityOf(before) === identityOf(after) && before.ctimeNs < begin - AT_REST_NS;
  const key: Key = { reader, format: format.name, hash: hash.digest("hex"), identity: isAtRest ? identityOf(before) : null };
  try {
    await writeCache(place, key, { accounting: accounting(result), parts: kept.apart(result) }, Number(before.mode) & 0o666);
  } catch (error) {
    // A folder that cannot be written, a full disk: the recording was read all the same.
    if (!options.quiet && !options.progress) startProgress().done(`no cache was written (${(error as Error).message})`);
  }
  return result;
}

async function fromCache<T extends object>(source: string, place: string, wanted: { reader: string; format: string }, kept: Kept<T>, alwaysHash: boolean, options: LoadOptions): Promise<T | null> {
  const image = await openImage(place);
  if (image === null) return null;
  try {
    const key = image.key as unknown as Partial<Key> | null;
    if (key?.reader !== wanted.reader || key.format !== wanted.format) return null;
    const untouched = !alwaysHash && typeof key.identity === "string" && key.identity === identityOf(await stat(source, { bigint: true }));
    if (!untouched && await hashOf(source) !== key.hash) return null;
    const value = await image.value() as { accounting: Accounting; parts: unknown } | null;
    if (value === null) return null;
    const name = options.name ?? source, result = kept.together(value.parts, name);
    setAccounting(result, { ...value.accounting, source: name });
    if (!options.quiet && !options.progress) startProgress().done(`${accountingLine(accounting(result))}; from its cache`);
    return result;
  } finally {
    await image.close();
  }
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return hash.digest("hex");
}

/** Under a name of its own first, so that nobody ever sees half of it, and of several writers the last one's stands. */
async function writeCache(place: string, key: Key, value: unknown, mode: number): Promise<void> {
  const draft = `${place}.${process.pid}-${randomBytes(4).toString("hex")}`;
  const file = await open(draft, "wx", mode);
  try {
    try {
      await writeImage(file, key as unknown as Json, value);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, place);
  } catch (error) {
    await unlink(draft).catch(() => undefined);
    throw error;
  }
}

let reader: string | null | undefined;

/** Changes whenever the code does that reads recordings or keeps them; null where that code cannot be seen (bundled), and nothing is kept. */
function readerVersion(): string | null {
  if (reader !== undefined) return reader;
  try {
    const hash = createHash("sha256").update(LIBRARY_VERSION);
    for (const folder of ["../source/", "../parse/", "./"]) {
      const place = new URL(folder, import.meta.url);
      for (const file of readdirSync(place).filter((name) => /\.(js|ts)$/.test(name) && !name.endsWith(".d.ts")).sort()) hash.update(file).update(readFileSync(new URL(file, place)));
    }
    reader = hash.digest("hex");
  } catch {
    reader = null;
  }
  return reader;
}
