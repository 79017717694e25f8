import type { ColumnSpec } from "../source/columns.js";

// Kernel events with columns of their own. Each layout is one way in which a tool prints the event's info:
// the kernel's own format, a libtraceevent plugin's, or `trace-cmd report -R`'s raw fields. All fill the same columns.
//
// A layout is literal text with {column}s in it; {_} is skipped. A blank stands for one or more blanks.
// Formats: the kernel's include/trace/events/{kvm,sched,irq,workqueue}.h, arch/arm64/kvm/{trace_arm,trace_handle_exit}.h,
// arch/arm64/kvm/vgic/trace.h, arch/x86/kvm/trace.h; libtraceevent's plugins/plugin_{kvm,sched_switch}.c.

/**
 * int: decimal or 0x…; hex: hexadecimal with or without 0x, as a number; hex64: the same as text, since it may need 64 bits;
 * us: decimal µs, kept as ns; text: up to what follows.
 */
export type FieldKind = "int" | "hex" | "hex64" | "us" | "text";

export interface Field {
  kind: FieldKind;
  spec: ColumnSpec;
  /** Words printed in place of a number. */
  words?: Record<string, number>;
}

export interface EventFormat {
  fields: Record<string, Field>;
  layouts: string[];
  /** Fills text columns that the layout at hand does not print, from the numbers that it does (NaN for those that it does not). */
  derive?: Record<string, { from: string[]; say: (...numbers: number[]) => string | null }>;
}

const notPrinted = "this layout does not print it";
const field = (kind: FieldKind, unit: string | null, meaning: string, more: Partial<Field> = {}): Field => ({
  kind, ...more, spec: { type: kind === "text" ? "string" : kind === "hex64" ? "hex" : "number", unit, ...(kind === "hex" ? { base: 16 as const } : {}), meaning, null: notPrinted },
});
const id = (meaning: string, more?: Partial<Field>) => field("int", null, meaning, more);
const text = (meaning: string) => field("text", null, meaning);
const hex64 = (meaning: string) => field("hex64", null, meaning);

const vcpu = id("Number of the vCPU.");
const pc = hex64("The guest's program counter.");
const target_comm = text("Name of the thread that the event is about.");
const target_pid = id("Thread id of the thread that the event is about.");
const prio = id("Its priority (120 is nice 0, below 100 real time).");
const target_cpu = id("Number of the CPU that it is to run on.");
const level = id("Level of the interrupt line: 1 up, 0 down.");
const timer = id("Index of the timer: 0 virtual, 1 physical by KVM's TIMER_VTIMER/TIMER_PTIMER numbering.");
const flags = field("hex", null, "Guest debug flags, bits.");

/** Names of arm64 exception classes, by number, as the kernel's kvm_arm_exception_class has them. */
const EXCEPTION_CLASS: Record<number, string> = {
  0x00: "UNKNOWN", 0x01: "WFx", 0x03: "CP15_32", 0x04: "CP15_64", 0x05: "CP14_MR", 0x06: "CP14_LS", 0x07: "FP_ASIMD", 0x08: "CP10_ID",
  0x09: "PAC", 0x0c: "CP14_64", 0x0d: "BTI", 0x0e: "ILL", 0x11: "SVC32", 0x12: "HVC32", 0x13: "SMC32", 0x15: "SVC64", 0x16: "HVC64", 0x17: "SMC64",
  0x18: "SYS64", 0x19: "SVE", 0x1a: "ERET", 0x1d: "SME", 0x1f: "IMP_DEF", 0x20: "IABT_LOW", 0x21: "IABT_CUR", 0x22: "PC_ALIGN", 0x24: "DABT_LOW",
  0x25: "DABT_CUR", 0x26: "SP_ALIGN", 0x28: "FP_EXC32", 0x2c: "FP_EXC64", 0x2f: "SERROR", 0x30: "BREAKPT_LOW", 0x31: "BREAKPT_CUR",
  0x32: "SOFTSTP_LOW", 0x33: "SOFTSTP_CUR", 0x34: "WATCHPT_LOW", 0x35: "WATCHPT_CUR", 0x38: "BKPT32", 0x3a: "VECTOR32", 0x3c: "BRK64",
};
const ARM_EXCEPTION: Record<number, string> = { 0: "IRQ", 1: "SERROR", 2: "TRAP", 3: "ILLEGAL", 0xbadca11: "HYP_GONE" };
/** Basic exit reasons of Intel VMX that virtual machines meet, by number. */
const VMX_REASON: Record<number, string> = {
  0: "EXCEPTION_NMI", 1: "EXTERNAL_INTERRUPT", 7: "INTERRUPT_WINDOW", 8: "NMI_WINDOW", 10: "CPUID", 12: "HLT", 14: "INVLPG", 18: "VMCALL", 28: "CR_ACCESS",
  29: "DR_ACCESS", 30: "IO_INSTRUCTION", 31: "MSR_READ", 32: "MSR_WRITE", 36: "MWAIT_INSTRUCTION", 40: "PAUSE_INSTRUCTION", 44: "APIC_ACCESS",
  45: "EOI_INDUCED", 48: "EPT_VIOLATION", 49: "EPT_MISCONFIG", 52: "PREEMPTION_TIMER", 54: "WBINVD", 55: "XSETBV", 56: "APIC_WRITE",
};
/** KVM_EXIT_… of include/uapi/linux/kvm.h, by number. */
const KVM_EXIT = ["UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO", "IRQ_WINDOW_OPEN", "SHUTDOWN", "FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS",
  "S390_SIEIC", "S390_RESET", "DCR", "NMI", "INTERNAL_ERROR", "OSI", "PAPR_HCALL", "S390_UCONTROL", "WATCHDOG", "S390_TSCH", "EPR", "SYSTEM_EVENT"];
