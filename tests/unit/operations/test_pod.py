"""Which labels can be given, and what a pod has to have for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.operations.pod import (
    Pod,
    find_pod,
    parse_label,
    read_token,
)

ORIGIN = "--ha-kubernetes-label (EDA_HA_KUBERNETES_LABEL)"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text("a-token\n")
    (tmp_path / "ca.crt").write_text("a certificate")
    (tmp_path / "namespace").write_text("eda")
    return {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
        "HOSTNAME": "worker-0",
        "EDA_HA_SERVICE_ACCOUNT": str(tmp_path),
    }


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("role=leader", "role", "leader"),
        ("eda.example.org/role=leader", "eda.example.org/role", "leader"),
        ("a=1", "a", "1"),
        ("Some_Name.x-9=V_a.l-1", "Some_Name.x-9", "V_a.l-1"),
        ("leads=", "leads", ""),
        (f"{'k' * 63}={'v' * 63}", "k" * 63, "v" * 63),
        (f"{'p' * 253}/k=v", f"{'p' * 253}/k", "v"),
    ],
)
def test_what_kubernetes_takes_is_read(
    text: str, key: str, value: str
) -> None:
    assert parse_label(text, ORIGIN) == (key, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "=leader",
        "role",
        "role:leader",
        "role=leader=more",
        "role=-leader",
        "role=leader.",
        "role=lea der",
        "role=leader\n",
        "r\u00f4le=leader",
        "role=\u0661",
        "_role=leader",
        "/role=leader",
        "example.org/=leader",
        "Example.org/role=leader",
        "a/b/c=leader",
        "a..b/role=leader",
        "-a.b/role=leader",
        f"{'k' * 64}=v",
        f"k={'v' * 64}",
        f"{'p' * 254}/k=v",
        "postgresql://somebody:geheim@db/eda",
    ],
)
def test_what_it_does_not_take_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_label(text, ORIGIN)
    said = str(caught.value)
    assert said.startswith(ORIGIN) and "\n" not in said
    assert "geheim" not in said


def test_a_pod_is_found(environ: dict[str, str]) -> None:
    pod = find_pod("role=leader", environ, ORIGIN)
    assert pod == Pod(
        key="role",
        value="leader",
        host="10.0.0.1",
        port=443,
        folder=environ["EDA_HA_SERVICE_ACCOUNT"],
        namespace="eda",
        name="worker-0",
    )
    assert pod.server == "https://10.0.0.1:443"
    assert pod._replace(host="fd00::1").server == "https://[fd00::1]:443"
    named = {**environ, "EDA_HA_POD_NAME": "eda-7"}
    assert find_pod("role=leader", named, ORIGIN).name == "eda-7"


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("KUBERNETES_SERVICE_HOST", "", "no pod"),
        ("KUBERNETES_SERVICE_PORT", "https", "no pod"),
        ("HOSTNAME", "", "EDA_HA_POD_NAME"),
        ("HOSTNAME", "../secrets", "EDA_HA_POD_NAME"),
        ("EDA_HA_POD_NAME", "Not_A_Pod", "EDA_HA_POD_NAME"),
        ("EDA_HA_SERVICE_ACCOUNT", "/not/there", "No such file"),
        ("EDA_HA_SERVICE_ACCOUNT", "\0", "service account"),
    ],
)
def test_what_the_pod_lacks_is_said_in_one_line(
    environ: dict[str, str], name: str, value: str, hint: str
) -> None:
    with pytest.raises(OptionError) as caught:
        find_pod("role=leader", {**environ, name: value}, ORIGIN)
    said = str(caught.value)
    assert said.startswith(ORIGIN) and hint in said and "\n" not in said


@pytest.mark.parametrize("name", ["token", "ca.crt", "namespace"])
def test_a_file_that_is_missing_is_said(
    environ: dict[str, str], tmp_path: Path, name: str
) -> None:
    (tmp_path / name).unlink()
    with pytest.raises(OptionError, match="No such file"):
        find_pod("role=leader", environ, ORIGIN)


def test_a_namespace_cannot_lead_elsewhere(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "namespace").write_text("eda/pods/../../kube-system")
    with pytest.raises(OptionError, match="no namespace"):
        find_pod("role=leader", environ, ORIGIN)


@pytest.mark.parametrize("token", ["", "a\nb", "t\u00f6ken"])
def test_what_is_no_token_is_not_sent(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token, "utf-8")
    with pytest.raises(ValueError, match="no token"):
        read_token(str(tmp_path))


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys\n"
        "import ansible_rulebook.ha.worker\n"
        "ours = 'ansible_rulebook.ha.operations.'\n"
        "names = ('pod', 'kubernetes', 'label_plan', 'leader_label')\n"
        "assert not [n for n in names if ours + n in sys.modules]\n"
        "assert 'aiohttp' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
