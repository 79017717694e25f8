import fc from "fast-check";
import * as kl from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { merged, recorded, retimed, rowsOf, type Recorded } from "./host-and-guest.js";

const names: Record<string, string> = { "trace.dat": "host", "trace-guest.dat": "guest", host: "host", guest: "guest" };
const keyOf = ({ raw }: kl.Trace, i: number): string => `${raw.ts[i]} ${names[raw.side!.at(i)!]} ${raw.cpu[i]} ${raw.pid[i]} ${raw.comm.at(i)} ${raw.event.at(i)}`;
const sideless = (table: kl.ColumnTable): string[] => rowsOf(table).map((row) => JSON.stringify(Object.entries({ ...row, side: names[row.side] }).sort(([a], [b]) => (a < b ? -1 : 1)))).sort();

describe.each(["virtio", "vhost"] as const)("joinTraces of the %s recording, left as synchronized", (mode) => {
  let both: Recorded, whole: kl.Trace, joined: kl.Trace;
  beforeAll(async () => {
    both = await recorded(mode);
    whole = await merged(mode);
    joined = kl.joinTraces(both, { offset: 0 });
  }, 60_000);

  it("gives what trace-cmd's merged report gives: the same rows, in the same order up to equal times", () => {
    expect(joined.raw.length).toBe(whole.raw.length);
    // Among equal times trace-cmd goes by the ns that the text does not have.
    const together = (trace: kl.Trace): string[] => {
      const out: string[] = [];
      for (let i = 0, from = 0; i <= trace.raw.length; i++) {
        if (i < trace.raw.length && trace.raw.ts[i] === trace.raw.ts[from]) continue;
        out.push(Array.from({ length: i - from }, (_, k) => keyOf(trace, from + k)).sort().join("\n"));
        from = i;
      }
      return out;
    };
    expect(together(joined)).toEqual(together(whole));
    // Rows of one side stay in the order of its text.
    for (const side of ["host", "guest"] as const) {
      const rows = Array.from({ length: joined.raw.length }, (_, i) => i).filter((i) => joined.raw.side!.at(i) === side);
      expect(rows.map((i) => `${joined.raw.event.at(i)} ${joined.raw.ts[i]}`)).toEqual(Array.from(both[side].raw.ts, (ts, i) => `${both[side].raw.event.at(i)} ${ts}`));
    }
  });

  it("has the same table for every event, with every column described", () => {
    expect([...joined.eventNames].sort()).toEqual([...whole.eventNames].sort());
    // Those of both sides or of the guest, and two of the host: the rest of its events is taken over as it is.
    for (const event of new Set([...both.guest.eventNames, "kvm_mmio", "kp_tun_get_user"])) {
      expect(joined.of(event).columnNames().sort()).toEqual(whole.of(event).columnNames().sort());
      expect(sideless(joined.of(event)), event).toEqual(sideless(whole.of(event)));
      expect(rowsOf(kl.describe(joined.of(event))).filter(({ meaning }) => meaning === "" || meaning === "made in this notebook")).toEqual([]);
    }
    expect(joined.events.columnNames().sort()).toEqual(whole.events.columnNames().sort());
    expect(joined.events.array("info")).toHaveLength(joined.raw.length);
  });

  it("gives the analyses of the host the same tables", () => {
    for (const analysis of [kl.virtioKicks, kl.kvmExits, kl.vcpuStates, kl.virtioDevices, kl.vcpuThreads]) expect(rowsOf(analysis(joined))).toEqual(rowsOf(analysis(whole)));
  });

  it("names its sides, counts their CPUs, and accounts for the lines of both", async () => {
    expect(rowsOf(joined.sides!)).toEqual([{ side: "host", cpus: 4, events: both.host.raw.length }, { side: "guest", cpus: 2, events: both.guest.raw.length }]);
    expect(rowsOf(whole.sides!).map(({ cpus, events }) => [cpus, events])).toEqual(rowsOf(joined.sides!).map(({ cpus, events }) => [cpus, events]));
    expect(joined.cpus).toBe(4);
    expect(kl.accounting(joined).lines).toBe(kl.accounting(both.host).lines + kl.accounting(both.guest).lines);
    expect((await kl.bundleOf(joined))!.data["text/plain"]).toMatch(/CPUs +host 4, guest 2/);
  });

  it("puts the guest's events into guest mode by default, from two texts or from the merged one", () => {
    const aligned = kl.joinTraces(both), realigned = kl.joinTraces({ host: whole, guest: whole });
    expect(rowsOf(kl.guestCpus(aligned)).map(({ outside }) => outside)).toEqual([0, 0]);
    expect(rowsOf(kl.guestCpus(joined)).reduce((n, { outside }) => n + outside, 0)).toBeGreaterThan(1000);
    expect(Array.from({ length: aligned.raw.length }, (_, i) => keyOf(realigned, i))).toEqual(Array.from({ length: aligned.raw.length }, (_, i) => keyOf(aligned, i)));
    expect(aligned.raw.ts.every((ts, i, all) => i === 0 || all[i - 1] <= ts)).toBe(true);
    expect(rowsOf(kl.virtioKicks(aligned))).toEqual(rowsOf(kl.virtioKicks(whole)).map((row) => ({ ...row })));
  });
});

