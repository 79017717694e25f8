import { createReadStream } from "node:fs";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { batchType, Column as ArrowColumn, tableToIPC, utf8 } from "@uwdata/flechette";
import type { SchemaElement } from "hyparquet";
import type { Columns } from "../source/columns.js";
import type { Accounting } from "../source/lines.js";
import { arrowColumn, arrowTable } from "./arrow.js";
import type { Cells } from "./cells.js";
import { accountingMetadata, parquetWriter, sinkWriter } from "./parquet.js";

// Arrow and Parquet files whose rows come a part at a time, and are written as they come. All numbers are 64-bit integers, whatever the
// parts held; strings are dictionaries in Parquet, part by part; in Arrow where `isWord` says that there are few, for those are held to the end.

/** Rows of a part, by column; null for a column that the part lacks. */
export type Part = (Cells | null)[];

export interface TableSink {
  append(part: Part, rows: number): Promise<void>;
  finish(accounting: Accounting): Promise<void>;
  /** Gives back what the sink holds outside of memory; after finish, or instead of it. */
  close(): Promise<void>;
  /** How many values are no whole numbers that are exact in a double, where the column holds such, and were left null; by column. */
  leftNull: Map<string, number>;
}

type Write = (bytes: Uint8Array) => Promise<void>;
const ROWS = 1 << 16;

/** Gathers rows until there are enough for a group. */
function gather(columns: Columns, emit: (values: unknown[][], rows: number) => Promise<void>): Pick<TableSink, "append" | "leftNull"> & { flush(): Promise<void> } {
  const names = Object.keys(columns), leftNull = new Map<string, number>();
  let values: unknown[][] = names.map(() => []), rows = 0;
  const flush = async () => {
    const full = values, n = rows;
    values = names.map(() => []);
    rows = 0;
    await emit(full, n);
  };
  return {
    leftNull, flush,
    async append(part, more) {
      for (let from = 0; from < more; from += ROWS) {
        const to = Math.min(from + ROWS, more);
        part.forEach((cells, i) => {
          const into = values[i], isNumber = columns[names[i]].type === "number";
          for (let row = from; row < to; row++) {
            const value = cells === null ? null : valueAt(cells, row);
            if (value === null) into.push(null);
            else if (!isNumber) into.push(String(value));
            else if (Number.isSafeInteger(value)) into.push(BigInt(value as number));
            else {
              leftNull.set(names[i], (leftNull.get(names[i]) ?? 0) + 1);
              into.push(null);
            }
          }
        });
        rows += to - from;
        if (rows >= ROWS) await flush();
      }
    },
  };
}

function valueAt(cells: Cells, row: number): number | string | boolean | null {
  if (cells.kind === "string") return cells.codes[row] < 0 ? null : cells.values[cells.codes[row]];
  if (cells.missing?.(row)) return null;
  return cells.kind === "number" ? cells.data[row] : cells.at(row);
}

export function parquetSink(write: Write, columns: Columns): TableSink {
  const names = Object.keys(columns);
  const elements = names.map((name): SchemaElement => (columns[name].type === "number" ? { name, type: "INT64", repetition_type: "OPTIONAL" }
    : { name, type: "BYTE_ARRAY", converted_type: "UTF8", logical_type: { type: "STRING" }, repetition_type: "OPTIONAL" }));
  const writer = parquetWriter(sinkWriter(write), elements, { columns, accounting: null }, new Map(names.map((name) => [name, none(columns[name].type === "number")])));
  const { append, flush, leftNull } = gather(columns, async (values, rows) => {
    if (rows > 0) await writer.write({ columnData: names.map((name, i) => ({ name, data: values[i] })), rowGroupSize: rows });
  });
  return {
    append, leftNull,
    close: async () => {},
    async finish(accounting) {
      await flush();
      writer.kvMetadata!.push(...accountingMetadata(accounting));
      await writer.finish();
    },
  };
}

const none = (isNumber: boolean): Cells => (isNumber ? { kind: "number", length: 0, data: new Float64Array(0), missing: null } : { kind: "string", length: 0, codes: new Int32Array(0), values: [] });
const NS = { type: "number", unit: "ns", meaning: "" } as const;

/**
 * An Arrow file begins with its schema and its dictionaries, which are known last; so the rows wait in a temporary file.
 */
