import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { accounting, foldStacks, fromFolded, fromPerfScript, loadFolded, OptionError, ParseError, toFolded, writeFolded } from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { DATA, filesBelow, inChunks, PEER } from "../peer.js";

// stackcollapse-perf.pl --all of a node.js recording, cut short
const TEXT = `node-v011;__libc_start_main;node::Start;Stub:JSEntryStub_[j];LazyCompile:_tickDomainCallback node.js:387_[j] 1
java-?;[unknown];[perf-10939.map]_[j] 23
qemu-system-aar;_start;main;ppoll;el0_sync_[k] 8063588
`;

describe("fromFolded", () => {
  it("takes the weight from behind the last blank", () => {
    const stacks = fromFolded(TEXT);
    expect(stacks.objects()).toEqual([
      { stack: "node-v011;__libc_start_main;node::Start;Stub:JSEntryStub_[j];LazyCompile:_tickDomainCallback node.js:387_[j]", value: 1 },
      { stack: "java-?;[unknown];[perf-10939.map]_[j]", value: 23 },
      { stack: "qemu-system-aar;_start;main;ppoll;el0_sync_[k]", value: 8063588 },
    ]);
    expect(toFolded(stacks)).toBe(TEXT);
  });

  it("reads decimals, empty lines and blanks at the end; a line without weight is not understood", () => {
    const stacks = fromFolded("a;b 1.5\n\na;c 2  \r\na;d\na;e x1\n7\n");
    expect(stacks.objects()).toEqual([{ stack: "a;b", value: 1.5 }, { stack: "a;c", value: 2 }]);
    expect(accounting(stacks)).toMatchObject({ lines: 6, rows: 2, header: 1, notUnderstood: 3, unknown: [{ line: 4, text: "a;d" }, { line: 5, text: "a;e x1" }, { line: 6, text: "7" }] });
    expect(() => fromFolded("no weight here\n")).toThrow(ParseError);
    expect(fromFolded("").numRows()).toBe(0);
  });

  it.each([1, 7, 4096])("gives the same from chunks of %i bytes, and accounts for damaged text", async (n) => {
    const bytes = Buffer.from(TEXT);
    const stacks = await loadFolded(inChunks(bytes, n), { quiet: true });
    expectExact(stacks, bytes);
    expect(stacks.objects()).toEqual(fromFolded(TEXT).objects());
    expectExactWhenMutated(fromFolded, bytes);
  });
});

describe("toFolded", () => {
  const frame = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).map((text) => text.replace(/[\r\n;]/g, "") || "f");
  const row = fc.tuple(fc.array(frame, { minLength: 1, maxLength: 6 }).map((frames) => frames.join(";")), fc.oneof(fc.nat(), fc.double({ min: 0, noNaN: true, noDefaultInfinity: true })));

  it("is read back as the same rows", () => {
    fc.assert(fc.property(fc.array(row, { minLength: 1, maxLength: 30 }), (rows) => {
      const text = rows.map(([stack, value]) => `${stack} ${value}\n`).join("");
      const stacks = fromFolded(text);
      expect(stacks.objects()).toEqual(rows.map(([stack, value]) => ({ stack, value })));
      expect(toFolded(stacks)).toBe(text);
    }), { seed: 20240601 });
  });

  it("keeps the order and filter of the table", () => {
    const stacks = fromFolded(TEXT).filter((row: any) => row.value > 1).orderby("value");
    expect(toFolded(stacks)).toBe("java-?;[unknown];[perf-10939.map]_[j] 23\nqemu-system-aar;_start;main;ppoll;el0_sync_[k] 8063588\n");
  });

  it("refuses tables that hold no stacks", () => {
    expect(() => toFolded(fromFolded(TEXT).select("stack"))).toThrow(OptionError);
    expect(() => toFolded(fromFolded(TEXT).derive({ value: () => NaN }))).toThrow(/row 0 is NaN/);
  });

  it("writes files that loadFolded reads", async () => {
    const folder = mkdtempSync(join(tmpdir(), "folded-"));
    try {
      const stacks = foldStacks(fromPerfScript(readFileSync(join(DATA, "talk", "perf-script-host.txt"))));
      await writeFolded(stacks, join(folder, "out.folded"));
      expect((await loadFolded(join(folder, "out.folded"), { quiet: true })).objects()).toEqual(stacks.objects());
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe.skipIf(!PEER)("folded stacks of FlameGraph and inferno (KERNEL_LIB_PEER_DATA)", () => {
  it("are written as they were read", () => {
    const files = filesBelow(join(PEER!, "perf-script"), /\.folded$/);
    expect(files.length).toBeGreaterThan(40);
    for (const path of files) {
      const text = readFileSync(path, "utf8");
      expect(toFolded(fromFolded(text))).toBe(text);
    }
  });
});
