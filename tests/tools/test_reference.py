"""The tables of docs/ that ``make reference`` writes are up to date, and true.

The table of leases is taken through the part of the election that decides.
"""

from __future__ import annotations

import re

import pytest
import reference
from documented import text_of

from ansible_rulebook.ha import LeaderElection
from ansible_rulebook.ha.election.candidate import Candidate, Do
from ansible_rulebook.ha.election.lease import Timings
from ansible_rulebook.ha.election.settings import lock_limits
from ansible_rulebook.ha.rulebook.self_fence import EXIT_FENCED
from ansible_rulebook.ha.upstream.cli import EXIT_ERROR, EXIT_USAGE

A_MOMENT = 0.001  # seconds
T0 = 4_321_000.0


@pytest.mark.parametrize(
    "page", list(reference.pages()), ids=lambda page: page.stem
)
def test_a_page_has_what_the_code_says(page) -> None:
    text = page.read_text("utf-8")
    assert text == reference.written(text), "run: make reference"


def test_each_table_is_in_a_page() -> None:
    texts = "".join(page.read_text("utf-8") for page in reference.pages())
    for name in reference.REFERENCES:
        assert f".. reference: {name}\n" in texts


def test_a_table_that_is_old_is_found(tmp_path, monkeypatch, capsys) -> None:
    page = tmp_path / "page.rst"
    page.write_text("A\n=\n\n.. reference: leases\n\nold\n\n.. end\n\nB\n")
    monkeypatch.setattr(reference, "PAGES", tmp_path)
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert reference.main(["--check"]) == 1
    assert "old" in page.read_text()
    assert reference.main([]) == 0
    text = page.read_text()
    assert "10 to 15 s" in text and "old" not in text
    assert text.startswith("A\n=\n\n.. ref") and text.endswith(".. end\n\nB\n")
    assert reference.main(["--check"]) == 0


def leading(timings: Timings) -> Candidate:
    """A leader whose last renewal was sent at T0."""
    one = Candidate(timings)
    one.connected(timings)
    one.proved(T0)
    one.promoted()
    one.proved(T0)
    return one


def in_seconds(shown: str) -> float:
    return float(shown.rpartition(" ")[0])


@pytest.mark.parametrize(("poll", "lease"), reference.LEASES)
def test_a_lease_is_as_the_table_says(poll: float, lease: float) -> None:
    _, _, replaced, forgiven, _, ending = reference.lease_row(poll, lease)
    timings = Timings(poll, lease)
    # Silence begins at the worst moment: when a renewal would be sent.
    candidate = leading(timings)
    silent_from = T0 + timings.renew_every
    assert candidate.decide(silent_from).do is Do.RENEW
    until = silent_from + in_seconds(forgiven)
    assert candidate.decide(until - A_MOMENT).do is Do.RENEW
    step = candidate.decide(until)
    assert step.do is Do.DEMOTE
    assert step.seconds == pytest.approx(in_seconds(ending), abs=0.05)
    # The server hears of a dead machine last when that renews.
    earliest, latest = replaced.removesuffix(" s").split(" to ")
    assert lock_limits(timings)["idle_session_timeout"] == lease * 1000
    assert float(latest) == lease
    assert float(earliest) == pytest.approx(
        lease - timings.renew_every, abs=0.05
    )


def test_each_argument_of_the_python_api_is_documented() -> None:
    from inspect import signature

    page = text_of("docs/write/python_api.rst")
    missing = [
        name
        for name in signature(LeaderElection).parameters
        if f"\n``{name}``" not in page
    ]
    assert missing == []


def test_the_exit_codes_of_a_worker_are_documented() -> None:
    page = text_of("docs/run/reference/exit_codes.rst")
    table = page.partition("\nA worker\n")[2].partition("\nA rulebook")[0]
    codes = {int(each) for each in re.findall(r"^(\d+) +\S", table, re.M)}
    assert codes == {0, EXIT_ERROR, EXIT_USAGE, EXIT_FENCED}
