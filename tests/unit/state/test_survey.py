"""What keeps a role from keeping state, as one line for its operator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ansible_rulebook.ha.state.schema import VERSION, Survey

READY = Survey(
    schema="public",
    may_create=False,
    search_path='"$user", public',
    role="eda",
    place="public",
    missing=(),
    owners=1,
    version=VERSION,
    oldest=VERSION,
)
EMPTY = Survey(
    schema="public",
    may_create=True,
    search_path='"$user", public',
    role="eda",
    place=None,
    missing=("eda_ha_schema", "eda_ha_record"),
    owners=0,
)


def test_nothing_is_in_the_way_of_who_has_the_tables_or_may_make_them() -> (
    None
):
    assert READY.is_complete
    assert not READY.is_outdated
    assert READY.obstacle() is None
    assert not EMPTY.is_complete
    assert EMPTY.is_outdated
    assert EMPTY.obstacle() is None


def test_a_newer_version_is_in_the_way_if_it_says_so() -> None:
    newer = replace(READY, version=VERSION + 2, oldest=VERSION)
    assert newer.obstacle() is None
    assert not newer.is_outdated
    obstacle = replace(newer, oldest=VERSION + 1).obstacle()
    assert obstacle is not None
    assert f"version {VERSION + 2}" in obstacle
    assert f"knows {VERSION}" in obstacle


def test_tables_of_several_owners_are_in_the_way() -> None:
    obstacle = replace(READY, place="state", owners=2).obstacle()
    assert obstacle == (
        "the tables in schema state have more than one owner: somebody else "
        "made one of them"
    )


def test_each_privilege_that_is_missing_is_named() -> None:
    lacking = ("DELETE on eda_ha_record", "SELECT on eda_ha_match")
    assert replace(READY, lacking=lacking).obstacle() == (
        "role eda lacks DELETE on eda_ha_record, SELECT on eda_ha_match"
    )
    # It may not even read which version the tables are of.
    unknown = replace(READY, version=0, oldest=0, lacking=lacking)
    assert "lacks DELETE on" in (unknown.obstacle() or "")


def test_who_may_not_create_needs_the_tables() -> None:
    obstacle = replace(EMPTY, may_create=False).obstacle()
    assert obstacle is not None
    assert obstacle.startswith("role eda lacks CREATE on schema public")
    assert "ansible-rulebook-ha init-db" in obstacle


def test_a_search_path_without_a_schema_to_use_is_named() -> None:
    obstacle = replace(EMPTY, schema=None, may_create=False).obstacle()
    assert '"$user", public' in (obstacle or "")


def test_a_table_that_no_migration_would_make_again_is_named() -> None:
    gone = replace(READY, may_create=True, missing=("eda_ha_record",))
    assert "has no eda_ha_record" in (gone.obstacle() or "")
    # One of a version to come is made by its migration.
    older = replace(gone, version=VERSION - 1)
    assert older.obstacle() is None


@pytest.mark.parametrize(
    "found",
    [
        replace(READY, oldest=VERSION + 1),
        replace(READY, owners=2),
        replace(READY, lacking=("DELETE on x",)),
        replace(READY, missing=("eda_ha_record",)),
        replace(EMPTY, may_create=False),
        replace(EMPTY, schema=None),
    ],
)
def test_each_is_one_line(found: Survey) -> None:
    assert "\n" not in (found.obstacle() or "\n")
