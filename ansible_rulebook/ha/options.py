"""The ``--ha-*`` options: flags, environment, validation.

Imported by every run of the command, so nothing here is heavy.
"""

from __future__ import annotations

import argparse
import enum
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Callable, Mapping

from .election.lease import (
    LEASES_PER_POLL,
    POLL_INTERVAL,
    SHORTEST_LEASE,
    SHORTEST_POLL,
    Timings,
)
from .election.lease import check_seconds as check
from .election.priority import DEFAULT as DEFAULT_PRIORITY
from .election.priority import HIGHEST as HIGHEST_PRIORITY
from .errors import OptionError
from .redaction import mask_password

if TYPE_CHECKING:
    from socket import socket

    from .conninfo import Conninfo
    from .operations.pod import Pod

LONGEST_WORKER_ID = 200  # characters
TRUE = {"1", "true", "yes", "on"}
FALSE = {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class Option:
    """One option: its flag, its variable, and its place in the namespace."""

    flag: str
    variable: str

    @property
    def dest(self) -> str:
        """The attribute of argparse's namespace."""
        return self.flag.lstrip("-").replace("-", "_")

    @property
    def origin(self) -> str:
        """How errors name the option."""
        return f"{self.flag} ({self.variable})"

    def read(
        self, args: argparse.Namespace, environ: Mapping[str, str]
    ) -> str | None:
        """The flag's value, else the variable's unless that is empty."""
        given = getattr(args, self.dest, None)
        if given is not None:
            return str(given)
        return environ.get(self.variable) or None


DSN = Option("--ha-postgres-dsn", "EDA_HA_POSTGRES_DSN")
HA_UUID = Option("--ha-uuid", "EDA_HA_UUID")
POLL = Option("--ha-poll-interval", "EDA_HA_POLL_INTERVAL")
LEASE = Option("--ha-lease-duration", "EDA_HA_LEASE_DURATION")
WORKER = Option("--ha-worker-id", "EDA_HA_WORKER_ID")
# The same under the name that a controller with activation groups gives it.
WORKER_NAME = Option("--worker-name", WORKER.variable)
POOLER = Option("--ha-session-pooler", "EDA_HA_SESSION_POOLER")
STATE = Option("--ha-state", "EDA_HA_STATE")
PRIORITY = Option("--ha-priority", "EDA_HA_PRIORITY")
HTTP = Option("--ha-http-listen", "EDA_HA_HTTP_LISTEN")
ON_TRANSITION = Option("--ha-on-transition", "EDA_HA_ON_TRANSITION")
LABEL = Option("--ha-kubernetes-label", "EDA_HA_KUBERNETES_LABEL")
NEEDING_UUID = (
    *(POLL, LEASE, WORKER, WORKER_NAME, POOLER, STATE),
    *(PRIORITY, HTTP, ON_TRANSITION, LABEL),
)


class StateMode(enum.Enum):
    """Whether the rule engine's state is handed on at failover."""

    AUTO = "auto"  # where it is possible; else elect without
    REQUIRED = "required"  # or end
    OFF = "off"


@dataclass(frozen=True)
class HaOptions:
    """What the operator asked for, checked."""

    conninfo: Conninfo
    ha_uuid: uuid.UUID
    timings: Timings
    worker_id: str | None = None  # None: <hostname>-<pid>
    session_pooler: bool = False
    state: StateMode = StateMode.AUTO
    priority: int = DEFAULT_PRIORITY
    http_sockets: tuple[socket, ...] = ()  # bound; empty: no HTTP
    # A command's words; a password may be among them.
    on_transition: tuple[str, ...] = field(default=(), repr=False)
    pod: Pod | None = None  # that has a label while this worker leads


@dataclass(frozen=True)
class WithoutDsn:
    """Options of a run whose DSN is to come from the rulebook's variables."""

    complete: Callable[[Conninfo], HaOptions] = field(repr=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument group. Defaults stay out of it: ``--help`` would
    show the variables' values, a password among them."""
    group = parser.add_argument_group(
        "high availability",
        "Start the same command on several machines with the same DSN and\n"
        "UUID: one of them leads, the others take over when it fails.",
    )

    def add(option: Option, help_text: str, metavar: str) -> None:
        group.add_argument(
            option.flag,
            metavar=metavar,
            help=f"{help_text}\nCan also be passed via {option.variable}.",
        )

    add(
        DSN,
        "Turns high availability on: PostgreSQL connection string,\n"
        "anything that libpq takes. If it contains a password, better\n"
        "pass it by variable, service or PGPASSFILE. If only the UUID is\n"
        "given, the rulebook's variables drools_db_... are taken.",
        "DSN",
    )
    add(
        HA_UUID,
        "UUID that names the cluster, the same for all workers.",
        "UUID",
    )
    add(
        POLL,
        "Seconds for which a follower waits at the lock before it asks\n"
        f"again, default {POLL_INTERVAL:g}.",
        "SECONDS",
    )
    add(
        LEASE,
        "Seconds after which a leader that the server has not heard of\n"
        "is replaced, default "
        f"{LEASES_PER_POLL:g} poll intervals, at least "
        f"{SHORTEST_LEASE:g}.",
        "SECONDS",
    )
    add(
        WORKER,
        "Name of this worker in logs and in pg_stat_activity,\n"
        "default <hostname>-<pid>.",
        "NAME",
    )
    if WORKER_NAME.flag not in parser._option_string_actions:
        group.add_argument(
            WORKER_NAME.flag,
            metavar="NAME",
            help=f"The same as {WORKER.flag}, as a controller with\n"
            "activation groups gives it. In worker mode the leader then\n"
            "tells the controller that it leads.",
        )
    add(
        STATE,
        "Whether a new leader goes on with the rules' state. auto\n"
        "(default): if it can be kept; required: the worker exits\n"
        "with 1 if it cannot be kept; off: never.",
        "{auto,required,off}",
    )
    add(
        PRIORITY,
        "A follower that has been ready for two leases gets the lead from\n"
        f"a leader of a lower priority. 0 to {HIGHEST_PRIORITY}, default "
        f"{DEFAULT_PRIORITY}; 0 never\nleads.",
        "NUMBER",
    )
    add(
        HTTP,
        "Answer HTTP there: health checks, metrics and a page. A port\n"
        "alone is for this machine only. Off by default.",
        "HOST:PORT",
    )
    add(
        ON_TRANSITION,
        "Run this at each change of role, without a shell, with\n"
        "EDA_HA_ROLE, EDA_HA_TERM, EDA_HA_REASON and EDA_HA_GAP.",
        "COMMAND",
    )
    add(
        LABEL,
        "In a pod of Kubernetes: the leader's pod has this label, and no\n"
        "other pod of the cluster. A Service can follow it.",
        "KEY=VALUE",
    )
    group.add_argument(
        POOLER.flag,
        action="store_const",
        const="true",
        help="The DSN leads to a connection pooler, which pools whole\n"
        f"sessions. Can also be passed via {POOLER.variable}.",
    )


def read_options(
    args: argparse.Namespace, environ: Mapping[str, str]
) -> HaOptions | WithoutDsn | None:
    """The HA options of a run, or None if HA is off.

    :raises OptionError: one line that names the option and says what to do.
    """
    dsn = DSN.read(args, environ)
    ha_uuid = read_uuid(args, environ)
    if ha_uuid is None:
        if dsn is not None:
            raise OptionError(
                f"{HA_UUID.origin} is required with {DSN.origin}: give the "
                "same UUID to all workers of a cluster (python3 -c 'import "
                "uuid; print(uuid.uuid4())' makes one)"
            )
        for option in NEEDING_UUID:
            if option is not POOLER and option.read(args, environ):
                raise OptionError(
                    f"{option.origin} is given without {DSN.origin} and "
                    f"{HA_UUID.origin}: give them to turn high availability "
                    "on, or none"
                )
        return None
    from .conninfo import Conninfo  # psycopg: only now that HA is on

    conninfo = None if dsn is None else Conninfo(dsn, DSN.origin)
    poll_interval = _seconds(POLL, args, environ, SHORTEST_POLL)
    lease_duration = read_lease(args, environ)
    complete = partial(
        HaOptions,
        ha_uuid=ha_uuid,
        timings=Timings.of(poll_interval or POLL_INTERVAL, lease_duration),
        worker_id=_worker_id(args, environ),
        session_pooler=_flag(POOLER, args, environ),
        state=_state(STATE.read(args, environ)),
        priority=_priority(PRIORITY.read(args, environ)),
        on_transition=_command(ON_TRANSITION.read(args, environ)),
        pod=_pod(LABEL.read(args, environ), environ),
        # Last: what it opens is not closed by an error of another option.
        http_sockets=_sockets(HTTP.read(args, environ)),
    )
    return WithoutDsn(complete) if conninfo is None else complete(conninfo)


def _shown(text: str) -> str:
    # A DSN in the wrong place must not be printed with its password.
    return repr(mask_password(text))


def read_uuid(
    args: argparse.Namespace, environ: Mapping[str, str]
) -> uuid.UUID | None:
    """The cluster's UUID, or None if none is given.

    :raises OptionError: if it is not a UUID.
    """
    text = HA_UUID.read(args, environ)
    if text is None:
        return None
    try:
        return uuid.UUID(text)
    except ValueError:
        raise OptionError(
            f"{HA_UUID.origin}: {_shown(text)} is not a UUID; it looks like "
            "01234567-89ab-cdef-0123-456789abcdef"
        ) from None


def read_lease(
    args: argparse.Namespace, environ: Mapping[str, str]
) -> float | None:
    """The lease in seconds, or None if none is given.

    :raises OptionError: if it cannot be used.
    """
    return _seconds(LEASE, args, environ, SHORTEST_LEASE)


def _seconds(
    option: Option,
    args: argparse.Namespace,
    environ: Mapping[str, str],
    least: float,
) -> float | None:
    text = option.read(args, environ)
    if text is None:
        return None
    try:
        seconds = float(text)
        check("it", seconds, least)
    except ValueError as error:
        reason = (
            str(error)
            if str(error).startswith("it ")
            else ("it must be a number of seconds")
        )
        raise OptionError(
            f"{option.origin}: {_shown(text)} cannot be used, {reason}"
        ) from None
    return seconds


def _worker_id(
    args: argparse.Namespace, environ: Mapping[str, str]
) -> str | None:
    flags = [
        option
        for option in (WORKER, WORKER_NAME)
        if getattr(args, option.dest, None) is not None
    ]
    option = next(iter(flags), WORKER)
    text = option.read(args, environ)
    if text is None:
        return None
    if not text.strip() or not text.isprintable():
        raise OptionError(
            f"{option.origin}: {_shown(text)} cannot be used, give a name of "
            "printable characters"
        )
    if mask_password(text) != text:
        raise OptionError(
            f"{option.origin}: {_shown(text)} cannot be used, it looks like "
            "a connection string; give a name"
        )
    if len(text) > LONGEST_WORKER_ID:
        raise OptionError(
            f"{option.origin}: the name is longer than "
            f"{LONGEST_WORKER_ID} characters, give a shorter one"
        )
    return text


def _priority(text: str | None) -> int:
    if text is None:
        return DEFAULT_PRIORITY
    if not text.isascii() or not text.isdigit() or len(text) > 4:
        raise OptionError(_bad_priority(text))
    if int(text) > HIGHEST_PRIORITY:
        raise OptionError(_bad_priority(text))
    return int(text)


def _bad_priority(text: str) -> str:
    return (
        f"{PRIORITY.origin}: {_shown(text)} cannot be used, give a whole "
        f"number from 0 to {HIGHEST_PRIORITY}"
    )


def _command(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    from .operations.on_transition import parse_command

    return tuple(parse_command(text, ON_TRANSITION.origin))


def _pod(text: str | None, environ: Mapping[str, str]) -> Pod | None:
    if text is None:
        return None
    from .operations.pod import find_pod

    return find_pod(text, environ, LABEL.origin)


def _sockets(text: str | None) -> tuple[socket, ...]:
    if text is None:
        return ()
    from .operations.listen import bind, parse_listen

    listen = parse_listen(text, HTTP.origin)
    return tuple(bind(listen, HTTP.origin))


def _state(text: str | None) -> StateMode:
    try:
        return StateMode((text or StateMode.AUTO.value).lower())
    except ValueError:
        raise OptionError(
            f"{STATE.origin}: {_shown(text or '')} cannot be used, give "
            "auto, required or off"
        ) from None


def _flag(
    option: Option, args: argparse.Namespace, environ: Mapping[str, str]
) -> bool:
    text = (option.read(args, environ) or "").lower()
    if text not in TRUE | FALSE:
        raise OptionError(
            f"{option.origin}: {_shown(text)} cannot be used, "
            "give true or false"
        )
    return text in TRUE
