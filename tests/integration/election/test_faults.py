"""Real faults: killed, paused, cut off, restarted, and 20 at once."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import time

import pytest
from elections import (
    LEASE,
    Referee,
    follows,
    leads,
    lock_rows,
    make,
    one_leads,
    pair,
    running,
    session_of,
    until,
)
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rig.history import assert_one_leader, leading, overlaps

from ansible_rulebook.ha.election import session as lock_session

OUTAGE = "No session with PostgreSQL"
RECONNECTED = "Reconnected to PostgreSQL"
HEARD = 100_000_000  # ns in which a lost lock is heard of behind a proxy


def two(contender, dsn, *, first_dsn=None, **options):
    """Two processes, of which the first one leads."""
    options.setdefault("poll", 0.4)
    options.setdefault("lease", LEASE)
    first = contender(first_dsn or dsn, **options)
    first.wait_role("leader")
    second = contender(dsn, **options)
    second.wait_for("Following")
    return first, second


def block(one, seconds):
    """Block its loop; returns when it is blocked."""
    begun = len(one.record.commands)
    one.block(seconds)
    deadline = time.monotonic() + 20
    while len(one.record.commands) == begun:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def check(*contenders):
    assert_one_leader(one.record for one in contenders)


def stopped_before_the_next(first, second):
    deadline = time.monotonic() + 20
    while not second.record.spans:  # it asks all the time, and says it later
        assert time.monotonic() < deadline
        time.sleep(0.005)
    spans = leading([first.record, second.record])
    assert spans[-1].contender == "c2"
    last = max(span.end for span in spans if span.contender == "c1")
    assert last < spans[-1].start


# -- processes -----------------------------------------------------------


def test_a_killed_leader_is_replaced_and_its_successor_follows(contender, dsn):
    first, second = two(contender, dsn)
    first.kill()
    second.wait_role("leader")
    again = first.twin("c1-again").start()
    again.wait_for("Following.*leader=c2")
    assert not leading([again.record])
    check(first, second, again)
    again.close()


def test_a_leader_paused_for_longer_than_its_lease_leads_no_more(
    contender, dsn
):
    first, second = two(contender, dsn)
    paused = first.pause()
    taken = second.wait_role("leader", after=paused)
    last = leading([first.record])[-1].end / 1e9
    assert last < taken
    resumed = first.resume()
    first.wait_role("follower", after=resumed)
    lost = first.wait_for(r"Lost leadership.*last_confirmed=", after=resumed)
    (silence,) = re.findall(r"last_confirmed=(\d+\.\d) s ago", lost.text)
    assert float(silence) + 0.1 > resumed - paused
    first.wait_for("Following.*leader=c2", after=resumed)
    # Not a single true answer since it woke up, not even the first one.
    assert leading([first.record])[-1].end / 1e9 < paused + 0.05
    assert not [at for at in first.record.points if at / 1e9 > resumed]
    # And it is a candidate like any other.
    second.kill()
    first.wait_role("leader", after=resumed)
    check(first, second)


def test_a_leader_paused_for_less_than_its_trust_goes_on(contender, dsn):
    first, second = two(contender, dsn, lease=9.0)
    first.pause()
    time.sleep(0.8)
    resumed = first.resume()
    deadline = time.monotonic() + 20
    while leading([first.record])[-1].end / 1e9 < resumed + 1.0:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not first.find("Lost leadership")
    assert not leading([second.record])
    check(first, second)


def test_a_switchover_between_processes(contender, dsn):
    first, second = two(contender, dsn)
    asked = time.monotonic()
    first.step_down()
    second.wait_role("leader", after=asked)
    first.wait_for("done step_down", after=asked)
    first.wait_for("Following.*leader=c2", after=asked)
    check(first, second)


# -- sessions ------------------------------------------------------------


def test_a_leader_whose_session_is_ended_says_so_before_the_next_leads(
    contender, dsn, server
):
    first, second = two(contender, dsn)
    for leader, other in ((first, second), (second, first)) * 3:
        at = time.monotonic()
        assert server.terminate(f"eda-ha:%:{leader.worker_id}:%", dsn=dsn) == 1
        other.wait_role("leader", after=at)
        leader.wait_for("Lost leadership.*terminating connection", after=at)
        leader.wait_for("Following", after=at)
    check(first, second)


def test_an_ended_session_is_seen_while_the_loop_is_blocked(
    contender, dsn, server
):
    first, second = two(contender, dsn, lease=30.0)
    blocked = time.monotonic()
    block(first, 2.0)
    server.terminate("eda-ha:%:c1:%", dsn=dsn)
    second.wait_role("leader", after=blocked)
    first.wait_role("follower", after=blocked)
    check(first, second)


def test_a_crash_is_seen_while_the_loop_is_blocked(contender, embedded_server):
    # The server sends a notice before the end, and is back within a second.
    first, second = two(contender, embedded_server.dsn, lease=60.0)
    blocked = time.monotonic()
    block(first, 3.0)
    embedded_server.restart("immediate")
    restarted = time.monotonic()
    last = leading([first.record])[-1].end / 1e9
    assert last < restarted
    for each in (first, second):
        each.wait_for("Lock delay", after=blocked)
    check(first, second)


@pytest.mark.asyncio
async def test_a_waiter_whose_session_is_ended_queues_again(
    dsn, ha_uuid, server
):
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await until(lambda: "w2" in lock_rows(server, first))
        assert server.terminate(session_of(second), dsn=dsn) == 1
        await until(
            lambda: second._log.in_outage or not lock_rows(server, first)
        )
        await until(lambda: "w2" in lock_rows(server, first))
        assert first.is_leader()
        await first.stop()
        await leads(second)


def test_a_killed_waiter_does_not_inherit_the_lock(contender, dsn, server):
    # Without client_connection_check_interval it would stay in the queue,
    # be handed the lock, and keep it for as long as nobody looks.
    first, second = two(contender, dsn, lease=60.0, poll=30.0)
    third = contender(dsn, lease=60.0, poll=30.0)
    third.wait_for("Following")
    second.kill()
    deadline = time.monotonic() + 20
    while server.sessions("eda-ha:%:c2:%", dsn=dsn):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    at = first.kill()
    third.wait_role("leader", after=at)
    check(first, second, third)


# -- the network ---------------------------------------------------------


def test_a_leader_that_is_cut_off_stops_before_the_next_one_begins(
    contender, dsn, proxy
):
    between = proxy(dsn)
    first, second = two(contender, dsn, first_dsn=between.dsn)
    at = time.monotonic()
    between.deaf()
    first.wait_role("follower", after=at)
    second.wait_role("leader", after=at)
    stopped_before_the_next(first, second)
    heard = time.monotonic()
    between.hear()
    first.wait_for("Following.*leader=c2", after=heard)
    check(first, second)


def test_a_leader_that_hears_but_is_not_heard_stops_in_time(
    contender, dsn, proxy
):
    between = proxy(dsn)
    first, second = two(contender, dsn, first_dsn=between.dsn)
    at = time.monotonic()
    between.hold_to_server()
    second.wait_role("leader", after=at)
    first.wait_role("follower", after=at)
    between.hear()
    check(first, second)


def test_behind_a_dead_network_the_clock_alone_ends_the_trust(
    contender, dsn, proxy
):
    # Nobody tells the socket, and the loop cannot end the term.
    between = proxy(dsn)
    first, second = two(contender, dsn, first_dsn=between.dsn)
    at = time.monotonic()
    between.deaf()
    block(first, LEASE + 1.0)
    second.wait_role("leader", after=at)
    first.wait_role("follower", after=at)
    check(first, second)


@pytest.mark.asyncio
@pytest.mark.parametrize("reset", [False, True])
async def test_a_connection_that_breaks_is_opened_again(
    dsn, ha_uuid, proxy, reset
):
    between = proxy(dsn)
    election = make(between.dsn, ha_uuid)
    async with running(election):
        await leads(election)
        for number in (2, 3):
            between.cut(reset=reset)
            await until(
                lambda n=number: (
                    election.is_leader() and election.term.number == n
                )
            )


@pytest.mark.asyncio
async def test_a_follower_behind_a_dead_network_comes_back(
    dsn, ha_uuid, proxy, monkeypatch
):
    monkeypatch.setattr(lock_session, "ANSWER_SLACK", 1.0)
    between = proxy(dsn)
    first = make(dsn, ha_uuid, "w1")
    second = make(between.dsn, ha_uuid, "w2")
    async with pair(first, second):
        between.deaf()
        await until(lambda: not second.view().in_session)
        between.hear()
        await follows(second)
        assert first.is_leader()
        await first.stop()
        await leads(second)


@pytest.mark.asyncio
async def test_a_stop_is_not_held_up_by_a_dead_network(dsn, ha_uuid, proxy):
    between = proxy(dsn)
    first = make(between.dsn, ha_uuid, "w1", lease_duration=60)
    second = make(between.dsn, ha_uuid, "w2", lease_duration=60)
    async with pair(first, second):
        between.deaf()
        await asyncio.wait_for(asyncio.gather(first.stop(), second.stop()), 15)


# -- the server ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_ends_the_term_and_begins_another(
    contender, embedded_server, mode
):
    first, second = two(contender, embedded_server.dsn)
    at = time.monotonic()
    embedded_server.restart(mode)
    first.wait_for("Lost leadership", after=at)
    deadline = time.monotonic() + 30
    while not any(
        span.start / 1e9 > at
        for span in leading([first.record, second.record])
    ):
        assert time.monotonic() < deadline, "nobody leads"
        time.sleep(0.02)
    check(first, second)


def test_the_lock_delay_holds_for_all_but_the_last_leader(
    contender, embedded_server
):
    first, second = two(contender, embedded_server.dsn)
    at = time.monotonic()
    embedded_server.restart("immediate")
    for each in (first, second):
        each.wait_for("Lock delay", after=at)
    deadline = time.monotonic() + 30
    while not any(
        span.start / 1e9 > at
        for span in leading([first.record, second.record])
    ):
        assert time.monotonic() < deadline, "nobody leads"
        time.sleep(0.02)
    check(first, second)


def test_a_server_that_restarts_does_not_forget_a_leader_that_is_cut_off(
    contender, embedded_server, proxy
):
    between = proxy(embedded_server.dsn)
    first, second = two(
        contender, embedded_server.dsn, first_dsn=between.dsn, lease=6.0
    )
    at = time.monotonic()
    between.deaf()
    embedded_server.restart("immediate")
    second.wait_for("Lock delay", after=at)
    second.wait_role("leader", after=at)
    stopped_before_the_next(first, second)
    check(first, second)


def test_a_promoted_standby_does_not_either(
    contender, embedded_server, standby_of, proxy
):
    standby = standby_of(embedded_server)
    between = proxy(embedded_server.dsn)
    both = make_conninfo(
        embedded_server.dsn,
        host=",".join(
            str(conninfo_to_dict(each.dsn)["host"])
            for each in (embedded_server, standby)
        ),
        port=",".join(
            str(conninfo_to_dict(each.dsn)["port"])
            for each in (embedded_server, standby)
        ),
    )
    first, second = two(contender, both, first_dsn=between.dsn, lease=6.0)
    at = time.monotonic()
    between.deaf()
    embedded_server.stop("immediate")
    standby.promote()
    second.wait_for("Lock delay", after=at)
    second.wait_role("leader", after=at)
    stopped_before_the_next(first, second)
    check(first, second)


@pytest.mark.asyncio
async def test_an_outage_is_said_once_by_each_and_so_is_its_end(
    embedded_server, ha_uuid, caplog
):
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")

    def said(text: str, least: int = logging.INFO) -> list[str]:
        return sorted(
            record.getMessage()[:10]
            for record in caplog.records
            if record.levelno >= least and text in record.getMessage()
        )

    dsn = embedded_server.dsn
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    loop = asyncio.get_running_loop()
    async with pair(first, second):
        for outage in (1, 2):
            both = sorted(["Worker w1:", "Worker w2:"] * outage)
            await loop.run_in_executor(None, embedded_server.stop, "fast")
            await until(lambda b=both: said(OUTAGE) == b)
            # Many tries later nothing more has been said.
            tries = len(said("Still no session", logging.DEBUG))
            await until(
                lambda t=tries: (
                    len(said("Still no session", logging.DEBUG)) >= t + 8
                )
            )
            assert said(OUTAGE) == both
            assert not first.is_leader() and not second.is_leader()
            assert first.follower_event.is_set()
            await loop.run_in_executor(None, embedded_server.start)
            await one_leads([first, second])
            await until(lambda b=both: said(RECONNECTED) == b)
        lost = said("Lost leadership", logging.WARNING)
        assert len(lost) == 2
        assert said("", logging.WARNING) == sorted(both + lost)
    # Of a stop that is wanted nothing is said that looks like an outage.
    assert said("", logging.WARNING) == sorted(both + lost)


@pytest.mark.asyncio
async def test_a_server_that_is_down_at_the_start_is_no_error(
    embedded_server, ha_uuid, caplog
):
    loop = asyncio.get_running_loop()
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    embedded_server.stop("immediate")
    election = make(embedded_server.dsn, ha_uuid)
    async with running(election):
        await until(lambda: "Still no session" in caplog.text)
        assert election.follower_event.is_set()
        await loop.run_in_executor(None, embedded_server.start)
        await leads(election)
    warnings = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(warnings) == 1
    password = embedded_server.embedded.password
    assert password not in caplog.text


@pytest.mark.asyncio
async def test_a_stop_while_the_server_is_away_is_quick(
    embedded_server, ha_uuid, caplog
):
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    embedded_server.stop("immediate")
    election = make(embedded_server.dsn, ha_uuid, poll_interval=3600)
    await election.start()
    # It backs off for minutes then.
    await until(lambda: "Still no session" in caplog.text)
    await asyncio.wait_for(election.stop(), 15)


# -- 20 at once ----------------------------------------------------------


@pytest.mark.asyncio
async def test_twenty_contenders_whose_sessions_are_ended_at_random(
    dsn, ha_uuid, server
):
    dice = random.Random(20)
    crowd = [make(dsn, ha_uuid, f"w{n}", poll_interval=0.3) for n in range(20)]
    stopping = threading.Event()
    terminated = []

    def vandal() -> None:
        with server.connect() as session:
            while not stopping.wait(dice.random() * 0.1):
                count = session.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM ("
                    " SELECT pid FROM pg_stat_activity"
                    " LEFT JOIN pg_locks USING (pid)"
                    " WHERE datname = %s AND application_name LIKE 'eda-ha%%'"
                    # The leader's session more often than others.
                    " ORDER BY random() * (CASE WHEN granted THEN .1 ELSE 1"
                    " END) LIMIT %s) AS victims",
                    (dsn.split("dbname=")[1].split()[0], dice.randint(1, 3)),
                ).fetchone()[0]
                terminated.append(count)

    thread = threading.Thread(target=vandal, daemon=True)
    terms: set[object] = set()
    with Referee(*crowd):
        async with running(*crowd):
            thread.start()
            end = time.monotonic() + 60
            while len(terms) <= 20 or sum(terminated) <= 50:
                assert time.monotonic() < end, "too little was going on"
                leader = await one_leads(crowd)
                terms.add((leader, leader.term))
                if dice.random() < 0.2:
                    await leader.step_down()
                await asyncio.sleep(dice.random() * 0.05)
            stopping.set()
            await until(lambda: not thread.is_alive())
            await one_leads(crowd)
            for one in crowd:
                await until(lambda o=one: o.is_leader() or waits(o))
            assert sum(one.is_leader() for one in crowd) == 1


def waits(election) -> bool:
    return repr(election).endswith("contending>")


def records(contenders):
    """Those of all that have lived long enough to begin one."""
    return [one.record for one in contenders if one.record_path.exists()]


def wait_somebody(contenders, since):
    """Wait for a lead at or after `since`; who has it."""
    while True:
        spans = leading(records(contenders))
        if spans and spans[-1].end / 1e9 >= since:
            return spans[-1].contender
        assert time.monotonic() < since + 20, "nobody leads"
        time.sleep(0.02)


def test_five_processes_that_are_killed_paused_and_cut_off(
    contender, dsn, server, proxy
):
    dice = random.Random(5)
    proxies = [proxy(dsn) for _ in range(5)]
    alive = [
        contender(between.dsn, f"p{n}", poll=0.3, lease=1.0)
        for n, between in enumerate(proxies)
    ]
    everybody = list(alive)
    for one in alive:
        one.wait_for("Following|acquired")
    faults = ["kill", "pause", "deaf", "end", "cut", "down"] * 2
    dice.shuffle(faults)
    taken = []  # when the server took the lock from a leader that works
    for turn, fault in enumerate(faults):
        leader = wait_somebody(everybody, time.monotonic())
        index = [one.worker_id for one in alive].index(leader)
        victim, between = alive[index], proxies[index]
        # The first time long enough for another one to lead.
        seconds = 1.7 if fault in faults[turn + 1 :] else 0.1
        if fault == "kill":
            victim.kill()
            alive[index] = victim.twin(f"p{index}-{turn}").start()
            everybody.append(alive[index])
        elif fault == "pause":
            victim.pause()
            time.sleep(seconds)
            victim.resume()
        elif fault == "deaf":
            between.deaf()
            time.sleep(seconds)
            between.hear()
        elif fault == "end":
            taken.append(time.monotonic_ns())
            server.terminate(f"eda-ha:%:{victim.worker_id}:%", dsn=dsn)
        elif fault == "cut":
            taken.append(time.monotonic_ns())
            between.cut()
        else:
            victim.step_down()
        time.sleep(dice.random() * 0.2)
    # All is well again: somebody leads, and goes on to do so.
    wait_somebody(everybody, time.monotonic() + 0.5)
    spans = leading(records(everybody))
    for one in everybody[5:]:
        one.close()
    # Behind a proxy a leader may hear of that after the next one leads.
    assert [
        str(each)
        for each in overlaps(records(everybody))
        if not any(at <= each.start < each.end <= at + HEARD for at in taken)
    ] == []
    assert len({span.contender for span in spans}) > 1


@pytest.mark.asyncio
async def test_the_referee_sees_two_leaders(dsn, ha_uuid):
    """What all of the above relies on."""
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        second._transitions.term = first.term
        second._transitions._announced = True
        referee = Referee(first, second)
        referee.ask()
        assert referee.overlaps
        second._transitions.term = None


@pytest.mark.asyncio
async def test_an_unanswered_renewal_frees_nothing_before_the_demotion(
    dsn, ha_uuid, proxy
):
    # Were the socket closed when trust ends, the server would free the lock
    # as soon as it hears again, amid the demotion.
    between = proxy(dsn)
    told = []

    async def demote(reason):
        told.append("first demotes")
        between.hear()
        await asyncio.sleep(LEASE / 4)  # less than the third that it has
        told.append("first has demoted")

    first = make(between.dsn, ha_uuid, "w1", on_demotion=demote)
    second = make(
        dsn, ha_uuid, "w2", on_promotion=lambda _: told.append("second leads")
    )
    async with pair(first, second):
        between.deaf()
        await leads(second)
        assert told == ["first demotes", "first has demoted", "second leads"]