describe("joinTraces", () => {
  it("takes the clocks that a person found before, and refuses those that could not be", async () => {
    const [virtio, vhost] = [await recorded("virtio"), await recorded("vhost")];
    const clocks = kl.alignClocks(virtio.host, virtio.guest);
    expect(kl.joinTraces(virtio, { clocks }).raw.ts).toEqual(kl.joinTraces(virtio).raw.ts);
    expect(() => kl.joinTraces({ host: virtio.host, guest: vhost.guest })).toThrow(/cannot put .* on one clock: .*give \{ offset \}/);
    const shifted = kl.fromTraceCmd(retimed(virtio.guestText, (ns) => ns - 5e9));
    expect(kl.joinTraces({ host: virtio.host, guest: shifted }, { offset: 5e9 }).raw.ts).toEqual(kl.joinTraces(virtio, { offset: 0 }).raw.ts);
  });

  const line = (cpu: number, us: number, event: string, pid = 7): string => ` task-${pid}   [${String(cpu).padStart(3, "0")}]  10.${String(us).padStart(6, "0")}: ${event}`;
  const HOST = ["kvm_entry:  PC: 0xffff", "kvm_exit:  TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff", "sched_waking: comm=sh pid=1 prio=120 target_cpu=000"];
  const GUEST = ["sched_waking: comm=sh pid=1 prio=120 target_cpu=000", "irq_handler_entry: irq=18 name=virtio1"];
  const text = (events: string[]) => fc.array(fc.record({ step: fc.integer({ min: 0, max: 30 }), cpu: fc.integer({ min: 0, max: 2 }), event: fc.constantFrom(...events), lost: fc.integer({ min: 0, max: 6 }) }), { minLength: 3, maxLength: 40 })
    .map((rows) => { let us = 100; return rows.map(({ step, cpu, event, lost }) => `${lost === 0 ? `CPU:${cpu} [${cpu + 1} EVENTS DROPPED]\n` : ""}${line(cpu, (us += step), event)}`).join("\n"); });

  it("keeps every event and every loss, each loss between the same two events of its CPU, whatever the clocks", () => {
    fc.assert(fc.property(text(HOST), text(GUEST), fc.integer({ min: -300, max: 300 }), fc.integer({ min: -300, max: 300 }), (hostText, guestText, a, b) => {
      const host = kl.fromTraceCmd(`cpus=3\n${line(0, 1, HOST[0])}\n${line(0, 2, HOST[1])}\n${hostText}`), guest = kl.fromTraceCmd(`cpus=3\n${[0, 1, 2].map((cpu) => line(cpu, 50, GUEST[0])).join("\n")}\n${guestText}`);
      const joined = kl.joinTraces({ host, guest }, { offset: { 0: a * 1000, 1: b * 1000, 2: 0 } });
      expect(joined.raw.ts.every((ts, i, all) => i === 0 || all[i - 1] <= ts)).toBe(true);
      const lost = rowsOf(joined.lost);
      expect(lost.length).toBe(host.lost.numRows() + guest.lost.numRows());
      expect(lost.every(({ position }, i) => i === 0 || lost[i - 1].position <= position)).toBe(true);
      for (const side of ["host", "guest"] as const) {
        const own = { host, guest }[side];
        for (const cpu of [0, 1, 2]) {
          const move = side === "host" ? 0 : [a, b, 0][cpu] * 1000;
          const inText: string[] = [], inJoined: string[] = [];
          const before = (rows: number[], gap: number): string => `lost after ${rows.filter((row) => row < gap).length} of ${rows.length}`;
          const ownRows = Array.from({ length: own.raw.length }, (_, i) => i).filter((i) => own.raw.cpu[i] === cpu), joinedRows = Array.from({ length: joined.raw.length }, (_, i) => i).filter((i) => joined.raw.side!.at(i) === side && joined.raw.cpu[i] === cpu);
          for (const gap of rowsOf(own.lost).filter((one) => one.cpu === cpu)) inText.push(`${before(ownRows, gap.position)} ${gap.count} ${gap.from === null ? null : gap.from + move} ${gap.to === null ? null : gap.to + move}`);
          for (const gap of lost.filter((one) => one.cpu === cpu && one.side === side)) inJoined.push(`${before(joinedRows, gap.position)} ${gap.count} ${gap.from} ${gap.to}`);
          expect(inJoined).toEqual(inText);
          expect(joinedRows.map((i) => `${joined.raw.event.at(i)} ${joined.raw.ts[i]}`)).toEqual(ownRows.map((i) => `${own.raw.event.at(i)} ${own.raw.ts[i] + move}`));
        }
      }
    }), { numRuns: 60 });
  });

  it("names an event's columns that one side lacks", () => {
    const host = kl.fromTraceCmd([line(0, 1, HOST[0]), line(0, 9, HOST[1]), line(0, 10, "net_dev_xmit: dev=tap0 len=118 rc=0")].join("\n"));
    const guest = kl.fromTraceCmd([line(0, 4, "net_dev_xmit: dev=eth0 skbaddr=0xffff0000 len=118")].join("\n"));
    const table = kl.joinTraces({ host, guest }, { offset: 0 }).of("net_dev_xmit");
    expect(rowsOf(table).map(({ side, dev, skbaddr, len, rc }) => [side, dev, skbaddr, len, rc])).toEqual([["guest", "eth0", "0xffff0000", 118, null], ["host", "tap0", null, 118, 0]]);
    expect(rowsOf(kl.describe(table)).find(({ column }) => column === "rc")!.null).toMatch(/does not print|has none/);
  });
});
