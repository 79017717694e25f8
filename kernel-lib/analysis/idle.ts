// Idle exclusion: what a CPU spends waiting for work is not use.
//
// Idle is a property of the function that runs, the leaf of a stack. "swapper" is not: softirqs run on top of the idle task.
// "pid 0" on the host is not: a guest idles in a vCPU thread. A name with "idle" in it is not: idle_cpu and
// pick_next_task_idle are the scheduler at work. So rules name functions, and a stack is idle where its leaf is one of them,
// with no interrupt, softirq or scheduler frame in between.
import { ColumnTable } from "arquero";
import { OptionError } from "../errors.js";
import { profileEventColumns, type Profile, type ProfileArrays } from "../parse/perf-script.js";
import { BooleanColumn, columnsOf, describeColumns, DictionaryColumn, NullableColumn, tableOf, type Column, type Columns, type RowOf } from "../source/columns.js";

export const idleRuleColumns = {
  rule: { type: "string", unit: null, meaning: "Name of the rule that the function belongs to: wait, loop or helper; your own rules, your own names." },
  symbol: { type: "string", unit: null, meaning: "Function, without compiler suffixes such as .constprop.0 or .isra.0." },
  arch: { type: "string", unit: null, meaning: "Where the function exists: arm64, x86, all, or other.", null: "a rule of your own" },
  under: { type: "boolean", unit: null, meaning: "Whether the function counts as idle only where an idle function called it directly. That takes a stack: in rows without one it never counts." },
  why: { type: "string", unit: null, meaning: "Why the function counts as idle.", null: "a rule of your own" },
} as const satisfies Columns;

const WAIT = "the CPU, or the hypervisor on its behalf, sleeps in it";
const LOOP = "the idle task's loop around the wait: entering, choosing a depth, leaving";
const HELPER = "called by the loop itself; a sample lands here when the interrupt that ends the wait is let in";

// perf's own list (symbol__is_idle in tools/perf/util/symbol.c) without idle_cpu, which asks about a CPU and does not idle;
// and what that list lacks of arm64 and of recent kernels.
const RULES: [rule: string, arch: string, under: boolean, why: string, symbols: string][] = [
  ["wait", "all", false, WAIT, "arch_cpu_idle default_idle cpuidle_enter_state poll_idle"],
  ["wait", "arm64", false, WAIT, `cpu_do_idle cpu_do_idle_irqprio psci_cpu_suspend_enter psci_cpu_suspend psci_enter_idle_state psci_enter_domain_idle_state
    __psci_enter_domain_idle_state arm_cpuidle_suspend arm_enter_idle_state acpi_processor_ffh_lpi_enter acpi_idle_lpi_enter`],
  ["wait", "x86", false, WAIT, `native_safe_halt pv_native_safe_halt native_halt xen_safe_halt tdx_safe_halt amd_e400_idle mwait_idle mwait_idle_with_hints
    intel_idle intel_idle_irq intel_idle_ibrs intel_idle_xstate intel_idle_hlt intel_idle_s2idle acpi_safe_halt acpi_idle_do_entry acpi_idle_enter
    acpi_idle_enter_bm acpi_idle_enter_s2idle acpi_processor_ffh_cstate_enter default_enter_idle`],
  ["wait", "other", false, WAIT, "ppc64_runlatch_off pseries_dedicated_idle_sleep psw_idle"],
  ["loop", "all", false, LOOP, `cpu_startup_entry cpu_idle do_idle default_idle_call cpuidle_idle_call call_cpuidle call_cpuidle_s2idle cpuidle_enter cpuidle_enter_s2idle
    cpuidle_select cpuidle_reflect cpuidle_get_cpu_driver cpuidle_get_device cpuidle_not_available cpuidle_governor_latency_req menu_select menu_reflect teo_select teo_reflect
    haltpoll_select arch_cpu_idle_enter arch_cpu_idle_exit arch_cpu_idle_prepare enter_idle exit_idle ct_idle_enter ct_idle_exit rcu_idle_enter rcu_idle_exit
    tick_nohz_idle_enter tick_nohz_idle_exit tick_nohz_idle_stop_tick tick_nohz_idle_retain_tick tick_nohz_idle_restart_tick tick_nohz_idle_got_tick
    tick_nohz_get_sleep_length`],
  ["helper", "all", true, HELPER, `arch_local_irq_enable arch_local_irq_disable arch_local_irq_save arch_local_irq_restore raw_local_irq_enable local_clock sched_clock ktime_get`],
  ["helper", "arm64", true, HELPER, "__arm_smccc_smc __arm_smccc_hvc arm_smccc_1_1_hvc __invoke_psci_fn_smc __invoke_psci_fn_hvc psci_0_2_cpu_suspend cpu_suspend __cpu_suspend_enter psci_suspend_finisher"],
];

