"""What the page shows, and that nobody can write into it."""

from __future__ import annotations

import html.parser
import http.client
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from observed import NOW, Observed, ask, served

from ansible_rulebook.ha.operations.page.files import FILES
from ansible_rulebook.ha.operations.page.render import (
    Moment,
    Rate,
    document,
    sections,
)
from ansible_rulebook.ha.operations.snapshot import PauseView
from ansible_rulebook.ha.operations.view import (
    ClusterView,
    TermView,
    WorkerView,
)

HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m\u202e\udcff\n{title}"
VIEW = ClusterView(
    workers=(
        WorkerView("w2", "follower", "contending", "host-2", 1, NOW),
        WorkerView("w1", "leader", "leading", "host-1", 4711, NOW),
    ),
    terms=(
        TermView(2, "w1", NOW, None, "session ended", "", 0.012, 5, 4),
        TermView(1, "w2", NOW - 100, NOW - 1, "first", "killed", None, 9, 9),
    ),
)
VOID = {"meta", "link", "br", "rect", "polyline"}


class Elements(html.parser.HTMLParser):
    """All elements of a page, each one closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(
        self, tag: str, attrs: list[tuple[str, str | None]]
    ) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def moment(
    view: ClusterView = VIEW,
    database_answers: bool = True,
    seen_at: float | None = NOW,
    **own: Any,
) -> Moment:
    """A moment of w1, which leads; ``own`` changes what it knows of itself."""
    worker = Observed(role="leader", leads=True, term=2, state="leading")
    worker.set(last_renewal=NOW - 1, retained=7, pending=3, behind=0.0)
    worker.set(**own)
    return Moment(
        worker=worker.now,
        cluster=view,
        seen_at=seen_at,
        database_answers=database_answers,
        at=NOW + 1,
        events=Rate((0.0, 5.0, 12.5)),
    )


def test_the_page_says_who_leads_and_who_stands_by() -> None:
    told = sections(moment())
    assert '<p class="big">w1</p>' in told["leader"]
    assert "term 2, since" in told["leader"]
    assert told["news"] == "w1 leads."
    rows = re.findall(r"<tr.*?</tr>", told["workers"])
    assert "w1 (this one)" in rows[1] and "leader" in rows[1]
    assert "w2" in rows[2] and "follower" in rows[2]


def test_the_page_says_why_and_how_long_nobody_led() -> None:
    told = sections(moment())["terms"]
    assert "session ended" in told
    assert "killed" in told
    assert "12 ms" in told


def test_the_page_says_when_nobody_leads() -> None:
    view = ClusterView(workers=(WorkerView("w1", "follower"),))
    told = sections(moment(view, role="follower", leads=False))
    assert "No worker leads" in told["leader"]
    assert told["news"] == "No worker leads."


def test_the_page_says_who_paused_the_cluster() -> None:
    pause = PauseView("ann@host", "<maintenance>", NOW - 60, NOW + 600)
    view = VIEW._replace(pause=pause)
    told = sections(moment(view))
    assert "PAUSED BY" in told["leader"]
    for name in ("leader", "news"):
        words = re.sub("<.*?>", "", told[name])
        assert "ann@host since 2027-01-15 07:59:00 UTC until" in words
        assert " 2027-01-15 08:10:00 UTC: &lt;maintenance&gt;" in words
    assert "<title>ansible-rulebook HA: Paused" in document(moment(view))


def test_the_page_knows_of_a_pause_without_the_database() -> None:
    seen = moment(
        ClusterView(),
        database_answers=False,
        role="follower",
        leads=False,
        pause=PauseView("ann@host", "why"),
    )
    told = sections(seen)
    assert "ann@host since -: why" in told["leader"]
    # What the database told before is older than what the worker has seen.
    seen = seen._replace(
        cluster=VIEW._replace(pause=PauseView("ann@host")),
        worker=replace(seen.worker, pause=None),
    )
    assert "PAUSED BY" not in sections(seen)["leader"]


def test_the_page_says_that_the_database_is_away() -> None:
    told = sections(moment(database_answers=False))
    assert "does not answer" in told["leader"]
    assert '<p class="big">w1</p>' in told["leader"]  # it knows that itself
    told = sections(
        moment(
            ClusterView(),
            database_answers=False,
            leads=False,
            role="follower",
            leader="w2",
            seen_at=None,
        )
    )
    assert '<p class="big">w2</p>' in told["leader"]
    assert "w1 (this one)" in told["workers"]


@pytest.mark.parametrize(
    ("age", "health"), [(1.0, "good"), (9.0, "late"), (14.0, "lost")]
)
def test_the_page_says_how_well_the_lease_is(age: float, health: str) -> None:
    told = sections(moment(last_renewal=NOW + 1 - age))["lease"]
    assert f"{age:.1f} s ago ({health})" in told


def test_a_hostile_text_stays_text() -> None:
    view = ClusterView(
        workers=(
            WorkerView(
                HOSTILE,
                HOSTILE,
                state=HOSTILE,
                host=HOSTILE,
                pid=1,
                since=1e300,
                last_seen=-1e300,
                version=HOSTILE,
                priority=1,
                http=HOSTILE,
            ),
        ),
        terms=(TermView(1, HOSTILE, NOW, None, HOSTILE, HOSTILE),),
        pause=PauseView(HOSTILE, HOSTILE, 0.0, 1e300),
    )
    for leads in (True, False):
        told = document(
            moment(view, worker_id=HOSTILE, leads=leads, leader=HOSTILE)
        )
        told.encode("utf-8")
        page = Elements(told)
        assert len(page.named("script")) == 1
        assert "\x1b" not in told and "\u202e" not in told
        assert "<script>alert(1)</script>" in page.text
        assert "{title}" in page.text


def test_the_page_is_sound_for_screen_readers() -> None:
    page = Elements(document(moment()))
    assert page.named("html")[0]["lang"] == "en"
    assert len(page.named("h1")) == len(page.named("main")) == 1
    ids = [a["id"] for _, a in page.found if "id" in a]
    assert len(ids) == len(set(ids))
    for section in page.named("section"):
        assert section["aria-labelledby"] in ids
    for svg in page.named("svg"):
        assert "aria-label" in svg or svg.get("role") is None
    for head in page.named("th"):
        assert head["scope"] in ("row", "col")
    assert len(page.named("table")) == len(page.named("caption"))
    assert page.named("a")[0]["href"] == "#main"


def test_no_style_or_script_stands_in_the_page() -> None:
    page = Elements(document(moment()))
    assert not page.named("style")
    for _, attributes in page.found:
        assert not [a for a in attributes if a == "style" or a[:2] == "on"]


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_can_be_told_apart(scheme: int) -> None:
    style = FILES["/page.css"].content.decode()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w+);", blocks[scheme]))
    for text in ("text", "dim", "good", "late", "bad", "bar"):
        for ground in ("ground", "card"):
            assert contrast(colours[text], colours[ground]) >= 4.5


def contrast(one: str, other: str) -> float:
    """As WCAG defines it."""

    def luminance(colour: str) -> float:
        digits = colour[1:]
        if len(digits) == 3:
            digits = "".join(each * 2 for each in digits)
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_an_open_page_is_told_what_changes_and_only_that() -> None:
    worker = Observed(leader="w1")
    with served(worker) as server:
        assert b"w1 leads" in ask(server, "/").body
        connection = http.client.HTTPConnection(server.address, timeout=20)
        connection.request("GET", "/events")
        events = connection.getresponse()
        assert events.headers["Content-Type"] == "text/event-stream"

        def told() -> dict[str, str]:
            while True:
                line = events.readline()
                if line.startswith(b"data: "):
                    found: dict[str, str] = json.loads(line[6:])
                    return found

        assert set(told()) == set(sections(moment()))
        worker.set(leader="w2")
        changed = told()
        while "news" not in changed:
            changed = told()
        assert changed["news"] == "w2 leads."
        assert "terms" not in changed
        connection.close()
