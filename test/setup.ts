import { setUpLab, SetupError } from "../kernel-lib/kernel/lab.js";
import { ROOT } from "./peer.js";

/** Before all tests: the virtual environment with Jupyter. Without Python its tests are skipped by name, under CI=true nothing is. */
export default function setup(): void {
  try {
    setUpLab(ROOT, (line) => console.log(line));
  } catch (error) {
    if (!(error instanceof SetupError) || process.env.CI === "true") throw error;
    process.env.KERNEL_LIB_NO_JUPYTER = error.message;
  }
}
