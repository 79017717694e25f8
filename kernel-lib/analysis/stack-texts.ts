import { NumberBuilder } from "../source/builders.js";
import { Pairs } from "../source/pairs.js";

const SEMICOLON = 59;

/**
 * Stacks with a weight each, as texts "process;frame;frame". They are kept as a tree of the texts between the semicolons, so that
 * thousands of long texts that begin alike are told apart and put in order without being compared.
 */
export class StackTexts {
  private readonly texts: string[] = [];
  private readonly numbers = new Map<string, number>();
  /** Frames below all processes: the caller's node and a text per node; node 0 is the root. */
  private readonly nodes = new Pairs();
  /** A process's text and the leaf's node per stack. */
  private readonly stacks = new Pairs();
  private readonly weights = new NumberBuilder();

  constructor() {
    this.nodes.code(-1, -1);
  }

  /** The number of a text that holds no semicolon. */
  number(text: string): number {
    let number = this.numbers.get(text);
    if (number === undefined) this.numbers.set(text, number = this.texts.push(text) - 1);
    return number;
  }

  /** The node of a frame, by its caller's node and the number of its text. */
  node(caller: number, number: number): number {
    return this.nodes.code(caller, number);
  }

  /** Adds to the weight of the stack that ends with a node. */
  add(process: number, node: number, weight: number): void {
    const stack = this.stacks.code(process, node);
    if (stack === this.weights.length) this.weights.push(0);
    this.weights.data[stack] += weight;
  }

  /** Distinct stacks in the order of their texts' bytes. */
  inOrder(): { stack: string[]; value: Float64Array } {
    const { texts, weights } = this, process = this.stacks.first.data, leaf = this.stacks.second.data, size = this.stacks.size;
    const { places, goingOn } = this.placesOfTexts(), ranks = this.ranksOfNodes(places, goingOn), textOf = this.textsOfNodes();
    const keys = new Float64Array(size), order = new Uint32Array(size), value = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      order[i] = i;
      keys[i] = (leaf[i] === 0 ? places : goingOn)[process[i]] * this.nodes.size + ranks[leaf[i]];
    }
    order.sort((a, b) => keys[a] - keys[b]);
    const stack: string[] = [];
    for (let i = 0; i < size; i++) {
      stack.push(texts[process[order[i]]] + textOf(leaf[order[i]]));
      value[i] = weights.data[order[i]];
    }
    return { stack, value };
  }

  /** ";caller;callee" of a node; texts of callers are shared. */
  private textsOfNodes(): (node: number) => string {
    const caller = this.nodes.first.data, number = this.nodes.second.data;
    const ofFrame = this.texts.map((text) => `;${text}`), ofNode: (string | undefined)[] = [""], pending: number[] = [];
    return (node) => {
      for (; ofNode[node] === undefined; node = caller[node]) pending.push(node);
      let text = ofNode[node]!;
      while (pending.length > 0) {
        node = pending.pop()!;
        text = ofNode[node] = text + ofFrame[number[node]];
      }
      return text;
    };
  }

  /**
   * Where texts stand among each other, as the end of a stack and where more follows. These are two places, since what follows
   * is a semicolon, and some characters come before it: "f", "f.part", "f.part;g", "f;g".
   */
  private placesOfTexts(): { places: Int32Array; goingOn: Int32Array } {
    const { texts, numbers } = this, places = new Int32Array(texts.length), goingOn = new Int32Array(texts.length), open: string[] = [];
    let place = 0;
    const closeBefore = (text: string | null): void => {
      for (let last = open.at(-1); last !== undefined && !(text?.startsWith(last) && text.charCodeAt(last.length) < SEMICOLON); last = open.at(-1)) {
        goingOn[numbers.get(last)!] = place++;
        open.pop();
      }
    };
    for (const text of inByteOrder(texts.slice())) {
      closeBefore(text);
      places[numbers.get(text)!] = place++;
      open.push(text);
    }
    closeBefore(null);
    return { places, goingOn };
  }

  /** Where nodes, as ends of stacks, stand among each other. */
  private ranksOfNodes(places: Int32Array, goingOn: Int32Array): Int32Array {
    const { size } = this.nodes, caller = this.nodes.first.data, text = this.nodes.second.data;
    // Two items per node, 2 × node as an end and one more for what is below it: first in one list per place, then, in the order of places, in one per caller.
    const atPlace = new Int32Array(2 * this.texts.length).fill(-1), below = new Int32Array(size).fill(-1), next = new Int32Array(2 * size);
    for (let item = 2; item < 2 * size; item++) {
      const place = ((item & 1) === 0 ? places : goingOn)[text[item >> 1]];
      next[item] = atPlace[place];
      atPlace[place] = item;
    }
    for (let place = atPlace.length - 1; place >= 0; place--) {
      for (let item = atPlace[place]; item >= 0;) {
        const after = next[item], from = caller[item >> 1];
        next[item] = below[from];
        below[from] = item;
        item = after;
      }
    }
    const ranks = new Int32Array(size), left: number[] = [];
    let rank = 1;
    for (let item = below[0]; item >= 0 || left.length > 0;) {
      if (item < 0) item = left.pop()!;
      else if ((item & 1) === 0) {
        ranks[item >> 1] = rank++;
        item = next[item];
      } else {
        left.push(next[item]);
        item = below[item >> 1];
      }
    }
    return ranks;
  }
}

/** Sorted as by the bytes of their UTF-8, which JavaScript's own order is not beyond U+D7FF. */
export function inByteOrder(texts: string[]): string[] {
  if (!texts.some((text) => /[\ud800-\uffff]/.test(text))) return texts.sort();
  return texts.map((text) => Buffer.from(text)).sort(Buffer.compare).map((bytes) => bytes.toString());
}
