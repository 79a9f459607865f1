"""What JDBC is told of a connection string, and where it is refused."""

from __future__ import annotations

import os
import socket
import zipfile
from urllib.parse import unquote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import make_conninfo

from ansible_rulebook.ha import jdbc
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import StateRefused

NAME = "eda-state:00000000000000ff:0123456789ab"
SECRET = "zqxjk"  # letters that stand nowhere else in a message
KEY = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"
LIBPQ = {
    option.keyword.decode(): (option.compiled or b"").decode()
    for option in pq.Conninfo.get_defaults()
}
SINCE_17 = pytest.mark.skipif(
    "sslnegotiation" not in LIBPQ, reason="libpq before 17"
)
SINCE_18 = pytest.mark.skipif(
    "oauth_issuer" not in LIBPQ, reason="libpq before 18"
)
# What rides on every name. A libpq that was built without Kerberos says so.
USUAL = {"tcpKeepAlive": "true", "sslcert": "", "sslkey": ""}
if LIBPQ["gssencmode"] == "disable":
    USUAL["gssEncMode"] = "disable"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No variable and no file of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("PG", "SSL_CERT_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def in_home(home):
    """Write a file into ~/.postgresql."""

    def write(name: str, text: str = "x"):
        path = home / ".postgresql" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return str(path)

    return write


def private(path, text):
    """libpq reads no password file that others may read."""
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return path


def told(dsn: str, **options):
    return jdbc.jdbc_parameters(Conninfo(dsn), NAME, **options)


def url_of(params: dict[str, str]) -> str:
    """The URL that Drools makes of its parameters."""
    ports = params["port"].split(",")
    pairs = ",".join(
        f"{host}:{ports[min(i, len(ports) - 1)]}"
        for i, host in enumerate(params["host"].split(","))
    )
    return (
        f"jdbc:postgresql://{pairs}/{params['database']}"
        f"?sslmode={params['sslmode']}"
        f"&ApplicationName={params['application_name']}"
        "&targetServerType=primary"
    )


def read(url: str) -> dict[str, str]:
    """What pgjdbc reads in a URL (tests/integration asks the real one)."""
    server, _, query = url.partition("?")
    authority, slash, database = server[len("jdbc:postgresql://") :].partition(
        "/"
    )
    assert slash and "/" not in database
    found = {"host": authority, "database": unquote_plus(database)}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        assert name not in found, f"{name} is there twice"
        found[name] = unquote_plus(value)
    return found


def riders(params: dict[str, str]) -> dict[str, str]:
    """The pgjdbc parameters behind the application name."""
    found = read(url_of(params))
    for name in ("host", "database", "sslmode", "targetServerType"):
        found.pop(name)
    assert found.pop("ApplicationName") == NAME
    return found


def refused(dsn: str, **options) -> str:
    with pytest.raises(StateRefused) as caught:
        told(dsn, **options)
    text = str(caught.value)
    assert text and "\n" not in text
    return text


# -- the plain case ------------------------------------------------------


def test_a_plain_string_says_it_all():
    params = told("host=db port=5433 dbname=eda user=u password=p")
    assert params == {
        "db_type": "postgres",
        "host": "db",
        "port": "5433",
        "database": "eda",
        "user": "u",
        "password": "p",
        "sslmode": "prefer",
        "target_session_attrs": "read-write",
        "application_name": params["application_name"],
    }
    assert riders(params) == USUAL


def test_a_uri_and_pairs_say_the_same():
    assert told("postgresql://u:p%40@a:1,b:2/eda?connect_timeout=3") == told(
        "host=a,b port=1,2 user=u password=p@ dbname=eda connect_timeout=3"
    )


def test_what_libpq_adds_is_added(monkeypatch):
    monkeypatch.setenv("PGUSER", "someone")
    params = told("host=db")
    assert params["user"] == params["database"] == "someone"
    assert params["port"] == "5432"
    assert params["password"] == ""


def test_nothing_is_asked_for_over_the_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert told(f"host=127.0.0.1,no.such.host.invalid port={port}")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


# -- any character -------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    database=st.text(
        st.characters(codec="utf-8", exclude_characters="\0"), min_size=1
    ),
    options=st.text("-c ax=1&?+%/\\'\"#;ü", max_size=20),
    extra=st.text("aZ09 &=?+%/#;ü", min_size=1, max_size=20),
    password=st.text(
        st.characters(codec="utf-8", exclude_characters="\0"), max_size=10
    ),
)
@example("a b%20?&/+ü", "-c search_path=a,b", "&x=1", "&user=other")
@example("x&sslmode=disable", "", "1&sslmode=disable", "")
@example("x?sslmode=disable", "", "%26sslmode=disable", "")
def test_no_character_reaches_another_parameter(
    database, options, extra, password
):
    assume("://" not in database)
    dsn = make_conninfo(
        host="db",
        user="u",
        dbname=database,
        password=password,
        options=options,
        sslmode="require",
    )
    params = told(dsn, options="-c a=b", extra={"someName": extra})
    found = read(url_of(params))
    assert found["host"] == "db:5432"
    assert found["database"] == database
    assert found["sslmode"] == "require"
    assert found["ApplicationName"] == NAME
    assert found["options"] == (f"{options} -c a=b" if options else "-c a=b")
    assert found["someName"] == extra
    assert params["password"] == password
    assert set(found) == {
        *USUAL,
        "host",
        "database",
        "sslmode",
        "ApplicationName",
        "targetServerType",
        "options",
        "someName",
    }


