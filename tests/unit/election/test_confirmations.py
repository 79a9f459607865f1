"""Which statement answers a question whether the lock is held."""

from __future__ import annotations

import pytest

from ansible_rulebook.ha.election.confirmations import Confirmations


@pytest.mark.asyncio
async def test_one_statement_answers_all_that_were_asked_before_it() -> None:
    asked = Confirmations()
    answers = [asked.add() for _ in range(3)]
    asked.take().answer(True)
    assert [answer.result() for answer in answers] == [True] * 3


@pytest.mark.asyncio
async def test_a_statement_under_way_does_not_answer_a_later_question() -> (
    None
):
    asked = Confirmations()
    before = asked.add()
    under_way = asked.take()
    after = asked.add()
    under_way.answer(True)
    assert before.result()
    assert not after.done()
    asked.answer(False)  # the term has ended meanwhile
    assert after.result() is False
    assert before.result() is True


@pytest.mark.asyncio
async def test_a_caller_that_was_cancelled_does_not_matter_to_others() -> None:
    asked = Confirmations()
    cancelled, waiting = asked.add(), asked.add()
    cancelled.cancel()
    asked.take().answer(True)
    assert waiting.result()
