import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { renderChart } from "../chart/render.js";
import { TSLAB_VERSION } from "./compiler.js";
import { KERNEL_NAME, userFolder } from "./install.js";
import { findPython, labEnvironment, labIsReady, venvPython } from "./lab.js";

export interface Finding {
  what: string;
  ok: boolean;
  /** Whether nothing works without it. */
  needed: boolean;
  /** What was found, or what to do. */
  text: string;
}

/** Looks at everything that the kernel and the lab stand on. */
export function examine(root: string): Finding[] {
  const require = createRequire(import.meta.url);
  const findings: Finding[] = [{ what: "Node", ok: true, needed: true, text: process.versions.node }];
  const add = (what: string, needed: boolean, ok: boolean, text: string) => { findings.push({ what, ok, needed, text }); };
  const attempt = (what: string, remedy: string, look: () => string) => {
    try {
      add(what, true, true, look());
    } catch (error) {
      add(what, true, false, `${remedy} (${(error as Error).message.split("\n")[0]})`);
    }
  };

  attempt("tslab", "install the packages: npm ci", () => {
    const { version } = require("tslab/package.json");
    if (version !== TSLAB_VERSION) throw new Error(`found ${version}, needs ${TSLAB_VERSION}`);
    createRequire(require.resolve("tslab"))("zeromq");
    return version;
  });
  attempt("charts", "install the packages for this system: npm ci", () => {
    const { png } = renderChart({ data: { values: [{}] }, mark: { type: "text", text: "x" } });
    return png ? `drawn with their fonts (${png.length} bytes of PNG)` : "drawn; their PNGs by WebAssembly";
  });

  const python = findPython();
  if ("problem" in python) add("Python", true, false, python.problem);
  else {
    add("Python", true, true, `${python.version} (${python.path})`);
    const venv = spawnSync(python.path, ["-c", "import venv, ensurepip"]).status === 0;
    add("Python's venv", true, venv, venv ? "there" : "install it (Debian: apt install python3-venv)");
  }
  const ready = labIsReady(root);
  const version = ready ? spawnSync(venvPython(root), ["-m", "jupyterlab", "--version"], { encoding: "utf8", env: labEnvironment(root) }).stdout.trim() : "";
  add("JupyterLab", false, ready, ready ? `${version} in .venv` : "not set up in this project; npm start, or kernel-lib lab, does it");

  const places = [join(root, ".jupyter", "share", "jupyter"), userFolder()].map((folder) => join(folder, "kernels", KERNEL_NAME));
  const found = places.filter((place) => existsSync(join(place, "kernel.json")));
  add("kernel", false, found.length > 0, found.length > 0 ? `known to Jupyter in ${found.join(" and ")}` : "known to no Jupyter yet; kernel-lib install, or npm start, does it");

  const chromium = [process.env.CHROMIUM, "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"].find((name) => name && spawnSync(name, ["--version"]).status === 0);
  add("Chromium", false, chromium !== undefined, chromium ?? "not found; the browser tests alone need it (Debian: apt install chromium, or set CHROMIUM)");
  return findings;
}
