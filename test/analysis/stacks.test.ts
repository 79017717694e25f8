import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { callersOf, describe as describeTable, diffStacks, foldStacks, fromFolded, loadPerfScript, OptionError, syscallFrame, syscallShare, topFrames } from "kernel-lib";
import { CAPTURE } from "../peer.js";

// Stacks that perf 6.1.192 recorded on arm64 while a guest's iperf3 sent, with virtio-net and with vhost-net; shortened near the root, the weights made round.
const VIRTIO = `iperf3;__select;el0t_64_sync;el0t_64_sync_handler;el0_svc;do_el0_svc;el0_svc_common.constprop.0;invoke_syscall;__arm64_sys_pselect6;do_select 1000
qemu-system-aar;_start;main;tap_write_packet;__GI___writev;el0t_64_sync;el0t_64_sync_handler;el0_svc;do_el0_svc;el0_svc_common.constprop.0;invoke_syscall;__arm64_sys_writev;do_writev;vfs_writev;do_iter_write;do_iter_readv_writev;tun_chr_write_iter;tun_get_user;skb_copy_datagram_from_iter 6000
qemu-system-aar;_start;main;tap_write_packet;__GI___writev;el0t_64_sync;el0t_64_sync_handler;el0_svc;do_el0_svc;el0_svc_common.constprop.0;invoke_syscall;__arm64_sys_writev;do_writev;vfs_writev;do_iter_write;do_iter_readv_writev;tun_chr_write_iter;tun_get_user 2000
qemu-system-aar;_start;main;virtio_net_flush_tx 1000
`;
const VHOST = `iperf3;__select;el0t_64_sync;el0t_64_sync_handler;el0_svc;do_el0_svc;el0_svc_common.constprop.0;invoke_syscall;__arm64_sys_pselect6;do_select 1500
qemu-system-aar;_start;main;virtio_net_flush_tx 500
vhost-191;[unknown];ret_from_fork;kthread;vhost_worker;handle_tx_kick;handle_tx;handle_tx_copy;vhost_tx_batch.constprop.0_[k];tun_sendmsg_[k];tun_get_user.isra.0_[k];skb_copy_datagram_from_iter_[k] 7000
vhost-191;[unknown];ret_from_fork;kthread;vhost_worker 1000
`;

describe("callersOf", () => {
  it("finds tun_get_user under QEMU's writev, and under vhost without a system call", () => {
    expect(callersOf(fromFolded(VIRTIO), "tun_get_user").objects()).toEqual([
      { process: "qemu-system-aar", caller: "tun_chr_write_iter", syscall: true, via: "__arm64_sys_writev", value: 8000, share: 100, ofTotal: 80 },
    ]);
    expect(callersOf(fromFolded(VHOST), "tun_get_user").objects()).toEqual([
      { process: "vhost-191", caller: "tun_sendmsg", syscall: false, via: null, value: 7000, share: 100, ofTotal: 70 },
    ]);
  });

  it("splits the weight among callers, heaviest first, and counts recursion once", () => {
    const stacks = fromFolded("a;x;f;f;y 1\nb;do_syscall_64;f 6\na;f 3\nf;g 5\n");
    expect(callersOf(stacks, "f").objects()).toEqual([
      { process: "b", caller: "do_syscall_64", syscall: true, via: "do_syscall_64", value: 6, share: 60, ofTotal: 40 },
      { process: "a", caller: null, syscall: false, via: null, value: 3, share: 30, ofTotal: 20 },
      { process: "a", caller: "x", syscall: false, via: null, value: 1, share: 10, ofTotal: expect.closeTo(100 / 15) },
    ]);
    expect(callersOf(stacks, "nowhere").numRows()).toBe(0);
    expect(() => callersOf(stacks.select("stack"), "f")).toThrow(OptionError);
  });

  it("keeps the unit of the weights", () => {
    const stacks = fromFolded(VIRTIO);
    expect(describeTable(callersOf(stacks, "tun_get_user")).objects().find((row: any) => row.column === "value")).toMatchObject({ unit: "events" });
  });
});

