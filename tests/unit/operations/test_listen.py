"""Where HTTP is served: what may be given, and what is said if it fails."""

from __future__ import annotations

import contextlib
import socket

import pytest

from ansible_rulebook.ha.errors import OptionError
from ansible_rulebook.ha.operations.listen import Listen, bind, parse_listen

ORIGIN = "--ha-http-listen (EDA_HA_HTTP_LISTEN)"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        (":8080", "127.0.0.1", 8080),
        (" 8080 ", "127.0.0.1", 8080),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("eda.example.org:65535", "eda.example.org", 65535),
        ("[::1]:8080", "::1", 8080),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
    ],
)
def test_host_and_port_are_read(text: str, host: str, port: int) -> None:
    assert parse_listen(text, ORIGIN) == Listen(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:http",
        "host:65536",
        "host:-1",
        "host:+1",
        "host:\u0661",
        "host:999999999999999999999",
        "::1:8080",
        "[::1]8080",
        "[::1]",
        "[host]:80",
        "http://host:80",
        "a b:80",
        "h\nost:80",
        "x" * 254 + ":80",
        "postgresql://u:geheim@db:5432",
    ],
)
def test_what_is_no_address_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_listen(text, ORIGIN)
    message = str(caught.value)
    assert message.startswith(ORIGIN)
    assert "\n" not in message
    assert "geheim" not in message


def test_an_address_is_shown_as_it_is_given() -> None:
    assert str(Listen("::1", 80)) == "[::1]:80"
    assert str(Listen("host", 80)) == "host:80"


def test_a_busy_port_is_found_when_it_is_bound() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=r"cannot listen .*in use$"):
            bind(Listen("127.0.0.1", port), ORIGIN)


@pytest.mark.parametrize("host", ["192.0.2.1", "not-there.invalid", "x..y"])
def test_a_wrong_host_is_one_line(host: str) -> None:
    with pytest.raises(OptionError) as caught:
        bind(Listen(host, 0), ORIGIN)
    assert f"cannot listen at {host}:0: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_addresses_of_a_name_share_a_free_port() -> None:
    sockets = bind(Listen("localhost", 0), ORIGIN)
    with contextlib.ExitStack() as stack:
        for each in sockets:
            stack.enter_context(each)
        assert len({each.getsockname()[1] for each in sockets}) == 1
