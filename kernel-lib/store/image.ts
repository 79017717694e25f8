import { open, type FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { ColumnTable } from "arquero";
import { BooleanColumn, columnsOf, describeColumns, DictionaryColumn, NullableColumn, type Columns, type Words } from "../source/columns.js";

// A value made of plain objects, columns and tables as one file that is read back at the speed of the disk: a line of JSON that says how all
// belongs together, then every array as it stands in memory, each at a multiple of 8 bytes. Read arrays are views of the file's bytes.
// The format is private: it is only ever read by the version of the library that wrote it.

const ARRAYS = { Int8Array, Uint8Array, Int16Array, Uint16Array, Int32Array, Uint32Array, Float64Array } as const;
type ArrayName = keyof typeof ARRAYS;
type Numbers = InstanceType<(typeof ARRAYS)[ArrayName]>;

/** Where an array stands among the data. */
type Place = [type: ArrayName, offset: number, length: number];
type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

interface Header {
  key: Json;
  value: Json;
  arrays: Place[];
  /** Of the data, and its checksum. */
  bytes: number;
  crc: number;
}

const MAGIC = "kernel-lib image\n";
const PREFIX = MAGIC.length + 4 + 4 + 7; // MAGIC, the header's length, its checksum; up to a multiple of 8
const PIECE = 1 << 30;
const aligned = (n: number) => Math.ceil(n / 8) * 8;
/** Lists of strings that are longer stand among the data. */
const LONG_LIST = 16;

/** Writes a value with its key. The file has to be empty. */
export async function writeImage(file: FileHandle, key: Json, value: unknown): Promise<void> {
  const arrays: Numbers[] = [], places: Place[] = [], indexOf = new Map<object, number>();
  let bytes = 0;
  const put = (array: Numbers): number => {
    const known = indexOf.get(array);
    if (known !== undefined) return known;
    const type = array.constructor.name.replace(/^Buffer$/, "Uint8Array") as ArrayName;
    places.push([type, bytes, array.length]);
    bytes = aligned(bytes + array.byteLength);
    const index = arrays.push(array) - 1;
    indexOf.set(array, index);
    return index;
  };
  const lists = new Map<object, Json>();
  const putWords = (words: Words): Json => {
    let known = lists.get(words);
    if (known === undefined) {
      const texts = Array.from({ length: words.size }, (_, code) => Buffer.from(words.get(code), "utf8"));
      const ends = new Float64Array(texts.length);
      texts.reduce((sum, text, i) => (ends[i] = sum + text.length), 0);
      lists.set(words, (known = [put(Buffer.concat(texts)), put(ends)]));
    }
    return known;
  };
  const describe = (x: unknown): Json => {
    if (x === null || x === undefined) return null;
    if (typeof x === "boolean" || typeof x === "string") return x;
    if (typeof x === "number") return Number.isFinite(x) && !Object.is(x, -0) ? x : { $number: String(Object.is(x, -0) ? "-0" : x) };
    if (x instanceof DictionaryColumn) return { $dictionary: [put(x.codes), putWords(x.words)] };
    if (x instanceof NullableColumn) return { $nullable: put(x.data) };
    if (x instanceof BooleanColumn) return { $boolean: put(x.data) };
    if (x instanceof ColumnTable) {
      const table = x.isFiltered() || x.isOrdered() ? x.reify() : x, data = table.data() as Record<string, unknown>;
      return { $table: table.columnNames().map((name) => [name, describe(data[name])]), columns: columnsOf(x) as unknown as Json };
    }
    if (ArrayBuffer.isView(x) && Object.values(ARRAYS).some((Type) => x instanceof Type)) return { $array: put(x as Numbers) };
    if (Array.isArray(x)) {
      if (x.length <= LONG_LIST || !x.every((item) => item === null || typeof item === "string")) return x.map(describe);
      let known = lists.get(x);
      if (known === undefined) lists.set(x, (known = { $list: put(Buffer.from(JSON.stringify(x))) }));
      return known;
    }
    const prototype = typeof x === "object" ? Object.getPrototypeOf(x) as unknown : undefined;
    if (prototype !== Object.prototype && prototype !== null) throw new Error(`a value of type ${(x as object).constructor?.name ?? typeof x} cannot be kept`);
    return { $object: Object.entries(x as object).map(([name, item]) => [name, describe(item)]) };
  };
  const described = describe(value);
  const pieces: Buffer[] = [];
  let crc = 0;
  for (const array of arrays) {
    const piece = Buffer.from(array.buffer, array.byteOffset, array.byteLength), padding = Buffer.alloc(aligned(piece.length) - piece.length);
    pieces.push(piece, padding);
    crc = checksum(padding, checksum(piece, crc));
  }
  const header = Buffer.from(JSON.stringify({ key, value: described, arrays: places, bytes, crc } satisfies Header));
  const prefix = Buffer.alloc(PREFIX);
  prefix.write(MAGIC, "latin1");
  prefix.writeUInt32LE(header.length, MAGIC.length);
  prefix.writeUInt32LE(crc32(header), MAGIC.length + 4);
  for (const piece of [prefix, header, Buffer.alloc(aligned(header.length) - header.length), ...pieces]) await writeAll(file, piece);
}

/** Of more bytes than one call takes. */
function checksum(bytes: Uint8Array, crc = 0): number {
  for (let at = 0; at < bytes.length; at += PIECE) crc = crc32(bytes.subarray(at, at + PIECE), crc);
  return crc;
}

async function writeAll(file: FileHandle, bytes: Buffer): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at, Math.min(bytes.length - at, PIECE))).bytesWritten;
}

