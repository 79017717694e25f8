import { bundleOf, formatValue, fromTraceCmd } from "kernel-lib";
import { expect, it } from "vitest";

it.each([
  [12345, "ns", "12.3 µs"], [187_000, "ns", "187 µs"], [999, "ns", "999 ns"], [1_500_000_000, "ns", "1.50 s"], [0.5, "ns", "0.500 ns"], [0, "ns", "0 ns"],
  [-12345, "ns", "-12.3 µs"], [1536, "bytes", "1.50 KiB"], [512, "bytes", "512 B"], [1.24e9, "bit/s", "1.24 Gbit/s"], [30.19, "%", "30.2 %"],
  [48211, null, "48,211"], [48211, "count", "48,211"], [2.71828, null, "2.72"], [1234.5, null, "1,235"], [1e-9, null, "1.00e-9"], [7, "cycles", "7 cycles"],
  [null, "ns", "no value"], [undefined, "ns", "no value"], [Infinity, "ns", "Infinity"],
])("formatValue(%s, %s) is %s", (value, unit, expected) => {
  expect(formatValue(value, unit)).toBe(expected);
});

it("writes addresses in hexadecimal, as the kernel prints them", () => {
  const mmio = fromTraceCmd(" qemu-system-aar-696   [001]   667.657943: kvm_mmio:             mmio write len 4 gpa 0xa003a50 val 0x1\n").of("kvm_mmio");
  expect(bundleOf(mmio).data["text/plain"]).toContain("0xa003a50");
  expect(bundleOf(mmio.select("gpa").filter("d => d.gpa > 0")).data["text/html"]).toContain(">0xa003a50</td>");
});
