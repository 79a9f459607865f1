"""Elections on a real server: roles, callbacks, switchover, logs."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid

import pytest
from elections import (
    LIMIT,
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

from ansible_rulebook.ha import (
    LeaderElection,
    OptionError,
    PromotionFailed,
    Term,
)
from ansible_rulebook.ha.election import candidate, clock, lock, settings
from ansible_rulebook.ha.election.session import LockSession

pytestmark = pytest.mark.asyncio


def info_lines(caplog) -> list[str]:
    """What operators see."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("ansible_rulebook.ha")
        and record.levelno >= logging.INFO
    ]


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    return lambda: info_lines(caplog)


# -- roles ---------------------------------------------------------------


async def test_one_leads_and_the_others_follow(dsn, ha_uuid, server):
    crowd = [make(dsn, ha_uuid, f"w{n}") for n in range(1, 5)]
    with Referee(*crowd):
        async with running(*crowd):
            leader = await one_leads(crowd)
            others = [one for one in crowd if one is not leader]
            for one in others:
                await follows(one)
            await until(lambda: len(lock_rows(server, leader)) == 4)
            rows = lock_rows(server, leader)
            assert [who for who, held in rows.items() if held] == [
                leader.worker_id
            ]
            assert not any(one.is_leader() for one in others)


async def test_exactly_one_of_the_two_role_events_is_set(dsn, ha_uuid):
    crowd = [make(dsn, ha_uuid, f"w{n}") for n in range(1, 4)]
    wrong: list[str] = []
    samples = 0
    done = False

    async def look() -> None:
        nonlocal samples
        while not done:
            samples += 1
            for one in crowd:
                if one.leader_event.is_set() == one.follower_event.is_set():
                    wrong.append(repr(one))
                if one.is_leader() and not one.leader_event.is_set():
                    wrong.append(f"{one} leads without its event")
            await asyncio.sleep(0)  # at each step of the loop

    looking = asyncio.ensure_future(look())
    async with running(*crowd):
        for _ in range(4):
            leader = await one_leads(crowd)
            await leader.step_down()
    done = True
    await looking
    assert samples > 100
    assert not wrong, wrong[:5]


async def test_the_next_one_need_not_wait_for_its_poll(dsn, ha_uuid):
    # An hour between two polls: only the wait on the lock can be that quick.
    first, second = (
        make(dsn, ha_uuid, name, poll_interval=3600, lease_duration=3600)
        for name in ("w1", "w2")
    )
    async with pair(first, second):
        await first.stop()
        await leads(second)


async def test_two_clusters_of_one_database_do_not_meet(dsn, ha_uuid):
    first = make(dsn, ha_uuid)
    second = make(dsn, str(uuid.uuid4()))
    async with running(first, second):
        await leads(first)
        await leads(second)


async def test_all_ways_to_write_a_uuid_meet_in_one_election(dsn, ha_uuid):
    first = make(dsn, ha_uuid.upper(), "w1")
    second = make(dsn, uuid.UUID(ha_uuid), "w2")
    async with pair(first, second):
        assert not second.is_leader()


async def test_what_cannot_be_used_is_refused_before_anything_starts():
    with pytest.raises(OptionError):
        LeaderElection("no such thing", str(uuid.uuid4()))
    with pytest.raises(ValueError, match="UUID"):
        LeaderElection("host=db", "eda")
    with pytest.raises(ValueError, match="lease_duration"):
        LeaderElection("host=db", str(uuid.uuid4()), lease_duration=0.5)


# -- the lease -----------------------------------------------------------


async def test_trust_is_counted_from_when_the_question_was_sent(
    dsn, ha_uuid, proxy
):
    slow = proxy(dsn)
    election = make(slow.dsn, ha_uuid, lease_duration=3.0)
    async with running(election):
        await leads(election)
        slow.delay(0.2)  # there, and back: 0.4 s for each renewal
        term = election.term

        async def left_after_renewal():
            before = term.trusted_until
            await until(lambda: term.trusted_until > before)
            return term.trusted_until - clock.now()

        await left_after_renewal()  # may have been on its way already
        for _ in range(3):
            left = await left_after_renewal()
            assert left <= election.timings.trust_for - 0.2
        assert election.is_leader()


