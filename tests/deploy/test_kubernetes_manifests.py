"""The manifests: what Kubernetes takes, and what belongs together."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
import yaml
from manifests import KUBERNETES, deployment, load, option, resources

from ansible_rulebook.ha.operations.leader_label import CLOSE_WITHIN
from ansible_rulebook.ha.operations.pod import parse_label
from ansible_rulebook.ha.rulebook.drain import TEARDOWN_WITHIN

VERSIONS = ("1.27", "1.37")  # the oldest that has all of it, and a newer one


def only(kind: str, name: str = "") -> dict[str, Any]:
    """The resource of that kind, and of that name perhaps."""
    (found,) = [
        each
        for each in resources()
        if each["kind"] == kind and each["metadata"]["name"].endswith(name)
    ]
    return found


@pytest.fixture
def template() -> dict[str, Any]:
    made: dict[str, Any] = deployment()["spec"]["template"]
    return made


@pytest.fixture
def container(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = template["spec"]["containers"]
    made: dict[str, Any] = found
    return made


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_them(version: str) -> None:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="the extra lint has it"
    )
    for each in resources():
        validate.validate(each, version, strict=True)


def test_kustomize_makes_all_of_it() -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("there is no kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", str(KUBERNETES)],
        capture_output=True,
        check=True,
        text=True,
    )
    made = list(yaml.safe_load_all(done.stdout))
    kinds = {each["kind"] for each in made}
    assert kinds == {each["kind"] for each in resources()} | {
        "ConfigMap",
        "Secret",
    }
    (worker,) = [each for each in made if each["kind"] == "Deployment"]
    (rules,) = [each for each in made if each["kind"] == "ConfigMap"]
    (secret,) = [each for each in made if each["kind"] == "Secret"]
    spec = worker["spec"]["template"]["spec"]
    assert spec["volumes"][0]["configMap"]["name"] == rules["metadata"]["name"]
    (key,) = [
        each["valueFrom"]["secretKeyRef"]
        for each in spec["containers"][0]["env"]
        if each["name"] == "EDA_HA_POSTGRES_DSN"
    ]
    assert key["name"] == secret["metadata"]["name"]
    assert key["key"] in secret["data"]
    assert spec["containers"][0]["image"].startswith("registry.example.org/")
    for each in made:
        is_global = each["kind"] == "Namespace"
        assert is_global or each["metadata"]["namespace"] == "eda"


def test_every_file_is_used_or_named() -> None:
    text = (KUBERNETES / "kustomization.yaml").read_text("utf-8")
    for path in KUBERNETES.rglob("*.*"):
        name = str(path.relative_to(KUBERNETES))
        assert name == "kustomization.yaml" or name in text


def test_all_that_selects_pods_selects_the_workers(
    template: dict[str, Any],
) -> None:
    labels = template["metadata"]["labels"]
    selectors = [
        deployment()["spec"]["selector"]["matchLabels"],
        only("Service", "ansible-rulebook")["spec"]["selector"],
        only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        only("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        load("pod-monitor.yaml")[0]["spec"]["selector"]["matchLabels"],
        *(
            each["labelSelector"]["matchLabels"]
            for each in template["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(each == labels for each in selectors)


def test_one_service_follows_the_leader(template: dict[str, Any]) -> None:
    selector = only("Service", "leader")["spec"]["selector"]
    labels = template["metadata"]["labels"]
    key, value = parse_label(option("--ha-kubernetes-label"), "it")
    # A label of the template would be that of all pods.
    assert key not in labels
    assert not selects(selector, labels)
    assert selector == {**labels, key: value}


def test_the_rights_are_what_the_label_needs(
    template: dict[str, Any],
) -> None:
    (rule,) = only("Role")["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["pods"],
        "verbs": ["list", "patch"],
    }
    account = template["spec"]["serviceAccountName"]
    assert only("RoleBinding")["subjects"][0]["name"] == account
    assert only("ServiceAccount")["metadata"]["name"] == account
    role = only("Role")["metadata"]["name"]
    assert only("RoleBinding")["roleRef"]["name"] == role


def test_a_rollout_ends_and_leaves_a_reserve(
    container: dict[str, Any],
) -> None:
    spec = deployment()["spec"]
    assert spec["replicas"] >= 2
    rolling = spec["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": 1}
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["startupProbe"]["httpGet"]["path"] == "/livez"


def test_a_drain_has_the_time_that_it_needs(
    template: dict[str, Any],
) -> None:
    grace = template["spec"]["terminationGracePeriodSeconds"]
    delay = float(option("--shutdown-delay"))
    assert grace >= delay + TEARDOWN_WITHIN + CLOSE_WITHIN


def test_ports_are_named_alike(container: dict[str, Any]) -> None:
    ports = {
        each["name"]: each["containerPort"] for each in container["ports"]
    }
    for name in ("leader", "ansible-rulebook"):
        for each in only("Service", name)["spec"]["ports"]:
            assert ports[each["targetPort"]] == each["port"]
    listen = option("--ha-http-listen")
    assert listen == f"0.0.0.0:{ports['http']}"
    probes = [value for key, value in container.items() if "Probe" in key]
    assert {each["httpGet"]["port"] for each in probes} == {"http"}
    for each in only("NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in each["ports"]} <= ports.keys()
    rulebook = (KUBERNETES / "rulebook" / "rulebook.yml").read_text("utf-8")
    assert f"port: {ports['events']}" in rulebook


def test_it_may_run_in_a_restricted_namespace(
    template: dict[str, Any], container: dict[str, Any]
) -> None:
    labels = only("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert template["spec"]["securityContext"] == {
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_no_real_password_is_there() -> None:
    (line,) = (KUBERNETES / "database.env").read_text("utf-8").splitlines()
    assert ":change-me@postgres.example.org" in line
