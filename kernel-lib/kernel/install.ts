import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const KERNEL_NAME = "kernel-lib";
/** The folder of this package, also when it runs from dist/. */
export const PACKAGE = ((): string => {
  const here = dirname(fileURLToPath(import.meta.url));
  return /[\\/]dist[\\/]kernel$/.test(here) ? resolve(here, "../..") : resolve(here, "..");
})();

/** Where the kernels of a user stand: Jupyter's own rule. */
export function userFolder(): string {
  const data = process.env.JUPYTER_DATA_DIR;
  if (data) return data;
  if (process.platform === "darwin") return join(homedir(), "Library", "Jupyter");
  if (process.platform === "win32") return join(process.env.APPDATA ?? homedir(), "jupyter");
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), ".local", "share"), "jupyter");
}

/**
 * Writes the kernelspec into a folder of Jupyter's (`…/share/jupyter`) and returns its path. With `relocatable`, the spec finds this
 * package by the way from there to here, so that both can be moved together; else by its absolute path and this very Node.
 */
export function installKernel(jupyterFolder: string, options: { relocatable?: boolean } = {}): string {
  const target = join(resolve(jupyterFolder), "kernels", KERNEL_NAME);
  const from = join(PACKAGE, "kernel", "kernelspec");
  const spec = JSON.parse(readFileSync(join(from, "kernel.json"), "utf8")) as { argv: string[] };
  const bin = join(realpathSync(PACKAGE), "bin", "kernel-lib.js");
  spec.argv = spec.argv.map((word) => {
    if (word === "node" && !options.relocatable) return process.execPath;
    if (!word.endsWith("/bin/kernel-lib.js")) return word;
    return options.relocatable ? `{resource_dir}/${relative(target, bin).split("\\").join("/")}` : bin;
  });
  const text = `${JSON.stringify(spec, null, 2)}\n`;
  const file = join(target, "kernel.json");
  if (existsSync(file) && readFileSync(file, "utf8") === text) return target;
  mkdirSync(target, { recursive: true });
  cpSync(from, target, { recursive: true });
  writeFileSync(file, text);
  return target;
}
