// Every public name, in the order in which data flows.

export { ColumnTable } from "arquero";

export { KernelLibError, ParseError, MissingEventError, MissingFileError, OptionError } from "./errors.js";
export type { Source } from "./source/bytes.js";
export { accounting, type Accounting, type ParseOptions, type LoadOptions } from "./source/lines.js";
export type { ColumnSpec, Columns, RowOf, Column } from "./source/columns.js";
export { schema, describe } from "./schema.js";
export type { Trace, TraceArrays } from "./trace.js";
