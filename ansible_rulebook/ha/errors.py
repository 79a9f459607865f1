"""The errors of the HA extension, under one root."""

from __future__ import annotations


class HaError(Exception):
    """Root of all errors that the HA extension raises."""


class OptionError(HaError):
    """An HA option has a value that cannot be used.

    ``str(error)`` is one line that names the flag and its variable and says
    what to do. It never contains the value of a connection string.
    """


class ServerRefused(HaError):
    """The server answered, and no retry can help: an operator has to act.

    Wrong password, unknown role or database, a transaction pooler.
    """


class ServerUnavailable(HaError):
    """No primary can be reached at the moment; trying again may help."""


class SessionLost(HaError):
    """The session that holds or waits for the lock is gone.

    Whoever sees this must not assume anything about the lock any more.
    """


class LeadershipLost(HaError):
    """Raised by ``queue.put`` in a source whose term is over."""


class StateRefused(HaError):
    """State cannot be kept, and no retry can help: an operator has to act.

    A missing privilege, an upstream that is too old, a table of a newer
    version.
    """


class StateFenced(HaError):
    """The database refused a write, since another worker leads by now."""


class PromotionFailed(HaError):
    """This worker could not become leader several times in a row."""


class RulesetDied(HaError):
    """A ruleset's engine ended although nobody had asked for it."""


class UpstreamChanged(HaError):
    """The installed ansible-rulebook lacks a name that we build on."""


class SourceRefused(HaError):
    """A source plugin was given an argument that it cannot use.

    ``str(error)`` is one line that names it. It never contains a secret.
    """
