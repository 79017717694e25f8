import { open } from "node:fs/promises";
import { ParseError } from "../errors.js";
import { unpacked, type UnpackOptions } from "./unpack.js";

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
  chunks: AsyncIterable<Uint8Array>;
  /** Lets go of the file, also while a read is under way. */
  close: () => void;
}

/** So much is read, and handed on, at a time: between two pieces other work has its turn. */
const PIECE = 1 << 20;

export async function openSource(source: Source, options: UnpackOptions = {}): Promise<OpenedSource> {
  let read = 0;
  const opened = (name: string, size: number | null, chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, close = () => {}): OpenedSource => {
    const counted = (async function* () {
      for await (const chunk of chunks) {
        read += chunk.length;
        yield chunk;
      }
    })();
    return { name, size, read: () => read, chunks: unpacked(counted, name, size, options), close };
  };
  if (source === "-") return opened("stdin", null, process.stdin);
  if (typeof source === "string") {
    const file = await open(source, "r");
    const stat = await file.stat();
    if (stat.isDirectory()) {
      await file.close();
      throw new ParseError("this is a folder, not a file; loadRun reads a folder of recordings", source);
    }
    const stream = file.createReadStream({ highWaterMark: PIECE });
    return opened(source, stat.isFile() ? stat.size : null, stream, () => { stream.destroy(); });
  }
  if (source instanceof Uint8Array) return opened("bytes", source.length, piecesOf(source));
  return opened("chunks", null, source);
}

function* piecesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
}