@pytest.mark.parametrize(
    "name", ["", "a b", "w&socketTimeout=5", "a%26", "ü", "x" * 64, "a\n"]
)
def test_an_application_name_that_needs_encoding_is_refused(name):
    with pytest.raises(ValueError, match="1 to 63"):
        jdbc.jdbc_parameters(Conninfo("host=db"), name)


def test_an_application_name_is_made_of_the_key_and_a_token():
    assert jdbc.application_name(255, "0123456789ab") == NAME
    name = jdbc.application_name(-1, "f" * 36)
    assert name == f"eda-state:{'f' * 16}:{'f' * 36}"
    assert len(name) == 63
    assert told("host=db")  # NAME is accepted


@pytest.mark.parametrize("token", ["", "0123456789a", "w&x=1" * 3, "f" * 37])
def test_another_token_is_refused(token):
    with pytest.raises(ValueError, match="12 to 36"):
        jdbc.application_name(1, token)


# -- hosts ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "host", "port"),
    [
        ("host=a,b", "a,b", "5432,5432"),
        ("host=a,b port=1", "a,b", "1,1"),
        ("host=a,b,c port=1,,3", "a,b,c", "1,5432,3"),
        ("host=::1", "[::1]", "5432"),
        ("postgresql://[::1]:1,b:2/d", "[::1],b", "1,2"),
        ("hostaddr=10.0.0.1,::1", "10.0.0.1,[::1]", "5432,5432"),
        ("host=a,b hostaddr=10.0.0.1,", "10.0.0.1,b", "5432,5432"),
        ("host=/run,@x hostaddr=10.0.0.1,10.0.0.2 port=7",
         "10.0.0.1,10.0.0.2", "7,7"),
        ("hostaddr=10.0.0.1 sslmode=verify-full host=10.0.0.1",
         "10.0.0.1", "5432"),
    ],
)  # fmt: skip
def test_hosts_and_ports_as_libpq_reads_them(dsn, host, port):
    params = told(dsn)
    assert (params["host"], params["port"]) == (host, port)


@pytest.mark.parametrize(
    "dsn",
    ["dbname=eda", "host=/run", "host=@x", "host=a,/run", "host=a,", "host=''",
     "postgresql:///eda", "postgresql://%2Frun/eda"],
)  # fmt: skip
def test_a_unix_socket_is_refused(dsn):
    text = refused(dsn)
    assert "JDBC has no Unix sockets" in text
    assert "PGHOST" in text


def test_a_host_of_the_environment_does(monkeypatch):
    monkeypatch.setenv("PGHOST", "a,b")
    monkeypatch.setenv("PGPORT", "7")
    assert told("dbname=eda")["host"] == "a,b"
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.1,10.0.0.2")
    assert told("dbname=eda")["host"] == "10.0.0.1,10.0.0.2"


@pytest.mark.parametrize("host", ["a/b", "a?x=1", "a b", "a&b", "a#", "[a]"])
def test_a_host_that_would_end_the_url_is_refused(host):
    assert "host" in refused(make_conninfo(host=host))


def test_a_certificate_for_another_name_than_connected_to_is_refused():
    text = refused("host=db hostaddr=10.0.0.1 sslmode=verify-full")
    assert "hostaddr" in text
    assert told("host=db hostaddr=10.0.0.1 sslmode=verify-ca")


