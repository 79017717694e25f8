/**
 * Pieces of text that were read before, each at a place that a few of its bytes give. Most lines begin as the last one of the same
 * CPU, most events are of a few names and most of their texts come again soon: what was read of them then is not read anew.
 * Pieces are compared four bytes at a time.
 */
export class Recent {
  private static readonly LONGEST = 96;
  private readonly bytes: DataView;
  readonly length: Int32Array;
  constructor(places: number) {
    this.bytes = new DataView(new ArrayBuffer(places * Recent.LONGEST));
    this.length = new Int32Array(places);
  }

  /** Whether the text at `at` begins with the piece at that place. */
  matches(place: number, view: DataView, at: number, end: number): boolean {
    const n = this.length[place], { bytes } = this, from = place * Recent.LONGEST, last = n - 4;
    if (n === 0 || at + n > end) return false;
    for (let i = 0; i < last; i += 4) if (view.getInt32(at + i, true) !== bytes.getInt32(from + i, true)) return false;
    return view.getInt32(at + last, true) === bytes.getInt32(from + last, true);
  }

  /** False where the piece is too long or too short to be kept. */
  keep(place: number, view: DataView, at: number, length: number): boolean {
    if (length < 4 || length > Recent.LONGEST) return false;
    const { bytes } = this, from = place * Recent.LONGEST, last = length - 4;
    for (let i = 0; i < last; i += 4) bytes.setInt32(from + i, view.getInt32(at + i, true), true);
    bytes.setInt32(from + last, view.getInt32(at + last, true), true);
    this.length[place] = length;
    return true;
  }

  forget(): void { this.length.fill(0); }
}

/** Of `length` ≥ 4 bytes. */
export function hashOf(view: DataView, at: number, length: number): number {
  const last = at + length - 4;
  let hash = length;
  for (; at < last; at += 4) hash = Math.imul(hash ^ view.getInt32(at, true), 0x9e3779b1) ^ (hash >>> 15);
  hash = Math.imul(hash ^ view.getInt32(last, true), 0x9e3779b1);
  return hash ^ (hash >>> 15);
}
