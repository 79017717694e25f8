import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";

const SCRIPT = join(DATA, "record.sh");
const have = (tool: string) => spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0;
const shells = [["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"]].filter(([shell]) => have(shell));

let dir: string, path: string;

beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "kernel-lib-record-"));
  path = `${dir}/bin:${process.env.PATH}`;
  mkdirSync(join(dir, "bin"));
  const tool = (name: string, text: string) => {
    writeFileSync(join(dir, "bin", name), `#!/bin/sh\n${text}`);
    chmodSync(join(dir, "bin", name), 0o755);
  };
  // The guest is this machine: what ssh would run there runs here. A guest of another name does not answer.
  tool("ssh", `[ "$1" = guest ] || exit 255\nshift\nSSH_CONNECTION="127.0.0.1 40000 127.0.0.1 22" exec sh -c "$*"\n`);
  // Stands in for trace-cmd, which needs more of a kernel than every machine has; its tracing is real.
  tool("trace-cmd", `t=/sys/kernel/tracing
case $1 in
  record)
    shift
    while [ "$1" != -- ]; do
      case $1 in -o) out=$2; shift ;; -e) case $2 in kprobes:*) ;; *) echo "$2:*" >> $t/set_event ;; esac; shift ;; -b) shift ;; esac
      shift
    done
    shift
    echo 1 > $t/tracing_on
    "$@"; rc=$?
    echo 0 > $t/tracing_on; cat $t/trace > $out; echo > $t/set_event; echo 1 > $t/tracing_on
    exit $rc ;;
  report) while [ $# -gt 1 ]; do shift; done; cat "$1" ;;
  *) echo "trace-cmd version 0 (stand-in)" ;;
esac
`);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

function record(shell: string[], ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(shell[0], [...shell.slice(1), SCRIPT, ...args], { encoding: "utf8", env: { ...process.env, PATH: path }, cwd: dir, timeout: 110_000 });
}