async def test_the_lease_is_judged_with_the_clock_that_was_given(dsn, ha_uuid):
    offset = 1_234_567.0
    paused = 0.0
    election = make(
        dsn,
        ha_uuid,
        lease_duration=3600,
        clock=lambda: time.monotonic() + offset + paused,
    )
    async with running(election):
        await leads(election)
        term = election.term
        paused = 3599.0
        # No timer ran and nobody told: the next question finds out.
        assert not election.is_leader()
        await until(lambda: term is not election.term)
        await leads(election)
        assert election.term.number == 2


async def test_a_clock_that_stood_still_is_not_relied_on_for_effects(
    dsn, ha_uuid, server, proxy
):
    # As that of a machine that its hypervisor has paused.
    now = time.monotonic()
    between = proxy(dsn)
    first = make(between.dsn, ha_uuid, "w1", clock=lambda: now)
    second = make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        assert await first.confirm()
        assert not await second.confirm()
        between.deaf()
        server.terminate(session_of(first), dsn=dsn)
        await leads(second)
        assert first.is_leader(), "its clock tells it nothing"
        assert await second.confirm()
        assert not await asyncio.wait_for(first.confirm(), LIMIT)
        between.hear()


async def test_one_proof_answers_all_who_asked_before_it(dsn, ha_uuid):
    first = make(dsn, ha_uuid, "w1")
    async with running(first):
        await leads(first)
        session, sent = first._open_session(), []
        prove = session.prove

        async def counted(timeout=None):
            sent.append(timeout)
            return await prove(timeout)

        session.prove = counted
        assert all(await asyncio.gather(*(first.confirm() for _ in range(50))))
        assert len(sent) <= 2
        await first.step_down()
        assert not await first.confirm()


async def test_a_renewal_asks_for_the_lock_and_not_only_for_an_answer(
    dsn, ha_uuid
):
    election = make(dsn, ha_uuid)
    async with running(election):
        await leads(election)
        assert await election.confirm()  # its own statements are done
        # Nobody can do that from outside; a pooler's reset query would.
        await election._session.fetch("SELECT pg_advisory_unlock_all()")
        await until(lambda: election.is_leader() and election.term.number == 2)


# -- step down, stop -----------------------------------------------------


async def test_a_switchover_demotes_before_anybody_else_can_lead(
    dsn, ha_uuid, server
):
    seen: list[str] = []

    async def demote(reason: str) -> None:
        seen.append(reason)
        assert not first.is_leader()
        assert not first.term.is_current()
        assert not first.leader_event.is_set()
        # Longer than a lease: the lock is renewed while it is needed.
        deadline = time.monotonic() + first.timings.lease_duration * 1.4
        while time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            assert not second.is_leader()
        assert lock_rows(server, first)["w1"] is True
        seen.append("demoted")

    first = make(dsn, ha_uuid, "w1", on_demotion=demote, lease_duration=1.5)
    second = make(dsn, ha_uuid, "w2")
    with Referee(first, second):
        async with pair(first, second):
            await first.step_down()
            assert seen == ["stepped down", "demoted"]
            assert not first.is_leader()
            await leads(second)
            await follows(first)
            await second.step_down()
            await leads(first)


async def test_step_down_of_a_follower_changes_nothing(dsn, ha_uuid):
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await asyncio.wait_for(second.step_down(), LIMIT)
        assert first.is_leader()
        await first.stop()
        await leads(second)


async def test_a_stop_that_crosses_with_the_lock_leads_no_more(
    dsn, ha_uuid, server, monkeypatch
):
    promotions: list[Term] = []
    election = make(dsn, ha_uuid, on_promotion=promotions.append)
    stopping = []
    granted = LockSession.try_acquire

    async def crossed(session: LockSession) -> bool:
        got = await granted(session)
        stopping.append(asyncio.ensure_future(election.stop()))
        await asyncio.sleep(0)
        return got

    monkeypatch.setattr(LockSession, "try_acquire", crossed)
    await election.start()
    await until(lambda: bool(stopping))
    await asyncio.wait_for(stopping[0], LIMIT)
    assert promotions == []
    await until(lambda: lock_rows(server, election) == {})


async def test_stop_takes_a_waiter_out_of_the_queue(
    dsn, ha_uuid, server, monkeypatch
):
    # The server itself would not look for its client until the poll is over.
    wanted = settings.lock_limits
    monkeypatch.setattr(
        lock,
        "lock_limits",
        lambda timings: {
            **wanted(timings),
            "client_connection_check_interval": 0,
        },
    )
    first, second = (
        make(dsn, ha_uuid, name, poll_interval=600, lease_duration=600)
        for name in ("w1", "w2")
    )
    async with pair(first, second):
        await until(lambda: len(lock_rows(server, first)) == 2)
        await asyncio.wait_for(second.stop(), LIMIT)
        await until(lambda: lock_rows(server, first) == {"w1": True})
        assert second.shutdown_event.is_set()


