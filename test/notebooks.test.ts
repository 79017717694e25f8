import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";
import * as arquero from "arquero";
import ts from "typescript";
import { afterAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA, ROOT } from "./peer.js";

// Each claim of the notebooks is a check. Here the notebooks run on altered data, and every check must fail on some of it:
// a check that nothing can make fail says nothing.

const NOTEBOOKS = join(ROOT, "notebooks");
const notebooks = readdirSync(NOTEBOOKS).filter((name) => name.endsWith(".ipynb")).sort();

interface Cell { cell_type: string; source: string | string[]; outputs?: any[] }
const cellsOf = (name: string) => (JSON.parse(readFileSync(join(NOTEBOOKS, name), "utf8")) as { cells: Cell[] }).cells;
const textOf = (text: string | string[]) => (Array.isArray(text) ? text.join("") : text);

/** The code of a notebook as one function of its imports; what it checks goes to `check`, what it shows goes nowhere. */
async function run(name: string, data: string, altered: object = {}): Promise<{ checks: Map<string, boolean>; error: unknown }> {
  const code = cellsOf(name).filter((cell) => cell.cell_type === "code").map((cell) => textOf(cell.source)).join("\n;\n").replaceAll('"../data/', `"${data}/`).replaceAll("`../data/", `\`${data}/`);
  const output = ts.transpileModule(code, { compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext } }).outputText
    .replace(/^import \* as (\w+) from "([^"]+)";$/gm, 'const $1 = modules("$2");').replace(/^import \{([^}]*)\} from "([^"]+)";$/gm, (_, list: string, from: string) => `const {${list.replaceAll(" as ", ": ")}} = modules("${from}");`).replace(/^export \{\};$/gm, "");
  const checks = new Map<string, boolean>();
  const library = { ...kl, check: (holds: boolean, claim: string) => void checks.set(claim, (checks.get(claim) ?? true) && holds), show: () => {}, ...altered };
  const require = createRequire(import.meta.url);
  const modules = (from: string) => (from === "kernel-lib" ? library : from === "arquero" ? arquero : require(from));
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => (...args: unknown[]) => Promise<void>;
  let error: unknown = null;
  try {
    await new AsyncFunction("modules", "console", output)(modules, { log() {}, error() {}, table() {} });
  } catch (thrown) {
    error = thrown;
  }
  return { checks, error };
}

