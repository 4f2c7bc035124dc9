// Programs of a newer Debian than this machine's, without a container: its /usr in a folder, mounted for one process only.
import { cached, run } from './broker';

/** What it takes to be root for a mount or a package: not to be root on this machine. */
const NAMESPACE = ['--mount', '--map-root-user'];

/**
 * Unpacks a package of the Debian of that name, e.g. trixie, with all it needs to run. Resolves with the folder.
 * Rejects with the reason when that cannot be done here.
 */
export async function unpacked(suite: string, name: string): Promise<string> {
  await run('unshare', [...NAMESPACE, 'true']).catch((error: Error) => {
    throw new Error(`no namespace can be had here: ${error.message}`);
  });
  return cached(`${suite}_${name}`, async (directory) => {
    const [mirror, validity] = await Promise.all([ownMirror(), ownValidity()]);
    const options = ['--quiet', '--mode=root', '--skip=check/canunshare,setup/mknod', '--variant=extract'];
    const packages = `--include=${name},dash,coreutils,sed`; // what is essential is no dependency, yet its scripts need it
    const apt = `--aptopt=Acquire::Check-Valid-Until "${validity}"`;
    await run('unshare', [...NAMESPACE, 'mmdebstrap', ...options, packages, apt, suite, directory, mirror], {
      env: { ...process.env, TAR_OPTIONS: '--no-same-owner' }, // a namespace has no other user or group than root
    }).catch((error: Error) => {
      throw new Error(`no ${name} of Debian ${suite} (mmdebstrap is needed): ${error.message}`);
    });
  });
}

/**
 * The command that runs another, given as its last arguments, with the /usr of that folder. All else is this machine's, and
 * nobody else sees the mount. Each step is an exec, so that what is spawned becomes the program itself.
 */
export function within(tree: string): [string, ...string[]] {
  return ['unshare', ...NAMESPACE, 'sh', '-c', 'mount --bind "$0/usr" /usr && exec "$@"', tree];
}

async function ownMirror(): Promise<string> {
  const { stdout } = await run('apt-get', ['indextargets', '--format', '$(REPO_URI)', 'Label: Debian']);
  const [mirror] = stdout.split('\n');
  if (!mirror) throw new Error('apt has no mirror of Debian here');
  return mirror;
}

/** Mirrors of a past day carry lists that have expired. Where such a one is used, apt was told to allow it. */
async function ownValidity(): Promise<string> {
  const { stdout } = await run('apt-config', ['dump', '--format', '%v%n', 'Acquire::Check-Valid-Until']);
  return stdout.trim() || 'true';
}
