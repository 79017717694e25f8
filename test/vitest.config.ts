import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

export default defineConfig({
  root: fileURLToPath(new URL("..", import.meta.url)),
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/setup.ts"],
    testTimeout: 120_000,
    hookTimeout: 600_000,
  },
  resolve: {
    alias: [{ find: /^kernel-lib$/, replacement: fileURLToPath(new URL("../kernel-lib/index.ts", import.meta.url)) }],
  },
});
