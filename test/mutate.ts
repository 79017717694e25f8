import { gzipSync } from "node:zlib";

// Damage done to text, the same for the same seed.

/** Numbers below n, the same row for the same seed (mulberry32). */
export interface Random {
  below(n: number): number;
  pick<T>(list: readonly T[]): T;
  /** True once in n times. */
  once(n: number): boolean;
}

export function random(seed: number): Random {
  let state = seed | 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n: number): number => Math.floor(next() * n);
  return { below, pick: (list) => list[below(list.length)], once: (n) => below(n) === 0 };
}

const BYTES = [0, 9, 10, 13, 27, 32, 34, 35, 37, 40, 41, 44, 45, 46, 47, 48, 57, 58, 59, 60, 61, 91, 93, 95, 97, 123, 125, 127, 0x80, 0xc3, 0xff];
const NUMBERS = [
  "0", "-1", "1", "00000000000", "65536", "2147483647", "2147483648", "4294967295", "4294967296", "-2147483648", "9007199254740993", "18446744073709551615",
  "99999999999999999999999999", "1e309", "1e999999", "NaN", "nan", "inf", "-nan", "0x", "0xffffffffffffffff", "0xfffffffffffffffffffff", "0.0000000000001", "1.2.3", "1,234,5", "", "9".repeat(400),
];
const WORDS = [
  "__proto__", "constructor", "toString", "hasOwnProperty", "valueOf", "length", "then", "ts", "pid", "comm", "event", "info", "id", "value", "stack", "", " ", "swapper", "<idle>", "...",
  "<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "$&", "\\", "%s", "${x}", "datum.x", "CPU 0/KVM", "vhost-1", "[unknown]", "kvm_exit", "kvm_mmio", "sched_switch", "sched_waking",
  "kvm_entry", "tun_get_user", "QueueNotify", "TRAP", "IRQ", "R", "==>", "\u202egpj.exe", "ÄÖ€", "x".repeat(5000),
];
const BAD_UTF8 = [[0xc3, 0x28], [0xa0, 0xa1], [0xe2, 0x28, 0xa1], [0xed, 0xa0, 0x80], [0xf0, 0x9f, 0x92], [0xf8, 0x88, 0x80, 0x80, 0x80], [0xfe], [0xff, 0xff]];

type Damage = (lines: Buffer[], random: Random, others: readonly Buffer[]) => void;

/** One line's bytes with `n` of them from `at` on replaced. */
function put(line: Buffer, at: number, n: number, ...by: (Uint8Array | string)[]): Buffer {
  return Buffer.concat([line.subarray(0, at), ...by.map((piece) => (typeof piece === "string" ? Buffer.from(piece) : piece)), line.subarray(at + n)]);
}

/** Where a run of such bytes stands in a line: [start, length]; null where there is none. */
function run(line: Buffer, random: Random, pattern: RegExp): [number, number] | null {
  const found = [...line.toString("latin1").matchAll(pattern)];
  if (found.length === 0) return null;
  const one = random.pick(found);
  return [one.index!, one[0].length];
}

const some = (lines: Buffer[], random: Random): number => random.below(lines.length);

