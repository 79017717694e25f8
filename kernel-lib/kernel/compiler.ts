import { existsSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { delimiter, dirname, join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import type { CellMaps } from "./traceback.js";

/** tslab's parts, as far as they are used here. Its insides are no public interface: the version is pinned exactly. */
export const TSLAB_VERSION = "1.0.22";

export interface Diagnostic {
  start: { line: number; character: number };
  end: { line: number; character: number };
  messageText: string;
  fileName?: string;
}
export interface Converted {
  output?: string;
  diagnostics: Diagnostic[];
}
export interface Converter {
  convert(previous: string, source: string): Converted;
  close(): void;
}
export interface Executor {
  execute(source: string): Promise<boolean>;
  inspect(source: string, position: number): object | null;
  complete(source: string, position: number): { start: number; end: number; candidates: string[] };
  interrupt(): void;
  close(): void;
}
export interface Tslab {
  converter: { createConverter(options: { isJS: boolean; isBrowser: boolean }): Converter; isCompleteCode(code: string): { completed: boolean; indent?: string } };
  executor: { createExecutor(folder: string, converters: { node: Converter; browser: Converter; close(): void }, console: { log(value: unknown): void; error(...args: unknown[]): void }): Executor };
  /** Where tslab's own display functions, and kl.show, look for the running cell's writer. */
  jupyter: { lastWriteDisplayData: ((content: object, update: boolean) => void) | null };
  inspect: { printQuickInfo(info: object): string };
  /** What the converter was last given and made of it: the way back from a line of JavaScript to a line of the cell. */
  lastMaps(): CellMaps | null;
}

/** The node_modules folders in which this package stands, innermost first: there a notebook finds the library, wherever it lies. */
export function libraryFolders(): string[] {
  const found: string[] = [];
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    if (folder.endsWith(`${sep}node_modules`)) found.push(folder);
    else if (existsSync(join(folder, "node_modules"))) found.push(join(folder, "node_modules"));
    if (dirname(folder) === folder) return found;
  }
}

/** The messages' library, as tslab has it. It is there long before the compiler is. */
export function loadZmq(): any {
  return createRequire(createRequire(import.meta.url).resolve("tslab"))("zeromq");
}

/** Loads tslab, taught to find the library from any folder and to keep source maps. */
export function loadTslab(folders: string[]): Tslab {
  const require = createRequire(import.meta.url);
  const { version } = require("tslab/package.json");
  if (version !== TSLAB_VERSION) throw new Error(`kernel-lib works with tslab ${TSLAB_VERSION} and found ${version}; run: npm install tslab@${TSLAB_VERSION}`);
  const requireTslab = createRequire(require.resolve("tslab"));
  process.env.NODE_PATH = [...folders, process.env.NODE_PATH].filter(Boolean).join(delimiter);
  (Module as unknown as { _initPaths(): void })._initPaths();

  const typescriptPath = requireTslab.resolve("@tslab/typescript-for-tslab");
  const typescript = requireTslab(typescriptPath);
  overlay(typescript.sys, folders);
  let maps: CellMaps | null = null;
  // tslab asks for no source maps; here they are slipped into the two steps of its conversion.
  requireTslab.cache[typescriptPath]!.exports = {
    ...typescript,
    createWatchCompilerHost(files: string[], options: object, ...rest: unknown[]) {
      // With `types`, the cells' compiler does not read every @types package that happens to be installed.
      const host = typescript.createWatchCompilerHost(files, { ...options, inlineSourceMap: true, types: ["node"] }, ...rest);
      const { createProgram } = host;
      host.createProgram = (...args: unknown[]) => {
        const builder = createProgram(...args);
        knowShorthand(typescript, builder.getProgram().getTypeChecker());
        return builder;
      };
      return host;
    },
    visitEachChild: (node: any, visit: (node: any) => any, ...rest: unknown[]) => {
      if (!typescript.isShorthandPropertyAssignment(node)) return typescript.visitEachChild(node, visit, ...rest);
      const value = visit(node.name);
      return value === node.name ? node : typescript.factory.createPropertyAssignment(node.name.text, value);
    },
    transpileModule(input: string, options: { compilerOptions: object }) {
      const [code, first] = input.split(/\n\/\/# sourceMappingURL=data:application\/json;base64,/);
      const result = typescript.transpileModule(code, { ...options, compilerOptions: { ...options.compilerOptions, sourceMap: true } });
      maps = { toModule: first ? Buffer.from(first, "base64").toString("utf8") : null, toCommonJs: result.sourceMapText };
      return { ...result, outputText: result.outputText.replace(/\n\/\/# sourceMappingURL=.*\s*$/, "\n") };
    },
  };
  return {
    converter: requireTslab("./converter.js"),
    executor: requireTslab("./executor.js"),
    jupyter: requireTslab("./jupyter.js"),
    inspect: requireTslab("./inspect.js"),
    lastMaps: () => maps,
  };
}

/**
 * tslab asks which variables a cell uses, to look them up among those of earlier cells. For `{ names }` the compiler names the
 * property, not the variable, so that tslab would leave it unbound.
 */
function knowShorthand(typescript: any, checker: any): void {
  const { getSymbolAtLocation } = checker;
  if (getSymbolAtLocation.knowsShorthand) return;
  checker.getSymbolAtLocation = (node: any) => {
    const parent = node.parent;
    return (parent && typescript.isShorthandPropertyAssignment(parent) && parent.name === node && checker.getShorthandAssignmentValueSymbol(parent))
      || getSymbolAtLocation.call(checker, node);
  };
  checker.getSymbolAtLocation.knowsShorthand = true;
}

/** Lets the compiler see `folders` behind the node_modules of the notebook's folder, which need not exist. */
function overlay(sys: any, folders: string[]): void {
  const own = join(process.cwd(), "node_modules");
  const real = { fileExists: sys.fileExists, directoryExists: sys.directoryExists };
  const elsewhere = (path: string, exists: (path: string) => boolean): string => {
    if (typeof path !== "string" || (path !== own && !path.startsWith(own + sep)) || exists(path)) return path;
    for (const folder of folders) {
      const other = folder + path.slice(own.length);
      if (exists(other)) return other;
    }
    return path;
  };
  const either = (path: string) => real.fileExists(path) || real.directoryExists(path);
  for (const name of ["fileExists", "directoryExists", "readFile", "getDirectories", "readDirectory", "realpath", "getModifiedTime"]) {
    const fn = sys[name];
    if (typeof fn !== "function") continue;
    const exists = name === "fileExists" ? real.fileExists : name === "directoryExists" ? real.directoryExists : either;
    sys[name] = (path: string, ...rest: unknown[]) => fn.call(sys, elsewhere(path, exists), ...rest);
  }
  // Most of what the compiler reads to begin with are Node's types, and most of these are comments, each of which it would take to pieces.
  const { readFile } = sys;
  sys.readFile = (path: string, ...rest: unknown[]) => {
    const text: string | undefined = readFile(path, ...rest);
    return text !== undefined && /[\\/]@types[\\/]node[\\/]/.test(path) ? text.replace(/\/\*\*[^]*?\*\//g, "") : text;
  };
}
