// Relations that true figures satisfy: what the transcript of the slides damaged would break them.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  accounting, ColumnTable, fromIperf3, fromPerfKvmStat, fromPerfReport, fromPerfScript, fromPerfStat, fromVirtiostat,
} from "kernel-lib";
import { DATA } from "../peer.js";

const TALK = `${DATA}/talk`;
const text = (name: string) => readFileSync(`${TALK}/${name}`, "utf8");
const rows = (table: ColumnTable) => table.objects() as Record<string, any>[];
const modes = ["virtio", "vhost"];
const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);

describe.each(modes)("talk, %s", (mode) => {
  it("perf stat: events that come in pairs", () => {
    const table = fromPerfStat(text(`${mode}/perf-stat.txt`));
    expect(accounting(table)).toMatchObject({ rows: 20, notUnderstood: 0 });
    const count = Object.fromEntries([...text(`${mode}/perf-stat.txt`).matchAll(/^ +(\d+) +kvm:(\w+)/gm)].map(([, n, event]) => [event, Number(n)]));
    expect(count.kvm_entry).toBe(count.kvm_exit);
    expect([count.kvm_arm_setup_debug, count.kvm_arm_clear_debug]).toEqual([count.kvm_exit, count.kvm_exit]);
    expect(count.kvm_arm_set_dreg32).toBe(2 * count.kvm_exit);
    expect(count.kvm_handle_sys_reg).toBe(count.kvm_sys_access);
    expect([count.kvm_timer_save_state, count.kvm_timer_emulate]).toEqual([count.kvm_timer_restore_state, count.kvm_timer_restore_state]);
  });

  it("perf kvm stat: Samples% and Time% follow from counts and averages, to the digit", () => {
    const body = text(`${mode}/perf-kvm-stat.txt`);
    const table = fromPerfKvmStat(body);
    expect(accounting(table)).toMatchObject({ rows: 4, notUnderstood: 0 });
    const exits = [...body.matchAll(/^ +(\w+) +(\d+) +([\d.]+)% +([\d.]+)% +[\d.]+us +[\d.]+us +([\d.]+)us/gm)].map(([, reason, n, samples, time, avg]) => ({ reason, n: Number(n), samples, time, avg: Number(avg) }));
    expect(exits.map(({ reason }) => reason).sort()).toEqual(["DABT_LOW", "IRQ", "SYS64", "WFx"]);
    const total = sum(exits.map(({ n }) => n)), time = sum(exits.map(({ n, avg }) => n * avg));
    for (const exit of exits) {
      expect((100 * exit.n / total).toFixed(2)).toBe(exit.samples);
      expect((100 * exit.n * exit.avg / time).toFixed(2)).toBe(exit.time);
    }
  });

  it("iperf3: intervals add up to the total", () => {
    const body = text(`${mode}/iperf3.txt`);
    expect(accounting(fromIperf3(body)).notUnderstood).toBe(0);
    const intervals = [...body.matchAll(/-(\d+)\.00 +sec +(\d+) MBytes +([\d.]+) Gbits/g)].map((found) => ({ transfer: Number(found[2]), bitrate: Number(found[3]) }));
    expect(intervals.length).toBe(10);
    for (const { transfer, bitrate } of intervals) expect(Math.abs(transfer * 8 * 2 ** 20 / 1e9 - bitrate)).toBeLessThan(0.0105);
    const total = /sec +([\d.]+) GBytes +([\d.]+) Gbits\/sec +0 +sender/.exec(body)!;
    expect((sum(intervals.map(({ transfer }) => transfer)) / 1024).toFixed(2)).toBe(total[1]);
    expect((sum(intervals.map(({ bitrate }) => bitrate)) / 10).toFixed(2)).toBe(total[2]);
  });

  it("virtiostat: one queue receives, one transmits; receive buffers are of one size", () => {
    const [input, output] = rows(fromVirtiostat(text(`${mode}/virtiostat.txt`)));
    expect([input.vq, output.vq]).toEqual(["input.0", "output.0"]);
    expect([input.out_sgs, input.out_bytes, output.in_sgs, output.in_bytes]).toEqual([0, 0, 0, 0]);
    expect(Math.round(input.in_bytes / input.in_sgs)).toBe(1560);
  });

  it("perf kvm report: parts add up to the overhead, commands to 100 %", () => {
    const commands = rows(fromPerfReport(text(`${mode}/perf-kvm-report-comm.txt`)));
    const cents = (x: number) => Math.round(x * 100);
    for (const row of commands) expect(Math.abs(cents(row.sys) + cents(row.usr) + cents(row.guest_sys) + cents(row.guest_usr) - cents(row.overhead))).toBeLessThanOrEqual(1);
    expect(Math.abs(sum(commands.map((row) => cents(row.overhead))) - 10000)).toBeLessThanOrEqual(2);
    // No command idles longer than it ran.
    for (const idle of rows(fromPerfReport(text(`${mode}/perf-kvm-report-idle.txt`)))) {
      expect(commands.find((row) => row.comm === idle.comm)!.overhead).toBeGreaterThan(idle.overhead);
    }
  });

  it("trace-cmd: one kick, in order of time, between the slide's end points", () => {
    const events = [...text(`${mode}/trace-cmd.txt`).matchAll(/^ *\S+-\d+ +\[\d{3}\] +(\d+)\.(\d{6}): (\w+): +(.*)$/gm)]
      .map(([, s, us, event, info]) => ({ us: Number(s) * 1e6 + Number(us), event, info }));
    expect(events.length).toBe(mode === "virtio" ? 29 : 18);
    expect(text(`${mode}/trace-cmd.txt`).trimEnd().split("\n").length).toBe(events.length);
    expect(events.map((e) => e.us)).toEqual(events.map((e) => e.us).sort((x, y) => x - y));
    const mmio = events.filter((e) => e.event === "kvm_mmio");
    expect(mmio.map((e) => e.info)).toEqual(["mmio write len 4 gpa 0xa003a50 val 0x1", "mmio unsatisfied-read len 4 gpa 0xa003a60 val 0x0"]);
    expect(mmio[1].us - mmio[0].us).toBe(mode === "virtio" ? 568 : 187);
    // Addresses of the guest's kernel have 16 digits and lie in an arm64 kernel's text.
    for (const [, pc] of text(`${mode}/trace-cmd.txt`).matchAll(/(?:PC:|pc|hxfar) (0x\w+)/g)) expect(pc).toMatch(/^0xffffffc00[89][0-9a-f]{6}$/);
  });
});