describe.each(shells.map((shell) => [shell.join(" "), shell] as const))("record.sh under %s", (_, shell) => {
  it("prints its commands in a dry run, and runs and makes nothing", () => {
    const { status, stdout, stderr } = record(shell, "--dry-run", "--address", "172.16.10.1", "guest", join(dir, "dry"));
    expect(stderr).toBe("");
    expect(status).toBe(0);
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toContain("perf stat -e 'kvm:*' -a -- ssh guest iperf3 -c 172.16.10.1 -n 100M > perf-stat.iperf3.txt 2> perf-stat.txt");
    expect(lines).toContain("trace-cmd record -o trace.dat -b 40000 -e kvm -e sched -e kprobes:kp_tun_get_user -- ssh guest iperf3 -c 172.16.10.1 -n 30M > trace-cmd.record.txt 2>&1");
    expect(lines).toContain("ssh guest iperf3 -c 172.16.10.1 -t 10 -J > iperf3-run3.json");
    expect(lines.at(-1)).toBe("echo '-:kp_tun_get_user' >> /sys/kernel/tracing/kprobe_events");
    expect(existsSync(join(dir, "dry"))).toBe(false);
  });

  it("keeps a workload's words as they are", () => {
    const words = ["ssh", "guest", "echo $(touch pwned) `touch pwned`", "it's", "", "a\"b;c&d"];
    const { stdout } = record(shell, "--dry-run", "guest", join(dir, "dry"), "--", ...words);
    const command = stdout.split("\n").find((line) => line.startsWith("perf stat -x"))!;
    const text = command.slice(command.indexOf(" -- ") + 4).replace(/ > \/dev\/null 2> perf-stat\.csv$/, "");
    expect(execFileSync("sh", ["-c", `for word in ${text}; do printf '%s\\0' "$word"; done`], { encoding: "utf8", cwd: dir }).split("\0").slice(0, -1)).toEqual(words);
    expect(existsSync(join(dir, "pwned"))).toBe(false);
    expect(stdout).toContain("## left out: iperf3: the workload is your own");
  });

  it("refuses what it cannot take, and says why", () => {
    for (const guest of ["-oProxyCommand=touch pwned", "a b", "$(touch pwned)", "a;b", "a'b"]) {
      const { status, stderr } = record(shell, "--dry-run", guest, join(dir, "dry"));
      expect(status).toBe(2);
      expect(stderr).toMatch(/is no name that ssh takes|unknown option/);
    }
    expect(record(shell, "--repeats", "0", "guest", "x").stderr).toBe("record.sh: --repeats takes a whole number from 1, not 0\n");
    expect(record(shell, "--steps", "iperf3,perf", "guest", "x").stderr).toMatch(/there is no step perf; the steps are iperf3,/);
    expect(record(shell, "--guestmount", "x", "guest", "x").status).toBe(2);
    expect(record(shell, "guest").status).toBe(2);
    expect(record(shell, "guest", "a", "b").stderr).toMatch(/a workload stands after --/);
    expect(existsSync(join(dir, "pwned"))).toBe(false);
  });

  it("checks the host: one line each, fine or what to do", () => {
    const { status, stdout, stderr } = record(shell, "--check");
    expect(stderr).toBe("");
    const lines = stdout.trimEnd().split("\n");
    expect(lines.slice(0, -1).filter((line) => !/^(fine|todo): \S/.test(line))).toEqual([]);
    const todo = lines.filter((line) => line.startsWith("todo: "));
    expect(status).toBe(todo.length === 0 ? 0 : 1);
    expect(lines.at(-1)).toMatch(todo.length === 0 ? /^all fine$/ : new RegExp(`^${todo.length} to do; \\d+ of them keep record.sh from recording$`));
    for (const line of todo.filter((line) => line.includes("CONFIG_"))) expect(line).toMatch(/local\.conf: /);
  });

  it("says of every network device of a running QEMU which back end it has", async () => {
    // A script of QEMU's name: its arguments can be read as QEMU's can, and it ends with its input.
    const name = join(dir, "qemu-system-aarch64");
    writeFileSync(name, "#!/bin/sh\nread line\n");
    chmodSync(name, 0o755);
    const devices: [string, string][] = [
      ["tap,helper=/usr/libexec/qemu-bridge-helper --br=vmnet0,id=net0,vhost=on", "vhost"], // the talk's, with its blank
      ["tap,id=net1,vhost=off", "standard virtio"],
      ['{"type":"tap","fd":"36","vhost":true,"vhostfd":"38","id":"net2"}', "vhost"],
      ["user,id=net3", "neither, since it is no tap"],
    ];
    const qemu = spawn(name, [...devices.flatMap(([device]) => ["-netdev", device]), "-device", "virtio-net-device,netdev=net0"], { stdio: ["pipe", "ignore", "ignore"] });
    const ended = new Promise((resolve) => qemu.on("close", resolve));
    try {
      while (readFileSync(`/proc/${qemu.pid}/comm`, "utf8") !== "qemu-system-aar\n") await new Promise((resolve) => setTimeout(resolve, 10));
      const lines = record(shell, "--check").stdout.split("\n").filter((line) => line.includes(`QEMU ${qemu.pid}`));
      expect(lines).toEqual(devices.map(([device, what]) => `fine: QEMU ${qemu.pid}: -netdev ${device}: ${what}`));
    } finally {
      qemu.stdin!.end();
      await ended;
    }
  });

  it("says that a guest does not answer", () => {
    expect(record(shell, "--check", "nobody").stdout).toMatch(/^todo: guest nobody does not answer to ssh within 10 s/m);
    const { status, stderr } = record(shell, "nobody", join(dir, "nobody"));
    expect(status).toBe(1);
    expect(stderr).toMatch(/^record\.sh: cannot record:\n/);
    expect(stderr).toMatch(/make guest nobody answer to ssh/);
    expect(existsSync(join(dir, "nobody"))).toBe(false);
  });
});

it.skipIf(!have("shellcheck"))("shellcheck finds nothing (needs shellcheck)", () => {
  expect(spawnSync("shellcheck", ["-s", "sh", SCRIPT], { encoding: "utf8" }).stdout).toBe("");
});

const TRACEFS = "/sys/kernel/tracing";
const root = process.getuid?.() === 0;
// Seen only after mounting, so that it is done here and not in beforeAll.
const mounted = root && !existsSync(`${TRACEFS}/tracing_on`) && spawnSync("mount", ["-t", "tracefs", "nodev", TRACEFS]).status === 0;
const whyNot = [
  !root && "root", !existsSync(`${TRACEFS}/events/sched`) && "tracefs", !existsSync("/dev/kvm") && "/dev/kvm",
  ...["iperf3", "setsid", "timeout"].map((tool) => !have(tool) && tool),
  spawnSync("perf", ["stat", "-a", "-e", "kvm:kvm_exit", "--", "true"]).status !== 0 && "perf with events of kvm",
  root && existsSync(`${TRACEFS}/set_event`) && readFileSync(`${TRACEFS}/set_event`, "utf8") !== "" && "tracing that nobody uses",
].filter(Boolean).join(", ");
if (whyNot !== "" && mounted) spawnSync("umount", [TRACEFS]);

