// The programs to compare with: where they are, their versions, and why those that are missing are.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, join, resolve } from "node:path";

const onPath = (name) => (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, name)).find((path) => existsSync(path));
const said = (command, args) => {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  return status === 0 ? (stdout.trim() || stderr.trim()).split("\n")[0].trim() : null;
};

/** What is installed: paths of programs, and of packages by folder. `versions` by name; `missing`: how to get what is not there. */
export function findPeers(option) {
  const versions = {}, missing = {}, paths = {};
  const program = (name, path, version, remedy) => {
    if (path && (versions[name] = version(path))) paths[name] = path;
    else missing[name] = remedy;
  };
  // inferno does not tell its version; cargo does.
  const cargo = (path) => {
    const list = join(path, "..", "..", ".crates.toml");
    return (existsSync(list) && /"inferno (\S+)/.exec(readFileSync(list, "utf8"))?.[1]) || "of unknown version";
  };
  program("inferno", option.inferno ?? onPath("inferno-collapse-perf"), cargo, "cargo install inferno, or --inferno PATH");
  program("FlameGraph", option.perl ?? onPath("stackcollapse-perf.pl"), (path) => existsSync(path) && said("perl", ["-e", 'print "stackcollapse-perf.pl with Perl $^V"']), "--perl PATH of FlameGraph's stackcollapse-perf.pl");
  const recorded = (file, tool) => (file && existsSync(file) ? tool : null);
  program("trace-cmd", recorded(option["trace-dat"], onPath("trace-cmd")), () => /\d\S*/.exec(spawnSync("trace-cmd", ["--version"], { encoding: "utf8" }).stdout)?.[0], "apt install trace-cmd, and --trace-dat PATH of a recording");
  program("perf", recorded(option["perf-data"], onPath("perf")), (path) => said(path, ["--version"])?.replace("perf version ", ""), "apt install linux-perf, and --perf-data PATH of a recording");
  program("Python", option.python, (path) => said(path, ["-c", "import platform; print(platform.python_version())"]), "--python PATH");
  for (const [name, module, distribution] of [["pandas", "pandas", "pandas"], ["polars", "polars", "polars"], ["LISA", "lisa", "lisa-linux"]]) {
    program(name, paths.Python, (path) => said(path, ["-c", `import importlib.metadata, importlib.util as u; assert u.find_spec("${module}"); print(importlib.metadata.version("${distribution}"))`]), `pip install ${distribution}, and --python PATH of that Python`);
  }
  for (const [name, packageName] of [["speedscope", "speedscope"], ["DuckDB", "@duckdb/node-api"], ["nodejs-polars", "nodejs-polars"]]) {
    const folders = [option["node-modules"], resolve("node_modules")].filter(Boolean).map((folder) => join(resolve(folder), packageName));
    program(name, folders.find((folder) => existsSync(join(folder, "package.json"))), (folder) => JSON.parse(readFileSync(join(folder, "package.json"), "utf8")).version, `npm install ${packageName} in a folder of its own, and --node-modules PATH`);
  }
  return { versions, missing, paths };
}

/** A package from a folder that is not ours. */
export const requirePeer = (folder) => createRequire(join(folder, "package.json"))(folder);

/**
 * speedscope's importer. Its package holds the page alone, one script for browsers; the importer is a module within, reached by a cut in
 * the script where the page would ask for it. What draws the page is never run.
 */
export function speedscopeImporter(folder) {
  const release = join(folder, "dist", "release");
  const script = readFileSync(join(release, readdirSync(release).find((name) => /^speedscope-.*\.js$/.test(name))), "utf8");
  const name = /(\w+),\{[^}]*importProfileGroupFromText:/.exec(script)?.[1];
  const asked = new RegExp(`Promise\\.resolve\\(\\)\\.then\\(\\(\\)=>\\((\\w+)\\(\\),${name}\\)\\)`).exec(script);
  if (!asked) throw new Error("this version of speedscope is built in another way than the one this was written for (1.25)");
  const cut = `${script.slice(0, asked.index)}(()=>{found(()=>(${asked[1]}(),${name}));throw "found"})()${script.slice(asked.index + asked[0].length)}`;
  const element = () => ({ style: {}, getContext: () => null });
  const page = { createElement: element, addEventListener() {}, body: element(), head: element(), documentElement: element(), querySelector: () => null, querySelectorAll: () => [] };
  const media = () => ({ addEventListener() {}, addListener() {}, matches: false });
  const location = { hash: "", href: "", protocol: "file:" };
  const window = Object.assign(Object.create(globalThis), { addEventListener() {}, matchMedia: media, location, document: page });
  let importer;
  try {
    const run = new Function("found", "window", "document", "location", "matchMedia", "console", cut);
    run((found) => { importer = found(); }, window, page, location, media, { ...console, log() {} });
  } catch (error) {
    if (error !== "found") throw error;
  }
  return importer;
}
