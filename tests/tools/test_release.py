"""What keeps a release back, and what is in the files of one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import release
from release import Commit, NotReady
from tree import ROOT

CHANGELOG = """\
=======
Changes
=======

0.2.0 (2026-03-01)
==================

Something new.

0.1.0 (2026-01-31)
==================
"""

READY = Commit("0.2.0", ("v0.2.0",), (), CHANGELOG)
TREE = {
    ".ci/run",
    "README.rst",
    "ansible_rulebook/ha/__init__.py",
    "ansible_rulebook/ha/py.typed",
    "ansible_rulebook_ha.pth",
    "_ansible_rulebook_ha.py",
    "_ansible_rulebook_ha_pytest.py",
    "tests/conftest.py",
}


def test_nothing_keeps_back_what_is_committed_tagged_and_dated() -> None:
    assert release.obstacles(READY) == []
    other = replace(READY, tags=("tested", "v0.2.0"))
    assert release.obstacles(other) == []


def test_each_file_that_is_not_committed_is_named() -> None:
    found = release.obstacles(replace(READY, uncommitted=(" M a", "?? b")))
    assert found == ["not committed:  M a", "not committed: ?? b"]


@pytest.mark.parametrize(
    ("tags", "shown"),
    [
        ((), "missing"),
        (("0.2.0",), "missing"),
        (("v0.1.0",), "v0.1.0"),
        (("v0.2.0", "v0.2.1"), "v0.2.0, v0.2.1"),
    ],
)
def test_the_only_version_in_the_tags_is_the_right_one(
    tags: tuple[str, ...], shown: str
) -> None:
    assert release.obstacles(replace(READY, tags=tags)) == [
        f"the commit's tag must be v0.2.0, but is {shown}"
    ]


@pytest.mark.parametrize(
    "heading",
    [
        "0.2.0 (unreleased)",
        "0.2.0",
        "0.1.0 (2026-03-01)",
        "0x2.0 (2026-03-01)",
        "0.2.0 (2026-02-30)",
        "0.2.0 (2026-3-1)",
    ],
)
def test_the_changelog_has_a_day_of_this_version(heading: str) -> None:
    changelog = CHANGELOG.replace("0.2.0 (2026-03-01)", heading)
    (found,) = release.obstacles(replace(READY, changelog=changelog))
    assert found.startswith("CHANGELOG.rst must begin with '0.2.0 (")
    assert found.endswith(f"but begins with '{heading}'")


def test_a_changelog_without_versions_is_refused() -> None:
    changelog = "=======\nChanges\n=======\n"
    (found,) = release.obstacles(replace(READY, changelog=changelog))
    assert found.endswith("but begins with ''")


def test_the_version_is_that_of_the_project() -> None:
    text = '[project]\nname = "x"\nversion = "1.2.3"\n'
    assert release.version_of(text) == "1.2.3"
    with pytest.raises(NotReady):
        release.version_of('[project]\nname = "x"\n')


def test_the_wheel_has_our_package_and_what_starts_it() -> None:
    info = "ansible_rulebook_ha-0.2.0.dist-info"
    assert release.wheel_files(TREE, "0.2.0") == {
        "ansible_rulebook/ha/__init__.py",
        "ansible_rulebook/ha/py.typed",
        "ansible_rulebook_ha.pth",
        "_ansible_rulebook_ha.py",
        "_ansible_rulebook_ha_pytest.py",
        *release.EXAMPLE,
        f"{info}/METADATA",
        f"{info}/RECORD",
        f"{info}/WHEEL",
        f"{info}/entry_points.txt",
        f"{info}/licenses/LICENSE",
    }


@pytest.mark.parametrize(
    "name", [*sorted(release.START_UP), "ansible_rulebook/ha/py.typed"]
)
def test_what_users_rely_on_is_missed_in_a_tree_that_lost_it(
    name: str,
) -> None:
    assert name in release.wheel_files(TREE - {name}, "0.2.0")


def test_upstreams_half_is_no_part_of_the_wheel() -> None:
    theirs = "ansible_rulebook/__init__.py"
    assert theirs not in release.wheel_files({*TREE, theirs}, "0.2.0")


def test_the_sdist_has_the_tree() -> None:
    assert release.sdist_files(TREE, "0.2.0") == {
        "ansible_rulebook_ha-0.2.0/PKG-INFO",
        *(f"ansible_rulebook_ha-0.2.0/{each}" for each in TREE - {".ci/run"}),
    }


def test_a_stray_file_and_a_missing_one_are_named() -> None:
    assert release.differences("x.whl", {"a", "b"}, {"b", "c"}) == [
        "x.whl has a",
        "x.whl lacks c",
    ]
    assert release.differences("x.whl", {"a"}, {"a"}) == []


def test_what_this_tree_builds_has_the_right_files(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds them")
    if not (ROOT / ".git").exists():
        pytest.skip("git tells which files are ours")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
    )
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    version = release.this_commit().version
    assert release.contents(wheel, sdist, version) == []
