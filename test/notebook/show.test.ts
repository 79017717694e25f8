import { op, table } from "arquero";
import { bundleOf, check, CheckError, fromFolded, fromPerfScript, fromTraceCmd, md, show } from "kernel-lib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { tableOf, type Columns } from "../../kernel-lib/source/columns.js";

const columns = {
  ts: { type: "number", unit: "ns", meaning: "When." },
  pid: { type: "number", unit: null, meaning: "Thread id." },
  comm: { type: "string", unit: null, meaning: "Name of the thread, \"quoted\".", null: "the tool did not say" },
  handling: { type: "number", unit: "ns", meaning: "From exit to entry.", null: "the trace ends" },
  bytes: { type: "number", unit: "bytes", meaning: "Bytes moved." },
  rate: { type: "number", unit: "bit/s", meaning: "Bit rate." },
  share: { type: "number", unit: "%", meaning: "Share." },
  n: { type: "number", unit: "count", meaning: "How many." },
} as const satisfies Columns;

const rows = tableOf(columns, [
  { ts: 1234567890123, pid: 48211, comm: "qemu-system-aar", handling: 5340, bytes: 3 * 2 ** 30, rate: 1.24e9, share: 30.19, n: 1234567 },
  { ts: 1234567891000, pid: 7, comm: null, handling: null, bytes: 2 ** 30, rate: 0.9e9, share: 4.02, n: 2 },
]);

const html = (value: unknown, options = {}): string => String(bundleOf(value, options).data["text/html"]);
const text = (value: unknown, options = {}): string => String(bundleOf(value, options).data["text/plain"]);

