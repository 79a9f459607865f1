"""What a worker's sources are told by the driver."""

from __future__ import annotations

is_stubborn = False
"""Whether sources do not end when they are told to."""
