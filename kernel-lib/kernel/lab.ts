import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { KernelLibError } from "../errors.js";
import { installKernel, KERNEL_NAME, PACKAGE } from "./install.js";

/** A step of setting up that this machine does not allow; the message is one line that says what to install. */
export class SetupError extends KernelLibError {
  override name = "SetupError";
}

/** Everything of Jupyter that belongs to one project folder; nothing is read from or written to the user's home. */
export interface Lab {
  root: string;
  python: string;
  /** Environment for Jupyter's programs. */
  env: NodeJS.ProcessEnv;
}

const REQUIREMENTS = join(PACKAGE, "kernel", "requirements.txt");

/** The first Python on the PATH that is new enough. */
export function findPython(): { path: string; version: string } | { problem: string } {
  const tried: string[] = [];
  for (const name of [process.env.KERNEL_LIB_PYTHON, "python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"]) {
    if (!name) continue;
    const { status, stdout } = spawnSync(name, ["-c", "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable)"], { encoding: "utf8" });
    if (status !== 0) continue;
    const [version, path] = stdout.trim().split("\n");
    const [major, minor] = version.split(".").map(Number);
    if (major === 3 && minor >= 10) return { path, version };
    tried.push(version);
  }
  return {
    problem: tried.length > 0 ? `Python 3.10 or newer is needed, and ${tried[0]} is what is here; install a newer one`
      : "Python 3.10 or newer is needed and none was found; install it (Debian: apt install python3 python3-venv)",
  };
}

/** sys.prefix of the Python that is active. */
export function pythonPrefix(): string {
  const python = findPython();
  if ("problem" in python) throw new SetupError(python.problem);
  return spawnSync(python.path, ["-c", "import sys; print(sys.prefix)"], { encoding: "utf8" }).stdout.trim();
}

/** Where a project's virtual environment has its programs. */
export const venvPython = (root: string): string => join(root, ".venv", process.platform === "win32" ? "Scripts/python.exe" : "bin/python");

const stampOf = (root: string): string => createHash("sha256").update(readFileSync(REQUIREMENTS)).update(venvPython(root)).digest("hex");
const stampFile = (root: string): string => join(root, ".venv", "kernel-lib-stamp");
const UNFINISHED = "unfinished";

/** Whether the project's environment is whole and of the pinned versions. */
export function labIsReady(root: string): boolean {
  return existsSync(venvPython(root)) && existsSync(stampFile(root)) && readFileSync(stampFile(root), "utf8") === stampOf(root);
}

/** Makes what is missing: the virtual environment with the pinned Jupyter, the kernelspec. Fast when nothing is. */
export function setUpLab(root: string, say: (line: string) => void): Lab {
  if (!labIsReady(root)) makeVenv(root, say);
  const lab: Lab = { root, python: venvPython(root), env: labEnvironment(root) };
  installKernel(lab.env.JUPYTER_DATA_DIR!, { relocatable: true });
  return lab;
}

function makeVenv(root: string, say: (line: string) => void): void {
  const folder = join(root, ".venv");
  if (existsSync(folder) && !existsSync(stampFile(root))) {
    // Somebody else's: used where it will do, never deleted.
    const check = "import sys, jupyterlab, nbclient, nbconvert; sys.exit(jupyterlab.version_info[0] != 4)";
    if (spawnSync(venvPython(root), ["-c", check]).status === 0) {
      writeFileSync(stampFile(root), stampOf(root));
      return;
    }
    throw new SetupError(`.venv is there but holds no JupyterLab 4 with nbclient and nbconvert; delete it, or run: ${venvPython(root)} -m pip install -r ${REQUIREMENTS}`);
  }
  const python = findPython();
  if ("problem" in python) throw new SetupError(python.problem);
  say(`making a virtual environment in .venv with Python ${python.version} (once; takes a minute)`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  writeFileSync(stampFile(root), UNFINISHED);
  run(python.path, ["-m", "venv", folder], "the virtual environment could not be made; install Python's venv (Debian: apt install python3-venv)");
  run(venvPython(root), ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "-r", REQUIREMENTS],
    "pip could not install JupyterLab; is there a way to PyPI (a proxy, an index of your own in pip.conf)?");
  writeFileSync(stampFile(root), stampOf(root));
}

function run(program: string, args: string[], problem: string): void {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: "utf8", maxBuffer: 1 << 26 });
  if (status === 0) return;
  const said = (error?.message ?? `${stdout}\n${stderr}`).trim().split("\n").filter(Boolean).slice(-3).join(" / ");
  throw new SetupError(`${problem}: ${said}`);
}

