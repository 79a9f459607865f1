"""The image's conventions, and a worker in a container without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container import FOLDER, HOME, UID, contained, obstacle
from e2e_support import PATIENCE, RULEBOOKS, SOURCES, until
from manifests import deployment
from rig.process import ManagedProcess, command_of, stat_fields
from rig.server import Server
from rig.tls import unverified
from rig.workers import ACQUIRED, java_home, script

from ansible_rulebook.ha.rulebook.guardian import VARIABLE

FILE = Path(__file__).parents[2] / "deploy" / "container" / "Containerfile"
TEXT = FILE.read_text("utf-8")

# Goes on in a session of its own, where no signal for its playbook reaches it.
STAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.raw: >
        setsid --wait sh -c 'echo "begin w stay" >> "$JOURNAL";
        until [ -e "$LET_GO" ]; do sleep 0.1; done'
"""
# Leaves a process behind that ends once the test has seen it.
LEAVE = f"""
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.raw: >
        setsid sh -c 'until [ -e {FOLDER}/seen ]; do sleep 0.1; done'
        < /dev/null > /dev/null 2>&1 &
"""


def instruction(name: str) -> str:
    """The last one of that name."""
    joined = TEXT.replace("\\\n", " ")
    found: list[str] = re.findall(rf"^{name} (.*)$", joined, re.MULTILINE)
    return found[-1]