async def test_stop_frees_the_lock_and_says_so_at_most_once(
    dsn, ha_uuid, server
):
    reasons: list[str] = []
    election = make(dsn, ha_uuid, on_demotion=reasons.append)
    await election.start()
    await leads(election)
    await election.stop()
    assert lock_rows(server, election) == {}
    assert reasons == ["stopping"]
    assert election.shutdown_event.is_set()
    assert election.follower_event.is_set()
    await election.stop()
    assert reasons == ["stopping"]


async def test_a_stop_that_is_cancelled_goes_on(dsn, ha_uuid, server):
    done = asyncio.Event()

    async def demote(_: str) -> None:
        await done.wait()

    election = make(dsn, ha_uuid, on_demotion=demote)
    await election.start()
    await leads(election)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(election.stop(), 0.05)
    done.set()
    await election.stop()
    assert lock_rows(server, election) == {}


async def test_an_error_in_the_body_frees_the_lock(dsn, ha_uuid, server):
    election = make(dsn, ha_uuid)
    with pytest.raises(ZeroDivisionError):
        async with election:
            await leads(election)
            raise ZeroDivisionError
    assert lock_rows(server, election) == {}


async def test_a_cancelled_election_demotes_once_and_frees_the_lock(
    dsn, ha_uuid, server
):
    reasons: list[str] = []

    async def demote(reason: str) -> None:
        reasons.append(reason)
        await asyncio.sleep(0.05)

    election = make(dsn, ha_uuid, on_demotion=demote)
    await election.start()
    await leads(election)
    election._task.cancel()
    await asyncio.wait({election._task}, timeout=LIMIT)
    with pytest.raises(asyncio.CancelledError):
        await election.stop()
    assert not election.is_leader()
    assert len(reasons) == 1
    await until(lambda: lock_rows(server, election) == {})


async def test_a_cancel_while_demoting_does_not_demote_twice(dsn, ha_uuid):
    reasons: list[str] = []
    demoting = asyncio.Event()

    async def demote(reason: str) -> None:
        reasons.append(reason)
        demoting.set()
        await asyncio.sleep(0.1)
        reasons.append("demoted")

    election = make(dsn, ha_uuid, on_demotion=demote)
    await election.start()
    await leads(election)
    stepping = asyncio.ensure_future(election.step_down())
    await demoting.wait()
    election._task.cancel()
    await asyncio.wait_for(stepping, LIMIT)
    assert reasons == ["stepped down", "demoted"]


async def test_who_withdraws_leads_on_and_is_no_candidate_afterwards(
    dsn, ha_uuid, server
):
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        second.withdraw()
        await until(lambda: lock_rows(server, first) == {"w1": True})
        first.withdraw()
        term, renewed = first.term, first.term.trusted_until
        await until(lambda: term.trusted_until > renewed + 1.0)
        assert first.is_leader()
        await first.step_down()
        await until(first.shutdown_event.is_set)
        assert lock_rows(server, first) == {}
        assert not second.is_leader()


# -- promotion and demotion ----------------------------------------------


async def test_the_promotion_comes_before_anybody_is_told(dsn, ha_uuid):
    seen: list[object] = []

    async def promote(term: Term) -> None:
        await asyncio.sleep(0.05)
        seen.append(term)
        assert term.is_current()
        assert election.term is term
        assert not election.is_leader()
        assert election.follower_event.is_set()

    election = make(dsn, ha_uuid, on_promotion=promote)
    async with running(election):
        await asyncio.wait_for(election.leader_event.wait(), LIMIT)
        assert election.is_leader()
        assert seen == [election.term]
        assert not election.follower_event.is_set()


async def test_a_long_promotion_keeps_its_lock(dsn, ha_uuid):
    release = asyncio.Event()

    async def promote(_: Term) -> None:
        await release.wait()

    first = make(dsn, ha_uuid, "w1", on_promotion=promote)
    second = make(dsn, ha_uuid, "w2")
    async with running(first):
        await until(lambda: first.term is not None)
        async with running(second):
            await follows(second)
            began = first.term.trusted_until
            lease = first.timings.lease_duration
            await until(lambda: first.term.trusted_until > began + lease)
            assert not second.is_leader()
            release.set()
            await leads(first)


