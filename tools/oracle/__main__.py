"""Try whether a failover can be told from what the rules do.

::

    export PYTHONPATH=tools
    python -m oracle [--examples N] [--seed N] [--replay FILE]

Each example is a rulebook and a script; the package says what is done with
it. Prints each that differs, made as small as possible: as a line of JSON
that --replay reads. Exits with 1 if there was one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rig import program

from ansible_rulebook.ha.engine.bridge import Bridge

from .case import Case
from .comparison import refused, run
from .engine import start_engine
from .errors import Difference
from .examples import explore
from .sessions import done

EVERY = 30.0  # seconds from one word about the progress to the next


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oracle", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=Path, metavar="FILE")
    return parser


def main() -> int:
    options = get_parser().parse_args()
    bridge = start_engine()
    if options.replay is not None:
        return replay(bridge, options.replay)
    begun = told = time.monotonic()
    differences = 0
    for found in explore(bridge, options.examples, options.seed):
        if found:
            differences += 1
            print(found, flush=True)
        if time.monotonic() - told > EVERY:
            told = time.monotonic()
            print(f"{told - begun:.0f} s, {counts()}", flush=True)
    for why, count in refused.items():
        print(f"refused by Drools: {count} times {why}")
    print(
        f"seed {options.seed}, {time.monotonic() - begun:.0f} s, {counts()}, "
        f"{differences} differences"
    )
    return 1 if differences else 0


def counts() -> str:
    return ", ".join(f"{count} {what}" for what, count in done.items())


def replay(bridge: Bridge, file: Path) -> int:
    differences = 0
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("[["):
            continue
        try:
            run(bridge, Case.from_json(line))
        except Difference as error:
            differences += 1
            print(error)
    print(f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    program.run(main)
