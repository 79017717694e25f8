import type { ColumnTable } from "arquero";
import { OptionError, ParseError } from "../errors.js";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { CONTINUATION, HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LineKind, type LoadOptions, type ParseOptions } from "../source/lines.js";

// iperf3 -c HOST [-u] [-R] [--bidir] [-P n] [-J | --json-stream], or the server's own output.
// Printed by src/iperf_api.c with the formats of src/iperf_locale.c (esnet/iperf).
//
//   [  5][TX-C]   0.00-1.00   sec   194 MBytes  1.62 Gbits/sec    1    767 KBytes       (omitted)
//   stream role   start-end         bytes       bitrate           retr cwnd             note
//   [  5]   0.00-2.00   sec  11.9 MBytes  50.1 Mbits/sec  0.007 ms  0/382 (0%)  receiver
//                                                         jitter    lost/packets   side
//
// The number alone after the bitrate is a count of retransmits under "Retr" and of datagrams under "Datagrams":
// only the heading above tells.

export const iperf3Columns = {
  test: { type: "number", unit: null, meaning: "Which run of the text this is: index from 1." },
  host: { type: "string", unit: null, meaning: "Which end printed this: client or server.", null: "the text is a part that does not say" },
  protocol: { type: "string", unit: null, meaning: "TCP, UDP or SCTP.", null: "the text does not say and the columns do not tell" },
  kind: { type: "string", unit: null, meaning: "interval, total (the summary at the end), or error (the run failed: see error)." },
  stream: { type: "string", unit: null, meaning: "Number of the stream, or SUM for all streams of one direction together. JSON has SUM for a single stream too, text has not.", null: "kind is error" },
  role: { type: "string", unit: null, meaning: "Role under --bidir: TX-C, RX-C (client), TX-S, RX-S (server).", null: "the run is not --bidir" },
  direction: { type: "string", unit: null, meaning: "Which way the data goes: to server, or to client (-R, and one half of --bidir).", null: "the text does not say" },
  side: { type: "string", unit: null, meaning: "Which end counted: sender or receiver.", null: "old versions do not say, and the UDP sum of a JSON report mixes both: bytes sent, loss as received" },
  start: { type: "number", unit: "s", meaning: "Begin of the interval, since the run began.", null: "kind is error" },
  end: { type: "number", unit: "s", meaning: "End of the interval, since the run began.", null: "kind is error" },
  bytes: { type: "number", unit: "bytes", meaning: "Data transferred. Text prints three digits with 1024-based units, so this is rounded; JSON is exact.", null: "kind is error" },
  bitrate: { type: "number", unit: "bit/s", meaning: "Bits per second. Text prints three digits with 1000-based units (1024-based with -f K, M, G, T), so this is rounded; JSON is exact.", null: "kind is error, or the tool printed no finite number" },
  retr: { type: "number", unit: "count", meaning: "TCP segments sent again.", null: "the sender did not report it" },
  cwnd: { type: "number", unit: "bytes", meaning: "Congestion window at the end of the interval.", null: "not a TCP sender's interval" },
  rtt: { type: "number", unit: "ns", meaning: "Smoothed round-trip time at the end of the interval; of a total, the mean.", null: "text, receivers, UDP and old versions have none" },
  rttvar: { type: "number", unit: "ns", meaning: "Variation of the round-trip time.", null: "text, receivers, UDP, totals and old versions have none" },
  jitter: { type: "number", unit: "ns", meaning: "Jitter that the receiver of datagrams measured.", null: "not UDP, or not yet known to this end" },
  lost: { type: "number", unit: "count", meaning: "Datagrams lost.", null: "not UDP, or not yet known to this end" },
  packets: { type: "number", unit: "count", meaning: "Datagrams in all.", null: "not UDP" },
  out_of_order: { type: "number", unit: "count", meaning: "Datagrams received out of order.", null: "not UDP, or not reported; text reports it where it is not 0" },
  omitted: { type: "boolean", unit: null, meaning: "The interval lies in the warm-up that -O leaves out of the totals." },
  error: { type: "string", unit: null, meaning: "Why the run failed or ended early, as the tool says it.", null: "kind is not error" },
} as const satisfies Columns;

