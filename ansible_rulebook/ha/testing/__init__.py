"""Tests for event sources: a worker's life without a server and Java.

pytest finds the fixture ``ha_source`` by itself. It is an
:class:`HaSources`, which can be used without pytest, too.
"""

from __future__ import annotations

from .fault import SourceFault
from .ha_source import HaSource
from .ha_sources import HaSources
from .loop_thread import stuck_threads

__all__ = ["HaSource", "HaSources", "SourceFault", "stuck_threads"]