@pytest.mark.parametrize(
    "attrs", ["any", "read-write", "primary", "prefer-standby", None]
)
def test_state_always_asks_for_a_server_that_takes_writes(attrs):
    params = told(make_conninfo(host="db", target_session_attrs=attrs))
    assert params["target_session_attrs"] == "read-write"


# -- where libpq looks besides -------------------------------------------


def test_a_service_file_is_resolved(home, monkeypatch):
    file = home / "services.conf"
    file.write_text(
        "[eda]\nhost=a,b\nport=1,2\nuser=u\npassword=p w\ndbname=d d\n"
        "sslmode=require\n",
        "utf-8",
    )
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    params = told("service=eda")
    assert params["host"] == "a,b"
    assert params["database"] == "d%20d"
    assert params["password"] == "p w"
    assert params["sslmode"] == "require"
    monkeypatch.setenv("PGSERVICE", "eda")
    assert told("user=me")["user"] == "me"
    assert told("user=me")["host"] == "a,b"
    assert "nope" in refused("service=nope")


def test_variables_are_resolved(monkeypatch):
    variables = {
        "PGHOST": "db",
        "PGPORT": "7",
        "PGDATABASE": "d",
        "PGUSER": "u",
        "PGPASSWORD": "p",
        "PGSSLMODE": "require",
        "PGOPTIONS": "-c a=b",
        "PGCONNECT_TIMEOUT": "4",
        "PGTARGETSESSIONATTRS": "any",
        "PGAPPNAME": "other",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    params = told("postgresql://")
    assert params == {
        **told("host=db port=7 dbname=d user=u password=p sslmode=require"),
        "application_name": params["application_name"],
    }
    assert riders(params)["options"] == "-c a=b"
    assert riders(params)["connectTimeout"] == "4"


@pytest.mark.parametrize(
    ("lines", "password"),
    [
        (["db:5432:d:u:p"], "p"),
        (["*:*:*:*:p"], "p"),
        (["db:5433:d:u:no", "db:*:d:u:p"], "p"),
        (["# db:5432:d:u:no", "other:5432:d:u:no", "db:5432:d:u:p"], "p"),
        ([r"db:5432:d:u:p\:\\q"], r"p:\q"),
        (["db:5432:d:u: p ü "], " p ü "),
        (["db:5432:d:other:no"], ""),
        ([], ""),
    ],
)
def test_the_password_file_is_read_as_libpq_does(
    home, monkeypatch, lines, password
):
    file = private(home / "file", "".join(f"{line}\n" for line in lines))
    dsn = "host=db dbname=d user=u"
    assert told(f"{dsn} passfile={file}")["password"] == password
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert told(dsn)["password"] == password
    monkeypatch.delenv("PGPASSFILE")
    file.rename(home / ".pgpass")
    assert told(dsn)["password"] == password
    assert told(f"{dsn} password=given")["password"] == "given"


def test_a_colon_in_a_name_is_escaped_in_the_password_file(home):
    private(home / ".pgpass", "\\:\\:1:5432:a\\:b:u\\\\:p\n")
    assert told("host=::1 dbname=a:b user='u\\\\'")["password"] == "p"


def test_with_hostaddr_the_password_is_that_of_the_name(home):
    private(
        home / ".pgpass",
        "db:*:*:*:p\n10.0.0.1:*:*:*:no\n10.0.0.2:*:*:*:no\n",
    )
    assert told("host=db hostaddr=10.0.0.1")["password"] == "p"
    # Without a name it is that of the address.
    assert told("hostaddr=10.0.0.1")["password"] == "no"
    assert told("hostaddr=10.0.0.1,10.0.0.2")["password"] == "no"
    assert "same password" in refused("hostaddr=10.0.0.1,10.0.0.3")


def test_one_password_for_all_hosts_is_needed(home):
    file = private(
        home / ".pgpass", f"a:1:*:*:{SECRET}\nb:2:*:*:{SECRET}\nc:*:*:*:no\n"
    )
    assert told("host=a,b port=1,2")["password"] == SECRET
    for dsn in (
        "host=a,c port=1,2",
        "host=a,b port=1,3",  # none for b:3
        f"host=x,a port=1,1 passfile={file}",  # none for x
        "postgresql://a:1,b:2,c:3/d",
    ):
        text = refused(dsn)
        assert "same password for every host" in text
        assert SECRET not in text
    # One that is given counts for all, and nobody looks into the file.
    assert told("host=a,c password=p")["password"] == "p"


def test_a_service_with_hosts_has_its_passwords_looked_up(home, monkeypatch):
    (home / ".pg_service.conf").write_text(
        "[eda]\nhost=a,b\nhostaddr=10.0.0.1,10.0.0.2\nuser=u\ndbname=d\n",
        "utf-8",
    )
    file = private(home / "file", "a:*:d:u:p\nb:*:d:u:p\n*:*:*:*:no\n")
    monkeypatch.setenv("PGSERVICE", "eda")
    assert told(f"passfile={file}")["password"] == "p"
    private(file, "a:*:d:u:p\nb:*:d:u:other\n")
    assert "same password" in refused(f"passfile={file}")


# -- what libpq or JDBC refuses ------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db sslmode=nonsense",
        "host=a,b port=1,2,3",
        "host=db sslmode=require sslrootcert=system",
        pytest.param(
            "host=db sslmode=prefer sslnegotiation=direct",
            marks=SINCE_17,
        ),
        "host=db require_auth=nonsense",
        "host=db channel_binding=nonsense",
    ],
)
def test_what_libpq_refuses_is_refused_in_its_words(dsn):
    text = refused(f"{dsn} password={SECRET}")
    assert text.startswith("the connection string cannot be used: ")
    assert jdbc.UNASKED not in text
    assert SECRET not in text


