"""A run of the benchmarks that was interrupted goes on where it was."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("rich")

from bench import __main__ as bench
from bench.report import Figure, Result

MACHINE = {"cores": 2, "load before": [0.5]}


@pytest.fixture
def ran(monkeypatch):
    """Which parts were measured, each time with another value."""
    found = []

    def part(name, fails):
        def measure(_):
            found.append(name)
            if fails and found.count(name) == 1:
                raise OSError("the server went away")
            return Result(name, "", [Figure("f", "s", [len(found)])])

        return measure

    parts = {"one": part("one", False), "two": part("two", True)}
    monkeypatch.setattr(bench, "PARTS", parts)
    monkeypatch.setattr(bench, "describe_machine", lambda: dict(MACHINE))
    return found


def parts_in(path):
    return json.loads(path.read_text("utf-8"))["parts"]


def test_what_failed_is_run_again_and_the_rest_is_kept(ran, tmp_path):
    path = tmp_path / "figures.json"
    arguments = ["--json", str(path)]
    assert bench.main(arguments) == 1
    assert ran == ["one", "two"]
    before = parts_in(path)
    assert bench.main([*arguments, "--resume"]) == 0
    assert ran == ["one", "two", "two"]
    assert parts_in(path)["one"] == before["one"]
    assert bench.main(arguments) == 0
    assert ran == ["one", "two", "two", "one", "two"]


def test_other_arguments_are_refused(ran, tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert bench.main(["--json", str(path), "one"]) == 0
    before = path.read_text("utf-8")
    with pytest.raises(SystemExit) as ended:
        bench.main(["--json", str(path), "--resume", "--quick", "one"])
    assert ended.value.code == 2
    assert "arguments: one" in capsys.readouterr().err
    assert path.read_text("utf-8") == before


def test_other_code_is_refused(ran, tmp_path, capsys, monkeypatch):
    path = tmp_path / "figures.json"
    monkeypatch.setattr(bench, "revision", lambda what: "before")
    assert bench.main(["--json", str(path)]) == 1
    monkeypatch.setattr(bench, "revision", lambda what: "after")
    with pytest.raises(SystemExit):
        bench.main(["--json", str(path), "--resume"])
    assert "code: before" in capsys.readouterr().err
    assert ran == ["one", "two"]


def test_nothing_to_resume_from(ran, tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.main(["--resume"])
    assert "--resume needs --json" in capsys.readouterr().err
    path = tmp_path / "new.json"
    assert bench.main(["--resume", "--json", str(path), "one"]) == 0
    assert ran == ["one"]
