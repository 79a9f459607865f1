"""Variables with which workers start in less time, and act the same.

A worker's start takes two seconds of a processor, and tests start hundreds.
One is Java's, which reads and verifies the same classes each time; half a one
is ansible-galaxy's, which upstream asks the same question each time.
Run as a program, this makes the archive of these classes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from rig.workers import worker_env

HERE = Path(__file__)
# Most of what is compiled further is not run often enough to be worth it.
OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
QUESTION = ["collection", "list", "eda.builtin"]
LIMIT = 120  # seconds, to make the archive on a busy machine


def quick_start(folder: Path) -> dict[str, str]:
    """What is made once is in this folder, which processes may share."""
    with open(folder / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        archive, programs = folder / "classes.jsa", folder / "programs"
        if not programs.exists():
            _make_archive(archive)
            _make_galaxy(programs)
    options = OPTIONS
    # A Java without an archive of its own cannot make another.
    if archive.exists():
        options += f" -XX:SharedArchiveFile={archive} -Xlog:disable"
    path = worker_env()["PATH"]
    return {
        "JAVA_TOOL_OPTIONS": options,
        "PATH": os.pathsep.join((str(programs), path)),
    }


def _make_archive(archive: Path) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        subprocess.run(
            [sys.executable, str(HERE), str(archive)],
            env=worker_env({"PYTHONPATH": os.pathsep.join(sys.path)}),
            check=True,
            capture_output=True,
            timeout=LIMIT,
        )


def _make_galaxy(programs: Path) -> None:
    programs.mkdir()
    real = shutil.which("ansible-galaxy", path=worker_env()["PATH"])
    if real is None:
        return
    answer = programs / "answer"
    with answer.open("wb") as file:
        code = subprocess.run(
            [real, *QUESTION],
            env=worker_env(),
            stdout=file,
            stderr=subprocess.STDOUT,
        ).returncode
    script = programs / "ansible-galaxy"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$*" = "{" ".join(QUESTION)}" ] || exec "{real}" "$@"\n'
        f'cat "{answer}"\n'
        f"exit {code}\n",
        "utf-8",
    )
    script.chmod(0o755)


def _train(archive: str) -> None:
    """Have Java load what a worker needs, and store it at its end."""
    from ansible_rulebook.json_generator import visit_ruleset
    from ansible_rulebook.util import get_java_home
    from drools.ruleset import Ruleset, RulesetCollection

    os.environ["JAVA_HOME"] = get_java_home() or ""
    os.environ["JAVA_TOOL_OPTIONS"] = (
        f"{OPTIONS} -XX:ArchiveClassesAtExit={archive}"
    )
    # Java tells of matches through it.
    channel = ("localhost", RulesetCollection.response_port())
    yaml: Any = import_module("yaml")
    parser: Any = import_module("ansible_rulebook.rules_parser")
    rulebook = HERE.parents[1] / "e2e" / "rulebooks" / "state.yml"
    rulesets = yaml.safe_load(rulebook.read_text("utf-8"))
    with socket.create_connection(channel):
        for parsed in parser.parse_rule_sets(rulesets):
            definition = visit_ruleset(parsed, {})
            text = json.dumps(definition.get("RuleSet", definition))
            ruleset = Ruleset(parsed.name, text)
            event = {"do": "nothing", "meta": {"uuid": "one"}}
            ruleset.assert_event(json.dumps(event))
            ruleset.get_facts()
            ruleset.end_session()
    # Python ends without Java's end.
    import_module("jpy").get_type("java.lang.System").exit(0)


if __name__ == "__main__":
    _train(sys.argv[1])
