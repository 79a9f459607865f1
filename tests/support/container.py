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
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

UID = 1000670000  # as OpenShift gives one; nobody has it here
HOME = "/home/eda"
NEEDED = ("unshare", "setpriv", "chroot", "mount")
FOLDER = "/tmp/stage"  # where the container sees the test's folder

# new: an empty folder, the root to be. kind: of /proc. shared: the test's
# folder. closed: a folder that others may not enter, or nothing. The rest:
# folders that are needed and may be covered by now, "--", and the command.
SCRIPT = f"""
set -eu
new=$1 kind=$2 shared=$3 closed=$4
shift 4
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
[ -z "$closed" ] || mount -t tmpfs -o mode=755 tmpfs "$new$closed"
while [ "$1" != -- ]; do
    if ! [ -d "$new$1" ]; then
        mkdir -p "$new$1"
        mount --bind "$1" "$new$1"
        mount -o remount,bind,ro "$new$1"
    fi
    shift
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
        *(str(root), proc, str(shared), _closed(sys.base_prefix)),
        *(*folders, "--"),
        *("env", "-i", *(f"{key}={value}" for key, value in environ.items())),
        *command,
    ]


def _closed(folder: str) -> str:
    """The first folder on the way that others may not enter; /root, say."""
    for above in reversed(Path(folder).parents):
        if not above.stat().st_mode & 0o001:
            return str(above)
    return ""
