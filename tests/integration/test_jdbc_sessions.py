"""Drools arrives where psycopg does: a real JVM, a real PostgreSQL.

One JVM serves all tests (jdbc_engine.py); each opens a pool as upstream
does, and PostgreSQL says who came.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.sql import SQL, Identifier, Literal
from rig.server import TEST_BIN, EmbeddedRig, both_dsn
from rig.workers import worker_env

from ansible_rulebook.ha import jdbc
from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.errors import StateRefused

LIMIT = 60.0  # seconds; for a JVM on a busy machine
HELPER = Path(__file__).with_name("jdbc_engine.py")
# Folders of packages, searched for a server that was built with TLS.
PACKAGED = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")

PASSWORDS = [
    "@:/%'\\ &",
    "&user=postgres&sslmode=disable",
    "?x=1#y",
    "%41%",
    "+ +",
    "' \" ''",
    "\\'\\\\",
    " ends with blanks ",
    "tab\tand\nline",
    "äöü€",
    "a" * 300,
]
DATABASES = [
    "a b",
    "100%",
    "50%25",
    "why?",
    "a&sslmode=verify-full",
    "a/b",
    "a+b",
    "ü€",
    "a#b;c=d",
    "a:b@c,d",
    "\"'\\",
]


# -- the JVM -------------------------------------------------------------


class JdbcError(Exception):
    """What Java raised."""


class Engine:
    """Drools in a process of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HELPER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=worker_env(),
        )
        self._answers: Queue[str] = Queue()
        self.said: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in (
                (self._process.stdout, self._answers.put),
                (self._process.stderr, self.said.append),
            )
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, sink: Any) -> None:
        for line in stream:
            sink(line)
        sink("")

    def ask(self, what: str, *args: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, "args": args}))
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        line = self._answers.get(timeout=LIMIT)
        assert line, "".join(self.said)
        answer: dict[str, Any] = json.loads(line)
        if answer.pop("error") is not None:
            raise JdbcError(json.loads(line)["error"])
        return answer

    @contextlib.contextmanager
    def connected(self, params: dict[str, str]) -> Iterator[str]:
        """A pool of sessions; gives the name of the cluster in its tables.

        :raises JdbcError: if there is no session.
        """
        try:
            yield self.ask("connect", params)["ha_uuid"]
        finally:
            self.ask("close")

    def parse(self, url: str) -> dict[str, str] | None:
        return self.ask("parse", url)["properties"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(LIMIT)
        finally:
            self._process.kill()
            self._process.wait()
            for reader in self._readers:
                reader.join(LIMIT)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    drools = pytest.importorskip("drools.ruleset")
    if not hasattr(drools.RulesetCollection, "initialize_ha"):
        pytest.skip("this drools_jpy keeps no state")
    made = Engine()
    yield made
    made.close()
    # What Drools logs when asked for all tells no password either.
    assert any("jdbcUrl=" in line for line in made.said)
    assert not [line for line in made.said if "zqxjk" in line]


@dataclass
class Arrival:
    """Who came, as the server tells it."""

    user: str
    database: str
    schema: str
    tls: bool


@pytest.fixture
def arrive(engine, server, tmp_path, monkeypatch):
    """Take both drivers to where a connection string leads.

    They must arrive at the same place, which is given back.
    """
    for name in list(os.environ):
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))

    def both(dsn: str, admin: str | None = None, **options: Any) -> Arrival:
        """`admin` sees all sessions; default is the shared server's."""
        name = jdbc.application_name(1, secrets.token_hex(8))
        conninfo = Conninfo(dsn)
        params = jdbc.jdbc_parameters(conninfo, name, **options)
        with engine.connected(params) as ha_uuid:
            by_jdbc = server.query(
                "SELECT DISTINCT usename, datname, coalesce(ssl, false)"
                " FROM pg_stat_activity LEFT JOIN pg_stat_ssl USING (pid)"
                " WHERE application_name = %s",
                (name,),
                dsn=admin,
            )
        target = make_conninfo("", **conninfo.merged(connect_timeout=10))
        with psycopg.connect(target) as session:
            row = session.execute(
                "SELECT current_user, current_database(),"
                " coalesce((SELECT ssl FROM pg_stat_ssl"
                " WHERE pid = pg_backend_pid()), false)"
            ).fetchone()
            assert row is not None
            assert by_jdbc == [row]
            # Drools' own row, wherever its session's search_path led.
            found = session.execute(
                "SELECT table_schema FROM information_schema.tables"
                " WHERE table_name = 'drools_ansible_ha_stats'"
            ).fetchall()
            schemas = [
                schema
                for (schema,) in found
                if session.execute(
                    SQL("SELECT 1 FROM {} WHERE ha_uuid = {}").format(
                        Identifier(schema, "drools_ansible_ha_stats"),
                        Literal(ha_uuid),
                    )
                ).fetchone()
            ]
        (schema,) = schemas
        return Arrival(row[0], row[1], schema, row[2])

    return both


