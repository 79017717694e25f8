// Only what folding needs: the rest of the library would take as long to load as 50 MB of text to fold.
import { foldSamples, type FoldOptions } from "./analysis/fold-samples.js";
import "./parse/detect.js"; // so that an error can say what the text looks like
import { loadPerfSamples } from "./parse/perf-parts.js";
import { accounting, accountingLine, oneLine } from "./source/lines.js";

const ROWS_AT_ONCE = 5000;

/** Folds the stacks of perf script's output to standard output. Says so where lines were not understood. */
export async function foldFile(path: string, options: FoldOptions, workers: number, say: (line: string) => void): Promise<void> {
  const samples = await loadPerfSamples(path, { quiet: true, workers });
  const count = accounting(samples);
  if (count.notUnderstood > 0) say(`kernel-lib: ${accountingLine(count)}`);
  const { stack, value } = foldSamples({ raw: samples.raw, source: count.source }, options);
  let text = "";
  for (let i = 0; i < stack.length; i++) {
    text += `${oneLine(stack[i])} ${value[i]}\n`;
    if ((i + 1) % ROWS_AT_ONCE !== 0 && i + 1 < stack.length) continue;
    if (!process.stdout.write(text)) await new Promise<void>((resolve) => process.stdout.once("drain", resolve));
    text = "";
  }
}