def test_bytes_that_are_no_text_are_refused(home):
    file = home / ".pgpass"
    file.write_bytes(b"*:*:*:*:zqxjk\xff\n")
    file.chmod(0o600)
    text = refused("host=db")
    assert "UTF-8" in text
    assert SECRET not in text


@pytest.mark.parametrize(
    "dsn",
    [
        "host=/run",
        "host=db,/run",
        "host=db hostaddr=10.0.0.1 sslmode=verify-full",
        "host=db sslmode=verify-ca sslcrl=x",
        "host=db sslmode=verify-ca sslcrldir=x",
        "host=db sslmode=require ssl_min_protocol_version=TLSv1.3",
        pytest.param("host=db require_auth=oauth", marks=SINCE_18),
        "host=db service=nope",
    ],
)
def test_no_refusal_tells_a_secret(dsn, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", f"{SECRET}2")
    text = refused(f"{dsn} password={SECRET} sslpassword={SECRET}3")
    assert SECRET not in text
    assert SECRET not in repr(jdbc.resolve(Conninfo(f"host=a {DSN_SECRETS}")))


DSN_SECRETS = f"password={SECRET} sslpassword={SECRET}3"


# -- TLS -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "file", "told_mode"),
    [
        ("disable", True, "disable"),
        ("allow", True, "allow"),
        ("prefer", True, "prefer"),
        ("require", True, "verify-ca"),  # as libpq does
        ("require", False, "require"),
        ("verify-ca", True, "verify-ca"),
        ("verify-ca", False, "verify-ca"),
        ("verify-full", True, "verify-full"),
        ("verify-full", False, "verify-full"),
    ],
)
def test_no_ssl_mode_gets_weaker(mode, file, told_mode, home, in_home):
    if file:
        in_home("root.crt")
    params = told(f"host=db sslmode={mode}")
    assert params["sslmode"] == told_mode
    path = str(home / ".postgresql" / "root.crt")
    verifies = told_mode.startswith("verify-")
    assert params.get("sslrootcert") == (path if verifies else None)


def test_a_named_file_of_authorities_is_made_absolute(home, monkeypatch):
    (home / "ca.pem").write_text("x", "utf-8")
    monkeypatch.chdir(home)
    params = told("host=db sslmode=require sslrootcert=ca.pem")
    assert params["sslmode"] == "verify-ca"
    assert params["sslrootcert"] == str(home / "ca.pem")