@pytest.fixture(scope="module")
def place(server) -> Iterator[str]:
    """A database of a role of its own, that logs in with a password."""
    name = f"jdbc_{secrets.token_hex(4)}"
    with server.connect() as session:
        session.execute(
            SQL("CREATE ROLE {} LOGIN PASSWORD 'zqxjk'").format(
                Identifier(name)
            )
        )
        session.execute(
            SQL("CREATE DATABASE {0} OWNER {0}").format(Identifier(name))
        )
    yield make_conninfo(server.dsn, user=name, dbname=name, password="zqxjk")
    with server.connect() as session:
        session.execute(
            SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name))
        )
        session.execute(SQL("DROP ROLE {}").format(Identifier(name)))


def parts(dsn: str) -> dict[str, str]:
    return {k: str(v) for k, v in conninfo_to_dict(dsn).items()}


def uri(dsn: str, **query: str) -> str:
    """The same as a URI with everything that can be encoded encoded."""
    said = {k: quote(v, safe="") for k, v in parts(dsn).items()}
    return (
        f"postgresql://{said['user']}:{said['password']}@{said['host']}"
        f":{said['port']}/{said['dbname']}?{urlencode(query)}"
    )


# -- any character -------------------------------------------------------


@pytest.mark.parametrize("password", PASSWORDS)
def test_any_password_logs_in(arrive, place, server, password):
    (user,) = (parts(place)["user"],)
    with server.connect() as session:
        session.execute(
            SQL("ALTER ROLE {} PASSWORD {}").format(
                Identifier(user), Literal(password)
            )
        )
    try:
        dsn = make_conninfo(place, password=password)
        assert arrive(dsn).user == user
        assert arrive(uri(dsn)).user == user
    finally:
        with server.connect() as session:
            session.execute(
                SQL("ALTER ROLE {} PASSWORD 'zqxjk'").format(Identifier(user))
            )


def test_a_wrong_password_does_not(arrive, place):
    with pytest.raises(JdbcError, match="password authentication failed"):
        arrive(make_conninfo(place, password="zqxjk "))


@pytest.mark.parametrize("name", DATABASES)
def test_any_database_is_found(arrive, server, name):
    dsn = make_conninfo(server.dsn, dbname=name)
    with server.connect() as session:
        session.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        assert arrive(dsn).database == name
        if "@" not in name:
            assert arrive(uri(dsn)).database == name
    finally:
        with server.connect() as session:
            session.execute(
                SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name))
            )


@pytest.mark.parametrize("name", ["me@corp ü", "a&user=postgres", "%41/?"])
def test_any_user_logs_in(arrive, server, dsn, name):
    database = Identifier(parts(dsn)["dbname"])
    with server.connect() as session:
        session.execute(
            SQL("CREATE ROLE {} LOGIN PASSWORD 'zqxjk'").format(
                Identifier(name)
            )
        )
        session.execute(
            SQL("ALTER DATABASE {} OWNER TO {}").format(
                database, Identifier(name)
            )
        )
    try:
        target = make_conninfo(dsn, user=name, password="zqxjk")
        assert arrive(target).user == name
    finally:
        with server.connect() as session:
            session.execute(
                SQL("ALTER DATABASE {} OWNER TO CURRENT_USER").format(database)
            )
        with server.connect(dsn) as session:
            session.execute(
                SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(
                    Identifier(name)
                )
            )


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    database=st.text("a&?=/%+# ;:,ü€'\"\\", min_size=1, max_size=12),
    options=st.text("-c a&?=/%+#ü'\"\\", max_size=12),
    value=st.text("a&?=/%+# ü'\"\\", min_size=1, max_size=12),
)
def test_pgjdbc_reads_what_was_meant(engine, database, options, value):
    assume("://" not in database)
    name = jdbc.application_name(1, "0123456789ab")
    dsn = make_conninfo(
        "host=::1,b port=1,2 user=u", dbname=database, options=options
    )
    params = jdbc.jdbc_parameters(
        Conninfo(dsn), name, options="-c x=y", extra={"loggerFile": value}
    )
    found = engine.parse(
        f"jdbc:postgresql://{params['host'].split(',')[0]}:1,b:2/"
        f"{params['database']}?sslmode={params['sslmode']}"
        f"&ApplicationName={params['application_name']}"
    )
    assert found is not None
    assert found["PGHOST"] == "[::1],b"
    assert found["PGPORT"] == "1,2"
    assert found["PGDBNAME"] == database
    assert found["sslmode"] == params["sslmode"]
    assert found["ApplicationName"] == name
    assert found["options"] == (f"{options} -c x=y" if options else "-c x=y")
    assert found["loggerFile"] == value
    assert found["sslkey"] == found["sslcert"] == ""


