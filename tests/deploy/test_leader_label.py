"""The leader's label, kept by real threads at a stand-in of Kubernetes."""

from __future__ import annotations

import contextlib
import logging
import ssl
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest
from clusters import wait_until
from kubernetes_api import CLUSTER, LABEL, VALUE, KubernetesApi

from ansible_rulebook.ha.log import WorkerLog
from ansible_rulebook.ha.operations import kubernetes, label_plan, leader_label
from ansible_rulebook.ha.operations.leader_label import LeaderLabel
from ansible_rulebook.ha.operations.pod import find_pod

UUID = uuid.UUID("0d8f3a52-7d6e-4b6c-8f0e-5f2f5f0c9a11")
FAILS = "cannot be kept"
MENDED = "is kept again"


class Small:
    """As much of a worker as the label looks at."""

    def __init__(self, api: KubernetesApi, name: str) -> None:
        self.serves = False
        self.name = name
        self.folder = api.folder / name
        environ = api.service_account(name)
        self.label = LeaderLabel(
            find_pod(f"{LABEL}={VALUE}", environ, "the option"),
            str(UUID),
            lambda: self.serves,
            WorkerLog(logging.getLogger("label"), name, UUID),
        )

    def lead(self, serves: bool = True) -> None:
        self.serves = serves
        self.label.look()


MakeSmall = Callable[[str], Small]


@pytest.fixture(scope="module")
def authority_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kubernetes")


@pytest.fixture
def api(authority_folder: Path) -> Iterator[KubernetesApi]:
    with KubernetesApi(authority_folder) as made:
        for name in ("eda-1", "eda-2", "eda-3"):
            made.add_pod(name)
        yield made


