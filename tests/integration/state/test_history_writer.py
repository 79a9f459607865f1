"""The history of terms, written while the server comes and goes."""

from __future__ import annotations

import logging
from typing import Callable

import pytest
from clusters import Cluster, create_tables, state_session
from e2e_support import until
from rig.server import EmbeddedRig

from ansible_rulebook.ha.election.reasons import Reason
from ansible_rulebook.ha.state import sql
from ansible_rulebook.ha.state.history import Beginning, History
from ansible_rulebook.ha.state.history_writer import HistoryWriter


def test_an_end_that_is_known_in_an_outage_is_written_after_it(
    embedded_server: EmbeddedRig,
    make_cluster: Callable[[str], Cluster],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ansible_rulebook.ha")
    dsn = embedded_server.create_database()
    create_tables(dsn)
    cluster = make_cluster(dsn)
    cluster.claim("a")
    writer = HistoryWriter(History(state_session(dsn), str(cluster.uuid)))
    writer.tell_begin(1, Beginning())
    embedded_server.stop()
    writer.tell_end(1, Reason.SESSION_LOST, 7, 3)
    until(lambda: "was not written" in caplog.text, "the writer has tried")
    embedded_server.start()

    def is_written() -> bool:
        writer.retry()
        rows = embedded_server.query(
            f"SELECT ended, events FROM {sql.HISTORY}", dsn=dsn
        )
        return bool(rows == [("session_lost", 7)])

    until(is_written, "the end is written")
    writer.close()
