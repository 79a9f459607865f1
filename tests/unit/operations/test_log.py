"""Our log lines, as text and as JSON."""

from __future__ import annotations

import io
import json
import logging
import uuid
from collections.abc import Iterator

import pytest

from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.log import (
    FORMAT,
    OURS,
    JsonFormatter,
    WorkerLog,
    choose_format,
)

UUID = uuid.UUID("0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11")
HOSTILE = '\x1b[31m"}\n{"level": "INFO\u2028\udcff'


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    made = io.StringIO()
    choose_format({FORMAT: "json"}, made)
    yield made
    choose_format({})


@pytest.fixture
def log() -> WorkerLog:
    return WorkerLog(logging.getLogger(f"{OURS}.worker"), "w1", UUID)


def test_a_line_is_an_object_with_its_parts(
    stream: io.StringIO, log: WorkerLog
) -> None:
    log.warning("Lost leadership", "session ended", term=7, lease="15 s")
    [line] = stream.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("+00:00")
    assert told == {
        "level": "WARNING",
        "logger": "ansible_rulebook.ha.worker",
        "message": "Lost leadership",
        "reason": "session ended",
        "worker": "w1",
        "ha_uuid": str(UUID),
        "fields": {"term": 7, "lease": "15 s"},
    }


def test_lines_of_other_modules_of_ours_are_objects_too(
    stream: io.StringIO,
) -> None:
    logging.getLogger(f"{OURS}.state.journal").error("%s of %d", "one", 2)
    told = json.loads(stream.getvalue())
    assert told["message"] == "one of 2"
    assert told["logger"] == "ansible_rulebook.ha.state.journal"


def test_a_traceback_is_part_of_its_line(
    stream: io.StringIO, log: WorkerLog
) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("It failed")
    [line] = stream.getvalue().splitlines()
    assert "ValueError: first\nsecond" in json.loads(line)["exception"]


def test_a_hostile_text_stays_one_line() -> None:
    # Not below the root: pytest would keep a text that it cannot pass on.
    lone, stream = logging.Logger("lone"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    lone.addHandler(handler)
    log = WorkerLog(lone, "w1", UUID)
    log.error(HOSTILE, HOSTILE, term=HOSTILE)
    [line] = stream.getvalue().splitlines()
    assert line.isascii() and line.isprintable()
    told = json.loads(line)
    assert told["level"] == "ERROR"
    assert told["message"] == told["fields"]["term"] == HOSTILE


def test_ansible_rulebook_does_not_write_our_lines_again(
    stream: io.StringIO, log: WorkerLog
) -> None:
    theirs = io.StringIO()
    handler = logging.StreamHandler(theirs)
    logging.getLogger().addHandler(handler)
    try:
        log.error("ours")
        logging.getLogger("ansible_rulebook.engine").error("theirs")
    finally:
        logging.getLogger().removeHandler(handler)
    assert theirs.getvalue() == "theirs\n"
    assert "theirs" not in stream.getvalue()


@pytest.mark.parametrize("environ", [{}, {FORMAT: ""}, {FORMAT: "TEXT"}])
def test_text_is_what_it_was(
    environ: dict[str, str],
    log: WorkerLog,
    caplog: pytest.LogCaptureFixture,
) -> None:
    choose_format({FORMAT: "json"}, io.StringIO())
    choose_format(environ)
    log.error("Lost leadership", "why", term=7)
    assert caplog.messages == [
        f"Worker w1: Lost leadership (why, ha_uuid={UUID}, term=7)"
    ]
    assert not logging.getLogger(OURS).handlers


def test_another_format_is_refused() -> None:
    with pytest.raises(OptionError, match="EDA_HA_LOG_FORMAT: give text or"):
        choose_format({FORMAT: "xml"})
