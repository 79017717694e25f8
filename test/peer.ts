import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's root. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** The recordings that the repository holds. */
export const DATA = join(ROOT, "data");
/** Sample inputs of other projects, outside the repository; null where KERNEL_LIB_PEER_DATA does not name a folder. */
export const PEER = process.env.KERNEL_LIB_PEER_DATA && existsSync(process.env.KERNEL_LIB_PEER_DATA) ? process.env.KERNEL_LIB_PEER_DATA : null;
/** A larger set of recordings, outside the repository; null where KERNEL_LIB_CAPTURE_DATA does not name a folder. */
export const CAPTURE = process.env.KERNEL_LIB_CAPTURE_DATA && existsSync(process.env.KERNEL_LIB_CAPTURE_DATA) ? process.env.KERNEL_LIB_CAPTURE_DATA : null;

/** All files below a folder whose path matches. */
export function filesBelow(folder: string, pattern: RegExp): string[] {
  return readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name)))
    .filter((path) => pattern.test(path) && statSync(path).isFile()).sort();
}

/** The same bytes cut into pieces of n bytes, as a stream would bring them. */
export async function* inChunks(bytes: Uint8Array, n: number): AsyncGenerator<Uint8Array> {
  for (let i = 0; i < bytes.length; i += n) yield bytes.subarray(i, i + n);
}
