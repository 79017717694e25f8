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
  /** Each is lent until the next is asked for. */
  chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Small enough to be in the processor's cache while it is parsed. */
const PIECE = 1 << 19;

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

export async function openSource(source: Source): Promise<OpenedSource> {
  if (typeof source === "string") {
    let read = 0;
    const count = async function* (stream: AsyncIterable<Uint8Array>) {
      for await (const chunk of stream) {
        read += chunk.length;
        yield chunk;
      }
    };
    if (source === "-") return { name: "stdin", size: null, read: () => read, chunks: unpacked(count(process.stdin), "stdin") };
    const file = await open(source, "r");
    let size: number;
    try {
      const stat = await file.stat();
      if (stat.isDirectory()) throw new ParseError("this is a folder, not a file; loadRun reads a folder of recordings", source);
      size = stat.size;
    } finally {
      await file.close();
    }
    return { name: source, size, read: () => read, chunks: unpacked(count(pieces(source)), source) };
  }
  if (source instanceof Uint8Array) {
    const plain = unpack(source);
    return { name: "bytes", size: plain.length, read: () => plain.length, chunks: [plain] };
  }
  return { name: "chunks", size: null, read: () => 0, chunks: unpacked(source, "chunks") };
}

/**
 * A file piece by piece. Two buffers take turns, one being filled while the other is read: a stream of Node would make a new one
 * for each piece, which costs a third of the time that it takes to parse them, and memory.
 */
async function* pieces(path: string): AsyncGenerator<Uint8Array> {
  const file = await open(path, "r");
  try {
    let [buffer, other] = [Buffer.allocUnsafeSlow(PIECE), Buffer.allocUnsafeSlow(PIECE)];
    let next = file.read(buffer, 0, PIECE);
    for (;;) {
      const { bytesRead } = await next;
      if (bytesRead === 0) return;
      next = file.read(other, 0, PIECE);
      next.catch(() => {}); // told above, when its turn comes
      yield buffer.subarray(0, bytesRead);
      [buffer, other] = [other, buffer];
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
    head = Buffer.concat([head, next.value]);
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
      if ((transform as { destroyed?: boolean }).destroyed) return;
      await new Promise<void>((resolve) => { transform.write(chunk, () => resolve()); }); // the chunk is lent: not the next one before it is used
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
    decompress.push(new Uint8Array(chunk)); // a copy: it keeps what it cannot use yet, and the chunk is lent
    for (const piece of out.splice(0)) yield piece;
  }
  decompress.push(new Uint8Array(0), true);
  for (const piece of out.splice(0)) yield piece;
}
