import { KernelLibError } from "../errors.js";
import { escapeHtml, visible } from "../format.js";
import { display, kernelWriter } from "./show.js";

/** A claim that the data does not bear out. */
export class CheckError extends KernelLibError {
  override name = "CheckError";
}

/**
 * Says a claim and whether it holds: one green or red line. A claim that does not hold fails the cell, so that a notebook whose
 * data no longer says what its text says cannot be executed to its end.
 * @param details the numbers behind the claim, in words.
 * @throws CheckError where `condition` is false.
 */
export function check(condition: boolean, claim: string, details = ""): void {
  // A condition that is no boolean (a promise, a missing value) would pass or fail by accident.
  if (typeof condition !== "boolean") throw new CheckError(`check "${claim}" got ${condition === null ? "null" : typeof condition} instead of true or false`);
  const colour = condition ? "#1a7f37" : "#cf222e";
  const mark = condition ? "✓" : "✗";
  const text = `${mark} ${visible(claim)}${details ? ` (${visible(details)})` : ""}`;
  const html = `<div class="kernel-lib-check" style="border-left:4px solid ${colour};padding:2px 10px"><span style="color:${colour};font-weight:bold">${mark}</span> `
    + `${escapeHtml(claim)}${details ? ` <span style="opacity:0.65">${escapeHtml(details)}</span>` : ""}</div>`;
  if (condition || kernelWriter()) display({ data: { "text/html": html, "text/plain": text }, metadata: {} });
  if (!condition) throw new CheckError(`does not hold: ${claim}${details ? ` (${details})` : ""}`);
}
