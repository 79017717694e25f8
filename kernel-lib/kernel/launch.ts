import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { StringDecoder } from "node:string_decoder";
import { format } from "node:util";
import type * as library from "../index.js";
import { libraryFolders, loadTslab, loadZmq, type Converter, type Diagnostic, type Executor, type Tslab } from "./compiler.js";
import { describeDiagnostics, describeError, INTERRUPTED, type CellError, type RunCell } from "./traceback.js";
import { decode, encode, type Message } from "./wire.js";

interface Connection {
  transport: string; ip: string; key: string;
  shell_port: number; control_port: number; iopub_port: number; stdin_port: number; hb_port: number;
}

/** Run before the first cell. A notebook may say the same again. */
const PRELUDE = 'import * as kl from "kernel-lib";';
/** Requests that came before a cell failed are dropped, as other kernels do; so long are they waited for. */
const ABORT_WINDOW_MS = 50;
/** So long does the start of the compiler, which nothing can interrupt, wait for the front end to ask who is there. */
const GREETING_MS = 500;
/** Loads that are under way hear an interrupt, too (notebook/interrupt.ts); so long they have to say in the cell's error how far they were. */
const INTERRUPT_MS = 100;
const STREAM_FLUSH_MS = 50, STREAM_FLUSH_CHARS = 1 << 18;

