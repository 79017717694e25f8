import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { accounting, fromKvmexit, loadKvmexit, ParseError } from "kernel-lib";
import { expectExact, expectExactWhenMutated } from "../accounting.js";
import { CAPTURE, inChunks, PEER } from "../peer.js";

// Written by hand in the format of bcc 0.26's kvmexit: all threads until Ctrl-C, then one process for 5 s, then some threads.
const text = `Display kvm exit reasons and statistics for all threads... Hit Ctrl-C to end.
PID      TID      KVM_EXIT_REASON                     COUNT
^C2822     2829     EXIT_REASON_HLT                     12
2822     2829     EXIT_REASON_MSR_WRITE               6
Display kvm exit reasons and statistics for PID 2822 after sleeping 5 secs.
KVM_EXIT_REASON                     COUNT
MSR_WRITE                           4711
Display kvm exit reasons and statistics for PID 2822 VCPU 0 after sleeping 4 secs.
KVM_EXIT_REASON                     COUNT
HLT                                 345
Display kvm exit reasons and statistics for TIDS ['2831', '2830']... Hit Ctrl-C to end.
TIDS     KVM_EXIT_REASON                     COUNT
^C2830     EPT_MISCONFIG                       77
`;

// Debian 12's kvmexit-bpfcc on arm64.
const refusal = `Traceback (most recent call last):
  File "/usr/sbin/kvmexit-bpfcc", line 249, in <module>
    raise Exception("Currently we only support Intel architecture, please do expansion if needs more.")
Exception: Currently we only support Intel architecture, please do expansion if needs more.

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/usr/sbin/kvmexit-bpfcc", line 257, in <module>
    raise Exception("Failed to do precondition check, due to: %s." % e)
Exception: Failed to do precondition check, due to: Currently we only support Intel architecture, please do expansion if needs more..
`;

describe("kvmexit", () => {
  it("reads every form of its table", async () => {
    const table = fromKvmexit(text);
    expect(table.objects()).toEqual([
      { pid: 2822, tid: 2829, vcpu: null, exit_reason: "HLT", count: 12, seconds: null },
      { pid: 2822, tid: 2829, vcpu: null, exit_reason: "MSR_WRITE", count: 6, seconds: null },
      { pid: 2822, tid: null, vcpu: null, exit_reason: "MSR_WRITE", count: 4711, seconds: 5 },
      { pid: 2822, tid: null, vcpu: 0, exit_reason: "HLT", count: 345, seconds: 4 },
      { pid: null, tid: 2830, vcpu: null, exit_reason: "EPT_MISCONFIG", count: 77, seconds: null },
    ]);
    const bytes = Buffer.from(text);
    expectExact(table, bytes);
    expect(accounting(table)).toMatchObject({ rows: 5, header: 8, notUnderstood: 0 });
    for (const n of [1, 7, 4096]) expect((await loadKvmexit(inChunks(bytes, n), { quiet: true })).objects()).toEqual(table.objects());
    expectExactWhenMutated(fromKvmexit, bytes);
  });

  it("says in the tool's own words why it did not run", () => {
    expect(() => fromKvmexit(refusal, { name: "kvmexit.txt" })).toThrow(ParseError);
    expect(() => fromKvmexit(refusal, { name: "kvmexit.txt" })).toThrow(/kvmexit\.txt:4: .*perf kvm stat[^]*Currently we only support Intel architecture/);
    expect(() => fromKvmexit("Exception: There's no vCPU 4 for PID 1273795.\n")).toThrow(/not kvmexit output/);
  });

  it("a run that failed after another leaves the other's rows", () => {
    const table = fromKvmexit(text + refusal);
    expect(table.numRows()).toBe(5);
    expect(accounting(table).notUnderstood).toBe(0);
  });

  it("an empty text is an empty table", () => expect(fromKvmexit("").numRows()).toBe(0));

  it.skipIf(!CAPTURE)("knows the recorded refusal (KERNEL_LIB_CAPTURE_DATA)", () => {
    expect(() => fromKvmexit(readFileSync(`${CAPTURE}/vhost/kvmexit.stderr`))).toThrow(/only support Intel/);
  });

  it.skipIf(!PEER)("reads the listings in bcc's own example text (KERNEL_LIB_PEER_DATA)", () => {
    const bytes = readFileSync(`${PEER}/bcc/kvmexit_example.txt`);
    const table = fromKvmexit(bytes);
    expectExact(table, bytes);
    const rows = table.objects() as Record<string, unknown>[];
    expect(rows.length).toBe(89);
    expect(rows[0]).toEqual({ pid: 1273551, tid: 1273568, vcpu: null, exit_reason: "HLT", count: 12, seconds: null });
    expect(rows.filter((row) => row.pid === 1273795 && row.tid === 1273819 && row.exit_reason === "MSR_WRITE")).toMatchObject([{ count: 7196, seconds: 5 }]);
    expect(rows.filter((row) => row.tid === 1273819 && row.pid === null && row.exit_reason === "HLT").map((row) => [row.count, row.seconds])).toEqual([[5274, 10], [13718, null]]);
  });
});
