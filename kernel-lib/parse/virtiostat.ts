// bcc's virtiostat, run in the guest: what went through each virtqueue.
//
//   python3 /usr/share/bcc/tools/virtiostat [-T] [INTERVAL [COUNT]] > virtiostat.txt
//   printed by bcc's tools/virtiostat.py
//
//   --------                                                        (with -T: 09:30:01)
//           Driver   Device    VQ Name  In SGs Out SGs          In BW         Out BW
//    b'virtio_net' b'virtio0' b'output.0'       0     544              0       34034393
//
// Names are right-aligned and push the line to the right where they are long. Python 3 prints b'…' around them.
// "BW" is not per second: it is the bytes of the interval.
import type { ColumnTable } from "arquero";
import type { Source } from "../source/bytes.js";
import { tableOf, type Columns, type RowOf } from "../source/columns.js";
import { HEADER, loadText, parseText, ROW, UNKNOWN, type Format, type LoadOptions, type ParseOptions } from "../source/lines.js";

export const virtiostatColumns = {
  interval: { type: "number", unit: null, meaning: "Number of the interval, from 0. An interval without traffic has no rows." },
  time: { type: "string", unit: null, meaning: "When the interval was printed, HH:MM:SS in the guest.", null: "virtiostat ran without -T" },
  driver: { type: "string", unit: null, meaning: "The guest's driver, such as virtio_net." },
  device: { type: "string", unit: null, meaning: "The guest's device, such as virtio0." },
  vq: { type: "string", unit: null, meaning: "Name of the virtqueue: input.0 receives, output.0 transmits." },
  in_sgs: { type: "number", unit: "buffers", meaning: "Scatter-gather entries that the device may write to (heading In SGs)." },
  out_sgs: { type: "number", unit: "buffers", meaning: "Scatter-gather entries that the device reads (heading Out SGs)." },
  in_bytes: { type: "number", unit: "bytes", meaning: "Size of the entries that the device may write to: room offered, not data received (heading In BW)." },
  out_bytes: { type: "number", unit: "bytes", meaning: "Data handed to the device in the interval (heading Out BW)." },
} as const satisfies Columns;

const ROW_SHAPE = /^\s*(b'[^']*'|b"[^"]*"|\S+)\s+(b'[^']*'|b"[^"]*"|\S+)\s+(b'[^']*'|b"[^"]*"|\S(?:.*\S)?)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)$/;
const name = (text: string): string => /^b(['"])(.*)\1$/.exec(text)?.[2] ?? text;

export const virtiostat: Format<ColumnTable, ParseOptions> = {
  name: "virtiostat",
  command: "python3 /usr/share/bcc/tools/virtiostat",
  parser() {
    const rows: RowOf<typeof virtiostatColumns>[] = [];
    let interval = -1;
    let time: string | null = null;
    return {
      line(bytes, start, end) {
        // Ctrl-C echoes before whatever is printed next.
        const line = bytes.toString("utf8", start, end).replace(/^\^C/, "").trimEnd();
        if (line === "" || /^Tracing virtio devices statistics \.\.\. Hit Ctrl-C to end\.$/.test(line)) return HEADER;
        if (/^\s*Driver\s+Device\s+VQ Name\s+In SGs\s+Out SGs\s+In BW\s+Out BW$/.test(line)) return HEADER;
        if (/^-{8}$|^\d\d:\d\d:\d\d$/.test(line)) {
          interval++;
          time = line.startsWith("-") ? null : line;
          return HEADER;
        }
        const found = ROW_SHAPE.exec(line);
        if (!found) return UNKNOWN;
        const [inSgs, outSgs, inBytes, outBytes] = found.slice(4).map(Number);
        rows.push({
          interval: Math.max(interval, 0), time, driver: name(found[1]), device: name(found[2]), vq: name(found[3]),
          in_sgs: inSgs, out_sgs: outSgs, in_bytes: inBytes, out_bytes: outBytes,
        });
        return ROW;
      },
      finish: () => tableOf(virtiostatColumns, rows),
    };
  },
};

/** Text of bcc's virtiostat → one row per virtqueue and interval. */
export function fromVirtiostat(text: string | Uint8Array, options: ParseOptions = {}): ColumnTable {
  return parseText(text, virtiostat, options);
}

/** As `fromVirtiostat`, from a path (plain, .gz, .zst), bytes or chunks. */
export function loadVirtiostat(source: Source, options: LoadOptions = {}): Promise<ColumnTable> {
  return loadText(source, virtiostat, options);
}
