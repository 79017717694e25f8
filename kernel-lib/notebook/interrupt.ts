import { setInterruption } from "../source/interrupt.js";
import { kernelWriter } from "./show.js";

/** In a notebook an interrupt of the cell (SIGINT, in our kernel and in plain tslab) stops all loads under way. Elsewhere it ends the program, as ever. */
export function installInterruption(): void {
  const underWay = new Set<() => void>();
  const stopAll = (): void => { for (const stop of [...underWay]) stop(); };
  setInterruption((stop) => {
    if (!kernelWriter()) return () => {};
    if (underWay.size === 0) process.on("SIGINT", stopAll);
    underWay.add(stop);
    return () => {
      underWay.delete(stop);
      if (underWay.size === 0) process.off("SIGINT", stopAll);
    };
  });
}
