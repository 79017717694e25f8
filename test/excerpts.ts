import { readFileSync } from "node:fs";
import { basename, dirname, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { decompress } from "fzstd";
import { linesOf, joined, random } from "./mutate.js";
import { CAPTURE, DATA, filesBelow, PEER } from "./peer.js";
import { readerOf, readers, type Reader } from "./recording-files.js";

/** A few kB of a real file, whole lines. */
export interface Excerpt {
  /** Where it is from: "data/capture/virtio/trace-cmd.txt.gz:1201". */
  name: string;
  reader: Reader;
  text: Buffer;
}

const SIZE = 2000, PIECES = 4;
/** What a guest's kick looks like; what follows it is long, and only as a whole of use to the analyses. */
const KICK = /kvm_mmio: +mmio write/, BEFORE_KICK = 5, KICK_SIZE = 7000, KICKS = 2;

/** Which reader a file is for, also of those that hold no measurements. */
function fuzzReaderOf(path: string): Reader | null {
  const name = basename(path);
  if (name === "commands.txt") return readers.commands;
  if (name === "environment.txt") return readers.threads;
  if (/_example\.txt$/.test(name)) return name.startsWith("kvmexit") ? readers.kvmexit : readers.virtiostat;
  if (name.endsWith(".folded")) return readers.folded;
  const folder = basename(dirname(path));
  return readerOf(path) ?? (folder === "perf-script" ? readers.perfScript : folder === "trace-cmd" ? readers.traceCmd : null);
}

/** The beginning of a file, its end, pieces from between, kicks with what follows. */
function piecesOf(text: Buffer, seed: number): { line: number; text: Buffer }[] {
  if (text.length <= 2 * SIZE) return [{ line: 1, text }];
  const lines = linesOf(text), { below, pick } = random(seed);
  const piece = (from: number, most: number): { line: number; text: Buffer } => {
    let to = from;
    for (let size = 0; to < lines.length && size < most; to++) size += lines[to].length + 1;
    return { line: from + 1, text: joined(lines.slice(from, to)) };
  };
  let last = lines.length;
  for (let size = 0; last > 0 && size < SIZE;) size += lines[--last].length + 1;
  const kicks = lines.flatMap((line, i) => (KICK.test(line.toString("latin1")) ? [Math.max(0, i - BEFORE_KICK)] : []));
  return [
    ...[0, ...Array.from({ length: PIECES - 2 }, () => below(lines.length)), last].map((from) => piece(from, SIZE)),
    ...(kicks.length > 0 ? Array.from({ length: KICKS }, () => piece(pick(kicks), KICK_SIZE)) : []),
  ];
}

/** Excerpts of every file of data/, and of the larger sets where there are. Always the same ones in the same order. */
export function excerpts(): Excerpt[] {
  const found: Excerpt[] = [];
  for (const [set, folder] of [["data", DATA], ["capture", CAPTURE], ["peer", PEER]] as const) {
    if (!folder) continue;
    filesBelow(folder, /./).forEach((path, seed) => {
      const reader = fuzzReaderOf(path);
      if (!reader) return;
      const bytes = readFileSync(path);
      const text = path.endsWith(".gz") ? gunzipSync(bytes) : path.endsWith(".zst") ? Buffer.from(decompress(bytes)) : bytes;
      for (const piece of piecesOf(text, seed)) found.push({ name: `${set}/${relative(folder, path)}:${piece.line}`, reader, text: Buffer.from(piece.text) });
    });
  }
  return found;
}
