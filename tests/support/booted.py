"""A machine of its own, with a real systemd, in a container of nspawn.

Its root is this machine's, with a layer in memory on top that takes all that
is written. It has this machine's network, so a server on loopback can be
reached. Only what systemd itself needs is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Callable

BOOT_WITHIN = 120.0  # seconds
END_WITHIN = 60.0  # seconds
LOOK_EVERY = 0.2  # seconds
UP = ("running", "degraded")  # of systemctl is-system-running
ENV = "/opt/ansible-rulebook"  # where the guide installs it
PYTHON = "/opt/python"
VERSION = f"python{sysconfig.get_python_version()}"
PACKAGES = f"{ENV}/lib/{VERSION}/site-packages"
NEEDS = ("systemd-nspawn", "nsenter", "mount")


class CannotBoot(Exception):
    """No such machine can be had here."""


class Booted:
    """The machine. It is up when this returns.

    :param folder: for its log.
    :raises CannotBoot: if that cannot be done here.
    """

    def __init__(self, folder: Path) -> None:
        missing = [name for name in NEEDS if shutil.which(name) is None]
        if os.geteuid() or missing:
            raise CannotBoot(f"needs root, and {', '.join(NEEDS)}")
        self._memory = Path(tempfile.mkdtemp(prefix="booted-"))
        self._log = folder / "boot.log"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._mounted: list[Path] = []
        self.root = self._memory / "root"
        try:
            self._mount_all()
            self._boot()
        except BaseException:
            self.close()
            raise

    def _mount_all(self) -> None:
        layers = [self._memory / name for name in ("upper", "work")]
        self._mount(self._memory, "-t", "tmpfs", "-o", "mode=755", "tmpfs")
        for each in (*layers, self.root):
            each.mkdir()
        options = "lowerdir=/,upperdir={},workdir={}".format(*layers)
        self._mount(self.root, "-t", "overlay", "-o", options, "overlay")

    def _mount(self, where: Path, *args: str) -> None:
        done = subprocess.run(
            ["mount", *args, str(where)], capture_output=True, text=True
        )
        if done.returncode:
            raise CannotBoot(done.stderr.strip())
        self._mounted.append(where)

    def _boot(self) -> None:
        with self._log.open("wb") as log:
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn",
                    f"--directory={self.root}",
                    f"--machine=booted-{os.getpid()}",
                    "--register=no",
                    "--keep-unit",
                    "--quiet",
                    "--boot",
                    "systemd.unit=basic.target",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + BOOT_WITHIN
        asked = ("systemctl", "is-system-running")
        while self.run(*asked, check=False) not in UP:
            if self._nspawn.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text("utf-8", errors="replace")
                raise CannotBoot(f"systemd does not start: {said[-1000:]}")
            time.sleep(LOOK_EVERY)

    def _init(self) -> int | None:
        """The number of its first process, for this machine."""
        assert self._nspawn is not None
        pid = self._nspawn.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        except OSError:
            return None
        return int(children.split()[0]) if children.strip() else None

    def close(self) -> None:
        """Shut it down; nothing of it is left."""
        if self._nspawn is not None:
            self._nspawn.terminate()  # it tells systemd, and waits
            try:
                self._nspawn.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        for where in reversed(self._mounted):
            subprocess.run(["umount", "--lazy", where], check=True)
        self._memory.rmdir()

    # -- what is done in it ----------------------------------------------

    def run(self, *argv: str, check: bool = True) -> str:
        """What a command prints that is run in it."""
        init = self._init()
        if init is None:
            return ""
        done = subprocess.run(
            [
                "nsenter", f"--target={init}", "--mount", "--uts", "--ipc",
                "--pid", "--", *argv,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert not check or not done.returncode, (argv, done)
        return done.stdout.strip()

    def path(self, inside: str) -> Path:
        """A file of it, as this machine sees it."""
        return self.root / inside.lstrip("/")

    def until(self, what: Callable[[], bool], why: str, limit: float) -> None:
        """Wait until something is so."""
        deadline = time.monotonic() + limit
        while not what():
            assert time.monotonic() < deadline, (why, self.journal())
            time.sleep(LOOK_EVERY)

    def journal(self) -> str:
        """All that its services have said."""
        return self.run("journalctl", "--no-pager", "--output=cat")

    def install(self, wheel: Path) -> None:
        """Put a wheel there, with all that this Python has installed.

        As the guide does it, only that nothing is downloaded: an environment
        of its own, which the services' user can reach.
        """
        env, python = self.path(ENV), self.path(PYTHON)
        ours = shutil.ignore_patterns("*ansible_rulebook_ha*", "ha")
        packages = self.path(PACKAGES)
        for key in ("purelib", "platlib"):
            shutil.copytree(
                sysconfig.get_path(key),
                packages,
                symlinks=True,
                ignore=ours,
                dirs_exist_ok=True,
            )
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(packages)
        base = Path(sys.base_prefix)
        if base != Path("/usr"):
            python.mkdir(parents=True)
            for part in ("bin", "lib"):
                shutil.copytree(
                    base / part,
                    python / part,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("site-packages", "test"),
                )
        else:
            python.symlink_to("/usr")
        (env / "pyvenv.cfg").write_text(f"home = {PYTHON}/bin\n")
        (env / "bin").mkdir()
        (env / "bin" / "python").symlink_to(f"{PYTHON}/bin/{VERSION}")
        for script in Path(sysconfig.get_path("scripts")).iterdir():
            if script.name.startswith("ansible") and script.is_file():
                _, _, body = script.read_text("utf-8").partition("\n")
                copy = env / "bin" / script.name
                copy.write_text(f"#!{ENV}/bin/python\n{body}")
                copy.chmod(0o755)
