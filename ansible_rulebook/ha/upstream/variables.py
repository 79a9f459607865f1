"""The DSN in the rulebook's variables, where upstream's persistence has it.

A controller sends them with the workload; a run without one reads them from
``--vars`` and ``--env-vars``.
"""

from __future__ import annotations

import argparse
from typing import Any, Mapping

from psycopg.conninfo import make_conninfo

from ..conninfo import Conninfo
from ..errors import OptionError
from ..options import DSN, HA_UUID
from .names import upstream

# libpq's name of what each variable says.
NAMES = {
    "drools_db_host": "host",
    "drools_db_port": "port",
    "drools_db_name": "dbname",
    "drools_db_user": "user",
    "drools_db_password": "password",
    "drools_sslmode": "sslmode",
    "drools_sslpassword": "sslpassword",
    "drools_sslcert": "sslcert",
    "drools_sslkey": "sslkey",
    "drools_sslrootcert": "sslrootcert",
}
NEEDED = ("drools_db_host", "drools_db_name")


async def read_variables(parsed_args: argparse.Namespace) -> Any:
    """The variables of a run that has not begun, decrypted.

    In worker mode the workload is asked for here, and upstream gets the same
    one, since a controller counts a second request as a second start.
    """
    app = upstream("app")
    if not parsed_args.worker:
        variables = app.load_vars(parsed_args)
    else:
        request = app.request_workload
        workload = await request(parsed_args.id)

        async def request_workload(activation_instance_id: str) -> Any:
            app.request_workload = request
            return workload

        app.request_workload = request_workload
        variables = workload.variables if workload else {}
    return upstream("util").decrypted_context(variables)


def find_conninfo(variables: Mapping[str, Any]) -> Conninfo:
    """The connection string that the variables give.

    Files that a controller sends are named below ``eda.filename``; a variable
    with the file's name counts before that.

    :raises OptionError: if they do not give one.
    """
    files = (variables.get("eda") or {}).get("filename")
    known = {**(files if isinstance(files, dict) else {}), **variables}
    given = {name: known[name] for name in NAMES if known.get(name)}
    lacking = [name for name in NEEDED if name not in given]
    if lacking:
        raise OptionError(
            f"{HA_UUID.origin} is given without {DSN.origin}, and the "
            f"variables of the rulebook lack {' and '.join(lacking)}: give "
            "the connection string, or the variables of a PostgreSQL server"
        )
    dsn = make_conninfo("", **{NAMES[name]: given[name] for name in given})
    return Conninfo(dsn, "drools_db_*")