def test_the_systems_authorities_are_a_file(home, monkeypatch):
    bundle = home / "bundle.pem"
    bundle.write_text("x", "utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    params = told("host=db sslrootcert=system")
    assert params["sslmode"] == "verify-full"
    assert params["sslrootcert"] == str(bundle)


def test_a_distributions_bundle_stands_for_the_systems_folder(
    home, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(home / "none"))
    monkeypatch.setenv("SSL_CERT_DIR", str(home))
    assert "SSL_CERT_FILE" in refused("host=db sslrootcert=system")
    (home / "ca-certificates.crt").write_text("x", "utf-8")
    params = told("host=db sslrootcert=system")
    assert params["sslrootcert"] == str(home / "ca-certificates.crt")


def test_the_clients_certificate_is_that_of_libpq(home, in_home):
    nothing = {"sslcert": "", "sslkey": ""}
    without = told("host=db")
    assert "sslcert" not in without and "sslkey" not in without
    # Else pgjdbc would look for one in the home folder of its own.
    assert nothing.items() <= riders(without).items()
    certificate = in_home("postgresql.crt")
    key = in_home("postgresql.key", KEY)
    params = told("host=db")
    assert (params["sslcert"], params["sslkey"]) == (certificate, key)
    assert not nothing.keys() & riders(params).keys()
    for dsn in (
        "host=db sslmode=disable",
        "host=db sslcertmode=disable",
        "host=db sslcert=none",  # libpq goes on without it, too
    ):
        assert "sslkey" not in told(dsn)


def test_a_named_certificate_and_its_password_are_told(home, monkeypatch):
    for name, text in (("c.pem", "x"), ("k.pem", KEY)):
        (home / name).write_text(text, "utf-8")
    params = told(
        f"host=db sslcert={home}/c.pem sslkey={home}/k.pem sslpassword='a b'"
    )
    assert params["sslpassword"] == "a b"
    assert params["sslkey"] == f"{home}/k.pem"
    # Java may have another working directory by now.
    monkeypatch.chdir(home)
    relative = told("host=db sslcert=c.pem sslkey=k.pem sslpassword='a b'")
    assert relative == params


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("postgresql.key", b"\x30\x82DER"),
        ("postgresql.key", b""),
        # OpenSSL looks for the key in the file, Drools takes what is first.
        ("postgresql.key", b"-----BEGIN EC PARAMETERS-----\n" + KEY.encode()),
        ("postgresql.key", b"-----BEGIN CERTIFICATE-----\n" + KEY.encode()),
        ("my.pk8", KEY.encode()),
        ("my.P12", KEY.encode()),
        ("none", None),
    ],
)
def test_a_key_that_drools_cannot_read_is_refused(
    name, content, home, in_home
):
    in_home("postgresql.crt")
    path = home / ".postgresql" / name
    if content is not None:
        path.write_bytes(content)
    text = refused(f"host=db sslkey={path}")
    assert str(path) in text
    assert "KEY--" not in text


def test_a_key_with_words_before_it_is_read(in_home):
    in_home("postgresql.crt")
    in_home("postgresql.key", f"Bag Attributes\n  x: y\n{KEY}")
    assert told("host=db")["sslkey"]


def test_revocation_lists_are_refused_where_they_would_count(home, in_home):
    assert told("host=db sslmode=require sslcrl=x")
    assert told("host=db sslmode=disable sslcrl=x")
    assert "revocation" in refused("host=db sslmode=verify-full sslcrldir=x")
    in_home("root.crl")
    assert "revocation" in refused("host=db sslmode=verify-ca")
    assert told("host=db sslmode=prefer")
    in_home("root.crt")
    assert "revocation" in refused("host=db sslmode=require")


def test_a_least_protocol_is_held_or_refused():
    held = "host=db sslmode=require ssl_min_protocol_version="
    assert told(f"{held}TLSv1.2")
    assert told(f"{held}TLSv1")
    assert "TLS 1.3" in refused(f"{held}TLSv1.3")
    assert told("host=db ssl_min_protocol_version=TLSv1.3")  # may be plain


# -- what rides on the name ----------------------------------------------


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("", {}),
        ("keepalives=0", {"tcpKeepAlive": "false"}),
        ("keepalives=1 keepalives_idle=3 tcp_user_timeout=9", {}),
        ("load_balance_hosts=random", {"loadBalanceHosts": "true"}),
        ("channel_binding=disable", {"channelBinding": "disable"}),
        ("gssencmode=disable", {"gssEncMode": "disable"}),
        ("krbsrvname=pg", {"kerberosServerName": "pg"}),
        ("options='-c a=b -c d=e'", {"options": "-c a=b -c d=e"}),
        ("connect_timeout=7", {"connectTimeout": "7"}),
        ("connect_timeout=0", {}),
        ("connect_timeout=-1", {}),
        pytest.param(
            "sslmode=require sslnegotiation=direct",
            {"sslNegotiation": "direct"},
            marks=SINCE_17,
        ),
        pytest.param("require_auth=!oauth", {}, marks=SINCE_18),
    ],
)
def test_a_parameter_is_said_in_pgjdbcs_words(dsn, expected):
    assert riders(told(f"host=db {dsn}")) == {**USUAL, **expected}


