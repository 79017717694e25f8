import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { table } from "arquero";
import { bundleOf, flameGraph, fromFolded, md } from "kernel-lib";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reportHtml, writeReport } from "../../kernel-lib/notebook/report.js";
import { CHROMIUM, NO_CHROMIUM, startBrowser } from "../browser.js";

const EVIL = '<img src=x onerror="document.title=\'taken\'"></script><script>document.title="taken"</script>';
const chart = (title: string) => ({
  $schema: "https://vega.github.io/schema/vega-lite/v5.json", title, width: 300, usermeta: { embedOptions: { actions: { editor: true } } },
  data: { values: [{ reason: EVIL, n: 3 }, { reason: "WFx", n: 5 }] }, mark: { type: "bar", tooltip: true },
  encoding: { y: { field: "reason", sort: "-x", axis: { labelLimit: 80 } }, x: { field: "n", type: "quantitative", title: "exits" } },
});
const result = (value: unknown) => ({ output_type: "execute_result", execution_count: 1, ...bundleOf(value) });
const code = (source: string, ...outputs: object[]) => ({ cell_type: "code", source: source.split(/(?<=\n)/), outputs });
const text = (source: string) => ({ cell_type: "markdown", source });

let folder = "";
let first = "", second = "", file = "";
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "kernel-lib-report-"));
  first = join(folder, "01-exits.ipynb");
  second = join(folder, "02-kicks.ipynb");
  file = join(folder, "report.html");
  const write = (path: string, cells: object[]) => { writeFileSync(path, JSON.stringify({ cells, metadata: {}, nbformat: 4, nbformat_minor: 5 })); };
  write(first, [
    text("# What an exit costs\n\nSee [the kicks](02-kicks.ipynb) and [elsewhere](https://example.org/).\n\n## How many\n"),
    code('const t: string = "x"; // counts\nt', result(table({ comm: [EVIL], n: [48211] }))),
    text("## Where `time` goes\n\n<details><summary>Answer</summary>\n\nIn **WFx**.\n\n</details>"),
    code("chart", result(chart("Exits by reason")), { output_type: "stream", name: "stdout", text: [`\u001b[31m${EVIL}\u001b[0m\n`] }),
    code("kl.md", result(md`**Reading:** ${EVIL} and ${1234}`)),
    code("boom()", { output_type: "error", ename: "Error", evalue: EVIL, traceback: [`\u001b[31mError\u001b[0m: ${EVIL}`] }),
  ]);
  write(second, [text("# Kicks"), ...Array.from({ length: 30 }, (_, i) => text(`Paragraph ${i}\n\n- a\n- b\n- c\n`)), text("## A late chart"), code("c", result(chart("Far below"))),
    text("## Tables"),
    code("prose", result(table({ claim: ["vhost-net answers a kick in a third of the time"], evidence: ["kick → tun_get_user, median of 3 repeats on each side"], method: ["repeats; Welch's t on logarithms, 2.6 degrees of freedom"], recordings: ["trace-cmd.nsec.txt, trace-cmd-r2, trace-cmd-r3"] }))),
    code("wide", result(table(Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`column_${i}`, [1e6 + i]]))))),
    text("## A flame graph"), code("f", result(flameGraph(fromFolded("qemu;writev;tun_get_user 50\nqemu;ioctl;kvm_run 30\nvhost-936;tun_get_user 20\n"))))]);
  await writeReport([first, second], file);
});
afterAll(() => { rmSync(folder, { recursive: true }); });

describe("the report", () => {
  it("holds contents, text, code, tables and each chart once, with its picture", () => {
    const html = readFileSync(file, "utf8");
    expect(html).toContain("<title>What an exit costs</title>");
    expect(html).toContain('<a href="#01-exits%2Ftop">What an exit costs</a>');
    expect(html).toContain(">Where time goes</a>");
    expect(html).toContain('<a href="#02-kicks">the kicks</a>');
    expect(html).toContain("<td style=\"text-align:right;white-space:nowrap\">48,211</td>");
    expect(html).toContain('<span class="k">const</span> t: string = <span class="s">&quot;x&quot;</span>; <span class="c">// counts</span>');
    expect(html.match(/<figure class="chart" data-chart="\d+"><img alt="[^"]*" width="\d+" height="\d+" src="data:image\/png;base64,/g)).toHaveLength(3);
    expect(html.match(/vega-lite\/v5\.json/g)!.length).toBeGreaterThanOrEqual(2);
    expect(html.match(/<script>/g)).toHaveLength(4);
    expect(html.length).toBeLessThan(1_500_000);
  });

  it("names no script, style or picture from elsewhere and lets no text become markup", () => {
    const html = readFileSync(file, "utf8");
    expect(html.includes("<img src=x")).toBe(false);
    expect(html.includes("</script><script>document")).toBe(false);
    const outside = html.replace(/<script[\s\S]*?<\/script>/g, "").match(/<(script|link|img|iframe)[^>]+(src|href)="(?!data:)[^>]*/);
    expect(outside).toBeNull();
  });

  it("says what is wrong with a file that is no notebook", () => {
    const path = join(folder, "x.ipynb");
    writeFileSync(path, "not json");
    expect(() => reportHtml([path])).toThrow("this is no notebook: not JSON");
    writeFileSync(path, "{}");
    expect(() => reportHtml([path])).toThrow("this is no notebook of format 4");
  });
});

