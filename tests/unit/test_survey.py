"""What keeps a role from keeping state, as one line for its operator."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_rulebook.ha.state_database import Survey

READY = Survey(
    schema="public",
    may_create=False,
    may_use_temporary=True,
    search_path='"$user", public',
    role="eda",
    database="events",
    has_terms=True,
)
EMPTY = replace(
    READY,
    may_create=True,
    has_terms=False,
    missing_tables=("drools_ansible_session_state",),
    unfenced_tables=("drools_ansible_session_state",),
)


def test_nothing_is_in_the_way_of_who_has_the_tables_or_may_make_them():
    assert READY.is_complete
    assert READY.obstacle() is None
    assert not EMPTY.is_complete
    assert EMPTY.obstacle() is None


@pytest.mark.parametrize(
    "lack",
    [
        {"has_terms": False},
        {"missing_tables": ("drools_ansible_ha_stats",)},
        {"unfenced_tables": ("drools_ansible_event_record",)},
    ],
)
def test_what_is_there_in_part_is_not_complete(lack):
    survey = replace(READY, **lack)
    assert not survey.is_complete
    obstacle = survey.obstacle()
    assert obstacle.startswith("role eda lacks CREATE on schema public")
    assert "ansible-rulebook-ha init-db" in obstacle
    assert replace(survey, may_create=True).obstacle() is None


def test_temporary_is_lacked_with_and_without_the_tables():
    # Drools makes its tables each time that it connects.
    for survey in (READY, EMPTY):
        assert replace(survey, may_use_temporary=False).obstacle() == (
            "role eda lacks TEMPORARY on database events"
        )


def test_each_privilege_that_is_missing_is_named():
    survey = replace(
        READY,
        lacking=("DELETE on drools_ansible_event_record", "SELECT on x"),
    )
    assert survey.obstacle() == (
        "role eda lacks DELETE on drools_ansible_event_record, SELECT on x"
    )
    # What may be created anew is not asked for its privileges.
    assert replace(EMPTY, lacking=survey.lacking).obstacle() is None


def test_a_search_path_without_a_schema_to_use_is_named():
    survey = replace(EMPTY, schema=None, may_create=False)
    assert '"$user", public' in survey.obstacle()


def test_each_is_one_line():
    surveys = [
        replace(READY, may_use_temporary=False),
        replace(READY, lacking=("DELETE on x",)),
        replace(EMPTY, may_create=False),
        replace(EMPTY, schema=None),
    ]
    for survey in surveys:
        assert survey.obstacle().count("\n") == 0