# -- several hosts -------------------------------------------------------


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_host_that_is_down_is_passed_over(arrive, place):
    said = parts(place)
    dsn = make_conninfo(
        place,
        host=f"{said['host']},{said['host']}",
        port=f"{closed_port()},{said['port']}",
    )
    assert arrive(dsn).user == said["user"]


def test_a_standby_is_passed_over(arrive, embedded_server, standby_of):
    standby = standby_of(embedded_server)
    dsn = both_dsn(
        standby.dsn, embedded_server.dsn, target_session_attrs="read-write"
    )
    # Drools could not make its tables there.
    assert arrive(dsn, admin=embedded_server.dsn).schema == "public"
    # Whatever the string says.
    one = make_conninfo(standby.dsn, target_session_attrs="any")
    with pytest.raises(JdbcError, match="targetServerType: primary"):
        arrive(one)


def test_an_address_stands_for_a_name_that_nobody_knows(arrive, place):
    address = socket.gethostbyname(parts(place)["host"])
    dsn = make_conninfo(place, host="no.such.host.invalid", hostaddr=address)
    assert arrive(dsn).database == parts(place)["dbname"]


def test_an_ipv6_address_is_reached(arrive, place, front):
    try:
        port = front(place, host="::1").port
    except OSError:
        pytest.skip("no IPv6 here")
    dsn = make_conninfo(place, host="::1", port=port)
    assert arrive(dsn).database == parts(place)["dbname"]


# -- where libpq looks besides -------------------------------------------


def test_a_service_file_leads_both(arrive, place, tmp_path, monkeypatch):
    file = tmp_path / "services"
    lines = "".join(f"{k}={v}\n" for k, v in parts(place).items())
    file.write_text(f"[state]\n{lines}", "utf-8")
    monkeypatch.setenv("PGSERVICEFILE", str(file))
    assert arrive("service=state").user == parts(place)["user"]
    monkeypatch.setenv("PGSERVICE", "state")
    file.rename(tmp_path / ".pg_service.conf")
    monkeypatch.delenv("PGSERVICEFILE")
    assert arrive("connect_timeout=5").user == parts(place)["user"]


def test_a_password_file_leads_both(arrive, place, tmp_path, monkeypatch):
    said = parts(place)
    password = said.pop("password")
    file = tmp_path / "passwords"
    file.write_text(
        f"*:1:*:*:no\n{said['host']}:*:*:other:no\n"
        f"{said['host']}:{said['port']}:{said['dbname']}:*:{password}\n"
        "*:*:*:*:no\n",
        "utf-8",
    )
    file.chmod(0o600)
    dsn = make_conninfo("", **said)
    assert arrive(f"{dsn} passfile={file}").user == said["user"]
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert arrive(dsn).user == said["user"]
    monkeypatch.delenv("PGPASSFILE")
    with pytest.raises(JdbcError):
        arrive(dsn)
    file.rename(tmp_path / ".pgpass")
    assert arrive(dsn).user == said["user"]


def test_variables_lead_both(arrive, place, monkeypatch):
    names = {"dbname": "DATABASE"}
    for name, value in parts(place).items():
        variable = names.get(name, name.upper())
        monkeypatch.setenv(f"PG{variable}", value)
    assert arrive("postgresql://").user == parts(place)["user"]


