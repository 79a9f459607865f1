"""What a test of an event source fails with."""

from __future__ import annotations

from typing import Sequence


class SourceFault(AssertionError):
    """An event source breaks rules of high availability.

    :param name: of the source.
    :param when: what it was taken through, as "demotion".
    :param faults: a sentence or more for each.
    """

    def __init__(self, name: str, when: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        lines = [f"Event source {name}, {when}:"]
        lines += [
            "- " + fault.rstrip().replace("\n", "\n  ") for fault in faults
        ]
        super().__init__("\n".join(lines))