export async function arrowSink(write: Write, columns: Columns, isWord: (column: string) => boolean): Promise<TableSink> {
  const names = Object.keys(columns);
  const folder = await mkdtemp(join(tmpdir(), "kernel-lib-"));
  const file = await open(join(folder, "rows"), "wx", 0o600);
  const words = new Map(names.filter((name) => columns[name].type !== "number" && isWord(name)).map((name) => [name, new Map<string, number>()]));
  const batches: { metadata: number; body: number }[] = [];
  const plain = (texts: (string | null)[]): ArrowColumn<any> => {
    const type = utf8(), Batch = batchType(type), encoded = texts.map((text) => Buffer.from(text ?? "", "utf8"));
    const offsets = new Int32Array(texts.length + 1), validity = new Uint8Array((texts.length + 7) >> 3);
    let nullCount = 0;
    texts.forEach((text, i) => {
      offsets[i + 1] = offsets[i] + encoded[i].length;
      if (text === null) nullCount++;
      else validity[i >> 3] |= 1 << (i & 7);
    });
    return new ArrowColumn([new Batch({ length: texts.length, nullCount, type, validity: nullCount === 0 ? new Uint8Array(0) : validity, offsets, values: Buffer.concat(encoded) })], type);
  };
  const { append, flush, leftNull } = gather(columns, async (values, rows) => {
    if (rows === 0 && batches.length > 0) return;
    const made = names.map((name, i): ArrowColumn<any> => {
      const own = values[i], missing = own.includes(null) ? (row: number) => own[row] === null : null;
      if (columns[name].type === "number") return arrowColumn({ kind: "number", length: rows, data: Float64Array.from(own, (value) => Number(value ?? 0)), missing }, NS);
      const known = words.get(name);
      if (!known) return plain(own as (string | null)[]);
      // A dictionary's codes stand in a batch as plain integers do.
      const codes = Int32Array.from(own as (string | null)[], (text) => {
        if (text === null) return 0;
        let code = known.get(text);
        if (code === undefined) known.set(text, (code = known.size));
        return code;
      });
      return arrowColumn({ kind: "number", length: rows, data: codes, missing }, undefined);
    });
    const stream = tableToIPC(arrowTable(new Map(names.map((name, i) => [name, made[i]])), { columns: {}, accounting: null }), { format: "stream" })!;
    const bytes = Buffer.from(stream.buffer, stream.byteOffset, stream.byteLength);
    const batch = bytes.subarray(8 + bytes.readInt32LE(4), bytes.length - END.length); // after the schema's message, before the end's
    const metadata = 8 + batch.readInt32LE(4);
    batches.push({ metadata, body: batch.length - metadata });
    await file.writeFile(batch);
  });
  return {
    append, leftNull,
    async close() {
      await file.close();
      await rm(folder, { recursive: true, force: true });
    },
    async finish(accounting) {
      await flush();
      const empty = new Map(names.map((name): [string, ArrowColumn<any>] => {
        const known = words.get(name);
        const column = columns[name].type === "number" ? arrowColumn(none(true), NS) : known ? arrowColumn({ kind: "string", length: 0, codes: new Int32Array(0), values: [...known.keys()] }, undefined) : plain([]);
        return [name, new ArrowColumn(Array.from(batches, () => column.data[0]), column.type)];
      }));
      const frame = tableToIPC(arrowTable(empty, { columns, accounting }), { format: "file" })!;
      const { before, after } = aroundBatches(Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength), batches);
      await write(before);
      for await (const chunk of createReadStream(join(folder, "rows"), { highWaterMark: 1 << 20 })) await write(chunk as Buffer);
      await write(after);
    },
  };
}

/** The message that ends a stream. */
const END = Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

/** A file whose batches are empty → what stands before and after them, with the places of others in its footer (Arrow's File.fbs: Footer, Block). */
function aroundBatches(frame: Buffer, batches: { metadata: number; body: number }[]): { before: Buffer; after: Buffer } {
  const lengthAt = frame.length - 10, footer = lengthAt - frame.readInt32LE(lengthAt);
  const root = footer + frame.readInt32LE(footer), fields = root - frame.readInt32LE(root);
  const RECORD_BATCHES = 10; // the offset of that field in the table of fields
  const field = root + frame.readInt16LE(fields + RECORD_BATCHES), vector = field + frame.readInt32LE(field), count = frame.readInt32LE(vector);
  if (count !== batches.length) throw new Error(`the file's footer holds ${count} batches instead of ${batches.length}`);
  const block = (i: number) => vector + 4 + i * 24;
  const start = Number(frame.readBigInt64LE(block(0)));
  const end = Number(frame.readBigInt64LE(block(count - 1))) + frame.readInt32LE(block(count - 1) + 8) + Number(frame.readBigInt64LE(block(count - 1) + 16));
  let at = start;
  batches.forEach(({ metadata, body }, i) => {
    frame.writeBigInt64LE(BigInt(at), block(i));
    frame.writeInt32LE(metadata, block(i) + 8);
    frame.writeBigInt64LE(BigInt(body), block(i) + 16);
    at += metadata + body;
  });
  return { before: frame.subarray(0, start), after: frame.subarray(end) };
}
