import { readFileSync } from "node:fs";
import { dirname, relative } from "node:path";
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

/** Every QueueNotify of a trace is one row, in order; what it says of it adds up; its path is as long as its way. */
async function expectEveryKick(path: string): Promise<void> {
  const trace = await kl.loadTraceCmd(path, { quiet: true });
  const has = (...events: string[]) => events.every((event) => trace.eventNames.includes(event));
  if (!has("kvm_mmio", "kvm_exit", "kvm_entry", "sched_switch", "sched_waking")) {
    expect(() => kl.virtioKicks(trace)).toThrow(kl.MissingEventError);
    return;
  }
  // A guest sees the same events in a merged report; it writes no register that KVM would print.
  const writes = trace.of("kvm_mmio").objects({ limit: Infinity }).filter((row: any) => row.type === "write" && row.gpa >= 0xa000000 && row.gpa < 0xa004000 && row.gpa % 0x200 === 0x50) as { ts: number; pid: number }[];
  const table = kl.virtioKicks(trace), kicks = table.objects({ limit: Infinity }) as Record<string, any>[];
  expect(kicks.map(({ kick, ts, pid }) => [kick, ts, pid])).toEqual(writes.map(({ ts, pid }, i) => [i, ts, pid]));
  for (const account of kl.kickAccount(table).objects() as Record<string, any>[]) {
    const broken = [...String(account.why ?? "").matchAll(/(\d+) × /g)].reduce((sum, [, n]) => sum + Number(n), 0);
    expect(account.whole + broken).toBe(account.kicks);
  }
  const ways = kicks.filter(({ exit, end }) => exit !== null && end !== null).reduce((sum, { exit, end }) => sum + end - exit, 0);
  const pieces = kl.kickPaths(trace, table);
  expect((Array.from(pieces.array("dur")) as number[]).reduce((a, b) => a + b, 0)).toBe(ways);
  expect((kl.criticalPath(pieces).array("total") as number[]).reduce((a, b) => a + b, 0)).toBe(ways);
}

describe("every QueueNotify of every trace is in exactly one row", () => {
  const own = filesBelow(DATA, /./).filter((path) => readerOf(path)?.name === "trace-cmd");
  it.each(own.map((path) => relative(DATA, path)))("data/%s", (path) => expectEveryKick(`${DATA}/${path}`));
});

describe.skipIf(!CAPTURE)("every QueueNotify of the larger set's traces is in exactly one row (KERNEL_LIB_CAPTURE_DATA)", () => {
  const all = CAPTURE ? filesBelow(CAPTURE, /./).filter((path) => readerOf(path)?.name === "trace-cmd") : [];
  it.each(all.map((path) => relative(CAPTURE!, path)))("%s", (path) => expectEveryKick(`${CAPTURE}/${path}`));
});

/** A host's trace and a guest's of one moment lie side by side. */
const isHost = (path: string): boolean => /\/trace-cmd-host\.txt(\.gz|\.zst)?$/.test(path);

async function expectJoined(hostPath: string, all: string[]): Promise<void> {
  const guestPath = all.find((path) => dirname(path) === dirname(hostPath) && /\/trace-cmd-guest\.txt/.test(path))!;
  const host = await kl.loadTraceCmd(hostPath, { quiet: true }), guest = await kl.loadTraceCmd(guestPath, { quiet: true });
  const clocks = kl.alignClocks(host, guest);
  expect(clocks.why).toBe(null);
  // They were synchronized to below a millisecond, and not better than some µs: guest events out of guest mode there are without the offset, and with it none.
  for (const { offset, residual } of clocks.cpus.objects() as { offset: number; residual: number }[]) expect(Math.abs(offset)).toBeLessThan(1e6 + residual);
  expect(clocks.broken).toBe(0);
  expect(clocks.brokenBefore).toBeGreaterThan(0.1 * clocks.judged);
  const joined = kl.joinTraces({ host, guest }, { clocks });
  expect(joined.raw.length).toBe(host.raw.length + guest.raw.length);
  const packets = kl.packetPath(joined), rows = packets.objects({ limit: Infinity }) as { ts: number; tun: number | null; notify: number | null; xmit: number | null; why: string | null; whole: boolean }[];
  expect(rows.length).toBe(guest.of("net_dev_start_xmit").numRows());
  // Every call of tun_get_user from the first packet on is of one packet.
  const calls = host.of("kp_tun_get_user").array("ts") as number[];
  expect(rows.filter(({ tun }) => tun !== null).map(({ ts, tun }) => ts + tun!)).toEqual([...calls].filter((ts) => ts >= rows[0].ts && ts <= guest.raw.ts[guest.raw.length - 1] + 1e9));
  for (const { notify, xmit, why, whole } of rows) {
    if (notify !== null && xmit !== null) expect(notify >= 0 && notify <= xmit).toBe(true);
    expect(why === null).toBe(whole);
  }
}

describe("host and guest of every recording come onto one clock, and every packet has its way", () => {
  const own = filesBelow(DATA, /./);
  it.each(own.filter(isHost).map((path) => relative(DATA, path)))("data/%s", (path) => expectJoined(`${DATA}/${path}`, own), 60_000);
});

describe.skipIf(!CAPTURE)("host and guest of the larger set come onto one clock, and every packet has its way (KERNEL_LIB_CAPTURE_DATA)", () => {
  const all = CAPTURE ? filesBelow(CAPTURE, /./) : [];
  it.each(all.filter(isHost).map((path) => relative(CAPTURE!, path)))("%s", (path) => expectJoined(`${CAPTURE}/${path}`, all), 60_000);
});

describe.skipIf(!PEER)("other projects' traces (KERNEL_LIB_PEER_DATA)", () => {
  it("are there", () => expect(filesBelow(PEER!, /\.txt$/).length).toBeGreaterThan(10));
});
