// What each further thread of perf-parts.ts runs: reads its part, says how far it is, and hands over what it found.
import { parentPort, workerData } from "node:worker_threads";
import { sent } from "./perf-join.js";
import { readHere, type Part, type SentPart } from "./perf-parts.js";

const port = parentPort!;
// What fails here ends the thread, and is the error of its part.
void readHere(workerData as Part, (bytes, rows) => port.postMessage([bytes, rows])).then(({ result, count }) => {
  const [samples, buffers] = sent(result), part: SentPart = { result: samples, count };
  port.postMessage(part, buffers);
});
