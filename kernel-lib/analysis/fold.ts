import type { ColumnTable } from "arquero";
import type { Profile } from "../parse/perf-script.js";
import { foldedColumns } from "../parse/folded.js";
import { makeTable, type Columns } from "../source/columns.js";
import { foldSamples, type FoldOptions } from "./fold-samples.js";

export type { FoldOptions };

/**
 * Samples → one row per distinct stack with its weight: stack (root first, the process's name before it), value (sum of periods;
 * a sample without a period counts as 1), in byte order of the stacks. `toFolded` of it equals, to the byte, what FlameGraph's stackcollapse-perf.pl
 * prints with the options of the same names, but for the samples that the script loses: those on one line, and the last of a text that
 * lacks its closing blank line. `describe(result)` says which event was taken, in which unit.
 * @throws OptionError when the profile does not have the event
 */
export function foldStacks(profile: Profile, options: FoldOptions = {}): ColumnTable {
  const { stack, value, unit, meaning } = foldSamples(profile, options);
  const columns: Columns = { ...foldedColumns, value: { type: "number", unit, meaning } };
  return makeTable(columns, { stack, value });
}
