"""What of the changes is written, and in which order."""

from __future__ import annotations

from ansible_rulebook.ha.engine.bridge import Answer, Record
from ansible_rulebook.ha.state import sql
from ansible_rulebook.ha.state.arrays import bigints, texts, uuids
from ansible_rulebook.ha.state.changes import Changes, Found, Kept

ONE, TWO = bytes(16), bytes(15) + b"\1"


def record(number: int, text: str = "{}") -> Record:
    return Record(number, "E", 10 * number, -1, text)


def written(changes: Changes, mark: int = 7) -> dict[str, list[bytes]]:
    """The parameters of each statement; none comes twice."""
    statements = changes.statements(mark)
    found = dict(statements)
    assert len(found) == len(statements)
    return found


def test_nothing_is_written_of_nothing() -> None:
    changes = Changes()
    assert changes.size == 0
    assert changes.statements(1) == []


def test_an_event_alone_is_a_change_of_its_transaction() -> None:
    changes = Changes()
    changes.event(ONE)
    changes.event(TWO)
    assert changes.events == [ONE, TWO]
    assert changes.size == 2
    assert changes.statements(1) == []


def test_the_last_text_of_a_record_is_written() -> None:
    changes = Changes()
    changes.answer("r", Answer(kept=[record(1, "old"), record(2)]))
    changes.answer("é", Answer(kept=[record(1, "other")]))
    changes.answer("r", Answer(kept=[record(1, "new")]))
    assert changes.size == 4
    assert written(changes) == {
        sql.KEEP_RECORDS: [
            texts(["r", "r", "\\xe9"]),
            bigints([1, 2, 1]),
            texts(["E", "E", "E"]),
            bigints([10, 20, 10]),
            bigints([-1, -1, -1]),
            texts(["new", "{}", "other"]),
        ]
    }


def test_a_record_that_came_and_went_is_only_taken_out() -> None:
    changes = Changes()
    changes.answer("r", Answer(kept=[record(1), record(2)]))
    changes.answer("r", Answer(gone=[1, 3]))
    found = written(changes)
    # Of 1 it is not known here whether it had been written before.
    assert found[sql.DROP_RECORDS] == [texts(["r", "r"]), bigints([1, 3])]
    assert found[sql.KEEP_RECORDS][1] == bigints([2])
    assert changes.size == 4


def test_a_record_that_went_and_came_again_is_written() -> None:
    changes = Changes()
    changes.answer("r", Answer(gone=[1]))
    changes.answer("r", Answer(kept=[record(1)]))
    assert list(written(changes)) == [sql.KEEP_RECORDS]


def test_matches_are_written_in_the_order_in_which_they_were_found() -> None:
    changes = Changes()
    changes.found(Found(TWO, "r", "é", "{2}"))
    changes.found(Found(ONE, "r", "b", "{1}"))
    assert written(changes, 12) == {
        sql.ADD_MATCHES: [
            b"12",
            uuids([TWO, ONE]),
            texts(["r", "r"]),
            texts(["\\xe9", "b"]),
            texts(["{2}", "{1}"]),
        ]
    }


def test_the_last_word_on_an_action_is_written() -> None:
    changes = Changes()
    changes.action(ONE, 0, "started")
    changes.action(ONE, 1, "started")
    changes.action(ONE, 0, "done")
    assert written(changes) == {
        sql.KEEP_ACTIONS: [
            uuids([ONE, ONE]),
            bigints([0, 1]),
            texts(["done", "started"]),
        ]
    }


def test_actions_go_only_where_there_are_any() -> None:
    changes = Changes()
    changes.done(ONE, has_actions=False)
    changes.done(TWO, has_actions=True)
    assert written(changes) == {
        sql.DROP_ACTIONS: [uuids([TWO])],
        sql.DROP_MATCHES: [uuids([ONE, TWO])],
    }


def test_a_ruleset_is_written_as_it_is_at_last() -> None:
    changes = Changes()
    changes.ruleset("r", Kept("d", False))
    changes.ruleset("é", Kept("e", False))
    changes.ruleset("r", Kept("d", True))
    assert written(changes) == {
        sql.KEEP_RULESETS: [
            texts(["r", "\\xe9"]),
            texts(["d", "e"]),
            bigints([1, 0]),
        ]
    }


def test_the_order_of_the_statements() -> None:
    changes = Changes()
    changes.done(ONE, has_actions=True)
    changes.action(ONE, 0, "done")
    changes.found(Found(ONE, "r", "b", "{}"))
    changes.answer("r", Answer(kept=[record(1)], gone=[2]))
    changes.ruleset("r", Kept("d", False))
    changes.forget_ruleset("é")
    changes.forget_until = 5
    statements = changes.statements(9)
    # What goes, goes after it has come; but a ruleset's old memory first.
    assert [text for text, _ in statements] == [
        sql.FORGET_RECORDS,
        sql.KEEP_RULESETS,
        sql.DROP_RECORDS,
        sql.KEEP_RECORDS,
        sql.ADD_MATCHES,
        sql.KEEP_ACTIONS,
        sql.DROP_ACTIONS,
        sql.DROP_MATCHES,
        sql.FORGET_COMMITS,
    ]
    assert statements[0][1] == [texts(["\\xe9"])]
    assert statements[-1][1] == [b"5"]