const folder = mkdtempSync(join(tmpdir(), "kernel-lib-altered-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** data/ again, with links in place of copies: an alteration replaces what it changes. */
function linked(name: string): string {
  const root = join(folder, name);
  for (const set of ["talk", "capture"]) {
    mkdirSync(join(root, set), { recursive: true });
    for (const entry of readdirSync(join(DATA, set))) symlinkSync(join(DATA, set, entry), join(root, set, entry));
  }
  return root;
}

function put(root: string, to: string, from: string): void {
  rmSync(join(root, to), { recursive: true, force: true });
  symlinkSync(join(DATA, from), join(root, to));
}

/** A folder of the data again, or one file, with those texts changed whose names match; the others stay links. */
function edit(root: string, path: string, files: RegExp, change: (text: string) => string): void {
  const real = join(DATA, path), to = join(root, path);
  rmSync(to, { recursive: true, force: true });
  if (statSync(real).isFile()) {
    writeFileSync(to, change(readFileSync(real, "utf8")));
    return;
  }
  mkdirSync(to);
  for (const entry of readdirSync(real)) {
    if (!files.test(entry) || /\.zst$/.test(entry)) {
      symlinkSync(join(real, entry), join(to, entry));
      continue;
    }
    const bytes = readFileSync(join(real, entry));
    writeFileSync(join(to, entry.replace(/\.gz$/, "")), change((entry.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("latin1")), "latin1");
  }
}

const PAIRS = [["talk/virtio", "talk/vhost"], ["capture/icount-virtio", "capture/icount-vhost"], ["capture/virtio", "capture/vhost"], ["capture/icount-agent-virtio", "capture/icount-agent-vhost"]];

const TRACES = /^trace-cmd.*nsec/;

/** A different digit in the middle of some numbers: 1 in 3 of those with at least two digits. */
const otherDigits = (text: string) => {
  let n = 0;
  return text.replace(/(?<![\w.:-])(\d+)(\.\d+)?(?![\w:-])/g, (all, whole: string, rest = "") => (n++ % 3 === 0 && all.length > 1 ? `${((Number(whole[0]) % 9) + 1).toString()}${whole.slice(1)}${rest}` : all));
};

const alterations: Record<string, (root: string) => void> = {
  "the modes swapped"(root) {
    for (const [a, b] of PAIRS) { put(root, a, b); put(root, b, a); }
    rmSync(join(root, "capture/icount-ab"));
    mkdirSync(join(root, "capture/icount-ab"));
    put(root, "capture/icount-ab/virtio", "capture/icount-ab/vhost");
    put(root, "capture/icount-ab/vhost", "capture/icount-ab/virtio");
  },
  "no difference: standard virtio-net in both"(root) {
    for (const [a, b] of PAIRS) put(root, b, a);
    rmSync(join(root, "capture/icount-ab"));
    mkdirSync(join(root, "capture/icount-ab"));
    for (const mode of ["virtio", "vhost"]) put(root, `capture/icount-ab/${mode}`, "capture/icount-ab/virtio");
  },
  "no difference: vhost-net in both"(root) {
    for (const [a, b] of PAIRS) put(root, a, b);
  },
  "other digits in the talk's listings"(root) {
    for (const mode of ["virtio", "vhost"]) edit(root, `talk/${mode}`, /^(?!trace-cmd|commands)/, otherDigits);
  },
  "other digits in the recordings' tables"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) edit(root, `capture/${mode}`, /^perf-(stat|kvm-(stat|report))/, otherDigits);
  },
  "the recordings in place of the talk"(root) {
    for (const mode of ["virtio", "vhost"]) put(root, `talk/${mode}`, `capture/icount-${mode}`);
  },
  "the talk's traces with other times and another device"(root) {
    for (const mode of ["virtio", "vhost"]) {
      edit(root, `talk/${mode}`, /^trace-cmd/, (text) => text.replaceAll("0xa003a", "0xa0038").replace(/(\d+\.\d{3})(\d{3}):/g, (_, head, tail) => `${head}${String(Math.floor(Number(tail) * 0.9)).padStart(3, "0")}:`));
    }
  },
  "kicks of another device in the recordings, and no sleep"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, TRACES, (text) => text.replace(/(mmio write len 4 gpa 0xa003)a50/g, (all, head, at: number) => (at % 2 ? `${head}850` : all)).replace(/ S ==> /g, " R ==> "));
    }
  },
  "the instruction clock's runs in place of the noisy ones"(root) {
    for (const mode of ["virtio", "vhost"]) {
      rmSync(join(root, `capture/${mode}`));
      mkdirSync(join(root, `capture/${mode}`));
      for (const entry of readdirSync(join(DATA, "capture", mode))) if (entry !== "ab") symlinkSync(join(DATA, "capture", mode, entry), join(root, "capture", mode, entry));
      put(root, `capture/${mode}/ab`, `capture/icount-ab/${mode}`);
    }
  },
  "x86 exit reasons in perf kvm stat"(root) {
    const reasons: Record<string, string> = { DABT_LOW: "EPT_MISCONFIG", WFx: "HLT", IRQ: "EXTERNAL_INTERRUPT", SYS64: "MSR_WRITE" };
    for (const path of ["talk/virtio", "talk/vhost", "capture/icount-virtio", "capture/icount-vhost"]) {
      edit(root, path, /^perf-kvm-stat/, (text) => text.replace(/^( *)(DABT_LOW|WFx|IRQ|SYS64)(?= )/gm, (_, blanks: string, name: string) => reasons[name].padStart(blanks.length + name.length)));
    }
  },
  "interrupts and sleeps change places in the recordings' traces"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, TRACES, (text) => text.replace(/(IRQ: HSR_EC: 0x0000 \(UNKNOWN\))|(TRAP: HSR_EC: 0x0001 \(WFx\))/g, (_, irq) => (irq ? "TRAP: HSR_EC: 0x0001 (WFx)" : "IRQ: HSR_EC: 0x0000 (UNKNOWN)")));
    }
  },
  "no sleep at all in the recordings' traces"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) edit(root, `capture/${mode}`, TRACES, (text) => text.replaceAll("0x0001 (WFx)", "0x0024 (DABT_LOW)"));
  },
  "entries lost in the recordings' traces, and a file damaged"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, /^(trace-cmd.*nsec|perf-kvm-report\.txt)/, (text) => (text.includes(" kvm_entry: ") ? text.split("\n").filter((line, i) => i % 3 > 0 || !line.includes(" kvm_entry: ")).join("\n") : "Killed\n"));
    }
  },
  "small packets with vhost-net"(root) {
    for (const path of ["talk/vhost", "capture/vhost"]) edit(root, path, /^virtiostat/, (text) => text.replace(/(\d+)\d\d$/gm, "  $1"));
  },
  "vhost-net twice as fast as it was recorded, moving more and with more work in the guest"(root) {
    edit(root, "capture/icount-vhost", /^(iperf3.*json|perf-record\.txt|perf-stat-instructions.*)$/, (text) => text.replace(/("bits_per_second":\s*)([\d.e+]+)/g, (_, key, rate) => `${key}${Number(rate) * 2}`)
      .replace(/([\d.]+)( [MG]Bytes)/g, (_, bytes, unit) => `${Number(bytes) * 9}${unit}`).replace(/\d+(?= +instructions:kG)/g, (n) => String(Number(n) * 2)));
  },
  "nothing tells vCPUs, idle or interrupts"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) edit(root, `capture/${mode}`, /^perf-kvm-report\.txt/, (text) => text.replace(/arch_cpu_idle|cpu_do_idle/g, "memset"));
    for (const mode of ["virtio", "vhost"]) {
      edit(root, `capture/${mode}`, /^(environment\.txt|trace-cmd\.txt|perf-script-guest\.txt)/, (text) => (text.includes("== ") && text.includes(" PID ") ? "== nothing\n"
        : text.replace(/^.* (kvm_get_timer_map|kvm_timer_update_irq|kvm_halt_poll_ns): .*\n/gm, "").replaceAll("el1h_64_irq", "default_idle_call")));
    }
  },
  "system calls in vhost's stacks, and one sample lost"(root) {
    edit(root, "talk/perf-script-host.txt", /./, (text) => text.slice(0, text.indexOf("\n\n") + 2));
    for (const mode of ["icount-vhost", "vhost"]) edit(root, `capture/${mode}`, /^perf-script-host\.txt/, (text) => text.replaceAll("handle_tx_copy", "__arm64_sys_writev").replaceAll("tun_sendmsg", "__arm64_sys_sendmsg"));
    edit(root, "capture/icount-virtio", /^perf-script-host\.txt/, (text) => text.replaceAll("virtio_net_flush_tx", "__arm64_sys_futex"));
    edit(root, "capture/virtio", /^perf-script-host\.txt/, (text) => text.replace(/ (el0\w*_svc\w*|do_el0_svc|el0_svc|invoke_syscall|__arm64_sys_\w+)(\.\w+)*\+/g, " virtqueue_pop+"));
  },
  "other functions in vhost's stacks"(root) {
    for (const mode of ["icount-vhost", "vhost"]) {
      edit(root, `capture/${mode}`, /^perf-script-(host|guest)\.txt/, (text) => text.replace(/ (?!\w*(?:idle|sys_|svc|syscall|tun_))(\w+)\+0x/g, " other_$1+0x"));
    }
  },
  "vhost's worker gets its CPU 40 µs late"(root) {
    edit(root, "capture/icount-vhost", TRACES, (text) => text.replace(/(\d+)\.(\d{9}): sched_switch:(?=.* ==> vhost-)/g, (_, s: string, ns: string) => {
      const late = BigInt(s + ns) + 40_000n;
      return `${late / 1_000_000_000n}.${String(late % 1_000_000_000n).padStart(9, "0")}: sched_switch:`;
    }));
  },
  "a host's counter that stops in idle CPUs, as a real one's does, and a guest that counts ten times as much"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, /^perf-script-(host-guestmount|guest)\.txt/, (text) => (text.includes("\n:19") ? text.replace(/^(swapper .*: +\d+)\d( +cycles)/gm, "$1$2") : text.replace(/(\d)( +cycles)/g, "$10$2")));
    }
  },
  "one claim more"(root) {
    edit(root, "talk/claims.tsv", /./, (text) => `${text.trimEnd()}\nvhost-net is green\tnone\n`);
  },
};