def test_options_reach_the_server(arrive, dsn, server, monkeypatch):
    with server.connect(dsn) as session:
        session.execute('CREATE SCHEMA x; CREATE SCHEMA "a b,\'%&"')
    said = make_conninfo(dsn, options="-c search_path=x")
    assert arrive(said).schema == "x"
    monkeypatch.setenv("PGOPTIONS", "-c search_path=x")
    assert arrive(dsn).schema == "x"
    # Ours come last, so they win; theirs are still heard.
    odd = '-c search_path="a\\ b,\'%&"'
    said = make_conninfo(
        dsn, options="-c search_path=x -c default_table_access_method=heap"
    )
    assert arrive(said, options=odd).schema == "a b,'%&"
    with pytest.raises(JdbcError, match="nonsense"):
        arrive(make_conninfo(dsn, options="-c nonsense=1"), options=odd)


def test_pgjdbc_hears_its_own_parameters(arrive, place):
    # This one refuses to connect, so it was heard.
    with pytest.raises(JdbcError, match=r"NoSuchFactory|factory"):
        arrive(place, extra={"socketFactory": "NoSuchFactory"})
    assert arrive(place, extra={"socketTimeout": "30", "connectTimeout": "5"})


# -- what guards the connection ------------------------------------------


@pytest.mark.parametrize(
    ("guard", "words"),
    [
        ("require_auth=md5", "requireAuth"),
        ("require_auth=!scram-sha-256", "requireAuth"),
        ("channel_binding=require", "Channel Binding is required"),
        ("gssencmode=require", "GSS"),
        ("sslmode=require", "SSL"),
    ],
)
def test_a_guard_that_the_server_does_not_satisfy_stops_both(
    arrive, embedded_server, guard, words
):
    if not without_tls(embedded_server):
        pytest.skip("the server has TLS, which satisfies some")
    dsn = make_conninfo(embedded_server.dsn, **conninfo_to_dict(guard))
    with pytest.raises(psycopg.Error):
        psycopg.connect(dsn)
    # Refused is what the driver of drools_jpy 0.4.0 does not know yet.
    with pytest.raises((JdbcError, StateRefused), match=words):
        arrive(dsn)


def test_a_guard_that_the_server_satisfies_lets_both_pass(
    arrive, embedded_server
):
    if not jdbc._driver_knows(jdbc._drools_jar(), "requireAuth"):
        pytest.skip("the JDBC driver does not know requireAuth")
    dsn = make_conninfo(embedded_server.dsn, require_auth="scram-sha-256")
    assert arrive(dsn, admin=embedded_server.dsn)


def without_tls(server: EmbeddedRig) -> bool:
    return server.query("SHOW ssl") == [("off",)]


# -- TLS -----------------------------------------------------------------