/** Points every folder that Jupyter and IPython would make in the home to one inside the project. */
export function labEnvironment(root: string): NodeJS.ProcessEnv {
  const own = join(root, ".jupyter");
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    // The kernelspec says "node": let it be this one.
    PATH: [dirname(process.execPath), dirname(venvPython(root)), process.env.PATH].filter(Boolean).join(delimiter),
    VIRTUAL_ENV: join(root, ".venv"),
    JUPYTER_CONFIG_DIR: join(own, "config"),
    JUPYTER_DATA_DIR: join(own, "share", "jupyter"),
    JUPYTER_RUNTIME_DIR: join(own, "runtime"),
    JUPYTERLAB_SETTINGS_DIR: join(own, "settings"),
    JUPYTERLAB_WORKSPACES_DIR: join(own, "workspaces"),
    IPYTHONDIR: join(own, "ipython"),
    JUPYTER_PLATFORM_DIRS: "0",
  };
  delete env.JUPYTER_PATH;
  delete env.PYTHONHOME;
  for (const name of ["config", "share/jupyter", "runtime", "settings", "workspaces", "ipython"]) mkdirSync(join(own, name), { recursive: true });
  const notices = join(own, "settings", "@jupyterlab", "apputils-extension", "notification.jupyterlab-settings");
  if (!existsSync(notices)) {
    mkdirSync(dirname(notices), { recursive: true });
    writeFileSync(notices, '{ "fetchNews": "false", "checkForUpdates": false }\n');
  }
  return env;
}

/** Arguments of `jupyter lab`: loopback alone, our kernel by default, no news and no questions. */
export function labArguments(folder: string): string[] {
  return [
    "-m", "jupyterlab", "--ServerApp.ip=127.0.0.1", `--ServerApp.root_dir=${folder}`, "--ServerApp.open_browser=False",
    `--MultiKernelManager.default_kernel_name=${KERNEL_NAME}`, "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    // A chart is one message of up to some megabytes, which the usual limit of 1 MB/s would drop.
    "--ZMQChannelsWebsocketConnection.iopub_data_rate_limit=1e9", "--ZMQChannelsWebsocketConnection.iopub_msg_rate_limit=1e5",
  ];
}

/** Starts JupyterLab and stays until it ends. */
export async function openLab(lab: Lab, folder: string, options: { browser: boolean; extra?: string[] }): Promise<number> {
  const args = labArguments(folder).map((arg) => (arg.startsWith("--ServerApp.open_browser") ? `--ServerApp.open_browser=${options.browser ? "True" : "False"}` : arg));
  const child = spawn(lab.python, [...args, ...(process.getuid?.() === 0 ? ["--allow-root"] : []), ...(options.extra ?? [])], { env: lab.env, stdio: "inherit", cwd: folder });
  return await new Promise((resolve, reject) => {
    child.on("error", reject);
    // Control-C goes to both; JupyterLab asks, then ends.
    process.on("SIGINT", () => {});
    process.on("SIGTERM", () => child.kill("SIGTERM"));
    child.on("exit", (code, signal) => resolve(code ?? (signal === "SIGINT" || signal === "SIGTERM" ? 0 : 1)));
  });
}

/** What happens while notebooks are executed. */
export type RunEvent =
  | { event: "notebook"; path: string; cells: number }
  | { event: "cell"; path: string; cell: number; cells: number; seconds: number }
  | { event: "done"; path: string; seconds: number; failure: string | null };

/** Executes notebooks, each in a kernel of its own, and writes the outputs into them. Returns what failed, by path. */
export async function executeNotebooks(lab: Lab, notebooks: string[], report: (event: RunEvent) => void): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  const child = spawn(lab.python, [join(PACKAGE, "kernel", "execute.py"), ...notebooks], { env: lab.env, stdio: ["ignore", "pipe", "pipe"] });
  const errors: string[] = [];
  child.stderr.setEncoding("utf8").on("data", (text: string) => errors.push(text));
  const ended = new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code ?? 1));
  });
  for await (const line of createInterface({ input: child.stdout })) {
    let event: RunEvent;
    try {
      event = JSON.parse(line) as RunEvent;
    } catch {
      continue;
    }
    if (event.event === "done" && event.failure) failures.set(event.path, event.failure);
    report(event);
  }
  if (await ended !== 0 && failures.size === 0) {
    const lines = errors.join("").trim().split("\n");
    throw new KernelLibError(`the notebooks could not be executed: ${lines.findLast((line) => /^[\w.]+(Error|Exception|Kernel)\b/.test(line)) ?? lines.at(-1)}`);
  }
  return failures;
}

/** A path as a person in the folder would write it. */
export const short = (path: string): string => relative(process.cwd(), path) || path;