/** KVM_ISA_SVM's exit codes that virtual machines meet, by number. */
const SVM_REASON: Record<number, string> = {
  0x60: "interrupt", 0x61: "nmi", 0x64: "vintr", 0x72: "cpuid", 0x77: "pause", 0x78: "hlt", 0x7b: "io", 0x7c: "msr", 0x81: "hypercall", 0x400: "npf", 0x401: "avic_incomplete_ipi",
};
const SOFTIRQ = ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];
const MMIO_TYPE = ["unsatisfied-read", "read", "write"];

/**
 * Task states by number as `-R` prints them (TASK_REPORT of include/linux/sched.h). A runnable task that was preempted has
 * a bit alone that stands above the states: 256 since Linux 4.14, 1024 to 4096 before.
 */
function taskState(n: number): string {
  if (n === 0) return "R";
  if (n === 256 || n === 1024 || n === 2048 || n === 4096) return "R+";
  const letters = ["S", "D", "T", "t", "X", "Z", "P", "I"].filter((_, bit) => n & (1 << bit));
  return letters.length > 0 && n < 256 ? letters.join("|") : String(n);
}

const task: Record<string, Field> = { target_comm, target_pid, prio };
const wakeup: EventFormat = {
  fields: { ...task, target_cpu },
  layouts: [
    "comm={target_comm} pid={target_pid} prio={prio} target_cpu={target_cpu}",
    "{target_comm}:{target_pid} [{prio}] CPU:{target_cpu}",
    "{target_comm}:{target_pid} [{prio}] success={_} CPU:{target_cpu}",
    "{target_comm}:{target_pid} [{prio}]<CANT FIND FIELD success> CPU:{target_cpu}",
    "comm={target_comm} pid={target_pid} prio={prio} success={_} target_cpu={target_cpu}",
  ],
};
const timerState: EventFormat = {
  fields: { ctl: field("hex", null, "Timer control register, bits: 1 enabled, 2 masked, 4 its condition is met."), cval: hex64("Timer compare value, in ticks of the counter."), timer },
  layouts: ["CTL: {ctl} CVAL: {cval} arch_timer_ctx_index: {timer}", "ctl={ctl} cval={cval} timer_idx={timer}"],
};
const softirq: EventFormat = {
  fields: { vec: id("Number of the softirq."), action: text("Name of the softirq.") },
  layouts: ["vec={vec} [action={action}]", "vec={vec}"],
  derive: { action: { from: ["vec"], say: (vec) => SOFTIRQ[vec] ?? null } },
};
const tasklet: EventFormat = {
  fields: { tasklet: text("Address or name of the tasklet."), function: text("Function that it runs.") },
  layouts: ["tasklet={tasklet} function={function}"],
};
const apicEoi: EventFormat = { fields: { apicid: field("hex", null, "Number of the vCPU's APIC."), vec: id("Interrupt vector number.") }, layouts: ["apicid {apicid} vector {vec}"] };
const acceptIrq: EventFormat = {
  fields: { apicid: field("hex", null, "Number of the vCPU's APIC."), vec: id("Interrupt vector number."), delivery: text("Delivery mode."), trigger: text("edge or level.") },
  layouts: ["apicid {apicid} vec {vec} ({delivery}|{trigger})", "apicid {apicid} vec {vec} ({delivery}|{trigger}) (coalesced)"],
};
const statDelay: EventFormat = {
  fields: { target_comm, target_pid, delay: field("int", "ns", "How long it slept, waited or was blocked.") },
  layouts: ["comm={target_comm} pid={target_pid} delay={delay} [ns]", "comm={target_comm} pid={target_pid} delay={delay}"],
};
const work = hex64("Address of the work item.");
const workFunction = text("Function that does the work.");
const execute: EventFormat = {
  fields: { work, function: workFunction },
  layouts: ["work struct {work}: function {function}", "work={work} function={function}"],
};

