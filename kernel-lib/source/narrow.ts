import { DictionaryColumn, NullableColumn, type Codes, type Column, type Words } from "./columns.js";

type Narrow = Int8Array | Int16Array | Int32Array | Float64Array;
type Bits = 8 | 16 | 32 | 64;

const newArray = (bits: Bits, length: number): Narrow =>
  bits === 8 ? new Int8Array(length) : bits === 16 ? new Int16Array(length) : bits === 32 ? new Int32Array(length) : new Float64Array(length);
const bitsFor = (most: number): Bits => (most <= 0x7f ? 8 : most <= 0x7fff ? 16 : most <= 0x7fffffff ? 32 : 64);

interface Piece { data: Narrow; bits: Bits; length: number }
const SHORTEST = 512, LONGEST = 1 << 16;

/**
 * Grows a column of numbers, block by block, in the narrowest array that holds them all; NaN is null. The blocks are of doubles, so that
 * the code which fills them meets one kind of array. What there is stays where it is, in pieces, until the column is finished.
 */
export class NarrowBuilder {
  private pieces: Piece[] = [];
  private bits: Bits = 8;
  private nulls = false;
  length = 0;

  /** `codes`: the numbers are codes of a dictionary column, where -1 stands for null; else it is the least number of the array's kind, or NaN. */
  constructor(private readonly codes: boolean) {}

  append(block: Float64Array, from: number, to: number): void {
    let most = 0, nulls = false;
    for (let i = from; i < to; i++) {
      const x = Math.abs(block[i]);
      if (x > most) most = x;
      if (x !== x) nulls = true;
    }
    this.nulls ||= nulls;
    const piece = this.room(bitsFor(most), to - from), { data, length, bits } = piece;
    if (!nulls || bits === 64) data.set(block.subarray(from, to), length);
    else {
      const none = this.none(bits);
      for (let i = from; i < to; i++) data[length + i - from] = block[i] === block[i] ? block[i] : none;
    }
    piece.length += to - from;
    this.length += to - from;
  }

  /** Rows without a value, until there are that many. */
  pad(length: number): void {
    while (this.length < length) {
      const piece = this.room(8, 1), count = Math.min(length - this.length, piece.data.length - piece.length);
      piece.data.fill(this.none(piece.bits), piece.length, piece.length + count);
      piece.length += count;
      this.length += count;
      this.nulls = true;
    }
  }

  /** What there is, as a column; the builder is then empty, so that of a trace's many columns one at a time is in memory twice. */
  numbers(): Column<any> {
    return this.nulls ? new NullableColumn(this.join(64) as Float64Array) : this.join(this.bits);
  }

  strings(words: Words | readonly string[]): DictionaryColumn {
    return new DictionaryColumn(this.join(this.bits) as Codes, words);
  }

  private none(bits: Bits): number {
    return this.codes ? -1 : bits === 64 ? NaN : -(2 ** (bits - 1));
  }

  /** The last piece, or a new one where that is full or too narrow. */
  private room(bits: Bits, count: number): Piece {
    const last = this.pieces[this.pieces.length - 1] as Piece | undefined;
    if (last !== undefined && last.bits >= bits && last.length + count <= last.data.length) return last;
    this.bits = Math.max(bits, this.bits) as Bits;
    const piece = { data: newArray(this.bits, Math.max(count, Math.min(LONGEST, Math.max(SHORTEST, this.length)))), bits: this.bits, length: 0 };
    this.pieces.push(piece);
    return piece;
  }

  private join(bits: Bits): Narrow {
    const all = newArray(bits, this.length), none = this.none(bits);
    let start = 0;
    for (const { data, bits: own, length } of this.pieces) {
      all.set(data.subarray(0, length), start);
      const ownNone = this.none(own);
      if (this.nulls && none !== ownNone) for (let i = 0; i < length; i++) if (data[i] === ownNone) all[start + i] = none;
      start += length;
    }
    this.pieces = [];
    return all;
  }
}
