import { basename } from "node:path";
import { KernelLibError } from "../errors.js";
import { lostColumns, makeTrace } from "../parse/trace-cmd.js";
import type { EventFields } from "../parse/event-decoder.js";
import { DictionaryColumn, narrowCodes, NullableColumn, StringBuilder, tableOf, type Column, type ColumnSpec, type Columns, type RowOf } from "../source/columns.js";
import { accountingOf, joinAccountings, setAccounting, type Accounting } from "../source/lines.js";
import type { Trace } from "../trace.js";
import { alignClocks, hostTime, type AlignOptions, type Clocks } from "./clocks.js";
import { hostSide } from "./walk.js";

/** Two recordings of one moment. */
export interface HostAndGuestTraces {
  /** Trace of the host: the side with kvm_exit. */
  host: Trace;
  /** Trace of a guest; of a merged report, given in both places, the other side. */
  guest: Trace;
}

export interface JoinOptions extends AlignOptions {
  /** What alignClocks gave for the two; default: it is called with the other options. */
  clocks?: Clocks;
}

/** Rows of one trace on the way into another. */
interface Part { trace: Trace; rows: Int32Array; ts: Float64Array; name: string }

/**
 * One trace of a host's and a guest's recording, in the order of the host's clock; at equal times the host's events come first, as in
 * `trace-cmd report -i trace.dat -i trace-guest.dat`. Its `side` column says "host" or "guest". Thread ids and CPU numbers are each
 * side's own; guestCpus says which host thread is which CPU of the guest. Analyses of the host (kvmExits, virtioKicks, vcpuStates)
 * take the host's side alone, as of a merged report.
 *
 * The guest's times are moved to the host's clock by `clocks`. `{ offset: 0 }` leaves them as recorded.
 * @throws KernelLibError where the clocks cannot be aligned, and no offset is given; as alignClocks.
 */
export function joinTraces({ host, guest }: HostAndGuestTraces, options: JoinOptions = {}): Trace {
  const clocks = options.clocks ?? alignClocks(host, guest, options);
  if (!clocks.aligned) throw new KernelLibError(`joinTraces cannot put ${basename(host.source)} and ${basename(guest.source)} on one clock: ${clocks.why}. Where you know how the clocks differ, give { offset }`);
  const offsets = new Map((clocks.cpus.objects({ limit: Infinity }) as { cpu: number; offset: number | null }[]).map(({ cpu, offset }) => [cpu, offset ?? clocks.offset ?? 0]));
  const move = (time: number, cpu: number): number => hostTime(time, offsets.get(cpu) ?? clocks.offset ?? 0, clocks.scale, clocks.at);

  const hostRows = rowsOf(host, true), guestRows = rowsOf(guest, false);
  const guestTs = Float64Array.from(guestRows, (row) => move(guest.raw.ts[row], guest.raw.cpu[row]));
  // Offsets of their own may put events of two CPUs in another order; those of one CPU stay in theirs.
  const order = Uint32Array.from(guestRows.keys()).sort((a, b) => guestTs[a] - guestTs[b] || a - b);
  const parts: Part[] = [
    { trace: host, rows: hostRows, ts: Float64Array.from(hostRows, (row) => host.raw.ts[row]), name: "host" },
    { trace: guest, rows: Int32Array.from(order, (k) => guestRows[k]), ts: Float64Array.from(order, (k) => guestTs[k]), name: "guest" },
  ];
  return put(parts, move);
}

/** Rows of a trace that are of the host, or those that are not; all where it has one side. */
function rowsOf({ raw }: Trace, ofHost: boolean): Int32Array {
  const rows = Int32Array.from({ length: raw.length }, (_, row) => row);
  if (raw.side === null) return rows;
  const { codes } = raw.side, side = hostSide({ raw } as Trace);
  return rows.filter((row) => (codes[row] === side) === ofHost);
}

