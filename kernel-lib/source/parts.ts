import { HEADER, type Format, type LineParser } from "./lines.js";

// A text in parts that can be parsed one by one, for what is to be written while it is read: no more than a part is held.

/** Bytes of a part, about; and of one that holds a stack without end. */
const PART = 8 << 20, LONGEST = 64 << 20;
const NEWLINE = 10, NEW_LINE = Buffer.from("\n");

/** Parts that end where a line ends and, of texts with stacks below their lines, where a stack ends. */
export async function* partsOf(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, stacks: boolean, size = PART): AsyncGenerator<Buffer> {
  let held: Uint8Array[] = [], length = 0, wanted = size;
  for await (const chunk of chunks) {
    held.push(Buffer.from(chunk)); // a copy: a chunk is lent until the next one
    length += chunk.length;
    if (length < wanted) continue;
    const all = Buffer.concat(held, length), end = lastEnd(all, stacks);
    // Where there is no end yet, look again when there is much more, so that a line of any length takes linear time.
    wanted = end === 0 ? length * 2 : size;
    if (end > 0) yield all.subarray(0, end);
    held = end < length ? [Buffer.from(all.subarray(end))] : [];
    length -= end;
  }
  if (length > 0) yield Buffer.concat(held, length);
}

function lastEnd(bytes: Buffer, stacks: boolean): number {
  const line = bytes.lastIndexOf(NEWLINE) + 1;
  if (!stacks) return line;
  const blank = Math.max(bytes.lastIndexOf("\n\n") + 2, bytes.lastIndexOf("\n\r\n") + 3);
  if (blank > 2) return blank;
  // Without blank lines there are no stacks, but samples of one line each; or one stack, which has not come to its end.
  return bytes.includes("\n\t") && bytes.length < LONGEST ? 0 : line;
}

/** Makes a parser for each part of a text. What headings said holds for the parts below them: each part's parser is told them first. */
export function partParsers<T extends object>(format: Format<T>, name: string): () => LineParser<T> {
  const headings: Buffer[] = [];
  return () => {
    const parser = format.parser({ name });
    for (const line of headings) parser.line(line, 0, line.length - 1);
    return {
      ...(parser.ahead ? { ahead: (bytes, start, count) => parser.ahead!(bytes, start, count) } : {}),
      line(bytes, start, end) {
        const kind = parser.line(bytes, start, end);
        // "trace-guest.dat: cpus=4": which files a merged report is of. A parser takes so many names and no more.
        if (kind === HEADER && end - start < 400 && /cpus=\d+\s*$/.test(bytes.toString("latin1", start, end))) headings.push(Buffer.concat([bytes.subarray(start, end), NEW_LINE]));
        return kind;
      },
      finish: () => parser.finish(),
    };
  };
}