/** Which functions count as idle, and why; one row per function. Filter it, or add rows, and pass the result as the option `rules`. */
export const idleRules: ColumnTable = tableOf(idleRuleColumns, RULES.flatMap(([rule, arch, under, why, symbols]) =>
  symbols.split(/\s+/).map((symbol) => ({ rule, symbol, arch, under, why }))));

/** A rule as an object: `{ rule: "mine", symbol: "my_wait" }`. */
export interface IdleRule {
  rule: string;
  symbol: string;
  /** Counts only where an idle function called it directly; default false. */
  under?: boolean;
  why?: string | null;
}

export interface IdleOptions {
  /** Which functions count as idle; default: `idleRules`. A table with the columns rule and symbol (and under, why), or an array of such objects. */
  rules?: ColumnTable | readonly IdleRule[];
}

export interface ExcludeIdleOptions extends IdleOptions {
  /**
   * A report by command (or by command and thread, CPU …) of the same recording: idle time is subtracted from its rows, as the
   * talk does by hand. Default: none, idle rows are left out.
   */
  from?: ColumnTable;
}

export const idleAuditColumns = {
  run: { type: "string", unit: null, meaning: "Run that the rows belong to.", null: "the rows belong to none" },
  side: { type: "string", unit: null, meaning: "host or guest: which machine was recorded.", null: "not known" },
  event: { type: "string", unit: null, meaning: "Event that was sampled.", null: "the text does not name it" },
  verdict: { type: "string", unit: null, meaning: "idle: excluded. kept: not excluded, though a grep for idle would have taken it." },
  rule: { type: "string", unit: null, meaning: "Rule that took it.", null: "it was kept" },
  comm: { type: "string", unit: null, meaning: "Command it was taken from: `swapper` for a machine's own idle task, `:TID` or `[guest/PID]` for a guest's.", null: "the rows have no command" },
  symbol: { type: "string", unit: null, meaning: "Function in which the CPU was; for stacks that were kept, the function that runs straight on top of the idle loop." },
  rows: { type: "number", unit: "rows", meaning: "How many rows of a report, folded stacks, or samples." },
  value: { type: "number", unit: "events", meaning: "Their weight: sum of periods, or of the stacks' values.", null: "rows of a report" },
  overhead: { type: "number", unit: "%", meaning: "Their share of all that was recorded (of this event, run and side)." },
  why: { type: "string", unit: null, meaning: "Why the rule counts the function as idle, or why it was kept.", null: "the rule does not say" },
} as const satisfies Columns;

type Rule = Required<IdleRule>;
type AuditRow = RowOf<typeof idleAuditColumns>;

/** Suffixes that compilers append to a function's name, the marks of stackcollapse-perf.pl, and an offset. */
const SUFFIXES = /(?:\+0x[0-9a-f]+|_\[[kij]\]|\.(?:constprop|isra|part|cold|llvm|lto_priv)(?:\.\d+)*)+$/;
const ON_TOP = "work on top of the idle loop: an interrupt, a softirq, the scheduler";
const NAME_ONLY = "no rule names it: idle is in its name, yet it works";
const plainName = (symbol: string): string => symbol.replace(SUFFIXES, "");

