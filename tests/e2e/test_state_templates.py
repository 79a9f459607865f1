"""Jobs on a controller are watched by the next leader, not launched again."""

from __future__ import annotations

from controller import ORGANIZATION, Controller
from e2e_support import (
    FOLLOWING,
    PATIENCE,
    Stage,
    needs_state,
    terminate,
    until,
    wait_recorded,
)
from rig.server import Server
from rig.workers import WorkerProcess, wait_leader
from rules import rulebook

pytestmark = needs_state

TEMPLATES = {
    "Job": "job_templates",
    "Workflow": "workflow_job_templates",
    "Unanswered": "job_templates",
}
ACTIONS = {
    "job_templates": "run_job_template",
    "workflow_job_templates": "run_workflow_template",
}
RULE = """
    - name: {name}
      condition: event.do == "{name}"
      actions:
        - {action}:
            name: {name}
            organization: {organization}
            add_event_uuid_label: {labelled}
        - debug:
            msg: "{name} has run"
"""
RULEBOOK = rulebook(
    "Jobs",
    *(
        RULE.format(
            name=name,
            action=ACTIONS[kind],
            organization=ORGANIZATION,
            # With the answer its URL is known, else the label leads there.
            labelled=name == "Unanswered",
        )
        for name, kind in TEMPLATES.items()
    ),
    hosts="all",
    parallel=True,
)


def pair(
    stage: Stage, controller: Controller
) -> tuple[WorkerProcess, WorkerProcess]:
    """A leader and a follower, whose tokens are their names."""
    workers = [
        stage.start(
            RULEBOOK,
            name=name,
            args=[
                *("--controller-url", controller.url),
                *("--controller-token", name),
            ],
            env={"EDA_JOB_TEMPLATE_REFRESH_DELAY": "1"},  # seconds
        )
        for name in ("one", "other")
    ]
    leader = wait_leader(workers, PATIENCE)
    workers.remove(leader)
    workers[0].wait_for(FOLLOWING, PATIENCE)
    return leader, workers[0]


def wait_watched(
    controller: Controller, by: WorkerProcess, count: int
) -> None:
    """Wait until this worker has asked for the status of so many jobs."""
    until(
        lambda: (
            sum(by.name in job.watched_by for job in controller.jobs) == count
        ),
        f"{by} to watch {count} jobs: {controller.jobs}",
    )


def test_a_job_that_was_launched_is_watched_by_the_next_leader(
    stage: Stage, server: Server
) -> None:
    with Controller(TEMPLATES) as controller:
        first, second = pair(stage, controller)
        stage.post("Job", "1")
        stage.post("Workflow", "1")
        wait_watched(controller, first, 2)
        controller.answers_launches.clear()
        stage.post("Unanswered", "1")
        until(lambda: len(controller.jobs) == 3, "the third launch")

        killed_at = first.kill()
        second.wait_leads(PATIENCE, after=killed_at)
        wait_watched(controller, second, 3)
        controller.answers_launches.set()
        controller.end_jobs()
        for name in TEMPLATES:
            second.wait_for(f"^{name} has run$", PATIENCE)

        # Demoted and promoted again, it goes on to watch.
        stage.post("Job", "2")
        wait_watched(controller, second, 4)
        wait_recorded(server, stage, "Job")
        cut_at = terminate(server, second)
        second.wait_leads(PATIENCE, after=cut_at)
        controller.jobs[-1].watched_by.clear()
        wait_watched(controller, second, 4)
        controller.end_jobs()
        second.wait_for("^Job has run$", PATIENCE, count=2)

        launched = [(job.template, job.launched_by) for job in controller.jobs]
        assert sorted(launched) == [
            *sorted([("Job", first.name), ("Job", second.name)]),
            ("Unanswered", first.name),
            ("Workflow", first.name),
        ]
        assert sorted(stage.shown("has run$")) == [
            "Job has run",
            "Job has run",
            "Unanswered has run",
            "Workflow has run",
        ]