function put(parts: Part[], move: (time: number, cpu: number) => number): Trace {
  const length = parts.reduce((n, { rows }) => n + rows.length, 0);
  const from = new Int8Array(length), row = new Int32Array(length), ts = new Float64Array(length);
  for (let i = 0, h = 0, g = 0; i < length; i++) {
    const [host, guest] = parts;
    const ofGuest = h === host.rows.length || (g < guest.rows.length && guest.ts[g] < host.ts[h]);
    from[i] = ofGuest ? 1 : 0;
    row[i] = ofGuest ? guest.rows[g] : host.rows[h];
    ts[i] = ofGuest ? guest.ts[g++] : host.ts[h++];
  }
  const raws = parts.map(({ trace }) => trace.raw);
  const event = mergedWords(raws.map((raw) => raw.event), from, row);
  const counts = new Int32Array(event.values.length), slot = new Int32Array(length);
  for (let i = 0; i < length; i++) slot[i] = counts[event.codes[i]]++;
  /** Where each row of an event's own table is: which part, and its row there. */
  const placesOf = (code: number): { from: Int8Array; row: Int32Array } => {
    const places = { from: new Int8Array(counts[code]), row: new Int32Array(counts[code]) };
    for (let i = 0; i < length; i++) {
      if (event.codes[i] !== code) continue;
      places.from[slot[i]] = from[i];
      places.row[slot[i]] = row[i];
    }
    return places;
  };
  const owns: EventFields[] = [];
  const column = (name: string): Column<any> | null => {
    const columns = parts.map(({ trace }) => (trace.events.columnNames().includes(name) ? trace.events.column(name) as Column<any> : null));
    return columns.some((one) => one !== null) ? mergedColumn(columns, from, row) : null;
  };
  const infos = parts.map(({ trace }) => (trace.events.columnNames().includes("info") ? trace.events.column("info") as Column<string | null> : null));
  const joined = makeTrace({
    source: parts.map(({ trace }) => trace.source).join(" + "), length, ts,
    cpu: Int16Array.from(row, (r, i) => raws[from[i]].cpu[r]), pid: Int32Array.from(row, (r, i) => raws[from[i]].pid[r]),
    comm: mergedWords(raws.map((raw) => raw.comm), from, row), event, slot,
    side: new DictionaryColumn(from, parts.map(({ name }) => name)), flags: column("flags") as DictionaryColumn | null, tgid: column("tgid"),
    own: (code) => (owns[code] ??= ownOf(event.values[code], parts, placesOf(code), infos)),
    infos: event.values.map((_, code) => (infos.every((info) => info === null) ? null : infoOf(() => placesOf(code), infos))),
    undecoded: [...new Set(parts.map(({ trace }) => trace))].reduce((sum, trace) => sum + trace.undecoded, 0),
    cpus: Math.max(...parts.map(cpusOf)), sides: parts.map((part) => ({ side: part.name, cpus: cpusOf(part) })),
    lost: lostOf(parts, from, row, move),
  });
  const traces = [...new Set(parts.map(({ trace }) => trace))], accounts = traces.map(accountingOf).filter((account): account is Accounting => account !== null);
  if (accounts.length === traces.length) {
    // Lines of two texts: each keeps its number.
    setAccounting(joined, { ...joinAccountings(accounts), source: joined.source, unknown: accounts.flatMap(({ unknown }) => unknown) });
  }
  return joined;
}

/** Number of CPUs of a part's machine. */
function cpusOf({ trace, rows }: Part): number {
  const { raw, sides } = trace;
  if (raw.side === null || sides === null || rows.length === 0) return trace.cpus;
  const name = raw.side.at(rows[0]);
  return (sides.objects() as { side: string; cpus: number }[]).find(({ side }) => side === name)?.cpus ?? trace.cpus;
}

/** Columns of strings put together, each distinct string once. */
function mergedWords(columns: DictionaryColumn[], from: ArrayLike<number>, row: ArrayLike<number>): DictionaryColumn {
  const codes = new Map<string, number>();
  const maps = columns.map((column) => Int32Array.from(column.values, (value) => {
    const code = codes.get(value) ?? codes.size;
    codes.set(value, code);
    return code;
  }));
  const all = Int32Array.from(row as Int32Array, (r, i) => {
    const code = columns[from[i]].codes[r] ?? -1;
    return code < 0 ? -1 : maps[from[i]][code];
  });
  return new DictionaryColumn(narrowCodes(all, all.length, codes.size), [...codes.keys()]);
}

const EMPTY = new DictionaryColumn(new Int8Array(0), []);

