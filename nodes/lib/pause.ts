/** The longest that a timer of Node.js runs, in milliseconds. */
export const MAX_TIMEOUT = 2 ** 31 - 1;

/** A wait that a time-out ends, unless something else does before. */
export class Pause {
  #end: (() => void) | undefined;

  /** Resolves after so many milliseconds (Infinity: never), or at the next `end`. */
  async wait(timeout: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      if (timeout !== Infinity) timer = setTimeout(resolve, timeout);
      this.#end = resolve;
    });
    clearTimeout(timer);
    this.#end = undefined;
  }

  end(): void {
    this.#end?.();
  }
}
