"""Events that any program has put into an inbox, with SQL."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_rulebook.ha.webhook.source import run_queue

DOCUMENTATION = r"""
---
short_description: Receive events that were posted with SQL.
description:
  - An ansible-rulebook event source plugin of ansible-rulebook-ha. Any
    program that reaches the workers' PostgreSQL posts an event by
    SELECT eda_ha_post(ha_uuid, inbox, event), which may be part of a
    transaction of its own; so may a trigger, or a job of cron.
  - The event is there when that transaction is committed, and is processed
    by the rules of the worker that leads, in the order of arrival, whichever
    worker fails meanwhile.
  - It needs the HA options of ansible-rulebook.
options:
  inbox:
    description:
      - The name of the inbox, which is the second argument of eda_ha_post.
        Each source of a rulebook needs a name of its own.
    type: str
    default: ha_queue
  most:
    description:
      - How many events may wait. It binds the sources that put into the
        inbox over HTTP; SQL may always post.
    type: int
    default: 10000
"""

EXAMPLES = r"""
- ha_queue:

- ha_queue:
    inbox: orders
"""


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Feed the events of the inbox to the rules."""
    await run_queue(queue, args, args.get("ha_inbox"), "ha_queue")
