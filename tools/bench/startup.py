"""What the extension adds to the start of every Python interpreter.

Two environments that are the same, but that one has the ``.pth`` line and
the module it loads; they take turns with ``python -c pass``.
"""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

from .report import Figure, Goal, Result
from .setting import Setting

MODULE = "_ansible_rulebook_ha"
FINDER = "AnsibleRulebookHA"  # that the .pth line puts in place
PTH = "ansible_rulebook_ha.pth"
GOAL = 1.0  # ms
WARM_UP = 5  # starts of each


def make_venv(folder: Path) -> tuple[Path, Path]:
    """An empty environment: its Python, and where packages go."""
    venv.create(folder, symlinks=True, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    return folder / "bin" / "python", site


def our_files() -> list[Path]:
    """The files that a wheel puts into site-packages, for every start."""
    spec = importlib.util.find_spec(MODULE)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"{MODULE} is not installed")
    module = Path(spec.origin)
    # In an editable install both are still in the project's folder.
    return [module, module.with_name(PTH)]


def one_start(python: Path) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    subprocess.run([str(python), "-c", "pass"], check=True)
    return (time.perf_counter() - began) * 1e3


def measure(setting: Setting) -> Result:
    rounds = setting.pick(200, 40)
    root = setting.folder("startup")
    # Names of one length: the search path is no longer for either.
    extended, site = make_venv(root / "with")
    plain, _ = make_venv(root / "sans")
    for path in our_files():
        shutil.copy(path, site / path.name)
    check = (
        "import sys; sys.exit(not any(getattr(each, '__name__', '') == "
        f"{FINDER!r} for each in sys.meta_path))"
    )
    for python, code in ((extended, 0), (plain, 1)):
        found = subprocess.run([str(python), "-c", check], check=False)
        if found.returncode != code:
            raise RuntimeError("the two environments are not as they should")
    times: dict[Path, list[float]] = {extended: [], plain: []}
    setting.say(f"{rounds} rounds")
    for number in range(WARM_UP + rounds):
        pair = (extended, plain) if number % 2 else (plain, extended)
        for python in pair:
            taken = one_start(python)
            if number >= WARM_UP:
                times[python].append(taken)
    ours = Figure("with the extension", "ms", times[extended])
    without = Figure("without", "ms", times[plain])
    added = [a - b for a, b in zip(times[extended], times[plain])]
    return Result(
        "startup",
        "python -c pass",
        [ours, without],
        [
            Goal("apart, medians", ours.median - without.median, GOAL, "ms"),
            Goal("apart, minima", ours.least - without.least, GOAL, "ms"),
        ],
        [
            f"median of the pairs' differences: "
            f"{statistics.median(added):.3f} ms; "
            f"Python {sys.version.split()[0]}"
        ],
    )
