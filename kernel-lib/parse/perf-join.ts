// Samples of parts of a text → those of the whole; and how samples go from thread to thread.
import { DictionaryColumn, IntBuilder, narrowCodes } from "../source/builders.js";
import { Pairs } from "../source/pairs.js";
import { Frames } from "./perf-frames.js";
import { depthsOf, type PerfSamples, type ProfileArrays, type RareValues } from "./perf-samples.js";

interface SentColumn {
  codes: DictionaryColumn["codes"];
  values: readonly string[];
}
/** Samples without objects of our own classes, which do not pass from thread to thread. */
export interface SentSamples extends Omit<PerfSamples, "raw"> {
  raw: Omit<ProfileArrays, "comm" | "event"> & { comm: SentColumn; event: SentColumn };
}

/** What to send, and the memory that goes with it without a copy. */
export function sent(samples: PerfSamples): [SentSamples, ArrayBuffer[]] {
  const { raw, misc, payload, vm, vcpu } = samples, { comm, event } = raw;
  const columns = { comm: { codes: comm.codes, values: comm.values }, event: { codes: event.codes, values: event.values } };
  const buffers = [raw, columns.comm, columns.event, misc, payload, vm, vcpu].flatMap((values) => Object.values(values).filter((x) => ArrayBuffer.isView(x)).map((x) => x.buffer as ArrayBuffer));
  return [{ ...samples, raw: { ...raw, ...columns } }, buffers];
}

export function received({ raw, ...rest }: SentSamples): PerfSamples {
  const column = ({ codes, values }: SentColumn) => new DictionaryColumn(codes, values);
  return { ...rest, raw: { ...raw, comm: column(raw.comm), event: column(raw.event) } };
}

/** Frames, nodes, names are numbered in the order in which the whole text brings them. */
export function joinSamples(parts: readonly PerfSamples[]): PerfSamples {
  const length = parts.reduce((sum, { raw }) => sum + raw.length, 0);
  const ts = new Float64Array(length), period = new Float64Array(length), cpu = new Int32Array(length), pid = new Int32Array(length), tid = new Int32Array(length), stack = new Int32Array(length);
  const comm = new JoinedColumn(length), event = new JoinedColumn(length), frames = new Frames(), tree = new Pairs();
  const misc = new JoinedRare(), payload = new JoinedRare(), vm = new JoinedRare(), vcpu = new JoinedRare();
  const lost: PerfSamples["lost"] = [], header: PerfSamples["header"] = {};
  let at = 0;
  for (const part of parts) {
    const { raw } = part, { symbol, dso, kind, addr } = raw;
    ts.set(raw.ts, at);
    period.set(raw.period, at);
    cpu.set(raw.cpu, at);
    pid.set(raw.pid, at);
    tid.set(raw.tid, at);
    comm.add(raw.comm, at);
    event.add(raw.event, at);
    const frameOf = symbol.map((name, i) => frames.add(name, dso[i], kind[i], addr[i], part.srcline[i]));
    const nodeOf = new Int32Array(raw.parent.length);
    for (let node = 0; node < nodeOf.length; node++) nodeOf[node] = node === 0 ? tree.code(-1, -1) : tree.code(nodeOf[raw.parent[node]], frameOf[raw.frame[node]]);
    for (let i = 0; i < raw.length; i++) stack[at + i] = nodeOf[raw.stack[i]];
    misc.add(part.misc, at);
    payload.add(part.payload, at);
    vm.add(part.vm, at);
    vcpu.add(part.vcpu, at);
    for (const row of part.lost) lost.push(row);
    for (const [key, value] of Object.entries(part.header)) header[key] = Object.hasOwn(header, key) ? `${header[key]}\n${value}` : value;
    at += raw.length;
  }
  const parent = tree.first.finish(), frame = tree.second.finish(), { symbol, dso, kind, addr, srcline } = frames;
  return {
    raw: {
      length, ts, period, cpu, pid, tid, comm: comm.finish(), event: event.finish(), stack, parent, frame, depth: depthsOf(parent), symbol, dso, kind, addr,
      unclosed: parts[parts.length - 1].raw.unclosed,
    },
    srcline, misc: misc.finish(), payload: payload.finish(), vm: vm.finish(), vcpu: vcpu.finish(), lost, header,
  };
}

/** Strings of several dictionaries, numbered anew. */
class Words {
  private readonly codes = new Map<string, number>();
  add(values: readonly string[]): number[] {
    return values.map((value) => {
      let code = this.codes.get(value);
      if (code === undefined) this.codes.set(value, code = this.codes.size);
      return code;
    });
  }
  get values(): string[] { return [...this.codes.keys()]; }
}

class JoinedColumn {
  private readonly codes: Int32Array;
  private readonly words = new Words();
  constructor(length: number) {
    this.codes = new Int32Array(length);
  }
  add({ codes, values }: DictionaryColumn, at: number): void {
    const own = this.words.add(values);
    for (let i = 0; i < codes.length; i++) this.codes[at + i] = codes[i] < 0 ? -1 : own[codes[i]];
  }
  finish(): DictionaryColumn {
    const { values } = this.words;
    return new DictionaryColumn(narrowCodes(this.codes, this.codes.length, values.length), values);
  }
}

class JoinedRare {
  private readonly rows = new IntBuilder();
  private readonly numbers = new IntBuilder();
  private readonly words = new Words();
  add({ rows, numbers, values }: RareValues, at: number): void {
    const own = this.words.add(values);
    for (let i = 0; i < rows.length; i++) {
      this.rows.push(at + rows[i]);
      this.numbers.push(values.length > 0 ? own[numbers[i]] : numbers[i]);
    }
  }
  finish(): RareValues {
    return { rows: this.rows.finish(), numbers: this.numbers.finish(), values: this.words.values };
  }
}