async def test_three_failed_promotions_free_the_lock_and_end_the_election(
    dsn, ha_uuid, server, lines
):
    def promote(_: Term) -> None:
        raise RuntimeError("no JVM")

    first = make(dsn, ha_uuid, "w1", on_promotion=promote, poll_interval=0.1)
    await first.start()
    await asyncio.wait_for(first.shutdown_event.wait(), LIMIT)
    with pytest.raises(PromotionFailed, match="3 times"):
        await first.stop()
    assert lock_rows(server, first) == {}
    assert not first.is_leader()
    assert first.follower_event.is_set()
    failed = [line for line in lines() if "Promotion failed" in line]
    assert len(failed) == 3


async def test_who_cannot_be_promoted_lets_the_others_lead(dsn, ha_uuid):
    def promote(_: Term) -> None:
        raise RuntimeError("no JVM")

    first = make(dsn, ha_uuid, "w1", on_promotion=promote)
    second = make(dsn, ha_uuid, "w2")
    async with running(first):
        await until(lambda: first._candidate.failed_promotions == 1)
        async with running(second):
            await leads(second)
            assert not first.shutdown_event.is_set()


async def test_a_promotion_that_is_cancelled_is_not_stuck_with_the_lock(
    dsn, ha_uuid
):
    tries: list[Term] = []

    async def promote(term: Term) -> None:
        tries.append(term)
        if len(tries) == 1:
            raise asyncio.CancelledError

    election = make(dsn, ha_uuid, on_promotion=promote)
    async with running(election):
        await leads(election)
        assert len(tries) == 2


async def test_a_promotion_that_blocks_longer_than_the_trust_is_undone(
    dsn, ha_uuid
):
    terms: list[Term] = []

    def promote(term: Term) -> None:
        terms.append(term)
        if len(terms) == 1:
            time.sleep(election.timings.trust_for + 0.1)

    election = make(dsn, ha_uuid, on_promotion=promote, lease_duration=1.0)
    async with running(election):
        await leads(election)
        assert len(terms) == 2
        assert not terms[0].is_current()


async def test_a_promotion_whose_term_ends_meanwhile_is_cancelled_first(
    dsn, ha_uuid, server
):
    seen: list[str] = []

    async def promote(_: Term) -> None:
        seen.append("promote")
        try:
            await asyncio.sleep(LIMIT)
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
            seen.append("cancelled")
            raise

    election = make(
        dsn,
        ha_uuid,
        on_promotion=promote,
        on_demotion=lambda _: seen.append("demote"),
    )
    async with running(election):
        await until(lambda: seen == ["promote"])
        await election.stop()
    assert seen == ["promote", "cancelled", "demote"]
    assert lock_rows(server, election) == {}


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_a_demotion_that_fails_is_not_stuck_with_the_lock(
    dsn, ha_uuid, error
):
    async def demote(_: str) -> None:
        raise error("ouch")

    first = make(dsn, ha_uuid, "w1", on_demotion=demote)
    second = make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await asyncio.wait_for(first.step_down(), LIMIT)
        await leads(second)


async def test_an_overdue_demotion_is_said_once(dsn, ha_uuid, proxy):
    overdue: list[bool] = []
    deaf = proxy(dsn)

    async def demote(_: str) -> None:
        await until(lambda: bool(overdue))

    election = make(
        deaf.dsn,
        ha_uuid,
        lease_duration=1.0,
        on_demotion=demote,
        on_overdue=lambda: overdue.append(election.is_leader()),
    )
    async with running(election):
        await leads(election)
        deaf.deaf()
        await until(lambda: bool(overdue))
        deaf.hear()
        await leads(election)
        assert overdue == [False]


async def test_a_demotion_that_hangs_does_not_keep_the_lock(
    dsn, ha_uuid, monkeypatch
):
    monkeypatch.setattr(candidate, "LONGEST_DEMOTION", 1.0)
    told: list[bool] = []
    done = asyncio.Event()
    first = make(
        dsn,
        ha_uuid,
        "w1",
        lease_duration=1.0,
        on_demotion=lambda _: done.wait(),
        on_overdue=lambda: told.append(second.is_leader()),
    )
    second = make(dsn, ha_uuid, "w2", lease_duration=1.0)
    async with pair(first, second):
        stepping_down = asyncio.ensure_future(first.step_down())
        await leads(second)
        assert told == [False]  # in time for whoever can be fenced off
        done.set()
        await asyncio.wait_for(stepping_down, LIMIT)
        await follows(first)


