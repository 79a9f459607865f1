"""What the check of texts and pages finds."""

from __future__ import annotations

import pytest

pytest.importorskip("docutils", reason="of the extra 'lint'")

import check_text


def of_text(text: str) -> list[str]:
    return list(check_text.faults_of_text("x", text))


def of_page(text: str, name: str = "docs/x.rst") -> list[str]:
    return list(check_text.faults_of_page(name, text))


def test_a_proper_text_has_no_faults() -> None:
    assert of_text("") == []
    assert of_text("one\n\ntwo\n") == []


@pytest.mark.parametrize("line", ["one ", "one\t", "one\r", " "])
def test_space_at_the_end_of_a_line(line: str) -> None:
    assert of_text(f"a\n{line}\nb\n") == ["x:2: space at the end of the line"]


@pytest.mark.parametrize("text", ["a", "a\n\n", "\n\n"])
def test_a_text_ends_with_one_newline(text: str) -> None:
    assert of_text(text) == ["x: must end with one newline"]


def test_a_proper_page_has_no_faults() -> None:
    links = "`All <index.rst#a-part>`_, `web <https://a.b/c>`_, Title_"
    assert of_page(f"Title\n=====\n\n{links}\n") == []


def test_a_line_may_have_79_columns() -> None:
    assert of_page("a" * 79 + "\n") == []
    assert of_page("a" * 80 + "\n") == ["docs/x.rst:1: 80 columns"]


def test_what_a_program_printed_may_be_wider() -> None:
    assert of_page(f"It prints::\n\n    {'a' * 80}\n") == []
    assert of_page(f"It prints:\n\n    {'a' * 80}\n") != []


def test_tables_of_the_benchmarks_may_be_wider() -> None:
    assert of_page("a" * 80 + "\n", check_text.WIDE) == []


def test_what_docutils_warns_of_is_a_fault() -> None:
    (found, *_) = of_page("A title\n====\n\ntext\n")
    assert found.startswith("docs/x.rst:2: (WARNING/2) Title underline")


def test_a_link_to_a_file_that_is_not_there() -> None:
    assert of_page("`x <no_such.rst#part>`_\n") == [
        "docs/x.rst: links no_such.rst, which is not there"
    ]
    assert of_page("`x <README.rst>`_\n") != []
    assert of_page("`x <README.rst>`_\n", "x.rst") == []


def test_a_url_may_be_wider() -> None:
    url = "https://example.org/" + "a" * 80
    assert of_page(f"`x\n<{url}>`_\n") == []
    assert of_page(f"`x <{url}>`_\n") != []


def test_a_table_of_pages_is_none_of_docutils_business() -> None:
    assert of_page(".. toctree::\n   :hidden:\n\n   run/guide\n") == []
    found = of_page(".. toctree::\n   :hiden:\n\n   run/guide\n")
    assert any("hiden" in line for line in found)


def test_links_of_a_page_that_is_included_are_those_of_that_page() -> None:
    page = ".. include:: ../CONTRIBUTING.rst\n"
    assert of_page(page) == []  # it links docs/..., from where it is
