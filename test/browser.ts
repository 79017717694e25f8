import { spawnSync } from "node:child_process";
import { chromium, type Browser } from "playwright-core";

/** The Chromium of this machine; null where there is none. Under CI=true a missing one is an error, not a reason to skip. */
export const CHROMIUM = ((): string | null => {
  for (const name of [process.env.CHROMIUM, "/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]) {
    if (name && spawnSync(name, ["--version"]).status === 0) return name.includes("/") ? name : spawnSync("which", [name], { encoding: "utf8" }).stdout.trim();
  }
  if (process.env.CI === "true") throw new Error("the browser tests need Chromium and CI is true; install it: apt-get install chromium");
  return null;
})();

/** Why browser tests are skipped, for their names. */
export const NO_CHROMIUM = CHROMIUM ? "" : " (skipped: no Chromium here; apt-get install chromium, or set CHROMIUM)";

export async function startBrowser(): Promise<Browser> {
  return await chromium.launch({
    executablePath: CHROMIUM!, headless: true,
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}
