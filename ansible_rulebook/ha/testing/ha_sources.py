"""The fixture: sources of one test, and the whole life of a worker."""

from __future__ import annotations

from typing import Any, Callable

from .fault import SourceFault
from .ha_source import HaSource
from .plugin import PluginLike
from .provoked import Provoked

WATCHED = 0.2  # seconds after each demotion, for what comes late


class HaSources:
    """Starts sources, and closes them with the test."""

    __tracebackhide__ = True

    def __init__(self) -> None:
        self._all: list[HaSource] = []

    def __call__(
        self,
        plugin: PluginLike,
        args: dict[str, Any] | None = None,
        **options: Any,
    ) -> HaSource:
        """Start a source on a follower; see :class:`HaSource`."""
        source = HaSource(plugin, args, **options)
        self._all.append(source)
        return source

    def check(
        self,
        plugin: PluginLike,
        args: dict[str, Any] | None = None,
        *,
        provoke: Callable[[], object] | None = None,
        emits: bool = True,
        **options: Any,
    ) -> None:
        """Take a source through a worker's life, from start to shutdown.

        It follows, leads, is demoted, leads again, is demoted while its put
        waits for room, loses its lease, and is shut down, once as a leader
        and once as a follower.

        :param provoke: brings the source to emit an event; it runs in a
            thread, and is tried again on a ``ConnectionError``.
        :param emits: whether an event must come in each term.
        :param options: as of :class:`HaSource`.
        :raises SourceFault: saying which rule it breaks, and when.
        """
        __tracebackhide__ = True
        life = _Life(self(plugin, args, **options), provoke, emits)
        life.follow()
        life.lead()
        life.end_term()
        life.lead()
        life.end_term()
        life.lead_with_full_queue()
        life.end_term()
        life.lead()
        life.lose_lease()
        life.end_term()
        life.lead()
        life.source.close()
        self._all.remove(life.source)
        follower = self(plugin, args, **options)
        follower.settle(WATCHED)
        self._all.remove(follower)
        follower.close()

    def close(self) -> None:
        """Shut down all sources, the last one first.

        :raises SourceFault: the first one that comes of it.
        """
        __tracebackhide__ = True
        faults = []
        while self._all:
            try:
                # What a later one has open is no leak of an earlier one.
                self._all.pop().close()
            except SourceFault as fault:
                faults.append(fault)
        if faults:
            raise faults[0]


class _Life:
    """The steps of :meth:`HaSources.check`."""

    def __init__(
        self,
        source: HaSource,
        provoke: Callable[[], object] | None,
        emits: bool,
    ) -> None:
        self.source = source
        self._provoke = provoke
        self._emits = emits

    def follow(self) -> None:
        """Nothing may be emitted."""
        __tracebackhide__ = True
        self.source.settle(WATCHED)

    def lead(self) -> None:
        """An event comes, if there is to be one."""
        __tracebackhide__ = True
        self.source.promote()
        if self._emits:
            self.source.event(provoke=self._provoke)
        self._goes_on()

    def lead_with_full_queue(self) -> None:
        """The next event finds no room."""
        __tracebackhide__ = True
        self.source.fill_queue()
        self.source.promote()
        if self._emits:
            Provoked(self._provoke)  # nothing may come of it
            self.source.wait_until_put_waits()
        self._goes_on()

    def lose_lease(self) -> None:
        """It goes on, since nobody has told it."""
        __tracebackhide__ = True
        self.source.lose_lease()
        self.source.settle(WATCHED)

    def end_term(self) -> None:
        """Nothing may come after that."""
        __tracebackhide__ = True
        self.source.demote()
        self.source.settle(WATCHED)

    def _goes_on(self) -> None:
        __tracebackhide__ = True
        if self.source.has_ended:
            raise SourceFault(
                self.source.name,
                "as it leads",
                [
                    "main ended by itself, which ends the rulebook. Give it "
                    "arguments that let it go on, or take it through the "
                    "steps that you want one by one."
                ],
            )
