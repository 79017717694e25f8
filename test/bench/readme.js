// The table of README.md, from the figures: nobody types them.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { questions } from "./texts.js";

const README = fileURLToPath(new URL("../../README.md", import.meta.url));
const BEGIN = "<!-- written by npm run bench -- --readme -->", END = "<!-- end of what bench wrote -->";
const MIB = 2 ** 20;

export function writeReadme(figures) {
  const text = readFileSync(README, "utf8");
  const from = text.indexOf(BEGIN), to = text.indexOf(END);
  if (from < 0 || to < from) throw new Error(`README.md has no place for the table; put these two lines into it: ${BEGIN} and ${END}`);
  writeFileSync(README, `${text.slice(0, from + BEGIN.length)}\n\n${section(figures)}\n\n${text.slice(to)}`);
  console.log("README.md has the new table.");
}

const whole = (value) => (value === null || value === undefined ? "" : Math.round(value).toLocaleString("en-US"));
const tenth = (value) => (value >= 10 ? whole(value) : value.toFixed(1));
const row = (cells) => `| ${cells.join(" | ")} |`;

function section({ date, machine, versions, results, growth = [], parts, recorders = [], joins: joined = [], kernel, notebooks, install }) {
  const out = [`${date}, ${machine.cores} cores (${machine.cpu}); ${Object.entries(versions).filter(([name]) => name !== "kernel-lib").map(([name, version]) => `${name} ${version}`).join(", ")}. Rates are of processor time.`];
  // That size at which most programs ran, and the largest.
  const sizes = [...new Set(results.map((one) => one.size))].sort((a, b) => a - b);
  for (const size of new Set([sizes.filter((one) => one <= 100).at(-1) ?? sizes[0], sizes.at(-1)].filter((one) => one !== undefined))) {
    const lines = results.filter((one) => one.size === size && !one.failed && (size <= 100 || one.question !== "flame"));
    if (lines.length === 0) continue;
    out.push("", row([`${whole(size)} MB: text → what`, "program", "warm, MiB/s", "process, MiB/s", "peak memory ÷ text", "CPU time ÷ ours"]), "|---|---|---:|---:|---:|---:|");
    for (const { name, title } of questions) {
      for (const [i, one] of lines.filter(({ question }) => question === name).entries()) {
        const rate = (seconds) => (seconds ? whole(one.bytes / MIB / seconds) : "");
        out.push(row([i === 0 ? title : "", one.who, rate(one.warm), rate(one.process), name === "flame" ? "" : tenth(one.peak / one.bytes), one.ratio ? `${one.ratio.toFixed(one.ratio < 1 ? 2 : 1)} (${one.warm ? "warm" : "process"})` : i === 0 ? "1" : ""]));
      }
    }
  }
  const faster = results.filter((one) => one.faster).sort((a, b) => a.size - b.size).at(-1);
  if (faster) out.push("", `Two workers fold ${whole(faster.size)} MB ${faster.faster.toFixed(2)} times as fast as one thread (time elapsed).`);
  for (const { who, bytes, prints, reads, warm } of recorders) out.push("", `\`${who}\` prints such a text (${whole(bytes / 1e6)} MB) at ${whole(bytes / MIB / prints)} MiB/s; kernel-lib reads it at ${whole(bytes / MIB / reads)} (process) and ${whole(bytes / MIB / warm)} MiB/s (warm).`);
  const joins = joined.filter(({ failed }) => !failed);
  if (joins.length > 0) {
    out.push("", row([`joins in ${tenth(joins[0].events / 1e6)} million events`, "exits, million events/s", "kicks, million events/s"]), "|---|---:|---:|",
      ...joins.map(({ who, events, exits, kicks }) => row([who === "kernel-lib" ? "kernel-lib: `kvmExits`, `virtioKicks`" : `${who}: an asof join of two events alone`, tenth(events / exits.seconds / 1e6), tenth(events / kicks.seconds / 1e6)])));
  }
  for (const { question, sizes } of growth) {
    const held = sizes.filter(({ bytesPerEvent }) => bytesPerEvent);
    out.push("", `Growth, ${questions.find(({ name }) => name === question).title}: ${sizes.map(({ size, msPerMB }) => `${msPerMB.toFixed(1)} ms per MB at ${whole(size)} MB`).join(", ")}; peak memory ${sizes.at(-1).peakOfText.toFixed(1)} times the text at ${whole(sizes.at(-1).size)} MB${held.length > 0 ? `, ${whole(held.at(-1).bytesPerEvent)} bytes held per event` : ""}.`);
  }
  for (const [kind, { bytes, same }] of Object.entries(parts ?? {})) out.push("", `${whole(bytes / 1e6)} MB of ${kind} text give ${same ? "what their halves give, joined" : "NOT what their halves give"}.`);
  if (kernel) out.push("", `Kernel: of use after ${kernel.ready.toFixed(1)} s, the first chart ${kernel["first chart"].toFixed(2)} s after its cell, 100,000 lines of output in ${kernel["100,000 lines"].toFixed(1)} s (${whole(kernel.lost)} lost), notebooks 00 to 08 in ${whole(notebooks.seconds)} s (time elapsed).`);
  if (install) out.push("", `On disk: ${Object.entries(install).map(([args, { bytes }]) => `\`npm ci ${args}\` ${whole(bytes / 1e6)} MB`).join(", ")}.`);
  return out.join("\n");
}
