#!/usr/bin/env python3
"""Build a release and check it: ``make release``. Publishes nothing.

::

    python tools/release.py [--draft]

Refuses a tree that is not committed, a commit without the version's tag, and
a changelog without the version's date. Then builds sdist and wheel in
``dist``, has ``twine`` check them, compares their files with those of the
repository, and prints the next steps.

--draft (``make dist``) builds and checks the files of any tree.

Exits with 1 if something is not as it should be, and says what.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from tree import ROOT, files, git

NAME = "ansible_rulebook_ha"
PACKAGE = "ansible_rulebook/ha/"
START_UP = {f"_{NAME}.py", f"_{NAME}_pytest.py", f"{NAME}.pth"}
# Copies of files of the tree, see build_hook.py.
EXAMPLE = {
    f"{PACKAGE}embedded/demo/example/example_ha_rulebook.yml",
    f"{PACKAGE}embedded/demo/example/sources/example_ha_source.py",
}
DIST = ROOT / "dist"


class NotReady(Exception):
    """Why there is no release, one reason in each argument."""


@dataclass(frozen=True)
class Commit:
    """What a release is made from."""

    version: str
    """As pyproject.toml says."""
    tags: tuple[str, ...]
    """Those of this commit."""
    uncommitted: tuple[str, ...]
    """Lines of ``git status --porcelain``."""
    changelog: str
    """The text of CHANGELOG.rst."""


def obstacles(commit: Commit) -> list[str]:
    """Why a commit cannot be released; nothing if it can."""
    found = [f"not committed: {each}" for each in commit.uncommitted]
    wanted = f"v{commit.version}"
    tags = [tag for tag in commit.tags if re.match(r"v\d", tag)]
    if tags != [wanted]:
        is_there = ", ".join(tags) or "missing"
        found.append(f"the commit's tag must be {wanted}, but is {is_there}")
    heading = newest_heading(commit.changelog)
    if not is_dated(heading, commit.version):
        found.append(
            f"CHANGELOG.rst must begin with '{commit.version} (<its date as "
            f"YYYY-MM-DD>)', but begins with '{heading}'"
        )
    return found


def newest_heading(changelog: str) -> str:
    """The first heading below the title, or an empty text."""
    headings = re.findall(r"^(\S.*)\n=+$", changelog, re.MULTILINE)
    return headings[1] if len(headings) > 1 else ""


def is_dated(heading: str, version: str) -> bool:
    """Whether a heading has this version and a day of the calendar."""
    found = re.fullmatch(
        rf"{re.escape(version)} \((\d{{4}}-\d\d-\d\d)\)", heading
    )
    try:
        return bool(found and date.fromisoformat(found[1]))
    except ValueError:
        return False


def version_of(pyproject: str) -> str:
    """The version in the text of pyproject.toml.

    :raises NotReady: if there is none.
    """
    found = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    if found is None:
        raise NotReady("pyproject.toml has no line 'version = \"...\"'")
    return found[1]


def wheel_files(tree: Iterable[str], version: str) -> set[str]:
    """What the wheel of a tree must hold, and nothing else.

    All of our package, nothing else of ``ansible_rulebook``: upstream's own
    wheel has the rest of it.
    """
    info = f"{NAME}-{version}.dist-info"
    return {
        *(name for name in tree if name.startswith(PACKAGE)),
        f"{PACKAGE}py.typed",
        *START_UP,
        *EXAMPLE,
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
        f"{info}/entry_points.txt",
        f"{info}/licenses/LICENSE",
    }


def sdist_files(tree: Iterable[str], version: str) -> set[str]:
    """What the sdist of a tree must hold, and nothing else."""
    folder = f"{NAME}-{version}"
    return {
        f"{folder}/PKG-INFO",
        f"{folder}/{PACKAGE}py.typed",
        *(f"{folder}/{each}" for each in tree if not each.startswith(".ci/")),
    }


def differences(where: str, found: set[str], wanted: set[str]) -> list[str]:
    """One line for each file that is too much or too few."""
    return [
        *(f"{where} has {name}" for name in sorted(found - wanted)),
        *(f"{where} lacks {name}" for name in sorted(wanted - found)),
    ]


# -- what asks and acts -------------------------------------------------------


def this_commit() -> Commit:
    return Commit(
        version=version_of((ROOT / "pyproject.toml").read_text("utf-8")),
        tags=tuple(git("tag", "--points-at", "HEAD").split()),
        uncommitted=tuple(git("status", "--porcelain").splitlines()),
        changelog=(ROOT / "CHANGELOG.rst").read_text("utf-8"),
    )


def contents(wheel: Path, sdist: Path, version: str) -> list[str]:
    """How the files in both differ from those of the repository."""
    tree = files()
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {each.name for each in archive if not each.isdir()}
    return [
        *differences(wheel.name, in_wheel, wheel_files(tree, version)),
        *differences(sdist.name, in_sdist, sdist_files(tree, version)),
    ]


def build() -> tuple[Path, Path]:
    """Build the sdist, and the wheel from it.

    :returns: wheel and sdist, all that is in ``dist`` afterwards.
    :raises NotReady: if one cannot be built.
    """
    shutil.rmtree(DIST, ignore_errors=True)
    run("build", "--outdir", DIST, ROOT)
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    return wheel, sdist


def run(module: str, *args: object) -> None:
    command = [sys.executable, "-m", module, *map(str, args)]
    if subprocess.run(command).returncode:
        raise NotReady(f"{module} failed, see above")


def next_steps(version: str, wheel: Path, sdist: Path) -> str:
    return (
        f"{version} can be published. Nothing has been yet. Next:\n"
        '  make installs PYTHONS="python3.9 python3.13"\n'
        f"  git push origin main v{version}\n"
        f"  .venv/bin/twine upload {wheel} {sdist}\n"
        "Then begin the next version in pyproject.toml, and in CHANGELOG.rst\n"
        "with '<version> (unreleased)'."
    )


def release(draft: bool) -> str:
    """Do it all.

    :returns: what to tell the one who releases.
    :raises NotReady: if something is not as it should be.
    """
    commit = this_commit()
    found = [] if draft else obstacles(commit)
    if found:
        raise NotReady(*found)
    wheel, sdist = build()
    run("twine", "check", "--strict", wheel, sdist)
    found = contents(wheel, sdist, commit.version)
    if found:
        raise NotReady(*found)
    wheel, sdist = wheel.relative_to(ROOT), sdist.relative_to(ROOT)
    if draft:
        return f"{wheel} and {sdist} are as they should be."
    return next_steps(commit.version, wheel, sdist)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--draft", action="store_true", help="build and check any tree"
    )
    options = parser.parse_args(argv)
    try:
        print(release(options.draft))
    except NotReady as error:
        print(*error.args, sep="\n", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
