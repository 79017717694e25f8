import { readFileSync } from "node:fs";
import { relative } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, DATA, filesBelow, inChunks } from "../peer.js";

type Row = kl.RowOf<typeof import("../../kernel-lib/parse/iperf3.js").iperf3Columns>;
const rowsOf = (table: kl.ColumnTable) => table.objects() as Row[];
const read = (path: string) => readFileSync(`${DATA}/${path}`);
const recordings = (folder: string) => filesBelow(folder, /iperf3[^/]*\.(txt|json)$/);

// iperf 3.12, --bidir over loopback; --get-server-output; -O 1; -u; --timestamps; -T
const BIDIR = `Connecting to host 127.0.0.1, port 5299
[  5] local 127.0.0.1 port 49758 connected to 127.0.0.1 port 5299
[  9] local 127.0.0.1 port 49788 connected to 127.0.0.1 port 5299
[ ID][Role] Interval           Transfer     Bitrate         Retr  Cwnd
[  5][TX-C]   0.00-1.00   sec   194 MBytes  1.62 Gbits/sec    1    767 KBytes       
[  9][RX-C]   0.00-1.00   sec  1.04 GBytes  8.95 Gbits/sec                  
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID][Role] Interval           Transfer     Bitrate         Retr
[  5][TX-C]   0.00-1.00   sec   194 MBytes  1.62 Gbits/sec    2             sender
[  5][TX-C]   0.00-1.00   sec   193 MBytes  1.61 Gbits/sec                  receiver
[  9][RX-C]   0.00-1.00   sec  1.05 GBytes  8.98 Gbits/sec    5             sender
[  9][RX-C]   0.00-1.00   sec  1.04 GBytes  8.95 Gbits/sec                  receiver

iperf Done.
`;
const SERVER_OUTPUT = `Connecting to host 127.0.0.1, port 5299
[  5] local 127.0.0.1 port 50750 connected to 127.0.0.1 port 5299
[ ID] Interval           Transfer     Bitrate         Retr  Cwnd
[  5]   0.00-1.00   sec  2.42 GBytes  20.8 Gbits/sec   11    767 KBytes       
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Retr
[  5]   0.00-1.00   sec  2.42 GBytes  20.8 Gbits/sec   11             sender
[  5]   0.00-1.00   sec  2.42 GBytes  20.8 Gbits/sec                  receiver

Server output:
Accepted connection from 127.0.0.1, port 50740
[  5] local 127.0.0.1 port 5299 connected to 127.0.0.1 port 50750
[ ID] Interval           Transfer     Bitrate
[  5]   0.00-1.00   sec  2.42 GBytes  20.8 Gbits/sec                  
[  5]   1.00-1.00   sec  1.00 MBytes  18.0 Gbits/sec                  
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate
[  5]   0.00-1.00   sec  2.42 GBytes  20.8 Gbits/sec                  receiver


iperf Done.
`;
const UDP = `Connecting to host 127.0.0.1, port 5299
[  5] local 127.0.0.1 port 39128 connected to 127.0.0.1 port 5299
[  7] local 127.0.0.1 port 52795 connected to 127.0.0.1 port 5299
[ ID][Role] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams
[  5][TX-C]   0.00-1.00   sec   128 KBytes  1.05 Mbits/sec            4  
[  7][RX-C]   0.00-1.00   sec   128 KBytes  1.05 Mbits/sec  0.004 ms  1/5 (20%)  
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID][Role] Interval           Transfer     Bitrate         Jitter    Lost/Total Datagrams
[  5][TX-C]   0.00-1.00   sec   128 KBytes  1.05 Mbits/sec  0.000 ms  0/4 (0%)  sender
[  5][TX-C]   0.00-1.00   sec   128 KBytes  1.05 Mbits/sec  0.003 ms  0/4 (0%)  receiver
[  7][RX-C]   0.00-1.00   sec   160 KBytes  1.31 Mbits/sec  0.000 ms  0/5 (0%)  sender
[  7][RX-C]   0.00-1.00   sec   128 KBytes  1.05 Mbits/sec  0.004 ms  1/5 (20%)  receiver

iperf Done.
`;

