"""The only module that knows upstream's names.

Upstream (``ansible_rulebook`` 1.1 to 1.3) is extended by replacing a few of
its module-level names, and only in a run that has HA options. Each is
checked first: a version that lacks one is refused with the name of it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import inspect
import json
import logging
import os
import runpy
import sys
import tokenize
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Callable, NoReturn

from .errors import OptionError, RulesetDied, UpstreamChanged
from .options import DSN, HaOptions, add_arguments, read_options
from .own_process import hide
from .redaction import mask_password

logger = logging.getLogger(__name__)

DISTRIBUTION = "ansible-rulebook-ha"
UPSTREAM = "ansible-rulebook"
LONGEST_TURN = 0.02  # seconds that matches may take the event loop for
EXIT_USAGE = 2
EXIT_ERROR = 1
TERM_VARIABLE = "EDA_HA_TERM"  # of a playbook: its fencing token
PEXPECT_TIMEOUT = 0.2  # seconds; a cancelled playbook blocks the loop so long

PLAYBOOKS = ("run_playbook", "run_module")
# Their job on the controller is found again by the record of their start.
TEMPLATES = ("run_job_template", "run_workflow_template")

# The coroutine of an action's task: the first of these that there is.
ACTION_ENTRIES = ("_call_action_with_semaphore", "_call_action")

_telling: set[asyncio.Future[None]] = set()  # of a shutdown: full queues

# Where each seam is, and the parameters that we rely on.
SEAMS: dict[str, tuple[str, ...]] = {
    "ansible_rulebook.app.run": ("parsed_args",),
    "ansible_rulebook.app.run_rulesets": ("event_log", "ruleset_queues"),
    "ansible_rulebook.engine.runpy": (),
    "ansible_rulebook.engine.monitor_rulebook": ("rulebook_file",),
    "ansible_rulebook.engine.RuleSetRunner.__init__": (
        "self",
        "event_log",
        "ruleset_queue_plan",
        "hosts_facts",
    ),
    "ansible_rulebook.engine.RuleSetRunner.run_ruleset": ("self",),
    "ansible_rulebook.engine.RuleSetRunner._run_action": (
        "self",
        "action",
        "action_item",
        "rule_run_at",
    ),
    "ansible_rulebook.engine.RuleSetRunner._call_action": ("self", "action"),
    "ansible_rulebook.engine.RuleSetRunner._drain_source_queue": ("self",),
    "ansible_rulebook.engine.RuleSetRunner._run_multiple_actions": (
        "self",
        "action_item",
        "rule_run_at",
    ),
    "ansible_rulebook.engine.establish_async_channel": (),
    "ansible_rulebook.engine.handle_async_messages": ("reader", "writer"),
    "ansible_rulebook.engine.broadcast": ("shutdown",),
    "ansible_rulebook.engine.all_source_queues": (),
    "ansible_rulebook.engine.FilteredQueue": ("filters", "queue"),
    "ansible_rulebook.messages.Shutdown": ("message", "delay", "kind"),
    "ansible_rulebook.rule_set_runner.ACTION_CLASSES": (),
    "ansible_rulebook.rule_set_runner.prime_facts": ("name", "hosts_facts"),
    "ansible_rulebook.action.run_playbook.RunPlaybook.__call__": ("self",),
    "ansible_rulebook.action.run_playbook.Runner.__init__": (
        "self",
        "runner_args",
    ),
    "ansible_rulebook.action.run_playbook.Runner.__call__": ("self",),
    "ansible_rulebook.conf.settings": (),
    "drools.ruleset.Ruleset.start_session": ("self",),
    "drools.ruleset.Ruleset.end_session": ("self",),
    "drools.ruleset.RulesetCollection.shutdown": (),
    "drools.dispatch.Dispatch": ("session_id", "serialized_result"),
}

# What the state needs on top of that. Upstream has it from 1.3 on.
STATE_SEAMS: dict[str, tuple[str, ...]] = {
    "ansible_rulebook.engine.enable_persistence": (
        "parsed_args",
        "variables",
    ),
    "ansible_rulebook.engine.enable_leader": (),
    "ansible_rulebook.persistence._get_config_params": ("variables",),
    "ansible_rulebook.rule_set_runner.get_action_a_priori": (),
    "ansible_rulebook.rule_set_runner.update_action_info": (
        "rule_set",
        "matching_uuid",
        "index",
        "info",
        "create",
    ),
    "ansible_rulebook.action.helper.update_action_info": (),
    "drools.ruleset.Ruleset._dispatch": ("self", "rule_match"),
}


# -- every run of the command ----------------------------------------------


def graft_cli(cli: Any) -> None:
    """Give ``ansible_rulebook.cli`` the HA options.

    Called by the start-up module when the command has been imported, and a
    second time if our script started it.
    """
    if cli.get_parser.__module__ == __name__:
        return
    upstream_parser = cli.get_parser
    upstream_validate = cli.validate_args

    def get_parser() -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = upstream_parser()
        add_arguments(parser)
        _show_version(parser)
        _mask_errors(parser)
        return parser

    def validate_args(args: argparse.Namespace) -> None:
        upstream_validate(args)
        try:
            options = read_options(args, os.environ)
        except OptionError as error:
            _exit(EXIT_USAGE, str(error))
        if options is not None:
            setattr(args, DSN.dest, None)  # logs may show it
            hide(options.conninfo)
            try:
                install(options)
            except UpstreamChanged as error:
                _exit(EXIT_ERROR, str(error))

    cli.get_parser = get_parser
    cli.validate_args = validate_args


def _exit(code: int, message: str) -> NoReturn:
    print(f"ansible-rulebook: error: {message}", file=sys.stderr)
    raise SystemExit(code)


def _mask_errors(parser: argparse.ArgumentParser) -> None:
    """A mistyped flag is repeated in the error, and its value with it."""
    upstream_error = parser.error

    def error(message: str) -> NoReturn:
        upstream_error(mask_password(message))

    parser.error = error  # type: ignore[method-assign]


def _show_version(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._VersionAction):
            action.version = f"{action.version}\n{DISTRIBUTION} [{_own()}]"


def _own() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "not installed"


# -- a run with HA options ---------------------------------------------------


def install(options: HaOptions) -> None:
    """Replace upstream's names, so that its next run is a cluster's worker.

    :raises UpstreamChanged: naming the seam and upstream's version.
    """
    for path, parameters in SEAMS.items():
        _check(path, parameters)
    app, engine = _upstream("app"), _upstream("engine")
    rule_set_runner = _upstream("rule_set_runner")
    upstream = _Upstream(options)
    app.run = upstream.wrap_run(app.run)
    app.run_rulesets = upstream.wrap_run_rulesets(app.run_rulesets)
    engine.runpy = upstream
    engine.monitor_rulebook = upstream.wrap_monitor(engine.monitor_rulebook)
    engine.RuleSetRunner = upstream.fence_runner(engine.RuleSetRunner)
    engine.establish_async_channel = upstream.wrap_channel(
        engine.establish_async_channel
    )
    engine.handle_async_messages = upstream.handle_async_messages
    engine.broadcast = broadcast
    if _lacks_state() is None:
        engine.enable_persistence = upstream.attach_state
        engine.enable_leader = _stay_follower
        rule_set_runner.get_action_a_priori = upstream.look_up_action
        rule_set_runner.update_action_info = upstream.update_action
        _upstream("action.helper").update_action_info = upstream.update_action
    run_playbook = _upstream("action.run_playbook")
    run_playbook.Runner = upstream.guard_runner(run_playbook.Runner)
    actions = rule_set_runner.ACTION_CLASSES
    for name, action in list(actions.items()):
        if name in TEMPLATES:
            action = watch_anew(action)
        has_effects = name in PLAYBOOKS + TEMPLATES
        action = upstream.fence_action(action, has_effects)
        if name in PLAYBOOKS:
            action = upstream.keep_folder(action)
        actions[name] = action


def _lacks_state() -> str | None:
    """Why this upstream cannot keep state, or None if it can."""
    for path, parameters in STATE_SEAMS.items():
        problem = _problem(path, parameters)
        if problem:
            return (
                f"{UPSTREAM} {version(UPSTREAM)} cannot keep it, that takes "
                f"1.3 ({path} {problem})"
            )
    return None


def _problem(path: str, parameters: tuple[str, ...]) -> str:
    """What is wrong with a seam, if anything."""
    module, *names = _split(path)
    found: Any = module
    for name in names:
        found = getattr(found, name, None)
    if found is None:
        return "is missing"
    if parameters:
        present = list(inspect.signature(found).parameters)
        lacking = [name for name in parameters if name not in present]
        if lacking:
            return f"has no parameter {', '.join(lacking)}"
    return ""


def _check(path: str, parameters: tuple[str, ...]) -> None:
    problem = _problem(path, parameters)
    if problem:
        raise UpstreamChanged(
            f"{path} {problem} in {UPSTREAM} {version(UPSTREAM)}, which "
            f"{DISTRIBUTION} {_own()} cannot extend: install versions of "
            "both that fit, or run without --ha-postgres-dsn"
        )


def _split(path: str) -> list[Any]:
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        return [module, *parts[count:]]
    return [None, *parts]


def _upstream(module: str) -> Any:
    return importlib.import_module(f"ansible_rulebook.{module}")


class _Upstream:
    """What we put in place of upstream's names. One per run."""

    def __init__(self, options: HaOptions) -> None:
        self._options = options
        self._worker: Any = None

    # -- app ---------------------------------------------------------------

    def wrap_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """``app.run`` inside the worker's life; it calls itself on reload."""

        async def run_as_worker(parsed_args: argparse.Namespace) -> None:
            if self._worker is not None:
                # The old queues have no reader: a message would stay there.
                _upstream("engine").all_source_queues.clear()
                self._worker.reload()
                await run(parsed_args)
                return
            from .worker import Worker

            _speak_up()
            self._worker = Worker(
                self._options,
                parsed_args.shutdown_delay,
                _make_gate,
                _shut_down,
                self.deliver,
                _lacks_state(),
            )
            await self._worker.run(lambda: self._start(run, parsed_args))

        return run_as_worker

    def _start(
        self, run: Callable[..., Any], parsed_args: argparse.Namespace
    ) -> Any:
        """Upstream's run, which takes feedback sources only with state."""
        own = getattr(parsed_args, "persistence_id", None)
        if own:
            logger.warning(
                "--persistence-id %s is ignored: --ha-uuid names the state, "
                "and --ha-postgres-dsn says where it is kept",
                own,
            )
            parsed_args.persistence_id = None
        _upstream("conf").settings.persistence_id = (
            None if self._worker.state is None else str(self._options.ha_uuid)
        )
        return run(parsed_args)

    def wrap_run_rulesets(
        self, run_rulesets: Callable[..., Any]
    ) -> Callable[..., Any]:
        """``app.run_rulesets``: an engine that died is an error."""

        async def run_watched(*args: Any, **kwargs: Any) -> Any:
            try:
                reload = await run_rulesets(*args, **kwargs)
            except asyncio.InvalidStateError:
                # With hot reload upstream asks for the monitor's outcome
                # even when it is a ruleset that has died.
                reload = False
            died = [
                ruleset.name
                for ruleset in self._worker.rulesets.ended_unasked()
            ]
            if died and not reload and not self._worker.is_leaving:
                raise RulesetDied(
                    f"the engine of {', '.join(died)} ended unasked"
                )
            return reload

        return run_watched

    # -- engine ------------------------------------------------------------

    def wrap_monitor(self, monitor: Callable[..., Any]) -> Callable[..., Any]:
        """``engine.monitor_rulebook`` that ends with the last ruleset.

        Upstream waits for both together, so with hot reload a rulebook that
        has ended would keep its worker, and with it the lock, for ever.
        """

        async def monitor_while_running(rulebook_file: str) -> None:
            watching = asyncio.ensure_future(monitor(rulebook_file))
            over = asyncio.ensure_future(self._worker.rulesets.over.wait())
            try:
                await asyncio.wait(
                    {watching, over}, return_when=asyncio.FIRST_COMPLETED
                )
                if not over.done():
                    watching.result()
            finally:
                over.cancel()
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

        return monitor_while_running

    def wrap_channel(
        self, establish: Callable[..., Any]
    ) -> Callable[..., Any]:
        """``engine.establish_async_channel``, with which the JVM starts.

        The JVM takes the signals; from here on they are ours again.
        """

        async def establish_and_listen() -> Any:
            channel = await establish()
            self._worker.install_signal_handlers()
            return channel

        return establish_and_listen

    # -- the state ---------------------------------------------------------

    def attach_state(
        self, parsed_args: argparse.Namespace, variables: dict[str, Any]
    ) -> None:
        """``engine.enable_persistence``, before the rulesets are built."""
        worker = self._worker
        if worker.state is None:
            return
        from drools.ruleset import RulesetCollection

        read_config = _upstream("persistence")._get_config_params
        RulesetCollection.engine = worker.attach_state(
            RulesetCollection.engine, read_config(variables)
        )

    @staticmethod
    def deliver(ruleset: str, match: str) -> None:
        """Run the rule of a match that came by itself, not from a call.

        :param match: JSON.
        """
        from drools.ruleset import RulesetCollection

        try:
            RulesetCollection.get(ruleset)._dispatch(json.loads(match))
        except Exception as error:
            logger.warning("A match was skipped: %s", error)

    async def handle_async_messages(self, reader: Any, writer: Any) -> None:
        """Read the engine's timed matches until the end.

        With state they do not come this way. Upstream's reader takes a short
        read for a message and ends with the first match that it cannot
        deliver. Here a match of a session that was reset meanwhile, at the
        end of a term, is skipped, and a message of thousands of matches lets
        others have a turn.
        """
        from drools.dispatch import Dispatch
        from drools.ruleset import RulesetCollection

        from .engine.messages import results_of

        loop = asyncio.get_running_loop()
        try:
            while True:
                size = int.from_bytes(await reader.readexactly(4), "big")
                since = loop.time()
                message = await reader.readexactly(size)
                for session, result in results_of(message):
                    try:
                        Dispatch(session, result).run()
                    except Exception as error:
                        logger.warning("A timed match was skipped: %s", error)
                    if loop.time() - since > LONGEST_TURN:
                        await asyncio.sleep(0)
                        since = loop.time()
        except asyncio.IncompleteReadError:
            logger.debug("The engine has closed its channel")
        except asyncio.CancelledError:
            RulesetCollection.shutdown()
        finally:
            writer.close()

    def look_up_action(
        self, rule_set: str, matching_uuid: str, index: int
    ) -> dict[str, Any] | None:
        """``get_action_a_priori``, for recovered matches only."""
        state = self._worker.state
        if state is None:
            return None
        found: dict[str, Any] | None = state.progress.look_up(
            matching_uuid, index
        )
        return found

    def update_action(
        self,
        rule_set: str,
        matching_uuid: str,
        index: int,
        info: dict[str, Any],
        create: bool = False,
    ) -> None:
        """``update_action_info``, with as few writes as recovery needs."""
        state = self._worker.state
        if state is not None:
            state.update_action(matching_uuid, index, info, create)

    def run_path(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """``runpy.run_path``; a source's main comes under our rules."""
        from .rulebook.sources import is_ha_aware

        module = runpy.run_path(path, *args, **kwargs)
        main = module.get("main")
        if not asyncio.iscoroutinefunction(main):
            return module  # a filter, or a plugin that upstream refuses
        with tokenize.open(path) as source:
            aware = is_ha_aware(source.read())
        name = os.path.splitext(os.path.basename(path))[0]
        module["main"] = self._worker.sources.wrap(main, name, aware)
        return module

    def fence_runner(self, base: Any) -> Any:
        """``engine.RuleSetRunner`` whose queue and actions are fenced."""
        upstream = self
        prime_facts = _upstream("rule_set_runner").prime_facts

        class FencedRuleSetRunner(base):  # type: ignore[misc]
            """A ruleset of a worker; see :class:`.rulesets.Ruleset`."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self._worker = worker = upstream._worker
                worker.install_signal_handlers()  # ansible-runner took them
                worker.rulesets.expect_one_more()
                self._facts: list[Any] = self.hosts_facts
                self.hosts_facts: list[Any] = []  # not before promotion
                self._over = False
                plan: Any = self.ruleset_queue_plan
                gate = worker.gate_of(plan.source_queue)
                gate.will_be_sent_again = self._is_with_feedback
                self._gate = gate
                self.ruleset_queue_plan: Any = plan._replace(source_queue=gate)
                if worker.state is not None:
                    self._wait_for_the_journal(worker.state, plan, gate)

            def _wait_for_the_journal(
                self, state: Any, plan: Any, gate: Any
            ) -> None:
                """Let nothing follow from an event that may be lost."""
                from .rulebook.gate import DurableFeedback
                from .rulebook.match_queue import MatchQueue

                plan.plan.queue = MatchQueue(
                    state.last_write, self._complete_nothing
                )
                queues = plan.source_feedback_queues
                self.ruleset_queue_plan = self.ruleset_queue_plan._replace(
                    source_feedback_queues={
                        name: DurableFeedback(queues[name], gate)
                        for name in queues
                    }
                )

            def _is_with_feedback(self, event: Any) -> bool:
                queues = getattr(
                    self.ruleset_queue_plan, "source_feedback_queues", {}
                )
                try:
                    return event["meta"]["source"]["name"] in queues
                except (KeyError, TypeError):
                    return False

            async def run_ruleset(self) -> None:
                self._worker.ruleset_started(self)
                try:
                    await super().run_ruleset()
                finally:
                    self._over = True
                    self._worker.rulesets.ended(self)
                if self.ended_unasked() and not self._worker.is_leaving:
                    raise RulesetDied(f"the engine of {self.name} ended")

            async def _drain_source_queue(self) -> None:
                while True:
                    try:
                        await super()._drain_source_queue()
                        return
                    except Exception as error:
                        event = self._gate.refuse()
                        if event is None:
                            # It would lead on without reading an event.
                            logger.exception("%s cannot go on", self.name)
                            self.action_loop_task.cancel()
                            raise
                        # Upstream's reader ends with one bad event, and so
                        # would each leader's in turn.
                        await self._refuse(event, error)

            async def _refuse(self, event: Any, error: Exception) -> None:
                meta = event.get("meta") if isinstance(event, dict) else None
                meta = meta if isinstance(meta, dict) else {}
                source = (meta.get("source") or {}).get("name")
                logger.error(
                    "Ruleset %s: an event of source %s with uuid %s cannot be "
                    "processed and is refused: %s %s",
                    self.name,
                    source,
                    meta.get("uuid"),
                    type(error).__name__,
                    error,
                )
                queues = getattr(
                    self.ruleset_queue_plan, "source_feedback_queues", {}
                )
                if source in queues:
                    await queues[source].put(event)

            def _run_action(
                self, action: Any, action_item: Any, *args: Any, **kwargs: Any
            ) -> asyncio.Task[None]:
                if self._worker.leadership.may_act() and self._is_stored(
                    action_item
                ):
                    self._tell_kind(action)
                    task: asyncio.Task[None] = super()._run_action(
                        action, action_item, *args, **kwargs
                    )
                    return task
                self._worker.actions.drop(
                    f"{action.action} of {action_item.rule}"
                )
                return self._complete_nothing()

            def _complete_nothing(self) -> asyncio.Task[None]:
                """In place of an action; a drain ends after the last one."""
                dropped = asyncio.ensure_future(_nothing())
                self.active_actions.add(dropped)
                dropped.add_done_callback(self._handle_action_completion)
                return dropped

            def _is_stored(self, action_item: Any) -> bool:
                """One that is not is no leader's: nobody would recover it."""
                if self._worker.state is None:
                    return True
                return bool(action_item.rule_engine_results.matching_uuid)

            def _tell_kind(self, action: Any) -> None:
                state = self._worker.state
                if state is not None:
                    state.progress.store_start = action.action in TEMPLATES

            async def _run_multiple_actions(self, *args: Any) -> None:
                self._worker.leadership.bind()
                await super()._run_multiple_actions(*args)

            # -- see rulesets.Ruleset ---------------------------------------

            def is_running(self) -> bool:
                return not self._over

            def ended_unasked(self) -> bool:
                return self._over and self.shutdown is None

            @property
            def text(self) -> str:
                definition: str = self.ruleset_queue_plan.ruleset.define()
                return definition

            @property
            def session(self) -> int:
                number: int = self.ruleset_queue_plan.ruleset._session_id
                return number

            @property
            def has_facts(self) -> bool:
                return bool(self._facts)

            def prime(self) -> None:
                prime_facts(self.name, self._facts)

            def drop_matches(self) -> int:
                queue = self.ruleset_queue_plan.plan.queue
                count = 0
                while not queue.empty():
                    queue.get_nowait()
                    count += 1
                if count:
                    self._complete_nothing()
                return count

            def reset(self) -> None:
                from .engine.recorded import reset

                reset(self.ruleset_queue_plan.ruleset)

            def hurry(self) -> None:
                for action in list(self.active_actions):
                    action.cancel()
                loop = self.action_loop_task
                if loop is not None and not loop.done():
                    loop.cancel()

        # What an action's task runs; 1.3 put a semaphore around it.
        entry = next(name for name in ACTION_ENTRIES if hasattr(base, name))
        call = getattr(base, entry)

        async def call_fenced(self: Any, *args: Any, **kwargs: Any) -> None:
            actions = self._worker.actions
            if not actions.started():
                return
            state = self._worker.state
            try:
                if state is not None and not await state.record_is_durable():
                    return
                await call(self, *args, **kwargs)
            except (asyncio.CancelledError, RuntimeError) as error:
                # Java's: what it has done cannot be stored any more.
                if self._worker.leadership.may_act():
                    raise
                logger.debug("An action ended with its term: %s", error)
            finally:
                actions.finished()

        setattr(FencedRuleSetRunner, entry, call_fenced)
        return FencedRuleSetRunner

    def _fencing_token(self) -> dict[str, str]:
        term = self._worker.leadership.term
        return {} if term is None else {TERM_VARIABLE: str(term.number)}

    def fence_action(self, base: Any, has_effects: bool) -> Any:
        """An action that looks at the term after semaphore and lock.

        :param has_effects: outside of this process; then the server is asked.
        """
        upstream = self

        class FencedAction(base):  # type: ignore[misc]
            """Runs as upstream's does."""

            async def __call__(self) -> Any:
                upstream._worker.actions.check()
                if has_effects and not (
                    await upstream._worker.leadership.confirm()
                ):
                    raise asyncio.CancelledError
                try:
                    return await super().__call__()
                finally:
                    # What was killed with the term has not been done.
                    upstream._worker.actions.check()

        FencedAction.__name__ = base.__name__  # upstream prints it
        return FencedAction

    def keep_folder(self, base: Any) -> Any:
        """A playbook or module whose folder is removed in any case.

        Upstream makes it in the constructor, so before the fence is asked,
        and removes it after a run.
        """
        upstream = self

        class TidyPlaybook(base):  # type: ignore[misc]
            """Runs as upstream's does."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                upstream._worker.guardian.keep(self.private_data_dir)

            async def __call__(self) -> Any:
                try:
                    return await super().__call__()
                finally:
                    upstream._worker.guardian.remove(self.private_data_dir)

        TidyPlaybook.__name__ = base.__name__  # upstream prints it
        return TidyPlaybook

    def guard_runner(self, base: Any) -> Any:
        """One run of ``ansible-playbook``; each retry is another.

        Its guardian can find its processes, and it ends quickly.
        """
        from .rulebook.guardian import VARIABLE

        upstream = self

        class GuardedRunner(base):  # type: ignore[misc]
            """Runs as upstream's does."""

            runner_args: dict[str, Any]

            async def __call__(self) -> None:
                upstream._worker.actions.check()  # a retry may come long after
                token = upstream._worker.guardian.begin()
                self.runner_args = _with_token(
                    self.runner_args,
                    {VARIABLE: token, **upstream._fencing_token()},
                )
                # If it is cancelled, its forks are still to be killed.
                try:
                    await super().__call__()
                except Exception:
                    self._ended(token)
                    raise
                self._ended(token)

            def _ended(self, token: str) -> None:
                upstream._worker.actions.check()  # killed with the term?
                upstream._worker.guardian.end(token)

        return GuardedRunner


def _with_token(
    args: dict[str, Any], variables: dict[str, str]
) -> dict[str, Any]:
    """ansible-runner's arguments with variables for the playbook."""
    return {
        **args,
        "envvars": {**args.get("envvars", {}), **variables},
        "settings": {
            **args.get("settings", {}),
            "pexpect_timeout": PEXPECT_TIMEOUT,
        },
    }


def watch_anew(base: Any) -> Any:
    """A template whose job is watched, also if it was in an earlier term.

    Upstream's monitor hands out the future of a job that it knows, though
    that was cancelled with the action at the end of the term.
    """

    class WatchedJob(base):  # type: ignore[misc]
        """Runs as upstream's does."""

        async def __call__(self) -> Any:
            runner = _upstream("job_template_runner").job_template_runner
            monitor = getattr(runner, "_job_monitor", None)
            forget = getattr(monitor, "_cleanup_stale_jobs", None)
            if forget is not None:
                await forget()
            return await super().__call__()

    WatchedJob.__name__ = base.__name__  # upstream prints it
    return WatchedJob


def _speak_up() -> None:
    """Show transitions without -v, too: they are why somebody reads logs."""
    ours = logging.getLogger("ansible_rulebook.ha")
    if ours.getEffectiveLevel() > logging.INFO:
        ours.setLevel(logging.INFO)


def _make_gate(queue: Any, leadership: Any) -> Any:
    from .rulebook.gate import EventGate

    shutdown = _upstream("messages").Shutdown

    def is_control(item: Any) -> bool:
        return isinstance(item, shutdown)

    def is_urgent(item: Any) -> bool:
        return is_control(item) and item.kind == "now"

    return EventGate(queue, leadership, is_control, is_urgent)


async def broadcast(shutdown: Any) -> None:
    """Tell every ruleset to end.

    Upstream lists a queue once for each of its sources, and a ruleset reads
    one message: a third one would wait for ever, and keep the other rulesets
    from being told, and so the lock from being free.

    Nobody waits for a ruleset whose queue is full: the end of another one
    would cut off the action that has asked for the shutdown, before all are
    told of it, and with state the next leader would run it again.
    """
    queues = {id(each): each for each in _upstream("engine").all_source_queues}
    for queue in queues.values():
        if queue.full():
            telling = asyncio.ensure_future(queue.put(shutdown))
            _telling.add(telling)
            telling.add_done_callback(_telling.discard)
        else:
            queue.put_nowait(shutdown)


async def _shut_down(message: str, delay: float) -> None:
    shutdown = _upstream("messages").Shutdown(message=message, delay=delay)
    await broadcast(shutdown)


async def _nothing() -> None:
    pass


def _stay_follower() -> None:
    """In place of ``enable_leader``: the election decides who leads."""
