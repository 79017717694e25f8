import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { accounting, fromVirtiostat, loadVirtiostat, ParseError } from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, inChunks, PEER } from "../peer.js";

describe("virtiostat", () => {
  const bytes = readFileSync(`${DATA}/talk/virtio/virtiostat.txt`);

  it("reads the talk's interval, without Python's b'…'", async () => {
    const table = fromVirtiostat(bytes);
    const net = { interval: 0, time: null, driver: "virtio_net", device: "virtio0" };
    expect(table.objects()).toEqual([
      { ...net, vq: "input.0", in_sgs: 8161, out_sgs: 0, in_bytes: 12733952, out_bytes: 0 },
      { ...net, vq: "output.0", in_sgs: 0, out_sgs: 8556, in_bytes: 0, out_bytes: 376253940 },
    ]);
    expectExact(table, bytes);
    expect(accounting(table)).toMatchObject({ rows: 2, header: 3, notUnderstood: 0 });
    for (const n of [1, 7, 4096]) expect((await loadVirtiostat(inChunks(bytes, n), { quiet: true })).objects()).toEqual(table.objects());
    expectExactWhenMutated(fromVirtiostat, bytes);
  });

  it("counts intervals, also empty ones, and the time where -T prints it", () => {
    // Written by hand in the format of bcc 0.26; ^C is what the terminal echoes.
    const table = fromVirtiostat(`Tracing virtio devices statistics ... Hit Ctrl-C to end.
09:30:01
        Driver   Device    VQ Name  In SGs Out SGs          In BW         Out BW
09:30:04
        Driver   Device    VQ Name  In SGs Out SGs          In BW         Out BW
  9pnet_virtio  virtio6   requests     812     790          15430        1124000
^C09:30:05
        Driver   Device    VQ Name  In SGs Out SGs          In BW         Out BW
    virtio_blk  virtio4      req.0       4       6              4           4096
`);
    expect(table.objects()).toMatchObject([
      { interval: 1, time: "09:30:04", driver: "9pnet_virtio", device: "virtio6", vq: "requests", in_sgs: 812, out_sgs: 790, in_bytes: 15430, out_bytes: 1124000 },
      { interval: 2, time: "09:30:05", driver: "virtio_blk", vq: "req.0" },
    ]);
    expect(accounting(table).notUnderstood).toBe(0);
  });

  it("an empty text is an empty table, other text an error", () => {
    expect(fromVirtiostat("").numRows()).toBe(0);
    expect(() => fromVirtiostat("Traceback (most recent call last):\n")).toThrow(ParseError);
  });

  it.skipIf(!CAPTURE)("reads the recordings whole (KERNEL_LIB_CAPTURE_DATA)", async () => {
    const table = await loadVirtiostat(`${CAPTURE}/virtio/virtiostat.txt`, { quiet: true });
    expect(accounting(table).notUnderstood).toBe(0);
    expect(table.objects().slice(2, 4)).toMatchObject([
      { interval: 2, vq: "input.0", in_sgs: 452, in_bytes: 705536 }, { interval: 2, vq: "output.0", out_sgs: 544, out_bytes: 34034393 },
    ]);
    expect(accounting(await loadVirtiostat(`${CAPTURE}/vhost/virtiostat.txt`, { quiet: true })).notUnderstood).toBe(0);
    expectExactWhenMutated(fromVirtiostat, readFileSync(`${CAPTURE}/vhost/virtiostat.txt`));
  });

  it.skipIf(!PEER)("reads the listings in bcc's own example text; its prose is counted, not lost (KERNEL_LIB_PEER_DATA)", () => {
    const text = readFileSync(`${PEER}/bcc/virtiostat_example.txt`);
    const table = fromVirtiostat(text);
    expect(table.objects().map((row: any) => [row.driver, row.vq, row.out_bytes])).toEqual([
      ["virtio_net", "input.0", 0], ["virtio_net", "output.0", 833344], ["virtio_blk", "req.0", 278976], ["9pnet_virtio", "requests", 137537263],
      ["virtio_net", "input.0", 0], ["virtio_net", "output.0", 562355], ["virtio_blk", "req.0", 110768], ["9pnet_virtio", "requests", 125320785],
      ["virtio_blk", "req.0", 24640], ["virtio_blk", "req.0", 5430048],
    ]);
    expectExact(table, text);
    expect(accounting(table).notUnderstood).toBeGreaterThan(0);
  });
});