const damages: Damage[] = [
  function flipBits(lines, random) {
    const i = some(lines, random), line = Buffer.from(lines[i]);
    for (let n = random.below(4); n >= 0 && line.length > 0; n--) line[random.below(line.length)] ^= 1 << random.below(8);
    lines[i] = line;
  },
  function setByte(lines, random) {
    const i = some(lines, random), line = Buffer.from(lines[i]);
    if (line.length > 0) line[random.below(line.length)] = random.pick(BYTES);
    lines[i] = line;
  },
  function cutLine(lines, random) {
    const i = some(lines, random), at = random.below(lines[i].length + 1);
    lines[i] = random.once(2) ? lines[i].subarray(0, at) : lines[i].subarray(at);
  },
  function cutMiddle(lines, random) {
    const i = some(lines, random), at = random.below(lines[i].length + 1);
    lines[i] = put(lines[i], at, random.below(30));
  },
  function dropLines(lines, random) {
    const i = some(lines, random);
    lines.splice(i, 1 + random.below(random.once(3) ? lines.length : 3));
  },
  function doubleLines(lines, random) {
    const i = some(lines, random), part = lines.slice(i, i + 1 + random.below(5));
    lines.splice(some(lines, random), 0, ...part);
  },
  function swapLines(lines, random) {
    const i = some(lines, random), j = some(lines, random);
    [lines[i], lines[j]] = [lines[j], lines[i]];
  },
  function shuffle(lines, random) {
    for (let i = lines.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [lines[i], lines[j]] = [lines[j], lines[i]];
    }
  },
  function joinLines(lines, random) {
    const i = some(lines, random);
    if (i + 1 < lines.length) lines.splice(i, 2, Buffer.concat([lines[i], lines[i + 1]]));
  },
  function breakLine(lines, random) {
    const i = some(lines, random), at = random.below(lines[i].length + 1);
    lines.splice(i, 1, lines[i].subarray(0, at), lines[i].subarray(at));
  },
  function number(lines, random) {
    const i = some(lines, random), at = run(lines[i], random, /\d+/g);
    if (at) lines[i] = put(lines[i], ...at, random.pick(NUMBERS));
  },
  function word(lines, random) {
    const i = some(lines, random), at = run(lines[i], random, /[^\s:;=[\]()/,]+/g);
    if (at) lines[i] = put(lines[i], ...at, random.pick(WORDS));
  },
  function wordOfAnotherLine(lines, random) {
    const i = some(lines, random), j = some(lines, random), at = run(lines[i], random, /\S+/g), from = run(lines[j], random, /\S+/g);
    if (at && from) lines[i] = put(lines[i], ...at, lines[j].subarray(from[0], from[0] + from[1]));
  },
  /** The same number everywhere, such as one pid for all. */
  function everywhere(lines, random) {
    const i = some(lines, random), at = run(lines[i], random, /\d+/g);
    if (!at) return;
    const old = lines[i].toString("latin1", at[0], at[0] + at[1]), by = random.pick(NUMBERS);
    lines.forEach((line, k) => { lines[k] = Buffer.from(line.toString("latin1").replaceAll(old, by), "latin1"); });
  },
  function blanks(lines, random) {
    const i = some(lines, random), at = run(lines[i], random, /[ \t]+/g);
    if (at) lines[i] = put(lines[i], ...at, random.pick(["", "\t", " ".repeat(1 + random.below(40)), " ".repeat(3000), "\u00a0", "\u3000"]));
  },
  function nul(lines, random) {
    const i = some(lines, random);
    lines[i] = put(lines[i], random.below(lines[i].length + 1), 0, Buffer.alloc(1 + random.below(random.once(5) ? 5000 : 3)));
  },
  function badUtf8(lines, random) {
    const i = some(lines, random);
    lines[i] = put(lines[i], random.below(lines[i].length + 1), 0, Buffer.from(random.pick(BAD_UTF8)));
  },
  function carriageReturns(lines, random) {
    if (random.once(2)) lines.forEach((line, i) => { lines[i] = put(line, line.length, 0, "\r"); });
    else {
      const i = some(lines, random);
      lines[i] = put(lines[i], random.below(lines[i].length + 1), 0, "\r");
    }
  },
  function byteOrderMark(lines, random) {
    lines[0] = put(lines[0], 0, 0, Buffer.from(random.pick([[0xef, 0xbb, 0xbf], [0xef, 0xbb, 0xbf], [0xff, 0xfe], [0xfe, 0xff], [0xef, 0xbb]])));
  },
  function longLine(lines, random) {
    const i = some(lines, random), line = lines[i], from = random.below(line.length + 1), piece = line.subarray(from, from + 1 + random.below(40));
    if (piece.length > 0) lines[i] = put(line, from, 0, Buffer.alloc(1 + random.below(random.once(10) ? 100_000 : 3000), piece));
  },
  function another(lines, random, others) {
    const other = linesOf(random.pick(others)), from = random.below(other.length);
    lines.splice(some(lines, random), 0, ...other.slice(from, from + 1 + random.below(other.length)));
  },
  function truncate(lines, random) {
    const i = some(lines, random);
    if (random.once(2)) lines.splice(i + 1);
    else lines.splice(0, i);
    lines[lines.length - 1] = lines[lines.length - 1].subarray(0, random.below(lines[lines.length - 1].length + 1));
  },
];

