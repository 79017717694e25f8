import { allReaders, examine } from "./examine.js";
import type { Excerpt } from "./excerpts.js";
import { mutate, pack, random } from "./mutate.js";
import type { Reader } from "./recording-files.js";

/** One damaged text, and what it is given to. All of it follows from the seed and the case's number. */
export interface Case {
  excerpt: Excerpt;
  reader: Reader;
  bytes: Buffer;
  /** What the bytes hold; null where they are packed and damaged. */
  plain: Buffer | null;
  how: Parameters<typeof examine>[3];
}

const undamaged = new WeakMap<Excerpt, { result: object | null }>();

/** What an excerpt gives as it is, to be compared with; null where a part of a file is nothing. */
function resultOf(excerpt: Excerpt): object | null {
  let known = undamaged.get(excerpt);
  if (!known) {
    let result: object | null = null;
    try {
      result = excerpt.reader.from(excerpt.text);
    } catch { /* a piece out of the middle of a JSON text */ }
    undamaged.set(excerpt, known = { result });
  }
  return known.result;
}

export function caseOf(excerpts: readonly Excerpt[], seed: number, number: number): Case {
  const chance = random(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number + 1, 0x85ebca6b));
  const excerpt = chance.pick(excerpts);
  const text = mutate(excerpt.text, chance, [chance.pick(excerpts).text, excerpt.text]);
  const packed = chance.once(25) ? pack(text, chance) : null;
  const other = chance.pick(excerpts.filter(({ reader }) => reader === excerpt.reader));
  const reader = chance.once(10) ? chance.pick(allReaders) : excerpt.reader;
  return {
    excerpt, reader, bytes: packed?.packed ?? text, plain: packed ? (packed.whole ? text : null) : text,
    how: { chunk: chance.once(10) ? 1 + chance.below(chance.once(3) ? 20 : 2000) : null, other: reader === excerpt.reader ? resultOf(other) : null, deep: chance.once(20) },
  };
}

export async function runCase({ reader, bytes, plain, how }: Case): Promise<"read" | "refused"> {
  return examine(reader, bytes, plain, how);
}
