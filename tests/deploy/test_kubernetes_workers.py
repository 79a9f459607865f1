"""Real workers, started as the manifests say, and the leader's label."""

from __future__ import annotations

import contextlib
import json
import signal
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from command_runs import run
from e2e_support import FOLLOWING, PATIENCE, needs_sources, until
from kubernetes_api import KubernetesApi
from manifests import KUBERNETES, arguments, deployment, option
from rig.ports import free_port
from rig.workers import WorkerProcess, script

from ansible_rulebook.ha.operations.pod import parse_label

FAILS = "label of the leader's pod cannot be kept"
MENDED = "label of the leader's pod is kept again"
QUICK_LEASE = {"EDA_HA_POLL_INTERVAL": "1"}


def ask(port: int, path: str, body: bytes | None = None) -> int:
    """The status of the answer; 0 if there is none."""
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(
        url, body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Kubelet:
    """Starts the container of the Deployment's pods, here.

    All pods share this machine, so each has an HTTP port of its own, and the
    rulebook's port is any free one. All else is as the manifest has it.
    """

    def __init__(
        self,
        api: KubernetesApi,
        dsn: str,
        folder: Path,
        quick: dict[str, str],
    ) -> None:
        self.api = api
        self.quick = quick
        self.dsn = dsn
        self.folder = folder
        self.ha_uuid = str(uuid.uuid4())
        self.events = free_port()
        self.http: dict[str, int] = {}
        self.count = 0
        (self.container,) = deployment()["spec"]["template"]["spec"][
            "containers"
        ]
        self.label = parse_label(option("--ha-kubernetes-label"), "it")

    def make(self, pod: str) -> WorkerProcess:
        self.count += 1
        self.http[pod] = free_port()
        rules = KUBERNETES / "rulebook" / "rulebook.yml"
        replaced = {
            "ansible-rulebook": script()[0],
            option("--rulebook"): str(self.folder / "rulebook.yml"),
            option("--inventory"): str(rules.with_name("inventory.yml")),
            option("--ha-uuid"): self.ha_uuid,
            option("--ha-http-listen"): str(self.http[pod]),
        }
        made = WorkerProcess(
            rules.read_text("utf-8").replace("5000", str(self.events)),
            root=self.folder,
            cwd=self.folder,
            name=f"container-{self.count}",
            env={**self.environment(pod), **self.quick, **QUICK_LEASE},
        )
        made.argv = [replaced.get(word, word) for word in arguments()]
        return made

    def environment(self, pod: str) -> dict[str, str]:
        given = self.api.service_account(pod)
        for each in self.container["env"]:
            source = each.get("valueFrom")
            if source is None:
                given[each["name"]] = each["value"]
            elif "secretKeyRef" in source:
                given[each["name"]] = self.dsn
            else:
                assert source["fieldRef"]["fieldPath"] == "metadata.name"
                given[each["name"]] = pod
        # The lines that tests look for are text.
        del given["EDA_HA_LOG_FORMAT"]
        return given

    def labelled(self) -> list[str]:
        return self.api.labelled(*self.label)

    def wait_labelled(self, *pods: str) -> None:
        until(
            lambda: self.labelled() == list(pods),
            f"{pods} with the label, not {self.labelled()}",
        )

    def wait_ready(self, pod: str) -> None:
        """By the probes of the manifest."""
        for name in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = self.container[name]["httpGet"]["path"]
            until(
                lambda path=path: ask(self.http[pod], path) == 200,
                f"{path} of {pod}",
            )


@needs_sources
def test_the_label_follows_the_leader(
    dsn: str, tmp_path: Path, quick_variables: dict[str, str]
) -> None:
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(KubernetesApi(tmp_path / "kubernetes"))
        kubelet = Kubelet(api, dsn, tmp_path, quick_variables)

        def start(pod: str) -> WorkerProcess:
            return stack.enter_context(kubelet.make(pod))

        def tell(word: str) -> None:
            """As a client of the Service does that follows the label."""
            body = json.dumps({"message": word}).encode()
            until(
                lambda: ask(kubelet.events, "/endpoint", body) == 200, "a post"
            )

        api.add_pod("eda-a")
        api.add_pod("eda-b")
        first = start("eda-a")
        first.wait_leads(PATIENCE)
        kubelet.wait_labelled("eda-a")
        second = start("eda-b")
        second.wait_for(FOLLOWING, PATIENCE)
        for pod in ("eda-a", "eda-b"):
            kubelet.wait_ready(pod)  # the leader and the follower
        tell("hello")
        first.wait_for("told hello", PATIENCE)

        killed_at = first.kill()
        second.wait_leads(PATIENCE, after=killed_at)
        kubelet.wait_labelled("eda-b")
        tell("hello again")
        second.wait_for("told hello again", PATIENCE)

        # Its container is started again, in the same pod.
        third = start("eda-a")
        third.wait_for(FOLLOWING, PATIENCE)
        api.go_away()
        asked = run(
            *("switchover", "--yes", "--to", "eda-a"),
            EDA_HA_POSTGRES_DSN=dsn,
            EDA_HA_UUID=kubelet.ha_uuid,
        )
        assert asked.code == 0, asked
        third.wait_for(FAILS, PATIENCE)
        assert kubelet.labelled() == ["eda-b"]
        api.come_back()
        kubelet.wait_labelled("eda-a")
        third.wait_for(MENDED, PATIENCE)
        assert len(third.find(FAILS)) == 1

        api.hangs = True
        told_at = third.signal(signal.SIGTERM)
        second.wait_leads(PATIENCE, after=told_at)
        assert third.wait_exit(PATIENCE) == 0
        api.hangs = False
        kubelet.wait_labelled("eda-b")
        assert second.stop(PATIENCE) == 0
        assert kubelet.labelled() == []
