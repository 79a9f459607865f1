"""The lock's key and name, and which errors an operator has to mend."""

from __future__ import annotations

import uuid
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
