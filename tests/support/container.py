"""A container as far as this machine can make one without an engine.

Namespaces for processes and mounts, a root file system that is read-only, an
arbitrary user of group 0 without a name, no capabilities. All of it goes with
the process: what is mounted is private to it, and the file systems of this
machine are bound read-only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

UID = 1000670000  # as OpenShift gives one; nobody has it here
HOME = "/home/eda"
NEEDED = ("unshare", "setpriv", "chroot", "mount")
FOLDER = "/tmp/stage"  # where the container sees the test's folder

# new: an empty folder, the root to be. kind: of /proc. shared: the test's
# folder. The rest: folders to be covered, since others may not enter them,
# each after "cover"; folders that are needed and may be covered by now, each
# after "need"; "--", and the command.
SCRIPT = f"""
set -eu
new=$1 kind=$2 shared=$3
shift 3
mount --make-rprivate /
mount --bind / "$new"
mount -o remount,bind,ro "$new"
mount --rbind /dev "$new/dev"
mount -t tmpfs -o mode=1777 tmpfs "$new/tmp"
mount -t tmpfs -o mode=755 tmpfs "$new/home"
mkdir "$new{HOME}" "$new{FOLDER}"
mount -t tmpfs -o mode=770 tmpfs "$new{HOME}"
mount --bind "$shared" "$new{FOLDER}"
if [ "$kind" = none ]; then
    mount -t tmpfs -o ro tmpfs "$new/proc"
else
    mount -t proc -o "$kind" proc "$new/proc"
fi
while [ "$1" != -- ]; do
    if [ "$1" = cover ]; then
        mkdir -p "$new$2"
        mount -t tmpfs -o mode=755 tmpfs "$new$2"
    elif ! [ -d "$new$2" ]; then
        mkdir -p "$new$2"
        mount --bind "$2" "$new$2"
        mount -o remount,bind,ro "$new$2"
    fi
    shift 2
done
shift
exec chroot "$new" setpriv --reuid {UID} --regid 0 --clear-groups \\
    --inh-caps=-all --bounding-set=-all --no-new-privs -- "$@"
"""


@lru_cache
def obstacle() -> str:
    """Why no container can be made here, or nothing."""
    if not sys.platform.startswith("linux"):
        return "containers are Linux's"
    if os.geteuid():
        return "only root may make these namespaces"
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        text=True,
    )
    return done.stderr.strip()


def contained(
    command: Sequence[str],
    *,
    root: Path,
    shared: Path,
    environ: Mapping[str, str],
    proc: str = "hidepid=2",
) -> list[str]:
    """The words of a process that runs the command as process 1.

    :param root: an empty folder, to be mounted on.
    :param shared: seen as :data:`FOLDER`; the only folder of this machine
        that can be written to.
    :param environ: all that it has.
    :param proc: options of its ``/proc``, or ``none``: it has none.
    """
    folders = [str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix]
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", SCRIPT, "container"),
        *(str(root), proc, str(shared), *_reaching(folders), "--"),
        *("env", "-i", *(f"{key}={value}" for key, value in environ.items())),
        *command,
    ]


def _reaching(folders: Sequence[str]) -> Iterator[str]:
    """What the script does so that others may enter these folders.

    On the way may be a closed one: /root, or .tox, which tox makes so.
    """
    covered = set()
    for folder in folders:
        for above in reversed(Path(folder).parents):
            if above not in covered and not above.stat().st_mode & 0o001:
                covered.add(above)
                yield from ("cover", str(above))
        yield from ("need", folder)
