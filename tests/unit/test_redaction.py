"""What somebody else wrote harms no terminal, log, page or metric."""

from __future__ import annotations

import html
import io
import json
import logging
import re
import uuid
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observed import UUID, Observed
from prometheus_client import CollectorRegistry

from ansible_rulebook.ha.election.requests import Answer, Request
from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.operations.on_transition import Transition
from ansible_rulebook.ha.operations.output import Printer
from ansible_rulebook.ha.operations.page.render import Moment, document
from ansible_rulebook.ha.operations.plain import cell
from ansible_rulebook.ha.operations.prometheus import (
    PrometheusMetrics,
    render,
)
from ansible_rulebook.ha.operations.snapshot import PauseView
from ansible_rulebook.ha.operations.view import (
    ClusterView,
    TermView,
    WorkerView,
)
from ansible_rulebook.ha.redaction import (
    LONGEST,
    LONGEST_LINE,
    clean,
    one_line,
)
from ansible_rulebook.ha.upstream.cli import exit_with

HOSTILE = {
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>\"'&",
    "ansi": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b1m",
    "lines": "one\ntwo\rthree\x00\x0b\x0c\x1c\x85four\u2028five\u2029six",
    "sql": "'; DROP TABLE eda_ha_history; --*/ /* $$ %s {x}",
    "bidi": "safe\u202egnp.exe\u2066\u200f\u200b\ufeff",
    "surrogates": "half \ud800 other \udcff",
    "long": "\x1b[31m" + "\U0001f600" * 100_000 + "\ud800" * 100_000,
    "labels": '"}\n# TYPE up gauge\nup{x="\\',
}


def log_line(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    # Not below the root: pytest would keep a text that it cannot pass on.
    lone, stream = logging.Logger("lone"), io.StringIO()
    lone.addHandler(logging.StreamHandler(stream))
    WorkerLog(lone, text, uuid.UUID(UUID)).info("Follows", text, leader=text)
    return stream.getvalue()


def metrics(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    registry, worker = CollectorRegistry(), Observed(worker_id=text)
    made = PrometheusMetrics(UUID, worker, registry)
    made.event(text, text)
    made.action(text)
    made.transition(text, text)
    told = render(registry).decode()
    # Times differ; how many lines there are is what counts.
    return re.sub(r" [\d.e+]+$", "", told, flags=re.MULTILINE)


def page(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    view = ClusterView(
        (WorkerView(text, text, text, text, 1, version=text, http=text),),
        (TermView(1, text, 0.0, None, text, text),),
        PauseView(text, text),
    )
    snapshot = Observed(worker_id=text, leader=text, leads=False)()
    return document(Moment(snapshot, view, 1.0, True, 1.0))


def terminal(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    printer = Printer()
    printer.line(text)
    printer.pairs([("worker", text)])
    printer.table(("worker", "reason"), [(text, text)])
    return capsys.readouterr().out


def last_words(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        exit_with(1, text)
    return capsys.readouterr().err


def variables(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    return "\n".join(Transition(text, 1, text).environment().values())


def request_heard(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    words = {"to": text, "reason": text, "by": text}
    request = Request.parse(json.dumps({"ask": "switchover", **words}), 1)
    answer = Answer.parse(json.dumps({"pid": 1, "refusal": text}))
    assert request is not None and answer is not None
    return "\n".join((request.why, request.to, answer.refusal))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "show",
    [
        log_line,
        metrics,
        page,
        terminal,
        last_words,
        variables,
        request_heard,
    ],
)
def test_a_hostile_text_is_only_text(
    show: Callable[[str, pytest.CaptureFixture[str]], str],
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harmless, told = show("w1", capsys), show(HOSTILE[name], capsys)
    told.encode()
    assert all(line.isprintable() for line in told.split("\n"))
    assert told.count("\n") == harmless.count("\n")
    assert len(told) < len(harmless) + 10 * 6 * LONGEST_LINE
    if show is page:
        for tag in ("<script", "<img"):
            assert told.count(tag) == harmless.count(tag)


def test_the_page_shows_what_was_written() -> None:
    told = html.escape(clean(HOSTILE["html"]))
    assert html.unescape(told) == HOSTILE["html"]


def test_escapes_tell_what_was_written() -> None:
    assert clean("\x1b[1m\n\u202e\ud800") == r"\x1b[1m\n\u202e\ud800"
    assert clean(None) == "None"


def test_a_request_is_small_enough_to_be_sent() -> None:
    for text in HOSTILE.values():
        request = Request(text, text, text, leader=2**31)
        assert len(request.payload().encode()) < 8000


def test_a_request_without_texts_has_none() -> None:
    request = Request.parse('{"ask": "switchover", "to": 5, "by": null}', 1)
    assert request == Request(pid=1)


@given(st.text())
def test_clean_text_is_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text)) <= LONGEST
    assert clean(clean(text)) == clean(text)
    assert cell(text).isprintable()
    clean(text).encode()
    if text.isprintable() and len(text) <= LONGEST:
        assert clean(text) == text


def test_a_long_text_says_that_it_was_cut() -> None:
    assert clean("x" * LONGEST) == "x" * LONGEST
    assert clean("x" * (LONGEST + 1)) == "x" * (LONGEST - 3) + "..."
    assert len(clean("\x1b" * LONGEST)) == LONGEST


def test_a_sentence_is_folded_to_one_line() -> None:
    assert one_line(" a \n\t b \u2028c\x1b[1m\r\n") == r"a b c\x1b[1m"
    assert one_line(ValueError("a\nb")) == "a b"
    assert len(one_line("word " * LONGEST_LINE)) == LONGEST_LINE