def test_hadolint_has_nothing_to_say() -> None:
    beside = Path(script()[0]).with_name("hadolint")
    found = shutil.which("hadolint") or (beside.exists() and str(beside))
    if not found:
        pytest.skip("there is no hadolint; the extra lint has it")
    done = subprocess.run([found, str(FILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_keeps_to_the_conventions() -> None:
    assert instruction("USER") == "1001"  # Kubernetes sees that it is not 0
    assert "--uid 1001 --gid 0" in TEXT
    assert "/etc/passwd" not in TEXT
    assert json.loads(instruction("ENTRYPOINT")) == ["/usr/bin/tini", "--"]


def test_the_manifest_mounts_what_is_written_to() -> None:
    spec = deployment()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    writable = {
        each["mountPath"]
        for each in container["volumeMounts"]
        if not each.get("readOnly")
    }
    assert writable == {"/tmp", HOME}
    assert f"HOME={HOME}" in instruction("ENV")
    # Arguments, or the entry point would be replaced.
    assert "command" not in container


class Box:
    """A container, and the folder that it shares with the test."""

    def __init__(self, folder: Path, dsn: str, ha_uuid: str) -> None:
        self.dsn = dsn
        self.ha_uuid = ha_uuid
        self.folder = folder
        self.shared = folder / "shared"
        self.inbox = self.shared / "inbox"
        for each in (self.shared, self.inbox):
            each.mkdir()
            each.chmod(0o777)
        self.count = 0

    def make(self, init: list[str]) -> ManagedProcess:
        self.count += 1
        root = self.folder / f"root-{self.count}"
        root.mkdir()
        variables = {
            "INBOX": f"{FOLDER}/inbox",
            "JOURNAL": f"{FOLDER}/journal",
            "LET_GO": f"{FOLDER}/let-go",
            "WORKER": "w",
            "PLAYBOOK": f"{FOLDER}/playbook.yml",
        }
        given = dict(word.split("=", 1) for word in instruction("ENV").split())
        beside = os.path.dirname(script()[0])
        given["PATH"] = given["PATH"].replace(
            "/opt/ansible-rulebook/bin", beside
        )
        command = [
            *(*init, *script(), "-v", "--ha-uuid", self.ha_uuid),
            *("--ha-poll-interval", "1"),
            *("--rulebook", str(RULEBOOKS / "stage.yml")),
            *("--inventory", str(RULEBOOKS / "inventory.yml")),
            *("--source-dir", str(SOURCES)),
            *("--env-vars", ",".join(variables)),
        ]
        home = java_home() or os.environ.get("JAVA_HOME")
        return ManagedProcess(
            contained(
                command,
                root=root,
                shared=self.shared,
                environ={
                    **given,
                    **variables,
                    **({"JAVA_HOME": home} if home else {}),
                    "EDA_HA_POSTGRES_DSN": self.dsn,
                },
            ),
            name=f"container-{self.count}",
            log=self.folder / f"container-{self.count}.log",
            # What the container has, it has from its own environment.
            env={"PATH": os.environ["PATH"]},
        )

    def run(self, word: str, playbook: str | None = None) -> None:
        """Have the leader run a playbook."""
        text = playbook or (RULEBOOKS / "hold.yml").read_text("utf-8")
        (self.shared / "playbook.yml").write_text(text)
        draft = self.inbox / f"{word}.draft"
        draft.write_text(json.dumps({"do": "hold", "word": word}))
        draft.rename(draft.with_suffix(".json"))

    @property
    def journal(self) -> str:
        path = self.shared / "journal"
        return path.read_text("utf-8") if path.exists() else ""


@pytest.fixture
def box(dsn: str, ha_uuid: str, tmp_path: Path) -> Iterator[Box]:
    if obstacle():
        pytest.skip(obstacle())
    yield Box(tmp_path, unverified(dsn), ha_uuid)


def children(pid: int) -> dict[int, str]:
    """The state of each, by its process id."""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        fields = stat_fields(f"/proc/{entry}/stat")
        if fields and int(fields[1]) == pid:
            found[int(entry)] = fields[0]
    return found


def only_child(pid: int) -> int:
    (child,) = until(lambda: children(pid), f"a child of {pid}")
    return int(child)


def playbooks(init: int) -> list[int]:
    """The processes of actions in the container."""
    found, left = [], [init]
    while left:
        pid = left.pop()
        left += children(pid)
        try:
            environ = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"{VARIABLE}=".encode() in environ:
            found.append(pid)
    return found


def test_a_worker_is_at_home_in_a_container(box: Box, server: Server) -> None:
    tini = shutil.which("tini")
    if tini is None:
        pytest.skip("there is no tini")
    with box.make([tini, "--"]) as container:
        container.wait_for(ACQUIRED, PATIENCE)
        init = only_child(container.pid)
        worker = only_child(init)
        status = Path(f"/proc/{worker}/status").read_text()
        assert f"Uid:\t{UID}" in status and "Gid:\t0\t" in status
        assert "CapBnd:\t0000000000000000" in status
        assert not container.find("is process 1")

        # The DSN is wiped, though nobody may see much in this /proc.
        environ = Path(f"/proc/{worker}/environ").read_bytes()
        assert box.dsn.encode() not in environ
        assert b"EDA_HA_POSTGRES_DSN=***" in environ

        # A playbook ends with its term.
        box.run("stay", STAY)
        until(lambda: "begin w stay" in box.journal, "the playbook")
        assert playbooks(init)
        lost = len(container.find("Lost leadership"))
        assert server.terminate("eda-ha:%:%:%", dsn=box.dsn) >= 1
        container.wait_for("Lost leadership", PATIENCE, count=lost + 1)
        until(lambda: not playbooks(init), "its end")
        container.wait_for(ACQUIRED, PATIENCE, count=2)

        # What a playbook leaves behind is reaped when it ends.
        (box.shared / "let-go").touch()
        box.run("two", LEAVE)
        left = until(
            lambda: [
                pid
                for pid in children(init)
                if command_of(pid).startswith(b"sh\0-c\0until ")
            ],
            "an orphan",
        )
        (box.shared / "seen").touch()
        until(lambda: not set(left) & children(init).keys(), "no zombie")

        # SIGTERM reaches the worker, and it drains.
        (box.shared / "let-go").unlink()
        box.run("three")
        until(lambda: "begin w three" in box.journal, "the playbook")
        os.kill(init, signal.SIGTERM)
        container.wait_for("Draining", PATIENCE)
        (box.shared / "let-go").touch()
        assert container.wait_exit(PATIENCE) == 0
        assert "end w three" in box.journal
    assert box.dsn not in container.text


def test_a_worker_without_an_init_says_so(box: Box) -> None:
    with box.make([]) as container:
        container.wait_for("is process 1", PATIENCE)
