"""A bare election that records when it led; history.py reads the record.

The program::

    python -m rig.contender --dsn DSN --uuid UUID --worker-id w1 \\
        --record w1.jsonl --poll 1

takes these lines on standard input: ``step_down``, ``block SECONDS`` (blocks
the event loop), ``stop``. End of input stops it too, so it does not outlive
a test that died. Exit codes: 0 after a stop, 1 after an error.

A thread of its own asks ``is_leader()`` about every millisecond, so that the
record also tells what was true while the loop was blocked. It claims only
what it saw: a span runs from the end of its first true answer to the start
of its last one, an answer that was slow to come counts for nothing (the
process may have stood still inside it), and a pause between two answers
splits the span.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Callable

from rig.history import NANO, Record, read_record
from rig.process import Line, ManagedProcess

ELECTION = "ansible_rulebook.ha:LeaderElection"
SAMPLE = 0.001  # seconds between two questions while it leads
IDLE_SAMPLE = 0.005  # seconds between two while it follows
SLOW_ANSWER = 1_000_000  # ns; the instant of a slower one is not known
LONGEST_PAUSE = 20_000_000  # ns between two answers of one span
NO_RECORD = 70  # exit code: is_leader() could not be asked
SPAN_WIDTH = 112  # bytes of a span's line, which grows in place


class Recorder:
    """Appends rows to the record; the last span can still grow.

    Each row is one write to the file, so a SIGKILL leaves whole rows.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644
        )
        self._end = 0
        self._lock = threading.Lock()

    def add(self, kind: str, **values: Any) -> None:
        self._append(self._row(kind, values))

    def open_span(self, start: int, end: int, samples: int) -> int:
        """Write a span and return where, for grow_span()."""
        return self._append(self._span(start, end, samples))

    def grow_span(
        self, place: int, start: int, end: int, samples: int
    ) -> None:
        os.pwrite(self._file, self._span(start, end, samples), place)

    def close(self) -> None:
        os.close(self._file)

    def _append(self, row: bytes) -> int:
        with self._lock:
            place = self._end
            self._end += len(row)
            os.pwrite(self._file, row, place)
        return place

    def _span(self, start: int, end: int, samples: int) -> bytes:
        values = {"start": start, "end": end, "samples": samples}
        row = self._row("lead", values)
        return row[:-1].ljust(SPAN_WIDTH - 1) + b"\n"

    @staticmethod
    def _row(kind: str, values: Mapping[str, Any]) -> bytes:
        return json.dumps({"kind": kind, **values}).encode() + b"\n"


class SpanBuilder:
    """Makes spans of answers; decides only, knows no clock and no file."""

    def __init__(self) -> None:
        self.start = self.end = 0
        self.samples = 0  # 0: no span is open
        self.slow = 0  # true answers that count for nothing

    def answer(self, asked: int, answered: int, leads: bool) -> str:
        """Take an answer: "none", "open", "grow" or "end" of a span."""
        if leads and answered - asked > SLOW_ANSWER:
            self.slow += 1
            leads = False
        if not leads:
            ended, self.samples = self.samples, 0
            return "end" if ended else "none"
        if self.samples and asked - self.end <= LONGEST_PAUSE:
            self.end = asked
            self.samples += 1
            return "grow"
        # The narrowest claim: led since it answered, until it was asked.
        self.start, self.end, self.samples = answered, asked, 1
        return "open"


