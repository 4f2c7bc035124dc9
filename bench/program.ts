// What every benchmark that a person starts does.

export function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Ends the process, and all that ends with it, once this is over, or the process is told to end. */
export function program(main: () => Promise<void>): void {
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));
  main().then(
    () => process.exit(),
    (error: Error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
}
