// Texts of any size, made from the recordings of data/capture so that caches of strings do not flatter. See HELP in main.js.
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";

const DATA = fileURLToPath(new URL("../../data/capture/", import.meta.url));

export const VARIED = `Inputs are the recordings of data/capture, as often as the size asks for. In each copy the clock goes on, thread ids move by 1000
(97 different moves), names of threads get one of 13 endings, and user-space symbols one of 64, so that a table of strings seen before
does not hold the whole text soon. Kernel symbols stay, as there is one kernel.`;

const recordings = { "perf-script": "perf-script-host.txt.gz", "trace-cmd": "trace-cmd.txt.gz" };

/** Writes a text of about the size, of whole copies of the recordings. Returns its true size in bytes. */
export function makeInput(kind, megabytes, path) {
  const texts = ["virtio", "vhost"].map((run) => gunzipSync(readFileSync(`${DATA}${run}/${recordings[kind]}`)).toString("latin1"));
  const vary = kind === "perf-script" ? varyStacks : varyTrace;
  const file = openSync(path, "w");
  let size = 0;
  for (let copy = 0; size < megabytes * 1e6; copy++) size += writeSync(file, Buffer.from(vary(texts[copy % 2], copy), "latin1"));
  closeSync(file);
  return size;
}

function moves(copy) {
  const ending = String.fromCharCode(97 + (copy % 13));
  return {
    pid: (text) => (Number(text) > 0 ? String(Number(text) + (copy % 97) * 1000) : text),
    comm: (text, id) => (Number(id) > 0 ? text.slice(0, 14) + ending : text),
    seconds: (text) => Number(text) + copy * 600,
  };
}

function varyStacks(text, copy) {
  const { pid, comm, seconds } = moves(copy);
  return text
    .replace(/^(\S.*?)(\s+)(\d+)( \[\d+\]\s+)(\d+)(?=\.)/gm, (_, name, gap, id, cpu, s) => `${comm(name, id)}${gap}${pid(id)}${cpu}${seconds(s)}`)
    .replace(/^(\t\s+[0-9a-f]+ )([^[\n]\S*?)(\+0x[0-9a-f]+ \(\/)/gm, `$1$2_${copy % 64}$3`);
}

function varyTrace(text, copy) {
  const { pid, comm, seconds } = moves(copy);
  return text
    .replace(/^(\s*)(\S.*)-(\d+)(\s+\[\d+\]\s+)(\d+)(?=\.)/gm, (_, gap, name, id, cpu, s) => `${gap}${comm(name, id)}-${pid(id)}${cpu}${seconds(s)}`)
    .replace(/(\S+):(\d+)(?= \[\d+\])/g, (_, name, id) => `${comm(name, id)}:${pid(id)}`)
    .replace(/comm=(\S+) pid=(\d+)/g, (_, name, id) => `comm=${comm(name, id)} pid=${pid(id)}`);
}