/** Where a check is of the library and not of the recordings: the library altered. */
const libraries: Record<string, object> = {
  "rows lost on the way from danfo": { fromDanfo: (...args: Parameters<typeof kl.fromDanfo>) => kl.fromDanfo(...args).slice(1).reify() },
  "nulls lost on the way to danfo": { toDanfo: (table: kl.ColumnTable) => kl.toDanfo(table.columnNames().includes("handling") ? table.impute({ handling: () => 0 }) : table) },
  "other values on the way to danfo": { toDanfo: (table: kl.ColumnTable) => kl.toDanfo(table.columnNames().includes("handling") ? table.derive({ handling: (d: any) => (d.handling === null ? null : d.handling * 2) }) : table) },
  "a stretch of a vCPU's time lost": { vcpuStates: (...args: Parameters<typeof kl.vcpuStates>) => kl.vcpuStates(...args).slice(1).reify() },
  "a kick lost": { virtioKicks: (...args: Parameters<typeof kl.virtioKicks>) => kl.virtioKicks(...args).slice(1).reify() },
  "a piece of a kick's path lost": { kickPaths: (...args: Parameters<typeof kl.kickPaths>) => kl.kickPaths(...args).slice(1).reify() },
  "columns lost on the way from danfo": { fromDanfo: (...args: Parameters<typeof kl.fromDanfo>) => { const table = kl.fromDanfo(...args); return table.numRows() === 0 ? table.select(table.columnNames()[0]) : table; } },
};

