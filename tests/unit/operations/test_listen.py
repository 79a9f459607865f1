"""Where HTTP is served: what may be given, and what is said if it fails."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import Any

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


@pytest.fixture
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name has two addresses, both of this machine."""
    if sys.platform != "linux":
        pytest.skip("only Linux has 127.0.0.2 at once")

    def resolve(host: str, port: int, **options: Any) -> list[Any]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, (f"127.0.0.{n}", port)) for n in (1, 2)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


def test_all_addresses_of_a_name_share_a_free_port(
    two_addresses: None,
) -> None:
    with contextlib.ExitStack() as stack:
        bound = bind(Listen("name", 0), ORIGIN)
        for each in bound:
            stack.enter_context(each)
        (first, port), (second, other_port) = (
            each.getsockname() for each in bound
        )
        assert (first, second) == ("127.0.0.1", "127.0.0.2")
        assert port == other_port != 0


def test_one_busy_address_of_a_name_is_enough(two_addresses: None) -> None:
    """Half of the clients would reach somebody else."""
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.2", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OptionError, match=r"in use$"):
            bind(Listen("name", port), ORIGIN)
        with contextlib.closing(socket.socket()) as free:
            free.bind(("127.0.0.1", port))  # nothing was left open
