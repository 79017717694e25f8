import { readFileSync } from "node:fs";
import { fontFile } from "./fonts.js";

/** How wide a text is in the font that the pictures are drawn with (DejaVu Sans), in pixels. Vega alone, without a browser, takes 0.8 × size for every letter, half as much again. */
export function textWidth(text: string, size: number, bold = false): number {
  const { advance, perEm } = (fonts[bold ? 1 : 0] ??= readFont(bold ? "DejaVuSans-Bold.ttf" : "DejaVuSans.ttf"));
  let sum = 0;
  for (const letter of text) sum += advance(letter.codePointAt(0)!);
  return (sum * size) / perEm;
}

interface Font { advance(code: number): number; perEm: number }
const fonts: (Font | undefined)[] = [];

/** The advances of a TrueType font: tables head, hhea, hmtx, and cmap in its format 4 (the OpenType specification has them all). */
function readFont(file: Parameters<typeof fontFile>[0]): Font {
  const bytes = readFileSync(fontFile(file));
  const at = (name: string): number => {
    for (let i = 0; i < bytes.readUInt16BE(4); i++) if (bytes.toString("latin1", 12 + i * 16, 16 + i * 16) === name) return bytes.readUInt32BE(20 + i * 16);
    throw new Error(`${file} has no table ${name}`);
  };
  const perEm = bytes.readUInt16BE(at("head") + 18), metrics = bytes.readUInt16BE(at("hhea") + 34), widths = at("hmtx"), cmap = at("cmap");
  let map = 0;
  for (let i = 0; i < bytes.readUInt16BE(cmap + 2); i++) {
    const table = cmap + bytes.readUInt32BE(cmap + 8 + i * 8);
    if (bytes.readUInt16BE(table) === 4) map = table;
  }
  const twice = bytes.readUInt16BE(map + 6);
  const glyph = (code: number): number => {
    for (let i = 0; i < twice; i += 2) {
      if (bytes.readUInt16BE(map + 14 + i) < code) continue;
      const start = bytes.readUInt16BE(map + 16 + twice + i);
      if (start > code) return 0;
      const delta = bytes.readUInt16BE(map + 16 + 2 * twice + i), place = map + 16 + 3 * twice + i, offset = bytes.readUInt16BE(place);
      if (offset === 0) return (code + delta) & 0xffff;
      const found = bytes.readUInt16BE(place + offset + 2 * (code - start));
      return found === 0 ? 0 : (found + delta) & 0xffff;
    }
    return 0;
  };
  const known = new Map<number, number>();
  return {
    perEm,
    advance(code) {
      let width = known.get(code);
      if (width === undefined) known.set(code, (width = bytes.readUInt16BE(widths + 4 * Math.min(code > 0xffff ? 0 : glyph(code), metrics - 1))));
      return width;
    },
  };
}
