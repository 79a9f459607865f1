"""The database goes away while a worker leads, and comes back.

One worker, so that it is this one that leads again. Two sources count all
the time: one sends again what it got no feedback for, the other does not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Callable, Protocol

import pytest
from e2e_support import (
    LEASE,
    PATIENCE,
    STATE_SESSION,
    Stage,
    needs_state,
    settled,
    until,
)
from outage import OUTAGE, WINDOW, has_run, numbers
from psycopg.conninfo import make_conninfo
from rig.proxy import Proxy
from rig.server import EmbeddedRig, Server, database_of
from rig.workers import LOST, WorkerProcess

pytestmark = needs_state

LONGER = 0.5  # seconds that an outage goes on after the window has ended
GIVEN_UP = r"could not be stored \d+ times"


class Fault(Protocol):
    """Something that keeps the state from being stored, for a while."""

    dsn: str
    ends_term: bool  # in any case

    def begin(self) -> None: ...

    def end(self) -> None: ...


class Stopped:
    """No server."""

    ends_term = True

    def __init__(self, server: EmbeddedRig, mode: str) -> None:
        self.dsn = server.dsn
        self._server = server
        self._mode = mode

    def begin(self) -> None:
        self._server.stop(self._mode)

    def end(self) -> None:
        self._server.start()


class Deaf:
    """A server that accepts everything and answers nothing."""

    ends_term = True

    def __init__(self, network: Proxy) -> None:
        self.dsn = network.dsn
        self._network = network

    def begin(self) -> None:
        self._network.deaf()

    def end(self) -> None:
        self._network.hear()


class Terminated:
    """Only the state's session ends; the lock's lives on.

    If nothing was under way, there is another one soon.
    """

    ends_term = False

    def __init__(self, server: Server, dsn: str) -> None:
        self.dsn = dsn
        self._server = server

    def begin(self) -> None:
        assert self._server.terminate(STATE_SESSION, dsn=self.dsn)

    def end(self) -> None:
        pass


class Limited(Terminated):
    """And it does not come back."""

    ends_term = True

    def __init__(self, server: Server, dsn: str, role: str) -> None:
        super().__init__(server, make_conninfo(dsn, user=role, password=role))
        self._role = role
        server.query(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
        server.query(f"ALTER DATABASE {database_of(dsn)} OWNER TO {role}")

    def begin(self) -> None:
        self._limit(1)
        super().begin()

    def end(self) -> None:
        self._limit(-1)

    def _limit(self, most: int) -> None:
        self._server.query(f"ALTER ROLE {self._role} CONNECTION LIMIT {most}")


@pytest.fixture(params=["stopped", "crashed", "deaf", "terminated", "limited"])
def fault(
    request: pytest.FixtureRequest,
    embedded_server: EmbeddedRig,
    proxy: Callable[..., Proxy],
) -> Iterator[Fault]:
    dsn = embedded_server.create_database()
    role = f"limited_{uuid.uuid4().hex[:8]}"
    faults: dict[str, Callable[[], Fault]] = {
        "stopped": lambda: Stopped(embedded_server, "fast"),
        "crashed": lambda: Stopped(embedded_server, "immediate"),
        "deaf": lambda: Deaf(proxy(dsn)),
        "terminated": lambda: Terminated(embedded_server, dsn),
        "limited": lambda: Limited(embedded_server, dsn, role),
    }
    yield faults[request.param]()
    embedded_server.start()


def test_nothing_is_lost_while_the_database_is_away(
    worker: Callable[..., WorkerProcess],
    fault: Fault,
    ha_uuid: str,
    tmp_path: Path,
) -> None:
    stage = Stage(worker, fault.dsn, ha_uuid, tmp_path)
    acknowledged = stage.inbox / "acknowledged"
    taken = stage.inbox / "taken"
    for path in (acknowledged, taken):
        path.touch()
    leader = stage.start(OUTAGE)
    stage.say(leader, "hello")
    stage.post("open", "box")
    stage.post("after", "all")
    asked_at = time.monotonic()
    stage.say(leader, "before")
    until(lambda: len(numbers(acknowledged)) > 9, "the broker is heard")

    fault.begin()
    lost_at = leader.wait_lost(PATIENCE).at if fault.ends_term else 0.0
    # The rule's time runs out meanwhile.
    time.sleep(max(0.0, asked_at + WINDOW + LONGER - time.monotonic()))
    stage.post("close", "box")
    fault.end()

    leader.wait_leads(PATIENCE, after=lost_at)
    leader.wait_for("^open and close box$", PATIENCE)
    leader.wait_for("^once after all$", PATIENCE)
    stage.say(leader, "after it")
    so_far = len(numbers(acknowledged))
    until(lambda: len(numbers(acknowledged)) > so_far + 9, "it goes on")
    (stage.inbox / "stop").touch()
    for path, what in ((acknowledged, "broker"), (taken, "tick")):
        sent = set(settled(lambda path=path: numbers(path)))
        until(
            lambda sent=sent, what=what: sent <= has_run(leader, what),
            f"all of {len(sent)} {what} events",
        )
    assert len(leader.find("^open and close")) == 1
    assert len(leader.find("^once after")) == 1
    assert leader.stop(PATIENCE) == 0
    assert not leader.find(GIVEN_UP)


def test_a_worker_ends_beside_a_silent_server_as_well_as_ever(
    stage: Stage, proxy: Callable[..., Proxy]
) -> None:
    for name in ("acknowledged", "taken"):
        (stage.inbox / name).touch()
    network = proxy(stage.dsn)
    leader = stage.start(OUTAGE, dsn=network.dsn)
    stage.say(leader, "hello")
    network.deaf()
    assert leader.stop(PATIENCE) == 0


# Refuses what the test names, as a full disk or a broken index would.
REFUSE = """
CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.body ~ '{text}' THEN
        RAISE EXCEPTION 'refused';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON eda_ha_match
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""
GRANT = "DROP TRIGGER refuse ON eda_ha_match"


