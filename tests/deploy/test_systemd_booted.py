"""Workers under a real systemd, with all of the unit's hardening."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator

import pytest
from booted import PACKAGES, PYTHON, Booted, CannotBoot
from e2e_support import PATIENCE, needs_state
from rig.tls import unverified
from rig.workers import java_home
from units import UNIT

HERE = UNIT.parent
ROOT = HERE.parents[1]
SYSTEM = "/etc/systemd/system"
ETC = "/etc/ansible-rulebook"
HOME = "/var/lib/ansible-rulebook"
NAMES = ("one", "two")  # as many workers of one cluster
# So that a test need not wait for long.
SOONER = """\
[Service]
WatchdogSec=6
RestartSec=1
Environment=LD_LIBRARY_PATH={python}/lib {java}
"""
RULEBOOK = """
- name: Work
  hosts: all
  sources:
    - eda.builtin.generic:
        payload: [{message: hello}]
        loop_count: -1
        loop_delay: 10
  rules:
    - name: Play
      condition: event.message is defined
      action:
        run_playbook:
          name: play.yml
"""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.command: sh -c 'echo begun >> %(name)s'
      args: {chdir: %(home)s}
    - ansible.builtin.command: sleep 3
    - ansible.builtin.command: sh -c 'echo done >> %(name)s'
      args: {chdir: %(home)s}
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    folder = tmp_path_factory.mktemp("booted")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "--disable-pip-version-check",
            "wheel", "--quiet", "--no-index", "--no-deps",
            "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT),
        ],
        check=True,
    )  # fmt: skip
    try:
        booted = Booted(folder)
    except CannotBoot as error:
        pytest.skip(str(error))
    try:
        (wheel,) = folder.glob("*.whl")
        booted.install(wheel)
        yield booted
    finally:
        booted.close()


@pytest.fixture
def workers(machine: Booted, dsn: str, ha_uuid: str) -> Iterator[Booted]:
    """Two that are up, installed as the guide says."""
    units = machine.path(SYSTEM)
    sysusers = machine.path("/etc/sysusers.d/ansible-rulebook.conf")
    sysusers.parent.mkdir(exist_ok=True)
    shutil.copy(HERE / "ansible-rulebook.sysusers", sysusers)
    shutil.copy(UNIT, units)
    drop_ins = units / f"{UNIT.name}.d"
    drop_ins.mkdir()
    java = java_home() or ""
    java = java.replace(sysconfig.get_path("purelib"), PACKAGES)
    (drop_ins / "sooner.conf").write_text(
        SOONER.format(python=PYTHON, java=f"JAVA_HOME={java}" if java else "")
    )
    for name in NAMES:
        folder = machine.path(f"{ETC}/{name}")
        shutil.copytree(HERE / "example", folder)
        (folder / "rulebook.yml").write_text(RULEBOOK)
        (folder / "play.yml").write_text(
            PLAYBOOK % {"home": HOME, "name": name}
        )
        settings = machine.path(f"{ETC}/{name}.env")
        settings.touch(0o600)
        settings.write_text(
            f"EDA_HA_UUID={ha_uuid}\n"
            f'EDA_HA_POSTGRES_DSN="{unverified(dsn)}"\n'
            f"EDA_HA_WORKER_ID={name}\nEDA_HA_LEASE=3\n"
            'OPTIONS="--ha-poll-interval 1 --shutdown-delay 60"\n'
        )
    machine.run("systemd-sysusers")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", *map(unit, NAMES))
    yield machine
    machine.run("systemctl", "stop", *map(unit, NAMES))


def unit(name: str) -> str:
    return f"ansible-rulebook@{name}.service"


def shown(machine: Booted, name: str, what: str) -> str:
    return machine.run("systemctl", "show", "-P", what, unit(name))


def leaders(machine: Booted) -> list[str]:
    return [
        name
        for name in NAMES
        if shown(machine, name, "StatusText").startswith("leader")
    ]


def count(machine: Booted, name: str, what: str) -> int:
    """How many playbooks of a worker have begun, or are done."""
    path = machine.path(f"{HOME}/{name}")
    return path.read_text().split().count(what) if path.exists() else 0


@needs_state
def test_it_plays_and_is_watched_and_drains(workers: Booted) -> None:
    machine = workers
    machine.until(lambda: len(leaders(machine)) == 1, "one leads", PATIENCE)
    (first,) = leaders(machine)
    (second,) = {*NAMES} - {first}
    machine.until(
        lambda: count(machine, first, "done") > 0, "it plays", PATIENCE
    )

    # All is closed.
    pid = shown(machine, first, "MainPID")
    status = machine.run("cat", f"/proc/{pid}/status")
    kept = dict(re.findall(r"(?m)^(\w+):\t(\w+)$", status))
    assert (kept["NoNewPrivs"], kept["Seccomp"]) == ("1", "2")
    assert not int(kept["CapBnd"], 16)

    # One that stands still is replaced, killed and started again.
    machine.run("kill", "-STOP", pid)
    machine.until(
        lambda: (
            leaders(machine) == [second]
            and shown(machine, first, "NRestarts") == "1"
            and shown(machine, first, "StatusText") == "follower"
        ),
        "the other one leads, and it follows",
        PATIENCE,
    )
    assert "Watchdog timeout" in machine.journal()

    # One that is told to end lets its playbook finish.
    machine.until(
        lambda: (
            count(machine, second, "begun") > count(machine, second, "done")
        ),
        "it plays",
        PATIENCE,
    )
    machine.run("systemctl", "stop", unit(second))
    assert shown(machine, second, "Result") == "success"
    begun = count(machine, second, "begun")
    assert count(machine, second, "done") == begun > 0
    machine.until(
        lambda: leaders(machine) == [first], "the first one leads", PATIENCE
    )
