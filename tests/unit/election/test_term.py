"""A term is current only while clock, socket and worker all agree."""

from __future__ import annotations

from ansible_rulebook.ha.election.term import Term


class World:
    """A clock and a session that a test can turn."""

    def __init__(self) -> None:
        self.now = 8_765_432.1
        self.over = False
        self.term = Term(7, self.now + 6, lambda: self.over, self.clock)

    def clock(self) -> float:
        return self.now


def test_a_term_is_current_until_its_trust_ends():
    world = World()
    assert world.term.is_current()
    world.now += 5.999
    assert world.term.is_current()
    world.now = world.term.trusted_until
    assert not world.term.is_current()


def test_a_renewal_prolongs_a_term():
    world = World()
    world.term.renewed(world.now + 60)
    world.now += 59
    assert world.term.is_current()
    assert world.term.trusted_until == world.now + 1


def test_a_process_that_was_paused_asks_the_clock_first():
    world = World()
    world.now += 3600
    assert not world.term.is_current()


def test_the_end_of_the_session_ends_the_term_before_anybody_is_told():
    world = World()
    world.over = True
    assert not world.term.is_current()


def test_a_renewal_that_comes_late_does_not_revive_a_term():
    world = World()
    world.term.end()
    world.term.renewed(world.now + 60)
    assert not world.term.is_current()


def test_whoever_saw_the_end_of_a_term_stays_right_about_it():
    # A renewal that was under way may still succeed after that.
    world = World()
    world.now += 6
    assert not world.term.is_current()
    assert world.term.seen_over
    world.term.renewed(world.now + 60)
    assert not world.term.is_current()


def test_a_term_says_its_number_and_state():
    world = World()
    assert repr(world.term) == "<Term 7 current>"
    world.term.end()
    assert repr(world.term) == "<Term 7 over>"
    assert world.term.number == 7
