import { Dictionary, IntBuilder } from "../source/builders.js";
import { Pairs } from "../source/pairs.js";

export type FrameKind = "kernel" | "user" | "guest" | "jit" | "inlined" | "unknown";

export const NOT_A_FRAME = -1;

/** Distinct frames. A known symbol's frames are one, whatever their addresses. */
export class Frames {
  readonly symbol: string[] = [];
  readonly dso: (string | null)[] = [];
  readonly kind: FrameKind[] = [];
  readonly addr: (string | null)[] = [];
  readonly srcline: (string | null)[] = [];
  /** Most frames are a symbol and a dso, known by their numbers; others have an address, a source line, no dso. */
  private readonly symbols = new Dictionary();
  private readonly dsos = new Dictionary();
  private readonly pairs = new Pairs();
  private readonly ofPair = new IntBuilder();
  private readonly others = new Map<string, number>();

  /** A line without indentation → a frame, or NOT_A_FRAME. */
  fromBytes(bytes: Buffer, start: number, end: number): number {
    const plain = this.plain(bytes, start, end);
    return plain >= 0 ? plain : this.fromText(bytes.toString("utf8", start, end));
  }

  /** "ADDRESS SYMBOL+0xOFFSET (DSO)" → a frame, without a string being made of what is known; -1 for all that looks otherwise. */
  private plain(bytes: Buffer, start: number, end: number): number {
    let at = start;
    while (bytes[at] === BLANK) at++;
    const address = at;
    while (at < end && isHex(bytes[at])) at++;
    if (at === address || bytes[at] !== BLANK || bytes[end - 1] !== CLOSE) return -1;
    let open = end - 2;
    while (open > at && bytes[open] !== OPEN && bytes[open] !== CLOSE) open--;
    if (bytes[open] !== OPEN || bytes[open - 1] !== BLANK) return -1;
    const symbolStart = at + 1, symbolEnd = withoutOffset(bytes, symbolStart, open - 1), dsoEnd = withoutOffset(bytes, open + 1, end - 1);
    if (symbolStart >= symbolEnd || bytes[symbolStart] <= BLANK || bytes[symbolStart] === BRACKET || bytes[symbolEnd - 1] <= BLANK || open + 1 === dsoEnd) return -1;
    for (let i = symbolStart; i < end; i++) if (bytes[i] >= 0x80) return -1;
    if (dsoEnd - open - 1 === 7 && bytes.toString("latin1", open + 1, dsoEnd) === "inlined") return -1;
    return this.ofSymbol(this.symbols.intern(bytes, symbolStart, symbolEnd), this.dsos.intern(bytes, open + 1, dsoEnd));
  }

  private ofSymbol(symbol: number, dso: number): number {
    const pair = this.pairs.code(symbol, dso);
    if (pair === this.ofPair.length) {
      const file = this.dsos.get(dso);
      this.ofPair.push(this.push(this.symbols.get(symbol), file, kindOf(file), null, null));
    }
    return this.ofPair.data[pair];
  }

  /** "ffff8000081820e8 generic_exec_single+0xd4 ([kernel.kallsyms])", without indentation → a frame, or NOT_A_FRAME. */
  fromText(text: string): number {
    const address = /^ *([0-9a-f]+)(?= |$)/.exec(text);
    if (!address) return NOT_A_FRAME;
    let rest = text.slice(address[0].length + 1).trimEnd();
    const inlined = rest.endsWith(" (inlined)");
    if (inlined) rest = rest.slice(0, -10);
    let dso: string | null = null;
    const open = openOfLast(rest);
    if (open >= 0) {
      dso = rest.slice(open + 1, -1).replace(/\+0x[0-9a-f]+$/, ""); // (dso+0xoff): -F +dsoff
      rest = rest.slice(0, Math.max(0, open - 1));
    }
    const symbol = rest.trim().replace(/\+0x[0-9a-f]+$/, "");
    const known = symbol !== "[unknown]" && symbol !== "";
    return this.add(symbol === "" && dso === null ? "[unknown]" : symbol, dso, inlined ? "inlined" : kindOf(dso), known ? null : `0x${address[1]}`, null);
  }

  withSource(frame: number, srcline: string, inlined: boolean): number {
    return this.add(this.symbol[frame], this.dso[frame], inlined ? "inlined" : this.kind[frame], this.addr[frame], srcline);
  }

  /** The number of a frame. */
  add(symbol: string, dso: string | null, kind: FrameKind, addr: string | null, srcline: string | null): number {
    if (dso !== null && addr === null && srcline === null && kind !== "inlined") return this.ofSymbol(this.symbols.internString(symbol), this.dsos.internString(dso));
    const key = `${symbol}\0${dso ?? ""}\0${kind}\0${addr ?? ""}\0${srcline ?? ""}`;
    let frame = this.others.get(key);
    if (frame === undefined) this.others.set(key, frame = this.push(symbol, dso, kind, addr, srcline));
    return frame;
  }

  private push(symbol: string, dso: string | null, kind: FrameKind, addr: string | null, srcline: string | null): number {
    this.symbol.push(symbol);
    this.dso.push(dso);
    this.kind.push(kind);
    this.addr.push(addr);
    this.srcline.push(srcline);
    return this.symbol.length - 1;
  }
}

const BLANK = 32, OPEN = 40, CLOSE = 41, PLUS = 43, ZERO = 48, BRACKET = 91, X = 120;
const isHex = (byte: number) => (byte >= ZERO && byte <= 57) || (byte >= 97 && byte <= 102);

/** The end of a text without "+0x1f" at its end. */
function withoutOffset(bytes: Buffer, start: number, end: number): number {
  let at = end - 1;
  while (at >= start && isHex(bytes[at])) at--;
  return at < end - 1 && at - 2 >= start && bytes[at] === X && bytes[at - 1] === ZERO && bytes[at - 2] === PLUS ? at - 2 : end;
}

/** Where the parenthesis opens that a text's last character closes; -1 for none. A dso may hold some itself: "(/memfd:x (deleted))". */
function openOfLast(text: string): number {
  if (!text.endsWith(")")) return -1;
  let depth = 0;
  for (let i = text.length - 1; i >= 0; i--) {
    if (text[i] === ")") depth++;
    else if (text[i] === "(" && --depth === 0) return i === 0 || text[i - 1] === " " ? i : -1;
  }
  const last = text.lastIndexOf(" ("); // unbalanced: a path such as "/tmp/a) b"
  return last < 0 ? -1 : last + 1;
}

function kindOf(dso: string | null): FrameKind {
  if (dso === null || dso === "[unknown]") return "unknown";
  if (dso.startsWith("[guest.")) return "guest";
  if (/^\/tmp\/perf-\d+\.map$|^\[JIT\]|\/jitted-\d+-\d+\.so$/.test(dso)) return "jit";
  if (/^\[(vdso|vdso32|vsyscall|heap|stack|anon|uprobes)\b/.test(dso) || dso.startsWith("//")) return "user";
  return dso.startsWith("[") || /(^|\/)vmlinu[xz][^/]*$|\.ko(\.gz|\.xz|\.zst)?$/.test(dso) ? "kernel" : "user";
}
