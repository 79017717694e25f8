import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { fromArrow } from "arquero";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "./peer.js";
import { HAS_JUPYTER, NO_JUPYTER } from "./kernel/session.js";

interface Ended { code: number | null; out: string; err: string }

/** Runs the built command line. */
async function kernelLib(args: string[], input: string | Uint8Array = "", cwd = ROOT, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  const child = spawn(process.execPath, [join(ROOT, "kernel-lib", "bin", "kernel-lib.js"), ...args], { cwd, env: { ...process.env, ...env } });
  const out: Buffer[] = [], err: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => out.push(bytes));
  child.stderr.on("data", (bytes: Buffer) => err.push(bytes));
  child.stdin.on("error", () => {}); // it may end before it has read all
  child.stdin.end(input);
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() };
}

let folder = "";
beforeAll(() => { folder = mkdtempSync(join(tmpdir(), "kernel-lib-cli-")); });
afterAll(() => { rmSync(folder, { recursive: true }); });

describe("the command line", () => {
  it("says what it can, and of each command too", async () => {
    const help = await kernelLib(["--help"]);
    expect(help.code).toBe(0);
    for (const command of ["start", "install", "lab", "run", "report", "table", "fold", "doctor"]) {
      expect(help.out).toContain(`kernel-lib ${command}`);
      const one = await kernelLib([command, "--help"]);
      expect(one).toMatchObject({ code: 0, err: "" });
      expect(one.out).toMatch(new RegExp(`^usage: kernel-lib ${command}`));
    }
    const { version } = JSON.parse(readFileSync(join(ROOT, "kernel-lib", "package.json"), "utf8"));
    expect(await kernelLib(["--version"])).toEqual({ code: 0, out: `${version}\n`, err: "" });
  });

  it.each([
    [[], 2, ""],
    [["explode"], 2, 'kernel-lib: there is no command "explode"; one of start, '],
    [["constructor"], 2, 'kernel-lib: there is no command "constructor"'],
    [["run"], 2, "kernel-lib run: run needs the names of notebooks"],
    [["run", "--fast"], 2, "kernel-lib run: Unknown option '--fast'"],
    [["run", "nowhere.ipynb"], 1, "kernel-lib run: there is no file nowhere.ipynb"],
    [["install", "--user", "--prefix", "x"], 2, "kernel-lib install: --user, --prefix and --sys-prefix exclude each other"],
    [["report", "package.json", "-o", "x.html"], 1, "kernel-lib report: "],
  ])("of %j ends with %i and one line that says why", async (args, code, message) => {
    const ended = await kernelLib(args as string[]);
    expect(ended.code).toBe(code);
    expect(ended.err.startsWith(message as string)).toBe(true);
    expect(ended.err.trimEnd().split("\n").length).toBeLessThanOrEqual(2); // the message, and where usage is explained
    expect(ended.err).not.toContain("    at ");
  });

  it("doctor finds nothing that is needed missing", async () => {
    const { code, out } = await kernelLib(["doctor"]);
    expect(out).toMatch(/^fine\s+Node\s+\d/);
    expect(out).toMatch(/fine\s+tslab\s+1\.0\.22/);
    expect(code).toBe(/^MISSING/m.test(out) ? 1 : 0);
  });

  it("install writes a kernelspec that a Jupyter elsewhere can start", async () => {
    const { code, out } = await kernelLib(["install", "--prefix", folder]);
    expect(code).toBe(0);
    const file = join(folder, "share", "jupyter", "kernels", "kernel-lib", "kernel.json");
    expect(out).toContain(join(folder, "share", "jupyter", "kernels", "kernel-lib"));
    const spec = JSON.parse(readFileSync(file, "utf8"));
    expect(spec.display_name).toBe("TypeScript (kernel-lib)");
    expect(spec.language).toBe("typescript");
    expect(spec.argv[0]).toBe(process.execPath);
    expect(existsSync(spec.argv.find((word: string) => word.endsWith("kernel-lib.js")))).toBe(true);
    expect(spec.argv.at(-1)).toBe("{connection_file}");
    const home = join(folder, "data");
    expect((await kernelLib(["install", "--user"], "", ROOT, { JUPYTER_DATA_DIR: home })).code).toBe(0);
    expect(existsSync(join(home, "kernels", "kernel-lib", "kernel.json"))).toBe(true);
  });
});

// perf script of perf 6.1 (arm64), two samples
const SAMPLES = `qemu-system-aar   938   938.123456:     250000 cycles:
	ffff800008b2a4c8 tun_get_user+0x8 ([kernel.kallsyms])
	ffff800008b2b6a0 tun_chr_write_iter+0x50 ([kernel.kallsyms])
	    ffff9d5d0f7c writev+0x1c (/lib/libc.so.6)

vhost-936   940   938.223456:     500000 cycles:
	ffff800008b2a4c8 tun_get_user+0x8 ([kernel.kallsyms])

`;

