import { createReadStream } from "node:fs";
import { open } from "node:fs/promises";
import { ParseError } from "../errors.js";
import { packing, unpacked, type UnpackOptions } from "./unpack.js";

/**
 * What a loader reads: a path (plain, `.gz` or `.zst`), bytes (those of a plain, gzip or zstd file),
 * or chunks of bytes, such as a stream. `-` as a path is standard input.
 */
export type Source = string | Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface OpenedSource {
  /** The path as given, or "bytes", "chunks", "stdin". */
  name: string;
  /** Bytes to be read, before decompression; null where unknown. */
  size: number | null;
  /** Bytes read so far, before decompression. */
  read: () => number;
  /** Each is lent until the next one is asked for. */
  chunks: AsyncIterable<Uint8Array>;
  /** Lets go of the file, also while a read is under way. */
  close: () => void;
}

/** So much is read, and handed on, at a time: between two blocks other work has its turn. */
const BLOCK = 1 << 20;

/** @param tap sees the bytes as they stand on disk, before decompression; default: nobody does */
export async function openSource(source: Source, options: UnpackOptions = {}, tap?: (chunk: Uint8Array) => void): Promise<OpenedSource> {
  let read = 0;
  const opened = (name: string, size: number | null, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, close = () => {}): OpenedSource => {
    const counted = (async function* () {
      for await (const chunk of chunks) {
        read += chunk.length;
        tap?.(chunk);
        yield chunk;
      }
    })();
    return { name, size, read: () => read, chunks: unpacked(counted, name, size, options), close };
  };
  if (source === "-") return opened("stdin", null, process.stdin);
  if (typeof source === "string") {
    const { size, plain } = await lookAt(source);
    if (plain) return opened(source, size, blocks(source));
    const stream = createReadStream(source, { highWaterMark: BLOCK });
    return opened(source, size, stream, () => { stream.destroy(); });
  }
  if (source instanceof Uint8Array) return opened("bytes", source.length, blocksOf(source));
  return opened("chunks", null, source);
}

function* blocksOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += BLOCK) yield bytes.subarray(at, at + BLOCK);
}

/** The file's size, null of a pipe, and whether it is one whose bytes are the text: not packed, and no pipe or file of the kernel's, which are read as they come. */
export async function lookAt(path: string): Promise<{ size: number | null; plain: boolean }> {
  const file = await open(path, "r");
  try {
    const stat = await file.stat();
    if (stat.isDirectory()) throw new ParseError("this is a folder, not a file; loadRun reads a folder of recordings", path);
    if (!stat.isFile() || stat.size === 0) return { size: stat.isFile() ? stat.size : null, plain: false };
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
