import type { ColumnTable } from "arquero";
import type { Profile } from "../parse/perf-script.js";
import { DictionaryColumn, makeTable } from "../source/columns.js";
import { foldStacks } from "./fold.js";
import { mergedColumns, type Scale, type Side } from "./merge-stacks.js";
import { frameOf, planOf, sum, weightOf, type HostAndGuest, type Lane, type NestOptions } from "./nest-plan.js";
import { inByteOrder } from "./stack-texts.js";

/** Frames of nestStacks that stand for time that no guest's stack can be given. */
export const notAttributed = { noSample: "[guest mode, no guest sample]", noVcpu: "[guest mode, vCPU not known]" } as const;
const NO_STACK = "[in KVM_RUN, no stack]";

/**
 * Host and guest in one table of stacks, side, stack, value, in which nothing counts twice: the guest's stacks stand inside the vCPU thread that ran them, below
 * a frame "vCPU N", and have together the time that the thread was in guest mode. All values add up to the CPU time of the host, guest mode included, to the ns.
 *
 * - Per vCPU and slice of time the guest's stacks share out the time in guest mode in proportion to their weights. The guest's idle samples take none
 *   where they count a clock, which goes on while the vCPU sleeps.
 * - A slice that the guest's recording does not cover whole gives them no more time than they had; the rest, and guest mode without any sample of the
 *   guest, is a frame "[guest mode, no guest sample]". Without an offset of the clocks the one slice is the whole recording of the host.
 * - Guest mode of no known vCPU is a frame "[guest mode, vCPU not known]". Samples of the guest for which the host has no time are left out; `nestWeights` counts them.
 * - "[in KVM_RUN, no stack]" is host time: perf gives the guest samples that it takes in the kernel's KVM_RUN (arm64), and has no stack for them.
 *
 * perf script prints samples in guest mode with --guestmount=DIR alone (any folder will do). Without a guest's profile those samples' own frames are nested.
 * @throws OptionError where the host's profile shows no time in guest mode, where weights cannot be brought to time, or an option does not fit
 */
export function nestStacks(profiles: HostAndGuest, options: NestOptions = {}): ColumnTable {
  const plan = planOf(profiles, options);
  const { host, guest, scales, lanes, time } = plan;
  const stacks: Record<Side, Map<string, number>> = { host: new Map(), guest: new Map() };
  const add = (side: Side, stack: string, value: number) => { if (value > 0) stacks[side].set(stack, (stacks[side].get(stack) ?? 0) + value); };
  const fold = (side: Side, profile: Profile, keep: (row: number) => boolean, name: (stack: string) => string) => {
    foldStacks(profile, { ...options, keep }).scan((row, data) => add(side, name(data!.stack.at(row!) as string), data!.value.at(row!) as number));
  };
  // Values in ns from here on, so that the weights of a profile are its periods.
  const weighed = inNs(host, scales.host);
  const nested = (row: number) => time.isGuestMode(row), hidden = (row: number) => time.isGuests(row) && !time.isGuestMode(row);
  fold("host", weighed, (i) => plan.laneOf(i) === lanes.length && !nested(i) && !hidden(i), (stack) => stack);
  const anonymous = unnamed(weighed);
  lanes.forEach((lane, l) => {
    if (lane.tid === null) return;
    const root = rootOf(lane);
    fold("host", anonymous, (i) => plan.laneOf(i) === l && !nested(i) && !hidden(i), (stack) => root + stack);
    if (guest) {
      const slices = plan.guestSlices, factor = plan.factors[l];
      const own = (i: number) => plan.guestNs[i] > 0 && plan.guestLaneOf(i) === l && slices[i] >= 0 && factor[slices[i]] > 0;
      const shared = { ...guest, raw: { ...guest.raw, period: Float64Array.from(plan.guestNs, (ns, i) => (slices[i] < 0 ? 0 : ns * factor[slices[i]])) } };
      fold("guest", shared, own, (stack) => `${root};<guest>${stack}`);
      add("host", `${root};${notAttributed.noSample}`, sum(plan.unattributed[l]));
    } else if (time.counted) fold("guest", anonymous, (i) => plan.laneOf(i) === l && nested(i), (stack) => `${root};<guest>${stack}`);
    else add("host", `${root};${notAttributed.noSample}`, sum(time.cells[l]));
  });
  for (const i of scales.host.rows) {
    if (hidden(i)) add("host", plan.laneOf(i) < lanes.length ? `${rootOf(lanes[plan.laneOf(i)])};${NO_STACK}` : `${(host.raw.comm.at(i) ?? "").replaceAll(" ", "_")};${NO_STACK}`, weighed.raw.period[i]);
  }
  add("host", notAttributed.noVcpu, sum(time.cells[lanes.length]));
  return tableOfStacks(stacks, scales.unit);
}

/** Rounded to whole units, for flamegraph.pl, so that the sum is that of the exact values. */
function tableOfStacks(stacks: Record<Side, Map<string, number>>, unit: string): ColumnTable {
  const side: Side[] = [], stack: string[] = [], value: number[] = [];
  let exact = 0, rounded = 0;
  for (const name of ["host", "guest"] as const) {
    for (const text of inByteOrder([...stacks[name].keys()])) {
      exact += stacks[name].get(text)!;
      side.push(name);
      stack.push(text);
      value.push(Math.round(exact) - rounded);
      rounded = Math.round(exact);
    }
  }
  const meaning = unit === "ns" ? "CPU time of the host; the guest's stacks have the time that their vCPU was in guest mode." : `${unit} of the host; the guest's stacks have those in guest mode.`;
  return makeTable({ ...mergedColumns, value: { ...mergedColumns.value, unit, meaning } }, { side, stack, value: Float64Array.from(value) });
}

const rootOf = (lane: Lane): string => `${lane.comm!.replaceAll(" ", "_")};${frameOf(lane)}`;
const inNs = (profile: Profile, { nsPerUnit }: Scale): Profile => ({ ...profile, raw: { ...profile.raw, period: Float64Array.from({ length: profile.raw.length }, (_, i) => weightOf(profile, i) * nsPerUnit) } });
/** Without the processes' names, which perf does not always know. */
const unnamed = (profile: Profile): Profile => ({ ...profile, raw: { ...profile.raw, comm: new DictionaryColumn(new Int32Array(profile.raw.length).fill(-1), []) } });