describe("fromIperf3 on text", () => {
  it("reads the talk's standard virtio run, row by row", () => {
    const rows = rowsOf(kl.fromIperf3(read("talk/virtio/iperf3.txt")));
    expect(rows).toHaveLength(12);
    expect(rows[0]).toEqual({
      test: 1, host: "client", protocol: "TCP", kind: "interval", stream: "5", role: null, direction: "to server", side: "sender", start: 0, end: 1,
      bytes: 175 * 1024 ** 2, bitrate: 1.47e9, retr: 0, cwnd: Math.round(1.53 * 1024 ** 2), rtt: null, rttvar: null, jitter: null, lost: null, packets: null, out_of_order: null, omitted: false, error: null,
    });
    expect(rows.slice(0, 10).map((row) => row.bitrate! / 1e9)).toEqual([1.47, 1.61, 1.59, 1.61, 1.61, 1.76, 1.67, 1.7, 1.78, 1.8]);
    expect(rows[10]).toMatchObject({ kind: "total", side: "sender", start: 0, end: 10, bytes: Math.round(1.93 * 1024 ** 3), bitrate: 1.66e9, retr: 0, cwnd: null });
    expect(rows[11]).toMatchObject({ kind: "total", side: "receiver", end: 10.01, retr: null, direction: "to server" });
    expect(rowsOf(kl.fromIperf3(read("talk/vhost/iperf3.txt"))).filter((row) => row.kind === "total").map((row) => row.bitrate)).toEqual([3.26e9, 3.26e9]);
  });

  it("agrees with itself: bytes are bitrate times seconds, to three digits", () => {
    for (const mode of ["virtio", "vhost"]) {
      for (const row of rowsOf(kl.fromIperf3(read(`talk/${mode}/iperf3.txt`)))) expect((8 * row.bytes!) / (row.end! - row.start!) / row.bitrate!).toBeCloseTo(1, 1);
    }
  });

  it("reads several streams and their sum", () => {
    const rows = rowsOf(kl.fromIperf3(read("capture/virtio/iperf3-2streams.txt")));
    expect(rows).toHaveLength(21);
    expect(rows[2]).toMatchObject({ stream: "SUM", kind: "interval", bytes: 110 * 1024 ** 2, bitrate: 925e6, retr: 0, cwnd: null });
    expect(rows.at(-1)).toMatchObject({ stream: "SUM", kind: "total", side: "receiver", bytes: 477 * 1024 ** 2, bitrate: 797e6 });
  });

  it("keeps the directions of --bidir apart", () => {
    const rows = rowsOf(kl.fromIperf3(BIDIR));
    expect(rows.map(({ kind, stream, role, direction, side, retr }) => [kind, stream, role, direction, side, retr])).toEqual([
      ["interval", "5", "TX-C", "to server", "sender", 1],
      ["interval", "9", "RX-C", "to client", "receiver", null],
      ["total", "5", "TX-C", "to server", "sender", 2],
      ["total", "5", "TX-C", "to server", "receiver", null],
      ["total", "9", "RX-C", "to client", "sender", 5],
      ["total", "9", "RX-C", "to client", "receiver", null],
    ]);
  });

  it("knows datagrams from retransmits by the heading", () => {
    const rows = rowsOf(kl.fromIperf3(UDP));
    expect(rows[0]).toMatchObject({ protocol: "UDP", packets: 4, retr: null, jitter: null, lost: null });
    expect(rows[1]).toMatchObject({ side: "receiver", jitter: 4000, lost: 1, packets: 5 });
    expect(rows[3]).toMatchObject({ kind: "total", side: "receiver", jitter: 3000, lost: 0, packets: 4 });
  });

  it("tells client from server, and the server's view of the same run from a run of its own", () => {
    const rows = rowsOf(kl.fromIperf3(SERVER_OUTPUT));
    expect(rows.map(({ test, host, kind, direction, side }) => [test, host, kind, direction, side])).toEqual([
      [1, "client", "interval", "to server", "sender"], [1, "client", "total", "to server", "sender"], [1, "client", "total", "to server", "receiver"],
      [1, "server", "interval", "to server", "receiver"], [1, "server", "interval", "to server", "receiver"], [1, "server", "total", "to server", "receiver"],
    ]);
  });

  it("knows reverse mode, omitted intervals, bytes as unit, and counts runs", () => {
    const text = `Connecting to host h, port 5201
Reverse mode, remote host h is sending
[ ID] Interval           Transfer     Bitrate
[  5]   0.00-1.00   sec  2.53 GBytes  2.65 GBytes/sec                  (omitted)
[  5]   0.00-1.00   sec  2.53 GBytes  21.7 Gbits/sec                  
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bitrate         Retr
[  5]   0.00-2.00   sec  5.10 GBytes  21.9 Gbits/sec   25             sender
[  5]   0.00-2.00   sec  5.10 GBytes  21.9 Gbits/sec                  receiver
`;
    const rows = rowsOf(kl.fromIperf3(text + BIDIR));
    expect(rows[0]).toMatchObject({ omitted: true, side: "receiver", direction: "to client", bitrate: 8 * Math.round(2.65 * 1024 ** 3) });
    expect(rows[2]).toMatchObject({ kind: "total", side: "sender", direction: "to client", retr: 25, omitted: false });
    expect([...new Set(rows.map((row) => row.test))]).toEqual([1, 2]);
    expect(rowsOf(kl.fromIperf3(text + BIDIR, { tests: [2] })).every((row) => row.role !== null)).toBe(true);
    expect(() => kl.fromIperf3(text, { tests: [0] })).toThrow(kl.OptionError);
  });

  it("reads the same below time stamps and titles", () => {
    const plain = rowsOf(kl.fromIperf3(BIDIR));
    for (const prefix of ["Tue Nov 24 09:10:36 2026 ", "2026-11-24T09:10:36 ", "mytest:  "]) expect(rowsOf(kl.fromIperf3(BIDIR.trimEnd().replace(/^/gm, prefix)))).toEqual(plain);
  });

  it("reads versions before 3.2: Bandwidth, and one UDP total that does not say whose it is", () => {
    // iperf 3.1.3
    const rows = rowsOf(kl.fromIperf3(`Connecting to host h, port 5201
[  4] local 10.0.0.2 port 58272 connected to 10.0.0.1 port 5201
[ ID] Interval           Transfer     Bandwidth       Total Datagrams
[  4]   0.00-1.00   sec   116 KBytes   950 Kbits/sec  82  
- - - - - - - - - - - - - - - - - - - - - - - - -
[ ID] Interval           Transfer     Bandwidth       Jitter    Lost/Total Datagrams
[  4]   0.00-1.00   sec   116 KBytes   950 Kbits/sec  0.023 ms  0/82 (0%)  
[  4] Sent 82 datagrams

iperf Done.
`));
    expect(rows).toMatchObject([{ kind: "interval", packets: 82, side: "sender", bitrate: 950e3 }, { kind: "total", side: null, jitter: 23000, lost: 0, packets: 82 }]);
  });

  it("counts what is none of iperf3's as not understood, and the run's surroundings as known", () => {
    const table = kl.fromIperf3(`Warning: Permanently added 'guest' (ED25519) to the list of known hosts.\n${BIDIR}[ perf record: Woken up 1 times to write data ]\nwhat is this\n[  5]   0.00-1.00   sec   194 MBytes  1.62 Gbits/sec    x y z\n`);
    expect(kl.accounting(table)).toMatchObject({ rows: 6, notUnderstood: 2, unknown: [{ line: 17 }, { line: 18 }] });
  });
});

