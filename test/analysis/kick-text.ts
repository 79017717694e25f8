// trace-cmd 3.1.6 report -t on an arm64 host (kernel 6.1, QEMU 7.2), vhost=off; lines of kvm_arm_*, timers, kvm_guest_fault and sched_stat_runtime left out.
export const QEMU_KICK = String.raw` qemu-system-aar-194   [003]    77.741721952: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00044
 qemu-system-aar-194   [003]    77.741723584: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x1
 qemu-system-aar-194   [003]    77.741724752: sched_waking:         comm=qemu-system-aar pid=190 prio=120 target_cpu=001
          <idle>-0     [001]    77.741728368: sched_wakeup:         qemu-system-aar:190 [120] CPU:001
 qemu-system-aar-194   [003]    77.741729024: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d00044
          <idle>-0     [001]    77.741730512: sched_switch:         swapper/1:0 [120] R ==> qemu-system-aar:190 [120]
 qemu-system-aar-194   [003]    77.741739984: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0001 (WFx), PC: 0xffff800008cda268
 qemu-system-aar-194   [003]    77.741740080: kvm_wfx_arm64:        guest executed wf>c< at: 0x0000000000000000
 qemu-system-aar-194   [003]    77.741744384: sched_switch:         qemu-system-aar:194 [120] S ==> swapper/3:0 [120]
 qemu-system-aar-190   [001]    77.741750848: kp_tun_get_user:      (ffff800000e69444)
 qemu-system-aar-190   [001]    77.741756400: sched_waking:         comm=ssh pid=208 prio=120 target_cpu=001
 qemu-system-aar-190   [001]    77.741759616: sched_wakeup:         ssh:208 [120] CPU:001
 qemu-system-aar-190   [001]    77.741763424: kvm_irq_line:         Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 1
 qemu-system-aar-190   [001]    77.741764096: vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 1
 qemu-system-aar-190   [001]    77.741765152: sched_waking:         comm=qemu-system-aar pid=194 prio=120 target_cpu=003
          <idle>-0     [003]    77.741767664: sched_wakeup:         qemu-system-aar:194 [120] CPU:003
          <idle>-0     [003]    77.741769520: sched_switch:         swapper/3:0 [120] R ==> qemu-system-aar:194 [120]
 qemu-system-aar-190   [001]    77.741778896: sched_switch:         qemu-system-aar:190 [120] S ==> ssh:208 [120]
 qemu-system-aar-194   [003]    77.741779296: kvm_halt_poll_ns:     vcpu 0: halt_poll_ns 10000 (grow 0)
 qemu-system-aar-194   [003]    77.741779952: kvm_vcpu_wakeup:      wait time 38160 ns, polling valid
 qemu-system-aar-194   [003]    77.741783680: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800008cda268
 qemu-system-aar-194   [003]    77.741786368: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8
 qemu-system-aar-194   [003]    77.741787936: kvm_mmio:             mmio unsatisfied-read len 4 gpa 0xa003a60 val 0x0
 qemu-system-aar-194   [003]    77.741791520: kvm_userspace_exit:   reason KVM_EXIT_MMIO (6)
 qemu-system-aar-194   [003]    77.741794384: kvm_mmio:             mmio read len 4 gpa 0xa003a60 val 0x1
 qemu-system-aar-194   [003]    77.741804688: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d004e8
 qemu-system-aar-194   [003]    77.741806848: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d00508
 qemu-system-aar-194   [003]    77.741808480: kvm_mmio:             mmio write len 4 gpa 0xa003a64 val 0x1
 qemu-system-aar-194   [003]    77.741812192: kvm_userspace_exit:   reason KVM_EXIT_MMIO (6)
 qemu-system-aar-194   [003]    77.741815120: kvm_irq_line:         Inject VGIC SPI interrupt (1), vcpu->idx: 0, num: 77, level: 0
 qemu-system-aar-194   [003]    77.741815776: vgic_update_irq_pending: VCPU: 0, IRQ 77, level: 0
 qemu-system-aar-194   [003]    77.741827440: kvm_entry:            CAN'T FIND FIELD "vcpu_id"<CANT FIND FIELD rip>PC: 0xffff800000d00508
`;