describe("notebooks", () => {
  it.each(notebooks)("%s is committed executed, whole and without an error", (name) => {
    const code = cellsOf(name).filter((cell) => cell.cell_type === "code");
    expect(code.length).toBeGreaterThan(2);
    expect(code.every((cell: any) => cell.execution_count !== null)).toBe(true);
    expect(code.flatMap((cell) => cell.outputs!).filter((output) => output.output_type === "error")).toEqual([]);
    const text = cellsOf(name).map((cell) => textOf(cell.source)).join("\n");
    expect(text).toMatch(/^# /m);
    expect(text).toMatch(/Exercises/);
  });
});

describe("every check of the notebooks holds, and can fail", () => {
  const altered = Object.keys(alterations).map((name, i) => [name, `a${i}`] as const);
  for (const [name, path] of altered) alterations[name](linked(path));

  it.each(notebooks)("%s", async (name) => {
    const sound = await run(name, DATA.replace(/\/$/, ""));
    expect(sound.error).toBe(null);
    expect([...sound.checks].filter(([, holds]) => !holds)).toEqual([]);
    const failed = new Set<string>();
    for (const [, path] of altered) for (const [claim, holds] of (await run(name, join(folder, path))).checks) if (!holds) failed.add(claim);
    if (/danfo|vcpu-time|one-kick/.test(name)) for (const library of Object.values(libraries)) for (const [claim, holds] of (await run(name, DATA.replace(/\/$/, ""), library)).checks) if (!holds) failed.add(claim);
    expect([...sound.checks.keys()].filter((claim) => !failed.has(claim)), "checks that no alteration of the data makes fail").toEqual([]);
  });
});
