/** Runs one command line; sets the exit code. */
export async function main(argv: string[]): Promise<void> {
  const [command, ...rest] = argv;
  if (command === "kernel") {
    const { launchKernel } = await import("./kernel/launch.js");
    await launchKernel(rest[0]);
  }
}
