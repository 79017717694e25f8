import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { KernelLibError } from "./errors.js";
import { visible } from "./format.js";
import { PACKAGE } from "./kernel/install.js";

/** A command line that is wrong in itself: exit code 2. */
class UsageError extends Error {}

interface Command {
  usage: string;
  /** What --help says below the usage line. */
  help: string;
  options: NonNullable<ParseArgsConfig["options"]>;
  run(values: any, files: string[]): Promise<number>;
}

// Lines of a traced machine are in some messages; the terminal is not to obey what they hold.
const say = (line: string): void => { process.stderr.write(`${visible(line)}\n`); };
const isTerminal = process.stderr.isTTY === true;

/** The project's folder: the nearest with a package-lock.json, else the present one. */
function projectRoot(): string {
  for (let folder = process.cwd(); ; folder = dirname(folder)) {
    if (existsSync(join(folder, "package-lock.json"))) return folder;
    if (dirname(folder) === folder) return process.cwd();
  }
}

function studyNotebooks(root: string): string[] {
  const folder = join(root, "notebooks");
  const found = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith(".ipynb")).sort() : [];
  if (found.length === 0) throw new KernelLibError(`there are no notebooks in ${folder}; name the notebooks, or run this in a folder that has notebooks/`);
  return found.map((name) => join(folder, name));
}

function existing(files: string[]): string[] {
  for (const file of files) if (!existsSync(file)) throw new KernelLibError(`there is no file ${file}`);
  return files.map((file) => resolve(file));
}

async function execute(root: string, notebooks: string[]): Promise<Map<string, string>> {
  const { setUpLab, executeNotebooks, short } = await import("./kernel/lab.js");
  const lab = setUpLab(root, say);
  let index = 0;
  return await executeNotebooks(lab, notebooks, (event) => {
    const label = `[${event.event === "notebook" ? ++index : index}/${notebooks.length}] ${short(event.path)}`;
    if (event.event === "cell" && isTerminal) process.stderr.write(`\r\x1b[K${label}: cell ${event.cell} of ${event.cells}, ${event.seconds.toFixed(0)} s`);
    if (event.event === "done") {
      if (isTerminal) process.stderr.write("\r\x1b[K");
      say(`${label}: ${event.failure ?? "fine"} (${event.seconds.toFixed(1)} s)`);
    }
  });
}

