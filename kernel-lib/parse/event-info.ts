import { DictionaryColumn, newCodes, NullableColumn, type Column, type Columns } from "../source/columns.js";
import type { EventFields } from "./event-decoder.js";

/**
 * Columns of an event that events.ts does not list, from its text. Done once per distinct text, when somebody asks:
 *
 *     (ffff800000eea444)                             a kprobe: probe_ip
 *     (tun_get_user+0x0/0xeb0 [tun] <- tun_sendmsg)  a return probe: probe_ip, ret_ip
 *     dev=tap0 len=118 rc=0                          key=value
 *     0x4e                                           a system call's return: ret
 *     1.234 us   |    tun_get_user [tun]();          function_graph: dur, depth, function
 */
export function fieldsOfInfo(event: string, info: DictionaryColumn): EventFields {
  const read = event.startsWith("funcgraph_") ? graph : event.startsWith("sys_exit") ? returned : keyValues;
  const parsed = info.values.map(read);
  const keys = [...new Set(parsed.flatMap((fields) => Object.keys(fields)))].slice(0, MOST_FIELDS);
  const columns: Record<string, Column<any>> = {}, specs: Columns = {};
  for (const key of keys) {
    const values = parsed.map((fields) => (Object.hasOwn(fields, key) ? fields[key] : null));
    const numeric = values.every((value) => value === null || typeof value === "number");
    specs[key] = {
      type: numeric ? "number" : values.every((value) => value === null || /^0x/.test(String(value))) ? "hex" : "string",
      unit: key === "dur" ? "ns" : null, meaning: Object.hasOwn(meanings, key) ? meanings[key] : `The event's own field ${key}, a value as printed.`, null: "the event's text has none",
    };
    if (numeric) {
      const data = new Float64Array(info.length);
      for (let i = 0; i < data.length; i++) data[i] = info.codes[i] < 0 ? NaN : (values[info.codes[i]] as number | null) ?? NaN;
      columns[key] = data.some((x) => x !== x) ? new NullableColumn(data) : data;
    } else {
      const texts = new Map<string, number>();
      const codeOf = values.map((value) => {
        if (value === null) return -1;
        const text = String(value), code = texts.get(text) ?? texts.size;
        texts.set(text, code);
        return code;
      });
      const codes = newCodes(info.length, texts.size);
      for (let i = 0; i < codes.length; i++) codes[i] = info.codes[i] < 0 ? -1 : codeOf[info.codes[i]];
      columns[key] = new DictionaryColumn(codes, [...texts.keys()]);
    }
  }
  return { columns, specs, info };
}

/** No event of the kernel has as many fields; a damaged text may, and each would be a column of as many rows. `info` holds them all. */
const MOST_FIELDS = 256;

const meanings: Record<string, string> = {
  probe_ip: "Where the probe sits: an address, or function+offset/size [module].",
  ret_ip: "Where the probed function returns to.",
  ret: "What the call returned; large hexadecimal values are negative error codes.",
  dur: "How long the function ran.",
  depth: "How deep the call is nested, its level.",
  function: "Function called, with its module.",
};

type Fields = Record<string, string | number>;

function keyValues(text: string): Fields {
  const fields: Fields = {};
  // Names that mean the event itself stay apart from the columns that every event has; __proto__ is none that JavaScript could keep.
  const put = (key: string, value: string) => {
    fields[/^(ts|cpu|pid|comm|side|info|__proto__)$/.test(key) ? `${key}_field` : key] = /^-?\d{1,15}$/.test(value) ? Number(value) : value;
  };
  const probe = /^[([]([^()\s]+(?: \[\w+\])?)(?: <- ([^()]+))?[)\]]\s*/.exec(text);
  if (probe) {
    put("probe_ip", hexed(probe[1]));
    if (probe[2]) put("ret_ip", hexed(probe[2]));
    text = text.slice(probe[0].length);
  }
  for (const [, key, value] of text.matchAll(/(?:^|[\s,([])([A-Za-z_]\w*)(?:=|: ?)("[^"]*"|ARRAY\[[^[\]]*\]|[^\s,)\]]+)/g)) {
    if (key === "__probe_ip") put("probe_ip", hexed(value));
    else put(key, value);
  }
  return fields;
}

const returned = (text: string): Fields => (/^-?(0x[0-9a-f]+|\d+)$/.test(text) ? { ret: text } : keyValues(text));

const hexed = (address: string) => (/^[0-9a-f]{8,16}$/.test(address) ? `0x${address}` : address);

function graph(text: string): Fields {
  const m = /^(?:[+!#*@$ ]*([\d.]+) us)?\s*\|( *)(.*)$/.exec(text);
  if (!m) return {};
  const fields: Fields = { depth: Math.max(0, Math.round((m[2].length - 2) / 2)) };
  if (m[1]) fields.dur = Math.round(Number(m[1]) * 1000);
  const name = withoutComment(m[3]).replace(/[{};]/g, "").replace("()", "").trim();
  if (name) fields.function = name;
  return fields;
}

/** "} /* tun_get_user [tun] *\/" where the tracer was told to name what ends (funcgraph-tail). */
function withoutComment(text: string): string {
  const from = text.indexOf("/*"), to = text.indexOf("*/", from + 2);
  return from < 0 || to < 0 ? text : text.slice(0, from) + text.slice(to + 2);
}
