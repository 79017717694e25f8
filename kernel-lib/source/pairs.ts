import { IntBuilder } from "./builders.js";

/**
 * Distinct pairs of integers ↔ 0, 1, 2, … in the order in which they come. With (caller's node, frame) as pairs,
 * that is a tree of stacks in which every distinct path from the root is one number.
 */
export class Pairs {
  readonly first = new IntBuilder();
  readonly second = new IntBuilder();
  private table = new Int32Array(1 << 12).fill(-1);

  get size(): number { return this.first.length; }

  code(first: number, second: number): number {
    const table = this.table, mask = table.length - 1, firsts = this.first.data, seconds = this.second.data;
    let slot = hash(first, second) & mask;
    for (let code = table[slot]; code >= 0; code = table[slot]) {
      if (firsts[code] === first && seconds[code] === second) return code;
      slot = (slot + 1) & mask;
    }
    const code = table[slot] = this.size;
    this.first.push(first);
    this.second.push(second);
    if (this.size * 2 > table.length) this.grow();
    return code;
  }

  private grow(): void {
    const table = this.table = new Int32Array(this.table.length * 2).fill(-1), mask = table.length - 1;
    for (let code = 0; code < this.size; code++) {
      let slot = hash(this.first.data[code], this.second.data[code]) & mask;
      while (table[slot] >= 0) slot = (slot + 1) & mask;
      table[slot] = code;
    }
  }
}

function hash(first: number, second: number): number {
  const h = Math.imul(first + 1, 0x9e3779b1) ^ Math.imul(second + 1, 0x85ebca6b);
  return h ^ (h >>> 15);
}