const commands: Record<string, Command> = {
  start: {
    usage: "kernel-lib start",
    help: "Sets up what is missing (a Python virtual environment with JupyterLab, the kernel), executes all notebooks in notebooks/, writes report.html.",
    options: {},
    async run() {
      const root = projectRoot();
      const all = studyNotebooks(root);
      const { hasDanfo } = await import("./danfo.js");
      const notebooks = hasDanfo() ? all : all.filter((path) => !/danfo/.test(basename(path)));
      if (notebooks.length < all.length) say("left out: 09-danfo, since danfojs-node is not installed (npm ci without --omit=optional installs it)");
      const failures = await execute(root, notebooks);
      const { writeReport } = await import("./notebook/report.js");
      const file = join(root, "report.html");
      await writeReport(all, file);
      say(`\nthe report:      ${file}   (open it in a browser)`);
      say("the notebooks:   npm run lab   (opens JupyterLab on notebooks/)");
      return failures.size === 0 ? 0 : 1;
    },
  },
  install: {
    usage: "kernel-lib install [--user | --prefix DIR | --sys-prefix]",
    help: "Makes the kernel \"TypeScript (kernel-lib)\" known to a Jupyter of your own.\n"
      + "  --user        for this user (default)\n"
      + "  --prefix DIR  in DIR/share/jupyter/kernels\n"
      + "  --sys-prefix  in the Python environment that is active (its sys.prefix)",
    options: { user: { type: "boolean" }, prefix: { type: "string" }, "sys-prefix": { type: "boolean" } },
    async run(values) {
      if ([values.user, values.prefix, values["sys-prefix"]].filter(Boolean).length > 1) throw new UsageError("--user, --prefix and --sys-prefix exclude each other");
      const { installKernel, userFolder } = await import("./kernel/install.js");
      let folder = userFolder();
      if (values.prefix !== undefined) folder = join(values.prefix, "share", "jupyter");
      if (values["sys-prefix"]) {
        const { pythonPrefix } = await import("./kernel/lab.js");
        folder = join(pythonPrefix(), "share", "jupyter");
      }
      console.log(`installed in ${installKernel(folder)}`);
      return 0;
    },
  },
  lab: {
    usage: "kernel-lib lab [FOLDER] [--no-browser] [--port N]",
    help: "Opens JupyterLab on FOLDER (default: notebooks/ of the project, else the present folder), with our kernel as the default.",
    options: { "no-browser": { type: "boolean" }, port: { type: "string" } },
    async run(values, files) {
      if (files.length > 1) throw new UsageError("lab takes one folder");
      const root = projectRoot();
      const { setUpLab, openLab } = await import("./kernel/lab.js");
      const lab = setUpLab(root, say);
      const folder = files[0] ? existing(files)[0] : existsSync(join(root, "notebooks")) ? join(root, "notebooks") : process.cwd();
      return await openLab(lab, folder, { browser: !values["no-browser"], extra: values.port ? [`--ServerApp.port=${values.port}`] : [] });
    },
  },
  run: {
    usage: "kernel-lib run NOTEBOOK…",
    help: "Executes notebooks, each in a clean kernel, and writes the outputs into them. Fails when a cell fails.",
    options: {},
    async run(_values, files) {
      if (files.length === 0) throw new UsageError("run needs the names of notebooks");
      const failures = await execute(projectRoot(), existing(files));
      return failures.size === 0 ? 0 : 1;
    },
  },
  report: {
    usage: "kernel-lib report [NOTEBOOK…] [-o FILE.html]",
    help: "Makes one self-contained, interactive HTML page from executed notebooks (default: all of notebooks/, into report.html).",
    options: { output: { type: "string", short: "o" }, title: { type: "string" } },
    async run(values, files) {
      const { writeReport } = await import("./notebook/report.js");
      const root = projectRoot();
      const output = values.output ?? join(root, "report.html");
      await writeReport(files.length > 0 ? existing(files) : studyNotebooks(root), output, values.title ? { title: values.title } : {});
      console.log(output);
      return 0;
    },
  },
  table: {
    usage: "kernel-lib table FILE [--format F] [--event NAME] [--as csv|json|arrow]",
    help: "Reads what a tool printed (FILE, plain, .gz or .zst; - is standard input) and writes its table.\n"
      + "  --format F    iperf3, perf-stat, perf-kvm-stat, perf-report, perf-script, trace-cmd, virtiostat, kvmexit, folded; default: told by its looks\n"
      + "  --event NAME  of a trace, one event with its own columns; of perf script, the samples of one event\n"
      + "  --as          csv (default), json (one list of rows) or arrow (an Arrow IPC file)\n\n"
      + "example: trace-cmd report | kernel-lib table - --format trace-cmd --event kvm_exit --as csv",
    options: { format: { type: "string" }, event: { type: "string" }, as: { type: "string" } },
    async run(values, files) {
      if (files.length !== 1) throw new UsageError("table needs one file, or - for standard input");
      const { readTable, writeTable, tableForms } = await import("./cli-tables.js");
      const form = values.as ?? "csv";
      if (!tableForms.includes(form)) throw new UsageError(`--as takes ${tableForms.join(", ")}, not ${JSON.stringify(form)}`);
      await writeTable(await readTable(files[0], values.format, values.event, say), form);
      return 0;
    },
  },
  fold: {
    usage: "kernel-lib fold FILE [--pid] [--tid] [--kernel] [--jit] [--all] [--addrs] [--event NAME] [--workers N]",
    help: "Folds the stacks of perf script output (FILE, plain, .gz or .zst; - is standard input) as FlameGraph's stackcollapse-perf.pl does.\n"
      + "  --pid     name processes with their pid      --tid    with pid and thread id\n"
      + "  --kernel  mark kernel functions with _[k]    --jit    mark compiled code with _[j]    --all  both\n"
      + "  --addrs   give functions without a name their address\n"
      + "  --event   the event to take; default: the first in the file\n"
      + "  --workers threads that read a large plain file; default: 1",
    options: {
      pid: { type: "boolean" }, tid: { type: "boolean" }, kernel: { type: "boolean" }, jit: { type: "boolean" }, all: { type: "boolean" }, addrs: { type: "boolean" },
      event: { type: "string" }, workers: { type: "string" },
    },
    async run({ workers = "1", ...options }, files) {
      if (files.length !== 1) throw new UsageError("fold needs one file, or - for standard input");
      const { foldFile } = await import("./cli-fold.js");
      await foldFile(files[0], options, Number(workers), say);
      return 0;
    },
  },
  doctor: {
    usage: "kernel-lib doctor",
    help: "Looks at what the kernel and the lab stand on; says of each thing that it is fine, or what to do.",
    options: {},
    async run() {
      const { examine } = await import("./kernel/doctor.js");
      const findings = examine(projectRoot());
      for (const { what, ok, needed, text } of findings) console.log(`${ok ? "fine   " : needed ? "MISSING" : "no     "}  ${what.padEnd(14)} ${text}`);
      return findings.some(({ ok, needed }) => needed && !ok) ? 1 : 0;
    },
  },
};

