import * as zlib from "node:zlib";
import { Decompress } from "fzstd";
import { UnpackLimitError } from "../errors.js";

// Zstandard by RFC 8878. Node has it since 22.15; before that, fzstd does it in JavaScript, slower.

/** As the zstd program: a larger window needs its --long or --memory. */
const LARGEST_WINDOW = 2 ** 27;
/** Windows from here on cost fzstd time for each block, which damaged or hostile files may have many of with nothing in them. */
const LARGE_WINDOW = 2 ** 23, MOST_BLOCKS = 2000, USUAL_BLOCK = 2 ** 14;

const MAGIC = 0xfd2fb528, SKIPPABLE = 0x184d2a50;

/** A piece of a frame; frames without data (skippable ones) are left out. */
interface Piece { bytes: Uint8Array; endsFrame: boolean }

/** Cuts bytes into frames without unpacking them: Node's own decompressor stops after the first, and memory for windows is to be refused before it is taken. */
class Frames {
  private head: number[] = [];
  private skip = 0;
  private inFrame = false;
  private hidden = false;
  private lastBlock = false;
  private checksum = 0;
  private window = 0;
  private blocks = 0;
  /** Of a header that is cut, the bytes that earlier chunks held. */
  private carried = 0;
  private before: Uint8Array | null = null;

  constructor(private readonly name: string) {}

  /** `unpacked`: how many bytes were unpacked so far. */
  cut(chunk: Uint8Array, unpacked: number): Piece[] {
    const pieces: Piece[] = [];
    let start = 0;
    const give = (end: number, endsFrame: boolean): void => {
      if (this.before) pieces.push({ bytes: this.before, endsFrame: false });
      this.before = null;
      pieces.push({ bytes: chunk.subarray(start, end), endsFrame });
    };
    for (let i = 0; i < chunk.length;) {
      if (this.skip > 0) {
        const n = Math.min(this.skip, chunk.length - i);
        this.skip -= n;
        i += n;
      } else {
        this.head.push(chunk[i++]);
        if (this.inFrame) this.blockHeader(unpacked);
        else this.frameHeader();
      }
      if (this.skip > 0 || this.inFrame && !this.lastBlock || this.head.length > 0) continue;
      if (!this.hidden) give(i, true);
      start = i;
      this.inFrame = this.lastBlock = this.hidden = false;
    }
    if (this.inFrame && start < chunk.length) give(chunk.length, false);
    this.carried = this.inFrame ? 0 : this.head.length;
    return pieces;
  }

  /** @throws where the bytes end within a frame */
  end(): void {
    if (this.inFrame || this.skip > 0 || this.head.length > 0) throw new Error("unexpected end of file");
  }

  private frameHeader(): void {
    const h = this.head;
    if (h.length < 5) return;
    const magic = h[0] + h[1] * 2 ** 8 + h[2] * 2 ** 16 + h[3] * 2 ** 24;
    if (magic >= SKIPPABLE && magic < SKIPPABLE + 16) {
      this.hidden = true;
      if (h.length < 8) return;
      this.skip = littleEndian(h, 4, 4);
      this.carried = 0;
      this.head = [];
      return;
    }
    if (magic !== MAGIC) throw new Error("what follows is not zstd data");
    const flags = h[4], single = (flags >> 5) & 1, sizeFlag = flags >> 6;
    const dictionary = [0, 1, 2, 4][flags & 3], size = sizeFlag === 0 ? single : 1 << sizeFlag;
    const length = 6 - single + dictionary + size;
    if (h.length < length) return;
    const base = 2 ** (10 + (h[5] >> 3));
    this.window = single ? littleEndian(h, length - size, size) : base + (base / 8) * (h[5] & 7);
    if (this.window > LARGEST_WINDOW) {
      throw new UnpackLimitError(`${this.name}: the zstd data needs ${Math.ceil(this.window / 2 ** 20)} MiB of memory to unpack, and 128 are taken; unpack it first: zstd -d --memory=2048MB`);
    }
    this.checksum = flags & 4;
    this.inFrame = true;
    if (this.carried > 0) this.before = Uint8Array.from(h.slice(0, this.carried));
    this.carried = 0;
    this.head = [];
  }

  private blockHeader(unpacked: number): void {
    const h = this.head;
    if (h.length < 3) return;
    const word = littleEndian(h, 0, 3), type = (word >> 1) & 3;
    this.lastBlock = (word & 1) === 1;
    this.skip = (type === 1 ? 1 : word >> 3) + (this.lastBlock ? this.checksum : 0);
    this.head = [];
    if (this.window > LARGE_WINDOW && ++this.blocks > MOST_BLOCKS + unpacked / USUAL_BLOCK) {
      throw new UnpackLimitError(`${this.name}: the zstd data is made of blocks that hold next to nothing; if it is an honest recording, unpack it first: zstd -d`);
    }
  }
}

function littleEndian(bytes: number[], at: number, n: number): number {
  let value = 0;
  for (let i = n - 1; i >= 0; i--) value = value * 256 + bytes[at + i];
  return value;
}

/** Unpacks with fzstd what is put in, piece by piece. */
export class ZstdUnpacker {
  private readonly frames: Frames;
  private readonly out: Uint8Array[] = [];
  private readonly decompress = new Decompress((chunk) => { if (chunk.length > 0) this.out.push(chunk); });
  private unpacked = 0;

  constructor(name: string) { this.frames = new Frames(name); }

  *push(chunk: Uint8Array): Generator<Uint8Array> {
    // Small pieces, since what fzstd makes of one it makes at once, and a piece may become 40,000 times as much.
    for (let at = 0; at < chunk.length; at += PIECE) {
      const piece = chunk.subarray(at, at + PIECE);
      this.frames.cut(piece, this.unpacked);
      this.decompress.push(piece);
      yield* this.taken();
    }
  }

  *end(): Generator<Uint8Array> {
    this.frames.end();
    this.decompress.push(new Uint8Array(0), true);
    yield* this.taken();
  }

  private *taken(): Generator<Uint8Array> {
    for (const chunk of this.out.splice(0)) {
      this.unpacked += chunk.length;
      yield chunk;
    }
  }
}
const PIECE = 1 << 12;

/** Node's decompressor; null before 22.15. */
export const nativeZstd = (zlib as unknown as { createZstdDecompress?: () => zlib.Gunzip }).createZstdDecompress ?? null;

/** The frames of a stream, each a stream of its own. */
export async function* framesOf(chunks: AsyncIterable<Uint8Array>, name: string, unpacked: () => number): AsyncGenerator<AsyncGenerator<Uint8Array>> {
  const frames = new Frames(name), waiting: Piece[] = [], all = chunks[Symbol.asyncIterator]();
  const more = async (): Promise<boolean> => {
    while (waiting.length === 0) {
      const next = await all.next();
      if (next.done) return false;
      waiting.push(...frames.cut(next.value, unpacked()));
    }
    return true;
  };
  async function* one(): AsyncGenerator<Uint8Array> {
    while (await more()) {
      const { bytes, endsFrame } = waiting.shift()!;
      yield bytes;
      if (endsFrame) return;
    }
  }
  while (await more()) yield one();
  frames.end();
}