describe("table and fold", () => {
  it("folds perf script from standard input, and takes the folded text again", async () => {
    const folded = await kernelLib(["fold", "-"], SAMPLES);
    expect(folded).toEqual({ code: 0, err: "", out: "qemu-system-aar;writev;tun_chr_write_iter;tun_get_user 250000\nvhost-936;tun_get_user 500000\n" });
    const marked = await kernelLib(["fold", "-", "--pid", "--kernel"], SAMPLES);
    expect(marked.out).toMatch(/^qemu-system-aar-\S+;writev;tun_chr_write_iter_\[k\];tun_get_user_\[k\] 250000$/m);
    const path = join(folder, "perf-script.txt");
    writeFileSync(path, SAMPLES.repeat(100));
    expect((await kernelLib(["fold", path, "--workers", "2"])).out).toBe(folded.out.replace(/(\d+)$/gm, (_, n) => `${n}00`));
    const table = await kernelLib(["table", "-", "--as", "json"], folded.out);
    expect(JSON.parse(table.out)).toMatchObject([{ value: 250000 }, { stack: "vhost-936;tun_get_user", value: 500000 }]);
  });

  it("writes one event of a trace with its own columns", async () => {
    // trace-cmd report -t (trace-cmd 3.1.6, arm64)
    const trace = "cpus=4\n"
      + " qemu-system-aar-196   [003]   684.613400848: kvm_entry:            CAN'T FIND FIELD \"vcpu_id\"<CANT FIND FIELD rip>PC: 0xffff800008cda268\n"
      + " qemu-system-aar-196   [003]   684.613404448: kvm_exit:             <CANT FIND FIELD exit_reason>TRAP: HSR_EC: 0x0024 (DABT_LOW), PC: 0xffff800000d004e8\n";
    const { out, err, code } = await kernelLib(["table", "-", "--format", "trace-cmd", "--event", "kvm_exit", "--as", "csv"], trace);
    expect([code, err]).toEqual([0, ""]);
    expect(out).toBe("ts,cpu,pid,comm,ret,esr_ec,reason,pc\n684613404448,3,196,qemu-system-aar,2,36,DABT_LOW,0xffff800000d004e8\n");
    const missing = await kernelLib(["table", "-", "--event", "kvm_mmio"], trace);
    expect(missing).toMatchObject({ code: 1, out: "" });
    expect(missing.err).toMatch(/^kernel-lib table: .*kvm_mmio.*kvm_exit/);
  });

  it("writes CSV, JSON and Arrow of the same rows, plain and compressed", async () => {
    const plain = await kernelLib(["table", "-"], SAMPLES);
    expect(plain.code).toBe(0);
    const [header, first] = plain.out.split("\n");
    expect(header.split(",").slice(0, 3)).toEqual(["ts", "cpu", "pid"]);
    expect(first.startsWith("938123456000,,")).toBe(true);
    const path = join(folder, "samples.txt.gz");
    writeFileSync(path, gzipSync(SAMPLES));
    expect((await kernelLib(["table", path])).out).toBe(plain.out);
    const json = JSON.parse((await kernelLib(["table", path, "--as", "json", "--event", "cycles"])).out);
    expect(json.map((row: any) => [row.ts, row.comm, row.period])).toEqual([[938123456000, "qemu-system-aar", 250000], [938223456000, "vhost-936", 500000]]);
    const arrow = spawnSync(process.execPath, [join(ROOT, "kernel-lib", "bin", "kernel-lib.js"), "table", path, "--as", "arrow"]);
    expect(fromArrow(arrow.stdout).select("ts", "comm", "period").objects()).toEqual(json.map(({ ts, comm, period }: any) => ({ ts, comm, period })));
  });

  it("of thousands of rows loses none, and ends quietly when the reader does", async () => {
    const text = SAMPLES.repeat(30_000);
    const { out, code } = await kernelLib(["table", "-", "--format", "perf-script"], text);
    expect([code, out.split("\n").length]).toEqual([0, 60_002]);
    const path = join(folder, "many.txt");
    writeFileSync(path, text);
    const head = spawnSync("bash", ["-c", '"$0" "$1" table "$2" | head -1; echo "${PIPESTATUS[0]}"', process.execPath, join(ROOT, "kernel-lib", "bin", "kernel-lib.js"), path], { encoding: "utf8" });
    expect(head.stdout).toMatch(/^ts,cpu,.*\n0\n$/);
    expect(head.stderr).toBe("");
  });

  it("says what was not understood, and what is wrong", async () => {
    const odd = await kernelLib(["table", "-", "--format", "folded"], "a;b 1\nnot folded\n");
    expect(odd.code).toBe(0);
    expect(odd.out).toContain("a;b,1");
    expect(odd.err).toBe("kernel-lib: stdin: 2 lines = 1 rows + 1 not understood; first not understood: line 2: not folded\n");
    for (const [args, input, code, message] of [
      [["table", "-"], "nothing of the kind\n", 1, "kernel-lib table: stdin:1: this looks like none of the formats"],
      [["table", "-"], "", 1, "kernel-lib table: stdin: there is no text here"],
      [["table", "-", "--format", "elf"], "x", 1, 'kernel-lib table: there is no format "elf"; one of iperf3,'],
      [["table", "-", "--as", "xml"], "x", 2, 'kernel-lib table: --as takes csv, json, arrow, not "xml"'],
      [["table"], "", 2, "kernel-lib table: table needs one file"],
      [["table", "nowhere.txt"], "", 1, "kernel-lib table: ENOENT: no such file"],
      [["table", "-", "--event", "x"], "a;b 1\n", 1, "kernel-lib table: --event is for trace-cmd and perf script"],
      [["fold", "-"], "a;b 1\n", 1, "kernel-lib fold: stdin:1: this is not perf-script output"],
      [["fold", "-", "--event", "faults"], SAMPLES, 1, "kernel-lib fold: "],
      [["fold", "-", "--workers", "many"], SAMPLES, 1, "kernel-lib fold: workers takes a number of threads, 1 to 64; this is NaN"],
    ] as const) {
      const ended = await kernelLib([...args], input);
      expect([ended.code, ended.out]).toEqual([code, ""]);
      expect(ended.err.slice(0, message.length)).toBe(message);
    }
  });
});

