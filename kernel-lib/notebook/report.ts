export async function writeReport(_notebooks: string[], _file: string, _options: { title?: string } = {}): Promise<void> {
  throw new Error("not yet");
}