describe("a table", () => {
  it("is aligned, in units that people read, one per column", () => {
    expect(text(rows)).toBe([
      "            ts    pid  comm             handling  bytes    rate  share          n",
      "             s                                µs    GiB  Gbit/s      %",
      "1234.567890123  48211  qemu-system-aar      5.34      3    1.24  30.19  1,234,567",
      "1234.567891000      7                                 1    0.90   4.02          2",
      "2 rows",
    ].join("\n"));
  });

  it("says in HTML what each column means", () => {
    expect(html(rows)).toContain('<th style="text-align:right;vertical-align:bottom" title="From exit to entry.\nnull: the trace ends">handling<br>');
    expect(html(rows)).toContain("&quot;quoted&quot;");
    expect(html(rows)).toContain('<td style="text-align:right;white-space:nowrap">5.34</td>');
  });

  it("lets prose break into lines, but no name or number", () => {
    const prose = "ratio of two runs' means", long = "blocks of 100 ms; bootstrap of the ratio of two means, 2000 resamples";
    const shown = html(table({ method: [prose, long], file: ["perf-script-host-guestmount.txt.gz", "a b"], n: [1, 2] })).replaceAll("&nbsp;", " ");
    const style = (text: string): string => new RegExp(`<td style="([^"]*)"[^>]*>${text.replace(/[.'()]/g, (c) => (c === "'" ? "&#39;" : `\\${c}`))}<`).exec(shown)![1];
    expect(style(prose)).toContain("white-space:normal");
    expect(style(long)).toContain("white-space:normal");
    expect(style("perf-script-host-guestmount.txt.gz")).toContain("white-space:nowrap");
    expect(style("a b")).toContain("white-space:nowrap");
    expect(html(table({ claim: ["a WFx takes 455 µs on average, 90 % of it asleep; 3 segments"] }))).toContain("455&nbsp;µs on average, 90&nbsp;% of it asleep; 3 segments");
  });

  it("keeps what is known of a column through verbs, and takes units for columns of the notebook's own", () => {
    const summary = rows.groupby("comm").rollup({ handling: op.max("handling"), p50: op.median("handling") });
    expect(text(summary, { units: { p50: "ns" } }).split("\n").slice(0, 3)).toEqual([
      "comm             handling   p50", "                       µs    µs", "qemu-system-aar      5.34  5.34",
    ]);
  });

  it("shows the first rows of many, in the table's order, and says of how many", () => {
    const many = table({ i: Array.from({ length: 48_211 }, (_, i) => i) });
    expect(text(many)).toBe("i\n0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10 of 48,211 rows");
    const some = many.filter("d => d.i % 1000 === 3").orderby("i").reify().orderby((d: any) => -d.i);
    expect(text(some, { rows: 2 })).toBe("     i\n48,003\n47,003\n2 of 49 rows");
    expect(text(many.filter("d => d.i % 1000 === 3"), { rows: 3 })).toBe("    i\n    3\n1,003\n2,003\n3 of 49 rows");
    expect(html(many).match(/<tr>/g)).toHaveLength(11);
    expect(text(many, { rows: 0 })).toBe("i\n0 of 48,211 rows");
  });

  it("of nothing is shown too", () => {
    expect(text(table({}))).toBe("0 rows");
    expect(text(tableOf(columns, []))).toMatch(/^ts.*\n[\s\S]*0 rows$/);
    expect(html(table({ a: [] }))).toContain("0 rows");
  });

  it("lets nothing of a traced machine become markup", () => {
    const evil = '<img src=x onerror="alert(1)">\'&';
    const shown = html(table({ [evil]: [evil, `${evil}${"x".repeat(300)}`] }));
    expect(shown).not.toMatch(/<img|onerror="/);
    expect(shown).toContain("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&#39;&amp;");
    expect(shown).toContain("…</td>");
    const hidden = table({ comm: ["a\u202eb\u0007\u001b[31m"] });
    expect(html(hidden)).toContain("a\\u202eb\\u0007\\u001b[31m");
    expect(text(hidden)).toContain("a\\u202eb\\u0007\\u001b[31m");
  });

  it.each([
    ["mixed kinds", [1, "a", null], ["1", "a", ""]],
    ["fractions", [0.5, 12.25, 3], [" 0.50", "12.25", " 3.00"]],
    ["tiny", [1e-7, 2.5e-7], ["1.000e-7", "2.500e-7"]],
    ["booleans", [true, false], ["true", "false"]],
    ["big integers", [2n ** 64n], ["18446744073709551616"]],
    ["not numbers", [NaN, 1], ["NaN", "  1"]],
    ["lists", [[1, 2], [3]], ["[1,2]", "[3]"]],
    ["negative", [-1500, 20], ["-1,500", "    20"]],
  ])("writes %s", (_, values, expected) => {
    expect(text(table({ x: values as any[] })).split("\n").slice(1, -1)).toEqual(expected);
  });
});

describe("other values", () => {
  it("text stays text, objects are inspected, objects that can show themselves do", () => {
    expect(bundleOf("<b>")).toEqual({ data: { "text/plain": "<b>" }, metadata: {} });
    expect(text({ a: { b: [1] } })).toBe("{ a: { b: [ 1 ] } }");
    const own = { [Symbol.for("Jupyter.display")]: () => ({ "text/plain": "mine" }) };
    expect(text(Promise.resolve(1))).toBe("a promise: put await before it to see its value");
    expect(bundleOf(own).data).toEqual({ "text/plain": "mine" });
  });

  it("markdown takes numbers written well and names made harmless", () => {
    const sentence = md`**${"a*b_<i>`[x](y)"}** needs ${1234.5678}, ${0.012345}, ${48211} and ${md`*this*`} of ${30.19} and ${NaN}`;
    expect(sentence.markdown).toBe("**a\\*b\\_&lt;i\\>\\`\\[x\\](y)** needs 1,235, 0.0123, 48,211 and *this* of 30.2 and NaN");
    expect(bundleOf(sentence).data["text/markdown"]).toBe(sentence.markdown);
  });

  it("an accounting is a short list", async () => {
    const { accounting } = await import("kernel-lib");
    const profile = fromFolded("a;b 3\nnot folded\n");
    expect(text(accounting(profile))).toMatch(/not understood\s+1\nline 2\s+not folded/);
  });
});

describe("recordings", () => {
  it("a trace is told by what it holds", () => {
    // trace-cmd report -t (trace-cmd 3.1.6, arm64)
    const trace = fromTraceCmd("cpus=4\n"
      + "       trace-cmd-399   [001]   684.596885184: sched_stat_runtime:   comm=trace-cmd pid=399 runtime=494720 [ns] vruntime=9340500729 [ns]\n"
      + "       trace-cmd-399   [001]   684.596889680: sched_switch:         trace-cmd:399 [120] S ==> swapper/1:0 [120]\n", { name: "runs/trace-cmd.txt" });
    expect(text(trace).split("\n").map((line) => line.replace(/ {2,}/, ": "))).toEqual([
      "trace: trace-cmd.txt", "events: 2", "time span: 4.50 µs", "CPUs: 4", "event types: 2: sched_stat_runtime 1, sched_switch 1", "lost: nothing",
    ]);
    expect(text(trace.of("sched_switch")).split("\n")[2]).toMatch(/^684\.596889680\s+1\s+399\s+trace-cmd\s/);
  });

  it("a profile is told by what it holds", () => {
    // perf script of perf 6.1
    const profile = fromPerfScript("vhost-936   940   938.123456:     250000 cycles:\n\tffff800008b2a4c8 tun_get_user+0x8 ([kernel.kallsyms])\n\n"
      + "<b>   941   938.223456:     250000 cycles:\n\tffff800008b2a4c8 tun_get_user+0x8 ([kernel.kallsyms])\n\n", { name: "some/perf-script.txt" });
    expect(text(profile).split("\n").map((line) => line.replace(/ {2,}/, ": "))).toEqual([
      "profile: perf-script.txt", "samples: 2", "time span: 100 ms", "events: cycles 2", "functions: 1", "stacks: a tree of 2 nodes", "lost: nothing",
    ]);
    expect(html(profile)).toContain("<td style=\"text-align:left\">cycles 2</td>");
  });
});

describe("outside of a notebook", () => {
  afterEach(() => { vi.restoreAllMocks(); });

  it("show prints the text", () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => {});
    show(table({ a: [1] }));
    expect(log.mock.calls).toEqual([["a\n1\n1 row"]]);
  });

  it("check says what holds and throws on what does not", () => {
    const log = vi.spyOn(console, "log").mockImplementation(() => {});
    check(true, "one is one");
    expect(log.mock.calls).toEqual([["✓ one is one"]]);
    expect(() => check(false, "two is one", "2 ≠ 1")).toThrow(new CheckError("does not hold: two is one (2 ≠ 1)"));
    expect(() => check(undefined as unknown as boolean, "x")).toThrow("got undefined instead of true or false");
    expect(() => check(Promise.resolve(true) as unknown as boolean, "x")).toThrow("got object instead of true or false");
  });
});
