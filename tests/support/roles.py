"""Roles of the server, and a rulebook that needs all that a role can do."""

from __future__ import annotations

import subprocess
import sys
import uuid

from e2e_support import PATIENCE
from psycopg.conninfo import make_conninfo
from rig.server import Server, database_of
from rig.workers import worker_env
from rules import LEARN, SAY, after, rulebook

REQUIRED = ("--ha-state", "required")
WITHOUT = "The rules' state will not survive a failover"
PASSWORD = "sesame"
RULEBOOK = rulebook(
    "Rights",
    SAY,
    """
    - name: Pair
      condition:
        all:
          - events.first << event.do == "first"
          - events.second << event.do == "second"
      action:
        debug:
          msg: "pair {{ events.first.word }} {{ events.second.word }}"
""",
    LEARN,
    """
    - name: Ask
      condition:
        all:
          - events.question << event.do == "ask"
          - events.answer << fact.known is defined
      action:
        debug:
          msg: "knows {{ events.answer.known }}"
""",
    after(1),
    """
    - name: Steps
      condition: event.do == "steps"
      actions:
        - debug:
            msg: "before {{ event.word }}"
        - run_playbook:
            name: "{{ PLAYBOOK }}"
            copy_files: false
            extra_vars:
              word: "{{ event.word }}"
        - debug:
            msg: "after {{ event.word }}"
""",
)


class Role:
    """A role that may connect, and what it is given."""

    def __init__(self, server: Server, owner: str) -> None:
        self.server = server
        self.owner = owner
        self.name = f"worker_{uuid.uuid4().hex[:8]}"
        self.database = database_of(owner)
        self.dsn = make_conninfo(owner, user=self.name, password=PASSWORD)
        self.do(f"CREATE ROLE {self.name} LOGIN PASSWORD '{PASSWORD}'")
        self.do(f"REVOKE ALL ON DATABASE {self.database} FROM PUBLIC")
        self.do("REVOKE ALL ON SCHEMA public FROM PUBLIC")

    def may_connect(self) -> None:
        """What everybody may do by default, but in this database not."""
        self.do(
            f"GRANT CONNECT, TEMPORARY ON DATABASE {self.database}"
            f" TO {self.name}"
        )
        self.do(f"GRANT USAGE ON SCHEMA public TO {self.name}")

    def do(self, statement: str) -> None:
        self.server.query(statement, dsn=self.owner)

    def give_what_init_db_prints(self) -> None:
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "ansible_rulebook.ha.operations.commands",
                ),
                *("init-db", "--worker-role", self.name),
            ],
            env=worker_env({"EDA_HA_POSTGRES_DSN": self.owner}),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        self.do(done.stdout)
