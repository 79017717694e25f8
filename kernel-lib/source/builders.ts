// Columns and what grows them. Apart from columns.ts, where Arquero is, since that takes as long to load as 50 MB of text to fold.

/** What Arquero asks of a column. */
export interface Column<T> extends Iterable<T> {
  readonly length: number;
  at(row: number): T;
}

abstract class Packed<T> implements Column<T> {
  abstract readonly length: number;
  abstract at(row: number): T;
  *[Symbol.iterator](): Iterator<T> {
    for (let i = 0; i < this.length; i++) yield this.at(i);
  }
  toArray(): T[] {
    return Array.from(this);
  }
}

/** Numbers of which some are missing: NaN in `data` stands for null. */
export class NullableColumn extends Packed<number | null> {
  constructor(readonly data: Float64Array) { super(); }
  get length(): number { return this.data.length; }
  at(row: number): number | null {
    const x = this.data[row];
    return x !== x || x === undefined ? null : x;
  }
}

/** Numbers of strings, in an array no wider than they need; below 0 stands null. */
export type Codes = Int8Array | Int16Array | Int32Array;

/** The distinct strings of a dictionary column, by their codes. */
export interface Words {
  readonly size: number;
  get(code: number): string;
}

/** Strings, each distinct one stored once: `codes[row]` is the number of one of `values`, or -1 for null. */
export class DictionaryColumn extends Packed<string | null> {
  /** The same as `values`, but each string is made when it is asked for. What is made of some rows of a column takes this over. */
  readonly words: Words;
  private list: readonly string[] | null;
  constructor(readonly codes: Codes, values: readonly string[] | Words) {
    super();
    this.list = isList(values) ? values : null;
    this.words = isList(values) ? { size: values.length, get: (code) => values[code] } : values;
  }
  get length(): number { return this.codes.length; }
  get values(): readonly string[] { return (this.list ??= Array.from({ length: this.words.size }, (_, code) => this.words.get(code))); }
  at(row: number): string | null {
    const code = this.codes[row];
    return code >= 0 ? this.words.get(code) : null;
  }
  /** Its strings at those rows, of which -1 gives null. */
  take(rows: ArrayLike<number>): DictionaryColumn {
    const { codes: all } = this, codes = newCodes(rows.length, this.words.size);
    for (let i = 0; i < rows.length; i++) codes[i] = rows[i] < 0 ? -1 : all[rows[i]];
    return new DictionaryColumn(codes, this.words);
  }
}

const isList = (values: readonly string[] | Words): values is readonly string[] => Array.isArray(values);

/** Codes of at most `size` strings (from 0 on), in an array that is wide enough for them and for -1. */
export function newCodes(length: number, size: number): Codes {
  return size <= 128 ? new Int8Array(length) : size <= 32768 ? new Int16Array(length) : new Int32Array(length);
}

/** A copy of the first `length` codes, of at most `size` strings, in the narrowest array. */
export function narrowCodes(codes: Int32Array, length: number, size: number, rows = length): Codes {
  const narrow = newCodes(rows, size);
  narrow.set(codes.subarray(0, length));
  return narrow;
}

export class BooleanColumn extends Packed<boolean> {
  constructor(readonly data: Uint8Array) { super(); }
  get length(): number { return this.data.length; }
  at(row: number): boolean { return this.data[row] !== 0; }
}

/** Grows a Float64Array; NaN is null. */
export class NumberBuilder {
  data = new Float64Array(64);
  length = 0;
  /** Whether a null was pushed, so that finish() knows which kind of column it is. */
  nulls = false;
  push(x: number): void {
    if (this.length === this.data.length) {
      const more = new Float64Array(this.length * 2);
      more.set(this.data);
      this.data = more;
    }
    if (x !== x) this.nulls = true;
    this.data[this.length++] = x;
  }
  pushNull(): void { this.push(NaN); }
  finish(): Float64Array | NullableColumn {
    const data = this.data.slice(0, this.length);
    return this.nulls ? new NullableColumn(data) : data;
  }
}

/** Grows an Int32Array. Nulls are the caller's business. */
export class IntBuilder {
  data = new Int32Array(64);
  length = 0;
  push(x: number): void {
    if (this.length === this.data.length) {
      const more = new Int32Array(this.length * 2);
      more.set(this.data);
      this.data = more;
    }
    this.data[this.length++] = x;
  }
  finish(): Int32Array { return this.data.slice(0, this.length); }
}

/**
 * Distinct byte strings ↔ small integers. Each distinct one is decoded to a string once, when asked for.
 * Several dictionary columns may share one (all comms of a trace do).
 */
export class Dictionary {
  private arena: Buffer = Buffer.allocUnsafeSlow(1 << 12);
  private view = new DataView(this.arena.buffer);
  private lent: Uint8Array = this.arena;
  private input = this.view;
  private used = 0;
  private offsets = new Int32Array(65);
  private table = new Int32Array(128).fill(-1);
  private hashes = new Int32Array(64);
  private decoded: string[] = [];
  /** How many distinct strings there are. */
  size = 0;