describe("fromIperf3 on JSON", () => {
  it("reads a run exactly", () => {
    const rows = rowsOf(kl.fromIperf3(read("capture/icount-vhost/iperf3-run1.json")));
    expect(rows).toHaveLength(6);
    expect(rows[0]).toMatchObject({
      test: 1, host: "client", protocol: "TCP", kind: "interval", stream: "5", direction: "to server", side: "sender", start: 0, end: 0.435203, bytes: 524288000, bitrate: 9637580933.2820835,
      retr: 0, cwnd: 1957696, rtt: 996000, rttvar: 81000, omitted: false,
    });
    expect(rows[1]).toMatchObject({ stream: "SUM", kind: "interval", cwnd: null });
    expect(rows.slice(2).map(({ kind, stream, side, bytes, rtt }) => [kind, stream, side, bytes, rtt])).toEqual([
      ["total", "5", "sender", 524288000, 996000], ["total", "5", "receiver", 522322560, null], ["total", "SUM", "sender", 524288000, null], ["total", "SUM", "receiver", 522322560, null],
    ]);
  });

  it("reads UDP, whose totals mix both sides but for the sums", () => {
    const rows = rowsOf(kl.fromIperf3(read("capture/vhost/ab/iperf3-udpmax-ab1.json")));
    expect(rows[0]).toMatchObject({ protocol: "UDP", packets: 6810, lost: null, side: "sender" });
    expect(rows.filter((row) => row.kind === "total").map(({ stream, side, bytes, lost, packets, jitter }) => [stream, side, bytes, lost, packets, jitter])).toEqual([
      ["5", null, 44408000, 1528, 31720, 176337], ["SUM", null, 44408000, 1528, 31720, 176337], ["SUM", "sender", 44408000, 0, 31720, 0], ["SUM", "receiver", 42261800, 1528, 31715, 176337],
    ]);
  });

  it("gives --json-stream, compact and listed documents the same rows", () => {
    const bytes = read("capture/virtio/iperf3-2streams.json");
    const rows = rowsOf(kl.fromIperf3(bytes));
    expect(rows).toHaveLength(21);
    const doc = JSON.parse(bytes.toString());
    const events = [{ event: "start", data: doc.start }, ...doc.intervals.map((data: unknown) => ({ event: "interval", data })), { event: "end", data: doc.end }];
    const stream = kl.fromIperf3(events.map((event) => JSON.stringify(event)).join("\n"));
    expect(rowsOf(stream)).toEqual(rows);
    expect(kl.accounting(stream)).toMatchObject({ lines: 7, rows: 6, header: 1 });
    expect(rowsOf(kl.fromIperf3(JSON.stringify(doc)))).toEqual(rows);
    expect(rowsOf(kl.fromIperf3(JSON.stringify([doc, doc], null, 2)))).toEqual([...rows, ...rows.map((row) => ({ ...row, test: 2 }))]);
  });

  it("takes several documents in one file as runs, after text too", () => {
    const json = read("capture/icount-vhost/iperf3-run1.json").toString();
    expect(rowsOf(kl.fromIperf3(json + json)).map((row) => row.test)).toEqual([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    expect(rowsOf(kl.fromIperf3(BIDIR + json)).at(-1)!.test).toBe(2);
  });

  it("reads versions without sender, and --bidir without its mark in the settings", () => {
    const doc = JSON.parse(read("capture/icount-vhost/iperf3-run1.json").toString());
    const without = JSON.stringify(doc, (key, value) => (["sender", "rtt", "rttvar", "mean_rtt"].includes(key) && typeof value !== "object" ? undefined : value));
    const rows = rowsOf(kl.fromIperf3(without));
    expect(rows[0]).toMatchObject({ side: "sender", direction: "to server", rtt: null });
    const interval = doc.intervals[0];
    interval.streams.push({ ...interval.streams[0], socket: 7, sender: false });
    interval.sum_bidir_reverse = { ...interval.sum, sender: false };
    expect(rowsOf(kl.fromIperf3(JSON.stringify(doc))).slice(0, 4).map(({ stream, role, direction }) => [stream, role, direction])).toEqual([
      ["5", "TX-C", "to server"], ["7", "RX-C", "to client"], ["SUM", "TX-C", "to server"], ["SUM", "RX-C", "to client"],
    ]);
  });
});

describe("iperf3's failures", () => {
  const failed = '{\n\t"start":\t{\n\t\t"connected":\t[],\n\t\t"version":\t"iperf 3.12"\n\t},\n\t"intervals":\t[],\n\t"end":\t{\n\t},\n\t"error":\t"unable to connect to server: Connection refused"\n}\n'; // iperf 3.12

  it("throws iperf3's own words where nothing was measured", () => {
    expect(() => kl.fromIperf3(failed, { name: "run3.json" })).toThrow(/run3\.json: iperf3 measured nothing; it says: unable to connect to server: Connection refused/);
    expect(() => kl.fromIperf3("iperf3: error - unable to connect to server: Connection refused\n")).toThrow(kl.ParseError);
  });

  it("keeps a failure among other runs as a row", () => {
    expect(rowsOf(kl.fromIperf3(BIDIR + failed)).at(-1)).toMatchObject({ test: 2, kind: "error", error: "unable to connect to server: Connection refused", bitrate: null, start: null });
    expect(rowsOf(kl.fromIperf3(`${BIDIR}iperf3: error - control socket has closed unexpectedly\n`)).at(-1)).toMatchObject({ test: 1, kind: "error", error: "control socket has closed unexpectedly" });
  });

  it("names the line where damaged or unfinished JSON begins", () => {
    const json = read("capture/icount-vhost/iperf3-run1.json").toString();
    expect(() => kl.fromIperf3(json + json.slice(0, 500))).toThrow(/text:123: the JSON document that begins here has no end/);
    expect(() => kl.fromIperf3(json.replace('"end":', '"end"'))).toThrow(/text:1: the JSON document that begins here is damaged/);
  });

  it("gives an empty table for empty text", () => expect(kl.fromIperf3("").numRows()).toBe(0));
});

describe("iperf3 accounting", () => {
  for (const text of [BIDIR, SERVER_OUTPUT, UDP]) it("is exact when lines are damaged", () => expectExactWhenMutated((bytes) => kl.fromIperf3(bytes), Buffer.from(text)));
  it("is exact when JSON is damaged", () => expectExactWhenMutated((bytes) => kl.fromIperf3(bytes), read("capture/icount-vhost/iperf3-run1.json")));

  const own = recordings(DATA);
  it.each(own.map((path) => relative(DATA, path)))("data/%s: whole, in chunks", async (path) => {
    const bytes = read(path);
    const whole = kl.fromIperf3(bytes);
    expectExact(whole, bytes);
    expect(kl.accounting(whole).unknown).toEqual([]);
    expect(whole.numRows()).toBeGreaterThan(0);
    for (const n of [1, 7, 4096]) expect((await kl.loadIperf3(inChunks(bytes, n), { quiet: true })).objects()).toEqual(whole.objects());
  });
});

describe.skipIf(!CAPTURE)("iperf3 on the larger set (KERNEL_LIB_CAPTURE_DATA)", () => {
  it.each((CAPTURE ? recordings(CAPTURE) : []).map((path) => relative(CAPTURE!, path)))("%s", async (path) => {
    const table = await kl.loadIperf3(`${CAPTURE}/${path}`, { quiet: true });
    expectExact(table, readFileSync(`${CAPTURE}/${path}`));
    expect(kl.accounting(table).unknown).toEqual([]);
    expect(table.numRows()).toBeGreaterThan(0);
  });
});
