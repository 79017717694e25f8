import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
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

/** Copies a folder of the data with each text file changed. */
function edit(root: string, path: string, change: (text: string, file: string) => string): void {
  const real = join(DATA, path), to = join(root, path);
  rmSync(to, { recursive: true, force: true });
  if (statSync(real).isFile()) {
    writeFileSync(to, change(readFileSync(real, "utf8"), basename(path)));
    return;
  }
  cpSync(real, to, { recursive: true });
  for (const entry of readdirSync(to, { recursive: true }).map(String)) {
    const file = join(to, entry);
    if (!statSync(file).isFile() || /\.zst$/.test(entry)) continue;
    const bytes = readFileSync(file);
    rmSync(file);
    writeFileSync(file.replace(/\.gz$/, ""), change((entry.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString("latin1"), basename(entry)), "latin1");
  }
}

const PAIRS = [["talk/virtio", "talk/vhost"], ["capture/icount-virtio", "capture/icount-vhost"], ["capture/virtio", "capture/vhost"], ["capture/icount-agent-virtio", "capture/icount-agent-vhost"]];

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
    for (const mode of ["virtio", "vhost"]) edit(root, `talk/${mode}`, (text, file) => (/trace-cmd|commands/.test(file) ? text : otherDigits(text)));
  },
  "other digits in the recordings' tables"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) edit(root, `capture/${mode}`, (text, file) => (/^perf-(stat|kvm-(stat|report))/.test(file) ? otherDigits(text) : text));
  },
  "the recordings in place of the talk"(root) {
    for (const mode of ["virtio", "vhost"]) put(root, `talk/${mode}`, `capture/icount-${mode}`);
  },
  "the talk's traces with other times and another device"(root) {
    for (const mode of ["virtio", "vhost"]) {
      edit(root, `talk/${mode}`, (text, file) => (file === "trace-cmd.txt" ? text.replaceAll("0xa003a", "0xa0038").replace(/(\d+\.\d{3})(\d{3}):/g, (_, head, tail) => `${head}${String(Math.floor(Number(tail) * 0.9)).padStart(3, "0")}:`) : text));
    }
  },
  "kicks of another device in the recordings, and no sleep"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, (text, file) => (/^trace-cmd.*nsec/.test(file) ? text.replace(/(mmio write len 4 gpa 0xa003)a50/g, (all, head, at: number) => (at % 2 ? `${head}850` : all)).replace(/ S ==> /g, " R ==> ") : text));
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
      edit(root, path, (text, file) => (/^perf-kvm-stat/.test(file) ? text.replace(/^( *)(DABT_LOW|WFx|IRQ|SYS64)(?= )/gm, (_, blanks: string, name: string) => reasons[name].padStart(blanks.length + name.length)) : text));
    }
  },
  "interrupts and sleeps change places in the recordings' traces"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, (text, file) => (/^trace-cmd.*nsec/.test(file) ? text.replace(/(IRQ: HSR_EC: 0x0000 \(UNKNOWN\))|(TRAP: HSR_EC: 0x0001 \(WFx\))/g, (_, irq) => (irq ? "TRAP: HSR_EC: 0x0001 (WFx)" : "IRQ: HSR_EC: 0x0000 (UNKNOWN)")) : text));
    }
  },
  "no sleep at all in the recordings' traces"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) edit(root, `capture/${mode}`, (text, file) => (/^trace-cmd.*nsec/.test(file) ? text.replaceAll("0x0001 (WFx)", "0x0024 (DABT_LOW)") : text));
  },
  "entries lost in the recordings' traces, and a file damaged"(root) {
    for (const mode of ["icount-virtio", "icount-vhost"]) {
      edit(root, `capture/${mode}`, (text, file) => (/^trace-cmd.*nsec/.test(file) ? text.split("\n").filter((line, i) => i % 3 > 0 || !line.includes(" kvm_entry: ")).join("\n") : file === "virtiostat.txt" || file === "perf-kvm-report.txt" ? "Killed\n" : text));
    }
  },
  "small packets with vhost-net"(root) {
    for (const path of ["talk/vhost", "capture/vhost"]) edit(root, path, (text, file) => (file === "virtiostat.txt" ? text.replace(/(\d+)\d\d$/gm, "  $1") : text));
  },
  "vhost-net twice as fast as it was recorded"(root) {
    edit(root, "capture/icount-vhost", (text, file) => (/^iperf3.*json$/.test(file) ? text.replace(/("bits_per_second":\s*)([\d.e+]+)/g, (_, key, rate) => `${key}${Number(rate) * 2}`) : text));
  },
  "one claim more"(root) {
    edit(root, "talk/claims.tsv", (text) => `${text.trimEnd()}\nvhost-net is green\tnone\n`);
  },
};

/** Where a check is of the library and not of the recordings: the library altered. */
const libraries: Record<string, object> = {
  "rows lost on the way from danfo": { fromDanfo: (...args: Parameters<typeof kl.fromDanfo>) => kl.fromDanfo(...args).slice(1).reify() },
  "nulls lost on the way to danfo": { toDanfo: (table: kl.ColumnTable) => kl.toDanfo(table.columnNames().includes("handling") ? table.impute({ handling: () => 0 }) : table) },
  "other values on the way to danfo": { toDanfo: (table: kl.ColumnTable) => kl.toDanfo(table.columnNames().includes("handling") ? table.derive({ handling: (d: any) => (d.handling === null ? null : d.handling * 2) }) : table) },
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
    if (/danfo/.test(name)) for (const library of Object.values(libraries)) for (const [claim, holds] of (await run(name, DATA.replace(/\/$/, ""), library)).checks) if (!holds) failed.add(claim);
    expect([...sound.checks.keys()].filter((claim) => !failed.has(claim)), "checks that no alteration of the data makes fail").toEqual([]);
  });
});
