import { Pairs } from "../source/pairs.js";

/** Stacks as one tree: a pair of the caller's node and a frame per node; node 0 is the root. */
export class StackTree {
  private readonly nodes = new Pairs();
  /** Nodes at which stacks ended, by the hash of the stack's frames; 0 is a free place. Most stacks came before and are found here at once. */
  private ends = new Int32Array(1 << 12);
  private count = 0;

  constructor() {
    this.nodes.code(-1, -1);
  }

  get parent(): Int32Array { return this.nodes.first.finish(); }
  get frame(): Int32Array { return this.nodes.second.finish(); }

  /** The leaf's node of the stack whose frames are `path[0, depth)`, leaf first. */
  leaf(path: Int32Array, depth: number): number {
    const { ends } = this, parent = this.nodes.first.data, frame = this.nodes.second.data, mask = ends.length - 1;
    let hash = 0;
    for (let i = 0; i < depth; i++) hash = mix(hash, path[i]);
    let slot = hash & mask;
    for (; ends[slot] > 0; slot = (slot + 1) & mask) {
      let node = ends[slot], i = 0;
      for (; i < depth && frame[node] === path[i]; i++) node = parent[node];
      if (i === depth && node === 0) return ends[slot];
    }
    let node = 0;
    for (let i = depth - 1; i >= 0; i--) node = this.nodes.code(node, path[i]);
    ends[slot] = node;
    if (++this.count * 2 > ends.length) this.grow();
    return node;
  }

  private grow(): void {
    const ends = new Int32Array(this.ends.length * 2), parent = this.nodes.first.data, frame = this.nodes.second.data, mask = ends.length - 1;
    for (const end of this.ends) {
      if (end === 0) continue;
      let hash = 0;
      for (let node = end; node > 0; node = parent[node]) hash = mix(hash, frame[node]);
      let slot = hash & mask;
      while (ends[slot] > 0) slot = (slot + 1) & mask;
      ends[slot] = end;
    }
    this.ends = ends;
  }
}

function mix(hash: number, frame: number): number {
  const h = Math.imul(hash ^ frame, 0x9e3779b1);
  return h ^ (h >>> 15);
}