  /** The code of `bytes[start, end)`. */
  intern(bytes: Uint8Array, start: number, end: number): number {
    // 16 bytes at a time through a DataView: twice as fast as byte by byte, and every line of perf script is looked up here.
    if (bytes !== this.lent) {
      this.lent = bytes;
      this.input = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    }
    const input = this.input, length = end - start;
    let hash = length, i = 0;
    for (; i + 16 <= length; i += 16) {
      hash = Math.imul(hash ^ input.getInt32(start + i, true), 0x9e3779b1) ^ Math.imul(input.getInt32(start + i + 4, true), 0x85ebca6b)
        ^ Math.imul(input.getInt32(start + i + 8, true), 0xc2b2ae35) ^ Math.imul(input.getInt32(start + i + 12, true), 0x27d4eb2f);
      hash ^= hash >>> 15;
    }
    for (; i + 4 <= length; i += 4) {
      hash = Math.imul(hash ^ input.getInt32(start + i, true), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    if (i < length && length >= 4) hash = Math.imul(hash ^ input.getInt32(end - 4, true), 0x01000193);
    else for (; i < length; i++) hash = Math.imul(hash ^ input.getUint8(start + i), 0x01000193);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b);
    hash ^= hash >>> 13;
    const mask = this.table.length - 1;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const code = this.table[slot];
      if (code < 0) return this.add(bytes, start, end, hash, slot);
      if (this.hashes[code] === hash && this.same(code, input, start, length)) return code;
    }
  }

  /**
   * Where the string of a code ends, if it stands at `start`; -1 where it does not. For a code that is guessed: costs less than intern.
   * Eight bytes at a time, as a float: two that are equal have equal bytes, unless they are 0 (or NaN, which equals nothing), and those are never said to be equal.
   */
  endAt(code: number, input: DataView, start: number): number {
    const own = this.offsets[code], length = this.offsets[code + 1] - own, view = this.view, last = length - 8;
    if (last < 0 || start + length > input.byteLength) return -1;
    for (let i = 0; i < last; i += 8) {
      const x = input.getFloat64(start + i, true);
      if (x !== view.getFloat64(own + i, true) || x === 0) return -1;
    }
    const x = input.getFloat64(start + last, true);
    return x !== view.getFloat64(own + last, true) || x === 0 ? -1 : start + length;
  }

  internString(text: string): number {
    const bytes = Buffer.from(text, "utf8");
    return this.intern(bytes, 0, bytes.length);
  }

  /** The string of a code. */
  get(code: number): string {
    return (this.decoded[code] ??= this.arena.toString("utf8", this.offsets[code], this.offsets[code + 1]));
  }

  /** The bytes of a code; do not write to them. */
  bytes(code: number): Buffer {
    return this.arena.subarray(this.offsets[code], this.offsets[code + 1]);
  }

  values(): string[] {
    return Array.from({ length: this.size }, (_, code) => this.get(code));
  }

  private same(code: number, input: DataView, start: number, length: number): boolean {
    const own = this.offsets[code], view = this.view;
    if (this.offsets[code + 1] - own !== length) return false;
    let i = 0;
    for (; i + 4 <= length; i += 4) if (input.getInt32(start + i, true) !== view.getInt32(own + i, true)) return false;
    if (length >= 4) return input.getInt32(start + length - 4, true) === view.getInt32(own + length - 4, true);
    for (; i < length; i++) if (input.getUint8(start + i) !== view.getUint8(own + i)) return false;
    return true;
  }

  private add(bytes: Uint8Array, start: number, end: number, hash: number, slot: number): number {
    const length = end - start;
    if (this.used + length > this.arena.length) {
      const more = Buffer.allocUnsafeSlow(Math.max(this.arena.length * 2, this.used + length));
      this.arena.copy(more, 0, 0, this.used);
      this.arena = more;
      this.view = new DataView(more.buffer);
    }
    this.arena.set(bytes.subarray(start, end), this.used);
    this.used += length;
    const code = this.size++;
    if (code + 2 > this.offsets.length) {
      const offsets = new Int32Array(this.offsets.length * 2);
      offsets.set(this.offsets);
      this.offsets = offsets;
    }
    if (code >= this.hashes.length) {
      const hashes = new Int32Array(this.hashes.length * 2);
      hashes.set(this.hashes);
      this.hashes = hashes;
    }
    this.offsets[code + 1] = this.used;
    this.hashes[code] = hash;
    this.table[slot] = code;
    if (this.size * 2 > this.table.length) this.rehash();
    return code;
  }

  private rehash(): void {
    const table = new Int32Array(this.table.length * 2).fill(-1);
    const mask = table.length - 1;
    for (let code = 0; code < this.size; code++) {
      let slot = this.hashes[code] & mask;
      while (table[slot] >= 0) slot = (slot + 1) & mask;
      table[slot] = code;
    }
    this.table = table;
  }
}

/** Grows a dictionary column. */
export class StringBuilder {
  readonly codes = new IntBuilder();
  constructor(readonly dictionary: Dictionary = new Dictionary()) {}
  push(text: string | null): void { this.codes.push(text === null ? -1 : this.dictionary.internString(text)); }
  pushBytes(bytes: Uint8Array, start: number, end: number): void { this.codes.push(this.dictionary.intern(bytes, start, end)); }
  pushNull(): void { this.codes.push(-1); }
  finish(): DictionaryColumn {
    return new DictionaryColumn(narrowCodes(this.codes.data, this.codes.length, this.dictionary.size), this.dictionary.values());
  }
}
