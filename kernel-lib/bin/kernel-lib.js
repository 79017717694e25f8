#!/usr/bin/env node
import { existsSync } from "node:fs";

const [major, minor] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`kernel-lib needs Node 20.19 or newer; this is ${process.versions.node}. Install one from https://nodejs.org`);
  process.exit(1);
}
const cli = new URL("../dist/cli.js", import.meta.url);
if (!existsSync(cli)) {
  console.error("kernel-lib is not built yet; run: npm run build");
  process.exit(1);
}
const { main } = await import(cli.href);
await main(process.argv.slice(2));
