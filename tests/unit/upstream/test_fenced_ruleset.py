"""A ruleset's runner: which actions start, and what it does when it ends."""

# A pause of no length lets other tasks go on.

from __future__ import annotations

import asyncio
from collections import namedtuple
from types import SimpleNamespace
from typing import Any, Callable

import pytest
from small_worker import SmallWorker
from written_marks import turns

from ansible_rulebook.ha.errors import RulesetDied
from ansible_rulebook.ha.rulebook.match_queue import MOST_WAITING
from ansible_rulebook.ha.state.progress import Progress
from ansible_rulebook.ha.upstream import state
from ansible_rulebook.ha.upstream.ruleset_runner import fence

PATIENCE = 10.0  # seconds
MATCH = "8ab4ee29-b40a-4f85-a01b-b4a7ae1f9c6e"
SHUTDOWN = "shutdown"

Plan = namedtuple("Plan", "source_queue source_feedback_queues plan ruleset")


class Runner:
    """As upstream's up to 1.2, as far as ours reaches into it."""

    def __init__(self, plan: Plan) -> None:
        self.name = "R"
        self.hosts_facts = ["a fact"]
        self.ruleset_queue_plan = plan
        self.shutdown: Any = None
        self.active_actions: set[asyncio.Task[Any]] = set()
        self.action_loop_task = asyncio.ensure_future(_for_ever())
        self.facts_at_start: Any = None
        self.processed: list[Any] = []
        self.recorded: list[str] = []
        self.acted: list[str] = []
        self.do: Callable[[], Any] = lambda: None

    async def run_ruleset(self) -> None:
        self.facts_at_start = self.hosts_facts

    async def _drain_source_queue(self) -> None:
        while True:
            event = await self.ruleset_queue_plan.source_queue.get()
            if event == SHUTDOWN:
                return
            if event.get("is_bad"):
                raise ValueError("dpath does not like it")
            self.processed.append(event)

    async def _run_multiple_actions(self, actions: list[Any]) -> None:
        for action in actions:
            await self._run_action(action, match())

    def _run_action(self, action: Any, item: Any) -> asyncio.Task[Any]:
        self.recorded.append(action.action)
        task: asyncio.Task[Any] = asyncio.ensure_future(
            self._entry()(action.action)
        )
        self.active_actions.add(task)
        task.add_done_callback(self._handle_action_completion)
        return task

    def _entry(self) -> Any:
        return self._call_action

    async def _call_action(self, name: str) -> None:
        self.acted.append(name)
        self.do()

    def _handle_action_completion(self, task: asyncio.Task[Any]) -> None:
        self.active_actions.discard(task)


