import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROOT } from "../peer.js";
import { HAS_JUPYTER, NO_JUPYTER, session, streamText } from "./session.js";

describe.skipIf(!HAS_JUPYTER)(`the library in plain tslab, without our kernel${NO_JUPYTER}`, () => {
  let folder = "";
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "plain-tslab-"));
    const tslab = join(dirname(createRequire(import.meta.url).resolve("tslab/package.json")), "bin", "tslab");
    mkdirSync(join(folder, "kernels", "plain"), { recursive: true });
    writeFileSync(join(folder, "kernels", "plain", "kernel.json"), JSON.stringify({ display_name: "plain", language: "typescript", argv: [process.execPath, tslab, "kernel", "--config-path", "{connection_file}"] }));
  });
  afterAll(() => { rmSync(folder, { recursive: true }); });

  it("shows tables, charts and checks where show is called", async () => {
    const [cell] = await session([{ execute: `
      import * as kl from "kernel-lib";
      import * as aq from "arquero";
      console.log("first");
      kl.show(aq.table({ comm: ["a<b"] }));
      kl.show({ $schema: "https://vega.github.io/schema/vega-lite/v5.json", data: { values: [{ x: 1 }] }, mark: "point", encoding: { x: { field: "x", type: "quantitative" } } });
      kl.check(true, "holds");` }], join(ROOT, "notebooks"), { kernel: "plain", path: folder });
    expect(streamText(cell.outputs)).toContain("first");
    const shown = cell.outputs.filter((o: any) => o.type === "display_data").map((o: any) => o.data);
    expect(shown[0]["text/html"]).toContain("a&lt;b");
    expect(Object.keys(shown[1])).toEqual(["application/vnd.vegalite.v5+json", "image/png", "text/plain"]);
    expect(shown[2]["text/plain"]).toBe("✓ holds");
  });
});