@pytest.fixture
def small(
    api: KubernetesApi,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[MakeSmall]:
    monkeypatch.setattr(label_plan, "LOOK_EVERY", 0.5)
    monkeypatch.setattr(label_plan, "LONGEST_PAUSE", 0.5)
    monkeypatch.setattr(kubernetes, "WITHIN", 1.0)
    monkeypatch.setattr(leader_label, "CLOSE_WITHIN", 1.0)
    caplog.set_level(logging.INFO)
    with contextlib.ExitStack() as stack:

        def make(name: str) -> Small:
            made = Small(api, name)
            made.label.start()
            stack.callback(made.label.close)
            return made

        yield make


def count(caplog: pytest.LogCaptureFixture, what: str) -> int:
    return sum(what in record.getMessage() for record in caplog.records)


def wait_labelled(api: KubernetesApi, *names: str) -> None:
    wait_until(
        lambda: api.labelled() == list(names),
        f"{names} with the label, not {api.labelled()}",
    )


def test_an_authority_without_a_key_identifier_is_trusted(
    api: KubernetesApi, small: MakeSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ssl.create_default_context

    def strict(*args: Any, **options: Any) -> ssl.SSLContext:
        context = make(*args, **options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    # As Python does by itself from 3.13 on.
    monkeypatch.setattr(ssl, "create_default_context", strict)
    small("eda-1").lead()
    wait_labelled(api, "eda-1")


def test_the_label_follows_the_leader(
    api: KubernetesApi, small: MakeSmall, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = small("eda-1"), small("eda-2")
    first.lead()
    wait_labelled(api, "eda-1")
    first.lead(False)
    second.lead()
    wait_labelled(api, "eda-2")
    second.label.close()
    assert api.labelled() == []
    assert api.pods["eda-2"]["annotations"] == {}
    assert api.pods["eda-2"]["labels"] == {"app": "eda"}
    assert not count(caplog, FAILS)


def test_nobody_has_to_tell_it(api: KubernetesApi, small: MakeSmall) -> None:
    only = small("eda-1")
    only.serves = True
    wait_labelled(api, "eda-1")
    only.serves = False
    wait_labelled(api)


def test_a_container_that_was_started_again_clears_its_pod(
    api: KubernetesApi, small: MakeSmall
) -> None:
    api.add_pod("eda-1", **{LABEL: VALUE})
    small("eda-1")
    wait_labelled(api)


def test_a_new_leader_clears_the_labels_of_the_dead(
    api: KubernetesApi, small: MakeSmall, caplog: pytest.LogCaptureFixture
) -> None:
    stale, others = {CLUSTER: str(UUID)}, {CLUSTER: str(uuid.uuid4())}
    for name, set_for in (
        ("eda-1", stale),
        ("eda-3", stale),
        ("other-cluster", others),
        ("other-application", {}),
    ):
        api.add_pod(name, **{LABEL: VALUE})
        api.pods[name]["annotations"] = dict(set_for)
    small("eda-2").lead()
    wait_labelled(api, "eda-2", "other-cluster", "other-application")
    wait_until(lambda: count(caplog, "was taken from") == 2, "two are told")
    # A leader that was paused may set its label when it has been replaced.
    api.pods["eda-1"]["labels"][LABEL] = VALUE
    api.pods["eda-1"]["annotations"] = dict(stale)
    wait_labelled(api, "eda-2", "other-cluster", "other-application")


def test_a_label_that_somebody_took_away_comes_back(
    api: KubernetesApi, small: MakeSmall
) -> None:
    small("eda-1").lead()
    wait_labelled(api, "eda-1")
    del api.pods["eda-1"]["labels"][LABEL]
    wait_labelled(api, "eda-1")


def test_a_pod_that_changed_since_the_look_is_looked_at_again(
    api: KubernetesApi,
    small: MakeSmall,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api.add_pod("eda-1", **{LABEL: VALUE})
    api.pods["eda-1"]["annotations"] = {CLUSTER: str(UUID)}
    select = api._select
    touched: list[str] = []

    def change_then(selector: str) -> object:
        found = select(selector)
        if not touched:
            touched.append("eda-1")
            api.touch("eda-1")
        return found

    monkeypatch.setattr(api, "_select", change_then)
    small("eda-2").lead()
    wait_labelled(api, "eda-2")
    assert touched
    # The first try was refused: 409.
    assert api.requests.count("patch eda-1") == 2
    assert not count(caplog, FAILS)


def test_token_and_authority_are_read_anew(
    api: KubernetesApi, small: MakeSmall, caplog: pytest.LogCaptureFixture
) -> None:
    first = small("eda-1")
    first.lead()
    wait_labelled(api, "eda-1")
    api.tokens = {"second-token"}
    wait_until(lambda: count(caplog, FAILS) == 1, "the old token is refused")
    assert "answered 401" in caplog.text
    (first.folder / "token").write_text("second-token")
    wait_until(lambda: count(caplog, MENDED) == 1, "the new one is used")
    api.go_away()
    api.renew_authority()
    api.come_back()
    wait_until(lambda: count(caplog, FAILS) == 2, "it is not trusted")
    assert "certificate" in caplog.text
    api.service_account("eda-1", "second-token")
    wait_until(lambda: count(caplog, MENDED) == 2, "it is")
    first.lead(False)
    wait_labelled(api)
    assert "second-token" not in caplog.text


def break_refuse(api: KubernetesApi) -> None:
    api.status = 403


def break_conflict(api: KubernetesApi) -> None:
    api.status = 409


def break_fail(api: KubernetesApi) -> None:
    api.status = 500


def break_redirect(api: KubernetesApi) -> None:
    api.status = 307


def break_hang(api: KubernetesApi) -> None:
    api.hangs = True


def break_rights(api: KubernetesApi) -> None:
    api.verbs = {"get"}


def break_pod(api: KubernetesApi) -> None:
    api.pods["elsewhere"] = api.pods.pop("eda-1")


def mend(api: KubernetesApi) -> None:
    api.status, api.hangs, api.verbs = 0, False, {"get", "list", "patch"}
    if "elsewhere" in api.pods:
        api.pods["eda-1"] = api.pods.pop("elsewhere")


@pytest.mark.parametrize(
    ("break_it", "word"),
    [
        (KubernetesApi.go_away, "Cannot connect"),
        (break_hang, "no answer within 1 s"),
        (break_refuse, "answered 403: as the test wants it"),
        (break_rights, "forbidden: cannot patch"),
        (break_pod, "answered 404"),
        (break_conflict, "answered 409"),
        (break_fail, "answered 500"),
        (break_redirect, "answered 307"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_failure_is_said_once_and_so_is_its_end(
    api: KubernetesApi,
    small: MakeSmall,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    break_it: Callable[[KubernetesApi], None],
    word: str,
) -> None:
    tries: list[label_plan.Step] = []
    failed = label_plan.LabelPlan.failed

    def note(plan: label_plan.LabelPlan, step: label_plan.Step, now: float):
        tries.append(step)
        failed(plan, step, now)

    monkeypatch.setattr(label_plan.LabelPlan, "failed", note)
    first = small("eda-1")
    wait_until(lambda: "patch eda-1" in api.requests, "its start")
    break_it(api)
    began = time.monotonic()
    first.lead()
    assert time.monotonic() - began < 1.0  # nobody waits for it
    wait_until(lambda: count(caplog, FAILS) == 1, "a warning")
    assert word in caplog.text
    wait_until(lambda: len(tries) >= 2, "another try")
    if break_it is KubernetesApi.go_away:
        api.come_back()
    mend(api)
    wait_labelled(api, "eda-1")
    wait_until(lambda: count(caplog, MENDED) == 1, "the end of it")
    assert count(caplog, FAILS) == 1


def test_an_end_does_not_wait_for_a_server_that_hangs(
    api: KubernetesApi, small: MakeSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "WITHIN", 600.0)
    monkeypatch.setattr(leader_label, "CLOSE_WITHIN", 0.5)
    first = small("eda-1")
    first.lead()
    wait_labelled(api, "eda-1")
    api.hangs = True
    first.label.close()
    assert not first.label._thread.is_alive()


def test_an_answer_without_an_end_is_cut_off(
    api: KubernetesApi,
    small: MakeSmall,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kubernetes, "MOST_BYTES", 10)
    small("eda-1").lead()
    wait_until(lambda: count(caplog, FAILS), "a warning")
    assert "an answer of more than 10 bytes" in caplog.text
