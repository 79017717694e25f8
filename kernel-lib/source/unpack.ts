import { createGunzip, gunzipSync } from "node:zlib";
import { constants } from "node:buffer";
import type { Transform } from "node:stream";
import { OptionError, ParseError, UnpackLimitError } from "../errors.js";
import { framesOf, nativeZstd, ZstdUnpacker } from "./zstd.js";

export interface UnpackOptions {
  /**
   * How many bytes a .gz or .zst may unpack to; default: 250 times its own size, and 256 MiB in any case (recordings pack 10 to 40 to 1, the most
   * repetitive ones 100 to 1); Infinity for no limit. More is an UnpackLimitError, so that a file made to fill the memory cannot.
   */
  maxUnpacked?: number;
}

const RATIO = 250, ALWAYS = 2 ** 28;

type Packing = "plain" | "gzip" | "zstd";

/** Tells packing by magic number, never by file name. */
export function packing(head: Uint8Array): Packing {
  if (head[0] === 0x1f && head[1] === 0x8b) return "gzip";
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd) return "zstd";
  return "plain";
}

function limitOf({ maxUnpacked }: UnpackOptions): number | null {
  if (maxUnpacked !== undefined && !(typeof maxUnpacked === "number" && maxUnpacked > 0)) throw new OptionError(`maxUnpacked takes a number of bytes above 0, or Infinity; this is ${String(maxUnpacked)}`);
  return maxUnpacked ?? null;
}

const allowed = (limit: number | null, packed: number): number => limit ?? Math.max(ALWAYS, RATIO * packed);

function tooMuch(name: string, limit: number | null, most: number): UnpackLimitError {
  const mib = `${(most / 2 ** 20).toFixed(most < 2 ** 23 ? 1 : 0)} MiB`;
  return new UnpackLimitError(limit === null
    ? `${name}: the compressed data unpacks to more than ${mib}, over ${RATIO} times its own size, as a file made to fill the memory does; if it is an honest recording, load it with { maxUnpacked: Infinity } or unpack it first`
    : `${name}: the compressed data unpacks to more than the ${mib} of maxUnpacked; set it higher, or unpack the data first`);
}

/** zlib's and zstd's own errors, in one sentence of ours. */
function damaged(error: unknown, name: string): Error {
  if (error instanceof UnpackLimitError) return error;
  return new ParseError(`the compressed data is damaged or cut short (${(error as Error).message}); make the file again`, name);
}

/** Bytes of a whole file that may be packed → plain bytes. */
export function unpack(bytes: Uint8Array, name = "bytes", options: UnpackOptions = {}): Uint8Array {
  const limit = limitOf(options), most = allowed(limit, bytes.length);
  switch (packing(bytes)) {
    case "gzip":
      try {
        const { buffer, engine } = gunzipSync(bytes, { maxOutputLength: Math.min(most, constants.MAX_LENGTH), chunkSize: 1 << 18, info: true } as object) as unknown as { buffer: Buffer; engine: { bytesWritten: number } };
        if (!isPadding(bytes.subarray(engine.bytesWritten))) throw new Error("other data follows");
        return buffer;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE") throw tooMuch(name, limit, most);
        throw damaged(error, name);
      }
    case "zstd": {
      const unpacker = new ZstdUnpacker(name), out: Uint8Array[] = [];
      let size = 0;
      try {
        for (const part of [unpacker.push(bytes), unpacker.end()]) for (const chunk of part) {
          if ((size += chunk.length) > most) throw tooMuch(name, limit, most);
          out.push(chunk);
        }
      } catch (error) {
        throw damaged(error, name);
      }
      return Buffer.concat(out);
    }
    default: return bytes;
  }
}

/** Tapes and block devices fill the last block with zeros; gzip takes no notice of them, and so do we. */
const isPadding = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** A stream that may be packed → plain chunks. `size`: bytes of the packed stream, where known before its end. */
export async function* unpacked(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, name: string, size: number | null, options: UnpackOptions): AsyncGenerator<Uint8Array> {
  const limit = limitOf(options);
  const all = (async function* () { for await (const chunk of chunks) yield chunk; })();
  let head: Uint8Array = new Uint8Array(0), packed = 0;
  while (head.length < 4) {
    const next = await all.next();
    if (next.done) break;
    head = head.length === 0 ? next.value : Buffer.concat([head, next.value]);
  }
  let failure: unknown = null; // the source's own, which are none of the compressed data
  const rest = (async function* () {
    try {
      packed = head.length;
      if (head.length > 0) yield head;
      for await (const chunk of all) {
        packed += chunk.length;
        yield chunk;
      }
    } catch (error) {
      failure = error;
      throw error;
    }
  })();
  const how = packing(head);
  if (how === "plain") {
    yield* rest;
    return;
  }
  let out = 0;
  try {
    for await (const chunk of how === "gzip" ? through(createGunzip({ chunkSize: 1 << 18 }), rest) : zstd(rest, name, () => out)) {
      out += chunk.length;
      const most = allowed(limit, size ?? packed);
      if (out > most) throw tooMuch(name, limit, most);
      yield chunk;
    }
  } catch (error) {
    throw failure ?? damaged(error, name);
  }
}

/** Chunks through one of zlib's transforms. Data behind the end of what it understands is an error, but for padding. */
async function* through(transform: Transform & { bytesWritten: number }, chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let given = 0, ended = false;
  const pump = (async () => {
    for await (const chunk of chunks) {
      if (!ended) {
        await new Promise<void>((resolve) => transform.write(chunk, () => { resolve(); }));
        if (transform.errored || transform.destroyed && !transform.readableEnded) return; // the reader below has the error, or wants no more
        given += chunk.length;
      }
      const left = ended ? chunk.length : given - transform.bytesWritten;
      if (left > 0) ended = true;
      if (!isPadding(chunk.subarray(chunk.length - left))) throw new Error("other data follows");
    }
    if (!transform.destroyed) transform.end();
  })();
  pump.catch((error: Error) => { transform.destroy(error); }); // else the reader would wait for ever
  for await (const chunk of transform as AsyncIterable<Uint8Array>) yield chunk;
  await pump;
}

async function* zstd(chunks: AsyncIterable<Uint8Array>, name: string, unpacked: () => number): AsyncGenerator<Uint8Array> {
  if (nativeZstd) {
    for await (const frame of framesOf(chunks, name, unpacked)) yield* through(nativeZstd(), frame);
    return;
  }
  const unpacker = new ZstdUnpacker(name);
  for await (const chunk of chunks) yield* unpacker.push(chunk);
  yield* unpacker.end();
}
