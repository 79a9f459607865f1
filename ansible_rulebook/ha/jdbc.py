"""One connection string for two drivers: what Drools' JDBC pool is given.

The election reaches PostgreSQL through libpq, the engine's state through
pgjdbc. libpq itself resolves the string (service file, ``PG*`` variables,
password file); this module says the same in JDBC's words or says that JDBC
cannot do it. What guards the connection is never left out in silence.

Drools makes a JDBC URL of most values, and encodes neither the database nor
the application name. So both are encoded here, and the pgjdbc parameters
that Drools has no name for ride on the application name.
"""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Mapping
from urllib.parse import quote

from psycopg import pq
from psycopg.conninfo import make_conninfo

from .conninfo import Conninfo
from .errors import StateRefused
from .redaction import one_line

APPLICATION = "eda-state"
DEFAULT_PORT = "5432"
# A value that libpq refuses when it has resolved everything else, and before
# it opens a socket.
UNASKED = "resolve-only"

# libpq's parameters that have no bearing on the state's connections. The
# reasons are the documentation's; ignored() names those that somebody set.
IGNORED = {
    "client_encoding": "JDBC always uses UTF-8",
    "keepalives_idle": "the kernel's value applies",
    "keepalives_interval": "the kernel's value applies",
    "keepalives_count": "the kernel's value applies",
    "tcp_user_timeout": "a read timeout bounds the state's calls instead",
    "ssl_max_protocol_version": "Java negotiates TLS 1.2 or 1.3",
    "sslcompression": "Java has none",
    "sslsni": "Java always sends the host's name",
    "sslkeylogfile": "for debugging of libpq",
    "requirepeer": "for Unix sockets, which JDBC has not",
    "gssdelegation": "JDBC never delegates credentials",
    "replication": "not for sessions that run queries",
    "min_protocol_version": "JDBC speaks protocol 3.0",
    "max_protocol_version": "JDBC speaks protocol 3.0",
    "scram_server_key": "of use to pass-through proxies only",
    "oauth_issuer": "JDBC cannot log in with OAuth",
    "oauth_client_id": "JDBC cannot log in with OAuth",
    "oauth_client_secret": "JDBC cannot log in with OAuth",
    "oauth_scope": "JDBC cannot log in with OAuth",
}
# Those that reach JDBC, or stop us where JDBC cannot follow.
HEEDED = {
    "service", "servicefile", "user", "password", "passfile", "dbname",
    "host", "hostaddr", "port", "connect_timeout", "keepalives", "options",
    "load_balance_hosts", "channel_binding", "require_auth", "sslmode",
    "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert",
    "sslcrl", "sslcrldir", "ssl_min_protocol_version", "gssencmode",
    "sslcertmode", "krbsrvname", "gsslib", "scram_client_key",
}  # fmt: skip
# Those that the lock's session does not take from the string, either, or
# that mean only one thing for state: a server that takes writes.
OURS = {
    "application_name",
    "fallback_application_name",
    "target_session_attrs",
}

# pgjdbc leaves out what it does not know, so these have to be looked for.
GUARDS = ("requireAuth", "channelBinding")
AUTH_METHODS = {"password", "md5", "gss", "sspi", "scram-sha-256", "none"}
ENFORCING = {"require", "verify-ca", "verify-full"}
VERIFYING = {"verify-ca", "verify-full"}
# Where distributions keep all authorities in one file, below OpenSSL's path.
BUNDLES = ("ca-certificates.crt", "ca-bundle.crt", "tls-ca-bundle.pem")

_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,63}")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{12,36}")
_NO_HOST = re.compile(r"[\s/?#,@&\[\]\\]")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
_PEM_HEAD = 65536  # bytes of a key file within which its first block starts


def application_name(key: int, token: str) -> str:
    """How the state's sessions show in ``pg_stat_activity``.

    :param key: the advisory lock's key, which names the cluster.
    :param token: 12 to 36 of ``[A-Za-z0-9_.-]`` that name one worker's one
        start; the fence compares the whole name. (No worker id: it may be
        longer than the name has room for, and two may share one.)
    :raises ValueError: if the token is anything else.
    """
    if not _TOKEN.fullmatch(token):
        raise ValueError("the token is 12 to 36 of [A-Za-z0-9_.-]")
    return f"{APPLICATION}:{key % 2**64:016x}:{token}"