export const eventFormats: Record<string, EventFormat> = {
  kvm_entry: {
    fields: { vcpu, pc },
    // arm64 prints no vCPU id.
    layouts: ["PC: {pc}", "vcpu_pc={pc}", "vcpu {vcpu}, rip {pc}", "vcpu {vcpu}, rip {pc}[immediate exit]", "vcpu {vcpu}, rip {pc} intr_info {_}", "vcpu {vcpu} rip {pc}", "vcpu {vcpu}", "vcpu_id={vcpu} rip={pc}", "vcpu_id={vcpu} rip={pc} {_}"],
  },
  kvm_exit: {
    fields: {
      ret: id("arm64: code of how the guest was left: 0 IRQ, 1 SERROR, 2 TRAP, 3 ILLEGAL.", { words: { IRQ: 0, SERROR: 1, EL1_SERROR: 1, TRAP: 2, ILLEGAL: 3, HYP_GONE: 0xbadca11 } }),
      esr_ec: field("hex", null, "arm64: exception class code, meaningful where ret is 2 (TRAP)."),
      reason: text("Why the guest was left: on arm64 the exception class of a TRAP, else what ret says; on x86 the exit reason."),
      exit_reason: id("x86: basic exit reason, a code."),
      isa: id("x86: code of the hardware: 1 Intel VMX, 2 AMD SVM."),
      vcpu,
      pc,
      info1: hex64("x86: first exit information field."),
      info2: hex64("x86: second exit information field."),
    },
    layouts: [
      // HSR_EC until Linux 5.x, ESR_EC since. The name in parentheses varies (WFx, WfX, WFX), the number does not.
      "{ret}: HSR_EC: {esr_ec} ({_}), PC: {pc}",
      "{ret}: ESR_EC: {esr_ec} ({_}), PC: {pc}",
      "ret={ret} esr_ec={esr_ec} vcpu_pc={pc}",
      "vcpu {vcpu} reason {reason} rip {pc} info1 {info1} info2 {info2} intr_info {_}",
      "vcpu {vcpu} reason {reason} rip {pc} info {info1} {info2}",
      "reason {reason} rip {pc} info {info1} {info2}",
      "exit_reason={exit_reason} guest_rip={pc} isa={isa} info1={info1} info2={info2} intr_info={_} error_code={_} vcpu_id={vcpu}",
      "exit_reason={exit_reason} guest_rip={pc} isa={isa} info1={info1} info2={info2} {_}",
      "exit_reason={exit_reason} guest_rip={pc} isa={isa} info1={info1} info2={info2}",
    ],
    derive: {
      reason: {
        from: ["ret", "esr_ec", "exit_reason", "isa"],
        say: (ret, esr_ec, exit_reason, isa) => ret === 2 ? EXCEPTION_CLASS[esr_ec] ?? `EC_0x${esr_ec.toString(16).padStart(2, "0")}`
          : ret >= 0 ? ARM_EXCEPTION[ret] ?? `ret ${ret}`
            : exit_reason >= 0 ? (isa === 2 ? SVM_REASON[exit_reason] : VMX_REASON[exit_reason & 0xffff]) ?? `exit_reason ${exit_reason}` : null,
      },
    },
  },
  kvm_guest_fault: {
    fields: {
      ipa: field("hex", null, "Guest-physical address of the page (IPA)."), hsr: field("hex", null, "Syndrome register value, bits."),
      hxfar: hex64("Guest-virtual address that faulted."), pc,
    },
    layouts: ["ipa {ipa}, hsr {hsr}, hxfar {hxfar}, pc {pc}", "vcpu_pc={pc} hsr={hsr} hxfar={hxfar} ipa={ipa}"],
  },
  kvm_access_fault: { fields: { ipa: field("hex", null, "Guest-physical address (IPA).") }, layouts: ["IPA: {ipa}", "ipa={ipa}"] },
  kvm_mmio: {
    fields: {
      type: text("read, write, or unsatisfied-read: a read that leaves to user space."), type_code: id("The same as a code.", { words: { "unsatisfied-read": 0, read: 1, write: 2 } }),
      len: field("int", "bytes", "Width of the access."), gpa: field("hex", null, "Guest-physical address accessed."), val: hex64("Value written or read."),
    },
    layouts: ["mmio {type_code} len {len} gpa {gpa} val {val}", "type={type_code} len={len} gpa={gpa} val={val}"],
    derive: { type: { from: ["type_code"], say: (code) => MMIO_TYPE[code] ?? null } },
  },
  kvm_fast_mmio: { fields: { gpa: field("hex", null, "Guest-physical address written.") }, layouts: ["fast mmio at gpa {gpa}", "gpa={gpa}"] },
  kvm_pio: {
    fields: { type: text("pio_read or pio_write."), port: field("hex", null, "I/O port number."), len: field("int", "bytes", "Width of the access."), count: field("int", "count", "Repetitions."), val: hex64("Value written or read.") },
    layouts: ["{type} at {port} size {len} count {count} val {val}", "{type} at {port} size {len} count {count} val {val} (...)"],
  },
  kvm_userspace_exit: {
    fields: { reason: text("Why KVM went back to user space, KVM_EXIT_…; restart or error where the run was broken off."), code: id("The same as a code."), errno: id("Error code of the run, 0 for none.") },
    layouts: ["reason {reason} ({code})", "reason={code} errno={errno}"],
    derive: { reason: { from: ["code", "errno"], say: (code, errno) => errno < 0 ? (errno === -4 ? "restart" : "error") : KVM_EXIT[code] ? `KVM_EXIT_${KVM_EXIT[code]}` : null } },
  },
  kvm_vcpu_wakeup: {
    fields: {
      wait_kind: text("wait: the thread slept; poll: it found work while polling."), ns: field("int", "ns", "How long it waited."),
      waited: id("1 as a code for wait, 0 for poll.", { words: { wait: 1, poll: 0 } }), valid: id("1 where the time counts for adapting the polling; a flag.", { words: { valid: 1, invalid: 0 } }),
    },
    layouts: ["{waited} time {ns} ns, polling {valid}", "ns={ns} waited={waited} valid={valid}"],
    derive: { wait_kind: { from: ["waited"], say: (waited) => (waited === 0 ? "poll" : "wait") } },
  },
  kvm_halt_poll_ns: {
    fields: { vcpu, new: field("int", "ns", "Polling time from now on."), old: field("int", "ns", "Polling time before."), grow: id("1 where it grew, 0 where it shrank; a flag.", { words: { grow: 1, shrink: 0 } }) },
    layouts: ["vcpu {vcpu}: halt_poll_ns {new} ({grow} {old})", "grow={grow} vcpu_id={vcpu} new={new} old={old}"],
  },
  kvm_wfx_arm64: {
    fields: { instruction: text("wfi or wfe."), is_wfe: id("1 for WFE, 0 for WFI, as a flag.", { words: { wfe: 1, wfi: 0 } }), pc },
    layouts: [
      // trace-cmd 3.1 cannot print the conditional: which of the two it was, and where, is then unknown.
      "guest executed wf>c< at: {_}",
      "guest executed {is_wfe} at: {pc}", "vcpu_pc={pc} is_wfe={is_wfe}",
    ],
    derive: { instruction: { from: ["is_wfe"], say: (is_wfe) => (is_wfe === 1 ? "wfe" : is_wfe === 0 ? "wfi" : null) } },
  },
  kvm_hvc_arm64: {
    fields: { pc, r0: hex64("Guest's register x0: the function called."), imm: field("hex", null, "Immediate value of the instruction.") },
    layouts: ["HVC at {pc} (r0: {r0}, imm: {imm})", "vcpu_pc={pc} r0={r0} imm={imm}"],
  },
  kvm_irq_line: {
    fields: { type: id("Type code of the interrupt: 0 CPU, 1 SPI, 2 PPI."), vcpu, num: id("Number of the interrupt (INTID)."), level },
    layouts: ["Inject {_} interrupt ({type}), vcpu->idx: {vcpu}, num: {num}, level: {level}", "type={type} vcpu_idx={vcpu} irq_num={num} level={level}"],
  },
  vgic_update_irq_pending: { fields: { vcpu, irq: id("Number of the interrupt (INTID)."), level }, layouts: ["VCPU: {vcpu}, IRQ {irq}, level: {level}", "vcpu_id={vcpu} irq={irq} level={level}"] },
  kvm_timer_update_irq: { fields: { vcpu, irq: id("Number of the interrupt (INTID)."), level }, layouts: ["VCPU: {vcpu}, IRQ {irq}, level {level}", "vcpu_id={vcpu} irq={irq} level={level}"] },
  kvm_get_timer_map: {
    fields: {
      vcpu, direct_vtimer: id("Index of the virtual timer that the hardware runs."), direct_ptimer: id("Index of the physical timer that the hardware runs; -1 for none."),
      emul_vtimer: id("Index of the virtual timer that is emulated; -1 for none."), emul_ptimer: id("Index of the physical timer that is emulated; -1 for none."),
    },
    layouts: [
      "VCPU: {vcpu}, dv: {direct_vtimer}, dp: {direct_ptimer}, ep: {emul_ptimer}",
      "VCPU: {vcpu}, dv: {direct_vtimer}, dp: {direct_ptimer}, ev: {emul_vtimer}, ep: {emul_ptimer}",
      "vcpu_id={vcpu} direct_vtimer={direct_vtimer} direct_ptimer={direct_ptimer} emul_ptimer={emul_ptimer}",
    ],
  },
  kvm_timer_save_state: timerState,
  kvm_timer_restore_state: timerState,
  kvm_timer_emulate: {
    fields: { timer, should_fire: id("1 where the timer's interrupt is due; a flag.") },
    layouts: ["arch_timer_ctx_index: {timer} (should_fire: {should_fire})", "timer_idx={timer} should_fire={should_fire}"],
  },
  kvm_timer_hrtimer_expire: { fields: { timer }, layouts: ["arch_timer_ctx_index: {timer}", "timer_idx={timer}"] },
  kvm_arm_setup_debug: { fields: { vcpu_addr: hex64("Address of the vCPU's structure, hashed in the kernel's own text."), flags }, layouts: ["vcpu: {vcpu_addr}, flags: {flags}", "vcpu={vcpu_addr} guest_debug={flags}"] },
  kvm_arm_clear_debug: { fields: { flags }, layouts: ["flags: {flags}", "guest_debug={flags}"] },
  kvm_arm_set_dreg32: { fields: { name: text("Name of the register, or its address where the tool could not follow it."), value: field("hex", null, "Value set, bits.") }, layouts: ["{name}: {value}", "name={name} value={value}"] },
  kvm_unmap_hva_range: {
    fields: { start: hex64("First host-virtual address unmapped."), end: hex64("Host-virtual address after the last.") },
    layouts: ["mmu notifier unmap range: {start} -- {end}", "start={start} end={end}"],
  },
  kvm_handle_sys_reg: { fields: { hsr: field("hex", null, "Syndrome register value, bits.") }, layouts: ["HSR {hsr}", "hsr={hsr}"] },
  kvm_sys_access: {
    fields: {
      pc, name: text("Name of the system register, or its address where the tool could not follow it."), op0: id("Op0 code."), op1: id("Op1 code."), crn: id("CRn code."), crm: id("CRm code."), op2: id("Op2 code."),
      is_write: id("1 for a write, 0 for a read; a flag.", { words: { write: 1, read: 0 } }),
    },
    layouts: ["vcpu_pc={pc} is_write={is_write} name={name} Op0={op0} Op1={op1} CRn={crn} CRm={crm} Op2={op2}", "PC: {pc} {name} ({op0},{op1},{crn},{crm},{op2}) {is_write}"],
  },
  kvm_set_irq: { fields: { gsi: id("Number of the interrupt line (GSI)."), level, source: id("Id of the source.") }, layouts: ["gsi {gsi} level {level} source {source}", "gsi={gsi} level={level} irq_source_id={source}"] },
  kvm_ack_irq: { fields: { irqchip: id("Number of the interrupt controller."), pin: id("Number of its pin.") }, layouts: ["irqchip {irqchip} pin {pin}", "irqchip={irqchip} pin={pin}"] },
  kvm_mmio_emulate: {
    fields: { pc, instr: field("hex", null, "Instruction emulated, bits."), cpsr: field("hex", null, "Guest's state register, bits.") },
    layouts: ["Emulate MMIO at: {pc} (instr: {instr}, cpsr: {cpsr})", "vcpu_pc={pc} instr={instr} cpsr={cpsr}"],
  },
  kvm_set_guest_debug: { fields: { vcpu_addr: hex64("Address of the vCPU's structure, hashed in the kernel's own text."), flags }, layouts: ["vcpu: {vcpu_addr}, flags: {flags}", "vcpu={vcpu_addr} guest_debug={flags}"] },
  kvm_age_hva: {
    fields: { start: hex64("First host-virtual address."), end: hex64("Host-virtual address after the last.") },
    layouts: ["mmu notifier age hva: {start} -- {end}", "start={start} end={end}"],
  },
  kvm_set_spte_hva: { fields: { hva: hex64("Host-virtual address.") }, layouts: ["mmu notifier set pte hva: {hva}", "hva={hva}"] },
  kvm_test_age_hva: { fields: { hva: hex64("Host-virtual address.") }, layouts: ["mmu notifier test age hva: {hva}", "hva={hva}"] },

  // x86. Numbers as the kernel prints them: %x without 0x for apicid and dst, decimal vectors.
  kvm_msi_set_irq: { fields: { dst: field("hex", null, "Number of the destination APIC."), vec: id("Interrupt vector number.") }, layouts: ["dst {dst} vec {vec} ({_})", "dst {dst} vec {vec}"] },
  kvm_apic_ipi: { fields: { dst: field("hex", null, "Number of the destination APIC."), vec: id("Interrupt vector number.") }, layouts: ["dst {dst} vec {vec} ({_})"] },
  kvm_apic_accept_irq: acceptIrq,
  // Delivered by the hardware: a vCPU in the guest gets it without an exit.
  kvm_apicv_accept_irq: acceptIrq,
  kvm_eoi: apicEoi,
  kvm_pv_eoi: apicEoi,
  kvm_inj_virq: { fields: { vec: id("Interrupt vector number.") }, layouts: ["irq {vec}", "IRQ {vec}", "{_} {vec}", "{_} {vec} [reinjected]"] },
  kvm_page_fault: {
    fields: { vcpu, pc, address: hex64("Guest-physical address that faulted."), error_code: hex64("Error code of the fault, bits.") },
    layouts: ["vcpu {vcpu} rip {pc} address {address} error_code {error_code}", "address {address} error_code {error_code}"],
  },
  kvm_msr: {
    fields: { type: text("msr_read or msr_write."), msr: field("hex", null, "Number of the model-specific register."), val: hex64("Value written or read.") },
    layouts: ["{type} {msr} = {val}", "{type} {msr} = {val} (#GP)"],
  },
  kvm_cr: { fields: { type: text("cr_read or cr_write."), cr: field("hex", null, "Number of the control register."), val: hex64("Value written or read.") }, layouts: ["{type} {cr} = {val}"] },
  kvm_apic: { fields: { type: text("apic_read or apic_write."), reg: text("Name of the APIC register."), val: hex64("Value written or read.") }, layouts: ["{type} {reg} = {val}"] },
  kvm_hypercall: {
    fields: { nr: field("hex", null, "Number of the hypercall."), a0: hex64("First argument."), a1: hex64("Second argument."), a2: hex64("Third argument."), a3: hex64("Fourth argument.") },
    layouts: ["nr {nr} a0 {a0} a1 {a1} a2 {a2} a3 {a3}"],
  },

  sched_switch: {
    fields: {
      prev_comm: text("Name of the thread that leaves the CPU."), prev_pid: id("Its thread id."), prev_prio: id("Its priority."),
      prev_state: text("Its state: R runnable (R+ preempted, where the layout says so), S and D asleep, I or W idle kernel thread, Z gone."),
      prev_state_code: id("The state as a code."),
      next_comm: text("Name of the thread that gets the CPU."), next_pid: id("Its thread id."), next_prio: id("Its priority."),
      latency: field("us", "ns", "With trace-cmd report -w: from its wake-up until now."),
    },
    layouts: [
      "{prev_comm}:{prev_pid} [{prev_prio}] {prev_state} ==> {next_comm}:{next_pid} [{next_prio}]",
      "prev_comm={prev_comm} prev_pid={prev_pid} prev_prio={prev_prio} prev_state={prev_state} ==> next_comm={next_comm} next_pid={next_pid} next_prio={next_prio}",
      "prev_comm={prev_comm} prev_pid={prev_pid} prev_prio={prev_prio} prev_state={prev_state_code} next_comm={next_comm} next_pid={next_pid} next_prio={next_prio}",
      "{prev_comm}:{prev_pid} [{prev_prio}] {prev_state} ==> {next_comm}:{next_pid} [{next_prio}] Latency: {latency} usecs",
    ],
    derive: { prev_state: { from: ["prev_state_code"], say: taskState } },
  },
  sched_waking: wakeup,
  sched_wakeup: wakeup,
  sched_wakeup_new: wakeup,
  sched_stat_runtime: {
    fields: { target_comm, target_pid, runtime: field("int", "ns", "Time that it ran since the last such event."), vruntime: field("int", "ns", "Its virtual runtime; exact up to 2^53.") },
    layouts: ["comm={target_comm} pid={target_pid} runtime={runtime} [ns] vruntime={vruntime} [ns]", "comm={target_comm} pid={target_pid} runtime={runtime} vruntime={vruntime}", "comm={target_comm} pid={target_pid} runtime={runtime} [ns]", "comm={target_comm} pid={target_pid} runtime={runtime}"],
  },
  sched_stat_wait: statDelay,
  sched_stat_sleep: statDelay,
  sched_stat_iowait: statDelay,
  sched_stat_blocked: statDelay,
  sched_migrate_task: {
    fields: { ...task, orig_cpu: id("Number of the CPU that it leaves."), dest_cpu: id("Number of the CPU that it moves to.") },
    layouts: ["comm={target_comm} pid={target_pid} prio={prio} orig_cpu={orig_cpu} dest_cpu={dest_cpu}"],
  },
  sched_process_exec: { fields: { filename: text("Program that is started."), target_pid, old_pid: id("Thread id before.") }, layouts: ["filename={filename} pid={target_pid} old_pid={old_pid}"] },
  sched_process_exit: { fields: task, layouts: ["comm={target_comm} pid={target_pid} prio={prio}", "comm={target_comm} pid={target_pid} prio={prio} group_dead={_}"] },
  sched_process_free: { fields: task, layouts: ["comm={target_comm} pid={target_pid} prio={prio}"] },
  sched_process_wait: { fields: task, layouts: ["comm={target_comm} pid={target_pid} prio={prio}"] },
  sched_wait_task: { fields: task, layouts: ["comm={target_comm} pid={target_pid} prio={prio}"] },
  sched_process_fork: {
    fields: { target_comm, target_pid, child_comm: text("Name of the new thread."), child_pid: id("Its thread id.") },
    layouts: ["comm={target_comm} pid={target_pid} child_comm={child_comm} child_pid={child_pid}"],
  },

  irq_handler_entry: { fields: { irq: id("Number of the interrupt."), name: text("Name of the handler.") }, layouts: ["irq={irq} name={name}"] },
  irq_handler_exit: { fields: { irq: id("Number of the interrupt."), ret: id("1 handled, 0 unhandled; a flag.", { words: { handled: 1, unhandled: 0 } }) }, layouts: ["irq={irq} ret={ret}"] },
  softirq_entry: softirq,
  softirq_exit: softirq,
  softirq_raise: softirq,
  tasklet_entry: tasklet,
  tasklet_exit: tasklet,
  workqueue_queue_work: {
    fields: { work, function: workFunction, workqueue: text("Name of the queue."), req_cpu: id("Number of the CPU asked for; as large as the number of possible CPUs for any."), work_cpu: id("Number of the CPU that got it.") },
    layouts: ["work struct={work} function={function} workqueue={workqueue} req_cpu={req_cpu} cpu={work_cpu}", "work={work} function={function} workqueue={workqueue} req_cpu={req_cpu} cpu={work_cpu}"],
  },
  workqueue_activate_work: { fields: { work }, layouts: ["work struct {work}", "work={work}"] },
  workqueue_execute_start: execute,
  workqueue_execute_end: { ...execute, layouts: [...execute.layouts, "work struct {work}"] },
};
