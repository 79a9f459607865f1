"""Compile the engine bridge: ``python build.py [--check]``.

Needs Debian's ``openjdk-17-jdk-headless``, or the compiler that the variable
JAVAC names, and drools_jpy in the environment of the interpreter. The jar has
no times and no machine in it, so the same sources give the same bytes;
``--check`` compares with the jar that is there and changes nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "ansible_rulebook_ha"
JAR = HERE / "bridge.jar"
FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # of the zip format


def build() -> bytes:
    """The jar, as bytes."""
    with tempfile.TemporaryDirectory() as folder:
        sources = sorted(str(each) for each in (HERE / PACKAGE).glob("*.java"))
        command = [javac(), "--release", "17", "-Xlint:none", "-nowarn"]
        command += ["-cp", drools_jar(), "-d", folder, *sources]
        subprocess.run(command, check=True)
        jar = BytesIO()
        with zipfile.ZipFile(jar, "w", zipfile.ZIP_STORED) as archive:
            for each in sorted(Path(folder, PACKAGE).glob("*.class")):
                name = f"{PACKAGE}/{each.name}"
                archive.writestr(
                    zipfile.ZipInfo(name, FIRST_DAY), each.read_bytes()
                )
        return jar.getvalue()


def javac() -> str:
    """The compiler: another one may give other bytes."""
    debian = sorted(Path("/usr/lib/jvm").glob("java-17-openjdk-*/bin/javac"))
    named = os.environ.get("JAVAC")
    return named or (str(debian[0]) if debian else "javac")


def drools_jar() -> str:
    """Where drools_jpy keeps the engine."""
    spec = find_spec("drools")
    if spec is None or spec.origin is None:
        raise SystemExit("drools_jpy is not installed")
    (jar,) = Path(spec.origin).parent.glob("jars/*.jar")
    return str(jar)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say whether the jar is what the sources give",
    )
    options = parser.parse_args()
    jar = build()
    if not options.check:
        draft = JAR.with_suffix(".draft")
        draft.write_bytes(jar)
        draft.replace(JAR)  # a worker may be reading the other one
    elif jar != JAR.read_bytes():
        print(f"{JAR.name} is not what the sources give: run {__file__}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
