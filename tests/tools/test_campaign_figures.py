"""The page on fault injection has what the campaigns have found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaos.campaign import Campaign
from chaos.cluster import Settings
from chaos.report import Report, rst

TOP = Path(__file__).parents[2]
CAMPAIGNS = sorted((TOP / "tools" / "campaigns").glob("chaos-*.json"))
PAGE = TOP / "docs" / "trust" / "fault_injection.rst"
TABLE = ".. list-table::"
SAME = ("machine", "state", "poll", "lease")
PRODUCT = "ansible_rulebook/ha"


@pytest.fixture(scope="module")
def report() -> Report:
    content = json.loads(CAMPAIGNS[0].read_text("utf-8"))
    campaign = Campaign({key: content[key] for key in SAME})
    for each in CAMPAIGNS:
        campaign.load(each)
    return Report(campaign, content["command"], Settings())


def test_all_were_of_one_code() -> None:
    contents = [json.loads(each.read_text("utf-8")) for each in CAMPAIGNS]
    assert len({each["code"][PRODUCT] for each in contents}) == 1


def test_no_schedule_counts_twice(report: Report) -> None:
    seeds = [each.seed for each in report.summaries]
    assert sorted(set(seeds)) == sorted(seeds)


def test_the_table_is_the_campaigns(report: Report) -> None:
    text = rst(report)
    head, _, rows = text[text.index(TABLE) :].partition("\n\n")
    table = f"{head}\n\n{rows.partition(chr(10) * 2)[0]}\n"
    assert table.count("* -") == len(report.groups()) + 1
    assert table in PAGE.read_text("utf-8")


def test_the_counts_are_the_campaigns(report: Report) -> None:
    page = PAGE.read_text("utf-8")
    faults = report.groups()[-1].count
    assert f"{faults:,} faults in {len(report.summaries)} schedules" in page
    words = " ".join(page.split())
    counts = report.counts()
    assert counts
    for name, count in counts.items():
        assert f"{count:,}" in words, name


def test_the_violations_are_told_by_their_seeds(report: Report) -> None:
    page = PAGE.read_text("utf-8")
    for seed, _ in [*report.violations, *report.errors]:
        assert f"seed {seed}" in page
