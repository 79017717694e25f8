// What an installation takes on disk, from the lock file alone, in a folder of its own.
import { spawnSync } from "node:child_process";
import { cpSync, lstatSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Bytes on disk, as du counts them; links are not followed. */
function onDisk(path) {
  const { blocks } = lstatSync(path);
  return blocks * 512 + (lstatSync(path).isDirectory() ? readdirSync(path).reduce((sum, name) => sum + onDisk(join(path, name)), 0) : 0);
}

/** npm ci with the arguments: bytes, and the largest packages. */
export function measureInstall(folder, args) {
  for (const name of ["package.json", "package-lock.json", "kernel-lib/package.json", "kernel-lib/bin"]) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    cpSync(join(ROOT, name), join(folder, name), { recursive: true });
  }
  const { status, stderr } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--ignore-scripts", ...args], { cwd: folder, encoding: "utf8" });
  if (status !== 0) throw new Error(`npm ci ${args.join(" ")} ended with ${status}: ${stderr.trim().split("\n")[0]}`);
  const modules = join(folder, "node_modules");
  const packages = readdirSync(modules).flatMap((name) => (name.startsWith("@") ? readdirSync(join(modules, name)).map((inner) => `${name}/${inner}`) : name.startsWith(".") ? [] : [name]));
  const sizes = packages.map((name) => [name, onDisk(join(modules, name))]).sort((a, b) => b[1] - a[1]);
  return { bytes: onDisk(modules), largest: Object.fromEntries(sizes.slice(0, 12)) };
}