/** Columns put together; one that is null has only nulls. */
function mergedColumn(columns: (Column<any> | null | undefined)[], from: ArrayLike<number>, row: ArrayLike<number>): Column<any> {
  const there = columns.filter((column) => column);
  if (there.every((column) => column instanceof DictionaryColumn)) {
    return mergedWords(columns.map((column) => (column as DictionaryColumn | null) ?? EMPTY), from, row);
  }
  const value = (r: number, i: number): unknown => columns[from[i]]?.at(r) ?? null;
  if (there.some((column) => column instanceof DictionaryColumn)) {
    return textColumn(Array.from(row as Int32Array, (r, i) => { const x = value(r, i); return x === null ? null : String(x); }));
  }
  const data = Float64Array.from(row as Int32Array, (r, i) => { const x = value(r, i); return x === null ? NaN : Number(x); });
  return data.some((x) => x !== x) ? new NullableColumn(data) : data;
}

const LACKS = "the trace of this side does not print it";

/** An event's own columns, of both sides. */
function ownOf(name: string, parts: Part[], places: { from: Int8Array; row: Int32Array }, infos: (Column<string | null> | null)[]): EventFields {
  const columns: Record<string, Column<any>> = {}, specs: Columns = {};
  const fields = parts.map(({ trace }) => trace.raw.fields(name)), own = parts.map(({ trace }) => trace.raw.fieldSpecs(name));
  const texts = Array.from(places.row, (row, i) => infos[places.from[i]]?.at(row) ?? null);
  const info = texts.some((text) => text !== null) ? textColumn(texts) : null;
  // The host's rows keep their order, so that its events, by far the most, need no copy.
  if (fields[1] === null && parts[0].trace.raw.side === null) return { columns: fields[0]!, specs: own[0], info };
  // Rows of the event's own tables.
  const slots = places.row.map((row, i) => parts[places.from[i]].trace.raw.slot[row]);
  for (const field of new Set(fields.flatMap((columns) => Object.keys(columns ?? {})))) {
    columns[field] = mergedColumn(fields.map((of) => of?.[field]), places.from, slots);
    const [spec, other] = own.map((of) => of[field]).filter((of) => of !== undefined) as [ColumnSpec, ColumnSpec | undefined];
    const type = columns[field] instanceof DictionaryColumn && spec.type === "number" ? "string" : spec.type;
    const isMissing = fields.some((of) => of !== null && of[field] === undefined);
    specs[field] = { ...spec, type, ...(isMissing || spec.null !== undefined || other?.null !== undefined ? { null: spec.null ?? other?.null ?? LACKS } : {}) };
  }
  return { columns, specs, info };
}

function textColumn(texts: (string | null)[]): DictionaryColumn {
  const column = new StringBuilder();
  for (const text of texts) column.push(text);
  return column.finish();
}

/** What of an event's text its columns do not say; read from the traces, once somebody asks. */
function infoOf(placesOf: () => { from: Int8Array; row: Int32Array }, infos: (Column<string | null> | null)[]): Column<string | null> {
  let places: { from: Int8Array; row: Int32Array } | null = null;
  const all = (): { from: Int8Array; row: Int32Array } => (places ??= placesOf());
  const at = (slot: number): string | null => infos[all().from[slot]]?.at(all().row[slot]) ?? null;
  return { get length() { return all().row.length; }, at, *[Symbol.iterator]() { for (let slot = 0; slot < all().row.length; slot++) yield at(slot); } };
}

/** Lost events of both sides, at the places that they have now: right before the next event that the same CPU recorded. */
function lostOf(parts: Part[], from: Int8Array, row: Int32Array, move: (time: number, cpu: number) => number): Trace["lost"] {
  type Lost = RowOf<typeof lostColumns>;
  const rows = parts.flatMap(({ trace, name }, p) => {
    const { cpu, side } = trace.raw, host = side === null ? null : side.values[hostSide(trace)];
    return (trace.lost.objects({ limit: Infinity }) as Lost[]).filter((lost) => host === null || lost.side === null || (lost.side === host) === (p === 0)).map((lost): Lost => {
      let position = row.findIndex((r, i) => from[i] === p && r >= lost.position && cpu[r] === lost.cpu);
      if (position < 0) position = 1 + row.findLastIndex((r, i) => from[i] === p && r < lost.position);
      const time = (t: number | null): number | null => (t === null || p === 0 ? t : move(t, lost.cpu));
      return { ...lost, from: time(lost.from), to: time(lost.to), position, side: name };
    });
  });
  return tableOf(lostColumns, rows.sort((a, b) => a.position - b.position));
}
