import * as kl from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { recorded, rowsOf, type Row } from "./host-and-guest.js";

const traces: Record<string, kl.Trace> = {}, packets: Record<string, Row[]> = {};
beforeAll(async () => {
  for (const mode of ["virtio", "vhost"] as const) {
    traces[mode] = kl.joinTraces(await recorded(mode));
    packets[mode] = rowsOf(kl.packetPath(traces[mode]));
  }
}, 60_000);

/** Times of the events of a trace that a filter takes. */
const timesOf = (trace: kl.Trace, event: string, test: (row: Row) => boolean = () => true): number[] => rowsOf(trace.of(event)).filter(test).map(({ ts }) => ts);

describe("packetPath", () => {
  it("has one row per packet that the guest gave to its driver", () => {
    for (const mode of ["virtio", "vhost"]) expect(packets[mode].map(({ ts }) => ts)).toEqual(timesOf(traces[mode], "net_dev_start_xmit", ({ side }) => side === "guest"));
    expect([packets.virtio.length, packets.vhost.length]).toEqual([609, 611]);
  });

  it("pairs every call of tun_get_user with one packet, in order; what vhost sends without is small", () => {
    expect(packets.virtio.filter(({ tun }) => tun === null)).toEqual([]);
    const small = packets.vhost.filter(({ tun }) => tun === null);
    expect(small.length).toBe(611 - 578);
    for (const mode of ["virtio", "vhost"]) {
      const paired = packets[mode].filter(({ tun }) => tun !== null);
      expect(paired.map(({ ts, tun }) => ts + tun)).toEqual(timesOf(traces[mode], "kp_tun_get_user"));
      for (const { tun } of paired) expect(tun).toBeGreaterThan(0);
    }
    const most = Math.max(...small.map(({ len }) => len)), least = Math.min(...packets.vhost.filter(({ tun }) => tun !== null).map(({ len }) => len));
    expect([most, least]).toEqual([2962, 4410]);
    for (const { why } of small) expect(why).toBe("small: up to 2,962 bytes vhost sends without tun_get_user");
  });

  it("gives every kick of the transmit queue to the packet whose net_dev_start_xmit and net_dev_xmit it lies between", () => {
    for (const [mode, n] of [["virtio", 145], ["vhost", 92]] as const) {
      const kicks = rowsOf(kl.virtioKicks(traces[mode])).filter(({ gpa, queue }) => gpa === 0xa003a00 && queue === 1);
      const kicked = packets[mode].filter(({ kick }) => kick !== null);
      expect(kicked.map(({ kick, ts, notify }) => [kick, ts + notify])).toEqual(kicks.map(({ kick, ts }) => [kick, ts]));
      expect(kicked.length).toBe(n);
      for (const { notify, xmit } of kicked) {
        expect(notify).toBeGreaterThan(0);
        expect(notify).toBeLessThan(xmit);
      }
    }
  });

  it("keeps its stages in order", () => {
    for (const mode of ["virtio", "vhost"]) {
      for (const row of packets[mode]) {
        const way = [row.queued, 0, row.tun, row.irq, row.entry, row.handler, row.softirq, row.received].filter((time) => time !== null);
        // An interrupt and its handler are of two clocks, to the residual.
        expect(way.every((time, i) => i === 0 || time >= way[i - 1] - 3000), JSON.stringify(row)).toBe(true);
        expect(row.whole).toBe(row.softirq !== null);
        expect(row.why === null).toBe(row.whole);
      }
    }
  });

  it("says of one packet what the text says, line by line", () => {
    // trace-guest.dat: 2362.823252 net_dev_queue eth0 26130 · .823253 net_dev_start_xmit · .823365 irq_handler_entry 18 · .823411 net_dev_xmit · .823435 softirq_entry NET_RX · .823444 netif_receive_skb
    // trace.dat: 2362.823283 kvm_mmio write 0xa003a50 · .823316 kp_tun_get_user of 515 · .823345 kvm_irq_line 77 level 1 · .823389 kvm_entry of 520
    const rows = packets.virtio.filter(({ len, ts }) => len === 26130 && Math.abs(ts - 2362_823_253_000) < 100_000);
    expect(rows.length).toBe(1);
    const [row] = rows;
    expect(row).toMatchObject({ cpu: 0, comm: "<idle>", dev: "eth0", queue: 1, backend: "qemu", backend_tid: 515, whole: true, why: null });
    expect([row.queued, row.handler, row.xmit, row.softirq, row.received]).toEqual([-1000, 112_000, 158_000, 182_000, 191_000]);
    expect([row.tun - row.notify, row.irq - row.notify, row.entry - row.notify]).toEqual([33_000, 62_000, 106_000]);
    expect(row.ts + row.notify).toBe(2362_823_283_000);
  });

  it("takes devices, CPUs and the threshold from a person, and says what it lacks", () => {
    const trace = traces.vhost, devices = kl.guestDevices(trace), cpus = kl.guestCpus(trace);
    expect(rowsOf(kl.packetPath(trace, { devices, cpus }))).toEqual(packets.vhost);
    const elsewhere = rowsOf(kl.packetPath(trace, { devices: devices.derive({ dev: () => "eth7" }) }));
    for (const row of elsewhere) expect(row).toMatchObject({ tun: null, irq: null, backend: null, whole: false, why: "no virtio device is known for this interface" });
    const all = rowsOf(kl.packetPath(trace, { bypass: 0 }));
    expect(all.filter(({ why }) => why === "no tun_get_user after it").length).toBe(33);
    const mute = rowsOf(kl.packetPath(trace, { devices: devices.derive({ irq: () => null }) }));
    expect(mute.filter(({ irq, handler, why }) => irq !== null && handler === null && why === "the guest's handler of the interrupt is not known").length).toBe(578);
    expect(() => kl.packetPath(trace, { slack: -1 })).toThrow(/slack is -1/);
  });

  it("joins nothing across lost events of the host", async () => {
    const { host, guest } = await recorded("virtio");
    const from = packets.virtio[300].ts, to = packets.virtio[300].ts + packets.virtio[300].tun + 1;
    const lost = kl.fromTraceCmd(` a-1   [002]  ${(from / 1e9).toFixed(9)}: x: y=1\nCPU:2 [99 EVENTS DROPPED]\n a-1   [002]  ${(to / 1e9).toFixed(9)}: x: y=1\n`).lost;
    const trace = kl.joinTraces({ host: { ...host, lost }, guest });
    const rows = rowsOf(kl.packetPath(trace));
    expect(rows.length).toBe(609);
    expect(rows[300].why).toBe("lost events");
    const cut = rows.filter(({ why }) => why === "lost events");
    expect(cut.length).toBeGreaterThan(0);
    for (const row of cut) expect(row.tun).toBe(null);
  });

  it("fails helpfully without the guest's side", async () => {
    const { host } = await recorded("virtio");
    for (const analysis of [kl.packetPath, kl.guestCpus, kl.guestDevices]) expect(() => analysis(host)).toThrow(/needs a guest's events beside the host's.*joinTraces\(\{ host, guest \}\)/s);
  });
});

