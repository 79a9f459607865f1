"""Many schedules, several at a time, and a file that has what was done."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import active_children, get_context
from multiprocessing.managers import DictProxy
from pathlib import Path
from typing import Any, Callable

from rig import program

from .run import Task, run
from .summary import Summary, summary_of

TRACEBACK = "traceback"  # the file that has what went wrong in a tool
LOOK_EVERY = 0.5  # seconds between two looks at how far they are


@dataclass
class Campaign:
    """What is to be done, and what was.

    :param about: what has to be the same for all schedules: two campaigns
        with another one do not go together.
    """

    about: Mapping[str, Any]
    summaries: list[Summary] = field(default_factory=list)

    def save(self, path: Path, more: Mapping[str, Any]) -> None:
        """Write all of it, and whatever else is to be in the file."""
        head = json.dumps({**self.about, **more}, indent=1)
        done = sorted(self.summaries, key=lambda each: each.seed)
        # One line each: there may be thousands of faults.
        lines = ",\n  ".join(json.dumps(each.as_json()) for each in done)
        text = f'{head[:-2]},\n "schedules": [\n  {lines}\n ]\n}}\n'
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, "utf-8")
        new.replace(path)

    def load(self, path: Path) -> None:
        """Take in what such a file has.

        :raises ValueError: if that is of another campaign.
        """
        content = json.loads(path.read_text("utf-8"))
        for key, value in self.about.items():
            if content.get(key) != value:
                raise ValueError(
                    f"cannot go on with {path}: {key}: {content.get(key)}"
                )
        self.summaries += map(Summary.from_json, content["schedules"])

    def left(self, tasks: Sequence[Task]) -> list[Task]:
        """Those that are not done yet. One that was cut short is."""
        done = {each.seed for each in self.summaries}
        return [task for task in tasks if task.seed not in done]


def run_all(
    tasks: Sequence[Task],
    root: Path,
    jobs: int,
    keep: bool,
    say: Callable[[str], None],
) -> Iterator[Summary]:
    """Run schedules in processes of their own; each as soon as it ended.

    :param root: where their records are, in a folder each.
    :param jobs: how many at a time.
    :param keep: whether records are kept of which nothing was found.
    :param say: told how far they are.
    """
    context = get_context("spawn")
    with (
        context.Manager() as manager,
        ProcessPoolExecutor(
            jobs,
            mp_context=context,
            initializer=_prepare,
        ) as pool,
    ):
        told = manager.dict()
        others = active_children()
        running = {
            pool.submit(_run, task, root / f"seed-{task.seed}", keep, told)
            for task in tasks
        }
        try:
            while running:
                ended, running = wait(running, LOOK_EVERY, FIRST_COMPLETED)
                for each in ended:
                    yield each.result()
                say(progress(told))
        except BrokenProcessPool as error:
            raise RuntimeError(f"a schedule's process died: {error}") from None
        except BaseException:
            # Each has servers and workers to end.
            for child in active_children():
                if child not in others:
                    child.terminate()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def progress(told: DictProxy[int, str]) -> str:
    """How far each schedule is that runs."""
    # All at once: one that ends meanwhile takes its own away.
    return "; ".join(f"{seed}: {what}" for seed, what in told.copy().items())


def _prepare() -> None:
    """Clean up when told, once: Ctrl-C is told to all of a terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    program.clean_up_when_terminated()


def _run(task: Task, folder: Path, keep: bool, told: Any) -> Summary:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = run(task, folder, partial(told.__setitem__, task.seed))
    except KeyboardInterrupt:
        os._exit(program.EXIT_INTERRUPTED)  # or it takes the next one
    except Exception as error:
        (folder / TRACEBACK).write_text(traceback.format_exc(), "utf-8")
        return Summary(
            task.seed, tuple(sorted(task.has)), 0.0, f"{error!r} in {folder}"
        )
    finally:
        told.pop(task.seed, None)
    found = summary_of(
        result.history,
        result.verdict,
        task.has,
        result.seconds,
        result.error,
    )
    if not (keep or found.found or found.error):
        shutil.rmtree(folder, ignore_errors=True)
    return found