/** An image whose header was read. */
export interface Image {
  key: Json;
  /** The value; null where the data is damaged or cut short. */
  value(): Promise<unknown>;
  close(): Promise<void>;
}

/** Opens an image; null where there is none, or its header is damaged. */
export async function openImage(path: string): Promise<Image | null> {
  let file: FileHandle;
  try {
    file = await open(path, "r");
  } catch {
    return null;
  }
  try {
    const { size } = await file.stat();
    const prefix = await readAll(file, 0, Math.min(PREFIX, size));
    if (prefix.length < PREFIX || prefix.toString("latin1", 0, MAGIC.length) !== MAGIC) throw new Error("no image");
    const length = prefix.readUInt32LE(MAGIC.length), start = PREFIX + aligned(length);
    if (start > size) throw new Error("cut short");
    const text = await readAll(file, PREFIX, length);
    if (crc32(text) !== prefix.readUInt32LE(MAGIC.length + 4)) throw new Error("damaged");
    const header = JSON.parse(text.toString("utf8")) as Header;
    if (start + header.bytes !== size) throw new Error("cut short");
    return {
      key: header.key,
      async value() {
        const data = await readAll(file, start, header.bytes);
        return data.length === header.bytes && checksum(data) === header.crc ? revive(header, data) : null;
      },
      close: () => file.close(),
    };
  } catch {
    await file.close();
    return null;
  }
}

async function readAll(file: FileHandle, from: number, length: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(length); // at the start of memory of its own, so that arrays of any type can be views of it
  let at = 0;
  while (at < length) {
    const { bytesRead } = await file.read(bytes, at, Math.min(length - at, PIECE), from + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return bytes.subarray(0, at);
}

function revive({ value, arrays }: Header, data: Buffer): unknown {
  const made = arrays.map(([type, offset, length]) => new ARRAYS[type](data.buffer as ArrayBuffer, data.byteOffset + offset, length));
  const lists = new Map<number, Words>(), texts = new Map<number, unknown>();
  const words = ([text, ends]: [number, number]): Words => {
    let known = lists.get(text);
    if (known === undefined) lists.set(text, (known = lazyWords(made[text] as Uint8Array, made[ends] as Float64Array)));
    return known;
  };
  const again = (x: Json): unknown => {
    if (x === null || typeof x !== "object") return x;
    if (Array.isArray(x)) return x.map(again);
    if ("$number" in x) return Number(x.$number);
    if ("$array" in x) return made[x.$array as number];
    if ("$nullable" in x) return new NullableColumn(made[x.$nullable as number] as Float64Array);
    if ("$boolean" in x) return new BooleanColumn(made[x.$boolean as number] as Uint8Array);
    if ("$dictionary" in x) {
      const [codes, list] = x.$dictionary as [number, [number, number]];
      return new DictionaryColumn(made[codes] as Int32Array, words(list));
    }
    if ("$list" in x) {
      const at = x.$list as number;
      if (!texts.has(at)) texts.set(at, JSON.parse(Buffer.from(made[at] as Uint8Array).toString("utf8")));
      return texts.get(at);
    }
    if ("$table" in x) {
      const columns = (x.$table as [string, Json][]).map(([name, column]) => [name, again(column)] as const);
      return describeColumns(new ColumnTable(Object.fromEntries(columns) as any, columns.map(([name]) => name)), x.columns as unknown as Columns);
    }
    return Object.fromEntries((x.$object as [string, Json][]).map(([name, item]) => [name, again(item)]));
  };
  return again(value);
}

/** Strings that are made when asked for. */
function lazyWords(text: Uint8Array, ends: Float64Array): Words {
  const bytes = Buffer.from(text.buffer, text.byteOffset, text.byteLength), made: string[] = [];
  return { size: ends.length, get: (code) => (made[code] ??= bytes.toString("utf8", code === 0 ? 0 : ends[code - 1], ends[code])) };
}