def jdbc_parameters(
    conninfo: Conninfo,
    application_name: str,
    *,
    options: str = "",
    extra: Mapping[str, str] | None = None,
    driver: Path | None = None,
) -> dict[str, str]:
    """The ``db_params`` with which Drools reaches the same server.

    Asks neither server nor name service; reads the files that libpq reads.

    :param conninfo: where the server is.
    :param application_name: for ``pg_stat_activity``.
    :param options: server options (``-c search_path=...``); they come after
        those of the connection string, so the server prefers them.
    :param extra: pgjdbc parameters, such as ``socketTimeout`` (seconds). Of
        two ``connectTimeout`` the shorter one counts.
    :param driver: the jar that holds pgjdbc; default is Drools' own.
    :raises StateRefused: if JDBC cannot reach it, or not as safely. One
        line, without any password.
    :raises ValueError: if ``application_name`` needs encoding.
    """
    if not _NAME.fullmatch(application_name):
        raise ValueError("the name is 1 to 63 of [A-Za-z0-9_.:-]")
    resolved = resolve(conninfo)
    certificates, without = _tls(resolved)
    properties = {
        **_properties(resolved, options),
        **without,
        **(extra or {}),
    }
    timeout = _connect_timeout(resolved, extra or {})
    if timeout:
        properties["connectTimeout"] = timeout
    _check_driver(properties, driver)
    riders = "".join(
        f"&{name}={quote(value, safe='')}"
        for name, value in properties.items()
    )
    return {
        "db_type": "postgres",
        "host": ",".join(host.in_url for host in resolved.hosts),
        "port": ",".join(host.port for host in resolved.hosts),
        "database": quote(resolved.get("dbname"), safe=""),
        "user": resolved.get("user"),
        "password": resolved.password,
        # Whatever the string says: state is written where it is read.
        "target_session_attrs": "read-write",
        **certificates,
        "application_name": application_name + riders,
    }


def ignored(conninfo: Conninfo) -> list[str]:
    """The libpq parameters that are set and mean nothing to JDBC.

    For one line in the log. What JDBC would have to heed for safety's sake
    is not among them: there :func:`jdbc_parameters` raises.

    :raises StateRefused: if libpq itself refuses the connection string.
    """
    usual = {
        option.keyword.decode(): (option.compiled or b"").decode()
        for option in pq.Conninfo.get_defaults()
    }
    return sorted(
        name
        for name, value in resolve(conninfo).params.items()
        if name not in HEEDED | OURS and value != usual.get(name, "")
    )


# -- what libpq makes of the string ---------------------------------------


@dataclass(frozen=True)
class Host:
    """One server of the list, as libpq reaches it."""

    name: str
    address: str
    port: str

    @property
    def in_url(self) -> str:
        """What a JDBC URL says for it."""
        target = self.address or self.name
        return f"[{target}]" if ":" in target else target


@dataclass(frozen=True)
class Resolved:
    """A connection string with all that libpq takes from elsewhere."""

    params: Mapping[str, str] = field(repr=False)
    hosts: tuple[Host, ...]
    password: str = field(repr=False)

    def get(self, name: str) -> str:
        """A parameter's value; empty if it is not set."""
        return self.params.get(name, "")


def resolve(conninfo: Conninfo) -> Resolved:
    """Let libpq resolve the string, and find the one password.

    :raises StateRefused: if libpq refuses it, if a host is a Unix socket, or
        if the hosts have different passwords.
    """
    params, password = _ask_libpq(conninfo.merged(), conninfo.redact)
    hosts = _hosts(params)
    passwords = {password}
    # One that was given counts for all; a password file has one per host.
    if not params.get("password"):
        known = {name: params.get(name) for name in ("user", "dbname")}
        if params.get("passfile"):
            known["passfile"] = params["passfile"]
        for host in hosts[1:]:
            entry = {
                **known,
                "host": host.name,
                "hostaddr": host.address,
                "port": host.port,
            }
            passwords.add(_ask_libpq(entry, conninfo.redact)[1])
    if len(passwords) > 1:
        raise StateRefused(
            "state cannot be kept: the password file does not give the same "
            "password for every host, and JDBC takes one for all of them"
        )
    return Resolved(params, hosts, password)


def _ask_libpq(
    params: Mapping[str, Any], redact: Callable[[str], str]
) -> tuple[dict[str, str], str]:
    # The only way to have libpq read service and password files without a
    # connection: it checks this parameter last and opens no socket then.
    dsn = make_conninfo("", **{**params, "target_session_attrs": UNASKED})
    connection = pq.PGconn.connect_start(dsn.encode())
    try:
        told = connection.error_message.decode("utf-8", "replace")
        if connection.status == pq.ConnStatus.BAD and UNASKED not in told:
            raise StateRefused(
                f"the connection string cannot be used: {redact(told)}"
            )
        found = {
            option.keyword.decode(): _text(option.keyword, option.val)
            for option in connection.info
            if option.val
        }
        return found, _text(b"password", connection.password)
    finally:
        connection.finish()