describe("talk", () => {
  it("functions agree with commands: no command's functions add up to more than it has", () => {
    const commands = rows(fromPerfReport(text("virtio/perf-kvm-report-comm.txt")));
    const functions = rows(fromPerfReport(text("virtio/perf-kvm-report.txt")));
    for (const { comm, overhead } of commands) expect(sum(functions.filter((row) => row.comm === comm).map((row) => row.overhead))).toBeLessThanOrEqual(overhead + 0.005);
    const idle = rows(fromPerfReport(text("virtio/perf-kvm-report-idle.txt")));
    for (const row of functions.filter((f) => f.symbol.includes("idle"))) expect(idle.some((i) => i.comm === row.comm && i.symbol === row.symbol && i.overhead === row.overhead)).toBe(true);
  });

  it("the flame graph slide's two samples", () => {
    const profile = fromPerfScript(text("perf-script-host.txt"));
    expect(accounting(profile)).toMatchObject({ rows: 2, continuation: 29, notUnderstood: 0 });
    expect(rows(profile.samples)).toMatchObject([{ comm: "qemu-system-aar", tid: 2822, cpu: 5, period: 8063588 }, { tid: 2829, cpu: 7, period: 2762147 }]);
  });

  it("claims: each names its slide", () => {
    const [head, ...claims] = text("claims.tsv").trim().split("\n").map((line) => line.split("\t"));
    expect(head).toEqual(["claim", "slide"]);
    for (const claim of claims) expect(claim.map((cell) => cell.length > 0)).toEqual([true, true]);
    expect(claims.filter(([, slide]) => slide === "Summary").map(([claim]) => claim)).toEqual(["Twice as fast as standard virtio-net", "No significant side effects, especially in terms of CPU utilization"]);
  });

  it("the README names every file", () => {
    const readme = text("README.md");
    const names = new Set([...modes.flatMap((mode) => readdirSync(`${TALK}/${mode}`)), ...readdirSync(TALK).filter((name) => /\.(txt|tsv)$/.test(name))]);
    for (const name of names) expect(readme).toContain(name);
  });
});
