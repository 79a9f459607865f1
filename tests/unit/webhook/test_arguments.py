"""The arguments of the sources, and secrets that change."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import ansible_rulebook.ha
from ansible_rulebook.ha.errors import SourceRefused
from ansible_rulebook.ha.rulebook.sources import is_ha_aware
from ansible_rulebook.ha.upstream.plugins import OUR_PLUGINS, OURS
from ansible_rulebook.ha.webhook.arguments import (
    OF_THE_QUEUE,
    OF_THE_WEBHOOK,
    WebhookArguments,
    read_queue_arguments,
    read_webhook_arguments,
)
from ansible_rulebook.ha.webhook.idempotency import KNOWN
from ansible_rulebook.ha.webhook.secret import SecretUnknown


def read(
    *, environ: dict[str, str] | None = None, **args: Any
) -> WebhookArguments:
    given = {"port": 5000, **args}
    return read_webhook_arguments(given, "ha_webhook", environ or {})


def documented(plugin: str, name: str) -> Any:
    """A block of the plugin's documentation."""
    tree = ast.parse((OURS / f"{plugin}.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and name in ast.dump(node.targets[0]):
            return yaml.safe_load(ast.literal_eval(node.value))
    raise AssertionError(f"{plugin} has no {name}")


@pytest.mark.parametrize(
    ("plugin", "known"),
    [("ha_queue", OF_THE_QUEUE), ("ha_webhook", OF_THE_WEBHOOK)],
)
def test_each_argument_is_documented(
    plugin: str, known: tuple[str, ...]
) -> None:
    options = documented(plugin, "DOCUMENTATION")["options"]
    assert set(options) == set(known)
    for each in documented(plugin, "EXAMPLES"):
        assert set(each[plugin] or {}) <= set(known)


def test_the_defaults_are_the_documented_ones() -> None:
    options = documented("ha_webhook", "DOCUMENTATION")["options"]
    found = read()
    default = {name: each.get("default") for name, each in options.items()}
    assert found.host == default["host"]
    assert found.max_body == default["max_body"]
    assert found.is_json and default["body"] == "json"
    assert found.health_path == default["health_path"]
    assert found.queue.inbox == default["inbox"]
    assert found.queue.most == default["most"]
    assert found.signature.algorithm == default["hmac_algo"]
    assert found.signature.encoding == default["hmac_format"]
    assert found.idempotency.repeat_interval == default["repeat_interval"]


@pytest.mark.parametrize("plugin", OUR_PLUGINS)
def test_our_plugins_run_on_followers_and_are_in_the_package(
    plugin: str,
) -> None:
    path = OURS / f"{plugin}.py"
    assert path.is_relative_to(ansible_rulebook.ha.__path__[0])
    assert is_ha_aware(path.read_text("utf-8"))


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"port": None}, "needs the argument port"),
        ({"port": "x"}, "port: 'x'"),
        ({"port": 65536}, "port: 65536"),
        ({"port": 5.5}, "port: 5.5"),
        ({"port": True}, "port: True"),
        ({"hmac_secert": "x"}, "has no argument hmac_secert"),
        ({"token": ""}, "token is empty"),
        ({"token": None}, "token has to be a text"),
        ({"token": {"a": 1}}, "token has to be a text"),
        ({"token": "x", "token_env": "T"}, "token and token_env"),
        ({"token_env": "T"}, "token_env T is empty"),
        ({"token_file": "/nowhere/x"}, "token_file /nowhere/x cannot be read"),
        ({"hmac_algo": "sha0"}, "hmac_algo: 'sha0'"),
        ({"hmac_algo": "shake_128"}, "hmac_algo: 'shake_128'"),
        ({"hmac_format": "octal"}, "hmac_format: 'octal'"),
        ({"body": "xml"}, "body: 'xml'"),
        ({"max_body": 0}, "max_body: 0"),
        ({"max_body": 10**9}, "max_body: "),
        ({"health_path": "health"}, "health_path"),
        ({"cafile": "ca.pem"}, "cafile is given without certfile"),
        ({"keyfile": "key.pem"}, "keyfile is given without certfile"),
        ({"most": 0}, "most: 0"),
        ({"most": "many"}, "most: 'many'"),
        ({"inbox": 5}, "inbox has to be a text"),
        ({"repeat_interval": -1}, "repeat_interval: -1"),
        ({"repeat_interval": "nan"}, "repeat_interval: 'nan'"),
        ({"idempotency_header": 5}, "idempotency_header has to be"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused_with_one_line(
    args: dict[str, Any], text: str
) -> None:
    with pytest.raises(SourceRefused, match=re.escape(text)) as refused:
        read(**args)
    assert "\n" not in str(refused.value)


def test_texts_of_variables_are_read_as_numbers() -> None:
    found = read(port="5001", most="20", max_body="30", repeat_interval="1.5")
    assert (found.port, found.queue.most, found.max_body) == (5001, 20, 30)
    assert found.idempotency.repeat_interval == 1.5


def test_what_the_worker_adds_is_no_unknown_argument() -> None:
    added = {
        "ha_inbox": print,
        "leader_event": 1,
        "shutdown_event": 1,
        "eda_feedback_queue": 1,
    }
    assert read_queue_arguments(added, "ha_queue").inbox == "ha_queue"
    with pytest.raises(SourceRefused, match="has no argument port"):
        read_queue_arguments({"port": 1}, "ha_queue")


def test_duplicates_are_known_by_the_header_that_is_named() -> None:
    assert read().idempotency.headers == KNOWN
    assert read(idempotency_header="X-Id").idempotency.headers == ("X-Id",)
    for none in ("", False):
        found = read(idempotency_header=none).idempotency
        assert (found.headers, found.repeat_interval) == ((), 0.0)


@pytest.mark.parametrize(
    ("args", "is_open"),
    [
        ({}, True),
        ({"host": "127.0.0.2"}, False),
        ({"host": "::1"}, False),
        ({"host": "localhost"}, False),
        ({"host": "eda.example.com"}, True),
        ({"token": "x"}, False),
        ({"hmac_secret": "x"}, False),
        ({"certfile": "c"}, True),
        ({"certfile": "c", "cafile": "ca"}, False),
    ],
    ids=str,
)
def test_who_is_open_to_all_is_told(
    args: dict[str, Any], is_open: bool
) -> None:
    assert read(**args).is_open_to_all is is_open


def test_a_secret_can_come_from_the_environment() -> None:
    secret = read(token_env="T", environ={"T": "söme"}).token
    assert secret is not None
    assert secret.values() == ("söme".encode(),)


def test_a_number_is_a_secret_as_well() -> None:
    secret = read(token=12345).token
    assert secret is not None and secret.values() == (b"12345",)


def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("old\n")
    secret = read(token_file=str(path)).token
    assert secret is not None and secret.values() == (b"old",)
    replace(path, "new\n\n  old \n")
    assert secret.values() == (b"new", b"old")
    replace(path, "new")
    assert secret.values() == (b"new",)
    # Nobody is let in by a secret that was taken away.
    replace(path, "\n")
    with pytest.raises(SecretUnknown, match="is empty"):
        secret.values()
    path.unlink()
    with pytest.raises(SecretUnknown, match="cannot be read"):
        secret.values()
    path.write_text("last")
    assert secret.values() == (b"last",)


def replace(path: Path, text: str) -> None:
    """As careful programs do: never is half of it there."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    os.replace(draft, path)