describe.skipIf(whyNot !== "")(`record.sh on this machine as host and guest${whyNot === "" ? "" : ` (needs ${whyNot})`}`, () => {
  afterAll(() => { if (mounted) spawnSync("umount", [TRACEFS]); });

  const tracing = () => ["set_event", "current_tracer", "tracing_on", "kprobe_events"]
    .map((file) => existsSync(`${TRACEFS}/${file}`) ? readFileSync(`${TRACEFS}/${file}`, "utf8") : "");
  // A load that hangs, recognisable as ours.
  const LOAD = ["sleep", String(900_000 + process.pid % 90_000)];
  const processes = (pattern: RegExp) => spawnSync("ps", ["-eo", "pid,args"], { encoding: "utf8" }).stdout.split("\n").filter((line) => pattern.test(line));
  const ours = () => processes(new RegExp(`${dir}|${LOAD.join(" ")}`));

  /** Starts one step with a load that hangs, interrupts it when it is under way, gives its exit code. */
  async function interrupt(step: string, signal: NodeJS.Signals, underWay: () => boolean, deaf = false): Promise<number | null> {
    const child = spawn("sh", [SCRIPT, "--steps", step, "guest", join(dir, `${step}-${signal}-${deaf}`), "--", ...LOAD], { env: { ...process.env, PATH: path }, cwd: dir });
    const ended = new Promise<number | null>((resolve) => child.on("exit", resolve));
    try {
      for (let i = 0; i < 300 && !underWay(); i++) await new Promise((resolve) => setTimeout(resolve, 100));
      expect(underWay()).toBe(true);
    } finally {
      if (deaf) { // as where tee is killed by the same Ctrl-C
        child.stdout.destroy();
        child.stderr.destroy();
      }
      child.kill(signal);
      await ended;
    }
    return ended;
  }

  it("records a folder that loadRun reads", async () => {
    const before = tracing();
    const to = join(dir, "run one");
    const { status, stdout, stderr } = record(["sh"], "--seconds", "1", "--repeats", "2", "guest", to);
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toContain("left out:\n");
    expect(tracing()).toEqual(before);

    const run = await kl.loadRun(to);
    const states = Object.fromEntries((run.overview.objects() as any[]).map((row) => [row.file, row]));
    expect(states["iperf3.json"].state).toBe("loaded");
    expect(run.repeats.iperf3.length).toBe(2);
    expect((run.overview.objects() as any[]).filter((row) => row.state === "unreadable" || row.not_understood > 0)).toEqual([]);
    expect(run.trace.eventNames).toContain("sched_switch");
    expect(run.hostProfile.samples.numRows()).toBeGreaterThan(0);
    expect(run.guestProfile.samples.numRows()).toBeGreaterThan(0);
    expect(run.threads.filter((d: any) => d.pid === 1).numRows()).toBeGreaterThan(0);
    const commands = run.commands.objects() as { command: string; exit: number | null; seconds: number | null }[];
    expect(commands.find(({ command }) => command.startsWith("trace-cmd record"))).toMatchObject({ exit: 0 });
    expect(commands.filter(({ exit }) => exit !== null && exit !== 0)).toEqual([]);

    const again = record(["sh"], "guest", to);
    expect(again.status).toBe(1);
    expect(again.stderr).toBe(`record.sh: '${to}' is not empty; name a new folder\n`);
  });

  it.each([["SIGINT", false], ["SIGTERM", false], ["SIGHUP", false], ["SIGTERM", true]] as const)("leaves no tracing on and nothing running after %s (nobody reads its output: %s)", async (signal, deaf) => {
    const before = tracing();
    const code = await interrupt("trace-cmd", signal, () => readFileSync(`${TRACEFS}/set_event`, "utf8") !== "" && processes(new RegExp(`^ *\\d+ ${LOAD.join(" ")}$`)).length > 0, deaf);
    expect(code).toBe({ SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }[signal]);
    expect(tracing()).toEqual(before);
    expect(ours()).toEqual([]);
    expect(readFileSync(join(dir, `trace-cmd-${signal}-${deaf}`, "commands.txt"), "utf8")).toMatch(/## interrupted\n$/);
  });

  it("ends perf in the guest too when it is interrupted", async () => {
    const inGuest = /perf record -a -g -F99 -o \/tmp\/perf\.data\./, before = processes(inGuest);
    const onHost = new RegExp(`^ *\\d+ perf record -a -g -F99 -o perf\\.data\\.host -- ${LOAD.join(" ")}`);
    expect(await interrupt("perf-script", "SIGTERM", () => processes(onHost).length > 0 && processes(inGuest).length > before.length)).toBe(143);
    expect(processes(inGuest)).toEqual(before);
    expect(ours()).toEqual([]);
  });

  it("refuses to touch tracing that is in use", () => {
    writeFileSync(`${TRACEFS}/set_event`, "sched:sched_process_exit");
    try {
      const { status, stderr } = record(["sh"], "guest", join(dir, "busy"));
      expect(status).toBe(1);
      expect(stderr).toMatch(/tracing is in use \(events are on\)/);
      expect(readFileSync(`${TRACEFS}/set_event`, "utf8")).toBe("sched:sched_process_exit\n");
    } finally {
      writeFileSync(`${TRACEFS}/set_event`, "\n");
    }
  });
});