describe.skipIf(!CHROMIUM)(`the report in a browser without network${NO_CHROMIUM}`, () => {
  let browser: Browser;
  beforeAll(async () => { browser = await startBrowser(); });
  afterAll(async () => { await browser.close(); });

  async function open(options: { javaScriptEnabled?: boolean; width?: number } = {}) {
    const context = await browser.newContext({ offline: true, viewport: { width: options.width ?? 1280, height: 800 }, javaScriptEnabled: options.javaScriptEnabled ?? true });
    const page = await context.newPage();
    const requests: string[] = [], problems: string[] = [];
    page.on("request", (request) => { if (!request.url().startsWith("data:")) requests.push(request.url()); });
    page.on("console", (message) => { if (["error", "warning"].includes(message.type())) problems.push(message.text()); });
    page.on("pageerror", (error) => problems.push(error.message));
    await page.goto(pathToFileURL(file).href);
    return { page, requests, problems, close: () => context.close() };
  }

  it("draws its charts live, the far one when it is reached, and asks for nothing", async () => {
    const { page, requests, problems, close } = await open();
    await page.waitForSelector('figure[data-chart="0"][data-drawn="live"] svg');
    expect(await page.getAttribute('figure[data-chart="1"]', "data-drawn")).toBeNull();
    await page.click("nav >> text=Kicks");
    await page.click("nav >> text=A late chart");
    await page.waitForSelector('figure[data-chart="1"][data-drawn="live"] svg');
    expect(await page.textContent('figure[data-chart="1"] svg')).toContain("Far below");
    await page.waitForSelector("nav a.here >> text=A late chart");
    expect(await page.title()).toBe("What an exit costs");
    expect(requests).toEqual([pathToFileURL(file).href]);
    expect(problems).toEqual([]);
    await close();
  });

  it("shows a tooltip, unfolds code, offers a picture to save but no editor elsewhere", async () => {
    const { page, close } = await open();
    await page.waitForSelector('figure[data-chart="0"][data-drawn="live"] svg');
    await page.hover('figure[data-chart="0"] svg .mark-rect path >> nth=1');
    await page.waitForSelector("#vg-tooltip-element.visible");
    expect(await page.innerHTML("#vg-tooltip-element")).not.toContain("<img");
    expect(await page.isVisible("details.code pre >> nth=0")).toBe(false);
    await page.click("text=Show code");
    expect(await page.isVisible("details.code pre >> nth=0")).toBe(true);
    expect(await page.locator("figure .vega-actions a").allTextContents()).toEqual(["Save as SVG", "Save as PNG"]);
    await close();
  });

  it("zooms into a flame graph's frame on click, out again, and finds what is searched", async () => {
    const { page, problems, close } = await open();
    await page.click("nav >> text=Kicks");
    await page.click("nav >> text=A flame graph");
    const graph = page.locator('figure[data-chart="2"]');
    await page.waitForSelector('figure[data-chart="2"][data-drawn="live"] svg');
    const frames = graph.locator("svg .mark-rect.role-mark path");
    const names = async () => (await graph.locator("svg .mark-text.role-mark text").allTextContents()).filter((name) => /^[\w-]+$/.test(name)).sort();
    const before = await names();
    expect(before).toEqual(["all", "ioctl", "kvm_run", "qemu", "tun_get_user", "tun_get_user", "vhost-936", "writev"]);
    const whole = (await graph.locator("svg text", { hasText: /^all$/ }).boundingBox())!.x;
    await graph.locator("svg text", { hasText: /^ioctl$/ }).click();
    await expect.poll(names).toEqual(["all", "ioctl", "kvm_run", "qemu"]);
    // The frame now has the whole width: its name begins where that of the whole does.
    expect(Math.abs((await graph.locator("svg text", { hasText: /^ioctl$/ }).boundingBox())!.x - whole)).toBeLessThan(2);
    await graph.locator("svg text", { hasText: /^all$/ }).click();
    await expect.poll(names).toEqual(before);
    await graph.locator("input").fill("TUN_get");
    await expect.poll(async () => await graph.locator("svg.marks").textContent()).toContain("found: 2 frames");
    expect(await frames.evaluateAll((paths) => paths.filter((path) => path.getAttribute("fill") === "#c800c8").length)).toBe(2);
    expect(problems).toEqual([]);
    await close();
  });

  it.each([1280, 800])("fits tables of prose into %i px, and shows where a wider one goes on", async (width) => {
    const { page, close } = await open({ width });
    await page.click("nav >> text=Kicks");
    const [prose, wide] = [1, 2].map((i) => page.locator(".kernel-lib-table").nth(i));
    const overflow = (of: typeof prose) => of.evaluate((box) => box.scrollWidth - box.clientWidth);
    expect(await overflow(prose)).toBeLessThanOrEqual(0);
    expect(await overflow(wide)).toBeGreaterThan(300);
    await wide.scrollIntoViewIfNeeded();
    // A shadow at the edge behind which there is more, and none where all is seen.
    const edge = async (x: number) => {
      const { y, height } = (await wide.boundingBox())!, right = (await wide.boundingBox())!.x + (await wide.boundingBox())!.width;
      const clip = { x: x < 0 ? right + x : (await wide.boundingBox())!.x + x, y: y + height - 14, width: 2, height: 2 };
      return (await page.screenshot({ clip })).toString("base64");
    };
    const [left, right] = [await edge(1), await edge(-3)];
    expect(left).not.toBe(right);
    await wide.evaluate((box) => { box.scrollLeft = box.scrollWidth; });
    expect(await edge(1)).not.toBe(left);
    expect(await edge(-3)).not.toBe(right);
    await close();
  });

  it("shows the pictures where scripts are off, and fits a phone", async () => {
    const still = await open({ javaScriptEnabled: false });
    expect(await still.page.isVisible("figure[data-chart] img")).toBe(true);
    await still.close();
    const { page, close } = await open({ width: 390 });
    expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(390);
    await close();
  });
});
