import { createRequire } from "node:module";
import { join } from "node:path";
import { from, type ColumnTable } from "arquero";
import { diffFlameGraph, diffStacks, flameGraph, foldStacks, loadPerfScript, mergeStacks, OptionError, type Chart, type Profile } from "kernel-lib";
import { beforeAll, describe, expect, it } from "vitest";
import { frameColours } from "../../kernel-lib/chart/theme.js";
import { DATA } from "../peer.js";
import { colourOf, expectHarmless, expectSound, hostileNames } from "./spec.js";

const require = createRequire(import.meta.url);
const [vega, vegaLite] = [require("vega"), require("vega-lite")];

interface Frame { x0: number; x1: number; depth: number; name: string; kind: string; weight: string; total: string; ofParent: string; change: number; a: string; b: string; delta: string }
const framesOf = (chart: Chart): Frame[] => chart.data.values;
const folded = (text: string): ColumnTable => from(text.trim().split("\n").map((line) => ({ stack: line.slice(0, line.lastIndexOf(" ")), value: Number(line.slice(line.lastIndexOf(" ") + 1)) })));

/** The chart as a front end runs it: what its scale and its texts are after a person did something. */
async function running(chart: Chart) {
  const view = new vega.View(vega.parse(vegaLite.compile(JSON.parse(JSON.stringify(chart))).spec), { renderer: "none" });
  await view.runAsync();
  return {
    domain: () => view.scale("x").domain() as number[],
    async click(frame: Frame | null) {
      const fields = ["x0", "x1"].map((field) => ({ field, type: "E" }));
      view.data("zoom_store", frame === null ? [] : [{ unit: "layer_0", fields, values: [frame.x0, frame.x1] }]);
      await view.runAsync();
    },
    async search(text: string) {
      view.signal("search", text);
      await view.runAsync();
    },
    async texts() {
      return [...(await view.toSVG() as string).matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map((match) => match[1]);
    },
    async marked() {
      return (await view.toSVG() as string).split('fill="#c800c8"').length - 1;
    },
  };
}

const small = folded(`
qemu-system-aar;main;write;el0_svc;tun_get_user 60
qemu-system-aar;main;poll 20
vhost-936;kthread;tun_get_user;tun_get_user 10
swapper;cpu_startup_entry;do_idle;cpu_do_idle 9
swapper;cpu_startup_entry;do_idle;el1_irq;net_rx_action 1`);

describe("flameGraph", () => {
  let host: Profile, guest: Profile, other: Profile;
  beforeAll(async () => {
    [host, other, guest] = await Promise.all(["virtio/perf-script-host.txt.gz", "vhost/perf-script-host.txt.gz", "virtio/perf-script-guest.txt.gz"].map((file) => loadPerfScript(join(DATA, "capture", `icount-${file}`))));
  });

  it("lays callers below callees, siblings by name, widths by weight", () => {
    const frames = framesOf(flameGraph(small));
    const at = (name: string, depth: number) => frames.filter((frame) => frame.name === name && frame.depth === depth).map(({ x0, x1 }) => [x0, x1]);
    expect(at("all", 0)).toEqual([[0, 1]]);
    expect(at("qemu-system-aar", 1)).toEqual([[0, 0.8]]);
    expect(at("swapper", 1)).toEqual([[0.8, 0.9]]);
    expect(at("vhost-936", 1)).toEqual([[0.9, 1]]);
    expect(at("poll", 3)).toEqual([[0, 0.2]]);
    expect(at("write", 3)).toEqual([[0.2, 0.8]]);
    expect(frames.find(({ name }) => name === "poll")).toMatchObject({ weight: "20 events", total: "20.0 %", ofParent: "25.0 %" });
  });
  it("colours by kind: user space, kernel from the system call or interrupt on, idle, vhost, QEMU, guest", () => {
    const chart = flameGraph(small), kinds = (name: string) => [...new Set(framesOf(chart).filter((frame) => frame.name === name).map(({ kind }) => kind))];
    expect(["main", "el0_svc", "tun_get_user", "kthread", "cpu_do_idle", "el1_irq", "net_rx_action", "vhost-936", "qemu-system-aar", "swapper"].map(kinds))
      .toEqual([["user"], ["kernel"], ["kernel"], ["kernel"], ["idle"], ["kernel"], ["kernel"], ["vhost"], ["QEMU"], ["process"]]);
    expect(colourOf(chart, "idle")).toBe(frameColours.idle);
    const merged = framesOf(flameGraph(mergeStacks({ host, guest })));
    expect(new Set(merged.filter(({ name, depth }) => depth === 1 && name.startsWith("<guest>")).map(({ kind }) => kind))).toEqual(new Set(["guest"]));
    expect(merged.find(({ name }) => name === "tun_get_user")?.kind).toBe("kernel");
  });
  it("colours a guest inside its vCPU's thread from its process on, and guest mode that nothing fills in a colour of its own", () => {
    const chart = flameGraph(folded(`
qemu;vCPU 0;<guest>iperf3;main;el0_svc;tun_get_user 50
qemu;vCPU 0;<guest>swapper;do_idle;arch_cpu_idle 10
qemu;vCPU 0;[guest mode, no guest sample] 20
qemu;vCPU 0;[in KVM_RUN, no stack] 10
qemu;vCPU 0;kvm_cpu_exec;el0_svc 5
[guest mode, vCPU not known] 5`));
    const kinds = Object.fromEntries(framesOf(chart).map(({ name, depth, kind }) => [`${depth} ${name}`, kind]));
    expect(kinds).toEqual({
      "0 all": "all", "1 qemu": "QEMU", "2 vCPU 0": "QEMU", "3 <guest>iperf3": "guest", "4 main": "guest", "5 el0_svc": "guest", "6 tun_get_user": "guest", "3 <guest>swapper": "guest", "4 do_idle": "idle", "5 arch_cpu_idle": "idle",
      "3 [guest mode, no guest sample]": "unattributed", "3 [in KVM_RUN, no stack]": "kernel", "3 kvm_cpu_exec": "user", "4 el0_svc": "kernel", "1 [guest mode, vCPU not known]": "unattributed",
    });
    expect(colourOf(chart, "unattributed")).toBe(frameColours.unattributed);
    expect(new Set(Object.values(frameColours)).size).toBe(Object.keys(frameColours).length);
  });
  it("takes marks of the kernel from folding where there are some", () => {
    const frames = framesOf(flameGraph(folded("app;main;helper_[k];main 3")));
    expect(frames.map(({ name, kind }) => [name, kind])).toEqual([["all", "all"], ["app", "process"], ["main", "user"], ["helper", "kernel"], ["main", "user"]]);
  });
  it("draws a real recording: sound, its frames in their callers, shares those of the stacks", () => {
    const stacks = foldStacks(other), chart = flameGraph(stacks);
    const svg = expectSound(chart);
    for (const word of ["tun_get_user", "vhost worker", "Where the CPU time goes"]) expect(svg).toContain(word);
    const frames = framesOf(chart), sum = (of: (stack: string) => boolean) => (stacks.objects() as { stack: string; value: number }[]).reduce((total, { stack, value }) => total + (of(stack) ? value : 0), 0);
    const vhost = frames.find(({ name, depth }) => depth === 1 && name.startsWith("vhost-"))!;
    expect(vhost.x1 - vhost.x0).toBeCloseTo(sum((stack) => stack.startsWith(`${vhost.name};`)) / sum(() => true), 6);
    for (const frame of frames.filter(({ depth }) => depth > 0)) {
      expect(frames.filter(({ depth, x0, x1 }) => depth === frame.depth - 1 && x0 <= frame.x0 + 1e-6 && x1 >= frame.x1 - 1e-6), frame.name).toHaveLength(1);
    }
  });
  it("begins where `under` says; what does not pass there is left out", () => {
    const frames = framesOf(flameGraph(small, { under: "tun_get_user" }));
    expect(frames.map(({ name, depth, weight }) => [name, depth, weight])).toEqual([["all", 0, "70 events"], ["tun_get_user", 1, "70 events"], ["tun_get_user", 2, "10 events"]]);
    expect(framesOf(flameGraph(small, { under: ["vhost-936", "swapper"] }))[0].weight).toBe("20 events");
    expect(expectSound(flameGraph(small, { under: "no_such" }))).toContain("No stacks under no_such");
  });
  it("leaves out narrow frames and says how many; never draws more than 3000", () => {
    const chart = flameGraph(small, { minShare: 5 });
    expect(framesOf(chart).map(({ name }) => name)).not.toContain("net_rx_action");
    expect(chart.title.subtitle.join(" ")).toContain("2 frames narrower than 5 % are not drawn.");
    const many = flameGraph(from(Array.from({ length: 20_000 }, (_, i) => ({ stack: `app;f${i % 500};g${i}`, value: 1 + i }))), { minShare: 0 });
    expect(framesOf(many).length).toBeLessThanOrEqual(3000);
    expect(framesOf(many).length).toBeGreaterThan(2900);
    expect(many.title.subtitle.join(" ")).toMatch(/1[78],\d{3} frames narrower than 0\.0\d+ % are not drawn/);
    expect(() => flameGraph(small, { minShare: 100 })).toThrow(OptionError);
  });
  it("zooms to a clicked frame and back; what lies outside is gone, callers stay", async () => {
    const chart = flameGraph(small), run = await running(chart), frames = framesOf(chart);
    expect(run.domain()).toEqual([0, 1]);
    const vhost = frames.find(({ name }) => name === "vhost-936")!;
    await run.click(vhost);
    expect(run.domain()).toEqual([vhost.x0, vhost.x1]);
    expect(await run.texts()).toEqual(expect.arrayContaining(["all", "vhost-936", "kthread", "tun_get_user"]));
    expect(await run.texts()).not.toContain("swapper");
    await run.click(frames[0]);
    expect(run.domain()).toEqual([0, 1]);
    await run.click(vhost);
    await run.click(null);
    expect(run.domain()).toEqual([0, 1]);
    expect(await run.texts()).toContain("swapper");
  });
  it("marks what is searched, and counts frames in frames once", async () => {
    const run = await running(flameGraph(small));
    expect(await run.marked()).toBe(0);
    await run.search("TUN_get");
    expect(await run.marked()).toBe(3);
    expect(await run.texts()).toContain("found: 3 frames, 70.0%");
    await run.search("');alert(1)//");
    expect(await run.marked()).toBe(0);
    expect(await run.texts()).toContain("found: 0 frames, 0.0%");
  });
  it("takes hostile names as text", () => {
    expectHarmless(flameGraph(from(hostileNames.filter((name) => !name.includes(";")).map((name, i) => ({ stack: `${name};${name}`, value: i + 1 })))));
  });
  it("says which columns it needs", () => {
    expect(() => flameGraph(from([{ frames: "a" }]))).toThrow("flameGraph needs the columns stack, value; this table has frames");
  });

  describe("diffFlameGraph", () => {
    const before = folded("app;a;x 50\napp;b 40\napp;gone 10"), after = folded("app;a;x 20\napp;b 60\napp;new 20");
    it("is as wide as b, coloured by the change", () => {
      const chart = diffFlameGraph(diffStacks(before, after), { names: ["old", "young"] });
      expectSound(chart);
      expect(Object.fromEntries(framesOf(chart).map((frame) => [frame.name, [Math.round(100 * (frame.x1 - frame.x0)), frame.change]])))
        .toEqual({ all: [100, 0], app: [100, 0], a: [20, -30], x: [20, -30], b: [60, 20], new: [20, 20] });
      expect(framesOf(chart).find(({ name }) => name === "a")).toMatchObject({ a: "50 events", b: "20 events", delta: "−30 events" });
      expect(chart.title.subtitle.join(" ")).toContain("stacks of old alone, 10 events (10.0 % of it)");
      const { domain, range } = chart.layer[0].encoding.color.scale;
      expect(domain).toEqual([-30, 0, 30]);
      expect(new Set(range).size).toBe(3);
    });
    it("labels its legend clear of the edges", () => {
      for (const change of [1, 3, 10.5, 21, 50, 99, 0.07]) {
        const { scale: { domain }, legend } = diffFlameGraph(from([{ stack: "a", a: 0, b: change }, { stack: "b", a: change, b: 0 }, { stack: "c", a: 100 - change, b: 100 - change }])).layer[0].encoding.color;
        const values = legend.values as number[];
        expect(values.length).toBeGreaterThanOrEqual(3);
        expect(values).toContain(0);
        expect(Math.max(...values.map(Math.abs))).toBeLessThan(0.86 * domain[2]);
        expect(Math.max(...values)).toBeGreaterThan(0.3 * domain[2]);
      }
    });
    it("is as wide as a where widthOf says so, the colours still those of the change to b", () => {
      const frames = framesOf(diffFlameGraph(diffStacks(before, after), { widthOf: "a" }));
      expect(Object.fromEntries(frames.map((frame) => [frame.name, [Math.round(100 * (frame.x1 - frame.x0)), frame.change]])))
        .toEqual({ all: [100, 0], app: [100, 0], a: [50, -30], x: [50, -30], b: [40, 20], gone: [10, -10] });
      expect(() => diffFlameGraph(diffStacks(before, after), { widthOf: "c" as "a" })).toThrow(OptionError);
    });
    it("draws real recordings, zooms too", async () => {
      const chart = diffFlameGraph(diffStacks(foldStacks(host), foldStacks(other), { normalize: true }), { names: ["virtio", "vhost"] });
      expectSound(chart);
      const run = await running(chart), frame = framesOf(chart).find(({ name }) => name === "tun_get_user")!;
      await run.click(frame);
      expect(run.domain()).toEqual([frame.x0, frame.x1]);
      expect(frame.change).toBeGreaterThan(0);
    });
  });
});
