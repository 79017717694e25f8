import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, filesBelow, inChunks } from "../peer.js";

// Cut from environment.txt of an arm64 host that runs QEMU 7.2 with -name …,debug-threads=on; procps 4.0.2.
const ENVIRONMENT = `== versions
QEMU emulator version 7.2.22
== L1 threads
  PID   TID PSR COMMAND         COMMAND
 3275  3275   2 qemu-system-aar qemu-system-aarch64 -M virt,gic-version=3 -enable-kvm -name vm1,debug-threads=on
 3275  3280   3 CPU 0/KVM       qemu-system-aarch64 -M virt,gic-version=3 -enable-kvm -name vm1,debug-threads=on
 3275  3281   1 CPU 1/KVM       qemu-system-aarch64 -M virt,gic-version=3 -enable-kvm -name vm1,debug-threads=on
 3275  3296   0 worker          qemu-system-aarch64 -M virt,gic-version=3 -enable-kvm -name vm1,debug-threads=on
 3279  3279   3 vhost-3275      [vhost-3275]
== all L1 threads
  PID   TID COMMAND         COMMAND
   10    10 mm_percpu_wq    [mm_percpu_wq]
 3327  3327 ssh             ssh: /run/ssh-root@172.16.10.2 [mux]
== guest
Linux guest 6.1.0-56-arm64
  PID   TID COMMAND         COMMAND
    1     1 init-role       /bin/bash /sbin/init-role
`;

describe("fromThreadList", () => {
  it("reads the sections of an environment.txt, comm with its blank", () => {
    const table = kl.fromThreadList(ENVIRONMENT);
    expect(table.objects().map((row: any) => [row.section, row.pid, row.tid, row.comm])).toEqual([
      ["L1 threads", 3275, 3275, "qemu-system-aar"], ["L1 threads", 3275, 3280, "CPU 0/KVM"], ["L1 threads", 3275, 3281, "CPU 1/KVM"],
      ["L1 threads", 3275, 3296, "worker"], ["L1 threads", 3279, 3279, "vhost-3275"],
      ["all L1 threads", 10, 10, "mm_percpu_wq"], ["all L1 threads", 3327, 3327, "ssh"], ["guest", 1, 1, "init-role"],
    ]);
    expect(table.get("args", 6)).toBe("ssh: /run/ssh-root@172.16.10.2 [mux]");
    expect(kl.accounting(table)).toMatchObject({ rows: 8, header: 9, notUnderstood: 0, lines: 17 });
  });

  it("takes other columns of ps, with and without a command line", () => {
    const eLf = `UID          PID    PPID     LWP  C NLWP STIME TTY          TIME CMD
root        3275       1    3280  7    9 10:01 ?        00:00:12 /usr/bin/qemu-system-aarch64 -M virt
root        3279       2    3279  0    1 10:01 ?        00:00:01 [vhost-3275]
`;
    expect(kl.fromThreadList(eLf).objects()).toEqual([
      { section: null, pid: 3275, tid: 3280, comm: "qemu-system-aar", args: "/usr/bin/qemu-system-aarch64 -M virt" },
      { section: null, pid: 3279, tid: 3279, comm: "vhost-3275", args: "[vhost-3275]" },
    ]);
    const eT = `    PID    SPID TTY          TIME CMD\n   3275    3280 ?        00:00:12 CPU 0/KVM\n`;
    expect(kl.fromThreadList(eT).objects()).toEqual([{ section: null, pid: 3275, tid: 3280, comm: "CPU 0/KVM", args: null }]);
  });

  it("counts what is no thread", () => {
    const table = kl.fromThreadList(`  PID   TID COMMAND         COMMAND\n   10    10 mm_percpu_wq    [mm_percpu_wq]\nnot a thread\n`);
    expect(kl.accounting(table)).toMatchObject({ rows: 1, header: 1, notUnderstood: 1, unknown: [{ line: 3, text: "not a thread" }] });
    expect(() => kl.fromThreadList("Linux guest 6.1\n")).toThrow(kl.ParseError);
    expect(kl.fromThreadList("").numRows()).toBe(0);
  });

  it("accounts for every line, whole, in pieces and damaged", async () => {
    const bytes = Buffer.from(ENVIRONMENT), whole = kl.fromThreadList(bytes);
    expectExact(whole, bytes);
    for (const n of [1, 7, 64]) {
      const pieces = await kl.loadThreadList(inChunks(bytes, n), { quiet: true });
      expectExact(pieces, bytes);
      expect(pieces.objects()).toEqual(whole.objects());
    }
    expectExactWhenMutated((damaged) => kl.fromThreadList(damaged), bytes);
  });

  describe.skipIf(!CAPTURE)("recordings (KERNEL_LIB_CAPTURE_DATA)", () => {
    it.each(CAPTURE ? filesBelow(CAPTURE, /environment\.txt$/) : [])("%s holds nothing that is not understood", async (path) => {
      const table = await kl.loadThreadList(path, { quiet: true });
      expect(kl.accounting(table).unknown).toEqual([]);
      expect(table.numRows()).toBeGreaterThan(100);
    });
  });
});
