"""The lock's key and name, and what a socket tells without a question."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
import uuid
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from ansible_rulebook.ha.conninfo import Conninfo
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.lock import AdvisoryLock
from ansible_rulebook.ha.election.names import (
    NAME_BYTES,
    application_name,
    lock_key,
)
from ansible_rulebook.ha.election.session import LockSession
from ansible_rulebook.ha.errors import ServerRefused, ServerUnavailable

CLUSTER = uuid.UUID("6f6a4d4c-3a3e-4d0b-9a53-0f6d2a1c5b7e")
PINNED = 2396335398683081676


def make_lock(
    dsn: str = "host=db password=zqxjk", lease: float = 9.0
) -> AdvisoryLock:
    return AdvisoryLock(Conninfo(dsn), CLUSTER, "w1", Timings(3.0, lease))


# -- key and name --------------------------------------------------------


def test_the_key_of_a_cluster_never_changes():
    # Workers of two releases must not elect a leader each.
    assert lock_key(CLUSTER) == PINNED
    assert -(2**63) <= lock_key(CLUSTER) < 2**63


@pytest.mark.parametrize(
    "text",
    [
        "6f6a4d4c-3a3e-4d0b-9a53-0f6d2a1c5b7e",
        "6F6A4D4C-3A3E-4D0B-9A53-0F6D2A1C5B7E",
        "6f6a4d4c3a3e4d0b9a530f6d2a1c5b7e",
        "{6f6a4d4c-3a3e-4d0b-9a53-0f6d2a1c5b7e}",
        "urn:uuid:6f6a4d4c-3a3e-4d0b-9a53-0f6d2a1c5b7e",
    ],
)
def test_all_ways_to_write_a_uuid_are_one_cluster(text):
    assert lock_key(uuid.UUID(text)) == lock_key(CLUSTER)


def test_keys_of_clusters_differ_and_use_all_64_bits():
    keys = [lock_key(uuid.UUID(int=number)) for number in range(200)]
    assert len(set(keys)) == 200
    assert min(keys) < 0 < max(keys)
    seen_set = seen_clear = 0
    for key in keys:
        seen_set |= key % 2**64
        seen_clear |= ~key % 2**64
    assert seen_set == seen_clear == 2**64 - 1


def test_the_two_halves_are_those_that_pg_locks_shows():
    session, _ = make_session()
    high, low = session._halves()
    assert (high << 32 | low) == lock_key(CLUSTER) % 2**64


def test_the_session_is_named_after_cluster_and_worker():
    assert application_name(-1, "host.example-42", "0a1b2c3d4e5f") == (
        "eda-ha:ffffffffffffffff:host.example-42:0a1b2c3d"
    )
    assert application_name(1, "w").startswith("eda-ha:0000000000000001:")


def test_a_long_worker_id_is_cut_to_what_postgresql_keeps():
    for length in range(25, 60):
        name = application_name(1, "w" * length, 8 * "a")
        assert len(name.encode()) <= NAME_BYTES == 63
        assert name.endswith("w:aaaaaaaa")
    assert len(name.encode()) >= NAME_BYTES - 1


@pytest.mark.parametrize("kind", ["eda-ha", "eda-state"])
def test_long_worker_ids_that_differ_at_one_end_are_told_apart(kind):
    host = "eda-rulebook-worker-of-a-long-deployment"
    ids = [f"{host}-7d4b9c6f5d-x2x9z-1", f"{host}-7d4b9c6f5d-q8w2k-1"]
    ids += [f"one-{host}", f"two-{host}"]
    assert len({application_name(1, each, "", kind) for each in ids}) == 4
    # And the same id in two processes.
    twins = {application_name(1, host, each, kind) for each in ("a1", "b2")}
    assert len(twins) == 2
    (start,) = {name.rpartition(":")[0] + ":" for name in twins}
    assert start == application_name(1, host, kind=kind)


@pytest.mark.parametrize(
    "worker_id", ["a b", "wörker", "w'; DROP", "a&b=c", "a\nb", "%41", "$$"]
)
def test_a_worker_id_cannot_say_anything_but_its_name(worker_id):
    name = application_name(1, worker_id, "0a").split(":")[2]
    assert name.isascii()
    assert all(c.isalnum() or c in "._-" for c in name)


# -- options of the connection -------------------------------------------


def options(dsn: str = "host=db", lease: float = 9.0) -> dict[str, Any]:
    lock = make_lock(dsn, lease)
    return lock._client_options()


@pytest.mark.parametrize(
    ("given", "kept"),
    [("1", 1), ("3600000", 6000), ("0", 6000), ("oops", 6000)],
)
def test_a_stricter_limit_of_the_user_wins(given, kept):
    # 0 stands for no limit at all.
    assert options(f"tcp_user_timeout={given}")["tcp_user_timeout"] == kept


def test_a_dead_network_is_noticed_before_the_trust_ends():
    for lease in (1.0, 9.0, 3600.0):
        given = options(lease=lease)
        assert 0 < given["tcp_user_timeout"] <= lease * 1000 * 2 / 3
        assert given["keepalives"] == 1
        assert given["keepalives_idle"] >= 1
        assert given["keepalives_interval"] >= 1
        assert 2 <= given["connect_timeout"] <= 10


# -- what a failed connection means --------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        'FATAL:  password authentication failed for user "eda"',
        "fe_sendauth: no password supplied",
        'FATAL:  role "eda" does not exist',
        'FATAL:  database "eda" does not exist',
        'FATAL:  no pg_hba.conf entry for host "::1", user "eda"',
        'FATAL:  Ident authentication failed for user "eda"',
        'FATAL:  permission denied for database "eda"',
        'FATAL:  role "eda" is not permitted to log in',
        "FATAL:  unsupported startup parameter: options",
        'FATAL:  invalid value for parameter "work_mem": "lots"',
        'FATAL:  unrecognized configuration parameter "serach_path"',
        'FATAL:  permission denied to set parameter "log_duration"',
        'FATAL:  parameter "fsync" cannot be changed now',
    ],
)
def test_what_no_retry_mends_is_refused(words):
    error = make_lock()._classified(psycopg.OperationalError(words))
    assert isinstance(error, ServerRefused)


@pytest.mark.parametrize(
    "words",
    [
        "connection refused\n\tIs the server running?",
        "FATAL:  the database system is starting up",
        "FATAL:  sorry, too many clients already",
        "session is read-only",
        "could not translate host name",
        'relation "eda" does not exist',
    ],
)
def test_what_may_pass_is_no_refusal(words):
    error = make_lock()._classified(psycopg.OperationalError(words))
    assert isinstance(error, ServerUnavailable)
    assert "\n" not in str(error)


def test_a_sqlstate_tells_a_refusal_in_any_language():
    error = make_lock()._classified(
        psycopg.errors.InvalidPassword("motdepasse")
    )
    assert isinstance(error, ServerRefused)


def test_of_several_hosts_one_may_refuse_while_the_other_is_down():
    lock = make_lock("host=a,b password=zqxjk")
    words = 'refused; FATAL: password authentication failed for user "x"'
    error = lock._classified(psycopg.OperationalError(words))
    assert isinstance(error, ServerUnavailable)


def test_no_error_quotes_the_password():
    error = make_lock()._classified(OSError('no host "zqxjk@db"'))
    assert str(error) == 'no host "***@db"'


# -- what the socket tells -----------------------------------------------


def make_session(tls: bool = False) -> tuple[LockSession, socket.socket]:
    """A session on one end of a pair of sockets; the server's is the other."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    connection: Any = SimpleNamespace(
        fileno=ours.fileno,
        pgconn=SimpleNamespace(ssl_in_use=tls),
        add_notice_handler=lambda handler: None,
        keep=ours,
    )
    lock = make_lock()
    return (
        LockSession(connection, lock.conninfo, lock.key, lock.timings),
        theirs,
    )