def test_an_event_that_cannot_be_stored_is_told_of(
    stage: Stage, server: Server
) -> None:
    for name in ("acknowledged", "taken", "stop"):
        (stage.inbox / name).touch()
    leader = stage.start(OUTAGE)
    stage.say(leader, "hello")
    stage.post("open", "box")

    # PostgreSQL's text has no NUL, but JSON can say it.
    stage.post("say", "a\0b")
    stage.post("say", r"a\u0000b")
    leader.wait_for(r"^says a\0b$", PATIENCE)
    leader.wait_for(r"^says a\\u0000b$", PATIENCE)
    assert not leader.find(LOST)

    # It fails, and then it does not: nothing else has to come first.
    server.query(REFUSE.format(text='"trouble"'), dsn=stage.dsn)
    stage.post("say", "trouble")
    lost_at = leader.wait_lost(PATIENCE).at
    server.query(GRANT, dsn=stage.dsn)
    leader.wait_for("^says trouble$", PATIENCE)
    assert not leader.find(GIVEN_UP)

    # It fails for ever: that is said, and what comes after it goes on.
    server.query(REFUSE.format(text='"never"'), dsn=stage.dsn)
    stage.post("say", "never")
    given_up = leader.wait_for(GIVEN_UP, PATIENCE, after=lost_at)
    assert " ERROR " in given_up.text
    stage.post("close", "box")
    leader.wait_for("^open and close box$", PATIENCE)
    stage.say(leader, "end")
    assert not leader.find("^says never$")
    assert leader.stop(PATIENCE) == 0
    leader.wait_for("events_dropped=1,", PATIENCE)


def test_a_timed_match_that_could_not_be_stored_is_made_up_for(
    stage: Stage, server: Server
) -> None:
    for name in ("acknowledged", "taken", "stop"):
        (stage.inbox / name).touch()
    leader = stage.start(OUTAGE)
    stage.say(leader, "hello")
    server.query(REFUSE.format(text='"silence"'), dsn=stage.dsn)
    stage.post("after", "silence")
    # Nobody asks the engine for anything: it has to be noticed.
    lost_at = leader.wait_lost(PATIENCE).at
    # As often as it takes: it is no reason to end.
    leader.wait_for("Promotion failed", PATIENCE, count=4)
    server.query(GRANT, dsn=stage.dsn)
    leader.wait_leads(PATIENCE, after=lost_at)
    leader.wait_for("^once after silence$", PATIENCE)
    stage.say(leader, "end")
    assert len(leader.find("^once after")) == 1
    assert leader.stop(PATIENCE) == 0


# As above, but not at once.
LINGER = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.body ~ '"trouble"' THEN
        PERFORM pg_sleep(1.5);
        RAISE EXCEPTION 'refused';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON eda_ha_match
    FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_a_timer_amid_a_write_that_fails_makes_nothing_lost(
    stage: Stage, server: Server
) -> None:
    for name in ("acknowledged", "taken", "stop"):
        (stage.inbox / name).touch()
    # The engine waits for an answer for a sixth of the lease.
    leader = stage.start(OUTAGE, lease_duration=4 * LEASE)
    stage.say(leader, "hello")
    server.query(LINGER, dsn=stage.dsn)
    stage.post("after", "all")
    stage.say(leader, "well")
    time.sleep(WINDOW - 0.7)  # the rule's time is to run out amid the write
    stage.post("say", "trouble")
    lost_at = leader.wait_lost(PATIENCE).at
    server.query(GRANT, dsn=stage.dsn)
    leader.wait_leads(PATIENCE, after=lost_at)
    leader.wait_for("^once after all$", PATIENCE)
    leader.wait_for("^says trouble$", PATIENCE)
    stage.say(leader, "end")
    assert len(leader.find("^once after")) == 1
    assert leader.stop(PATIENCE) == 0


def test_an_event_that_is_sent_again_and_again_does_not_stop_the_rest(
    stage: Stage, server: Server
) -> None:
    acknowledged = stage.inbox / "acknowledged"
    acknowledged.touch()
    (stage.inbox / "taken").touch()
    leader = stage.start(OUTAGE)
    stage.say(leader, "hello")
    bad = max(numbers(acknowledged), default=0) + 20
    server.query(REFUSE.format(text=rf'"broker": ?{bad}\M'), dsn=stage.dsn)
    until(lambda: bad + 5 in numbers(acknowledged), "the broker goes on")
    assert leader.find(r"never be stored|could not be stored \d+ times")
    stage.say(leader, "end")
    assert bad not in has_run(leader, "broker")
    assert leader.stop(PATIENCE) == 0
