"""Connection strings: what is read from them, and what never leaves them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ansible_rulebook.ha import conninfo
from ansible_rulebook.ha.conninfo import Conninfo, parse_options
from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.redaction import mask_password

# Each ends with letters that stand nowhere else in a message.
PASSWORDS = [
    "zqxjk",
    "@zqxjk",
    "zq@xjk",
    "zq@@xjk@",
    "zq:xjk",
    "5432/zq@xjk",
    "zq/xjk",
    "zq%xjk",
    "zq%41xjk",
    "zq'xjk",
    "zq\\xjk",
    "zq\\'xjk",
    'zq"xjk',
    "zq xjk",
    " zqxjk ",
    "zq\txjk",
    "zq=xjk",
    "zq?xjk&x=1",
    "zq#xjk",
    "zq,xjk",
    "zq[xjk]",
    "zqäxjk",
]


def uri(password: str) -> str:
    return f"postgresql://eda:{quote(password, safe='')}@db.example/eda"


def uri_query(password: str) -> str:
    secret = quote(password, safe="")
    return f"postgresql://eda@db.example/eda?password={secret}"


def pairs(password: str) -> str:
    return make_conninfo(
        host="db.example", user="eda", dbname="eda", password=password
    )


def quoted(password: str) -> str:
    secret = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"host=db.example dbname=eda  password = '{secret}' user=eda"


def escaped(password: str) -> str:
    """Unquoted, with a backslash before what needs it."""
    secret = "".join(
        f"\\{c}" if c.isspace() or c in "\\'" else c for c in password
    )
    return f"user=eda password={secret} host=db.example dbname=eda"


FORMS = [uri, uri_query, pairs, quoted, escaped]


def leaks(text: str) -> bool:
    return "zq" in text or "xjk" in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("password", PASSWORDS)
def test_a_password_is_read_whole_and_shown_nowhere(form, password):
    dsn = form(password)
    read = Conninfo(dsn)
    assert read.get("password") == password
    assert read.get("host") == "db.example"
    assert not leaks(repr(read)), repr(read)
    told = f'FATAL: {password}\n  failed for "{password}"'
    assert not leaks(read.redact(told)), read.redact(told)
    assert not leaks(mask_password(dsn)), mask_password(dsn)
    assert not leaks(mask_password(f"--ha-postgres-dsn={dsn}"))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=60, derandomize=True, database=None)
@given(inner=st.text("aZ0@:/%'\\\" =?&#,[]().;|$ä", max_size=8))
def test_no_password_whatever_is_shown(form, inner):
    dsn = form(f"zq{inner}xjk")
    read = Conninfo(dsn)
    assert read.get("password") == f"zq{inner}xjk"
    assert not leaks(repr(read))
    assert not leaks(mask_password(dsn)), mask_password(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        # A '@', ':' or '/' that is not encoded moves the rest elsewhere.
        "postgresql://eda:zq@xjk@db.example/eda",
        "postgresql://eda:zq/xjk@db.example/eda",
        "postgresql://eda:123/xjk@db.example/eda",
        "postgresql://eda:zq@1/xjk@db.example/eda",
        "postgresql://eda:zq@xjk:1@db.example/eda",
        "postgresql://eda:zq@@xjk@db.example/eda",
        "postgresql://eda:zq@xjk,db2@db.example/eda",
        "postgresql://eda:zq@[xjk@db.example/eda",
        "postgresql://eda:zq%xjk@db.example/eda",
        "postgresql://eda:zq@xjk?@db.example/eda",
        # Key=value: a blank or a quote that is not escaped.
        "host=db password=zq xjk",
        "host=db password='zqxjk",
        "host=db password='zq'xjk'",
        "zqxjk",
        "mysql://eda:zqxjk@db/eda",
        # libpq would look into this one only when it connects.
        "dbname=postgresql://eda:zqxjk@db.example/eda",
    ],
)
def test_a_torn_password_is_refused_and_no_piece_of_it_is_shown(dsn):
    with pytest.raises(OptionError) as caught:
        Conninfo(dsn, "--ha-postgres-dsn")
    told = str(caught.value)
    assert told.startswith("--ha-postgres-dsn: ")
    assert "\n" not in told
    assert not leaks(told), told
    # Nor in a traceback that somebody prints.
    error = caught.value
    assert error.__context__ is None or error.__suppress_context__


@pytest.mark.parametrize("dsn", ["", "   "])
def test_an_empty_string_is_refused(dsn):
    with pytest.raises(OptionError, match="is empty"):
        Conninfo(dsn)


@pytest.mark.parametrize(
    ("dsn", "hosts", "expected"),
    [
        ("postgresql:///eda", 1, {"dbname": "eda", "host": None}),
        ("postgres://", 1, {}),
        ("dbname=eda", 1, {"dbname": "eda", "password": None}),
        ("service=eda", 1, {"service": "eda", "host": None}),
        (
            "postgresql://eda@a:5432,b:5433/eda?connect_timeout=3",
            2,
            {"host": "a,b", "port": "5432,5433", "connect_timeout": "3"},
        ),
        ("host=a,b,c port=5432", 3, {"port": "5432"}),
        ("hostaddr=10.0.0.1,10.0.0.2", 2, {"host": None}),
        ("postgresql://[::1]:5432/eda", 1, {"host": "::1"}),
        ("host=/run/postgresql", 1, {"host": "/run/postgresql"}),
        ("host=@abstract dbname=eda", 1, {"host": "@abstract"}),
        ("postgresql://me%40corp@db/eda", 1, {"user": "me@corp"}),
        ("user=me@corp host=db dbname=a@b", 1, {"user": "me@corp"}),
        (
            "host=db target_session_attrs=any",
            1,
            {"target_session_attrs": "any"},
        ),
        (
            "host=db sslmode=verify-full sslrootcert=/etc/ca.pem",
            1,
            {"sslrootcert": "/etc/ca.pem"},
        ),
    ],
)
def test_whatever_libpq_takes_is_read(dsn, hosts, expected):
    read = Conninfo(dsn)
    assert read.hosts == hosts
    assert {name: read.get(name) for name in expected} == expected


SERVICES = """
[eda]
host=a,b
user=eda
password=zqxjk
target_session_attrs=primary
connect_timeout=3
"""


def test_a_service_file_counts_as_the_string_does(monkeypatch, tmp_path):
    (tmp_path / "services").write_text(SERVICES, "utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    read = Conninfo("service=eda connect_timeout=7")
    assert read.hosts == 2
    assert read.target_session_attrs == "primary"
    assert (read.get("user"), read.get("connect_timeout")) == ("eda", "7")
    assert read.redact("zqxjk") == "***"
    assert "zqxjk" not in repr(read)
    monkeypatch.setenv("PGSERVICE", "eda")
    assert Conninfo("dbname=eda").hosts == 2
    assert Conninfo("host=c").hosts == 1


def test_variables_count_as_the_string_does(monkeypatch):
    monkeypatch.setenv("PGHOST", "a,b,c")
    monkeypatch.setenv("PGPASSWORD", "zqxjk")
    read = Conninfo("dbname=eda")
    assert read.hosts == 3
    assert read.redact("zqxjk") == "***"
    assert read.target_session_attrs == "read-write"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "any")
    assert Conninfo("dbname=eda").target_session_attrs == "any"
    assert Conninfo("service=nowhere").hosts == 1


def test_merged_puts_changes_on_top_and_keeps_the_rest():
    read = Conninfo("host=db port=1")
    assert read.merged(port=2, user="eda") == {
        "host": "db",
        "port": 2,
        "user": "eda",
    }
    assert read.get("port") == "1"


def test_redact_masks_the_longer_secret_first():
    read = Conninfo("host=db password=zqxj sslpassword=zqxjkv")
    assert read.redact("zqxjkv zqxj") == "*** ***"


def test_redact_leaves_what_everybody_may_know():
    read = Conninfo("host=db user=eda-worker password=eda-worker")
    assert read.redact('role "eda-worker"') == 'role "eda-worker"'
    # Stars for each "a" would tell the password, and hide the message.
    assert Conninfo("password=a").redact("a bad day") == "a bad day"


def test_redact_folds_what_libpq_says_to_one_line():
    read = Conninfo("host=db")
    assert read.redact("failed:\n\tIs it\r\n running?\n") == (
        "failed: Is it running?"
    )


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        # Nothing is shown after where a password may begin: only a string
        # that libpq takes tells where it ends.
        ("postgresql://eda:s3cret@db/eda", "postgresql://eda:***"),
        ("--dsn=postgres://u:p@h/d", "--dsn=postgres://u:***"),
        ("postgresql://eda@db/eda", "postgresql://eda@db/eda"),
        ("postgresql://db:5432/eda", "postgresql://db:***"),
        (
            "postgresql://u@h/d?sslpassword=s3cret&x=1",
            "postgresql://u@h/d?sslpassword=***",
        ),
        ("host=db password=s3cret port=1", "host=db password=***"),
        ("a and host=db password = s3cret b", "a and host=db password =***"),
        ("PASSWORD='s3 cret' port=1", "PASSWORD=***"),
        ("host=db sslpassword=s3cret", "host=db sslpassword=***"),
        ("oauth_client_secret=s3cret x=1", "oauth_client_secret=***"),
        # Not what libpq would take, and yet somebody's password.
        ("postgresql://u:s3 cret@h/d", "postgresql://u:***"),
        ("host=db password='s3cret host=a", "host=db password=***"),
        ("host=db password='ab'cd", "host=db password=***"),
        ("--rulebook", "--rulebook"),
    ],
)
def test_a_command_line_is_shown_without_passwords(word, shown):
    assert mask_password(word) == shown


def connecting(dsn: str = "host=db") -> dict[str, Any]:
    given = Conninfo(dsn).to_connect("name", connect_timeout=5)
    return conninfo_to_dict(given)


def test_only_a_primary_is_asked_for_unless_the_user_says_otherwise(
    monkeypatch,
):
    monkeypatch.delenv("PGTARGETSESSIONATTRS", raising=False)
    assert connecting()["target_session_attrs"] == "read-write"
    said = connecting("target_session_attrs=any")
    assert said["target_session_attrs"] == "any"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert connecting()["target_session_attrs"] == "primary"


def test_our_sessions_have_names_and_speak_utf8():
    given = connecting(
        "host=db client_encoding=LATIN1 application_name=me connect_timeout=9"
    )
    assert given["application_name"] == "name"
    assert given["client_encoding"] == "UTF8"
    assert str(given["connect_timeout"]) == "5"


def test_a_string_is_parsed_where_it_comes_in_and_nowhere_else():
    package = Path(conninfo.__file__).parent
    parsing = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Conninfo"
    }
    assert parsing == {
        "options.py",  # a run of the command
        "upstream/variables.py",  # the same, from the rulebook's variables
        "operations/commands/common.py",
        "election/leader_election.py",  # the Python API
        "inbox/inbox.py",  # the same
    }


def test_the_repr_shows_what_is_no_secret():
    shown = repr(Conninfo("host=db port=5433 password=zqxjk user=eda"))
    for piece in ("db", "5433", "eda", "***"):
        assert piece in shown
    assert json.dumps(shown)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ("", {}),
        ("-c search_path=eda", {"search_path": "eda"}),
        ("-csearch_path=eda", {"search_path": "eda"}),
        ("--search-path=eda,public", {"search_path": "eda,public"}),
        ("  -c  DateStyle=ISO  -c a.b=", {"datestyle": "ISO", "a.b": ""}),
        ("-c search_path=a\\ b\\\\", {"search_path": "a b\\"}),
        ("-c application_name=x=y -d 5", {"application_name": "x=y"}),
        ("endpoint=ep-blue-1", {}),
        ("-c", {}),
    ],
)
def test_what_options_ask_for(options, found):
    assert parse_options(options) == found
