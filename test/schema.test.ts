import { describe, expect, it } from "vitest";
import { schema } from "kernel-lib";

const UNITLESS = /^(string|boolean|hex)$/;

describe("schema", () => {
  it.each(Object.entries(schema))("%s: every column says what it means, its unit, and when it is null", (_, columns) => {
    expect(Object.keys(columns).length).toBeGreaterThan(0);
    for (const [name, spec] of Object.entries(columns)) {
      expect(spec.meaning, `${name}: meaning`).toMatch(/\w+ ?.{6,}/);
      expect(spec, `${name}: unit`).toHaveProperty("unit");
      if (spec.unit === null && !UNITLESS.test(spec.type)) {
        expect(spec.meaning, `${name} is a number without a unit; say what it counts or identifies`).toMatch(/\b(id|number|index|code|register|priority|queue|level|state|flag|depth|bits|address|position|value|cpu|pid|tid|core|socket|ratio|length|line|vcpu|interrupt|EC)\b/i);
      }
      if ("null" in spec) expect(spec.null, `${name}: when null`).toMatch(/\w{2,}/);
    }
  });
});