/** Function name → the rule that names it. */
function compile(rules: IdleOptions["rules"] = idleRules): (symbol: string) => Rule | undefined {
  const rows = (rules instanceof ColumnTable ? rules.objects() : rules) as IdleRule[];
  if (!Array.isArray(rows)) throw new OptionError("option rules must be a table or an array of { rule, symbol }, such as idleRules");
  const bySymbol = new Map<string, Rule>();
  for (const row of rows) {
    if (typeof row?.rule !== "string" || typeof row.symbol !== "string") throw new OptionError(`option rules: each rule needs the names rule and symbol; this one is ${JSON.stringify(row)}`);
    bySymbol.set(plainName(row.symbol), { rule: row.rule, symbol: row.symbol, under: row.under ?? false, why: row.why ?? null });
  }
  const seen = new Map<string, Rule | undefined>();
  return (symbol) => {
    if (!seen.has(symbol)) seen.set(symbol, bySymbol.get(plainName(symbol)));
    return seen.get(symbol);
  };
}

const namesIdle = (symbol: string): boolean => /idle/i.test(symbol);
const isProfile = (input: object): input is Profile => "raw" in input && "samples" in input;

/**
 * Leaves out what counts as idle. What it leaves out and what it keeps add up to what there was; percentages are not rescaled,
 * and are exact to the digit that perf printed.
 *
 * - Rows of a report with functions (loadPerfReport): the rows of idle functions go. With `from`, a table by command of the
 *   same recording comes back, less the idle time of each command.
 * - Folded stacks (columns stack, value): stacks that end in idle go.
 * - A profile (loadPerfScript): samples that end in idle go.
 *
 * @throws OptionError where the table has no functions, or where `from` does not fit it
 */
export function excludeIdle(profile: Profile, options?: ExcludeIdleOptions): Profile;
export function excludeIdle(rows: ColumnTable, options?: ExcludeIdleOptions): ColumnTable;
export function excludeIdle(input: ColumnTable | Profile, options: ExcludeIdleOptions = {}): ColumnTable | Profile {
  const ruleOf = compile(options.rules);
  if (isProfile(input)) {
    if (options.from) throw new OptionError("option from is for rows of perf report; a profile needs none");
    const nodes = stackVerdicts(input.raw, ruleOf);
    const kept: number[] = [];
    for (let i = 0; i < input.raw.length; i++) if (!nodes.rule[input.raw.stack[i]]) kept.push(i);
    return pickSamples(input, kept);
  }
  const rules = rowRules(input, ruleOf);
  if (options.from) return subtract(options.from, input, rules);
  return pickRows(input, visibleRows(input).filter((row) => !rules.has(row)));
}

/**
 * What `excludeIdle` takes from the same input, which rule takes it and why; and what it keeps although a grep for `idle`
 * would take it. Most first. @throws OptionError where the table has no functions
 */
export function idleAudit(input: ColumnTable | Profile, options: IdleOptions = {}): ColumnTable {
  const ruleOf = compile(options.rules);
  const audit = new Audit();
  if (isProfile(input)) {
    const { raw } = input;
    const nodes = stackVerdicts(raw, ruleOf);
    for (let i = 0; i < raw.length; i++) {
      const node = raw.stack[i], event = raw.event.at(i), weight = raw.period[i] > 0 ? raw.period[i] : 1;
      const rule = nodes.rule[node], above = nodes.above[node];
      const symbol = rule ? raw.symbol[raw.frame[node]] : above >= 0 ? raw.symbol[above] : null;
      audit.add({ run: null, side: null, event }, rule, raw.comm.at(i), symbol, weight, true);
    }
    return audit.table();
  }
  const rules = rowRules(input, ruleOf);
  const at = reader(input), folded = isFolded(input);
  if (folded) audit.unit = columnsOf(input).value?.unit ?? audit.unit;
  for (const row of visibleRows(input)) {
    const of = { run: at("run", row) as string | null, side: at("side", row) as string | null, event: at("event", row) as string | null };
    const rule = rules.get(row);
    if (folded) {
      const frames = String(at("stack", row)).split(";");
      const symbol = rule ? frames[frames.length - 1] : stackVerdict(frames, ruleOf).above;
      audit.add(of, rule, frames[0], symbol, at("value", row) as number, true);
    } else {
      const symbol = at("symbol", row) as string | null;
      const kernel = !isUserRow(at, row);
      audit.add(of, rule, at("comm", row) as string | null, symbol !== null && (rule || (kernel && namesIdle(symbol))) ? symbol : null, (at("overhead", row) as number | null) ?? 0, false);
    }
  }
  return audit.table();
}

