#!/usr/bin/env python3
"""Install what was built as users do, and run it: ``make installs``.

::

    python tools/installs.py [--wheel FILE] [PYTHON ...]

Each PYTHON is an interpreter, by name or path. Each installer makes a new
environment with each of them and installs the wheel and all it depends on
from the package index. Then ``ansible-rulebook --version`` must show our line.

Exits with 1 if one of them does not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT = 600  # seconds for one command
# What pipx and uv would else put into the user's home.
FOLDERS = (
    "PIPX_BIN_DIR",
    "PIPX_HOME",
    "PIPX_MAN_DIR",
    "UV_TOOL_BIN_DIR",
    "UV_TOOL_DIR",
)


class Place(NamedTuple):
    """Where something is installed, and what."""

    folder: Path
    python: str
    what: str

    def run(self, *command: object) -> str:
        """What a command prints that sees no environment but this one.

        :raises subprocess.SubprocessError: if it fails or does not end.
        """
        env = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EDA_", "PYTHON", "VIRTUAL_ENV"))
        }
        env.update((name, str(self.folder / name)) for name in FOLDERS)
        done = subprocess.run(
            [str(part) for part in command],
            env=env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout
            )
        return done.stdout


def tool(name: str) -> Path:
    """A command of the environment that runs this."""
    return Path(sys.executable).parent / name


# Each installs, and returns where the command is then.


def pip(place: Place) -> Path:
    place.run(place.python, "-m", "venv", "env")
    scripts = place.folder / "env" / "bin"
    place.run(scripts / "pip", "install", place.what)
    return scripts / "ansible-rulebook"


def uv(place: Place) -> Path:
    place.run(tool("uv"), "venv", "--python", place.python, "env")
    scripts = place.folder / "env" / "bin"
    place.run(
        tool("uv"), "pip", "install", "--python", scripts / "python",
        place.what,
    )  # fmt: skip
    return scripts / "ansible-rulebook"


def uv_tool(place: Place) -> Path:
    place.run(
        tool("uv"), "tool", "install", "--python", place.python, place.what
    )
    return place.folder / "UV_TOOL_BIN_DIR" / "ansible-rulebook"


def pipx(place: Place) -> Path:
    place.run(tool("pipx"), "install", "--python", place.python, place.what)
    return place.folder / "PIPX_BIN_DIR" / "ansible-rulebook"


INSTALLERS: dict[str, Callable[[Place], Path]] = {
    "pip": pip,
    "uv pip": uv,
    "uv tool": uv_tool,
    "pipx": pipx,
}


def our_line(shown: str) -> str | None:
    """The only line of ``--version`` with our version, or None."""
    found = re.findall(r"^ansible-rulebook-ha \[\d.*\]$", shown, re.MULTILINE)
    return found[0] if len(found) == 1 else None


def attempt(installer: str, python: str, what: str) -> tuple[bool, str]:
    """Install and run it.

    :returns: whether all went well, and what there is to say.
    """
    with tempfile.TemporaryDirectory(prefix="installs-") as folder:
        place = Place(Path(folder), python, what)
        try:
            command = INSTALLERS[installer](place)
            shown = place.run(command, "--version")
        except subprocess.CalledProcessError as error:
            return False, f"{error}\n{error.output}"
        except (OSError, subprocess.TimeoutExpired) as error:
            return False, str(error)
    line = our_line(shown)
    return (True, line) if line else (False, f"no line of ours in\n{shown}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--wheel", type=Path, metavar="FILE")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON")
    options = parser.parse_args(argv)
    built = [options.wheel] if options.wheel else (ROOT / "dist").glob("*.whl")
    wheels = [str(each.resolve()) for each in built]
    if len(wheels) != 1:
        parser.error("there must be one wheel in dist: make dist")
    failed = False
    for python in options.pythons or [sys.executable]:
        found = shutil.which(python)
        if found is None:
            parser.error(f"no such Python: {python}")
        for installer in INSTALLERS:
            began = time.monotonic()
            went_well, text = attempt(installer, found, wheels[0])
            failed = failed or not went_well
            print(
                f"{python:<12} {installer:<8} "
                f"{time.monotonic() - began:5.1f} s  {text}",
                flush=True,
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
