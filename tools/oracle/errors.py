"""What can be wrong with a case."""


class Difference(AssertionError):
    """A recovery that was not exact."""


class Refused(Exception):
    """Drools cannot do this, with or without failovers."""
