"""The rule engine of a worker, from start to end."""

from __future__ import annotations

import asyncio
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Callable, Mapping

from .bridge import Bridge
from .recorded import RecordedEngine, Recording, Source, collect_less, reason
from .warm_up import warm_up

logger = logging.getLogger(__name__)


class EngineHost:
    """Puts our engine in drools_jpy's place, empties it and warms it up.

    :param reset_sessions: begins an empty session for each ruleset; blocks.
    """

    def __init__(self, reset_sessions: Callable[[], None]) -> None:
        self._reset_sessions = reset_sessions
        self._bridge: Bridge | None = None
        self._engine: RecordedEngine | None = None
        self._resetting: asyncio.Future[None] | None = None
        self.thread = ThreadPoolExecutor(1, "ha-engine")
        """For long calls that change sessions."""

    def attach(
        self,
        engine: Any,
        attach_store: Callable[[Bridge], None],
        recording: Recording,
        source: Callable[[], Source | None],
        deliver: Callable[[str, str], None],
        failed: Callable[[str], None],
    ) -> Any:
        """Have all changes in this engine recorded.

        The other parameters are those of :class:`RecordedEngine`.

        :param engine: drools_jpy's Java object; its rulesets come later.
        :param attach_store: gives the bridge to the store.
        :returns: what is to take the engine's place.
        :raises StateRefused: if this engine's state cannot be kept.
        """
        self._bridge = Bridge(engine)
        attach_store(self._bridge)
        collect_less(os.environ)
        self._engine = RecordedEngine(
            engine, self._bridge, recording, source, deliver, failed
        )
        return self._engine

    def stop_recording(self) -> None:
        """See :meth:`RecordedEngine.stop_recording`."""
        if self._engine is not None:
            self._engine.stop_recording()

    def start_clock(self) -> None:
        """Let time pass for the rules. It only does on a leader."""
        if self._engine is not None:
            self._engine.clock.start()

    def pause_clock(self) -> None:
        """Let no time pass for the rules."""
        if self._engine is not None:
            self._engine.clock.pause()

    def reset(self) -> None:
        """Begin to empty the engine: what it knows belongs to a past term.

        Java may take long. The lock does not wait for it, since nothing in
        the engine acts any more. See :meth:`emptied`.
        """
        loop = asyncio.get_running_loop()
        self._resetting = loop.run_in_executor(None, self._reset_sessions)

    async def emptied(self) -> None:
        """Wait until what :meth:`reset` began is done."""
        while self._resetting is not None:
            resetting = self._resetting
            await asyncio.wait({resetting})
            if self._resetting is resetting:
                self._resetting = None
            resetting.result()

    async def warm_up(
        self, texts: Mapping[str, str], may_go_on: Callable[[], bool]
    ) -> bool:
        """Have Java do a recovery for practice; see :mod:`.warm_up`.

        :param texts: the definitions of the rulesets, by name.
        :param may_go_on: asked between two steps.
        :returns: whether it is done; also true if Java cannot.
        """
        if self._bridge is None:
            return True
        loop = asyncio.get_running_loop()
        steps = warm_up(self._bridge, list(texts.values()))
        try:
            while may_go_on():
                if await loop.run_in_executor(None, next, steps, 0) == 0:
                    return True
            return False
        except RuntimeError as error:
            logger.debug("Java could not warm up: %s", reason(error))
            return True
        finally:
            with suppress(ValueError):  # a step is still under way
                steps.close()

    async def close(self) -> None:
        """Wait until the engine is empty. It is not used any more."""
        with suppress(Exception):  # of sessions that have ended meanwhile
            await self.emptied()
        self.thread.shutdown(wait=False)
