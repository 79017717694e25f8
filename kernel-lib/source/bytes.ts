import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { createGunzip, gunzipSync } from "node:zlib";
import * as zlib from "node:zlib";
import { Decompress as ZstdDecompress, decompress as zstdDecompress } from "fzstd";
import { ParseError } from "../errors.js";

/**
 * What a loader reads: a path (plain, `.gz` or `.zst`), bytes (those of a plain, gzip or zstd file),
 * or chunks of bytes, such as a stream. `-` as a path is standard input.
 */
export type Source = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface OpenedSource {
  /** The path as given, or "bytes", "chunks", "stdin". */
  name: string;
  /** Bytes on disk, before decompression; null where unknown. */
  size: number | null;
  /** Bytes taken from disk so far, for progress. */
  read: () => number;
  /** Each is lent until the next one is asked for. */
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

const BLOCK = 1 << 20;

type Packing = "plain" | "gzip" | "zstd";

/** Tells packing by magic number, never by file name. */
function packing(head: Uint8Array): Packing {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return "zstd";
  return "plain";
}

/** Bytes of a whole file that may be packed → plain bytes. */
export function unpack(bytes: Uint8Array, name = "bytes"): Uint8Array {
  try {
    switch (packing(bytes)) {
      case "gzip": return gunzipSync(bytes);
      case "zstd": return zstdDecompress(bytes);
      default: return bytes;
    }
  } catch (error) {
    throw new ParseError(`the compressed data is damaged or cut short (${(error as Error).message}); make the file again`, name);
  }
}

/** @param tap Sees the bytes of a file as they stand on disk, before decompression. */
export async function openSource(source: Source, tap?: (chunk: Uint8Array) => void): Promise<OpenedSource> {
  if (typeof source === "string") {
    let taken = 0;
    const count = async function* (stream: AsyncIterable<Uint8Array>) {
      for await (const chunk of stream) {
        taken += chunk.length;
        tap?.(chunk);
        yield chunk;
      }
    };
    if (source === "-") return { name: "stdin", size: null, read: () => taken, chunks: unpacked(count(process.stdin), "stdin") };
    const { size, plain } = await lookAt(source);
    const chunks = plain ? count(blocks(source)) : unpacked(count(createReadStream(source, { highWaterMark: BLOCK })), source);
    return { name: source, size, read: () => taken, chunks };
  }
  if (source instanceof Uint8Array) {
    const plain = unpack(source);
    return { name: "bytes", size: plain.length, read: () => plain.length, chunks: [plain] };
  }
  return { name: "chunks", size: null, read: () => 0, chunks: unpacked(source, "chunks") };
}

/** The file's size, and whether it is one whose bytes are the text: not packed, and no pipe or file of the kernel's, which are read as they come. */
export async function lookAt(path: string): Promise<{ size: number; plain: boolean }> {
  const file = await open(path, "r");
  try {
    const stat = await file.stat();
    if (stat.isDirectory()) throw new ParseError("this is a folder, not a file; loadRun reads a folder of recordings", path);
    if (!stat.isFile() || stat.size === 0) return { size: stat.size, plain: false };
    const { buffer } = await file.read(Buffer.alloc(4), 0, 4, 0);
    return { size: stat.size, plain: packing(buffer) === "plain" };
  } finally {
    await file.close();
  }
}

/**
 * Bytes [start, end) of a plain file, in one buffer that is filled again and again: a stream's new buffer for each chunk costs
 * a fourth of what it takes to parse it.
 */
export async function* blocks(path: string, start = 0, end = Infinity): AsyncGenerator<Uint8Array> {
  const file = await open(path, "r"), buffer = Buffer.allocUnsafeSlow(BLOCK);
  try {
    for (let at = start; at < end;) {
      const { bytesRead } = await file.read(buffer, 0, Math.min(BLOCK, end - at), at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield bytesRead === BLOCK ? buffer : buffer.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

/** Looks at the first four bytes, then hands the stream on, decompressed where it is packed. */
async function* unpacked(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  const all = (async function* () { for await (const chunk of chunks) yield chunk; })();
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < 4) {
    const next = await all.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  const rest = (async function* () {
    if (head.length > 0) yield head;
    yield* all;
  })();
  try {
    switch (packing(head)) {
      case "gzip": yield* through(createGunzip({ chunkSize: 1 << 18 }), rest); break;
      case "zstd": yield* zstd(rest); break;
      default: yield* rest;
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? "";
    if (!code.startsWith("Z_") && !/zstd|ZSTD|unexpected end|invalid/i.test(`${code} ${(error as Error).message}`)) throw error;
    throw new ParseError(`the compressed data is damaged or cut short (${(error as Error).message}); make the file again`, name);
  }
}

async function* through(transform: NodeJS.ReadWriteStream & { destroy?: () => void }, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pump = (async () => {
    for await (const chunk of chunks) {
      if (!transform.write(chunk)) await new Promise<void>((resolve) => transform.once("drain", resolve));
    }
    transform.end();
  })();
  pump.catch((error: Error) => transform.emit("error", error));
  for await (const chunk of transform as unknown as AsyncIterable<Uint8Array>) yield chunk;
  await pump;
}

async function* zstd(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  // Node has zstd since 22.15; before that, fzstd does it in JavaScript.
  const native = (zlib as unknown as { createZstdDecompress?: () => NodeJS.ReadWriteStream }).createZstdDecompress;
  if (native) {
    yield* through(native(), chunks);
    return;
  }
  const out: Uint8Array[] = [];
  const decompress = new ZstdDecompress((chunk) => { if (chunk.length > 0) out.push(chunk.slice()); });
  for await (const chunk of chunks) {
    decompress.push(chunk);
    for (const piece of out.splice(0)) yield piece;
  }
  decompress.push(new Uint8Array(0), true);
  for (const piece of out.splice(0)) yield piece;
}
