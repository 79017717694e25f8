import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { gunzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExactWhenMutated } from "./accounting.js";
import { CAPTURE, DATA, filesBelow, PEER } from "./peer.js";
import { readerOf } from "./recording-files.js";

async function expectWhole(path: string): Promise<void> {
  const result = await readerOf(path)!.load(path, { quiet: true });
  const a = kl.accounting(result);
  expect(a.rows + a.continuation + a.header + a.notUnderstood).toBe(a.lines);
  expect(a.unknown, `lines not understood in ${path}`).toEqual([]);
  for (const table of tablesOf(result)) {
    const undescribed = kl.describe(table).objects().filter((column: any) => column.type === "" || column.meaning === "" || column.meaning === "made in this notebook");
    expect(undescribed, `columns of ${path} that nothing describes`).toEqual([]);
  }
}

/** Every table that a result holds. */
function tablesOf(result: any): kl.ColumnTable[] {
  if (result instanceof kl.ColumnTable) return [result];
  if ("eventNames" in result) return [result.events, result.lost, ...result.eventNames.map((event: string) => result.of(event))];
  return [result.samples, result.stacks, result.frames, result.events, result.lost];
}

describe("every recording loads with nothing left over", () => {
  const own = filesBelow(DATA, /./).filter(readerOf);
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => expectWhole(`${DATA}/${path}`));
});

describe("damaged copies of every recording are accounted for to the line", () => {
  const own = filesBelow(DATA, /./).filter((path) => readerOf(path) && !/\.zst$/.test(path));
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => {
    const bytes = readFileSync(`${DATA}/${path}`), plain = bytes[0] === 0x1f ? gunzipSync(bytes) : bytes;
    // The first lines hold what can go wrong; JSON is one whole.
    const lines = plain.toString("latin1").split("\n");
    expectExactWhenMutated(readerOf(path)!.from, /\.json$/.test(path) ? plain : Buffer.from(lines.slice(0, 150).join("\n"), "latin1"), 12);
  });
});

describe.skipIf(!CAPTURE)("every recording of the larger set loads with nothing left over (KERNEL_LIB_CAPTURE_DATA)", () => {
  const all = CAPTURE ? filesBelow(CAPTURE, /./).filter(readerOf) : [];
  it.each(all.map((path) => relative(CAPTURE!, path)))("%s", (path) => expectWhole(`${CAPTURE}/${path}`));
});

describe.skipIf(!PEER)("other projects' traces (KERNEL_LIB_PEER_DATA)", () => {
  it("are there", () => expect(filesBelow(PEER!, /\.txt$/).length).toBeGreaterThan(10));
});