// ---- rows

const visibleRows = (table: ColumnTable): number[] => Array.from(table.indices());
const isFolded = (table: ColumnTable): boolean => table.columnNames().includes("stack") && table.columnNames().includes("value");

/** Reads a cell by column and row of the underlying data; null where there is no such column. */
function reader(table: ColumnTable): (name: string, row: number) => unknown {
  const columns = new Map(table.columnNames().map((name) => [name, table.column(name)!]));
  return (name, row) => columns.get(name)?.at(row) ?? null;
}

const isUserRow = (at: (name: string, row: number) => unknown, row: number): boolean => /^[.u]$/.test(String(at("kind", row)));

/** Rows of a report, or folded stacks → the rule that takes the row, where one does. */
function rowRules(table: ColumnTable, ruleOf: (symbol: string) => Rule | undefined): Map<number, Rule> {
  const names = table.columnNames();
  const found = new Map<number, Rule>();
  const at = reader(table);
  if (isFolded(table)) {
    for (const row of visibleRows(table)) {
      const rule = stackVerdict(String(at("stack", row)).split(";"), ruleOf).rule;
      if (rule) found.set(row, rule);
    }
    return found;
  }
  if (!names.includes("symbol")) {
    throw new OptionError(`idle time is found by function: needs the column symbol (perf report by function) or stack and value (folded stacks); this table has ${names.join(", ")}. A report by command goes in as the option from: excludeIdle(functions, { from: commands })`);
  }
  for (const row of visibleRows(table)) {
    const symbol = at("symbol", row);
    const rule = symbol === null || isUserRow(at, row) ? undefined : ruleOf(String(symbol));
    if (rule && !rule.under) found.set(row, rule);
  }
  return found;
}

/** A table of some rows of another, by row of the underlying data; columns keep their kind and their description. */
function pickRows(table: ColumnTable, rows: number[]): ColumnTable {
  const names = table.columnNames();
  const columns = Object.fromEntries(names.map((name) => [name, pick(table.column(name) as Column<unknown>, rows)]));
  return describeColumns(new ColumnTable(columns as never, names), columnsOf(table));
}

function pick(column: Column<any>, rows: number[]): Column<any> {
  if (column instanceof DictionaryColumn) return column.take(rows);
  if (column instanceof NullableColumn) return new NullableColumn(Float64Array.from(rows, (row) => column.data[row]));
  if (column instanceof BooleanColumn) return new BooleanColumn(Uint8Array.from(rows, (row) => column.data[row]));
  if (column instanceof Float64Array) return Float64Array.from(rows, (row) => column[row]);
  if (column instanceof Int32Array) return Int32Array.from(rows, (row) => column[row]);
  return rows.map((row) => column.at(row));
}

const KEYS = ["run", "side", "event", "comm", "pid", "tid", "cpu", "socket"];
const SHARES = ["overhead", "sys", "usr", "guest_sys", "guest_usr"];
const COUNTS = ["samples", "period"];
/** Shares are added in ten-thousandths, as integers, so that 30.72 − 0.53 is 30.19. */
const SCALE = 1e4;