def _text(name: bytes, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise StateRefused(
            f"state cannot be kept: {name.decode()} is not valid UTF-8, "
            "which is all that JDBC can send"
        ) from None


def _hosts(params: Mapping[str, str]) -> tuple[Host, ...]:
    names = params.get("host", "").split(",")
    addresses = params.get("hostaddr", "").split(",")
    ports = params.get("port", "").split(",")
    count = max(len(names), len(addresses))
    # libpq has seen to it that each list has one element or as many as there
    # are hosts; a single host or address stands for an empty list here.
    names += [""] * (count - len(names))
    addresses += [""] * (count - len(addresses))
    ports = ports * count if len(ports) == 1 else ports
    hosts = tuple(
        Host(name, address, port.strip() or DEFAULT_PORT)
        for name, address, port in zip(names, addresses, ports)
    )
    for host in hosts:
        _check_host(host, params.get("sslmode", ""))
    return hosts


def _check_host(host: Host, sslmode: str) -> None:
    if not host.address and (not host.name or host.name[0] in "/@"):
        raise StateRefused(
            "state needs a TCP connection: JDBC has no Unix sockets; name a "
            "host (host=...) in the connection string or in PGHOST"
        )
    if _NO_HOST.search(host.address or host.name):
        raise StateRefused(
            "state cannot be kept: a host has a character that no host's "
            "name has"
        )
    # libpq compares the certificate with the name it does not connect to.
    if host.address and host.name != host.address and sslmode == "verify-full":
        raise StateRefused(
            "state cannot be kept: JDBC cannot check a certificate for one "
            f"name ({host.name}) while it connects to another (hostaddr="
            f"{host.address}) as sslmode=verify-full asks for; leave out "
            "hostaddr"
        )


# -- the same in pgjdbc's words -------------------------------------------


def _properties(resolved: Resolved, options: str) -> dict[str, str]:
    """What pgjdbc heeds and Drools has no key for."""
    get = resolved.get
    both = " ".join(filter(None, (get("options"), options)))
    found = {
        "options": both,
        "tcpKeepAlive": "false" if get("keepalives") == "0" else "true",
        "requireAuth": _require_auth(get("require_auth")),
    }
    if get("load_balance_hosts") == "random":
        found["loadBalanceHosts"] = "true"
    if get("channel_binding") != "prefer":
        found["channelBinding"] = get("channel_binding")
    if get("sslnegotiation") == "direct":
        found["sslNegotiation"] = "direct"
    # "prefer" would have pgjdbc log in to Kerberos without a ticket.
    if get("gssencmode") in ("disable", "require"):
        found["gssEncMode"] = get("gssencmode")
    if get("krbsrvname") != "postgres":
        found["kerberosServerName"] = get("krbsrvname")
    found["gsslib"] = get("gsslib")
    if get("scram_client_key") and not resolved.password:
        raise StateRefused(
            "state cannot be kept: JDBC needs the password itself, not "
            "scram_client_key"
        )
    return {name: value for name, value in found.items() if value}


def _require_auth(methods: str) -> str:
    if not methods:
        return ""
    known = [
        method
        for method in methods.split(",")
        # It cannot log in by any other, so it need not be told not to.
        if method.lstrip("!") in AUTH_METHODS
    ]
    if not known and not methods.startswith("!"):
        raise StateRefused(
            "state cannot be kept: JDBC knows no authentication method that "
            f"require_auth={methods} allows"
        )
    return ",".join(known)


def _connect_timeout(resolved: Resolved, extra: Mapping[str, str]) -> str:
    limits = [
        int(text)
        for text in (
            resolved.get("connect_timeout").strip(),
            extra.get("connectTimeout", ""),
        )
        if text.isdecimal() and int(text) > 0
    ]
    return str(min(limits)) if limits else ""


def _check_driver(properties: Mapping[str, str], jar: Path | None) -> None:
    """See that pgjdbc knows the parameters that guard the connection."""
    needed = [name for name in GUARDS if properties.get(name)]
    if properties.get("channelBinding") == "disable":
        needed.remove("channelBinding")
    for name in needed:
        if not _driver_knows(jar or _drools_jar(), name):
            raise StateRefused(
                "state cannot be kept: the JDBC driver of the installed "
                f"drools_jpy does not know {name} yet; upgrade drools_jpy, "
                "or leave out require_auth and channel_binding"
            )


def _driver_knows(jar: Path | None, name: str) -> bool:
    if jar is None:
        return False
    try:
        with zipfile.ZipFile(jar) as archive:
            return name.encode() in archive.read(
                "org/postgresql/PGProperty.class"
            )
    except (OSError, KeyError, zipfile.BadZipFile):
        return False


def _drools_jar() -> Path | None:
    chosen = os.environ.get("DROOLS_JPY_CLASSPATH")
    if chosen:
        return Path(chosen)
    spec = importlib.util.find_spec("drools")
    for place in (spec and spec.submodule_search_locations) or ():
        for jar in Path(place).glob("jars/*.jar"):
            return jar
    return None


# -- TLS ------------------------------------------------------------------


def _tls(resolved: Resolved) -> tuple[dict[str, str], dict[str, str]]:
    """Drools' TLS keys, and pgjdbc parameters that ride along.

    Every file is named, and absolute: Java's idea of the home folder and of
    the working directory may be another than libpq's.
    """
    mode = resolved.get("sslmode") or "prefer"
    if mode == "disable":
        return {"sslmode": mode}, {}
    roots = resolved.get("sslrootcert") or _in_home("root.crt")
    if roots == "system":
        roots = _system_roots()
    # With a file of authorities libpq checks the certificate even so.
    if mode == "require" and os.path.exists(roots):
        mode = "verify-ca"
    found = {"sslmode": mode}
    if mode in VERIFYING:
        found["sslrootcert"] = os.path.abspath(roots)
        _refuse_revocation_list(resolved)
    if mode in ENFORCING:
        _check_protocol(resolved.get("ssl_min_protocol_version"))
    client = _client_certificate(resolved)
    # Empty, or pgjdbc would look for files of its own.
    return {**found, **client}, {} if client else {"sslcert": "", "sslkey": ""}


def _in_home(name: str) -> str:
    return os.path.join(os.path.expanduser("~"), ".postgresql", name)


def _system_roots() -> str:
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return paths.cafile
    for bundle in BUNDLES:
        path = os.path.join(paths.capath or paths.openssl_capath, bundle)
        if os.path.exists(path):
            return path
    raise StateRefused(
        "state cannot be kept: sslrootcert=system, but there is no file with "
        "the system's authorities for JDBC; name one in SSL_CERT_FILE"
    )


def _refuse_revocation_list(resolved: Resolved) -> None:
    named = resolved.get("sslcrl") or resolved.get("sslcrldir")
    if named or os.path.exists(_in_home("root.crl")):
        raise StateRefused(
            "state cannot be kept: JDBC does not read certificate revocation "
            "lists (sslcrl, sslcrldir, ~/.postgresql/root.crl)"
        )


def _check_protocol(least: str) -> None:
    if least.lower() == "tlsv1.3":  # Java's own least is TLS 1.2
        raise StateRefused(
            "state cannot be kept: JDBC cannot be held to TLS 1.3 by "
            "ssl_min_protocol_version; set it in the server instead"
        )


def _client_certificate(resolved: Resolved) -> dict[str, str]:
    """The client's certificate and key, if libpq would find a certificate."""
    certificate = resolved.get("sslcert") or _in_home("postgresql.crt")
    if resolved.get("sslcertmode") == "disable" or not os.path.exists(
        certificate
    ):
        return {}
    key = resolved.get("sslkey") or _in_home("postgresql.key")
    _check_key(key)
    found = {
        "sslcert": os.path.abspath(certificate),
        "sslkey": os.path.abspath(key),
    }
    if resolved.get("sslpassword"):
        found["sslpassword"] = resolved.get("sslpassword")
    return found


def _check_key(path: str) -> None:
    """Say in one line what Drools would say in a Java stack trace."""
    try:
        with open(path, "rb") as file:
            first = _PEM.search(file.read(_PEM_HEAD))
    except OSError as error:
        raise StateRefused(
            f"state cannot be kept: sslkey {path}: {error.strerror}"
        ) from None
    # Drools goes by the name, and reads the first block of the file.
    named = path.lower().endswith((".p12", ".pfx", ".pk8", ".der"))
    if named or first is None or not first[1].endswith(b"PRIVATE KEY"):
        raise StateRefused(
            f"state cannot be kept: sslkey {one_line(path)} has to be a PEM "
            "file that begins with the private key, and not be named .p12, "
            ".pfx, .pk8 or .der (openssl pkey -in OLD -out NEW.key)"
        )
