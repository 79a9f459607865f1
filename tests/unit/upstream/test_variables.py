"""The DSN that the rulebook's variables give."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.upstream.variables import find_conninfo

SERVER = {"drools_db_host": "db1", "drools_db_name": "eda"}


def test_each_variable_becomes_a_parameter():
    found = find_conninfo(
        {
            **SERVER,
            "drools_db_port": 6432,
            "drools_db_user": "it's me",
            "drools_db_password": "back\\slash and 'quote'",
            "drools_sslmode": "verify-full",
            "drools_sslpassword": "locked",
            "drools_sslcert": "/own/cert",
            "eda": {
                "filename": {
                    "drools_sslcert": "/sent/cert",
                    "drools_sslkey": "/sent/key",
                    "drools_sslrootcert": "/sent/root",
                    "other": "/sent/other",
                }
            },
        }
    )
    assert found.merged() == {
        "host": "db1",
        "port": "6432",
        "dbname": "eda",
        "user": "it's me",
        "password": "back\\slash and 'quote'",
        "sslmode": "verify-full",
        "sslpassword": "locked",
        "sslcert": "/own/cert",
        "sslkey": "/sent/key",
        "sslrootcert": "/sent/root",
    }


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"drools_db_port": "", "drools_db_password": None},
        {"eda": {"filename": "/the/only/file"}},
        {"eda": None},
    ],
)
def test_what_is_empty_is_left_to_libpq(more: dict[str, Any]):
    assert find_conninfo({**SERVER, **more}).merged() == {
        "host": "db1",
        "dbname": "eda",
    }


@pytest.mark.parametrize(
    ("variables", "lacking"),
    [
        ({}, "drools_db_host and drools_db_name"),
        ({"drools_db_host": "db1", "drools_db_name": ""}, "drools_db_name"),
        ({"drools_db_file_path": "/a/file"}, "drools_db_host"),
        (
            {**SERVER, "drools_db_host": "h@x", "drools_db_password": "?"},
            "host",
        ),
        ({**SERVER, "drools_db_port": "none"}, "port"),
    ],
)
def test_variables_that_name_no_server_are_refused(
    variables: dict[str, Any], lacking: str
):
    with pytest.raises(OptionError) as refused:
        find_conninfo(variables)
    assert re.search(lacking, str(refused.value))
    assert "drools_db_" in str(refused.value)
    assert "secret" not in str(refused.value)
