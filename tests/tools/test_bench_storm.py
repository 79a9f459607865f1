"""The sender of a storm, and what is made of the three witnesses."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator

import pytest

pytest.importorskip("rich")

from bench import sender
from bench.sender import ACKNOWLEDGED, REFUSED, UNKNOWN, Sender, Try
from bench.storm import (
    Act,
    Seen,
    acts_in,
    figures_of,
    goals_of,
    judge,
    key_of_row,
)

RATE = 200.0
POSTS = 20


class Address:
    """Answers each post in one way, and remembers what was posted.

    :param answer: a status; with "close" behind it for one that says that
        the line is not to be used again; nothing to close it without one;
        "silence" to leave it open.
    """

    def __init__(self, answer: str) -> None:
        self.answer = answer
        self.numbers: list[int] = []
        self.lines = 0

    async def __aenter__(self) -> Address:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.lines += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().split(b"content-length: ")[1].split()[0]
                body = await reader.readexactly(int(length))
                self.numbers.append(json.loads(body)["number"])
                if self.answer == "silence":
                    continue
                if not self.answer:
                    return
                status, _, closes = self.answer.partition(" ")
                extra = "Connection: close\r\n" if closes else ""
                writer.write(
                    f"HTTP/1.1 {status} .\r\nContent-Length: 2\r\n{extra}\r\n"
                    "{}".encode()
                )
                if closes:
                    await reader.read(1)
                    return
        except (EOFError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


async def send(*ports: int) -> list[Try]:
    one = Sender(ports, RATE, POSTS / RATE)
    return await one.run(connections=2)


def numbers(tries: list[Try], outcome: str) -> list[int]:
    return sorted(t.number for t in tries if t.outcome == outcome)


@pytest.mark.asyncio
async def test_all_is_acknowledged_over_lines_that_stay():
    async with Address("202") as good, Address("202") as other:
        tries = await send(good.port, other.port)
    assert numbers(tries, ACKNOWLEDGED) == list(range(POSTS))
    assert sorted(good.numbers + other.numbers) == list(range(POSTS))
    assert (good.lines, other.lines) == (1, 1)


@pytest.mark.asyncio
async def test_a_line_that_the_server_ends_is_not_used_again():
    async with Address("202 close") as good:
        tries = await send(good.port)
    assert numbers(tries, ACKNOWLEDGED) == list(range(POSTS))


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [("503", REFUSED), ("", UNKNOWN), ("silence", UNKNOWN), ("500", UNKNOWN)],
)
async def test_the_next_address_gets_the_post_under_another_number(
    monkeypatch, answer, outcome
):
    monkeypatch.setattr(sender, "TRY_WITHIN", 0.5)
    async with Address(answer) as bad, Address("202") as good:
        tries = await send(bad.port, good.port)
    assert sorted(bad.numbers) == numbers(tries, outcome) != []
    assert sorted(good.numbers) == numbers(tries, ACKNOWLEDGED)
    assert len({t.number for t in tries}) == len(tries)
    done = [t.post for t in tries if t.outcome == ACKNOWLEDGED]
    assert sorted(done) == list(range(POSTS))


@pytest.mark.asyncio
async def test_where_nobody_listens_nothing_was_sent(nobody):
    async with Address("202") as good:
        tries = await send(nobody, good.port)
    assert numbers(tries, REFUSED)
    assert len(numbers(tries, ACKNOWLEDGED)) == POSTS


@pytest.mark.asyncio
async def test_a_post_that_nobody_takes_is_given_up(monkeypatch, nobody):
    monkeypatch.setattr(sender, "GIVE_UP", 0.3)
    tries = await send(nobody)
    assert {t.outcome for t in tries} == {REFUSED}
    assert len({t.post for t in tries}) == POSTS < len(tries)


# -- what follows from what was seen ------------------------------------------


def a_try(number: int, outcome: str = ACKNOWLEDGED, post: int = -1) -> Try:
    post = number if post < 0 else post
    return Try(number, post, float(post), post + 0.5, outcome, "")


def both(number: int, at: float) -> list[Act]:
    return [Act("first", number, at), Act("second", number, at)]


def seen() -> Seen:
    """Three posts; the last one is broken off, repeated, and taken once."""
    return Seen(
        [a_try(0), a_try(1), a_try(2, UNKNOWN), a_try(3, post=2)],
        {0: [b"a"], 1: [b"b"], 3: [b"d"]},
        {b"a": 1, b"b": 1, b"d": 1},
        [*both(0, 0.7), *both(1, 1.7), *both(3, 9.0)],
        promotions=[-5.0, 2.5],
        faults=[2.2],
    )


def test_a_good_storm_meets_all_goals():
    found = judge(seen())
    assert all(goal.met for goal in goals_of("", found))
    assert (found.posts, found.given_up, found.takeovers) == (3, 0, 1)
    assert found.outcomes == {ACKNOWLEDGED: 3, UNKNOWN: 1, REFUSED: 0}
    assert found.unknown_taken == found.refused_taken == set()
    assert max(found.delays) == 7.0  # from when it was due at first
    assert found.slowest == [7.0]
    figures = {each.name: each.values for each in figures_of("", found)}
    assert figures["posted"] == [3]
    assert figures["slowest post to action after a fault"] == [7.0]


def test_what_was_acknowledged_and_is_nowhere_is_lost():
    one = seen()
    del one.events[1]  # type: ignore[attr-defined]
    assert judge(one).lost == {1}


def test_what_was_not_processed_is_lost():
    one = seen()
    del one.processed[b"b"]  # type: ignore[attr-defined]
    found = judge(one)
    assert found.lost == found.not_processed == {1}


def test_an_action_that_never_ran_is_a_loss():
    one = seen()
    one.acts.remove(Act("second", 1, 1.7))  # type: ignore[attr-defined]
    assert judge(one).lost == {1}


def test_what_was_taken_without_an_answer_has_to_be_processed_too():
    one = seen()
    one.events[2] = [b"c"]  # type: ignore[index]
    found = judge(one)
    assert found.unknown_taken == found.not_processed == {2}
    assert not found.lost


def test_what_was_refused_and_taken_is_told():
    one = seen()
    one.tries.append(a_try(4, REFUSED))  # type: ignore[attr-defined]
    one.events[4] = [b"e"]  # type: ignore[index]
    found = judge(one)
    assert found.refused_taken == {4}
    assert found.given_up == 1


@pytest.mark.parametrize("twice", ["one event", "two events"])
def test_what_is_processed_twice_is_seen(twice):
    one = seen()
    if twice == "one event":
        one.processed[b"b"] = 2  # type: ignore[index]
    else:
        one.events[1] = [b"b", b"B"]  # type: ignore[index]
        one.processed[b"B"] = 1  # type: ignore[index]
    assert judge(one).processed_twice == {1}


def test_an_event_that_nobody_posted_is_seen():
    one = seen()
    one.processed[b"x"] = 1  # type: ignore[index]
    assert judge(one).strange == 1


def test_an_action_may_run_again_in_the_next_term_only():
    one = seen()
    one.acts.append(Act("first", 1, 2.6))  # type: ignore[attr-defined]
    found = judge(one)
    assert (found.acted_twice, found.acted_twice_in_a_term) == (1, 0)
    one.acts.append(Act("first", 3, 9.5))  # type: ignore[attr-defined]
    found = judge(one)
    assert (found.acted_twice, found.acted_twice_in_a_term) == (2, 1)
    missed = [goal.name for goal in goals_of("", found) if not goal.met]
    assert missed == ["ran twice in one term; "]


def test_actions_are_found_between_the_lines_of_others():
    stars = "*" * 20
    text = (
        f"** 2026-01-02 03:04:05.250000 [debug] {stars}\n"
        "2026-01-02 03:04:05,300 - INFO - Worker w: Following\n"
        f"first 7 acts\n{stars}\n\n"
        f"** 2026-01-02 03:04:06 [debug] {stars}second 7 acts\n"
    )
    first, second = acts_in(text)
    assert (first.rule, second.rule) == ("first", "second")
    assert first.number == second.number == 7
    assert second.at - first.at == 0.75


def test_a_row_has_one_key():
    key = key_of_row("ha_webhook", 1, 1.5)
    assert key == key_of_row("ha_webhook", 1, 1.5)
    assert key != key_of_row("ha_webhook", 2, 1.5)
    assert key != key_of_row("ha_webhook", 1, 1.25)
