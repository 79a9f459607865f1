"""The page on fault injection has what the campaign has found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from chaos.campaign import Campaign
from chaos.cluster import Settings
from chaos.report import Report, rst

TOP = Path(__file__).parents[2]
CAMPAIGN = TOP / "tools" / "campaigns" / "chaos.json"
PAGE = TOP / "docs" / "trust" / "fault_injection.rst"
TABLE = ".. list-table::"


@pytest.fixture(scope="module")
def report() -> Report:
    content = json.loads(CAMPAIGN.read_text("utf-8"))
    campaign = Campaign({"machine": content["machine"]})
    campaign.load(CAMPAIGN)
    return Report(campaign, content["command"], Settings())


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