class Front:
    """A door before a server: another address, or TLS from the first byte."""

    def __init__(
        self, dsn: str, host: str, context: ssl.SSLContext | None
    ) -> None:
        said = parts(dsn)
        self._target = (said["host"], int(said["port"]))
        self._context = context
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._door = socket.create_server((host, 0), family=family)
        self.port: int = self._door.getsockname()[1]
        self.subjects: list[Any] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._door.accept()
                threading.Thread(
                    target=self._pass_on, args=(client,), daemon=True
                ).start()

    def _pass_on(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if self._context is not None:
                client = stack.enter_context(
                    self._context.wrap_socket(client, server_side=True)
                )
                self.subjects.append(client.getpeercert())
            server = stack.enter_context(
                socket.create_connection(self._target)
            )
            back = threading.Thread(
                target=self._copy, args=(server, client), daemon=True
            )
            back.start()
            self._copy(client, server)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._door.close()


@pytest.fixture
def front():
    """Put a door before a server."""
    with contextlib.ExitStack() as stack:

        def make(
            dsn: str,
            host: str = "127.0.0.1",
            context: ssl.SSLContext | None = None,
        ) -> Front:
            made = Front(dsn, host, context)
            stack.callback(made.close)
            return made

        yield make


class Authority:
    """Signs certificates into PEM files of a folder."""

    def __init__(self, folder: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa

        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        # One for all whom it signs: to make one takes a second.
        self._subjects_key = rsa.generate_private_key(65537, 2048)
        self._name = f"Authority {folder.name}"
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._certificate(self._name, self._key, True))

    def sign(
        self, name: str, password: str | None = None, kind: str = "PKCS8"
    ) -> tuple[Path, Path]:
        """Certificate and key for a name; a host's also as its SAN."""
        from cryptography.hazmat.primitives import serialization as pem

        key = self._subjects_key
        found = (
            self._folder / f"{name}.{kind}.crt",
            self._folder / f"{name}.{kind}.key",
        )
        found[0].write_bytes(self._certificate(name, key, False))
        found[1].write_bytes(
            key.private_bytes(
                pem.Encoding.PEM,
                getattr(pem.PrivateFormat, kind),
                pem.BestAvailableEncryption(password.encode())
                if password
                else pem.NoEncryption(),
            )
        )
        found[1].chmod(0o600)
        return found

    def _certificate(self, name: str, key: Any, authority: bool) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        def named(text: str) -> x509.Name:
            attribute = x509.NameAttribute(x509.NameOID.COMMON_NAME, text)
            return x509.Name([attribute])

        try:
            san: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            san = x509.DNSName(name.replace(" ", "-"))
        now = datetime.now(timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(
                x509.BasicConstraints(ca=authority, path_length=None), True
            )
            .add_extension(x509.SubjectAlternativeName([san]), False)
            .sign(self._key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    pytest.importorskip("cryptography")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Authority:
    """An authority that nobody trusts."""
    pytest.importorskip("cryptography")
    return Authority(tmp_path_factory.mktemp("stranger"))


def tls_door(authority: Authority, name: str, **options: Any):
    certificate, key = authority.sign(name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["postgresql"])
    context.load_verify_locations(authority.file)
    for option, value in options.items():
        setattr(context, option, value)
    return context


@pytest.fixture
def direct(place, front, authority):
    """The DSN through a door that talks TLS at once, as PostgreSQL 17."""
    if psycopg.pq.version() < 170000:
        pytest.skip("libpq before 17 has no sslnegotiation")

    def make(name: str = "localhost", **options: Any) -> tuple[str, Front]:
        door = front(place, context=tls_door(authority, name, **options))
        return make_conninfo(
            place,
            host="localhost",
            port=door.port,
            sslnegotiation="direct",
            sslmode="verify-full",
            sslrootcert=authority.file,
        ), door

    return make


def test_direct_tls_is_spoken_and_verified(arrive, direct, authority):
    dsn, door = direct()
    assert arrive(dsn).user == parts(dsn)["user"]
    assert door.subjects


def test_the_systems_authorities_verify(
    arrive, direct, authority, monkeypatch
):
    dsn, _ = direct()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    dsn = make_conninfo(dsn, sslrootcert="system", sslmode=None)
    assert arrive(dsn)


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, True),
        ({"host": "127.0.0.1"}, False),  # another name
        ({"host": "127.0.0.1", "sslmode": "verify-ca"}, True),
        ({"sslrootcert": "stranger"}, False),
        ({"sslrootcert": "stranger", "sslmode": "verify-ca"}, False),
        # libpq verifies where there is a file of authorities.
        ({"sslrootcert": "stranger", "sslmode": "require"}, False),
        ({"sslrootcert": "none", "sslmode": "require"}, True),
        ({"sslrootcert": "none", "sslmode": "verify-ca"}, False),
    ],
)
def test_a_certificate_that_libpq_refuses_is_refused(
    arrive, direct, stranger, change, passes
):
    dsn, _ = direct()
    if change.get("sslrootcert") == "stranger":
        change = {**change, "sslrootcert": str(stranger.file)}
    dsn = make_conninfo(dsn, **change)
    if passes:
        assert arrive(dsn)
        return
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        psycopg.connect(dsn)
    with pytest.raises(JdbcError):
        arrive(dsn)


