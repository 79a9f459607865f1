"""Writes down what one worker does. Runs inside of it.

========== ==========================================================
row        when
========== ==========================================================
worker     once, the first one: name, pid, started
lead       a span in which the worker could act: start, end, samples
point      one true answer alone: at
role       it was told that it leads or follows: role, term, at
neither    it was told both, or neither: leads, follows, at
post       an event goes into the engine: id, leads, looked, at
posted     it is there: id, how, at
begin      an action begins: run, action, index, ids, match, leads, looked, at
end        it has ended: run, how, at
blocking   the main loop will stand still: seconds, at
shutdown   the worker is about to end: at
error      the record cannot be relied on: text, at
========== ==========================================================

The spans are those of rig.contender's sampler, which claims no instant that
was not between two true answers close together. The question is whether
actions may start now, promotion included: that is more than ``is_leader()``,
so no two workers may answer it with true at a time either. What is done has
the time at which its thread was last told that it may (looked): a process can
be stopped between that and the deed.

The hooks sit below the fence, so that a begin is an action's own first step
and not one that the fence has still to let through.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib
import itertools
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from rig.contender import Recorder, Sampler

from ansible_rulebook.ha.election.leadership import Leadership
from ansible_rulebook.ha.election.term import Term
from ansible_rulebook.ha.rulebook.gate import NOT_LEADING, GatedQueue

from . import mood
from .records import REFUSED
from .rulebook import LIFE, RECORD

LOOK_EVERY = 0.05  # seconds between two looks at the two events

_background: list[asyncio.Future[None]] = []  # somebody has to refer to them


class Witness:
    """The record of this worker.

    :param recorder: where the rows go.
    :param leadership: of the worker.
    """

    def __init__(self, recorder: Recorder, leadership: Leadership) -> None:
        self.recorder = recorder
        self.leadership = leadership
        self._runs = itertools.count(1)
        self._looks = threading.local()

    def install(self) -> None:
        """Put the hooks in place, for all that comes later."""
        engine, debug, playbook = map(
            _module,
            (
                "drools.ruleset",
                "ansible_rulebook.action.debug",
                "ansible_rulebook.action.run_playbook",
            ),
        )
        engine.post = self._around_post(engine.post)
        debug.Debug.__call__ = self._around_debug(debug.Debug.__call__)
        playbook.RunPlaybook.__call__ = self._around_playbook(
            playbook.RunPlaybook.__call__
        )
        hooked: Any = Term
        hooked.is_current = self._around_look(Term.is_current)

    def may_act(self) -> bool:
        """Whether actions may start at this instant; from any thread."""
        return self.leadership.acting_term() is not None

    def leads(self) -> bool:
        """Whether events may enter the engine; from any thread."""
        return self.leadership.takes_events()

    def write(self, kind: str, **values: Any) -> None:
        """A row, with the time unless it is given."""
        values.setdefault("at", time.monotonic_ns())
        self.recorder.add(kind, **values)

    def role(self, role: str) -> None:
        """It was told its role."""
        term = self.leadership.term
        self.write("role", role=role, term=getattr(term, "number", None))

    @property
    def _looked(self) -> int | None:
        looked: int | None = getattr(self._looks, "at", None)
        return looked

    def _around_look(self, look: Any) -> Any:
        looks = self._looks

        @functools.wraps(look)
        def recorded(term: Term) -> bool:
            at = time.monotonic_ns()  # it may be paused from here on
            is_current: bool = look(term)
            if is_current:
                looks.at = at
            return is_current

        return recorded

    def _around_post(self, post: Any) -> Any:
        @functools.wraps(post)
        def recorded(ruleset: str, event: Any) -> Any:
            name = _name_of(event)
            if name is None:
                return post(ruleset, event)
            at, looked = time.monotonic_ns(), self._looked
            # It may be paused from here on.
            leads = self.may_act()
            self.write("post", id=name, leads=leads, looked=looked, at=at)
            how = "ok"
            try:
                return post(ruleset, event)
            except BaseException as error:
                is_refused = str(error) == NOT_LEADING
                how = REFUSED if is_refused else type(error).__name__
                raise
            finally:
                self.write("posted", id=name, how=how)

        return recorded

    @contextlib.contextmanager
    def _run(self, action: str, index: int, ids: list[str], of: Any) -> Any:
        number = next(self._runs)
        # Upstream has it from 1.3 on.
        known = getattr(of.helper.metadata, "persistent_info", None)
        match = known.matching_uuid if known is not None else None
        at, looked = time.monotonic_ns(), self._looked
        # It may be paused from here on.
        self.write(
            "begin",
            run=number,
            action=action,
            index=index,
            ids=ids,
            match=match,
            leads=self.may_act(),
            looked=looked,
            at=at,
        )
        how = "done"
        try:
            yield
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        except BaseException as error:
            how = type(error).__name__
            raise
        finally:
            self.write("end", run=number, how=how)

    def _around_debug(self, call: Any) -> Any:
        @functools.wraps(call)
        async def recorded(action: Any) -> None:
            words = str(action.action_args.get("msg", "")).split()
            name, index, work, *ids = words
            with self._run(name, int(index), ids, action):
                await asyncio.sleep(float(work))
                await call(action)

        return recorded

    def _around_playbook(self, call: Any) -> Any:
        @functools.wraps(call)
        async def recorded(action: Any) -> None:
            name = action.action_args["extra_vars"]["chaos_id"]
            with self._run("play", 0, [name], action):
                await call(action)

        return recorded


def _name_of(event: Any) -> Any:
    """The id of one of ours; what was posted is below its payload."""
    if not isinstance(event, dict):
        return None
    payload = event.get("payload")
    return (payload if isinstance(payload, dict) else event).get("id")


class Orders(threading.Thread):
    """Answers the broker's questions, in a thread of its own.

    The answer has whether this worker leads, and its wall clock's time. With
    ``{"block": S}`` the main loop stops for S seconds, with ``{"stubborn":
    true}`` sources do not end any more.
    """

    def __init__(
        self, witness: Witness, life: str, path: str, loop: Any
    ) -> None:
        super().__init__(name="chaos-orders", daemon=True)
        self._witness = witness
        self._life = life
        self._loop = loop
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(path)

    def run(self) -> None:
        """Answer until the broker is gone."""
        with contextlib.suppress(OSError), self._socket.makefile("rwb") as io:
            self._say(io, witness=self._life)
            for line in io:
                question = json.loads(line)
                if "block" in question:
                    self._loop.call_soon_threadsafe(
                        self._block, question["block"]
                    )
                if "stubborn" in question:
                    mood.is_stubborn = question["stubborn"]
                self._say(io, leads=self._witness.leads(), clock=time.time())

    @staticmethod
    def _say(io: Any, **values: Any) -> None:
        io.write(json.dumps(values).encode() + b"\n")
        io.flush()

    def _block(self, seconds: float) -> None:
        self._witness.write("blocking", seconds=seconds)
        time.sleep(seconds)


def _module(name: str) -> Any:
    return importlib.import_module(name)


def leadership_of(queue: Any) -> Leadership:
    """The leadership behind the queue that a source is given.

    There is no public way to it: a source is told of its role by events
    only, and these can lag behind.
    """
    gated: GatedQueue = queue.queue
    return gated._gate._leadership


async def record(
    queue: Any,
    path: str,
    leads: asyncio.Event,
    follows: asyncio.Event,
    ends: asyncio.Event,
) -> None:
    """Record this worker until it ends.

    :param queue: the source's.
    :param path: the broker's socket.
    :param leads: set while the worker leads.
    :param follows: set while it follows.
    :param ends: set when it is about to end.
    """
    life = os.environ[LIFE]
    recorder = Recorder(Path(os.environ[RECORD]))
    recorder.add(
        "worker", name=life, pid=os.getpid(), started=time.monotonic_ns()
    )
    witness = Witness(recorder, leadership_of(queue))
    witness.install()
    Sampler(witness.may_act, recorder).start()
    Orders(witness, life, path, asyncio.get_running_loop()).start()

    async def roles() -> None:
        while True:
            for role, event in (("follower", follows), ("leader", leads)):
                await event.wait()
                witness.role(role)

    async def exactly_one() -> None:
        while True:
            if leads.is_set() == follows.is_set():
                witness.write(
                    "neither", leads=leads.is_set(), follows=follows.is_set()
                )
            await asyncio.sleep(LOOK_EVERY)

    _background.extend(
        asyncio.ensure_future(each) for each in (roles(), exactly_one())
    )
    # Returns at once, so that the worker need not wait for it; what still
    # runs then is written down all the same.
    await ends.wait()
    witness.write("shutdown")
