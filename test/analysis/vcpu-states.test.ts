import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA, filesBelow } from "../peer.js";
import { QEMU_KICK } from "./kick-text.js";

// Of the kick's lines those that vcpuStates reads, and the one by which it learns the vCPU's id, which is left out there.
const TIMER_MAP = " qemu-system-aar-194   [003]    77.741745728: kvm_get_timer_map:    VCPU: 0, dv: 1, dp: 0, ep: -1";
const KICK_AND_HALT = QEMU_KICK.split("\n").filter((line) => !/kp_tun_get_user|vgic_update_irq_pending|comm=ssh|ssh:208 \[120\] CPU|0xa003a64/.test(line))
  .flatMap((line) => (line.includes("194 [120] S ==> swapper/3") ? [line, TIMER_MAP] : [line])).join("\n");

type Row = Record<string, any>;
const rows = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];
const statesOf = (text: string): Row[] => rows(kl.vcpuStates(kl.fromTraceCmd(text)));
const pairs = (list: Row[]): [string, number][] => list.map(({ state, dur }) => [state, dur]);
const before = (line: string, what: string): string => KICK_AND_HALT.split("\n").flatMap((text) => (text.includes(line) ? [what, text] : [text])).join("\n");

function byThreadOf(list: Row[]): Map<number, Row[]> {
  const threads = new Map<number, Row[]>();
  for (const row of list) (threads.get(row.pid) ?? threads.set(row.pid, []).get(row.pid)!).push(row);
  return threads;
}

/** Rows of each thread follow each other without a gap from the first event's time to the last's. */
function expectGapless(list: Row[], from: number, to: number): void {
  for (const own of byThreadOf(list).values()) {
    let at = from;
    for (const { start, dur } of own) {
      expect(start).toBe(at);
      expect(dur).toBeGreaterThan(0);
      at += dur;
    }
    expect(at).toBe(to);
    expect(own.reduce((sum, { dur }) => sum + dur, 0)).toBe(to - from);
    own.forEach(({ state, by_pid, cpu }, i) => expect(i > 0 && state === own[i - 1].state && by_pid === own[i - 1].by_pid && cpu === own[i - 1].cpu).toBe(false));
  }
}

describe("vcpuStates", () => {
  it("gives each stretch of one state (read off the text)", () => {
    const states = statesOf(KICK_AND_HALT);
    expect(pairs(states)).toEqual([
      ["KVM", 7072], ["guest", 10960], ["KVM", 4400], ["halted", 20768], ["stolen", 4368], ["KVM", 14160], // the kick; out .741744384, woken .741765152, in .741769520
      ["guest", 2688], ["KVM", 5152], ["user space", 2864], ["KVM", 10304], // the read, answered by QEMU
      ["guest", 2160], ["KVM", 5344], ["user space", 15248], // the write: KVM_RUN says nothing before its kvm_entry
    ]);
    expect(states[0]).toMatchObject({ start: 77_741_721_952, pid: 194, vcpu: 0, by_comm: null, by_pid: null });
  });
  it("knows polling from the way to sleep", () => {
    // The wait began .741779952 − 38160 ns = .741741792; KVM polls from then until it goes to sleep, where its limit is above 0.
    const polling = KICK_AND_HALT.replace("halt_poll_ns 10000 (grow 0)", "halt_poll_ns 20000 (grow 10000)");
    expect(pairs(statesOf(polling)).slice(1, 6)).toEqual([["guest", 10960], ["KVM", 1808], ["polling", 2592], ["halted", 20768], ["stolen", 4368]]);
    // A poll that was enough: no sleep.
    const enough = KICK_AND_HALT.split("\n").filter((line) => !/sched_switch.*:194 |pid=194|aar:194 /.test(line)).join("\n").replace("wait time 38160", "poll time 38160");
    expect(pairs(statesOf(enough)).slice(1, 5)).toEqual([["guest", 10960], ["KVM", 1808], ["polling", 38160], ["KVM", 3728]]);
  });
  it("takes halts from kvm_vcpu_wakeup where the scheduler was not recorded", () => {
    const text = KICK_AND_HALT.split("\n").filter((line) => !line.includes("sched_")).join("\n");
    expect(pairs(statesOf(text)).slice(1, 5)).toEqual([["guest", 10960], ["KVM", 1808], ["halted", 38160], ["KVM", 3728]]);
  });
  it("tells blocked from halted, and preempted with by whom", () => {
    const blocked = statesOf(KICK_AND_HALT.replace("HSR_EC: 0x0001 (WFx)", "HSR_EC: 0x0024 (DABT_LOW)"));
    expect(pairs(blocked)[3]).toEqual(["blocked", 20768]);
    const states = statesOf(KICK_AND_HALT.replace(":194 [120] S ==> swapper/3:0", ":194 [120] R ==> kworker/3:2:171"));
    expect(states[3]).toMatchObject({ state: "preempted", dur: 25136, by_comm: "kworker/3:2", by_pid: 171 });
    expect(rows(kl.preemptions(kl.vcpuStates(kl.fromTraceCmd(KICK_AND_HALT.replace(":194 [120] S ==> swapper/3:0", ":194 [120] R ==> kworker/3:2:171")))))).toEqual([
      { run: null, vcpu: 0, pid: 194, by_comm: "kworker/3:2", by_pid: 171, count: 1, total: 25136 },
    ]);
    expect(kl.preemptions(kl.vcpuStates(kl.fromTraceCmd(KICK_AND_HALT))).numRows()).toBe(0);
  });
  it("is unknown from the last event kept before a loss to the thread's next", () => {
    // On CPU 3, in the guest: lost between .741729024 and .741739984.
    expect(pairs(statesOf(before("77.741739984", "CPU:3 [7 EVENTS DROPPED]"))).slice(0, 3)).toEqual([["KVM", 7072], ["unknown", 10960], ["KVM", 4400]]);
    // CPU 1 is blind between .741730512 and .741763424. The thread goes to sleep at .741744384 and may have run there since, until it is seen at .741769520;
    // what it does then is known from .741779952 on.
    expect(pairs(statesOf(before("77.741763424", "CPU:1 [7 EVENTS DROPPED]"))).slice(1, 6)).toEqual([["guest", 10960], ["KVM", 4400], ["unknown", 34912], ["KVM", 4384], ["guest", 2688]]);
    // CPU 1 is blind while the thread is on CPU 3 throughout.
    expect(pairs(statesOf(before("77.741728368", "CPU:1 [7 EVENTS DROPPED]")))).toEqual(pairs(statesOf(KICK_AND_HALT)));
  });
  it("says which events it needs", () => {
    expect(() => statesOf(KICK_AND_HALT.replaceAll("kvm_entry", "kvm_other"))).toThrow(/vcpuStates needs kvm_entry; this trace has/);
    expect(() => kl.backendStates(kl.fromTraceCmd(KICK_AND_HALT.replaceAll("sched_switch", "sched_other")))).toThrow(/backendStates needs sched_switch/);
  });
});

