import { createHmac, randomUUID, timingSafeEqual } from "node:crypto";

/** A Jupyter message, as https://jupyter-client.readthedocs.io/en/stable/messaging.html describes it. */
export interface Message {
  identities: Buffer[];
  header: { msg_id: string; msg_type: string; session: string; username: string };
  content: any;
}

const DELIMITER = Buffer.from("<IDS|MSG>");

function sign(key: string, parts: (Buffer | string)[]): string {
  if (key === "") return "";
  const hash = createHmac("sha256", key);
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** @throws where the frames are no message or their signature is wrong. */
export function decode(frames: Buffer[], key: string): Message {
  const at = frames.findIndex((frame) => frame.equals(DELIMITER));
  if (at < 0 || frames.length < at + 6) throw new Error("not a Jupyter message");
  const [signature, ...parts] = frames.slice(at + 1);
  const wanted = Buffer.from(sign(key, parts.slice(0, 4)));
  if (signature.length !== wanted.length || !timingSafeEqual(signature, wanted)) throw new Error("a message's signature is wrong");
  const [header, , , content] = parts.slice(0, 4).map((part) => JSON.parse(part.toString("utf8")));
  return { identities: frames.slice(0, at), header, content };
}

const session = randomUUID();
let sent = 0;

export function encode(type: string, content: object, parent: Message | null, key: string, identities: (Buffer | string)[]): (Buffer | string)[] {
  const header = {
    msg_id: `${session}_${sent++}`, session, username: parent?.header.username ?? "kernel", date: new Date().toISOString(), msg_type: type, version: "5.3",
  };
  const parts = [header, parent?.header ?? {}, {}, content].map((part) => JSON.stringify(part));
  return [...identities, DELIMITER, sign(key, parts), ...parts];
}