@pytest.mark.parametrize("where", ["named", "at home"])
@pytest.mark.parametrize(
    ("kind", "password"),
    [
        ("PKCS8", None),
        ("PKCS8", "zqxjk b&c=%41+ü"),
        ("TraditionalOpenSSL", None),
        ("TraditionalOpenSSL", "zqxjk b&c"),
    ],
)
def test_the_clients_certificate_is_shown(
    arrive, direct, authority, tmp_path, where, kind, password
):
    dsn, door = direct(verify_mode=ssl.CERT_REQUIRED)
    certificate, key = authority.sign("a client", password, kind)
    dsn = make_conninfo(dsn, sslpassword=password)
    if where == "named":
        dsn = make_conninfo(dsn, sslcert=certificate, sslkey=key)
    else:
        home = tmp_path / ".postgresql"
        home.mkdir()
        shutil.copy(certificate, home / "postgresql.crt")
        shutil.copy(key, home / "postgresql.key")
        shutil.copy(authority.file, home / "root.crt")
        dsn = make_conninfo(dsn, sslrootcert=None)
    assert arrive(dsn)
    names = {str(subject["subject"]) for subject in door.subjects}
    assert len(names) == 1 and "a client" in names.pop()


def test_a_certificate_that_libpq_would_not_show_is_not_shown(
    arrive, direct, authority, tmp_path
):
    dsn, door = direct(verify_mode=ssl.CERT_OPTIONAL)
    certificate, key = authority.sign("a client")
    home = tmp_path / ".postgresql"
    home.mkdir()
    shutil.copy(certificate, home / "postgresql.crt")
    shutil.copy(key, home / "postgresql.key")
    assert arrive(make_conninfo(dsn, sslcertmode="disable"))
    assert not any(door.subjects)
    assert arrive(dsn)
    assert "a client" in str(door.subjects[-1])


def tls_binaries() -> list[str]:
    found = [os.environ.get(TEST_BIN), shutil.which("postgres")]
    packaged = [
        str(folder)
        for pattern in PACKAGED
        for folder in sorted(Path("/").glob(pattern))
    ]
    return [
        *(folder for folder in found[:1] if folder),
        *(str(Path(path).resolve().parent) for path in found[1:] if path),
        *reversed(packaged),
    ]


@pytest.fixture(scope="module")
def tls_server(authority) -> Iterator[EmbeddedRig]:
    """A PostgreSQL that was built with TLS, wants certificates, and a role.

    The embedded one has none, so one of the system's packages.
    """
    for folder in tls_binaries():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(TEST_BIN, folder)
            try:
                rig = EmbeddedRig()
            except RuntimeError:
                continue
        if rig.query("SHOW ssl_library") != [("",)]:
            break
        rig.close()
    else:
        pytest.skip("no PostgreSQL that was built with TLS")
    with rig:
        data_dir = rig.embedded.data_dir
        owner = os.stat(data_dir)
        certificate, key = authority.sign("localhost")
        for source, name in (
            (certificate, "server.crt"),
            (key, "server.key"),
            (authority.file, "root.crt"),
        ):
            shutil.copy(source, data_dir / name)
            (data_dir / name).chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(data_dir / name, owner.st_uid, owner.st_gid)
        rules = data_dir / "pg_hba.conf"
        rules.write_text(
            "hostssl all certified all cert\n"
            "hostnossl all certified all reject\n"
            "hostssl all both all scram-sha-256 clientcert=verify-ca\n"
            + rules.read_text("utf-8"),
            "utf-8",
        )
        rig.embedded.settings.update({"ssl": "on", "ssl_ca_file": "root.crt"})
        rig.restart()
        for role in ("certified", "both"):
            with rig.connect() as session:
                session.execute(
                    SQL(
                        "CREATE ROLE {0} LOGIN SUPERUSER PASSWORD 'zqxjk'"
                    ).format(Identifier(role))
                )
        yield rig


@pytest.mark.parametrize("role", ["certified", "both"])
def test_a_server_that_wants_certificates_lets_both_in(
    arrive, tls_server, authority, role
):
    certificate, key = authority.sign("certified")
    dsn = make_conninfo(
        tls_server.dsn,
        host="localhost",
        user=role,
        password="zqxjk" if role == "both" else None,
        sslmode="verify-full",
        sslrootcert=authority.file,
        sslcert=certificate,
        sslkey=key,
        channel_binding="require" if role == "both" else None,
    )
    found = arrive(dsn, admin=tls_server.dsn)
    assert found.tls
    assert found.user == role
    with pytest.raises(JdbcError, match="ertificate"):
        arrive(make_conninfo(dsn, sslcertmode="disable"))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require"])
def test_both_choose_the_same_encryption(arrive, tls_server, mode):
    dsn = make_conninfo(tls_server.dsn, sslmode=mode)
    found = arrive(dsn, admin=tls_server.dsn)
    assert found.tls == (mode in ("prefer", "require"))