def test_ours_come_after_theirs():
    params = told("host=db options='-c a=b'", options="-c c=d")
    assert riders(params)["options"] == "-c a=b -c c=d"
    assert riders(told("host=db", options="-c c=d"))["options"] == "-c c=d"


@pytest.mark.parametrize(
    ("theirs", "ours", "told_value"),
    [("7", "3", "3"), ("2", "3", "2"), ("0", "3", "3"), ("", "3", "3")],
)
def test_the_shorter_timeout_counts(theirs, ours, told_value):
    dsn = make_conninfo(host="db", connect_timeout=theirs or None)
    params = told(dsn, extra={"connectTimeout": ours, "socketTimeout": "5"})
    assert riders(params)["connectTimeout"] == told_value
    assert riders(params)["socketTimeout"] == "5"


@pytest.fixture
def driver(home):
    """A jar whose pgjdbc knows these parameters."""

    def make(*names: str):
        path = home / "driver.jar"
        with zipfile.ZipFile(path, "w") as jar:
            jar.writestr(
                "org/postgresql/PGProperty.class",
                b"\xca\xfe\xba\xbe" + " ".join(names).encode(),
            )
        return path

    return make


@pytest.mark.parametrize(
    ("dsn", "name", "value"),
    [
        ("require_auth=scram-sha-256", "requireAuth", "scram-sha-256"),
        ("require_auth=md5,none", "requireAuth", "md5,none"),
        ("require_auth=!password,!md5", "requireAuth", "!password,!md5"),
        pytest.param(
            "require_auth=!password,!oauth",
            "requireAuth",
            "!password",
            marks=SINCE_18,
        ),
        pytest.param(
            "require_auth=oauth,md5", "requireAuth", "md5", marks=SINCE_18
        ),
        ("channel_binding=require", "channelBinding", "require"),
    ],
)
def test_a_guard_is_told_to_a_driver_that_heeds_it(dsn, name, value, driver):
    params = told(f"host=db {dsn}", driver=driver("requireAuth", name))
    assert riders(params)[name] == value
    # pgjdbc says nothing of a parameter that it does not know.
    old = driver("sslmode", "ApplicationName")
    assert name in refused(f"host=db {dsn}", driver=old)
    nothing = old.with_name("none.jar")
    assert name in refused(f"host=db {dsn}", driver=nothing)
    nothing.write_bytes(b"no jar")
    assert name in refused(f"host=db {dsn}", driver=nothing)


def test_the_jar_is_drools_own(driver, monkeypatch):
    dsn = "host=db require_auth=scram-sha-256"
    monkeypatch.setenv("DROOLS_JPY_CLASSPATH", str(driver("none")))
    assert "drools_jpy" in refused(dsn)
    monkeypatch.setenv("DROOLS_JPY_CLASSPATH", str(driver("requireAuth")))
    assert told(dsn)


def test_no_driver_is_looked_for_without_need(home):
    assert told("host=db", driver=home / "none.jar")
    assert told("host=db channel_binding=disable", driver=home / "none.jar")


@SINCE_18
def test_a_key_instead_of_a_password_is_refused():
    key = "scram_client_key=AAAA"
    assert "password" in refused(f"host=db {key}")
    assert told(f"host=db {key} password=p")


# -- what is left out ----------------------------------------------------


def test_each_parameter_of_libpq_has_been_thought_of():
    assert set(LIBPQ) <= jdbc.HEEDED | jdbc.OURS | set(jdbc.IGNORED)
    assert not jdbc.HEEDED & set(jdbc.IGNORED)


def test_what_is_ignored_can_be_told():
    plain = "host=db user=u password=p connect_timeout=3 application_name=x"
    assert jdbc.ignored(Conninfo(plain)) == []
    assert jdbc.ignored(Conninfo("host=db target_session_attrs=any")) == []
    dsn = f"{plain} tcp_user_timeout=9 keepalives_idle=3 sslsni=0"
    assert jdbc.ignored(Conninfo(dsn)) == [
        "keepalives_idle",
        "sslsni",
        "tcp_user_timeout",
    ]


def test_what_is_ignored_and_set_elsewhere_can_be_told_too(monkeypatch):
    monkeypatch.setenv("PGSSLMAXPROTOCOLVERSION", "TLSv1.2")
    assert jdbc.ignored(Conninfo("host=db")) == ["ssl_max_protocol_version"]
