"""What the questions cost that a worker asks before it acts."""

from __future__ import annotations

import asyncio
import uuid

import psycopg
from rig.server import EmbeddedRig

from ansible_rulebook.ha import LeaderElection, Term
from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.thread import ElectionThread
from ansible_rulebook.ha.state.journal import Journal

from .costs import Costs
from .report import Result
from .setting import Setting


async def reconnect() -> psycopg.Connection[object]:
    raise NotImplementedError  # this session does not end


async def ask(costs: Costs, dsn: str) -> None:
    begun: list[Term] = []
    async with LeaderElection(
        dsn, uuid.uuid4(), on_promotion=begun.append
    ) as election:
        await election.leader_event.wait()
        (term,) = begun
        leadership = Leadership(election.confirm)
        leadership.begin(term)
        leadership.announce()
        costs.call("Term.is_current", term.is_current)
        costs.call("LeaderElection.is_leader", election.is_leader)
        costs.call("Leadership.may_act", leadership.may_act)
        costs.call("Leadership.takes_events", leadership.takes_events)
        costs.call("Leadership.is_open", leadership.is_open)
        await costs.trip("LeaderElection.confirm", election.confirm)
        connection = psycopg.connect(dsn, autocommit=True)
        journal = Journal("", 1, 0, connection, reconnect, 5.0, print)
        costs.call("Journal.look, nothing under way", journal.look)
        journal._sent += 1  # as if a transaction were
        costs.call("Journal.look, a transaction under way", journal.look)
        journal.end()


async def ask_in_thread(costs: Costs, dsn: str) -> None:
    """The election has a loop of its own, as in a worker."""
    begun: asyncio.Queue[Term] = asyncio.Queue()

    async def demote(reason: str) -> None:
        pass

    thread = ElectionThread(
        lambda **callbacks: LeaderElection(dsn, uuid.uuid4(), **callbacks),
        begun.put,
        demote,
        lambda until: None,
        lambda error: None,
        lambda request: None,
        lambda leader: None,
        print,
    )
    thread.start()
    leadership = Leadership(thread.confirm)
    leadership.begin(await begun.get())
    await costs.trip("Leadership.confirm", leadership.confirm)
    await thread.shut_down()


def measure(setting: Setting) -> Result:
    costs = Costs(setting.pick(15, 3))
    with EmbeddedRig() as server:
        asyncio.run(ask(costs, server.dsn))
        asyncio.run(ask_in_thread(costs, server.dsn))
    return Result("questions", "what it costs to ask", costs.figures)
