"""``python -m ansible_rulebook.ha.operations.commands``."""

import sys

from . import main

sys.exit(main())
