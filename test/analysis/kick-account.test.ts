import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { QEMU_KICK } from "./kick-text.js";

type Row = Record<string, any>;
const accountOf = (kicks: kl.ColumnTable): Row[] => kl.kickAccount(kicks).objects() as Row[];

describe("kickAccount", () => {
  it("tells merged kicks, shared interrupts and packets without a kick", () => {
    // A second kick before the first one's tun_get_user (.741750848) is merged; two further calls, of which one is for it.
    const lines = QEMU_KICK.split("\n");
    const put = (before: string, text: string): void => { lines.splice(lines.findIndex((line) => line.includes(before)), 0, text); };
    put("77.741739984", " qemu-system-aar-195   [003]    77.741735000: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x1");
    for (const us of ["741752000", "741753000"]) put("77.741756400", ` qemu-system-aar-190   [001]    77.${us}: kp_tun_get_user:      (ffff800000e69444)`);
    expect(accountOf(kl.virtioKicks(kl.fromTraceCmd(lines.join("\n"))))).toEqual([{
      run: null, backend: "qemu", kicks: 2, whole: 1, awake: 1, merged: 1, interrupts: 1, shared: 0, packets: 3, without_kick: 1, why: "1 × merged into an earlier kick",
    }]);
    // Queue 0 is kicked too, and its back end raises one interrupt for both.
    const both = QEMU_KICK.split("\n");
    both.splice(both.findIndex((line) => line.includes("77.741739984")), 0, " qemu-system-aar-194   [003]    77.741735000: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x0", " qemu-system-aar-194   [003]    77.741735500: sched_waking:         comm=qemu-system-aar pid=190 prio=120 target_cpu=001");
    expect(accountOf(kl.virtioKicks(kl.fromTraceCmd(both.join("\n"))))).toMatchObject([{ kicks: 2, interrupts: 1, shared: 1 }]);
  });

  it("adds up per run and back end", async () => {
    const of = async (path: string): Promise<kl.ColumnTable> => kl.virtioKicks(await kl.loadTraceCmd(join(DATA, "capture", path), { quiet: true }));
    const kicks = kl.stackRuns({ virtio: await of("icount-virtio/trace-cmd.nsec.txt.gz"), vhost: await of("icount-vhost/trace-cmd.nsec.txt.gz"), lost: await of("virtio/trace-cmd-lost.txt.gz") });
    const rows = kicks.objects({ limit: Infinity }) as Row[], account = accountOf(kicks);
    expect(account.map(({ run }) => run)).toEqual(["virtio", "vhost", "lost"]);
    for (const { run, whole, why, awake, merged, packets, interrupts, shared, ...row } of account) {
      const own = rows.filter((kick) => kick.run === run);
      expect(row.kicks).toBe(own.length);
      expect(whole + [...String(why ?? "").matchAll(/(\d+) × /g)].reduce((sum, [, n]) => sum + Number(n), 0)).toBe(own.length);
      expect(awake).toBe(own.filter((kick) => kick.awake).length);
      expect(merged).toBe(own.filter((kick) => kick.merged_into !== null).length);
      expect(packets).toBe(own.reduce((sum, kick) => sum + kick.tun_count, 0));
      expect(interrupts + shared).toBe(own.filter((kick) => kick.irq !== null).length);
    }
    expect(account[2].why).toContain("lost events");
  });
});