type Row = { -readonly [K in keyof RowOf<typeof iperf3Columns>]: RowOf<typeof iperf3Columns>[K] };

const DATA = new RegExp([
  /^\[\s*(\d+|SUM)\](?:\[([RT]X-[CS])\])?\s+/, // stream, role
  /(\d+(?:\.\d+)?)-\s*(\d+(?:\.\d+)?)\s+sec\s+/, // start, end
  /(-?[\d.]+|-?nan|-?inf) ([KMGTPE]?)Bytes\s+/, // transfer
  /(-?[\d.]+|-?nan|-?inf) ([KMGTPE]?)(bits|Bytes)\/sec(.*)$/, // bitrate, the rest
].map((part) => part.source).join(""));
const DATAGRAMS = /^(-?[\d.]+|-?nan)\s+ms\s+(-?\d+)\/(-?\d+)\s+\([^)]*%\)$/;
const NUMBER = /^(\d+)(?:\s+([\d.]+) ([KMGT]?)Bytes)?$/;
const OUT_OF_ORDER = /^\[\s*(\d+|SUM)\](?:\[[RT]X-[CS]\])?\s+[\d.]+-\s*[\d.]+\s+sec\s+(\d+) datagrams received out-of-order$/;
const HEADING = /^\[ ?ID\](?:\[Role\])?\s+Interval\s+Transfer\s+(?:Bitrate|Bandwidth)(.*)$/;
/** --timestamps puts asctime's form, or one of the user's, before each line; the ISO forms are what users choose. */
const TIMESTAMP = /^(?:[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\S*|\d\d:\d\d:\d\d) ?/;
const TITLE = /^(.+?: {2})(?:Connecting to host |Server listening on |iperf 3|\[ ID\]|-{10,})/;

const KNOWN: RegExp[] = [
  /^\s*$/, /^(- ?)+$/, /^iperf Done\.$/, /^Server listening on /,
  /^\[\s*\d+\] local \S+ port \d+ connected (to|with) \S+ port \d+$/,
  // -V
  /^iperf 3\S*/, /^(Linux|FreeBSD|Darwin) \S+ \d/, /^Control connection MSS \d+$/, /^Time: /, /^\s+(Cookie|TCP MSS|Target Bitrate|Congestion algorithm|TCP window size): /, /^Starting Test: protocol: /,
  /^Test Complete\. Summary Results:$/, /^CPU Utilization: /, /^(snd|rcv)_tcp_congestion \S+$/, /^Setting UDP block size to \d+$/, /^Finished omit period/,
  /^\[\s*(\d+|SUM)\] \((sender|receiver) statistics not available\)$/, /^\[\s*(\d+|SUM)\] Sent \d+ datagrams$/, /^\s+Sent .* of /, /^(warning|WARNING): /, /^Binding to local /, /^Using TCP Autotuning$/, /^Authentication succe/,
  // around it, where the run was started over ssh or under perf or trace-cmd
  /^Warning: Permanently added .* to the list of known hosts\.$/, /^(Shared c|C)onnection to \S+ closed\.$/, /^\[ perf record: .*\]$/,
  /^\S+@\S+:.*[#$] .*iperf3\b/,
];

/** 1024-based, as unit_snprintf prints Transfer and Cwnd. */
const binary = (value: string, prefix: string) => Math.round(Number(value) * 1024 ** " KMGTPE".indexOf(prefix || " "));
const decimal = (value: string, prefix: string) => Number(value) * 1000 ** " KMGTPE".indexOf(prefix || " ");
const finite = (x: number) => (Number.isFinite(x) ? x : null);

const BLANK: Row = {
  test: 0, host: null, protocol: null, kind: "interval", stream: null, role: null, direction: null, side: null, start: null, end: null, bytes: null, bitrate: null,
  retr: null, cwnd: null, rtt: null, rttvar: null, jitter: null, lost: null, packets: null, out_of_order: null, omitted: false, error: null,
};

export interface Iperf3Options extends ParseOptions {
  /** Which runs to keep, by index from 1; default all. */
  tests?: number[];
}

export const iperf3: Format<ColumnTable, Iperf3Options> = {
  name: "iperf3",
  command: "iperf3 -c HOST -J",
  parser({ name, tests }) {
    if (tests !== undefined && !(Array.isArray(tests) && tests.every((t) => Number.isInteger(t) && t > 0))) {
      throw new OptionError(`tests takes a list of run numbers from 1, such as [1, 2]; this is ${JSON.stringify(tests)}`);
    }
    const rows: Row[] = [];
    let lineNumber = 0;
    const text = textReader(rows), json = jsonReader(rows);
    let document: { text: string[]; line: number; depth: number; inString: boolean } | null = null;
    function endDocument(): void {
      const { text: lines, line } = document!;
      document = null;
      let value: unknown;
      try {
        value = JSON.parse(lines.join("\n"));
      } catch (error) {
        throw new ParseError(`the JSON document that begins here is damaged (${(error as Error).message}); run iperf3 again, or cut the document out`, name, line, lines[0].slice(0, 80));
      }
      for (const one of Array.isArray(value) ? list(value) : [object(value)]) text.test = json.read(one, text.test);
    }

    /** Feeds a line of JSON; true where it ends the document. */
    function jsonLine(line: string): boolean {
      const doc = document!;
      doc.text.push(line);
      for (let i = 0; i < line.length; i++) {
        const c = line.charCodeAt(i);
        if (doc.inString) {
          if (c === 92) i++;
          else if (c === 34) doc.inString = false;
        } else if (c === 34) doc.inString = true;
        else if (c === 123 || c === 91) doc.depth++;
        else if (c === 125 || c === 93) doc.depth--;
      }
      doc.inString = false; // JSON strings do not cross lines
      return doc.depth <= 0;
    }

    return {
      line(bytes, start, end): LineKind {
        lineNumber++;
        const line = bytes.toString("utf8", start, end);
        if (document) {
          if (jsonLine(line)) endDocument();
          return CONTINUATION;
        }
        // A text row begins with "[" too, so a list of documents is one whose bracket stands alone or before a brace.
        if (/^\s*(\{|\[\s*(\{|$))/.test(line)) {
          document = { text: [], line: lineNumber, depth: 0, inString: false };
          if (jsonLine(line)) {
            const before = rows.length;
            endDocument();
            return rows.length > before ? ROW : HEADER; // the start event of --json-stream makes no row
          }
          return ROW;
        }
        return line.length > 8192 ? UNKNOWN : text.line(line);
      },
      finish(): ColumnTable {
        if (document) {
          throw new ParseError("the JSON document that begins here has no end: the file is cut short; run iperf3 again", name, document.line, document.text[0].slice(0, 80));
        }
        const failed = rows.find((row) => row.kind === "error");
        if (failed && rows.every((row) => row.kind === "error")) {
          throw new ParseError(`iperf3 measured nothing; it says: ${failed.error}`, name);
        }
        return tableOf(iperf3Columns, tests ? rows.filter((row) => tests.includes(row.test)) : rows);
      },
    };
  },
};

/** The lines of a text report → rows. */
function textReader(rows: Row[]): { test: number; line(line: string): LineKind } {
  const reader = { test: 0, line };
  let host: string | null, protocol: string | null, direction: string | null, reverse: boolean, heading: string | null, summary: boolean, serverOutput = false, title = "";
  begin(null);

  function begin(who: string | null): void {
    if (who && !serverOutput) reader.test++; // --get-server-output repeats the same run as the server saw it
    [host, protocol, direction, reverse, heading, summary, serverOutput] = [who, null, null, false, null, false, false];
  }
  const current = () => Math.max(reader.test, 1);
  const fail = (error: string): LineKind => {
    rows.push({ ...BLANK, test: current(), host, protocol, kind: "error", error });
    return ROW;
  };

  function line(raw: string): LineKind {
    let text = raw.replace(TIMESTAMP, "");
    title = TITLE.exec(text)?.[1] ?? title;
    if (title && text.startsWith(title)) text = text.slice(title.length);
    text = text.trimEnd();

    let found: RegExpExecArray | null;
    if ((found = DATA.exec(text))) return row(found);
    if ((found = HEADING.exec(text))) {
      heading = found[1];
      if (direction !== null || rows.at(-1)?.kind === "interval") summary = true;
      protocol ??= /Datagrams/.test(heading) ? "UDP" : /Retr/.test(heading) ? "TCP" : null;
      return HEADER;
    }
    if ((found = OUT_OF_ORDER.exec(text))) {
      const { 1: stream, 2: n } = found;
      const late = rows.findLast((r) => r.stream === stream);
      if (!late) return UNKNOWN;
      late.out_of_order = Number(n);
      return CONTINUATION;
    }
    if ((found = /^iperf3: (?:error - (.*)|((?:the (?:client|server) has|interrupt - ).*))$/.exec(text))) return fail(found[1] ?? found[2]);
    if (/^Connecting to host /.test(text)) begin("client");
    else if (/^Accepted connection from /.test(text)) begin("server");
    else if (/^Reverse mode, remote host /.test(text)) reverse = true;
    else if (/^Server output:/.test(text)) serverOutput = true;
    else if ((found = /^Starting Test: protocol: (\w+)/.exec(text))) protocol = found[1];
    else return KNOWN.some((known) => known.test(text)) ? HEADER : UNKNOWN;
    return HEADER;
  }

  function row([, stream, role, start, end, transfer, transferUnit, rate, rateUnit, rateKind, after]: RegExpExecArray): LineKind {
    const omitted = /\(omitted\)\s*$/.test(after);
    const [, rest, said] = /^(.*?)\s*(?:\b(sender|receiver))?$/.exec(after.replace("(omitted)", "").trim())!;
    const datagrams = DATAGRAMS.exec(rest), number = NUMBER.exec(rest);
    if (rest !== "" && !datagrams && !number) return UNKNOWN;
    const udp = heading !== null && /Datagrams/.test(heading);

    let sends: boolean | null; // whether the end that printed this is the one that sends
    if (role) sends = role.startsWith("TX");
    else if (host === "client") sends = !reverse;
    else if (summary && said) sends = said === "sender";
    else if (heading !== null && (heading !== "" || host === "server")) sends = /Retr|Total Datagrams/.test(heading);
    else sends = null;
    const end2 = role ? (role.endsWith("C") ? "client" : "server") : host;
    const way = sends === null || end2 === null ? null : (end2 === "client") === sends ? "to server" : "to client";
    if (role || !summary) direction = way;
    rows.push({
      ...BLANK, test: current(), host: end2, protocol, kind: summary || said ? "total" : "interval", stream, role: role ?? null, direction: role ? way : direction ?? way,
      // Versions before 3.2 print one total for UDP and do not say whose it is.
      side: said ?? (summary || sends === null ? null : sends ? "sender" : "receiver"),
      start: Number(start), end: Number(end),
      bytes: finite(binary(transfer, transferUnit)),
      bitrate: finite(rateKind === "Bytes" ? 8 * binary(rate, rateUnit) : decimal(rate, rateUnit)),
      retr: number && !udp ? Number(number[1]) : null,
      cwnd: number?.[2] ? binary(number[2], number[3]) : null,
      jitter: datagrams ? finite(Math.round(Number(datagrams[1]) * 1e6)) : null,
      lost: datagrams ? Number(datagrams[2]) : null,
      packets: datagrams ? Number(datagrams[3]) : number && udp ? Number(number[1]) : null,
      omitted,
    });
    return ROW;
  }
  return reader;
}

/** What cJSON prints, of which any part may be missing. */
interface Json { [key: string]: unknown }

const object = (value: unknown): Json => (typeof value === "object" && value !== null && !Array.isArray(value) ? value as Json : {});
const list = (value: unknown): Json[] => (Array.isArray(value) ? value.map(object) : []);
const number = (value: unknown, factor = 1): number | null => (typeof value === "number" && Number.isFinite(value) ? (factor === 1 ? value : Math.round(value * factor)) : null);

/** JSON documents, whole ones and the events of --json-stream → rows. */
function jsonReader(rows: Row[]): { read(doc: Json, test: number): number } {
  let test = 0, host: string | null = null, protocol: string | null = null, reverse = false, bidir = false, streaming = false;

  function begin(start: Json): void {
    const settings = object(start.test_start);
    test++;
    host = start.connecting_to ? "client" : start.accepted_connection ? "server" : null;
    protocol = typeof settings.protocol === "string" ? settings.protocol : null;
    reverse = settings.reverse === 1;
    bidir = settings.bidir === 1;
  }

  /** `sends`: whether the end that printed this is the one that sends. */
  function add(kind: "interval" | "total", stream: string, sends: boolean | null, side: string | null, from: Json): void {
    rows.push({
      ...BLANK, test, host, protocol, kind, stream, side,
      role: bidir && sends !== null && host ? `${sends ? "TX" : "RX"}-${host === "client" ? "C" : "S"}` : null,
      direction: sends === null || host === null ? null : (host === "client") === sends ? "to server" : "to client",
      start: number(from.start), end: number(from.end), bytes: number(from.bytes), bitrate: number(from.bits_per_second),
      retr: number(from.retransmits), cwnd: number(from.snd_cwnd), rtt: number(from.rtt ?? (from.mean_rtt || null), 1000), rttvar: number(from.rttvar, 1000),
      jitter: number(from.jitter_ms, 1e6), lost: number(from.lost_packets), packets: number(from.packets), out_of_order: number(from.out_of_order),
      omitted: from.omitted === true,
    });
  }
  /** Versions before 3.7 have no "sender" in streams; there, a run has one direction. */
  const sending = (from: Json) => (typeof from.sender === "boolean" ? from.sender : host === null || bidir ? null : (host === "client") !== reverse);

  function interval(from: Json): void {
    if (from.sum_bidir_reverse) bidir = true; // test_start did not say so before 3.17
    for (const [stream, one] of [...list(from.streams).map((s) => [String(s.socket), s] as const), ["SUM", object(from.sum)], ["SUM", object(from.sum_bidir_reverse)]] as const) {
      if (one.end === undefined) continue;
      const sends = sending(one);
      add("interval", stream, sends, sends === null ? null : sends ? "sender" : "receiver", one);
    }
  }

  function end(from: Json): void {
    if (from.sum_sent_bidir_reverse) bidir = true;
    for (const stream of list(from.streams)) {
      for (const side of ["sender", "receiver", "udp"]) {
        if (stream[side]) add("total", String(object(stream[side]).socket), sending(object(stream[side])), side === "udp" ? null : side, object(stream[side]));
      }
    }
    for (const suffix of ["", "_bidir_reverse"]) {
      for (const [key, side] of [["sum", null], ["sum_sent", "sender"], ["sum_received", "receiver"]] as const) {
        const sum = object(from[key + suffix]);
        // "sender" of a sum tells which side it is of, in some versions, not which way the data went.
        if (sum.end !== undefined) add("total", "SUM", host === null ? null : (host === "client") !== (reverse || suffix !== ""), side, sum);
      }
    }
  }

  function read(doc: Json, before: number): number {
    test = before;
    if (typeof doc.event === "string") {
      if (doc.event === "start" || !streaming) begin(doc.event === "start" ? object(doc.data) : {});
      streaming = true;
      if (doc.event === "interval") interval(object(doc.data));
      else if (doc.event === "end") end(object(doc.data));
      else if (doc.event === "error") rows.push({ ...BLANK, test, host, protocol, kind: "error", error: String(doc.data) });
      return test;
    }
    streaming = false;
    begin(object(doc.start));
    for (const one of list(doc.intervals)) interval(one);
    end(object(doc.end));
    if (typeof doc.error === "string") rows.push({ ...BLANK, test, host, protocol, kind: "error", error: doc.error });
    return test;
  }
  return { read };
}

/**
 * iperf3 output (text, JSON, --json-stream; of the client or the server; several runs in one text) → one row per interval and per total.
 * Columns: `iperf3Columns`.
 * @throws ParseError when the runs failed (with iperf3's own words), when JSON is damaged, or when nothing is iperf3 output.
 */
export function fromIperf3(input: string | Uint8Array, options: Iperf3Options = {}): ColumnTable {
  return parseText(input, iperf3, options);
}

/** Reads iperf3 output from a file, bytes or a stream. See fromIperf3. */
export function loadIperf3(source: Source, options: Iperf3Options & LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, iperf3, options);
}
