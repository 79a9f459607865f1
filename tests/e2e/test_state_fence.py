"""A write that an ex-leader has under way while another is promoted."""

from __future__ import annotations

from typing import Callable

import pytest
from e2e_support import (
    FOLLOWING,
    LEASE,
    PATIENCE,
    STATE_SESSION,
    Stage,
    needs_state,
    settled,
    terminate,
    until,
    wait_recorded,
)
from rig.proxy import Proxy
from rig.server import Server
from rules import HOLD, SAY, rulebook

pytestmark = needs_state

FENCE = rulebook(
    "Fence",
    SAY,
    """
    - name: Pair
      condition:
        all:
          - events.first << event.do == "open"
          - events.second << event.do == "close"
      action:
        debug:
          msg: "{{ events.first.word }} and {{ events.second.word }}"
""",
    HOLD,
    parallel=True,
)


# A disk that takes its time with one event, until the test lets go.
SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF position('early' in NEW.body) > 0 THEN
        PERFORM pg_advisory_xact_lock_shared(1);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER slow BEFORE INSERT ON eda_ha_match
    FOR EACH ROW EXECUTE FUNCTION slow();
"""
WORDS = ("door", "early", "late")
EVENTS = "SELECT body FROM eda_ha_record"
MATCHES = "SELECT body FROM eda_ha_match"


def words(server: Server, dsn: str, query: str) -> list[str]:
    """What the events say that are stored."""
    rows = server.query(query, dsn=dsn)
    return [word for (text,) in rows for word in WORDS if f'"{word}"' in text]


def waiting(server: Server, dsn: str, event: str) -> list[int]:
    """The sessions of state that wait for a lock of that kind."""
    return [
        session.pid
        for session in server.sessions(STATE_SESSION, dsn=dsn)
        if session.wait_event == event
    ]


def test_a_leader_that_stopped_amid_a_write_spoils_nothing(
    stage: Stage, server: Server
) -> None:
    # Whoever was paused has a third of the lease to come to itself.
    first, second = stage.pair(FENCE, lease_duration=2 * LEASE)
    server.query(SLOW, dsn=stage.dsn)
    stage.post("open", "door")
    stage.say(first, "ready")
    with server.connect(stage.dsn) as somebody:
        somebody.execute("SELECT pg_advisory_lock(1)")
        stage.post("close", "early")
        (writer,) = until(
            lambda: waiting(server, stage.dsn, "advisory"),
            "the leader's write takes its time",
        )
        first.pause()
        second.wait_leads(PATIENCE)
        assert writer not in {each.pid for each in server.sessions()}
    first.resume()
    first.wait_lost(PATIENCE)
    first.wait_for(FOLLOWING, PATIENCE)

    # What it was about to store is not there, and what was stored is.
    assert words(server, stage.dsn, MATCHES) == []
    assert words(server, stage.dsn, EVENTS) == ["door"]
    stage.post("close", "late")
    second.wait_for("^door and late$", PATIENCE)
    stage.say(second, "well")

    # The next one finds it whole, and can tell that the event in its hand
    # was never stored.
    killed_at = second.kill()
    first.wait_leads(PATIENCE, after=killed_at)
    stage.post("open", "gate")
    stage.post("close", "late")
    first.wait_for("^gate and early$", PATIENCE)
    stage.say(first, "again")
    assert not first.find("^door and")


def test_one_that_stood_still_before_the_engine_gets_an_event(
    stage: Stage,
) -> None:
    source = f"    - sleepwalker:\n        folder: {stage.inbox}\n  rules:\n"
    book = FENCE.replace("  rules:\n", source, 1)
    sleeper, other = stage.pair(book)
    stage.post("say", "asleep")
    until((stage.inbox / "slept").exists, "it stands still")
    other.wait_leads(PATIENCE)
    sleeper.resume()
    sleeper.wait_for("this worker does not lead any more", PATIENCE)
    sleeper.wait_for("event came as leadership ended: held", PATIENCE)
    sleeper.wait_for(FOLLOWING, PATIENCE)
    stage.say(other, "well")


@pytest.mark.parametrize("fenced", [True, False])
def test_what_an_ex_leader_sent_before_arrives_in_vain(
    stage: Stage,
    server: Server,
    proxy: Callable[..., Proxy],
    fenced: bool,
) -> None:
    direct = stage.dsn
    network = proxy(direct)
    first = stage.start(FENCE, dsn=network.dsn)
    first.wait_leads(PATIENCE)
    second = stage.start(FENCE)
    second.wait_for(FOLLOWING, PATIENCE)
    stage.hold(first, "early")

    # What it says from here on is on its way for long.
    network.hold_to_server()
    sent = network.bytes_to_server
    stage.let_go()
    stage.wait_journal(f"end {first.worker_id} early")
    first.wait_lost(PATIENCE)
    stage.hold_on()
    second.wait_leads(PATIENCE)
    stage.wait_journal(f"begin {second.worker_id} early")

    if not fenced:
        server.query("UPDATE eda_ha_cluster SET term = 1", dsn=direct)
    network.hear()
    until(lambda: network.bytes_to_server > sent, "it arrives")
    if not fenced:
        until(lambda: not words(server, direct, MATCHES), "a stale write")
        return
    settled(lambda: network.bytes_to_server)
    assert words(server, direct, MATCHES) == ["early"]
    stage.let_go()
    stage.wait_journal(f"end {second.worker_id} early")
    until(
        lambda: not words(server, direct, MATCHES),
        "the new leader records it",
    )


def test_a_playbook_that_was_killed_with_its_term_has_not_run(
    stage: Stage, server: Server
) -> None:
    # While the source ends, the killed playbook comes to its end.
    lingering = "    - lingering:\n        seconds: 1.5\n  rules:\n"
    rulebook = FENCE.replace("  rules:\n", lingering, 1)
    worker = stage.start(rulebook)
    worker.wait_leads(PATIENCE)
    stage.hold(worker, "cut")
    cut_at = terminate(server, worker)  # nobody else is there to fence it
    worker.wait_leads(PATIENCE, after=cut_at)
    begun = f"begin {worker.worker_id} cut"
    until(lambda: stage.journal.count(begun) == 2, "it runs again")
    stage.let_go()
    stage.wait_journal(f"end {worker.worker_id} cut")
    until(
        lambda: not words(server, stage.dsn, "SELECT body FROM eda_ha_match"),
        "it is on record",
    )


def test_a_rule_that_matches_nothing_fires_once_for_all_leaders(
    stage: Stage, server: Server
) -> None:
    rules = """
    - name: Nothing
      condition: fact.known is not defined
      action:
        debug:
          msg: "nothing is known"
"""
    first, second = stage.pair(FENCE + rules.lstrip("\n"))
    first.wait_for("^nothing is known$", PATIENCE)
    stage.say(first, "hello")
    wait_recorded(server, stage)
    killed_at = first.kill()
    second.wait_leads(PATIENCE, after=killed_at)
    stage.say(second, "well")
    stage.say(second, "again")
    assert not second.find("^nothing is known$")