describe("backendStates", () => {
  it("says when the thread that injects interrupts runs, and where (read off the text)", () => {
    // Its interrupt tells the role; woken unseen, so unknown up to the switch.
    const states = rows(kl.backendStates(kl.fromTraceCmd(KICK_AND_HALT)));
    expect(states.map(({ pid, role, state, dur, cpu }) => [pid, role, state, dur, cpu])).toEqual([
      [190, "main", "unknown", 8560, null], [190, "main", "running", 48384, 1], [190, "main", "sleeping", 48544, null],
    ]);
  });
});

describe("vcpuStateSummary", () => {
  it("adds up per thread and state", () => {
    const summary = rows(kl.vcpuStateSummary(kl.vcpuStates(kl.fromTraceCmd(KICK_AND_HALT))));
    expect(summary.map(({ state, total, count }) => [state, total, count])).toEqual([["KVM", 46432, 6], ["halted", 20768, 1], ["user space", 18112, 2], ["guest", 15808, 3], ["stolen", 4368, 1]]);
    expect(summary[3]).toMatchObject({ run: null, vcpu: 0, pid: 194, p50: 2688 });
    expect(summary.reduce((sum, { share }) => sum + share, 0)).toBeCloseTo(100, 9);
  });
});

describe("the time of each thread is filled without gaps, exactly", () => {
  const files = filesBelow(join(DATA, "capture"), /trace-cmd[^/]*\.txt(\.gz|\.zst)?$|ftrace-trace[^/]*\.gz$/).filter((path) => !path.includes(".record."));
  it("in every recording, lost events or not, and agrees with kvmExits", async () => {
    let seen = 0, compared = 0, lost = 0;
    for (const path of files) {
      const trace = await kl.loadTraceCmd(path, { quiet: true }), { ts, length } = trace.raw;
      if (!["kvm_exit", "kvm_entry", "sched_switch"].every((event) => trace.eventNames.includes(event)) || trace.raw.side) continue;
      seen++;
      lost += trace.lost.numRows() > 0 ? 1 : 0;
      const states = rows(kl.vcpuStates(trace));
      expectGapless(states, ts[0], ts[length - 1]);
      expectGapless(rows(kl.backendStates(trace)), ts[0], ts[length - 1]);
      // Each span of kvmExits, which another walk finds, holds the same sleep and the same waiting.
      const byThread = byThreadOf(states);
      for (const [pid, exits] of byThreadOf(rows(kl.kvmExits(trace)))) {
        const own = byThread.get(pid)!;
        let k = 0;
        for (const exit of exits) {
          if (exit.handling === null) continue;
          const end = exit.ts + exit.handling;
          let asleep = 0, waiting = 0, unknown = 0;
          while (k > 0 && own[k].start > exit.ts) k--;
          while (k < own.length && own[k].start + own[k].dur <= exit.ts) k++;
          for (let j = k; j < own.length && own[j].start < end; j++) {
            const part = Math.min(end, own[j].start + own[j].dur) - Math.max(exit.ts, own[j].start);
            if (/halted|blocked/.test(own[j].state)) asleep += part;
            else if (/stolen|preempted/.test(own[j].state)) waiting += part;
            else if (own[j].state === "unknown") unknown += part;
            else if (own[j].state === "guest") expect.fail(`guest time while an exit is handled, ${path} ${exit.ts}`);
          }
          // The tracing file does not say that the beginnings of its buffers are overwritten; kvmExits then has spans that hold unseen events.
          if (unknown > 0) expect(path).toContain("ftrace-trace-overrun");
          else expect([path, exit.ts, asleep, waiting]).toEqual([path, exit.ts, exit.sleep, exit.stolen]);
          compared++;
        }
      }
    }
    expect(seen).toBeGreaterThan(30);
    expect(lost).toBeGreaterThan(2);
    expect(compared).toBeGreaterThan(50_000);
  }, 120_000);

  it("in a report of host and guest together: of the host's events", async () => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-agent-virtio/trace-cmd-merged.txt.zst"), { quiet: true });
    const { ts, side, length } = trace.raw, exit = [...trace.raw.event].indexOf("kvm_exit"), host = side!.codes[exit];
    const own = Array.from({ length }, (_, i) => i).filter((i) => side!.codes[i] === host);
    expectGapless(rows(kl.vcpuStates(trace)), ts[own[0]], ts[own.at(-1)!]);
  });

  it("in any sequence of events, in order or not", () => {
    const OPS: Record<string, (tid: number, other: number) => string> = {
      exit: () => "kvm_exit: TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800008cda268", wfx: () => "kvm_exit: TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff800008cda268",
      entry: () => "kvm_entry: PC: 0xffff800008cda268", user: () => "kvm_userspace_exit: reason KVM_EXIT_MMIO (6)", mmio: () => "kvm_mmio: mmio read len 4 gpa 0xa003a60 val 0x1",
      wait: (tid) => `kvm_vcpu_wakeup: wait time ${tid * 300} ns, polling valid`, poll: (tid) => `kvm_vcpu_wakeup: poll time ${tid * 200} ns, polling valid`, window: () => "kvm_halt_poll_ns: vcpu 0: halt_poll_ns 20000 (grow 10000)",
      sleep: (tid, other) => `sched_switch: qemu:${tid} [120] S ==> qemu:${other} [120]`, oust: (tid, other) => `sched_switch: qemu:${tid} [120] R ==> qemu:${other} [120]`,
      waking: (_, other) => `sched_waking: comm=qemu pid=${other} prio=120 target_cpu=001`, wakeup: (_, other) => `sched_wakeup: qemu:${other} [120] CPU:001`, inject: () => "kvm_irq_line: Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 1",
    };
    const tid = fc.integer({ min: 100, max: 103 });
    const step = fc.record({ cpu: fc.nat(2), op: fc.constantFrom(...Object.keys(OPS), "lost"), tid, other: tid, after: fc.constantFrom(0, 0, 1, 17, 4000, 90_000) });
    fc.assert(fc.property(fc.array(step, { minLength: 3, maxLength: 150 }), (steps) => {
      let ts = 1_000_000_000;
      const text = steps.map((s) => {
        ts += s.after;
        return s.op === "lost" ? `CPU:${s.cpu} [3 EVENTS DROPPED]` : `            qemu-${s.tid}   [00${s.cpu}]     ${(ts / 1e9).toFixed(9)}: ${OPS[s.op](s.tid, s.other)}`;
      }).join("\n");
      const trace = kl.fromTraceCmd(`${text}\n`);
      if (!["kvm_exit", "kvm_entry"].every((event) => trace.eventNames.includes(event))) return;
      const { raw } = trace;
      const states = rows(kl.vcpuStates(trace));
      expectGapless(states, raw.ts[0], raw.ts[raw.length - 1]);
      if (trace.eventNames.includes("sched_switch")) expectGapless(rows(kl.backendStates(trace)), raw.ts[0], raw.ts[raw.length - 1]);
      for (const { state, by_pid } of states) expect(by_pid === null).toBe(state !== "preempted");
    }), { numRuns: 400, seed: 11 });
  });
});