/** A table by command, less the idle rows of a table by function. */
function subtract(from: ColumnTable, functions: ColumnTable, rules: Map<number, Rule>): ColumnTable {
  if (isFolded(functions)) throw new OptionError("option from is for rows of perf report; folded stacks need none");
  const names = from.columnNames();
  if (names.includes("symbol")) throw new OptionError("option from takes a report by command (perf report --sort=comm); this table has functions, too, so leave the option out");
  if (names.includes("children")) throw new OptionError("option from: a share with children counts callees elsewhere; print the report with --no-children");
  const columns = [...SHARES, ...COUNTS].filter((name) => names.includes(name));
  const missing = columns.filter((name) => !functions.columnNames().includes(name));
  if (missing.length > 0 || columns.length === 0) {
    throw new OptionError(`option from has ${columns.join(", ") || "no overhead"}, the rows by function lack ${missing.join(", ") || "nothing"}; print both reports with the same columns (--show-cpu-utilization, -n)`);
  }
  const ofFrom = reader(from), ofFunctions = reader(functions);
  const fromRows = visibleRows(from);
  const keys = KEYS.filter((key) => names.includes(key) && functions.columnNames().includes(key)
    && fromRows.every((row) => ofFrom(key, row) !== null) && visibleRows(functions).every((row) => ofFunctions(key, row) !== null));
  if (!keys.some((key) => key === "comm" || key === "tid" || key === "pid")) throw new OptionError("option from shares no comm, pid or tid with the rows by function; report both with --sort keys that include comm");

  const keyOf = (at: typeof ofFrom, row: number) => JSON.stringify(keys.map((key) => at(key, row)));
  const byKey = new Map<string, number>();
  for (const row of fromRows) {
    const key = keyOf(ofFrom, row);
    if (byKey.has(key)) throw new OptionError(`option from has several rows for ${keys.join(", ")} = ${key}, and the rows by function cannot tell them apart; report both with the same --sort keys besides dso and symbol`);
    byKey.set(key, row);
  }
  const taken = new Map(columns.map((name) => [name, new Map<number, number>()]));
  for (const row of rules.keys()) {
    const target = byKey.get(keyOf(ofFunctions, row));
    if (target === undefined) throw new OptionError(`option from has no row for ${keys.join(", ")} = ${keyOf(ofFunctions, row)}, which idles in the rows by function; both must come from one recording`);
    for (const name of columns) {
      const sums = taken.get(name)!, value = (ofFunctions(name, row) as number | null) ?? 0;
      sums.set(target, (sums.get(target) ?? 0) + (SHARES.includes(name) ? Math.round(value * SCALE) : value));
    }
  }
  const result = Object.fromEntries(names.map((name) => {
    const column = pick(from.column(name) as Column<unknown>, fromRows);
    const sums = taken.get(name);
    if (!sums) return [name, column];
    return [name, Float64Array.from(fromRows, (row) => {
      const before = ofFrom(name, row) as number | null, idle = sums.get(row) ?? 0;
      if (before === null) return NaN;
      return SHARES.includes(name) ? (Math.round(before * SCALE) - idle) / SCALE : before - idle;
    })];
  }));
  return describeColumns(new ColumnTable(result as never, names), columnsOf(from));
}

// ---- stacks

interface Verdict {
  /** The rule that takes the stack: its leaf's. */
  rule: Rule | undefined;
  /** The function that runs straight on top of the idle loop, or a leaf that merely has idle in its name; null where there is neither. */
  above: string | null;
}

/** Frames from the root, the process first. */
function stackVerdict(frames: string[], ruleOf: (symbol: string) => Rule | undefined): Verdict {
  let rule: Rule | undefined;
  let above: string | null = null;
  for (const frame of frames.slice(1)) {
    const own = ruleOf(frame), before = rule;
    rule = own && (!own.under || before) ? own : undefined;
    if (rule) above = null;
    else if (before) above = frame;
  }
  const leaf = frames[frames.length - 1];
  return { rule, above: above ?? (!rule && frames.length > 1 && namesIdle(leaf) ? leaf : null) };
}

/** The same for every stack of a profile in one walk over its tree: the rule that takes it, and the frame on top of the idle loop, or -1. */
function stackVerdicts({ parent, frame, symbol, kind }: ProfileArrays, ruleOf: (symbol: string) => Rule | undefined): { rule: (Rule | undefined)[]; above: Int32Array } {
  const ruleOfFrame = symbol.map((name, i) => kind[i] === "user" ? undefined : ruleOf(name));
  const idleName = symbol.map((name, i) => kind[i] !== "user" && namesIdle(name));
  const rule: (Rule | undefined)[] = new Array(parent.length).fill(undefined);
  const above = new Int32Array(parent.length).fill(-1);
  // What runs on top of the idle loop stays so for all that it calls; a name with idle in it counts for its own node alone.
  const inherited = new Int32Array(parent.length).fill(-1);
  for (let node = 1; node < parent.length; node++) {
    const caller = parent[node], own = ruleOfFrame[frame[node]];
    if (own && (!own.under || rule[caller])) {
      rule[node] = own;
      continue;
    }
    inherited[node] = rule[caller] ? frame[node] : inherited[caller];
    above[node] = inherited[node] >= 0 ? inherited[node] : idleName[frame[node]] ? frame[node] : -1;
  }
  return { rule, above };
}