function helpText(): string {
  return `usage: kernel-lib COMMAND …\n\n${Object.values(commands).map(({ usage, help }) => `  ${usage}\n      ${help.split("\n")[0]}`).join("\n")}\n\n`
    + "kernel-lib COMMAND --help says more. Exit codes: 0 done, 1 failed, 2 wrong usage.";
}

/** Runs one command line; sets the exit code. */
export async function main(argv: string[]): Promise<void> {
  const [name, ...rest] = argv;
  if (name === "kernel") { // by Jupyter, with its connection file
    const { launchKernel } = await import("./kernel/launch.js");
    return launchKernel(rest[0]);
  }
  process.stdout.on("error", (error: NodeJS.ErrnoException) => process.exit(error.code === "EPIPE" ? 0 : 1));
  try {
    process.exitCode = await dispatch(name, rest);
  } catch (error) {
    const known = name !== undefined && Object.hasOwn(commands, name) ? ` ${name}` : "";
    const usage = error instanceof UsageError || String((error as NodeJS.ErrnoException).code).startsWith("ERR_PARSE_ARGS");
    // One line; a failure that we did not foresee keeps its stack.
    const foreseen = usage || (error as NodeJS.ErrnoException).code === "ENOENT" || error instanceof KernelLibError || typeof (error as NodeJS.ErrnoException).syscall === "string";
    const message = (error as Error).message.split("\n").map((line) => line.trim()).join(" ");
    say(`kernel-lib${known}: ${foreseen ? message : (error as Error).stack}`);
    if (usage) say(`try: kernel-lib${known} --help`);
    process.exitCode = usage ? 2 : 1;
  }
}

async function dispatch(name: string | undefined, rest: string[]): Promise<number> {
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    console.log(helpText());
    return name === undefined ? 2 : 0;
  }
  if (name === "--version" || name === "-V") {
    console.log(JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8")).version);
    return 0;
  }
  const command = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (!command) throw new UsageError(`there is no command ${JSON.stringify(name)}; one of ${Object.keys(commands).join(", ")}`);
  const { values, positionals } = parseArgs({ args: rest, options: { ...command.options, help: { type: "boolean", short: "h" } }, allowPositionals: true });
  if (values.help) {
    console.log(`usage: ${command.usage}\n\n${command.help}`);
    return 0;
  }
  return await command.run(values, positionals);
}
