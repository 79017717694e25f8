import { join } from "node:path";
import { describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";
import { QEMU_KICK } from "./kick-text.js";

// Three chains picked by hand, of both modes: the lines of data/capture/icount-{virtio,vhost}/trace-cmd.nsec.txt.gz between the kick's exit and the acknowledge, those of kvm_arm_*, timers,
// kvm_guest_fault and sched_stat_runtime left out. Each expected time is the difference of two of these lines, written as such.

/** QEMU as back end; the vCPU is in the guest and is taken out. */
const TAKEN_OUT = String.raw` qemu-system-aar-194   [003]    77.741583856: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00044
 qemu-system-aar-194   [003]    77.741585504: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x1
 qemu-system-aar-194   [003]    77.741586656: sched_waking:         comm=qemu-system-aar pid=190 prio=120 target_cpu=001
          <idle>-0     [001]    77.741590368: sched_wakeup:         qemu-system-aar:190 [120] CPU:001
 qemu-system-aar-194   [003]    77.741591024: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d00044
          <idle>-0     [001]    77.741592512: sched_switch:         swapper/1:0 [120] R ==> qemu-system-aar:190 [120]
 qemu-system-aar-190   [001]    77.741611984: kp_tun_get_user:      (ffff800000e69444)
 qemu-system-aar-190   [001]    77.741621072: kvm_irq_line:         Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 1
 qemu-system-aar-190   [001]    77.741621744: vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 1
 qemu-system-aar-194   [003]    77.741624016: kvm_exit:             <CANT FIND FIELD exit_reason>IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0x0000aaaac6b02ea0
 qemu-system-aar-194   [003]    77.741627760: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0x0000aaaac6b02ea0
 qemu-system-aar-194   [003]    77.741629888: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8
 qemu-system-aar-194   [003]    77.741631456: kvm_mmio:             mmio unsatisfied-read len 4 gpa 0xa003a60 val 0x0
 qemu-system-aar-194   [003]    77.741635168: kvm_userspace_exit:   reason KVM_EXIT_MMIO (6)
 qemu-system-aar-190   [001]    77.741635696: sched_switch:         qemu-system-aar:190 [120] S ==> swapper/1:0 [120]
 qemu-system-aar-194   [003]    77.741638016: kvm_mmio:             mmio read len 4 gpa 0xa003a60 val 0x1
 qemu-system-aar-194   [003]    77.741648320: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d004e8
 qemu-system-aar-194   [003]    77.741650480: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00508
 qemu-system-aar-194   [003]    77.741652112: kvm_mmio:             mmio write len 4 gpa 0xa003a64 val 0x1
`;

/** vhost as back end. The vCPU is preempted by QEMU's thread, which vhost wakes to raise the interrupt. */
const VHOST = String.raw` qemu-system-aar-196   [003]   593.077987696: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00044
 qemu-system-aar-196   [003]   593.077989328: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x1
 qemu-system-aar-196   [003]   593.077990512: sched_waking:         comm=vhost-191 pid=195 prio=120 target_cpu=000
 qemu-system-aar-196   [003]   593.077994288: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d00044
          <idle>-0     [000]   593.077994480: sched_wakeup:         vhost-191:195 [120] CPU:000
          <idle>-0     [000]   593.077996624: sched_switch:         swapper/0:0 [120] R ==> vhost-191:195 [120]
 qemu-system-aar-196   [003]   593.077998208: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0018 (SYS64), PC: 0xffff800008601ca0
       vhost-191-195   [000]   593.077999488: kp_tun_get_user:      (ffff800000f06444)
 qemu-system-aar-196   [003]   593.078001232: sched_waking:         comm=qemu-system-aar pid=197 prio=120 target_cpu=001
          <idle>-0     [001]   593.078004672: sched_wakeup:         qemu-system-aar:197 [120] CPU:001
 qemu-system-aar-196   [003]   593.078005312: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800008601ca0
          <idle>-0     [001]   593.078006816: sched_switch:         swapper/1:0 [120] R ==> qemu-system-aar:197 [120]
 qemu-system-aar-197   [001]   593.078017040: kvm_vcpu_wakeup:      wait time 750960 ns, polling valid
       vhost-191-195   [000]   593.078018208: sched_waking:         comm=iperf3 pid=188 prio=120 target_cpu=002
 qemu-system-aar-197   [001]   593.078020336: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800008cda268
          <idle>-0     [002]   593.078021168: sched_wakeup:         iperf3:188 [120] CPU:002
       vhost-191-195   [000]   593.078022240: sched_waking:         comm=qemu-system-aar pid=191 prio=120 target_cpu=003
          <idle>-0     [002]   593.078022912: sched_switch:         swapper/2:0 [120] R ==> iperf3:188 [120]
       vhost-191-195   [000]   593.078023920: kp_tun_get_user:      (ffff800000f06444)
 qemu-system-aar-196   [003]   593.078027312: sched_wakeup:         qemu-system-aar:191 [120] CPU:003
 qemu-system-aar-196   [003]   593.078028320: kvm_exit:             <CANT FIND FIELD exit_reason>IRQ: HSR_EC: 0x0000 (UNKNOWN), PC: 0xffff800008b4863c
 qemu-system-aar-196   [003]   593.078030320: sched_switch:         qemu-system-aar:196 [120] R ==> qemu-system-aar:191 [120]
 qemu-system-aar-191   [003]   593.078043312: kvm_irq_line:         Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 1
 qemu-system-aar-191   [003]   593.078043312: vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 1
          iperf3-188   [002]   593.078048320: sched_switch:         iperf3:188 [120] S ==> swapper/2:0 [120]
 qemu-system-aar-191   [003]   593.078056320: sched_switch:         qemu-system-aar:191 [120] S ==> qemu-system-aar:196 [120]
       vhost-191-195   [000]   593.078064752: sched_waking:         comm=iperf3 pid=188 prio=120 target_cpu=002
          <idle>-0     [002]   593.078068320: sched_wakeup:         iperf3:188 [120] CPU:002
 qemu-system-aar-196   [003]   593.078068320: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800008b4863c
          <idle>-0     [002]   593.078070320: sched_switch:         swapper/2:0 [120] R ==> iperf3:188 [120]
 qemu-system-aar-196   [003]   593.078071312: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8
 qemu-system-aar-196   [003]   593.078072320: kvm_mmio:             mmio unsatisfied-read len 4 gpa 0xa003a60 val 0x0
       vhost-191-195   [000]   593.078073680: sched_switch:         vhost-191:195 [120] S ==> swapper/0:0 [120]
 qemu-system-aar-196   [003]   593.078076320: kvm_userspace_exit:   reason KVM_EXIT_MMIO (6)
 qemu-system-aar-196   [003]   593.078079312: kvm_mmio:             mmio read len 4 gpa 0xa003a60 val 0x1
 qemu-system-aar-196   [003]   593.078089312: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d004e8
 qemu-system-aar-196   [003]   593.078091312: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00508
 qemu-system-aar-196   [003]   593.078093312: kvm_mmio:             mmio write len 4 gpa 0xa003a64 val 0x1
`;

/** From one line's time to another's, ns: the digits after the second. */
const ns = (from: string, to: string): number => Number(to) - Number(from);

interface Chain { name: string; text: string; file: string; kick: number; expected: Record<string, unknown> }
const CHAINS: Chain[] = [
  {
    name: "QEMU, vCPU taken out of the guest", text: TAKEN_OUT, file: "icount-virtio", kick: 77_741_585_504,
    expected: {
      pid: 194, backend: "qemu", backend_tid: 190, queue: 1, intid: 77, irq_tid: 190, isr_tid: 194, tun_count: 1, blocked: 0,
      exit: ns("741585504", "741583856"), wake: ns("741585504", "741586656"), sched_in: ns("741585504", "741592512"), tun_first: ns("741585504", "741611984"), tun_last: ns("741585504", "741611984"),
      irq_wake: null, irq: ns("741585504", "741621072"), halt: null, vcpu_wake: null, resume: null, vcpu_exit: ns("741585504", "741624016"), entry: ns("741585504", "741627760"),
      isr_read: ns("741585504", "741631456"), ack: ns("741585504", "741652112"), end: ns("741585504", "741631456"),
    },
  },
  {
    name: "QEMU, vCPU asleep", text: QEMU_KICK, file: "icount-virtio", kick: 77_741_723_584,
    expected: {
      pid: 194, backend: "qemu", backend_tid: 190, queue: 1, intid: 77, irq_tid: 190, isr_tid: 194, tun_count: 1, blocked: 0,
      exit: ns("741723584", "741721952"), wake: ns("741723584", "741724752"), sched_in: ns("741723584", "741730512"), tun_first: ns("741723584", "741750848"), tun_last: ns("741723584", "741750848"),
      irq_wake: null, irq: ns("741723584", "741763424"), halt: ns("741723584", "741744384"), vcpu_wake: ns("741723584", "741765152"), resume: ns("741723584", "741769520"), vcpu_exit: null, entry: ns("741723584", "741783680"),
      isr_read: ns("741723584", "741787936"), ack: ns("741723584", "741808480"), end: ns("741723584", "741787936"),
    },
  },
  {
    name: "vhost, with the hop through QEMU's thread", text: VHOST, file: "icount-vhost", kick: 593_077_989_328,
    expected: {
      pid: 196, backend: "vhost", backend_tid: 195, queue: 1, intid: 77, irq_tid: 191, isr_tid: 196, tun_count: 2, blocked: 0,
      exit: ns("77989328", "77987696"), wake: ns("77989328", "77990512"), sched_in: ns("77989328", "77996624"), tun_first: ns("77989328", "77999488"), tun_last: ns("77989328", "78023920"),
      irq_wake: ns("77989328", "78022240"), irq: ns("77989328", "78043312"), halt: null, vcpu_wake: null, resume: null, vcpu_exit: null, entry: ns("77989328", "78068320"),
      isr_read: ns("77989328", "78072320"), ack: ns("77989328", "78093312"), end: ns("77989328", "78072320"),
    },
  },
];

describe("three chains, line by line", () => {
  it.each(CHAINS)("$name", async ({ text, file, kick, expected }) => {
    const excerpt = kl.virtioKicks(kl.fromTraceCmd(text));
    expect(excerpt.numRows()).toBe(1);
    expect(excerpt.object(0)).toMatchObject({ ts: kick, whole: true, why: null, merged_into: null, awake: false, delivery: "line", via: "kvm_mmio", ...expected });
    // The whole recording, with all that goes on around it, says the same of this kick.
    const all = kl.virtioKicks(await kl.loadTraceCmd(join(DATA, `capture/${file}/trace-cmd.nsec.txt.gz`), { quiet: true })).objects({ limit: Infinity }) as Record<string, unknown>[];
    expect(all.find(({ ts }) => ts === kick)).toMatchObject({ whole: true, ...expected });
  });

  it("vhost: whom the kick waited for", async () => {
    const trace = await kl.loadTraceCmd(join(DATA, "capture/icount-vhost/trace-cmd.nsec.txt.gz"), { quiet: true });
    const kick = kl.virtioKicks(trace).filter((d: any) => d.ts === 593_077_989_328) as kl.ColumnTable;
    expect((kl.kickPaths(trace, kick, { until: "ack" }).objects() as Record<string, unknown>[]).map(({ dur, pid, wait, by_pid }) => [dur, pid, wait, by_pid])).toEqual([
      [ns("77987696", "77989328"), 196, "vCPU in KVM", null],
      [ns("77989328", "77990512"), 196, "vCPU in KVM", null],
      [ns("77990512", "77996624"), 195, "back end waits for an idle CPU", null], // from swapper/0
      [ns("77996624", "77999488"), 195, "back end works", null],
      [ns("77999488", "78022240"), 195, "back end sends further packets", null],
      [ns("78022240", "78030320"), 191, "QEMU waits for a busy CPU", 196], // the vCPU's thread has it
      [ns("78030320", "78043312"), 191, "QEMU works", null],
      [ns("78043312", "78056320"), 196, "vCPU waits for a busy CPU", 191], // and gave it to QEMU's
      [ns("78056320", "78068320"), 196, "vCPU in KVM", null],
      [ns("78068320", "78071312"), 196, "vCPU in the guest", null],
      [ns("78071312", "78072320"), 196, "vCPU in KVM", null],
      [ns("78072320", "78076320"), 196, "vCPU in KVM", null],
      [ns("78076320", "78079312"), 196, "vCPU in user space", null],
      [ns("78079312", "78089312"), 196, "vCPU in KVM", null],
      [ns("78089312", "78091312"), 196, "vCPU in the guest", null],
      [ns("78091312", "78093312"), 196, "vCPU in KVM", null],
    ]);
  });
});