describe("set-up on a machine that lacks something", () => {
  it("says in one line what to install, and leaves a virtual environment of somebody else's alone", async () => {
    const project = join(folder, "project");
    mkdirSync(join(project, "notebooks"), { recursive: true });
    expect(await kernelLib(["start"], "", project)).toMatchObject({ code: 1, err: expect.stringMatching(/^kernel-lib start: there are no notebooks in .*\n$/) });
    writeFileSync(join(project, "notebooks", "a.ipynb"), "{}");
    const noPython = await kernelLib(["start"], "", project, { PATH: join(folder, "nothing"), KERNEL_LIB_PYTHON: "" });
    expect(noPython).toMatchObject({
      code: 1, err: "kernel-lib start: Python 3.10 or newer is needed and none was found; install it (Debian: apt install python3 python3-venv)\n",
    });
    mkdirSync(join(project, ".venv"));
    writeFileSync(join(project, ".venv", "theirs"), "");
    const occupied = await kernelLib(["start"], "", project);
    expect(occupied.code).toBe(1);
    expect(occupied.err).toMatch(/^kernel-lib start: \.venv is there but holds no JupyterLab 4 .*; delete it, or run: .*\n$/);
    expect(existsSync(join(project, ".venv", "theirs"))).toBe(true);
  });
});

describe.skipIf(!HAS_JUPYTER)(`run and report${NO_JUPYTER}`, () => {
  const notebook = (cells: string[]) => JSON.stringify({
    cells: cells.map((source) => ({ cell_type: "code", source, metadata: {}, outputs: [], execution_count: null })), metadata: {}, nbformat: 4, nbformat_minor: 4,
  });

  it("executes notebooks, writes the outputs into them, the same each time, and makes a page of them", async () => {
    const path = join(folder, "a.ipynb");
    writeFileSync(path, notebook(['console.log("out");\nconsole.log("put");', "kl.formatValue(1500, 'ns')", "kl.check(true, 'holds')"]));
    const first = await kernelLib(["run", path]);
    expect(first.code).toBe(0);
    expect(first.err).toMatch(/\[1\/1\] .*a\.ipynb: fine \(\d+\.\d s\)/);
    const text = readFileSync(path, "utf8");
    const { cells, metadata } = JSON.parse(text);
    expect(metadata.kernelspec.name).toBe("kernel-lib");
    expect(cells.map((cell: any) => cell.execution_count)).toEqual([1, 2, 3]);
    expect(cells[0].outputs).toEqual([{ name: "stdout", output_type: "stream", text: ["out\n", "put\n"] }]);
    expect(cells[1].outputs[0].data).toEqual({ "text/plain": ["1.50 µs"] });
    expect(text).not.toContain(ROOT);
    await kernelLib(["run", path]);
    expect(readFileSync(path, "utf8")).toBe(text);
    const page = join(folder, "a.html");
    expect(await kernelLib(["report", path, "-o", page])).toMatchObject({ code: 0, out: `${page}\n` });
    expect(readFileSync(page, "utf8")).toContain("1.50 µs");
  });

  it("fails when a cell fails, says which, keeps its error in the notebook and goes on to the next notebook", async () => {
    const bad = join(folder, "bad.ipynb"), good = join(folder, "good.ipynb");
    writeFileSync(bad, notebook(["1", "kl.check(1 > 2, 'one is more')", "3"]));
    writeFileSync(good, notebook(["4"]));
    const { code, err } = await kernelLib(["run", bad, good]);
    expect(code).toBe(1);
    expect(err).toContain("bad.ipynb: cell 2 failed: CheckError: does not hold: one is more");
    expect(err).toMatch(/\[2\/2\] .*good\.ipynb: fine/);
    expect(JSON.parse(readFileSync(bad, "utf8")).cells[1].outputs.at(-1)).toMatchObject({ output_type: "error", ename: "CheckError" });
  });
});
