import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import * as kl from "kernel-lib";
import { DATA } from "../peer.js";

export type Row = Record<string, any>;
export const rowsOf = (table: kl.ColumnTable): Row[] => table.objects({ limit: Infinity }) as Row[];

/** A recording of host and guest together. */
export interface Recorded { host: kl.Trace; guest: kl.Trace; guestText: string }

export async function recorded(mode: "virtio" | "vhost"): Promise<Recorded> {
  const folder = join(DATA, "capture", `icount-agent-${mode}`);
  const guestText = gunzipSync(readFileSync(join(folder, "trace-cmd-guest.txt.gz"))).toString("latin1");
  return { host: await kl.loadTraceCmd(join(folder, "trace-cmd-host.txt.zst"), { quiet: true }), guest: kl.fromTraceCmd(guestText), guestText };
}
export const merged = (mode: "virtio" | "vhost"): Promise<kl.Trace> => kl.loadTraceCmd(join(DATA, "capture", `icount-agent-${mode}`, "trace-cmd-merged.txt.zst"), { quiet: true });

/** The same text with other times: ns → ns, by CPU. */
export function retimed(text: string, clock: (ns: number, cpu: number) => number): string {
  return text.replace(/ \[(\d{3})\] +(\d+)\.(\d{6}): /g, (_, cpu: string, s: string, us: string) => {
    const ns = Math.round(clock(Number(s) * 1e9 + Number(us) * 1e3, Number(cpu)));
    return ` [${cpu}] ${Math.floor(ns / 1e9)}.${String(ns % 1e9).padStart(9, "0")}: `;
  });
}
