/** Every error that kernel-lib throws on purpose. The message says what was wrong, where, and what to do. */
export class KernelLibError extends Error {
  override name = "KernelLibError";
}

/** Text that a parser cannot use: which file and line, what was expected there, what the file looks like. */
export class ParseError extends KernelLibError {
  override name = "ParseError";
  constructor(
    /** What failed and what to do about it, in one sentence, lower case. */
    problem: string,
    /** The file's path, or "text" where there is none. */
    readonly file: string,
    /** Line number, from 1; null where the whole file is meant. */
    readonly line: number | null = null,
    /** The line's text, shortened. */
    readonly text: string | null = null,
  ) {
    const where = line === null ? file : `${file}:${line}`;
    super(`${where}: ${problem}${text === null ? "" : `\n  ${line === null ? "" : `${line} | `}${text}`}`);
  }
}

/** Compressed data that would take more room than it may. The message says how much that is, and the way out where the data is honest. */
export class UnpackLimitError extends KernelLibError {
  override name = "UnpackLimitError";
}

/** A load that was told to stop: by its signal, or because the notebook's cell was interrupted. */
export class InterruptedError extends KernelLibError {
  override name = "InterruptedError";
}

/** An analysis needs events that the trace does not hold. */
export class MissingEventError extends KernelLibError {
  override name = "MissingEventError";
  constructor(analysis: string, readonly missing: string[], present: string[], record: string) {
    const has = present.length === 0 ? "no events" : present.slice(0, 12).join(", ") + (present.length > 12 ? ", …" : "");
    super(`${analysis} needs ${missing.join(", ")}; this trace has ${has}. Record it with: ${record}`);
  }
}

/** A study or run was asked for a recording that its folder does not hold. */
export class MissingFileError extends KernelLibError {
  override name = "MissingFileError";
}

/** An option or argument has a value that the function does not take; the message names the value and what is allowed. */
export class OptionError extends KernelLibError {
  override name = "OptionError";
}