function pickSamples(profile: Profile, rows: number[]): Profile {
  const { raw } = profile;
  const ints = (data: Int32Array) => Int32Array.from(rows, (row) => data[row]);
  const floats = (data: Float64Array) => Float64Array.from(rows, (row) => data[row]);
  const kept: ProfileArrays = {
    ...raw, length: rows.length, ts: floats(raw.ts), period: floats(raw.period), cpu: ints(raw.cpu), pid: ints(raw.pid), tid: ints(raw.tid),
    comm: raw.comm.take(rows), event: raw.event.take(rows), stack: ints(raw.stack), unclosed: raw.unclosed && rows[rows.length - 1] === raw.length - 1,
  };
  const events = new Map<string | null, { samples: number; weight: number }>();
  // All events stay in the list, in their order, so that the one that is taken by default stays the same.
  for (const name of profile.events.array("event") as (string | null)[]) events.set(name, { samples: 0, weight: 0 });
  for (let i = 0; i < kept.length; i++) {
    const of = events.get(kept.event.at(i))!;
    of.samples++;
    of.weight += kept.period[i] > 0 ? kept.period[i] : 1;
  }
  return {
    ...profile, samples: pickRows(profile.samples, rows), raw: kept,
    events: tableOf(profileEventColumns, Array.from(events, ([event, of]) => ({ event, ...of }))),
  };
}

// ---- audit

class Audit {
  /** Of the weights. */
  unit: string | null = idleAuditColumns.value.unit;
  private readonly totals = new Map<string, number>();
  private readonly groups = new Map<string, { row: AuditRow; of: string }>();

  /** `symbol` null: neither excluded nor worth a mention, yet part of the total. */
  add(of: { run: string | null; side: string | null; event: string | null }, rule: Rule | undefined, comm: string | null, symbol: string | null, weight: number, weighed: boolean): void {
    const amount = weighed ? weight : Math.round(weight * SCALE);
    const whole = JSON.stringify([of.run, of.side, of.event]);
    this.totals.set(whole, (this.totals.get(whole) ?? 0) + amount);
    if (symbol === null) return;
    const key = JSON.stringify([whole, rule?.rule ?? null, comm, symbol]);
    let group = this.groups.get(key);
    if (!group) {
      const row = { ...of, verdict: rule ? "idle" : "kept", rule: rule?.rule ?? null, comm, symbol, rows: 0, value: weighed ? 0 : null, overhead: 0, why: rule ? rule.why : namesIdle(symbol) ? NAME_ONLY : ON_TOP };
      this.groups.set(key, group = { row, of: whole });
    }
    group.row.rows++;
    if (group.row.value !== null) group.row.value += amount;
    else group.row.overhead += amount;
  }

  table(): ColumnTable {
    const rows = Array.from(this.groups.values(), ({ row, of }) => ({ ...row, overhead: row.value === null ? row.overhead / SCALE : (100 * row.value) / (this.totals.get(of) || 1) }));
    rows.sort((a, b) => (a.verdict < b.verdict ? -1 : a.verdict > b.verdict ? 1 : b.overhead - a.overhead));
    const columns: Columns = { ...idleAuditColumns, value: { ...idleAuditColumns.value, unit: this.unit } };
    // A column that says nothing in any row is left out.
    for (const name of ["run", "side", "event", "value"] as const) if (rows.every((row) => row[name] === null)) delete columns[name];
    return tableOf(columns, rows as unknown as RowOf<Columns>[]);
  }
}
