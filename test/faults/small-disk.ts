// A file system of its own, small enough to be filled.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

function run(command: string, ...args: string[]): void {
  const isRoot = process.getuid?.() === 0;
  execFileSync(isRoot ? command : 'sudo', isRoot ? args : ['-n', command, ...args], { stdio: 'pipe' });
}

/** Mounted in a new folder, for which this process needs the rights of root, or sudo without a password. */
export class SmallDisk {
  readonly directory = mkdtempSync(join(tmpdir(), 'small-disk-'));
  readonly #filler = join(this.directory, 'filler');

  constructor(kilobytes: number) {
    run('mount', '-t', 'tmpfs', '-o', `size=${kilobytes}k,mode=777`, 'tmpfs', this.directory);
  }

  /** Leaves no byte free. */
  fill(): void {
    for (let size = 2 ** 20; size >= 1; size = size >> 1) {
      try {
        for (;;) writeFileSync(this.#filler, Buffer.alloc(size), { flag: 'a' });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
      }
    }
  }

  makeRoom(): void {
    rmSync(this.#filler);
  }

  /** Fails while a file is open for writing. */
  setWritable(isWritable: boolean): void {
    run('mount', '-o', isWritable ? 'remount,rw' : 'remount,ro', this.directory);
  }

  remove(): void {
    // Also when something has failed, and files are still open.
    run('umount', '-l', this.directory);
    rmdirSync(this.directory);
  }
}

/** A disk that fails when its cache is written back: its image lies on a file system that has no more room. */
export class FailingDisk {
  readonly directory = mkdtempSync(join(tmpdir(), 'failing-disk-'));
  readonly #under = new SmallDisk(3000);

  constructor() {
    const image = join(this.#under.directory, 'image');
    run('truncate', '-s', '32M', image);
    run('mkfs.ext4', '-q', '-O', '^has_journal', '-b', '1024', image);
    run('mount', '-o', 'loop', image, this.directory);
    run('chmod', '777', this.directory);
  }

  fail(): void {
    this.#under.fill();
  }

  mend(): void {
    this.#under.makeRoom();
  }

  remove(): void {
    run('umount', '-l', this.directory);
    rmdirSync(this.directory);
    this.#under.remove();
  }
}

/** A disk whose power can be cut: it has lost what programs had written by then, and not flushed to it. */
export class PoweredDisk {
  readonly directory = mkdtempSync(join(tmpdir(), 'powered-disk-'));
  readonly #image = join(mkdtempSync(join(tmpdir(), 'image-')), 'image');

  constructor(megabytes: number) {
    run('truncate', '-s', `${megabytes}M`, this.#image);
    run('mkfs.ext4', '-q', this.#image);
    this.#mount();
    run('chmod', '777', this.directory);
  }

  /** After it all is as the disk had it then. Who used it is to be killed before. */
  cutPower(): void {
    const kept = `${this.#image}-kept`;
    // Before it is unmounted, which would flush all.
    copyFileSync(this.#image, kept);
    run('umount', '-l', this.directory);
    renameSync(kept, this.#image);
    this.#mount();
  }

  remove(): void {
    run('umount', '-l', this.directory);
    rmdirSync(this.directory);
    rmSync(join(this.#image, '..'), { recursive: true });
  }

  #mount(): void {
    run('mount', '-o', 'loop', this.#image, this.directory);
  }
}
