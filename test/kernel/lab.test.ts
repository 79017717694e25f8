import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { labArguments, labEnvironment, venvPython } from "../../kernel-lib/kernel/lab.js";
import { CHROMIUM, NO_CHROMIUM, startBrowser } from "../browser.js";
import { ROOT } from "../peer.js";
import { HAS_JUPYTER, NO_JUPYTER } from "./session.js";

const cells = [
  'import * as kl from "kernel-lib";\nimport * as aq from "arquero";\naq.table({ comm: ["<b>evil</b>", "vhost-936"], n: [48211, 7] })',
  `const bars = { $schema: "https://vega.github.io/schema/vega-lite/v5.json", title: "Exits by reason", width: 300,
  data: { values: [{ reason: "WFx", n: 5 }, { reason: "DABT_LOW", n: 3 }] }, mark: "bar",
  encoding: { y: { field: "reason", type: "nominal" }, x: { field: "n", type: "quantitative" } } };\nbars`,
  'kl.md`**Reading:** WFx is ${5} of ${8} exits.`',
  'kl.flameGraph(kl.fromFolded("qemu;writev;tun_get_user 50\\nqemu;ioctl;kvm_run 30\\nvhost-936;tun_get_user 20\\n"))',
  'function careful(): never { throw new RangeError("too careful"); }\ncareful();',
];

describe.skipIf(!CHROMIUM || !HAS_JUPYTER)(`JupyterLab in a browser${NO_CHROMIUM}${NO_JUPYTER}`, () => {
  let folder = "", address = "", token = "";
  let server: ChildProcess, browser: Browser;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "kernel-lib-lab-"));
    const notebook = {
      cells: cells.map((source, i) => ({ cell_type: "code", id: `c${i}`, source, metadata: {}, outputs: [], execution_count: null })),
      metadata: { kernelspec: { name: "kernel-lib", display_name: "TypeScript (kernel-lib)", language: "typescript" } }, nbformat: 4, nbformat_minor: 5,
    };
    writeFileSync(join(folder, "exits.ipynb"), JSON.stringify(notebook));
    token = Math.random().toString(36).slice(2);
    server = spawn(venvPython(ROOT), [...labArguments(folder), "--ServerApp.port=0", `--IdentityProvider.token=${token}`, "--allow-root"], { env: labEnvironment(ROOT), stdio: ["ignore", "ignore", "pipe"] });
    address = await new Promise((resolve, reject) => {
      let said = "";
      server.stderr!.setEncoding("utf8").on("data", (text: string) => {
        said += text;
        const found = said.match(/http:\/\/127\.0\.0\.1:\d+/);
        if (found) resolve(found[0]);
      });
      server.on("exit", () => { reject(new Error(`JupyterLab did not start:\n${said}`)); });
    });
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    const ended = new Promise((resolve) => server.on("exit", resolve));
    server.kill("SIGTERM");
    await ended;
    rmSync(folder, { recursive: true });
  });

  async function openNotebook(path: string): Promise<Page> {
    const page = await browser.newPage({ viewport: { width: 1300, height: 1500 } });
    await page.goto(`${address}/lab/tree/${path}?token=${token}&reset`);
    await page.waitForSelector(".jp-NotebookPanel .jp-Cell", { timeout: 60_000 });
    // The notebook knows its kernel: nobody asks which.
    await page.waitForSelector(".jp-NotebookPanel-toolbar >> text=TypeScript (kernel-lib)", { timeout: 60_000 });
    return page;
  }

  async function menu(page: Page, name: string, item: string): Promise<void> {
    await page.click(`.lm-MenuBar-itemLabel:text-is("${name}")`);
    await page.click(`.lm-Menu-itemLabel:text-is("${item}")`);
  }

  it("runs a notebook: a table, a chart that is drawn, a sentence, an error that is an error", async () => {
    const page = await openNotebook("exits.ipynb");
    await menu(page, "Run", "Run All Cells");
    const output = (n: number) => page.locator(".jp-CodeCell").nth(n).locator(".jp-OutputArea-output");
    await output(4).first().waitFor({ timeout: 60_000 });
    expect(await output(0).locator("td").allTextContents()).toEqual(["<b>evil</b>", "48,211", "vhost-936", "7"]);
    const drawn = output(1).locator(".vega-embed canvas, .vega-embed svg").first();
    await drawn.waitFor();
    const box = (await drawn.boundingBox())!;
    expect(box.width).toBeGreaterThan(300);
    expect(await output(2).innerText()).toBe("Reading: WFx is 5 of 8 exits.");
    expect(await output(4).innerText()).toMatch(/RangeError: too careful\n\s+at careful In\[5\]:1:\d+/);
    expect(await output(4).first().getAttribute("data-mime-type")).toBe("application/vnd.jupyter.stderr");
    // Code is coloured as TypeScript.
    expect(await page.locator(".jp-CodeCell").nth(0).locator(".cm-line span").count()).toBeGreaterThan(5);
    expect(await page.locator("text=Would you like to").count()).toBe(0);

    // A click on a frame zooms the flame graph, a click on the whole zooms out: seen in the pixels, for it is drawn on a canvas.
    const graph = output(3).locator("canvas");
    await graph.scrollIntoViewIfNeeded();
    const { height } = (await graph.boundingBox())!;
    const look = async (): Promise<string> => {
      await page.mouse.move(5, 5);
      return (await graph.screenshot()).toString("base64");
    };
    const whole = await look();
    // 50 of 100 wide: writev, the third of four levels from below; the lowest is the whole.
    await graph.click({ position: { x: 100, y: height - 6 - 2.5 * 16 } });
    await expect.poll(look).not.toBe(whole);
    if (process.env.KERNEL_LIB_SCREENSHOTS) await page.screenshot({ path: join(process.env.KERNEL_LIB_SCREENSHOTS, "zoomed.png") });
    await graph.click({ position: { x: 100, y: height - 6 - 0.5 * 16 } });
    await expect.poll(look).toBe(whole);
    if (process.env.KERNEL_LIB_SCREENSHOTS) await page.screenshot({ path: join(process.env.KERNEL_LIB_SCREENSHOTS, "lab.png") });
    await page.close();
  });

  it("offers our kernel for a new notebook", async () => {
    const page = await browser.newPage();
    await page.goto(`${address}/lab?token=${token}&reset`);
    await page.waitForSelector('.jp-LauncherCard[title*="TypeScript (kernel-lib)"]', { timeout: 60_000 });
    const specs = await page.evaluate("fetch(`/api/kernelspecs`).then((r) => r.json())") as { default: string };
    expect(specs.default).toBe("kernel-lib");
    await page.close();
  });
});
