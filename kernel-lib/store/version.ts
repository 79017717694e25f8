import { readFileSync } from "node:fs";

/** The package's version, which files say of themselves. Read from package.json: beside the sources, one folder up from what is built. */
export const LIBRARY_VERSION: string = (() => {
  for (const place of ["../package.json", "../../package.json"]) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL(place, import.meta.url), "utf8")) as { name: string; version: string };
      if (name === "kernel-lib") return version;
    } catch { /* not there */ }
  }
  return "unknown";
})();
