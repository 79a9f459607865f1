"""Upstream's actions: fenced, and with nothing that stays behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..rulebook.guardian import VARIABLE
from .mixin import Mixin, combine
from .names import upstream

if TYPE_CHECKING:
    from ..worker import Worker

TERM_VARIABLE = "EDA_HA_TERM"  # of a playbook: its fencing token
PEXPECT_TIMEOUT = 0.2  # seconds; a cancelled playbook blocks the loop so long

PLAYBOOKS = ("run_playbook", "run_module")
# Their job on the controller is found again by the record of their start.
TEMPLATES = ("run_job_template", "run_workflow_template")


def install(worker: Worker) -> None:
    """Have the worker's rules hold for every action."""
    run_playbook = upstream("action.run_playbook")
    run_playbook.Runner = combine(
        GuardedRunner, run_playbook.Runner, ha_worker=worker
    )
    classes = upstream("rule_set_runner").ACTION_CLASSES
    for name, action in list(classes.items()):
        classes[name] = extend(name, action, worker)


def extend(name: str, action: type, worker: Worker) -> Any:
    """The class of an action, with what this kind of action needs."""
    if name in TEMPLATES:
        action = combine(WatchedJob, action)
    has_effects = name in PLAYBOOKS + TEMPLATES
    action = combine(
        FencedAction, action, ha_worker=worker, has_effects=has_effects
    )
    if name in PLAYBOOKS:
        action = combine(TidyPlaybook, action, ha_worker=worker)
    return action


class FencedAction(Mixin):  # type: ignore[misc]
    """An action that looks at the term after semaphore and lock."""

    ha_worker: Worker
    has_effects: bool
    """Outside of this process; then the server is asked."""

    async def __call__(self) -> Any:
        actions = self.ha_worker.actions
        if self.has_effects:
            await actions.confirm()
        else:
            actions.check()
        error: BaseException | None = None
        try:
            return await super().__call__()
        except BaseException as caught:
            error = caught
            raise
        finally:
            actions.ended(error)
            actions.check()  # what was killed with the term is not done


class TidyPlaybook(Mixin):  # type: ignore[misc]
    """A playbook or module whose folder is removed in any case.

    Upstream makes it in the constructor, so before the fence is asked, and
    removes it after a run.
    """

    ha_worker: Worker

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ha_worker.guardian.keep(self.private_data_dir)

    async def __call__(self) -> Any:
        try:
            return await super().__call__()
        finally:
            self.ha_worker.guardian.remove(self.private_data_dir)


class GuardedRunner(Mixin):  # type: ignore[misc]
    """One run of ``ansible-playbook``; each retry is another.

    Its guardian can find its processes, and it ends quickly.
    """

    ha_worker: Worker
    runner_args: dict[str, Any]

    async def __call__(self) -> None:
        self.ha_worker.actions.check()  # a retry may come long after
        token = self.ha_worker.guardian.action_began()
        self.runner_args = _with_variables(
            self.runner_args, {VARIABLE: token, **self._fencing_token()}
        )
        # If it is cancelled, its forks are still to be killed.
        try:
            await super().__call__()
        except Exception:
            self._ended(token)
            raise
        self._ended(token)

    def _fencing_token(self) -> dict[str, str]:
        term = self.ha_worker.leadership.term
        return {} if term is None else {TERM_VARIABLE: str(term.number)}

    def _ended(self, token: str) -> None:
        self.ha_worker.actions.check()  # killed with the term?
        self.ha_worker.guardian.action_ended(token)


class WatchedJob(Mixin):  # type: ignore[misc]
    """A template whose job is watched, also if it was in an earlier term.

    Upstream's monitor hands out the future of a job that it knows, though
    that was cancelled with the action at the end of the term.
    """

    async def __call__(self) -> Any:
        runner = upstream("job_template_runner").job_template_runner
        monitor = getattr(runner, "_job_monitor", None)
        forget = getattr(monitor, "_cleanup_stale_jobs", None)
        if forget is not None:
            await forget()
        return await super().__call__()


def _with_variables(
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