describe("guestDevices and guestCpus", () => {
  it("learn what the guest calls the device at 0xa003a00, and which thread is which CPU", () => {
    for (const [mode, reads, kicks] of [["virtio", 186, 145], ["vhost", 210, 92]] as const) {
      const device = rowsOf(kl.guestDevices(traces[mode])).find(({ gpa }) => gpa === 0xa003a00)!;
      expect(device).toMatchObject({ intid: 77, irq: 18, irq_name: "virtio1", irq_confirmed: reads, irq_contradicted: 0, dev: "eth0", dev_confirmed: kicks, dev_contradicted: 0 });
    }
    expect(rowsOf(kl.guestCpus(traces.virtio)).map(({ cpu, tid, vcpu, outside }) => [cpu, tid, vcpu, outside])).toEqual([[0, 520, 0, 0], [1, 521, 1, 0]]);
    expect(rowsOf(kl.guestCpus(traces.virtio, { threads: { 0: 521, 1: 520 } })).map(({ tid, how }) => [tid, how])).toEqual([[521, "given"], [520, "given"]]);
  });
});

describe("packetStages", () => {
  it("adds up to the whole way, and counts all that have a stage", () => {
    const table = kl.stackRuns({ virtio: kl.packetPath(traces.virtio), vhost: kl.packetPath(traces.vhost) });
    for (const mode of ["virtio", "vhost"]) {
      const stages = rowsOf(kl.packetStages(table)).filter(({ run }) => run === mode), whole = packets[mode].filter((row) => row.whole);
      expect(stages.map(({ stage }) => stage)).toEqual(["net_dev_start_xmit → tun_get_user", "tun_get_user → interrupt", "interrupt → irq_handler_entry", "irq_handler_entry → NET_RX softirq"]);
      expect(stages[0].n).toBe(packets[mode].filter(({ tun }) => tun !== null).length);
      expect(stages.reduce((sum, { mean }) => sum + mean, 0)).toBeCloseTo(whole.reduce((sum, { softirq }) => sum + softirq, 0) / whole.length, 3);
      expect(stages.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(100, 6);
      const lengths = whole.map(({ tun }) => tun).sort((a, b) => a - b);
      expect(stages[0].p50).toBeGreaterThan(lengths[0]);
    }
  });
});

describe("kickSequence of host and guest", () => {
  it("shows what the guest's CPU was at, nested, within the time shown", () => {
    const row = packets.virtio.find(({ len, ts }) => len === 26130 && Math.abs(ts - 2362_823_253_000) < 100_000)!;
    const sequence = rowsOf(kl.kickSequence(traces.virtio, kl.virtioKicks(traces.virtio).object(row.kick) as unknown as kl.KickRow, { before: 20_000, after: 60_000 }));
    const functions = sequence.filter(({ kind }) => kind === "function");
    const at = ({ label }: Row): boolean => label === "xmit eth0 26130 bytes";
    expect(functions.filter(at).map(({ lane, start, end }) => [lane, start, end])).toEqual([["guest vCPU 0 (520)", -row.notify, row.xmit - row.notify]]);
    // The handler ran within the transmit: 2362.823365 to .823409, the transmit to .823411.
    const handler = functions.find(({ label, start }) => label === "irq 18 virtio1" && start > 0)!;
    expect([handler.start, handler.end]).toEqual([row.handler - row.notify, row.handler - row.notify + 44_000]);
    expect(functions.some(({ label }) => label === "softirq NET_RX")).toBe(true);
    const begin = Math.min(...sequence.map(({ start }) => start)), end = Math.max(...sequence.map((one) => one.end ?? one.start));
    for (const one of functions) expect(one.start >= begin && one.end <= end && one.start < one.end).toBe(true);
    const chart = kl.sequenceChart(kl.kickSequence(traces.virtio, kl.virtioKicks(traces.virtio).object(row.kick) as unknown as kl.KickRow));
    expect(JSON.stringify(chart)).toContain("function of the guest");
  });
  it("has the host's lanes alone where there is no guest", async () => {
    const { host } = await recorded("virtio");
    const alone = rowsOf(kl.kickSequence(host, kl.virtioKicks(host).object(54) as unknown as kl.KickRow)), beside = rowsOf(kl.kickSequence(traces.virtio, kl.virtioKicks(traces.virtio).object(54) as unknown as kl.KickRow));
    expect(alone.length).toBeGreaterThan(5);
    expect(beside.filter(({ kind, label }) => kind !== "function" && label !== "netif_receive_skb")).toEqual(alone);
  });
});