@pytest.mark.parametrize("tls", [False, True])
def test_a_silent_session_is_not_over(tls):
    session, server = make_session(tls)
    assert not session.is_over()
    server.close()


def test_the_last_error_is_seen_before_the_lock_can_be_free():
    session, server = make_session()
    server.send(b"E\0\0\0\x10SFATAL\0")
    assert session.is_over()
    assert session.is_over()  # it was only looked at


def test_a_notice_is_not_the_end():
    session, server = make_session()
    server.send(b"N\0\0\0\x10SNOTICE\0")
    assert not session.is_over()


def test_an_error_to_a_question_is_for_who_asked():
    session, server = make_session()
    session._busy = True
    server.send(b"E\0\0\0\x10SERROR\0")
    assert not session.is_over()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_closed_connection_is_over(tls, reset):
    session, server = make_session(tls)
    if reset:
        session._socket.send(b"x")  # unread bytes make close() a reset
    server.close()
    assert session.is_over()


@pytest.mark.skipif(
    not hasattr(select, "POLLRDHUP"), reason="the system cannot tell"
)
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("first", [b"N", b"\x17", b"T"])
@pytest.mark.parametrize("busy", [False, True])
def test_the_end_is_seen_behind_bytes_that_nobody_has_read(tls, first, busy):
    # A crash sends a notice first, TLS wraps the last error, and an answer
    # may be there that a loop which is blocked has not fetched.
    session, server = make_session(tls)
    session._busy = busy
    server.send(first + b"\0\0\0\x08xxxx")
    assert not session.is_over()
    server.close()
    assert session.is_over()


def test_an_aborted_session_is_over_and_stays_so():
    session, server = make_session()
    session.abort()
    session.abort()
    assert session.is_over()
    assert server.recv(1) == b""


def test_a_descriptor_that_was_used_again_is_not_ours():
    session, server = make_session()
    number = session.fileno()
    session.abort()
    other = os.dup(server.fileno())
    try:
        assert other == number
        assert session.is_over()
    finally:
        os.close(other)


def test_asking_never_waits_whatever_the_process_set_as_default():
    socket.setdefaulttimeout(3.0)
    try:
        session, server = make_session()
        begun = time.monotonic()
        assert not session.is_over()
        assert time.monotonic() - begun < 1.0
    finally:
        socket.setdefaulttimeout(None)
    server.close()
    assert session.is_over()


def test_the_sockets_own_error_is_the_end():
    session, _ = make_session()
    session._socket.close()
    with pytest.raises(OSError) as caught:
        session._socket.recv(1)
    assert caught.value.errno == errno.EBADF
    assert session.is_over()