describe("syscallShare", () => {
  it("gives the part of each process under system-call frames", () => {
    expect(syscallShare(fromFolded(VIRTIO)).objects()).toEqual([
      { process: "qemu-system-aar", value: 9000, syscall: 8000, share: expect.closeTo(88.888888, 4) },
      { process: "iperf3", value: 1000, syscall: 1000, share: 100 },
    ]);
    expect(syscallShare(fromFolded(VHOST)).objects()).toContainEqual({ process: "vhost-191", value: 8000, syscall: 0, share: 0 });
  });

  it.each([
    ["arm64", ["el0_svc", "do_el0_svc", "el0_svc_common.constprop.0", "invoke_syscall", "__arm64_sys_writev", "__arm64_compat_sys_ioctl", "el0_svc_handler"]],
    ["x86", ["entry_SYSCALL_64", "entry_SYSCALL_64_after_hwframe", "entry_SYSCALL_64_fastpath", "do_syscall_64", "__x64_sys_read", "entry_SYSENTER_compat", "do_int80_syscall_32", "system_call", "system_call_fastpath", "SyS_read", "x64_sys_call"]],
    ["arm", ["ret_fast_syscall"]],
  ])("knows the frames of %s", (_, frames) => {
    for (const frame of frames) expect(frame).toMatch(syscallFrame);
  });
  it.each(["el0t_64_irq", "el0t_64_sync", "el1h_64_sync", "do_mem_abort", "kthread", "syscall_name", "ret_from_fork", "my_system_call", "asm_exc_page_fault"])("does not take %s for one", (frame) => {
    expect(frame).not.toMatch(syscallFrame);
  });
});

describe("topFrames", () => {
  it("gives self and total, recursion counted once", () => {
    expect(topFrames(fromFolded("p;f;g;f 4\np;f;h 3\nq;h 2\nq 1\n")).objects()).toEqual([
      { frame: "h", self: 5, total: 5, selfShare: 50, totalShare: 50 },
      { frame: "f", self: 4, total: 7, selfShare: 40, totalShare: 70 },
      { frame: "g", self: 0, total: 4, selfShare: 0, totalShare: 40 },
    ]);
  });
});

describe("diffStacks", () => {
  it("puts two tables side by side", () => {
    const [a, b] = [fromFolded("p;f 4\np;g 6\np;f 1\n"), fromFolded("p;f 10\np;h 12\n")];
    expect(diffStacks(a, b).objects()).toEqual([
      { stack: "p;f", a: 5, b: 10, delta: 5 }, { stack: "p;g", a: 6, b: 0, delta: -6 }, { stack: "p;h", a: 0, b: 12, delta: 12 },
    ]);
    // 11 against 22 in all
    expect(diffStacks(a, b, { normalize: true }).objects()).toEqual([
      { stack: "p;f", a: 10, b: 10, delta: 0 }, { stack: "p;g", a: 12, b: 0, delta: -12 }, { stack: "p;h", a: 0, b: 12, delta: 12 },
    ]);
  });

  it("holds its invariants on the two modes", () => {
    const diff = diffStacks(fromFolded(VIRTIO), fromFolded(VHOST), { normalize: true });
    const sum = (column: string) => (diff.array(column) as number[]).reduce((x, y) => x + y, 0);
    expect(sum("a")).toBeCloseTo(sum("b"));
    expect(sum("delta")).toBeCloseTo(0);
    expect(diffStacks(fromFolded(VHOST), fromFolded(VHOST)).array("delta")).toEqual([0, 0, 0, 0]);
    expect(diffStacks(fromFolded(""), fromFolded("p;f 1\n"), { normalize: true }).objects()).toEqual([{ stack: "p;f", a: 0, b: 1, delta: 1 }]);
  });
});

describe.skipIf(!CAPTURE)("on the recordings of both modes (KERNEL_LIB_CAPTURE_DATA)", () => {
  it("tun_get_user moves from QEMU's writev to vhost", async () => {
    const fold = async (mode: string) => foldStacks(await loadPerfScript(join(CAPTURE!, mode, "perf-script-host.txt.gz"), { quiet: true }));
    const virtio = callersOf(await fold("icount-virtio"), "tun_get_user").objects() as any[];
    const vhost = callersOf(await fold("icount-vhost"), "tun_get_user").objects() as any[];
    expect(virtio.map(({ process, syscall, via }) => ({ process, syscall, via }))).toEqual([{ process: "qemu-system-aar", syscall: true, via: "__arm64_sys_writev" }]);
    expect(vhost.map(({ process, caller, syscall }) => ({ process, caller, syscall }))).toEqual([{ process: "vhost-191", caller: "tun_sendmsg", syscall: false }]);
  });
});