# -- what is said --------------------------------------------------------


async def test_each_transition_is_said_once_and_names_worker_and_cluster(
    dsn, ha_uuid, lines
):
    first, second = make(dsn, ha_uuid, "w1"), make(dsn, ha_uuid, "w2")
    async with pair(first, second):
        await first.step_down()
        await leads(second)
        await follows(first)
        await until(lambda: any("leader=w2" in line for line in lines()))
    said = lines()
    assert all(f"ha_uuid={ha_uuid}" in line for line in said)
    assert all(re.match(r"Worker w[12]: ", line) for line in said)

    def of(who: str) -> list[str]:
        return [
            line.partition(": ")[2].split(" (")[0]
            for line in said
            if line.startswith(f"Worker {who}:")
        ]

    acquired = "Successfully acquired leadership"
    assert of("w1")[:3] == [acquired, "Lost leadership", "Following"]
    assert of("w2") == ["Following", acquired, "Lost leadership", "Stopped"]
    assert any(
        f"Worker w1: {acquired} (ha_uuid={ha_uuid}, term=1, because=first)"
        == line
        for line in said
    )
    after = rf"Worker w2: {acquired} \(ha_uuid=.*, nobody_led=\d+\.\d+ s, "
    after += r"replaces=w1, because=stepped_down\)"
    assert any(re.match(after, line) for line in said)
    assert any("w1: Lost leadership (stepped down, " in line for line in said)
    assert any(
        "w2: Following (" in line and "leader=w1" in line for line in said
    )


async def test_nothing_is_said_again_at_each_poll(dsn, ha_uuid, lines):
    first, second = (
        make(dsn, ha_uuid, name, poll_interval=0.05) for name in ("w1", "w2")
    )
    async with pair(first, second):
        said = lines()
        term = first.term
        renewed = term.trusted_until
        await until(lambda: term.trusted_until > renewed + 20 * 0.05)
        assert lines() == said


async def test_a_namesake_in_another_database_is_not_taken_for_the_leader(
    dsn, ha_uuid, server, lines
):
    other_dsn = server.create_database()
    try:
        elsewhere = make(other_dsn, ha_uuid, "elsewhere")
        first = make(dsn, ha_uuid, "w1")
        second = make(dsn, ha_uuid, "w2")
        async with running(elsewhere, first):
            await leads(elsewhere)
            await leads(first)
            async with running(second):
                await follows(second)
                await until(lambda: any("Following" in x for x in lines()))
                (said,) = [x for x in lines() if "Following" in x]
                assert said.endswith("leader=w1)")
    finally:
        server.drop_database(other_dsn)


# -- what it costs -------------------------------------------------------


async def test_idle_workers_send_one_statement_each_interval(
    embedded_factory, ha_uuid
):
    server = embedded_factory({"log_statement": "all"})
    poll = 0.25
    first, second = (
        make(server.dsn, ha_uuid, name, poll_interval=poll, lease_duration=3)
        for name in ("w1", "w2")
    )
    async with pair(first, second):
        await until(lambda: "DO $$" in server.log)
        term, renewed = first.term, first.term.trusted_until
        start = len(server.log)
        began = time.monotonic()
        await until(lambda: term.trusted_until > renewed + 6 * poll)
        intervals = (time.monotonic() - began) / poll
        log = server.log[start:]
    proofs = log.count("pg_is_in_recovery()")
    waits = log.count("DO $$")
    assert 3 <= proofs <= intervals + 1.5
    assert 3 <= waits <= intervals + 1.5
    # An idle follower leaves nothing else in the server's log (F22).
    kinds = re.findall(r"\b(LOG|ERROR|FATAL|WARNING|NOTICE):  (\w+)", log)
    assert {level for level, _ in kinds} == {"LOG"}
    assert {word for _, word in kinds} <= {"statement", "execute"}
    assert len(kinds) == proofs + waits


async def test_the_session_shows_who_leads_with_no_table(dsn, ha_uuid, server):
    election = make(dsn, ha_uuid, "host.example-42")
    async with running(election):
        await leads(election)
        (session,) = server.sessions(session_of(election))
        assert session.application_name.split(":")[2] == "host.example-42"
        assert lock_rows(server, election) == {"host.example-42": True}