class NewRunner(Runner):
    """As upstream's from 1.3 on: one action at a time."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        self.semaphore = asyncio.Semaphore(1)

    def _entry(self) -> Any:
        return self._call_action_with_semaphore

    async def _call_action_with_semaphore(self, name: str) -> None:
        async with self.semaphore:
            await self._call_action(name)


class KeptState:
    """A store whose records are durable unless the test says otherwise."""

    def __init__(self) -> None:
        self.progress = Progress(
            lambda match, place, known: self.stored.append(known)
        )
        self.is_durable = True
        self.stored: list[Any] = []

    def last_write(self) -> None:
        return None

    async def record_is_durable(self) -> bool:
        return self.is_durable


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


def match(uuid: str = MATCH) -> Any:
    results = SimpleNamespace(matching_uuid=uuid)
    return SimpleNamespace(rule="a rule", rule_engine_results=results)


def action(name: str = "debug") -> Any:
    return SimpleNamespace(action=name)


def make(
    worker: Any, base: type = Runner, feedback: dict[str, Any] | None = None
) -> Any:
    plan = Plan(
        asyncio.Queue(),
        feedback or {},
        SimpleNamespace(queue=asyncio.Queue()),
        SimpleNamespace(define=lambda: "its rules", _session_id=3),
    )
    return fence(base, worker)(plan)


async def run(ruleset: Any, name: str = "debug", uuid: str = MATCH) -> Any:
    """The task of an action, when it has ended."""
    task = ruleset._run_action(action(name), match(uuid))
    await asyncio.wait({task}, timeout=PATIENCE)
    assert task.done()
    return task


# -- which actions start -----------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("base", [Runner, NewRunner])
async def test_an_action_runs_once_while_its_worker_leads(base: type):
    worker = SmallWorker()
    counts = []
    ruleset = make(worker, base)
    ruleset.do = lambda: counts.append(worker.actions.running())
    (await run(ruleset)).result()
    assert ruleset.acted == ["debug"]
    assert counts == [1]
    assert worker.actions.running() == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("base", [Runner, NewRunner])
async def test_no_action_starts_without_a_term(base: type):
    worker = SmallWorker()
    ruleset = make(worker, base)
    worker.end_term()
    (await run(ruleset)).result()
    assert ruleset.acted == ruleset.recorded == []
    assert worker.actions.dropped_total == 1
    await asyncio.sleep(0)
    assert not ruleset.active_actions  # or a drain would wait for it


@pytest.mark.asyncio
@pytest.mark.parametrize("base", [Runner, NewRunner])
async def test_an_action_whose_term_ends_before_its_turn_does_nothing(
    base: type,
):
    worker = SmallWorker()
    ruleset = make(worker, base)
    task = ruleset._run_action(action(), match())
    worker.end_term()
    await task
    assert ruleset.acted == []
    assert worker.actions.running() == 0


@pytest.mark.asyncio
async def test_an_action_that_waits_for_its_turn_ends_with_the_term():
    worker = SmallWorker()
    ruleset = make(worker, NewRunner)
    async with ruleset.semaphore:
        task = ruleset._run_action(action(), match())
        await asyncio.sleep(0)
        worker.end_term()
        assert await worker.actions.cancel() == 1
    assert task.exception() is None
    assert ruleset.acted == []


@pytest.mark.asyncio
async def test_a_second_action_does_not_run_in_a_later_term_than_the_first():
    worker = SmallWorker()
    ruleset = make(worker)

    def replace_the_term() -> None:
        worker.end_term()
        worker.begin_term(8)

    ruleset.do = replace_the_term
    rule = asyncio.ensure_future(
        ruleset._run_multiple_actions([action("first"), action("second")])
    )
    await rule
    assert ruleset.acted == ["first"]


@pytest.mark.asyncio
@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
async def test_an_action_killed_with_its_term_ends_quietly(error: type):
    worker = SmallWorker()
    ruleset = make(worker)

    def die() -> None:
        worker.end_term()
        raise error

    ruleset.do = die
    task = await run(ruleset)
    assert not task.cancelled()
    assert task.exception() is None
    assert worker.actions.running() == 0


@pytest.mark.asyncio
async def test_an_action_that_fails_in_its_term_says_so():
    worker = SmallWorker()
    ruleset = make(worker)

    def fail() -> None:
        raise RuntimeError("its own")

    ruleset.do = fail
    assert isinstance((await run(ruleset)).exception(), RuntimeError)
    assert worker.actions.running() == 0


# -- with state --------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_match_that_is_not_stored_is_no_leaders():
    worker = SmallWorker()
    worker.state = KeptState()
    ruleset = make(worker)
    await run(ruleset, uuid="")
    assert ruleset.acted == []
    await run(ruleset)
    assert ruleset.acted == ["debug"]


@pytest.mark.asyncio
async def test_nothing_follows_from_a_record_that_was_lost():
    worker = SmallWorker()
    worker.state = KeptState()
    worker.state.is_durable = False
    ruleset = make(worker)
    (await run(ruleset)).result()
    assert ruleset.acted == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "is_stored"),
    [
        ("debug", False),
        ("run_playbook", False),
        ("run_job_template", True),
        ("run_workflow_template", True),
    ],
)
async def test_only_the_start_of_a_template_is_stored(
    name: str, is_stored: bool
):
    worker: Any = SmallWorker()
    worker.state = KeptState()
    await run(make(worker), name)
    start = {"status": "started"}
    state.update_action(worker, "R", MATCH, 0, start, create=True)
    assert worker.state.stored == [start] * is_stored


@pytest.mark.asyncio
async def test_only_what_an_earlier_leader_stored_is_found():
    worker: Any = SmallWorker()
    assert state.look_up_action(worker, "R", MATCH, 0) is None
    worker.state = KeptState()
    worker.state.progress.recovered({(MATCH, 0): {"status": "started"}})
    assert state.look_up_action(worker, "R", MATCH, 0) == {"status": "started"}
    assert state.look_up_action(worker, "R", MATCH, 1) is None


# -- from start to end -------------------------------------------------------


@pytest.mark.asyncio
async def test_gathered_facts_wait_for_the_promotion():
    ruleset = make(SmallWorker())
    ruleset.shutdown = SHUTDOWN
    assert ruleset.has_facts
    await ruleset.run_ruleset()
    assert ruleset.facts_at_start == []


@pytest.mark.asyncio
async def test_a_ruleset_tells_its_rules_and_its_session():
    worker = SmallWorker()
    ruleset = make(worker)
    worker.ruleset_started(ruleset)
    assert worker.rulesets.sessions() == {"R": (3, "its rules")}


@pytest.mark.asyncio
@pytest.mark.parametrize("why", ["unasked", "shutdown", "leaving"])
async def test_an_engine_that_ends_unasked_is_an_error(why: str):
    worker = SmallWorker()
    ruleset = make(worker)
    ruleset.shutdown = SHUTDOWN if why == "shutdown" else None
    worker.is_leaving = why == "leaving"
    if why == "unasked":
        with pytest.raises(RulesetDied):
            await ruleset.run_ruleset()
    else:
        await ruleset.run_ruleset()
    assert worker.rulesets.over.is_set()


@pytest.mark.asyncio
async def test_one_bad_event_does_not_end_the_reader():
    feedback: asyncio.Queue[Any] = asyncio.Queue()
    ruleset = make(SmallWorker(), feedback={"mine": feedback})
    bad = {"is_bad": True, "meta": {"source": {"name": "mine"}}}
    # A sender can put anything there.
    odd: list[Any] = [5, {"name": {}}, {"name": ["mine"]}]
    odd = [{"is_bad": True, "meta": {"source": each}} for each in odd]
    source = ruleset.ruleset_queue_plan.source_queue.queue
    for event in (bad, *odd, {"n": 1}, SHUTDOWN):
        source.put_nowait(event)
    await asyncio.wait_for(ruleset._drain_source_queue(), PATIENCE)
    assert ruleset.processed == [{"n": 1}]
    assert feedback.get_nowait() is bad  # its source goes on
    assert feedback.empty()


@pytest.mark.asyncio
async def test_a_reader_that_fails_without_an_event_ends_the_ruleset():
    ruleset = make(SmallWorker())

    async def broken() -> None:
        raise ValueError("no event's fault")

    ruleset.ruleset_queue_plan.source_queue.get = broken
    with pytest.raises(ValueError):
        await ruleset._drain_source_queue()
    await asyncio.wait({ruleset.action_loop_task}, timeout=PATIENCE)
    assert ruleset.action_loop_task.cancelled()


@pytest.mark.asyncio
@pytest.mark.parametrize("keeps_state", [False, True])
async def test_no_event_is_read_while_many_matches_wait(keeps_state: bool):
    worker: Any = SmallWorker()
    if keeps_state:
        worker.state = KeptState()
    ruleset = make(worker)
    for number in range(MOST_WAITING + 1):
        ruleset.ruleset_queue_plan.plan.queue.put_nowait(number)
    source = ruleset.ruleset_queue_plan.source_queue.queue
    for event in ({"n": 1}, SHUTDOWN):
        source.put_nowait(event)
    reading = asyncio.ensure_future(ruleset._drain_source_queue())
    await turns()
    assert ruleset.processed == []
    await ruleset.ruleset_queue_plan.plan.queue.get()
    await asyncio.wait_for(reading, PATIENCE)
    assert ruleset.processed == [{"n": 1}]


@pytest.mark.asyncio
async def test_matches_are_dropped_and_a_drain_is_told():
    ruleset = make(SmallWorker())
    for number in range(3):
        ruleset.ruleset_queue_plan.plan.queue.put_nowait(number)
    assert ruleset.drop_matches() == 3
    assert len(ruleset.active_actions) == 1  # whose end a drain waits for
    assert ruleset.drop_matches() == 0