class Sampler(threading.Thread):
    """Asks is_leader() all the time and records the answers."""

    def __init__(
        self, is_leader: Callable[[], bool], recorder: Recorder
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._is_leader = is_leader
        self._recorder = recorder
        self._spans = SpanBuilder()
        self._place: int | None = None  # of the open span's row
        self._closing = False
        self._hurry = threading.Event()
        self._lock = threading.Lock()

    def sample(self) -> bool:
        """Ask once, from any thread."""
        with self._lock:
            asked = time.monotonic_ns()
            leads = self._is_leader()
            answered = time.monotonic_ns()
            before = self._spans.samples, self._spans.start
            step = self._spans.answer(asked, answered, leads)
            if step in ("open", "end"):
                self._finish(*before)
            elif step == "grow":
                self._write()
        return leads

    def hurry(self) -> None:
        """Something changes: ask now, not at the next turn."""
        self._hurry.set()

    def close(self) -> None:
        self._closing = True
        self._hurry.set()
        self.join()
        with self._lock:
            self._finish(self._spans.samples, self._spans.start)
            if self._spans.slow:
                self._recorder.add("slow", answers=self._spans.slow)

    def run(self) -> None:
        try:
            while not self._closing:
                if self.sample():
                    time.sleep(SAMPLE)
                elif self._hurry.wait(IDLE_SAMPLE):
                    self._hurry.clear()
        except BaseException as exc:
            # A contender without a record would look like a follower.
            self._recorder.add("error", text=repr(exc), at=time.monotonic_ns())
            traceback.print_exc()
            os._exit(NO_RECORD)

    def _write(self) -> None:
        spans = self._spans
        if spans.end < spans.start:
            return
        row = spans.start, spans.end, spans.samples
        if self._place is None:
            self._place = self._recorder.open_span(*row)
        else:
            self._recorder.grow_span(self._place, *row)

    def _finish(self, samples: int, start: int) -> None:
        """The span is over; what had one answer alone is a point."""
        if samples and self._place is None:
            self._recorder.add("point", at=start)
        self._place = None


class Contender:
    """One election and its record."""

    def __init__(
        self,
        make_election: Callable[..., Any],
        options: argparse.Namespace,
        recorder: Recorder,
    ) -> None:
        self._recorder = recorder
        self._stop = asyncio.Event()
        self._commands: asyncio.Queue[str] = asyncio.Queue()
        self._election = make_election(
            options.dsn,
            options.uuid,
            worker_id=options.worker_id,
            poll_interval=options.poll,
            lease_duration=options.lease,
            on_promotion=self._promoted,
            on_demotion=self._demoted,
        )
        self._sampler = Sampler(self._election.is_leader, recorder)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        reader = threading.Thread(
            target=self._read, args=(loop,), name="stdin", daemon=True
        )
        reader.start()
        self._sampler.start()
        tasks: list[asyncio.Task[None]] = []
        try:
            async with self._election as election:
                works = (
                    self._watch(election),
                    self._obey(election),
                    self._until(election.shutdown_event),
                    self._until(self._stop),
                )
                tasks = [asyncio.ensure_future(work) for work in works]
                done, _ = await asyncio.wait(
                    tasks, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._role("shutdown")
            self._sampler.close()

    def _role(self, role: str) -> None:
        at = time.monotonic_ns()
        self._sampler.hurry()
        self._recorder.add("role", role=role, at=at)
        print("role", role, at, flush=True)

    # The callbacks stay inside the transition, so each asks at once.

    async def _promoted(self, *_: object) -> None:
        self._callback("promotion")

    async def _demoted(self, *_: object) -> None:
        self._callback("demotion")

    def _callback(self, name: str) -> None:
        leads = self._sampler.sample()
        self._recorder.add(
            "callback", name=name, at=time.monotonic_ns(), leads=leads
        )
        self._sampler.hurry()

    async def _watch(self, election: Any) -> None:
        roles = (
            ("follower", election.follower_event),
            ("leader", election.leader_event),
        )
        while True:
            for role, event in roles:
                await event.wait()
                self._role(role)
                self._sampler.sample()

    @staticmethod
    async def _until(event: asyncio.Event) -> None:
        await event.wait()

    async def _obey(self, election: Any) -> None:
        while True:
            line = await self._commands.get()
            self._recorder.add("command", text=line, at=time.monotonic_ns())
            word, _, value = line.partition(" ")
            if word == "step_down":
                await election.step_down()
                print("done step_down", flush=True)
            elif word == "block":
                self._block(float(value))
            elif word == "stop":
                return
            else:
                raise ValueError(f"no such command: {line!r}")

    @staticmethod
    def _block(seconds: float) -> None:
        time.sleep(seconds)
        print("done block", flush=True)

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            if line.strip():
                loop.call_soon_threadsafe(
                    self._commands.put_nowait, line.strip()
                )
        loop.call_soon_threadsafe(self._stop.set)


class ContenderProcess(ManagedProcess):
    """The program above, driven by a test."""

    def __init__(
        self,
        dsn: str,
        ha_uuid: str,
        worker_id: str,
        *,
        root: Path,
        poll: float = 1.0,
        lease: float | None = None,
        election: str = ELECTION,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.worker_id = worker_id
        self.record_path = root / f"{worker_id}.jsonl"
        argv = [sys.executable, "-m", "rig.contender", "--dsn", dsn]
        argv += ["--uuid", ha_uuid, "--worker-id", worker_id]
        argv += ["--record", str(self.record_path), "--poll", str(poll)]
        argv += ["--election", election]
        if lease is not None:
            argv += ["--lease", str(lease)]
        tools = str(Path(__file__).resolve().parent.parent)
        paths = [tools, os.environ.get("PYTHONPATH", "")]
        path = os.pathsep.join(filter(None, paths))
        super().__init__(
            argv,
            name=worker_id,
            log=root / f"{worker_id}.log",
            env={**os.environ, "PYTHONPATH": path, **(env or {})},
            stdin=True,
        )

    @property
    def record(self) -> Record:
        return read_record(self.record_path)

    def twin(self, name: str) -> ContenderProcess:
        """The same contender once more, with log and record of its own."""
        other = super().twin(name)
        other.record_path = self.record_path.with_name(f"{name}.jsonl")
        place = other.argv.index("--record") + 1
        other.argv = list(other.argv)
        other.argv[place] = str(other.record_path)
        return other

    def step_down(self) -> None:
        self.say("step_down")

    def block(self, seconds: float) -> None:
        """Block its event loop; is_leader() is still asked meanwhile."""
        self.say(f"block {seconds}")

    def ask_stop(self) -> None:
        self.say("stop")

    def wait_role(
        self,
        role: str,
        timeout: float = 30.0,
        *,
        after: float | None = None,
    ) -> float:
        """Wait until it says "leader", "follower" or "shutdown".

        Returns the time of that by its own word, in seconds of
        time.monotonic(); `after` compares with the time of reading.
        """
        line: Line = self.wait_for(rf"^role {role} ", timeout, after=after)
        return int(line.text.split()[2]) * NANO


def load(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(
        importlib.import_module(module), attribute
    )
    return found


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rig.contender")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--uuid", required=True)
    parser.add_argument("--worker-id", required=True)
    parser.add_argument("--record", required=True, type=Path)
    parser.add_argument("--poll", type=float, default=5.0)
    parser.add_argument("--lease", type=float, default=None)
    parser.add_argument("--election", default=ELECTION, help="module:class")
    return parser


async def contend(options: argparse.Namespace, recorder: Recorder) -> None:
    # Made inside the loop: on Python 3.9 an Event binds to a loop at once.
    await Contender(load(options.election), options, recorder).run()


def main(argv: Sequence[str] | None = None) -> int:
    options = get_parser().parse_args(argv)
    recorder = Recorder(options.record)
    recorder.add(
        "contender",
        name=options.worker_id,
        pid=os.getpid(),
        started=time.monotonic_ns(),
    )
    try:
        asyncio.run(contend(options, recorder))
    except Exception as exc:
        recorder.add("error", text=repr(exc), at=time.monotonic_ns())
        traceback.print_exc()
        return 1
    recorder.add("exit", at=time.monotonic_ns())
    recorder.close()
    return 0


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s - %(message)s")
    sys.exit(main())
