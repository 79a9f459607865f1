"""Drools in a process of its own, which does what its input says.

One JSON object a line on standard input, one answer a line on standard
output: ``{"error": null, ...}``. A JVM starts once for many tests that way.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import uuid
from typing import Any

os.environ["DROOLS_JPY_JVM_LOG"] = "logFile=System.err,defaultLogLevel=debug"
logging.disable(logging.CRITICAL)
answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
os.dup2(2, 1)  # whatever Java prints is no answer

from ansible_rulebook import util  # noqa: E402

if not os.environ.get("JAVA_HOME"):
    os.environ["JAVA_HOME"] = util.get_java_home() or ""

from drools.ruleset import RulesetCollection  # noqa: E402


def connect(params: dict[str, str]) -> dict[str, Any]:
    """As upstream does it: a pool, a few tables, a row."""
    ha_uuid = str(uuid.uuid4())
    RulesetCollection.initialize_ha(ha_uuid, "w1", params, {})
    return {"ha_uuid": ha_uuid}


def close() -> dict[str, Any]:
    RulesetCollection.shutdown()
    return {}


def parse(url: str) -> dict[str, Any]:
    """What pgjdbc itself reads in a URL; None if it refuses it."""
    RulesetCollection.create_engine()
    import jpy

    found = jpy.get_type("org.postgresql.Driver").parseURL(url, None)
    if found is None:
        return {"properties": None}
    names = found.stringPropertyNames().toArray()
    return {"properties": {name: found.getProperty(name) for name in names}}


COMMANDS = {"connect": connect, "close": close, "parse": parse}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = COMMANDS[asked["do"]](*asked["args"])
        except Exception as error:  # Java's come as RuntimeError
            answer = {"error": str(error)}
        print(json.dumps({"error": None, **answer}), file=answers, flush=True)
    # The JVM's threads would keep the process for a while.
    os._exit(0)


if __name__ == "__main__":
    main()