/** Serves one Jupyter client, until it says to shut down. */
export async function launchKernel(connectionFile: string): Promise<void> {
  const connection = JSON.parse(readFileSync(connectionFile, "utf8")) as Connection;
  const zmq = loadZmq();
  const iopub = new zmq.Publisher(), shell = new zmq.Router(), control = new zmq.Router(), stdin = new zmq.Router(), heartbeat = new zmq.Reply();
  // Above its high-water mark a publisher drops messages without a word, the final "idle" among them.
  iopub.sendHighWaterMark = 0;
  const address = (port: number) => `${connection.transport}://${connection.ip}:${port}`;
  await Promise.all([
    iopub.bind(address(connection.iopub_port)), shell.bind(address(connection.shell_port)), control.bind(address(connection.control_port)),
    stdin.bind(address(connection.stdin_port)), heartbeat.bind(address(connection.hb_port)),
  ]);

  const publish = (type: string, content: object, parent: Message | null) => {
    void iopub.send(encode(type, content, parent, connection.key, [type]));
  };
  const reply = (socket: any, request: Message, content: object) => {
    void socket.send(encode(request.header.msg_type.replace(/_request$/, "_reply"), content, request, connection.key, request.identities));
  };

  // ---- Output: what is written belongs to the cell that ran last, also after it has ended.
  let parent: Message | null = null;
  let pending: { name: string; text: string[]; size: number } | null = null;
  let timer: NodeJS.Timeout | null = null;
  const flush = () => {
    if (timer) clearTimeout(timer);
    timer = null;
    if (!pending) return;
    const { name, text } = pending;
    pending = null;
    publish("stream", { name, text: text.join("") }, parent);
  };
  const writeStream = (name: string, text: string) => {
    if (text === "") return;
    if (pending && (pending.name !== name || pending.size > STREAM_FLUSH_CHARS)) flush();
    pending ??= { name, text: [], size: 0 };
    pending.text.push(text);
    pending.size += text.length;
    timer ??= setTimeout(flush, STREAM_FLUSH_MS);
  };
  const redirect = (name: "stdout" | "stderr") => {
    const decoder = new StringDecoder("utf8");
    process[name].write = ((chunk: string | Uint8Array, encoding?: unknown, callback?: unknown) => {
      writeStream(name, typeof chunk === "string" ? chunk : decoder.write(Buffer.from(chunk)));
      const done = typeof encoding === "function" ? encoding : callback;
      if (typeof done === "function") process.nextTick(done as () => void);
      return true;
    }) as typeof process.stdout.write;
  };
  const displayWriter = (request: Message | null) => (content: any, update: boolean) => {
    flush();
    publish(update ? "update_display_data" : "display_data", { metadata: {}, transient: {}, ...content }, request);
  };

  // ---- Cells.
  const cells = new Map<number, RunCell>();
  let count = 0;
  let source = "";
  let value: unknown;
  let failure: CellError | null = null;
  let refused: Diagnostic[] = [];
  let tslab: Tslab, converter: Converter, executor: Executor;
  const startCompiler = () => {
    tslab = loadTslab(libraryFolders());
    converter = tslab.converter.createConverter({ isJS: false, isBrowser: false });
    const node: Converter = {
      ...converter,
      convert(previous, code) {
        const converted = converter.convert(previous, code);
        refused = converted.diagnostics;
        cells.set(count, { source: code, maps: tslab.lastMaps(), lines: converted.output?.trimEnd().split("\n").length ?? 0 });
        // Names the script in stack traces, which would else all say evalmachine.<anonymous>.
        if (converted.output) converted.output += `\n//# sourceURL=In[${count}]`;
        return converted;
      },
    };
    executor = tslab.executor.createExecutor(process.cwd(), {
      node,
      get browser(): Converter { throw new Error("cells for a browser (%%browser) are not supported"); },
      close: () => converter.close(),
    }, {
      log: (result) => { value = result; },
      error: (first, ...rest) => {
        if (rest.length === 0) failure = describeError(first, cells);
        else if (refused.length > 0) failure ??= describeDiagnostics(refused, source, count);
        else writeStream("stderr", `${format(first, ...rest)}\n`); // a module cell (/** @module name */) is kept with its faults
      },
    });
  };

  const run = async (code: string): Promise<CellError | null> => {
    source = code;
    value = undefined;
    failure = null;
    refused = [];
    try {
      const ok = await executor.execute(code);
      if (ok) return null;
      return failure ?? { ename: "Error", evalue: "the cell failed", traceback: ["the cell failed without saying why"] };
    } catch (error) {
      return describeError(error, cells);
    }
  };

  /** The library as the notebook gets it, which may be another copy than ours; its tables know their units. */
  const notebookLibrary = (): typeof library => {
    try {
      return createRequire(`${process.cwd()}/cell.js`)("kernel-lib");
    } catch {
      return createRequire(import.meta.url)("../index.js");
    }
  };

  const showResult = async (request: Message): Promise<CellError | null> => {
    if (value === undefined || value === null) return null;
    try {
      const { data, metadata } = notebookLibrary().bundleOf(value);
      const bundle = { data: await data, metadata };
      flush();
      publish("execute_result", { execution_count: count, ...bundle }, request);
      return null;
    } catch (error) {
      return describeError(error, cells);
    } finally {
      value = undefined;
    }
  };

  let greeted = () => {};
  const greeting = new Promise<void>((resolve) => { greeted = () => setTimeout(resolve, 20); }); // the answer is on its way by then
  let abortUpTo = -1, received = 0;
  // What is interrupted while the compiler still starts are the cells that wait for it.
  let started = false, interruptedEarly = false, interruptedUpTo = -1;
  const interrupt = () => {
    const cell = count;
    if (started) setTimeout(() => { if (count === cell) executor.interrupt(); }, INTERRUPT_MS);
    else interruptedEarly = true;
  };
  const execute = async (socket: any, request: Message, order: number): Promise<void> => {
    const { code, silent = false, stop_on_error: stopOnError = true } = request.content;
    if (order <= abortUpTo) return reply(socket, request, { status: "aborted", execution_count: count });
    flush();
    parent = request;
    tslab.jupyter.lastWriteDisplayData = displayWriter(request);
    count++;
    if (!silent) publish("execute_input", { code, execution_count: count }, request);
    const error = order <= interruptedUpTo ? describeError(new Error(INTERRUPTED), cells) : await run(code) ?? (silent ? null : await showResult(request));
    flush();
    if (!error) return reply(socket, request, { status: "ok", execution_count: count, payload: [], user_expressions: {} });
    publish("error", error, request);
    if (stopOnError) {
      await sleep(ABORT_WINDOW_MS);
      abortUpTo = received;
    }
    reply(socket, request, { status: "error", execution_count: count, ...error });
  };

  const handle = async (socket: any, request: Message, order: number): Promise<void> => {
    const { content } = request;
    publish("status", { execution_state: "busy" }, request);
    try {
      switch (request.header.msg_type) {
        case "kernel_info_request": reply(socket, request, kernelInfo()); greeted(); break;
        case "execute_request": await execute(socket, request, order); break;
        case "is_complete_request": {
          const { completed, indent } = tslab.converter.isCompleteCode(content.code);
          reply(socket, request, completed ? { status: "complete" } : { status: "incomplete", indent: indent ?? "" });
          break;
        }
        case "inspect_request": {
          const info = executor.inspect(content.code, content.cursor_pos);
          reply(socket, request, { status: "ok", found: info !== null && info !== undefined, data: info ? { "text/plain": tslab.inspect.printQuickInfo(info) } : {}, metadata: {} });
          break;
        }
        case "complete_request": {
          const { start, end, candidates } = executor.complete(content.code, content.cursor_pos);
          reply(socket, request, { status: "ok", matches: candidates, cursor_start: start, cursor_end: end, metadata: {} });
          break;
        }
        case "comm_info_request": reply(socket, request, { status: "ok", comms: {} }); break;
        case "history_request": reply(socket, request, { status: "ok", history: [] }); break;
        case "interrupt_request": process.emit("SIGINT", "SIGINT"); reply(socket, request, { status: "ok" }); break;
        case "shutdown_request":
          reply(socket, request, { status: "ok", restart: content.restart ?? false });
          flush();
          publish("status", { execution_state: "idle" }, request);
          await sleep(50); // lets the sockets send
          process.exit(0);
      }
    } catch (error) {
      const described = describeError(error, cells);
      if (request.header.msg_type.endsWith("_request")) reply(socket, request, { status: "error", ...described });
    } finally {
      publish("status", { execution_state: "idle" }, request);
    }
  };

  // ---- Requests: one at a time, in order; those of the control channel at once.
  let queue: Promise<void> = Promise.resolve();
  const serve = async (socket: any, inOrder: boolean) => {
    for await (const frames of socket) {
      let request: Message;
      try {
        request = decode(frames as Buffer[], connection.key);
      } catch {
        continue; // not from our client
      }
      const order = ++received;
      const atOnce = !inOrder || request.header.msg_type === "kernel_info_request";
      if (atOnce) void handle(socket, request, order);
      else queue = queue.then(() => handle(socket, request, order));
    }
  };

  redirect("stdout");
  redirect("stderr");
  process.on("SIGINT", interrupt);
  process.on("uncaughtException", (error) => writeStream("stderr", outside("An error outside of any cell", error, cells)));
  process.on("unhandledRejection", (error) => writeStream("stderr", outside("A promise failed that no cell awaited", error, cells)));
  endWithParent();
  publish("status", { execution_state: "starting" }, null);
  queue = queue.then(async () => {
    await Promise.race([greeting, sleep(GREETING_MS)]);
    startCompiler();
    // A script that can be interrupted takes SIGINT for itself and drops one that waits: let it in before.
    await sleep(1);
    converter.convert("", PRELUDE);
    await sleep(1);
    let error = await run(PRELUDE);
    await sleep(1);
    if (interruptedEarly || error?.ename === "Interrupted") {
      await sleep(ABORT_WINDOW_MS);
      interruptedUpTo = received;
      if (error) error = await run(PRELUDE);
    }
    started = true;
    if (error) writeStream("stderr", `kernel-lib could not be imported: ${error.evalue}\n`);
  });
  void serve(shell, true);
  void serve(control, false);
  void serve(stdin, false);
  for await (const frames of heartbeat) await heartbeat.send(frames);
}

function outside(what: string, error: unknown, cells: Map<number, RunCell>): string {
  return `${what}:\n${describeError(error, cells).traceback.join("\n")}\n`;
}

function kernelInfo(): object {
  const require = createRequire(import.meta.url);
  const { version } = require("../../package.json");
  return {
    status: "ok", protocol_version: "5.3", implementation: "kernel-lib", implementation_version: version,
    banner: `kernel-lib ${version}: TypeScript with Arquero tables and Vega-Lite charts (Node ${process.version})`,
    language_info: {
      name: "typescript", version: "5.0", mimetype: "text/typescript", file_extension: ".ts",
      pygments_lexer: "typescript", codemirror_mode: { name: "javascript", mode: "typescript", typescript: true },
    },
    help_links: [],
  };
}

/** A Jupyter that was killed cannot say to shut down. */
function endWithParent(): void {
  const begin = process.ppid;
  setInterval(() => { if (process.ppid !== begin) process.exit(1); }, 1000).unref();
}
