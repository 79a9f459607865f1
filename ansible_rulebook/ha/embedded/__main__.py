"""``python -m ansible_rulebook.ha.embedded``."""

import sys

from .server import main

sys.exit(main())