export function linesOf(text: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let start = 0; ;) {
    const newline = text.indexOf(10, start);
    if (newline < 0) {
      lines.push(text.subarray(start));
      return lines;
    }
    lines.push(text.subarray(start, newline));
    start = newline + 1;
  }
}

export function joined(lines: readonly Buffer[]): Buffer {
  return Buffer.concat(lines.flatMap((line, i) => (i === 0 ? [line] : [NEWLINE, line])));
}
const NEWLINE = Buffer.from("\n");

/** A damaged copy: one to eight kinds of damage, one after the other. `others` are texts to mix in. */
export function mutate(text: Buffer, random: Random, others: readonly Buffer[]): Buffer {
  const lines = linesOf(text);
  for (let n = random.pick([1, 1, 1, 2, 2, 3, 4, 8]); n > 0; n--) {
    random.pick(damages)(lines, random, others);
    if (lines.length === 0) lines.push(Buffer.alloc(0));
  }
  return joined(lines);
}

/** A text packed, whole or damaged: cut short, bytes changed, in several members, with other bytes behind it. */
export function pack(text: Buffer, random: Random): { packed: Buffer; whole: boolean } {
  const half = random.below(text.length + 1);
  let packed = random.pick([
    () => gzipSync(text), () => zstdStored(text),
    () => Buffer.concat([gzipSync(text.subarray(0, half)), gzipSync(text.subarray(half))]),
    () => Buffer.concat([zstdStored(text.subarray(0, half)), zstdStored(text.subarray(half))]),
  ])();
  if (random.once(2)) return { packed, whole: true };
  packed = Buffer.from(random.pick([
    () => packed.subarray(0, random.below(packed.length)),
    () => { for (let n = random.below(3); n >= 0; n--) packed[random.below(packed.length)] ^= 1 << random.below(8); return packed; },
    () => Buffer.concat([packed, Buffer.from(random.pick(["\0", "trailing text\n", "\x1f\x8b", "\x1f\x8b\x08\0garbage", "\x28\xb5\x2f\xfd"]), "latin1")]),
    () => Buffer.concat([packed.subarray(0, random.below(packed.length)), packed]),
  ])());
  return { packed, whole: false };
}

/** A zstd frame of raw blocks (RFC 8878), since Node before 22.15 cannot compress so. */
export function zstdStored(content: Uint8Array, blockSize = 1 << 16): Buffer {
  const parts: Uint8Array[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x30])]; // no content size, a window of 64 KiB
  for (let at = 0; at === 0 || at < content.length; at += blockSize) {
    const block = content.subarray(at, at + blockSize), last = at + blockSize >= content.length;
    parts.push(blockHeader(block.length, 0, last), block);
  }
  return Buffer.concat(parts);
}

/** A zstd frame that says one byte `size` times, in 4 bytes per 64 KiB. */
export function zstdBomb(size: number, byte = 10): Buffer {
  const block = 1 << 16, parts: Uint8Array[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x30])];
  for (let left = size; left > 0; left -= block) parts.push(blockHeader(Math.min(left, block), 1, left <= block), Buffer.from([byte]));
  return Buffer.concat(parts);
}

function blockHeader(size: number, type: 0 | 1, last: boolean): Buffer {
  const header = Buffer.alloc(3);
  header.writeUIntLE((size << 3) | (type << 1) | (last ? 1 : 0), 0, 3);
  return header;
}
