export type FrameKind = "kernel" | "user" | "guest" | "jit" | "inlined" | "unknown";

export const NOT_A_FRAME = -1;

/** Distinct frames. A known symbol's frames are one, whatever their addresses. */
export class Frames {
  readonly symbol: string[] = [];
  readonly dso: (string | null)[] = [];
  readonly kind: FrameKind[] = [];
  readonly addr: (string | null)[] = [];
  readonly srcline: (string | null)[] = [];
  private readonly byKey = new Map<string, number>();

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
    const key = `${symbol}\0${dso ?? ""}\0${kind}\0${addr ?? ""}\0${srcline ?? ""}`;
    let frame = this.byKey.get(key);
    if (frame === undefined) {
      frame = this.symbol.length;
      this.byKey.set(key, frame);
      this.symbol.push(symbol);
      this.dso.push(dso);
      this.kind.push(kind);
      this.addr.push(addr);
      this.srcline.push(srcline);
    }
    return frame;
  }
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
