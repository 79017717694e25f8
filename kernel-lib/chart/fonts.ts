import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// These three of DejaVu's 22 come with the package; they stand beside the source, of which dist/ is the copy.
const folder = ["./fonts", "../../chart/fonts"].map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path))!;

/** Path of a font that pictures are drawn with. */
export const fontFile = (name: "DejaVuSans.ttf" | "DejaVuSans-Bold.ttf" | "DejaVuSansMono.ttf"): string => join(folder, name);
